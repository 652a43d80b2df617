"""One request to a chat API that speaks OpenAI's protocol, and what is to be made of each way it can end."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx2
from openai import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    DefaultAsyncHttpxClient,
    OpenAI,
    OpenAIError,
    omit,
)
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from service.model.errors import InputError
from training.teacher import TeacherError
from training.teacher_cache import Bill, Cap, Question

# What a chat template and a provider's hidden system prompt add to a prompt, in tokens; generous on purpose.
HIDDEN_PROMPT_TOKENS = 128
MILLION = 1_000_000
BUSY = {429, 500, 502, 503, 504}  # HTTP statuses of a server that may answer the same question later
# What servers call a prompt that a content filter holds back, with HTTP 400: Azure, OpenAI, LiteLLM, DashScope.
FILTERED = {"content_filter", "invalid_prompt", "content_policy_violation", "data_inspection_failed"}

ENDS = {"stop", "length", "content_filter"}  # finish reasons of a model that was at work


def _http_url(value: str) -> str:
    try:
        url = httpx2.URL(value)
    except httpx2.InvalidURL as error:
        raise ValueError(f"not an address ({error})") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("expected an address such as http://127.0.0.1:8080/v1")
    return value


class TeacherConfig(BaseModel):
    """Which chat API to ask, how, and how much may be spent.

    prompt_price, completion_price: money per million tokens, in whatever currency ``max_cost`` is in.
    max_total_tokens, max_cost: hard caps on all that is ever spent through ``cache_path``; None lifts one.
    temperature: None leaves it to the provider (some models accept no other).
    length_parameter: the name under which the API takes ``max_completion_tokens``. ``max_tokens`` is understood nearly
        everywhere; OpenAI's newer models want the other and say so. A server that knew neither would break the cap.
    timeout_s: for one request from start to end. max_attempts: requests for one prompt, the first included.
    backoff_s, max_backoff_s: wait after the first failed attempt, doubled after each further one up to the maximum.
    max_retry_after_s: a server that asks for a longer pause than this ends the run instead; nothing answered is lost.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    base_url: Annotated[str, AfterValidator(_http_url)]
    model: Annotated[str, Field(min_length=1)]
    api_key: SecretStr = SecretStr("none")  # servers on one's own machine want none
    cache_path: Path
    max_total_tokens: Annotated[int, Field(gt=0)] | None = MILLION
    max_cost: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    prompt_price: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    completion_price: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.0
    max_completion_tokens: Annotated[int, Field(ge=1, le=65_536)] = 256
    length_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    max_attempts: Annotated[int, Field(ge=1, le=20)] = 6
    backoff_s: Annotated[float, Field(gt=0, le=60)] = 0.5
    max_backoff_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    max_retry_after_s: Annotated[float, Field(gt=0, le=3600)] = 120.0

    @model_validator(mode="after")
    def _a_cap_on_cost_needs_prices(self) -> TeacherConfig:
        if self.max_cost is not None and self.prompt_price == 0 and self.completion_price == 0:
            raise ValueError(
                "a cap on cost (max_cost) caps nothing without prices: --teacher-prices IN OUT (prompt_price, "
                "completion_price)"
            )
        return self

    @property
    def cap(self) -> Cap:
        return Cap(self.max_total_tokens, self.max_cost)

    def question(self, prompt: str) -> Question:
        sampling = {"temperature": self.temperature, "max_completion_tokens": self.max_completion_tokens}
        return Question(self.model, sampling, prompt)

    def bill(self, prompt_tokens: int, completion_tokens: int) -> Bill:
        cost = (prompt_tokens * self.prompt_price + completion_tokens * self.completion_price) / MILLION
        return Bill(prompt_tokens, completion_tokens, cost)

    def worst_case(self, prompt: str) -> Bill:
        """The most that one request can be billed: no tokenizer makes more tokens of a text than it has bytes."""
        return self.bill(len(prompt.encode()) + HIDDEN_PROMPT_TOKENS, self.max_completion_tokens)

    def client(self, transport: httpx2.AsyncBaseTransport | None) -> AsyncOpenAI:
        # The library's own retries are off: each attempt may be billed, so each has to pass the cap on its own,
        # and answers that are empty or no JSON, which the library takes for good ones, are asked for again too.
        return AsyncOpenAI(
            base_url=self.base_url,
            api_key=self.api_key.get_secret_value(),
            timeout=self.timeout_s,
            max_retries=0,
            http_client=DefaultAsyncHttpxClient(transport=transport) if transport else None,
        )


def served_model(base_url: str, api_key: str) -> str:
    """The name of the one model that an API serves; ``default`` where it does not list its models, as some small
    servers do not, which take any name.

    Raises InputError where it serves several, naming them, and TeacherError where it does not answer: under another
    name, all that the right one was ever asked would be asked again.
    """
    client = OpenAI(base_url=base_url, api_key=api_key, timeout=10, max_retries=2)
    try:
        names = [model.id for model in client.models.list()]
    except (OpenAIError, ValueError, AttributeError, TypeError) as error:
        if isinstance(error, APIConnectionError) or getattr(error, "status_code", None) in BUSY:
            raise TeacherError(
                f"{base_url} does not say which model it serves: it cannot be reached, or is busy; start the server, "
                "check its address (most end in /v1), or name the model with --teacher-model"
            ) from None
        return "default"
    if len(names) > 1:
        listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise InputError(f"{base_url} serves {len(names)} models; choose one with --teacher-model: {listed}")
    return names[0] if names else "default"


@dataclass(frozen=True)
class Reply:
    """An answer as it came, never empty, and its bill; None where the server does not say."""

    text: str
    bill: Bill | None


class AttemptError(Exception):
    """One request that brought no usable answer; the message never holds the prompt, and names the teacher's options.

    retriable: asking again may help. silent: the server is well and the model says nothing to this prompt. bill: what
    it cost, zero where the server surely did no work, None where that is not known. retry_after_s: how long the server
    wants to be left alone, if it says.
    """

    def __init__(
        self,
        message: str,
        *,
        retriable: bool = True,
        silent: bool = False,
        bill: Bill | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.retriable = retriable
        self.silent = silent
        self.bill = bill
        self.retry_after_s = retry_after_s


NOTHING = Bill()


async def ask(client: AsyncOpenAI, config: TeacherConfig, prompt: str) -> Reply:
    """One request, ended after ``timeout_s`` at the latest. Raises AttemptError where no usable answer comes."""
    newer_name = config.length_parameter == "max_completion_tokens"
    try:
        async with asyncio.timeout(config.timeout_s):
            response = await client.chat.completions.with_raw_response.create(
                model=config.model,
                messages=[{"role": "user", "content": prompt}],
                temperature=omit if config.temperature is None else config.temperature,
                max_tokens=omit if newer_name else config.max_completion_tokens,
                max_completion_tokens=config.max_completion_tokens if newer_name else omit,
            )
    except (TimeoutError, APITimeoutError) as error:
        advice = "a slow server needs fewer requests at a time (--teacher-concurrency)"
        message = f"no answer within {config.timeout_s:g} s (timeout_s); {advice}"
        raise AttemptError(message, bill=_bill_unsent(error)) from None
    except APIConnectionError as error:
        message = f"no connection to {config.base_url}; is the server up, and is this its address?"
        raise AttemptError(message, bill=_bill_unsent(error)) from None
    except APIStatusError as error:
        raise _refusal(error, config) from None
    return _read(response.text, config)


class _Message(BaseModel):
    content: str | None = None
    refusal: Any = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: Any = None


class _Tokens(BaseModel):
    prompt_tokens: Annotated[int, Field(ge=0)]
    completion_tokens: Annotated[int, Field(ge=0)]


class _Completion(BaseModel):
    choices: list[_Choice]
    usage: _Tokens | None = None


def _read(body: str, config: TeacherConfig) -> Reply:
    try:
        completion = _Completion.model_validate_json(body)
    except ValidationError:
        raise AttemptError("the answer is not a chat completion in JSON") from None
    usage = completion.usage
    bill = config.bill(usage.prompt_tokens, usage.completion_tokens) if usage else None
    choice = completion.choices[0] if completion.choices else None
    text = choice.message.content if choice else None
    if text is None or not text.strip():
        # Without an end or a bill it is the server that failed, as some do with status 200.
        ended = choice is not None and choice.finish_reason in ENDS
        refused = choice is not None and bool(choice.message.refusal)
        silent = ended or refused or (bill is not None and bill.tokens > 0)
        raise AttemptError(_silence(choice), silent=silent, bill=bill)
    return Reply(text, bill)


def _silence(choice: _Choice | None) -> str:
    """Why an answer has no text."""
    if choice and choice.finish_reason == "content_filter":
        return "a content filter holds the answer back"
    if choice and choice.message.refusal:
        return "the model refuses to answer"
    advice = "a model that thinks before it answers needs a larger --teacher-answer-tokens (max_completion_tokens)"
    return f"the answer is empty; {advice}"


def _bill_unsent(error: Exception) -> Bill | None:
    """Zero where not even a connection came about, so that no server can have worked; else not known."""
    unsent = isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
    return NOTHING if unsent else None


def _refusal(error: APIStatusError, config: TeacherConfig) -> AttemptError:
    status, pause = error.status_code, _retry_after(error)
    message = f"HTTP {status} from {config.base_url}"
    if pause is not None:
        message += f", which asks for a pause of {pause:g} s"
    out_of_credit = error.code == "insufficient_quota"
    if status >= 500:
        # 503 turns a request away at the door; after 500, 502 or 504 the model may well have worked.
        return AttemptError(message, bill=NOTHING if status == 503 else None, retry_after_s=pause)
    if status == 400 and error.code in FILTERED:  # billed all the same by Azure
        return AttemptError(f"{message}: a content filter holds this prompt back", retriable=False, silent=True)
    if status in (408, 409, 429) and not out_of_credit:
        return AttemptError(message, bill=None if status == 408 else NOTHING, retry_after_s=pause)
    if status in (401, 403):
        advice = "the API key is missing, wrong or not allowed to use this model; give the right one"
    elif status == 404:
        advice = f"no such model or address; check the model {config.model!r} and the base URL (most end in /v1)"
    elif out_of_credit:
        advice = "the account is out of credit; top it up"
    else:
        said = " ".join(str(error.message).split())[:200]
        options = "--teacher-temperature, --teacher-length-parameter, --teacher-answer-tokens (max_completion_tokens)"
        advice = f"the server does not take the request ({said}); check the model and {options}"
    return AttemptError(f"{message}: {advice}", retriable=False, bill=NOTHING)


def _retry_after(error: APIStatusError) -> float | None:
    """Seconds to wait by the headers: Retry-After in seconds or as a date (RFC 9110), or OpenAI's own in ms."""
    headers = error.response.headers
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
        return max(0.0, (date - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
