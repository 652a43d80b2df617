"""Which label fits? The choice as LLMs get it that classify or judge, and the label that an answer names.

Labels are chosen by their words, not by letters: small models, such as the one that `xal demo --live-teacher` serves,
like one letter best, whatever the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from string import Formatter

from service.model.task import Task
from training.teacher import clean

NONE = ""  # the label of "none of these", where a choice offers that
NONE_WORDS = "none of these"

# Where the sentence begins in which the label stands: behind punctuation, a line break, or, where a sentence follows a
# field without either, at its capital. Fields stand between two \0.
_BEGINNING = re.compile(r"""[.!?:;]["'”’»)\]]*\s+|[。！？：；]|\n|\0["'”’»)\]]*\s+(?=[^\W\d_a-z])""")
# Where it ends: at the next punctuation, or where the explanation is asked for without any.
_END = re.compile(r"[,;:.!?](?=\W|$)|[、，。！？：；]|\n|\s+(?:and\s+)?(?:please\s+)?(?:explain|justify)\b", re.I)
_FIELD = re.compile(r"""(?P<word>\w*)(?P<gap>\s*)["'“”‘’«»]?\0(?P<name>\w+)\0["'“”‘’«»]?""")
_ASKS_TO_EXPLAIN = re.compile(r"\b(?:explain|justify|why)\b", re.I)


def statement(task: Task, label: str) -> str:
    """What the task's prompt says of a text under this label: its sentence around the label's words, fields by their
    names, without the request to explain. The words alone where the prompt has no such sentence.

    >>> statement(task, "negative")
    'The sentiment of this review towards the product is negative'
    """
    words = task.labels[label]
    marks = {**{name: f"\0{name}\0" for name in task.fields}, "label": "\1"}
    marked = "".join(text + marks.get(name or "", "") for text, name, _, _ in Formatter().parse(task.prompt))
    before, _, after = marked.partition("\1")
    before = before[max((match.end() for match in _BEGINNING.finditer(before)), default=0) :]
    end = _END.search(after)
    after = after[: end.start()] if end else after
    if _ASKS_TO_EXPLAIN.search(before + after):
        return words
    said = _FIELD.sub(_field_by_name, before + "\1" + after).replace("\1", words)
    return clean(said).strip(" \"'“”‘’«»")


def spoken(field: str) -> str:
    """A field's name as prompts say it: ``sentence1`` is ``sentence 1``, ``product_name`` is ``product name``."""
    return re.sub(r"(?<=[^\W\d])(?=\d)", " ", field.replace("_", " "))


def _field_by_name(match: re.Match[str]) -> str:
    """A field's name, once: ``the target {target}`` is ``the target``."""
    word, gap, name = match["word"], match["gap"], spoken(match["name"])
    return word if word.casefold() == name.casefold() else f"{word}{gap}{name}"


# What models that think aloud say before their answer; also where a server has cut off one of the two tags.
_THOUGHTS = re.compile(r"^.*</think(?:ing)?>|<think(?:ing)?>.*$", re.I | re.S)
_ANSWER = re.compile(r"\banswer\b(?:\s+(?:is|would be|should be))?\W*(?P<said>[^\n.!?]*)")
_CONTRACTED = re.compile(r"\b(can)not\b|n['’]t\b")
_ENDING = "(?:s|es|d|ed|ment)?"
_GAP = r"""["'”’»)]?(?:[^\S\n]+["'“‘«(]?|-)"""  # to the next word, in quotes or not
_BUT = r"(?:but|aber|sondern|mais|sino|pero|ma|но)\b"


def _reach(words: int, end: str = _BUT) -> str:
    """What may stand between a word and a label that its meaning reaches: so many words, none of them an ``end``, and
    no punctuation."""
    return rf"{_GAP}(?:(?!{end})\w+(?:['’]\w+)*{_GAP}){{0,{words}}}$"


# What the text is not. "Not only good" is read so too, and "not bad so it is good": better no label than a wrong one. A
# "but" ends it: "not bad but good", "nothing but good". Of other languages the commonest negations, and no more.
_NOT = (
    r"\b(?:not|non|none|nothing|never|neither|nor|than|hardly|barely|scarcely|anything\s+but|far\s+from|instead\s+of"
    r"|(?:no|without)(?!\s+(?:a\s+|any\s+)?(?:doubt|question|hesitation))"
    r"|impossible|unlikely|unable|fail(?:s|ed|ing|ure)?(?=\s+to\b)"
    r"|nicht|kein(?:e[mnrs]?)?|weder|pas|jamais|aucune?|ni|nunca|ningun[ao]?|não|nem|nessun[ao]?|не|ни)\b"
)
_NOT_CHINESE = r"(?:不(?![过過错錯])|[没沒]|非(?!常)|[无無]法)(?:(?![而但])\w){0,5}$"
# What nobody can tell of it: "there is not enough information to conclude that it is good", "hard to call it good".
_HARD = r"\b(?:hard|difficult|insufficient|too\s+little)\b"
_JUDGE = (
    r"\b(?:say|said|tell|told|know|known|(?:determin|classif|categori|identif|describ)\w+|(?:label|answer|call)(?:l?ed)?"
    r"|(?:judg|decid|conclud)ed?|assess(?:ed)?|infer(?:red)?)\b"
)
_TURN = r"(?:but|and|so|because|yet|which|therefore|thus)\b"
_CANNOT_TELL = rf"(?:{_NOT}|{_HARD}){_GAP}(?:(?!{_TURN})\w+{_GAP}){{0,8}}?{_JUDGE}" + _reach(12, _TURN)
# What is asked, not said: "it is unclear whether it is good", "I do not know if it is good".
_WHETHER = rf"(?:\b(?:whether|ob)\b|(?:{_JUDGE}|\b(?:un)?(?:clear|sure|certain|known))\s+if\b)"
# At the end of what stands in front of a label: the label is not what the answer says.
_UNSAID = re.compile("|".join((_NOT + _reach(5), _NOT_CHINESE, _CANNOT_TELL, _WHETHER + _reach(20), r"是否\w{0,20}$")))
_FARTHEST = 600  # characters in front of a label that are looked at: an answer that runs in circles takes no minutes
_LABEL = "_"  # in the place of a label that was named before: its own "not" denies no other
# Between two labels of a list, all of which one "not" denies: "not good or bad", "not good, bad, or neutral". A comma
# alone makes no list: "not bad, good".
_OR = r"""["'”’»)]?(?:,?\s*\b(?:and|n?or(?:\s+\w+){0,3}?)\s+|\s*(?:/|[还還]是|或者?)\s*)["'“‘«(]?"""
_COMMA = r"""["'”’»)]?\s*[,、，]\s*["'“‘«(]?"""
_BLANK_LINE = re.compile(r"\n\s*\n")  # ends a sentence, as in "I do not see why\n\ngood"


@dataclass(frozen=True)
class LabelChoice:
    """The labels of a task to choose from, and the way back from an answer. offers_none: "none of these" can be chosen
    too, which stands for the label ""."""

    task: Task
    offers_none: bool = False

    @cached_property
    def statements(self) -> dict[str, str]:
        """Label id -> what is true of a text that has it (see ``statement``), in the task's order."""
        return {label: statement(self.task, label) for label in self.task.label_ids}

    @cached_property
    def listing(self) -> str:
        """The statements, one a line, and by which words one of them is chosen."""
        words = [*self.task.labels.values(), *([NONE_WORDS] if self.offers_none else [])]
        lines = [f"- {said}" for said in self.statements.values()]
        return "\n".join([*lines, f"Answer with one of these alone: {', '.join(words)}."])

    def named(self, answer: str) -> str | None:
        """The label id that an answer names by its words, statement or id; None where it names none, or several.

        What follows "the answer is" counts before all else that is said. Of words within one another the longest
        counts: "not relevant" does not name "relevant". A label that is denied is not named, nor one of which the
        answer says that it cannot tell, where this stands before it, in English and, as far as a few words go, in some
        other languages; Japanese and Korean, which deny behind it, are read as if they did not.
        """
        said = _BLANK_LINE.sub(".\n", _plain(_THOUGHTS.sub("", answer)))
        outright = [match["said"] for match in _ANSWER.finditer(said) if not _unsaid(said[: match.start()])]
        found = {label for piece in outright for label in self._labels(piece)} or self._labels(said)
        return found.pop() if len(found) == 1 else None

    def _labels(self, said: str) -> set[str]:
        said = clean(said)
        labels, before, end = set[str](), "", 0
        for listed in self._lists.finditer(said):
            denied = False  # who denies one of a list denies those that follow
            for match in self._pattern.finditer(said, *listed.span()):
                before += said[end : match.start()]
                denied = denied or _unsaid(before)
                if not denied:
                    labels |= self._phrases[match["phrase"]]
                before, end = before + _LABEL, match.end()
        alone = said.strip(" .,;:!?'()[]")
        return labels or {label for label in self.task.label_ids if label.casefold() == alone}

    @cached_property
    def _phrases(self) -> dict[str, set[str]]:
        """What can name a label -> whom it names; more than one where a task gives two labels the same words."""
        phrases: dict[str, set[str]] = {}
        for label in self.task.label_ids:
            for phrase in (self.task.labels[label], self.statements[label]):
                phrases.setdefault(clean(_plain(phrase)), set()).add(label)
        if self.offers_none:
            for phrase in (NONE_WORDS, "none"):
                phrases.setdefault(phrase, {NONE})
        return phrases

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """Finds phrases, the longest first, as whole words but for an ending: entails, agreed, agreement."""
        return re.compile(f"(?P<phrase>{self._any})")

    @cached_property
    def _lists(self) -> re.Pattern[str]:
        """Finds phrases with those that stand in one list with them: "good, bad, or neutral", "good or bad"."""
        one = f"(?:{self._any}){_ENDING}?"
        return re.compile(f"{one}(?:(?:{_COMMA}{one}){{0,30}}{_OR}{one})*")

    @cached_property
    def _any(self) -> str:
        return "|".join(map(_whole, sorted(self._phrases, key=len, reverse=True)))


def _unsaid(before: str) -> bool:
    """Whether a label that stands behind this is denied, or asked for, or cannot be told."""
    return _UNSAID.search(before[-_FARTHEST:]) is not None


def _plain(said: str) -> str:
    """Without case, emphasis and contractions, so that an answer and what it may name are written alike."""
    return _CONTRACTED.sub(r"\1 not", re.sub(r"[*`]|(?<![^\W_])_+|_+(?![^\W_])", "", said).casefold())


def _whole(phrase: str) -> str:
    before = r"(?<!\w)" if _parts_words(phrase[0]) else ""
    behind = rf"(?={_ENDING}(?!\w))" if _parts_words(phrase[-1]) else ""
    return before + re.escape(phrase) + behind


def _parts_words(character: str) -> bool:
    """Whether it belongs to a script that puts blanks between words."""
    return character.isdigit() or character.lower() != character.upper()
