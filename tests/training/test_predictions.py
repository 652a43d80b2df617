"""What a prefilter kept is told by the score that the strategy ranks by, whatever that is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from training.loop import Loop
from training.predictions import ExplainedPart
from training.prefilter import Draw
from training.strategies import PoolScores, query_strategy


def test_what_was_kept_is_told_by_the_score_that_the_strategy_ranks_by() -> None:
    # The candidates are the two of highest entropy; of these only the second is explained as badly as the last two.
    probabilities = np.array([[0.5, 0.5], [0.6, 0.4], [0.99, 0.01], [0.98, 0.02]])
    scores = PoolScores(4, probabilities, np.array([-0.5, -3.0, -3.5, -2.0]))
    part = ExplainedPart(np.array([True, True, False, False]), Draw(4, 2, np.array([2, 3])))
    # -p: 3.5, 3, 2, 0.5
    assert part.kept(query_strategy("xal-no-me"), scores, 2).kept_share == pytest.approx(1 / 2)
    assert part.kept(query_strategy("xal-no-me"), scores, 3).kept_share == pytest.approx(1 / 3)
    # At 0 it is the entropy alone, and beyond all measure the explanation alone.
    for lambda_, kept in ((0.0, 1.0), (1e9, 1 / 2)):
        assert part.kept(query_strategy("xal", lambda_=lambda_), scores, 2).kept_share == pytest.approx(kept)


def test_a_run_that_does_not_rank_by_eq_8_is_described_by_its_own_score(
    make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    options = {"strategy": "xal-no-me", "budget": 6, "prefilter": 1.0, "prefilter_sample": 24}
    (entry,) = make_loop(tmp_path / "run", **options).rounds()
    # With R = 1 the candidates are what entropy alone would choose, and with all others sampled nothing is estimated.
    assert entry["prefilter"]["kept_share"] == pytest.approx(entry["selection"]["overlap_with_entropy"])
    assert entry["prefilter"]["kept_share"] < 1
    assert entry["selection"]["explanation_share"] is None
    assert entry["selection"]["entropy_share"] is None
