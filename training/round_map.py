"""Where a round's texts lie in the space of h_0: kept beside its model for pictures, so that none needs the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.strategies import PoolScores
from training.strategies.interface import Indices

MAP_FILE = "map.npz"
MOST_TEXTS = 2000  # of the rest, no more than fit beside the labeled and the chosen ones: a picture shows no more
LABELED, SELECTED, REST = 0, 1, 2


def save_map(path: Path, scores: PoolScores, gold: Indices, chosen: Indices, rng: np.random.Generator) -> None:
    """Write embeddings (k, H) float16, state (k,) int8 and label (k,) int16 of a round's texts, in one step.

    state: labeled, selected next, or rest, of which a random sample stands for all where they are many. label: gold
    labels as indices; gold: those of the unlabeled texts, (n,), which the simulation knows. chosen: indices into these.
    Nothing is written where the scores hold no embeddings.
    """
    if scores.embeddings is None or scores.labeled is None:
        return
    state = np.full(scores.n, REST, dtype=np.int8)
    state[chosen] = SELECTED
    rest = np.flatnonzero(state == REST)
    room = max(0, MOST_TEXTS - len(chosen) - len(scores.labeled.labels))
    kept = np.sort(np.concatenate([chosen, rng.permutation(rest)[:room]]).astype(np.int64))
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            embeddings=np.concatenate([scores.labeled.embeddings, scores.embeddings[kept]]).astype(np.float16),
            state=np.concatenate([np.full(len(scores.labeled.labels), LABELED, dtype=np.int8), state[kept]]),
            label=np.concatenate([scores.labeled.labels, gold[kept]]).astype(np.int16),
        )
    temporary.replace(path)
