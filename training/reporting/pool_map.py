"""A round's texts in two dimensions: saved embeddings, and their t-SNE."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LABELED, SELECTED, REST = 0, 1, 2
MOST_TEXTS = 900  # of more: all labeled and selected ones, a draw of the rest; dots would hide each other
FEWEST_TEXTS = 8
PERPLEXITY = 30.0
COMPONENTS = 50  # principal ones that t-SNE gets: the usual way to spare it noise and time


@dataclass(frozen=True)
class PoolMap:
    """A round's texts. embeddings: h_0, (k, H), finite. state: (k,) LABELED, SELECTED or REST. label: gold, (k,)."""

    embeddings: NDArray[np.float32]
    state: NDArray[np.int64]
    label: NDArray[np.int64]


def map_file(run: Path, number: int) -> Path:
    """Where a run directory keeps the map of a round."""
    return run / "rounds" / f"{number:02d}" / "map.npz"


def read_map(path: Path) -> PoolMap:
    """Read and check a saved map, texts with infinite embeddings left out; at most about 900 texts, always the same.

    Raises ValueError, saying what is wrong, for a file that is none or holds too few texts; OSError where it cannot be
    read.
    """
    try:
        with np.load(path, allow_pickle=False) as saved:
            embeddings, state, label = (np.asarray(saved[name]) for name in ("embeddings", "state", "label"))
            arrays = embeddings.astype(np.float32), state.astype(np.int64), label.astype(np.int64)
    except (KeyError, EOFError, TypeError, ValueError) as error:
        raise ValueError(f"expected arrays embeddings, state and label ({error})") from None
    except Exception as error:  # numpy and zipfile have no common error for damaged files
        if isinstance(error, OSError):
            raise
        raise ValueError(f"damaged ({error})") from None
    if arrays[0].ndim != 2 or any(array.shape != (len(arrays[0]),) for array in arrays[1:]):
        raise ValueError(f"expected (k, H), (k,) and (k,); found {', '.join(str(array.shape) for array in arrays)}")
    kept = np.flatnonzero(np.isfinite(arrays[0]).all(axis=1) & np.isin(arrays[1], (LABELED, SELECTED, REST)))
    kept = _thinned(kept, arrays[1])
    if len(kept) < FEWEST_TEXTS:
        raise ValueError(f"expected at least {FEWEST_TEXTS} texts; found {len(kept)}")
    return PoolMap(arrays[0][kept], arrays[1][kept], arrays[2][kept])


def _thinned(kept: NDArray[np.int64], state: NDArray[np.int64]) -> NDArray[np.int64]:
    rest = kept[state[kept] == REST]
    asked = kept[state[kept] != REST]
    room = max(0, MOST_TEXTS - len(asked))
    if len(rest) > room:
        rest = np.random.default_rng(0).permutation(rest)[:room]
    return np.sort(np.concatenate([asked, rest]))


def in_two_dimensions(pool_map: PoolMap, seed: int = 0) -> NDArray[np.float64]:
    """t-SNE of the embeddings, (k, 2), the same every time; texts that are near each other stay so, distances between
    groups mean little."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    vectors = pool_map.embeddings - pool_map.embeddings.mean(axis=0)
    if np.ptp(vectors) == 0:  # one and the same text, so to speak
        return np.zeros((len(vectors), 2))
    if min(vectors.shape) > COMPONENTS:
        vectors = PCA(COMPONENTS, random_state=seed).fit_transform(vectors)
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    start = "pca" if vectors.shape[1] > 1 else "random"
    found = TSNE(2, perplexity=perplexity, init=start, random_state=seed, n_jobs=1).fit_transform(vectors)
    return np.asarray(found, dtype=np.float64)
