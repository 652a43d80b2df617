"""A task: the fields of a text, the labels it can get, the words of the encoder's input and the teacher's prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Formatter
from typing import Any

import yaml

from service.model.errors import TaskError


@dataclass(frozen=True)
class Task:
    """A text classification task with C >= 2 labels.

    fields: columns of the data, e.g. ``("sentence1", "sentence2")``.
    labels: label id -> the words that stand for it in the teacher's prompt; its order is the order of all class arrays.
    input: template over the fields; what the encoder reads.
    prompt: template over the fields and ``{label}``; what the teacher is asked.
    max_input_tokens, max_explanation_tokens: lengths in tokens, special tokens included.

    Raises TaskError where a template names a field that the task does not have, or any value makes no sense.
    """

    name: str
    fields: tuple[str, ...]
    label_field: str
    labels: dict[str, str]
    input: str
    prompt: str
    max_input_tokens: int
    max_explanation_tokens: int

    def __post_init__(self) -> None:
        _require(bool(self.name), "name: expected a non-empty text")
        _require(len(self.fields) > 0, "fields: expected at least one field name")
        _require(len(set(self.fields)) == len(self.fields), f"fields: {', '.join(self.fields)} names a field twice")
        _require(
            "label" not in self.fields, "fields: a field cannot be called 'label', which templates use for the label"
        )
        _require(self.label_field not in self.fields, f"label_field: {self.label_field!r} is also one of the fields")
        _require(len(self.labels) >= 2, f"labels: expected at least two, found {len(self.labels)}")
        for key in ("max_input_tokens", "max_explanation_tokens"):
            value = getattr(self, key)
            _require(value >= 4, f"{key}: expected a whole number of at least 4, found {value}")
        _check_template("input", self.input, allowed=self.fields)
        _check_template("prompt", self.prompt, allowed=(*self.fields, "label"))
        _require(
            "label" in _placeholders(self.prompt), "prompt: expected {label}, so that each candidate label is asked for"
        )
        _require(bool(_placeholders(self.input)), "input: expected at least one {field}, found none")

    @property
    def label_ids(self) -> tuple[str, ...]:
        """The C label ids, in the order of the classifier's outputs."""
        return tuple(self.labels)

    def render_input(self, fields: Mapping[str, str]) -> str:
        """The text that the encoder reads for one example."""
        return _render(self.input, fields)

    def render_prompt(self, fields: Mapping[str, str], label: str) -> str:
        """The teacher's prompt for one example and one candidate label id, the label's words filled in."""
        return _render(self.prompt, {**fields, "label": self.labels[label]})

    def instruction(self, label: str | None) -> str:
        """What the teacher's prompt says after the text, for a decoder that has read the text already.

        That is the part behind the last field before ``{label}``, without the punctuation that closes the field; a
        field that comes later stands there by its name. label: the label id that is filled in, or None: then nothing of
        the prompt is left but to explain.
        """
        if label is None:
            return "Explain the reason."
        pieces = _pieces(self.prompt)
        at = next(place for place, (_, name) in enumerate(pieces) if name == "label")
        after = max((place + 1 for place, (_, name) in enumerate(pieces[:at]) if name is not None), default=0)
        words = {**{name: name for name in self.fields}, "label": self.labels[label]}
        said = "".join(literal + (words[name] if name is not None else "") for literal, name in pieces[after:])
        return said.lstrip(" \t\n.,;:!?\"'”’»)]}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a task file; ``from_dict`` takes them back."""
        return {**asdict(self), "fields": list(self.fields)}

    @classmethod
    def from_yaml(cls, path: str | Path) -> Task:
        """Read a task file; raises TaskError naming the file and the line or key that is wrong."""
        path = Path(path)
        try:
            data = yaml.load(path.read_text(encoding="utf-8"), Loader=_TaskLoader)
        except FileNotFoundError:
            raise TaskError(f"{path}: no such task file; expected a YAML file with name, fields, labels, ...") from None
        except (OSError, UnicodeDecodeError) as error:
            raise TaskError(f"{path}: cannot be read as a UTF-8 task file ({error})") from None
        except yaml.YAMLError as error:
            raise TaskError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
        return cls.from_dict(data, source=str(path))

    @classmethod
    def from_dict(cls, data: Any, source: str = "task") -> Task:
        """Check plain values and build the task; ``source`` opens every error message."""
        try:
            if not isinstance(data, Mapping):
                raise TaskError(f"expected a mapping with the keys {', '.join(_KEYS)}; found {type(data).__name__}")
            if missing := [key for key in _KEYS if key not in data]:
                raise TaskError(f"missing {', '.join(missing)}; a task needs {', '.join(_KEYS)}")
            if unknown := [str(key) for key in data if key not in _KEYS]:
                raise TaskError(f"unknown key {', '.join(unknown)}; known are {', '.join(_KEYS)}")
            return cls(
                name=_text(data, "name"),
                fields=_texts(data["fields"], "fields"),
                label_field=_text(data, "label_field"),
                labels=_labels(data["labels"]),
                input=_text(data, "input"),
                prompt=_text(data, "prompt"),
                max_input_tokens=_integer(data, "max_input_tokens"),
                max_explanation_tokens=_integer(data, "max_explanation_tokens"),
            )
        except TaskError as error:
            raise TaskError(f"{source}: {error}") from None


class _TaskLoader(yaml.SafeLoader):
    """Safe YAML in which a key that stands twice is an error; PyYAML would silently drop the first, a label even."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_KEYS = ("name", "fields", "label_field", "labels", "input", "prompt", "max_input_tokens", "max_explanation_tokens")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise TaskError(message)


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data[key]
    _require(isinstance(value, str) and bool(value.strip()), f"{key}: expected a text, found {value!r}")
    return str(value)


def _texts(value: Any, key: str) -> tuple[str, ...]:
    _require(
        isinstance(value, list) and all(isinstance(entry, str) and entry for entry in value),
        f"{key}: expected a list of names such as [text], found {value!r}",
    )
    return tuple(value)


def _integer(data: Mapping[str, Any], key: str) -> int:
    value = data[key]
    _require(type(value) is int, f"{key}: expected a whole number, found {value!r}")
    return int(value)


def _labels(value: Any) -> dict[str, str]:
    _require(isinstance(value, Mapping), f"labels: expected 'label id: words' pairs, found {value!r}")
    labels: dict[str, str] = {}
    for label, words in value.items():
        # YAML reads an unquoted yes, no, on or off as a boolean: the label would silently become 'True'.
        _require(
            isinstance(label, str | int) and not isinstance(label, bool) and label != "",
            f"labels: the label id {label!r} is not a text; put it in quotes",
        )
        _require(
            isinstance(words, str) and bool(words.strip()),
            f"labels: {label}: expected words in quotes, found {words!r}",
        )
        _require(str(label) not in labels, f"labels: {label} stands there twice")
        labels[str(label)] = words
    return labels


def _pieces(template: str) -> list[tuple[str, str | None]]:
    """(literal text, placeholder or None) pairs of a template."""
    pieces = []
    for literal, name, spec, conversion in Formatter().parse(template):
        if name is not None and (spec or conversion or not name.isidentifier()):
            raise ValueError(f"the placeholder {{{name}}} is not a plain {{name}}")
        pieces.append((literal, name))
    return pieces


def _placeholders(template: str) -> set[str]:
    return {name for _, name in _pieces(template) if name is not None}


def _check_template(key: str, template: str, allowed: tuple[str, ...]) -> None:
    try:
        unknown = sorted(_placeholders(template) - set(allowed))
    except ValueError as error:
        awkward = [field for field in allowed if not field.isidentifier() and f"{{{field}}}" in template]
        cure = (
            f"rename the column {awkward[0]!r}, to letters, digits and _"
            if awkward
            else "write {{ and }} for literal braces"
        )
        raise TaskError(f"{key}: {error}; {cure}") from None
    known = ", ".join(f"{{{name}}}" for name in allowed)
    _require(not unknown, f"{key}: names {{{'}, {'.join(unknown)}}}, which is no field of the task; it can use {known}")


def _render(template: str, values: Mapping[str, str]) -> str:
    return "".join(literal + (values[name] if name is not None else "") for literal, name in _pieces(template))
