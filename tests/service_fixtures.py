"""Fixtures around the real service, for the tests of every room that talks to it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.service_process import RunningService, running_service

StartService = Callable[..., RunningService]


@pytest.fixture
def start_service() -> Iterator[StartService]:
    """Starts services, ``start_service(model_dir, XAL_MAX_ITEMS="5")``, and stops them when the test ends."""
    with ExitStack() as stack:

        def start(model_dir: Path, **env: str) -> RunningService:
            return stack.enter_context(running_service(model_dir, **env))

        yield start


@pytest.fixture(scope="session")
def service(model_dir: Path) -> Iterator[RunningService]:
    """One running service with default settings that all tests share: they must leave it as it was."""
    with running_service(model_dir) as running:
        yield running


@pytest.fixture(scope="session")
def service_url(service: RunningService) -> str:
    """Base URL of the shared service."""
    return service.url
