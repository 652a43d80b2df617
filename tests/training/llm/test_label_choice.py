"""Statements that task files make, and answers as LLMs give them: each row is one that a model has given or could."""

import time

import pytest

from service.model.task import Task
from training.llm.label_choice import NONE, LabelChoice, spoken, statement

SENTIMENT = {"neg": "negative", "neu": "neutral", "pos": "positive"}
ENTAILMENT = {"1": "entail", "0": "not entail"}
STANCE = {"agree": "agree", "neutral": "neutral", "disagree": "disagree"}


def task(prompt: str, labels: dict[str, str], *fields: str) -> Task:
    return Task.from_dict(
        {
            "name": "t",
            "fields": list(fields or ["text"]),
            "label_field": "label",
            "labels": labels,
            "input": f"{{{(fields or ['text'])[0]}}}",
            "prompt": prompt,
            "max_input_tokens": 8,
            "max_explanation_tokens": 8,
        }
    )


REVIEW = task('"{text}". The sentiment of this review is {label}, explain the reason within 30 words.', SENTIMENT)
PAIR = task(
    "{sentence1} {sentence2} Sentence 1 can {label} sentence 2, explain the reason.",
    ENTAILMENT,
    "sentence1",
    "sentence2",
)
DEBATE = task("{text1} {text2} The stance of sentence 2 is {label} to sentence 1, explain.", STANCE, "text1", "text2")
PAPER = task(
    '"{document}"\nThe scientific document is {label} to the research topic {topic}, explain the reason.',
    {"yes": "relevant", "no": "not relevant"},
    "document",
    "topic",
)
SAME = task(
    "{text1} {text2} The relation between the above two sentences is {label}, explain the reason.",
    {"1": "paraphrase equivalent", "0": "not paraphrase equivalent"},
    "text1",
    "text2",
)
QUALITY = task("{text} {label}", {"g": "good", "b": "bad"})
GERMAN = task("{text} {label}", {"g": "gut", "s": "schlecht"})
FRENCH = task("{text} {label}", {"b": "bon", "m": "mauvais"})
SPANISH = task("{text} {label}", {"b": "bueno", "m": "malo"})
CHINESE = task('评论："{text}"。这条评论的情感是{label}，请解释。', {"p": "积极", "n": "消极"})


@pytest.mark.parametrize(
    ("asked", "label", "said"),
    [
        (REVIEW, "neg", "The sentiment of this review is negative"),
        (PAIR, "0", "Sentence 1 can not entail sentence 2"),
        (PAPER, "no", "The scientific document is not relevant to the research topic"),  # the topic's name, once
        (CHINESE, "p", "这条评论的情感是积极"),
        (task("{text}: this is {label}, explain why.", SENTIMENT), "pos", "this is positive"),
        (task("{text} The mood is {label}. Explain the reason.", SENTIMENT), "pos", "The mood is positive"),
        (task("{text} is {label} and please explain why", SENTIMENT), "pos", "text is positive"),
        (
            task("{review} The view of the aspect {a_part} is {label}, explain.", SENTIMENT, "review", "a_part"),
            "pos",
            "The view of the aspect a part is positive",
        ),
        (
            task('{tweet}\nThe stance to the target "{target}" is {label}, explain.', SENTIMENT, "tweet", "target"),
            "pos",
            "The stance to the target is positive",
        ),
        # No statement to be had: the words stand alone.
        (task('Explain why "{text}" is {label}.', SENTIMENT), "pos", "positive"),
        (task("{text}\n{label}?", SENTIMENT), "pos", "positive"),
    ],
)  # fmt: skip
def test_a_statement_is_the_prompts_sentence_without_the_request_to_explain(asked: Task, label: str, said: str) -> None:
    assert statement(asked, label) == said


@pytest.mark.parametrize(("field", "said"), [("text", "text"), ("sentence1", "sentence 1"), ("two_words", "two words")])
def test_a_fields_name_is_said_as_people_say_it(field: str, said: str) -> None:
    assert spoken(field) == said


def test_the_listing_shows_all_statements_and_the_words_to_answer_with() -> None:
    assert LabelChoice(PAIR, offers_none=True).listing.splitlines() == [
        "- Sentence 1 can entail sentence 2",
        "- Sentence 1 can not entail sentence 2",
        "Answer with one of these alone: entail, not entail, none of these.",
    ]


@pytest.mark.parametrize(
    ("asked", "answer", "label"),
    [
        (REVIEW, "negative", "neg"),
        (REVIEW, " Negative.\n", "neg"),
        (REVIEW, "**NEUTRAL**", "neu"),
        (REVIEW, "_positive_", "pos"),
        (REVIEW, "__Positive__", "pos"),
        (REVIEW, '"positive"', "pos"),
        (REVIEW, "“Positive”!", "pos"),
        (REVIEW, "- The sentiment of this review is negative", "neg"),
        (REVIEW, "The answer is: positive.", "pos"),
        (REVIEW, "Answer: neutral", "neu"),
        (REVIEW, "Both positive and negative things are said. The answer is neutral.", "neu"),
        (REVIEW, "pos", "pos"),  # the label id, alone
        (REVIEW, "The position is unclear", None),  # not within words
        (REVIEW, "The review is positive, not negative.", "pos"),
        (REVIEW, "It isn't negative. It is neutral.", "neu"),
        (REVIEW, "neither positive nor negative", None),
        (REVIEW, "more negative than positive", "neg"),
        (REVIEW, "not really positive", None),
        (REVIEW, "The review is not at all positive.", None),
        (REVIEW, "There is no positive sentiment here.", None),
        (REVIEW, "It is anything but positive.", None),
        (REVIEW, "It is far from being positive.", None),
        (REVIEW, "It has hardly a positive word.", None),
        (REVIEW, "without a positive word", None),
        (REVIEW, "None of it is positive.", None),
        (REVIEW, "The review is not 'positive'.", None),
        (REVIEW, "It isn't what I'd call “positive”.", None),
        (REVIEW, "It is non-positive.", None),
        (REVIEW, "I don't think that the review is positive.", None),
        (REVIEW, "I do not think the answer is positive.", None),
        (REVIEW, "not positive or negative", None),
        (REVIEW, "not negative, positive", "pos"),
        (REVIEW, "It is not negative but positive.", "pos"),
        (REVIEW, "It is nothing but positive.", "pos"),
        (REVIEW, "There is no doubt that it is positive.", "pos"),
        (REVIEW, "Without a doubt positive.", "pos"),
        (REVIEW, "No, it is positive.", "pos"),
        (REVIEW, "They do not like the battery\n\nnegative", "neg"),  # a paragraph ends a sentence
        (REVIEW, "Certainly not negative\nThe answer is positive", "pos"),
        (REVIEW, "positive or neutral", None),
        (REVIEW, "negative, neutral, positive", None),
        (REVIEW, "- The sentiment of this review is negative\n- The sentiment of this review is positive", None),
        (REVIEW, "The answer is positive. The answer is negative.", None),
        (REVIEW, "", None),
        (REVIEW, "I cannot tell.", None),
        (REVIEW, "A", None),  # no letters are shown, so none is meant
        (REVIEW, "<think>It may be negative, or neutral.</think>\n\npositive", "pos"),
        (REVIEW, "It may be negative.</think>positive", "pos"),
        (REVIEW, "<think>It may be negative", None),  # cut off before the answer
        (PAIR, "entail", "1"),
        (PAIR, "not entail", "0"),
        (PAIR, "Not  entail.", "0"),
        (PAIR, "Sentence 1 entails sentence 2.", "1"),
        (PAIR, "Sentence 1 does not entail sentence 2.", "0"),
        (PAIR, "Sentence 1 doesn't entail sentence 2.", "0"),
        (PAIR, "Sentence 1 cannot entail sentence 2", "0"),
        (PAIR, "It does not necessarily entail it", None),
        (PAIR, "entailment", "1"),
        (PAIR, "1", "1"),
        (PAIR, "entail / not entail", None),
        (PAIR, "not entail or entail", None),  # the first label's "not" is its own
        (PAIR, "It is certainly not entail.", "0"),
        (PAIR, "It does not at all entail it.", None),
        (PAIR, "no, not entail", "0"),
        (PAPER, "relevant", "yes"),
        (PAPER, "It is not relevant.", "no"),
        (PAPER, "irrelevant", None),
        (PAPER, "It is not at all relevant.", None),
        (PAPER, "It is anything but not relevant.", None),
        (PAPER, "It is not\nrelevant.", "no"),
        (SAME, "The two are not paraphrase equivalent.", "0"),
        (SAME, "They are not at all paraphrase equivalent.", None),
        (DEBATE, "disagree", "disagree"),
        (DEBATE, "Sentence 2 disagrees with sentence 1", "disagree"),
        (DEBATE, "agreed", "agree"),
        (DEBATE, "does not agree", None),  # neutral, or the opposite
        (CHINESE, "这是积极的。", "p"),
        (task("{text} {label}", {"c": "C", "p": "C++"}), "C++", "p"),
        (task("{text} {label}", {"x": "same", "y": "same"}), "same", None),
    ],
)
def test_an_answer_names_one_label_or_none(asked: Task, answer: str, label: str | None) -> None:
    assert LabelChoice(asked).named(answer) == label


def test_none_of_these_is_a_choice_only_where_it_is_offered() -> None:
    offering = LabelChoice(REVIEW, offers_none=True)
    assert offering.named("None of these.") == offering.named("none") == NONE
    assert offering.named("positive") == "pos"
    assert LabelChoice(REVIEW).named("none of these") is None
    stance = LabelChoice(task("{text} {label}", {"f": "favor", "n": "none"}), offers_none=True)
    assert stance.named("none") == "n"  # a label of that name goes first
    assert stance.named("none of these") == NONE


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (REVIEW, "I don't know if it is positive or negative."),
        (REVIEW, "Answer: I don't know if it is positive."),
        (REVIEW, "I'm sorry, but I can't classify this text as positive or negative."),
        (REVIEW, "I'm sorry, but I can't classify this text as positive, negative, or neutral."),
        (REVIEW, "I cannot determine whether this review is positive or negative."),
        (REVIEW, "I cannot determine whether the answer is positive."),
        (REVIEW, "Without more context, I cannot say whether it is positive or negative."),
        (REVIEW, "I'm unable to determine whether the sentiment is positive."),
        (REVIEW, "I am not able to classify the sentiment of this particular product review as positive."),
        (REVIEW, "It cannot be said that the sentiment of this review is positive."),
        (REVIEW, "It's impossible to tell from this text alone that the sentiment is negative."),
        (REVIEW, "It is hard to say if it is positive."),
        (REVIEW, "Whether it is positive is unclear."),
        (REVIEW, "I can't say that it is positive or that it is negative."),
        (REVIEW, "I can't say “positive” or “negative”."),
        (REVIEW, "I cannot say positive/negative."),
        (PAIR, "It is unclear whether sentence 1 can entail sentence 2."),
        (PAIR, "There is not enough information in the two sentences to say whether sentence 1 can entail sentence 2."),
        (PAIR, "There is not enough information in these sentences to conclude that sentence 1 can entail sentence 2."),
        (PAIR, "I cannot tell whether sentence 1 entails sentence 2 or does not entail it."),
        (PAIR, "Sentence 1 fails to entail sentence 2."),
        (PAIR, "Sentence 1 is unable to entail sentence 2."),
        (PAIR, "Sentence 1 is unlikely to entail sentence 2."),
        (PAPER, "I can't determine if the document is relevant or not relevant."),
        (DEBATE, "It is not clear whether sentence 2 agrees or disagrees."),
        (QUALITY, "Neither good nor bad"),
        (GERMAN, "Die Bewertung ist nicht schlecht."),
        (GERMAN, "Ich weiß nicht, ob sie gut ist."),
        (FRENCH, "Ce n'est pas mauvais."),
        (SPANISH, "No es malo."),
        (CHINESE, "不是积极"),
        (CHINESE, "我不知道它是积极还是消极。"),
        (CHINESE, "我无法判断它是否积极。"),
    ],
)
def test_what_an_answer_denies_or_cannot_tell_is_not_named(asked: Task, answer: str) -> None:
    assert LabelChoice(asked).named(answer) is None
    assert LabelChoice(asked, offers_none=True).named(answer) is None


@pytest.mark.parametrize(
    ("asked", "answer", "label"),
    [
        (QUALITY, "not bad but good", "g"),
        (QUALITY, "not bad, good", "g"),
        (QUALITY, "good, not bad", "g"),
        (QUALITY, "nothing but good", "g"),
        (REVIEW, "It is not clear-cut, but the answer is positive", "pos"),
        (REVIEW, "I'm not sure, but positive", "pos"),
        (REVIEW, "It's hard to say. I'd go with positive.", "pos"),
        (REVIEW, "I cannot say it is negative; it is positive", "pos"),
        (REVIEW, "I don't think it is negative or neutral; it is positive.", "pos"),
        (REVIEW, "It is not positive or negative but neutral", "neu"),
        (REVIEW, "neutral, not positive or negative", "neu"),
        (REVIEW, "neutral or at least not negative", "neu"),
        (REVIEW, "The review is not negative, and it is positive.", "pos"),
        (REVIEW, "The question is whether the review is positive or negative. It is positive.", "pos"),
        (REVIEW, "Whether or not it lasts, the review is positive.", "pos"),
        (REVIEW, "Positive, though I can't determine whether they'd buy again.", "pos"),
        (REVIEW, "Without hesitation I would say that this review is positive.", "pos"),
        (REVIEW, "The text does not say anything about the price and is clearly positive.", "pos"),
        (REVIEW, "The reviewer did not receive the item on time so the review is negative.", "neg"),
        (REVIEW, "The battery fails and it is negative", "neg"),
        (REVIEW, "I am not entirely sure but I would say positive", "pos"),
        (REVIEW, "Hard to tell but I would label it positive", "pos"),
        (REVIEW, "The review does not give details and can be classified as neutral.", "neu"),
        (REVIEW, "There is no strong opinion so I would classify this as neutral.", "neu"),
        (REVIEW, "The reviewer is not satisfied and therefore I would label it negative", "neg"),
        (REVIEW, "The customer never got a refund and the review is best described as negative", "neg"),
        (REVIEW, "It is better than the old one so I would call this positive", "pos"),
        (PAPER, "The study did not identify any effect yet the document is relevant", "yes"),
        (GERMAN, "nicht schlecht, sondern gut", "g"),
        (FRENCH, "Ce n'est pas mauvais mais bon.", "b"),
        (SPANISH, "No es malo sino bueno.", "b"),
        (CHINESE, "不是消极而是积极", "p"),
        (CHINESE, "非常积极", "p"),
    ],
)
def test_a_denial_elsewhere_does_not_hide_the_label_that_is_named(asked: Task, answer: str, label: str) -> None:
    assert LabelChoice(asked).named(answer) == label


def test_an_answer_that_runs_in_circles_is_read_in_no_time() -> None:
    begin = time.perf_counter()
    for circle in ("positive, negative, ", "I do not know if it is said ", "positive or a b c "):
        LabelChoice(REVIEW).named(circle * 1000)
    assert time.perf_counter() - begin < 5
