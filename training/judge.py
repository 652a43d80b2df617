"""Judges who see nothing but an explanation and say which label it argues for; offline and deterministic.

Two, because they err differently: one knows words, the other is a fine-tuned sentence encoder. Neither is right always:
report ``accuracy`` with whatever was judged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline, make_union

from service.model.encoding import TextEncoder
from service.model.errors import InputError
from service.model.network import Network
from service.model.task import Task
from training.data import Example
from training.teacher import Usage
from training.trainer import TrainerConfig, fit

Explanations = Mapping[str, Mapping[str, str]]  # text id -> label id -> explanation

JUDGED_AT_ONCE = 64
WORDS, CHARACTERS = (1, 2), (2, 5)  # lengths of the n-grams; those of characters stay within words
INVERSE_REGULARISATION = 10.0  # TF-IDF rows have length 1: scikit-learn's default of 1 holds their weights back


class Judge(ABC):
    """Names the label that an explanation argues for.

    usage: what asking took since this judge was made; nothing for one who sits here.
    """

    usage = Usage()

    def judge(self, explanations: Sequence[str]) -> list[str]:
        """The label id that each explanation argues for, in their order; "" where nothing is written, for none."""
        named = iter(self._judge([text for text in explanations if text.strip()]))
        return [next(named) if text.strip() else "" for text in explanations]

    @abstractmethod
    def _judge(self, explanations: Sequence[str]) -> list[str]:
        """The same of explanations in which something is written."""

    def accuracy(self, explanations: Explanations) -> float:
        """Share of explanations, of texts that the judge did not learn from, whose label it names, 0 to 1.

        Raises ValueError where there are none.
        """
        texts, labels = _flat(explanations.values())
        if not texts:
            raise ValueError("the judge's accuracy needs explanations, found none")
        return sum(judged == label for judged, label in zip(self.judge(texts), labels, strict=True)) / len(labels)


@dataclass(frozen=True)
class WordJudge(Judge):
    """Logistic regression on TF-IDF of words and characters: learned in a second, led by habits of wording."""

    classifier: Pipeline

    def _judge(self, explanations: Sequence[str]) -> list[str]:
        return [str(label) for label in self.classifier.predict(list(explanations))] if explanations else []


@dataclass(frozen=True)
class EncoderJudge(Judge):
    """An encoder and a head, fine-tuned as a round without explanations is: a minute or two, led by what is said."""

    network: Network
    encoder: TextEncoder

    def _judge(self, explanations: Sequence[str]) -> list[str]:
        texts = [self.encoder.encode_fields({"explanation": text}) for text in explanations]
        labels: list[str] = []
        with torch.inference_mode():
            for first in range(0, len(texts), JUDGED_AT_ONCE):
                memory = self.network.encode(self.encoder.inputs(texts[first : first + JUDGED_AT_ONCE]))
                best = self.network.classify(memory).argmax(dim=-1).tolist()
                labels += [self.encoder.task.label_ids[index] for index in best]
        return labels


def train_word_judge(explanations: Explanations) -> WordJudge:
    """A judge who learned from a teacher's explanations, each standing for the label that it was written for.

    explanations: of training texts only, reasonable and unreasonable ones alike; the texts themselves are never seen.
    Raises InputError where they stand for fewer than two labels.
    """
    texts, labels = _flat(explanations.values())
    _check_labels(labels)
    features = make_union(
        TfidfVectorizer(ngram_range=WORDS, sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=CHARACTERS, sublinear_tf=True),
    )
    # lbfgs starts at zero and draws nothing: the same explanations give the same judge.
    regression = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=1000)
    return WordJudge(make_pipeline(features, regression).fit(texts, labels))


def train_encoder_judge(
    explanations: Explanations, source: str, *, max_tokens: int = 96, progress: bool = True
) -> EncoderJudge:
    """The same from the pre-trained encoder of a backbone, a hub id or directory. max_tokens: as much of an
    explanation is read."""
    texts, labels = _flat(explanations.values())
    _check_labels(labels)
    task = Task(
        name="judge",
        fields=("explanation",),
        label_field="argues_for",
        labels={label: label for label in dict.fromkeys(labels)},
        input="{explanation}",
        prompt="{explanation} {label}",
        max_input_tokens=max_tokens,
        max_explanation_tokens=8,
    )
    examples = [
        Example(str(number), {"explanation": text}, label, None)
        for number, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    config = TrainerConfig(
        epochs=3, batch_size=16, micro_batch_size=16, learning_rate=1e-4, head_learning_rate=1e-2, pooling="mean"
    )
    device = torch.device("cpu")
    return EncoderJudge(
        *fit(examples, None, task=task, source=source, config=config, seed=0, device=device, progress=progress)
    )


def _check_labels(labels: Sequence[str]) -> None:
    if len(set(labels)) < 2:
        raise InputError(
            f"a judge learns from explanations for at least two labels, found {len(set(labels))}; "
            "give the explanations of every candidate label"
        )


def _flat(explained: Iterable[Mapping[str, str]]) -> tuple[list[str], list[str]]:
    pairs = [(text, label) for own in explained for label, text in own.items()]
    return [text for text, _ in pairs], [label for _, label in pairs]
