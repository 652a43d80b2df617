"""What a client is made with, checked once, for both kinds of client."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TypedDict

import httpx

from xal_client.retries import Attempts
from xal_client.version import __version__

TIMEOUT = 120.0  # seconds: twice the service's own limit for one request, so one retry of a slow one fits
MAX_ATTEMPTS = 4


class HttpArguments(TypedDict):
    """Arguments that `httpx.Client` and `httpx.AsyncClient` share."""

    base_url: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Configuration:
    """Address, key and patience of a client. Raises ValueError where one of them cannot work."""

    base_url: str
    api_key: str | None = field(repr=False)
    timeout: float
    max_attempts: int

    def __post_init__(self) -> None:
        url = httpx.URL(self.base_url)
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"base_url is like http://localhost:3000, but {self.base_url!r} came")
        if not self.timeout > 0:
            raise ValueError(f"timeout is the seconds that a call may take, above 0, but {self.timeout} came")
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts counts the first attempt too, so at least 1, but {self.max_attempts} came")
        if self.api_key is not None and not all("!" <= character <= "~" for character in self.api_key or " "):
            raise ValueError("api_key is visible ASCII characters without spaces; what came is empty or has others")

    def http_arguments(self) -> HttpArguments:
        """Address and headers of every request."""
        headers = {"Accept": "application/json", "User-Agent": f"xal-client/{__version__}"}
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return {"base_url": self.base_url, "headers": headers}

    def attempts(self, random_: random.Random) -> Attempts:
        """The attempts of one call, whose time starts now."""
        return Attempts(self.max_attempts, self.timeout, random_)
