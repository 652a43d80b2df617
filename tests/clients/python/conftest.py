"""Fixtures of the Python client's tests."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from xal_client import AsyncXalClient, XalClient

from tests.clients.python.misbehaving import Misbehaving, misbehaving_server


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    with misbehaving_server() as server:
        yield server


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """call(url, method, *arguments, client={...}, **arguments): one call of either client, made just for it."""

    def with_sync(url: str, method: str, *args: Any, client: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        with XalClient(url, **(client or {})) as xal:
            return getattr(xal, method)(*args, **kwargs)

    async def with_async(url: str, method: str, *args: Any, client: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        async with AsyncXalClient(url, **(client or {})) as xal:
            return await getattr(xal, method)(*args, **kwargs)

    if request.param == "sync":
        return with_sync
    return lambda *args, **kwargs: asyncio.run(with_async(*args, **kwargs))
