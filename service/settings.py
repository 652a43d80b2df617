"""Every setting of the service: one environment variable XAL_* each, read when the service starts."""

from __future__ import annotations

from typing import Annotated

from pydantic import DirectoryPath, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class SettingsError(Exception):
    """An environment variable that the service cannot start with; the message is one line."""


class Settings(BaseSettings):
    """The service's settings. The environment variable is the field's name in capitals behind ``XAL_``.

    Raises pydantic's ValidationError; ``read_settings`` turns it into one line.
    """

    model_config = SettingsConfigDict(env_prefix="XAL_", frozen=True, extra="ignore", protected_namespaces=())

    model_dir: DirectoryPath = Field(description="model directory, as written by `xal export`")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:N or mps")
    dtype: str = Field(default="auto", description="auto, float32, bfloat16 or float16")

    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(), description="comma separated; none: no key asked"
    )

    max_body_bytes: int = Field(default=4 * 2**20, ge=1024, le=2**30, description="bytes in one request body")
    max_items: int = Field(default=1000, ge=1, le=100_000, description="items in one request")
    max_candidates: int = Field(default=16, ge=1, le=1000, description="candidate explanations of one item")
    max_num_beams: int = Field(default=8, ge=1, le=64, description="highest num_beams that a request may ask for")
    max_new_tokens: int = Field(
        default=256, ge=1, le=4096, description="highest max_new_tokens that a request may ask for"
    )

    max_queue_items: int = Field(
        default=4000, ge=1, le=1_000_000, description="items waiting for the model, all requests"
    )
    deadline_seconds: float = Field(
        default=60.0, gt=0, le=3600, description="from a request's first byte to its answer"
    )
    classify_batch_tokens: int = Field(
        default=4096, ge=1, le=2**20, description="estimated tokens in one classify batch"
    )
    explain_batch_tokens: int | None = Field(
        default=None,
        ge=1,
        le=2**20,
        description="tokens of the texts that are explained at once, their beams counted; none: by device",
    )

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        return tuple(key.strip() for key in value.split(",") if key.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _queue_holds_one_request(self) -> Settings:
        if self.max_queue_items < self.max_items:
            raise ValueError(
                f"XAL_MAX_QUEUE_ITEMS={self.max_queue_items} is below XAL_MAX_ITEMS={self.max_items}: "
                "the largest request could never be queued; raise the one or lower the other"
            )
        return self


def read_settings() -> Settings:
    """Settings from the environment. Raises SettingsError: one line that names the variable, never an API key."""
    try:
        return Settings()  # type: ignore[call-arg]  # model_dir comes from the environment
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
    if not first["loc"]:
        raise SettingsError(str(first["msg"]).removeprefix("Value error, "))
    name = "XAL_" + str(first["loc"][0]).upper()
    if first["type"] == "missing":
        raise SettingsError(f"{name} is not set; set it to a model directory, as written by `xal export`")
    raise SettingsError(f"{name}={first['input']}: {first['msg'].lower()}; see docs/operations.md")
