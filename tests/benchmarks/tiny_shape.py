"""A tiny model to measure, in place of a large one."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.shapes import Shape
from service.model.classification import Item
from service.model.predictor import Predictor

TEXTS = ["no", "it works", "i love this camera , and the battery lasts all day long", "the price is fair", "so so"]
REASONS = ["the reviewer is happy", "the price is too high", "it broke"]


def tiny_shape(family: str, make_model_dir: Callable[..., Path]) -> Shape:
    predictor = Predictor.load(make_model_dir(family), device="cpu", dtype="float32")
    labels = [number % len(predictor.task.labels) for number in range(len(TEXTS))]
    reasons = [predictor.encoder.encode_explanation(reason) for reason in REASONS[: len(predictor.task.labels)]]
    return Shape("tiny", predictor, [Item({"text": text}) for text in TEXTS], labels, [reasons] * len(TEXTS))
