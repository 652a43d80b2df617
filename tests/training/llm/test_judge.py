from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.model.errors import InputError
from tests import tiny
from tests.training.chat_server import ChatServer, Turn
from training.explanation_quality import consistency
from training.llm.judge import LLMJudge
from training.run_request import RunOptions
from training.setup import check
from training.teacher import TeacherBudgetError, Usage
from training.teacher_api import TeacherConfig


def judge(server: ChatServer, folder: Path, **options: int) -> LLMJudge:
    settings = {"base_url": server.base_url, "model": "m", "cache_path": folder / "cache.sqlite"}
    return LLMJudge(tiny.TASK, TeacherConfig(**settings | options), progress=False)


def by_content(_: int, prompt: str) -> Turn:
    """A judge who knows two words, and says nothing clear of what holds neither."""
    explanation = prompt.partition("\n")[0]
    said = [label for word, label in (("praises", "Positive."), ("complains", "negative")) if word in explanation]
    return Turn(content=" and ".join(said) or "none of these")


def test_the_judge_is_shown_the_explanation_and_what_the_labels_say_alone(tmp_path: Path) -> None:
    with ChatServer(Turn(content="neutral")) as server:
        assert judge(server, tmp_path).judge(["Some \n reason."]) == ["neutral"]
    assert server.prompts == [
        "Somebody explained which of the statements below is true of a text. The explanation: Some reason.\n\n"
        "Which statement does this explanation argue for?\n"
        "- The sentiment of this review is negative\n"
        "- The sentiment of this review is neutral\n"
        "- The sentiment of this review is positive\n"
        "Answer with one of these alone: negative, neutral, positive, none of these."
    ]


def test_one_label_for_each_explanation_in_their_order_and_none_where_none_is_named(tmp_path: Path) -> None:
    explanations = ["She complains.", "", "He praises it.", "A box.", " \n", "He praises, she complains."]
    with ChatServer(by_content) as server:
        one = judge(server, tmp_path)
        assert one.judge(explanations) == ["negative", "", "positive", "", "", ""]
        assert one.judge([]) == []
        assert len(server.prompts) == 4  # nobody is asked about nothing
        assert one.usage == Usage(4, 0, 40, 20, 0.0)
        one.judge(explanations[:1])
    assert one.usage == Usage(4, 1, 40, 20, 0.0)
    assert consistency(["negative", "positive"], ["negative", ""]) == 0.5


def test_its_accuracy_is_measured_as_any_judges(tmp_path: Path) -> None:
    explained = {"1": {"negative": "She complains.", "neutral": "A box.", "positive": "He praises it."}}
    with ChatServer(by_content) as server:
        assert judge(server, tmp_path).accuracy(explained) == pytest.approx(2 / 3)


def test_a_judge_asked_before_answers_without_a_server_and_within_its_cap(tmp_path: Path) -> None:
    with ChatServer(by_content) as server:
        first = judge(server, tmp_path).judge(["She complains."])
        with pytest.raises(TeacherBudgetError, match=r"^judge: "):
            judge(server, tmp_path, max_total_tokens=100).judge(["He praises it."])
    assert judge(server, tmp_path, max_total_tokens=100).judge(["She complains."]) == first == ["negative"]
    assert judge(server, tmp_path).name == "llm:m"


RUN: dict[str, Any] = {"strategy": "xal", "output": Path("never-made")}
JUDGE = TeacherConfig(base_url="http://127.0.0.1:9/v1", model="m", cache_path=Path("never-made.sqlite"))


def test_a_judge_without_anything_to_judge_is_refused(example_files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"--judge-url .* give --measure-explanations N"):
        check(RunOptions(**example_files, **RUN, judge=JUDGE))
    *_, notes = check(RunOptions(**example_files, **RUN, judge=JUDGE, measure_explanations=3))
    assert notes == []


@pytest.mark.parametrize("judge", [JUDGE, None])
def test_a_run_from_labels_alone_says_that_it_measures_no_explanations(
    example_files: dict[str, Path], judge: TeacherConfig | None
) -> None:
    options = RunOptions(**example_files, **{**RUN, "strategy": "entropy"}, judge=judge, measure_explanations=3)
    *_, notes = check(options)  # no error: other strategies of an experiment have a teacher
    reason = "the strategy entropy trains on labels alone, as in the paper"
    end = "no explanations are measured (--train-on-explanations yes changes that)"
    assert notes == [f"{reason}; the teacher is not asked and {end}"]
    *_, notes = check(replace(options, explanations=None))
    assert notes == [f"{reason}; {end}"]
    *_, notes = check(replace(options, train_on_explanations=True))
    assert notes == []
