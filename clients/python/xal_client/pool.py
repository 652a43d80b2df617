"""A pool larger than one request: cut into requests, and their answers put together as if it had been one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from xal_client.errors import ModelChanged
from xal_client.items import AnyItem, as_json, item_id
from xal_client.model_info import Limits
from xal_client.results import Acquisition, AcquisitionResponse

# Explanations take the service far longer than labels: requests of this size stay well below its time limit.
BATCH_SIZE = 64


@dataclass(frozen=True)
class Pool:
    """Items to be scored together, each with the id that it would have in one single request."""

    items: tuple[dict[str, Any], ...]
    batch_size: int
    top_k: int | None

    @classmethod
    def of(cls, items: Iterable[AnyItem], batch_size: int, top_k: int | None) -> Pool:
        """Raises ValueError for an empty pool, an id that stands twice, and a batch_size or top_k below 1."""
        if batch_size < 1 or (top_k is not None and top_k < 1):
            raise ValueError(f"batch_size and top_k are at least 1, but batch_size={batch_size}, top_k={top_k} came")
        named = tuple({**item, "id": item_id(item, index)} for index, item in enumerate(as_json(items)))
        if not named:
            raise ValueError("the pool is empty; pass at least one item")
        first: dict[str, int] = {}
        for index, item in enumerate(named):
            if (before := first.setdefault(item["id"], index)) != index:
                raise ValueError(f"items {before} and {index} of the pool have the same id {item['id']!r}")
        return cls(named, batch_size, top_k)

    def batches(self, limits: Limits) -> list[tuple[dict[str, Any], ...]]:
        """The items, in their order, in groups that the service takes in one request."""
        size = min(self.batch_size, limits.max_items)
        return [self.items[start : start + size] for start in range(0, len(self.items), size)]

    def merge(self, responses: Sequence[AcquisitionResponse]) -> AcquisitionResponse:
        """One response for the whole pool: ranks over all of it, equal scores in the pool's order.

        Raises ModelChanged where the responses come from more than one model version.
        """
        versions = sorted({response.model_version for response in responses})
        if len(versions) > 1:
            raise ModelChanged(f"the pool was scored by several models ({', '.join(versions)}); score it again")
        results = [result for response in responses for result in response.results]
        answers = [(index, result) for index, result in enumerate(results) if isinstance(result, Acquisition)]
        answers.sort(key=lambda answer: -answer[1].acquisition_score)  # stable: ties keep the pool's order
        for rank, (index, answer) in enumerate(answers, start=1):
            results[index] = answer.model_copy(update={"rank": rank})
        return AcquisitionResponse(
            model_version=versions[0],
            results=tuple(results),
            normalization="pool",
            acquisition=responses[0].acquisition,
            selected=None if self.top_k is None else tuple(answer.id for _, answer in answers[: self.top_k]),
        )
