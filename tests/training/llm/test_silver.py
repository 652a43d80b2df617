from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from service.model.errors import InputError, XalError
from tests import tiny
from tests.training_fixtures import SMALL
from training.clock import Clock
from training.data import Example
from training.llm.classifier import Classified
from training.llm.silver import check_loads, draw_unlabeled, learn_and_measure, right_share, silver_labels
from training.teacher import Usage
from training.trainer import TrainerConfig

POOL = [Example(str(n), {"text": f"text {n}"}, tiny.TASK.label_ids[n % 3], "train") for n in range(12)]


def answers(*labels: str | None) -> Classified:
    return Classified({example.id: label for example, label in zip(POOL, labels, strict=False)}, Usage())


def test_all_of_the_pool_or_a_random_part_of_it_is_labeled_in_the_pools_order() -> None:
    assert draw_unlabeled(POOL, None, 0) == draw_unlabeled(POOL, 12, 3) == POOL
    draws = [[int(example.id) for example in draw_unlabeled(POOL, 4, seed)] for seed in range(10)]
    assert all(draw == sorted(set(draw)) and len(draw) == 4 for draw in draws)
    assert draws == [[int(example.id) for example in draw_unlabeled(POOL, 4, seed)] for seed in range(10)]
    assert len({tuple(draw) for draw in draws}) > 5
    for count in (0, 13):
        with pytest.raises(InputError, match=f"expected 1 to 12 texts .* found {count}"):
            draw_unlabeled(POOL, count, 0)


def test_silver_labels_take_the_place_of_gold_ones_and_texts_without_are_left_out() -> None:
    labeled = silver_labels(POOL[:4], answers("neutral", None, "positive", "negative"))
    assert [(example.id, example.label) for example in labeled] == [
        ("0", "neutral"),
        ("2", "positive"),
        ("3", "negative"),
    ]
    assert right_share(labeled, POOL) == pytest.approx(2 / 3)  # gold: negative, (neutral), positive, negative
    with pytest.raises(XalError, match=r"none of the LLM's 2 answers names a label.*--teacher-answer-tokens"):
        silver_labels(POOL[:2], answers(None, None))


def test_a_model_learns_from_these_labels_alone(backbone_dir: Callable[[str], Path]) -> None:
    """All silver labels are the same, so that is what the model predicts: no gold label has reached it."""
    labeled = silver_labels(POOL, answers(*["neutral"] * 12))
    clock = Clock()
    found = learn_and_measure(
        labeled,
        POOL[:6],
        task=tiny.TASK,
        source=str(backbone_dir("t5")),
        config=TrainerConfig(**SMALL | {"epochs": 6, "learning_rate": 1e-2}),
        seed=0,
        device="cpu",
        clock=clock,
        progress=False,
    )
    assert found["per_class_f1"] == {"negative": 0.0, "neutral": 0.5, "positive": 0.0}  # 2 of 6, all of them found
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert list(clock.seconds) == ["train", "evaluate"]


def test_a_backbone_that_does_not_load_is_found_before_an_llm_is_asked(
    backbone_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    state = torch.random.get_rng_state()
    check_loads(str(backbone_dir("t5")), tiny.TASK, TrainerConfig())
    assert torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises((XalError, OSError)):
        check_loads(str(tmp_path), tiny.TASK, TrainerConfig())
