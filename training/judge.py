"""A judge who sees nothing but an explanation and says which label it argues for; cheap, offline, deterministic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline, make_union

from service.model.errors import InputError

Explanations = Mapping[str, Mapping[str, str]]  # text id -> label id -> explanation

WORDS, CHARACTERS = (1, 2), (2, 5)  # lengths of the n-grams; those of characters stay within words
INVERSE_REGULARISATION = 10.0  # TF-IDF rows have length 1: scikit-learn's default of 1 holds their weights back


@dataclass(frozen=True)
class Judge:
    """Logistic regression on TF-IDF of words and characters. No judge is right always: report ``accuracy`` with
    whatever was judged."""

    classifier: Pipeline

    def judge(self, explanations: Sequence[str]) -> list[str]:
        """The label id that each explanation argues for, in their order."""
        return [str(label) for label in self.classifier.predict(list(explanations))] if explanations else []

    def accuracy(self, explanations: Explanations) -> float:
        """Share of explanations, of texts that the judge did not learn from, whose label it names, 0 to 1.

        Raises ValueError where there are none.
        """
        texts, labels = _flat(explanations.values())
        if not texts:
            raise ValueError("the judge's accuracy needs explanations, found none")
        return sum(judged == label for judged, label in zip(self.judge(texts), labels, strict=True)) / len(labels)


def train_judge(explanations: Explanations) -> Judge:
    """A judge who learned from a teacher's explanations, each standing for the label that it was written for.

    explanations: of training texts only, reasonable and unreasonable ones alike; the texts themselves are never seen.
    Raises InputError where they stand for fewer than two labels.
    """
    texts, labels = _flat(explanations.values())
    if len(set(labels)) < 2:
        raise InputError(
            f"a judge learns from explanations for at least two labels, found {len(set(labels))}; "
            "give the explanations of every candidate label"
        )
    features = make_union(
        TfidfVectorizer(ngram_range=WORDS, sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=CHARACTERS, sublinear_tf=True),
    )
    # lbfgs starts at zero and draws nothing: the same explanations give the same judge.
    return Judge(
        make_pipeline(features, LogisticRegression(C=INVERSE_REGULARISATION, max_iter=1000)).fit(texts, labels)
    )


def _flat(explained: Iterable[Mapping[str, str]]) -> tuple[list[str], list[str]]:
    pairs = [(text, label) for own in explained for label, text in own.items()]
    return [text for text, _ in pairs], [label for _, label in pairs]
