"""The resolved settings of one run: what ``config.yaml`` holds, and what must not change when a run goes on."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from service.model.errors import InputError
from training.prefilter import Prefilter
from training.records import data_hash, write_atomically
from training.runs import CONFIG_FILE, PLACES
from training.teacher import RECORDED
from training.trainer import TrainerConfig

# Keys of config.yaml that are no setting: what the run was started with, and before that.
STARTS = ("versions", "git_hash", "earlier_starts")
PACKAGES = ("torch", "transformers", "tokenizers", "peft", "numpy", "scikit-learn", "safetensors")


class DataFile(BaseModel):
    """A file of the run: where it lay when the run began, and the hash of its content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> DataFile:
        """The given file as it is now. Raises InputError where it cannot be read."""
        return cls(file=str(path.absolute()), sha256=data_hash(path))


class Until(BaseModel):
    """Where a run stops before its budget is spent: at ``target`` = share * upper_bound, test macro-F1, 0 to 1.

    upper_bound: of a model that was trained on the labels of the whole pool (see upper_bound.py).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    share: float = Field(gt=0, le=1)
    upper_bound: float = Field(ge=0, le=1)
    target: float = Field(ge=0, le=1)


class RunConfig(BaseModel):
    """One simulated run of Algorithm 1.

    task: a task file's content. data, test_data, dev_data: see splits.py. strategy, lambda_: how the next texts are
    chosen (Eq. 8). prefilter: which texts are explained before that, None where all are. budget: labels in all;
    query_size: labels a round (L); until: where to stop before that; initial: how the first texts are drawn, at random
    or spread out; initial_set: number of that draw; seed: of training and selection. measure_explanations: held-out
    texts whose explanations are measured each round; judge: the LLM that judges them, beside others. model: what
    --model named. teacher: its name, None where the model learns from labels alone; explanations: the file of recorded
    ones, llm: where and how one is asked. only_explained: the pool is what the file explains. adaptation: how the
    backbone was adapted before round 0, and to which corpus, None where it was not. num_beams, max_new_tokens: how
    explanations are generated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    strategy: str
    task: dict[str, Any]
    data: DataFile
    test_data: DataFile | None
    dev_data: DataFile | None
    only_explained: bool
    budget: int
    query_size: int
    until: Until | None = None
    initial: Literal["random", "diverse"] = "random"
    initial_set: int = Field(ge=0)
    seed: int = Field(ge=0, lt=2**63)  # what torch takes
    lambda_: float = Field(ge=0, allow_inf_nan=False, alias="lambda")
    prefilter: Prefilter | None = None
    measure_explanations: int = Field(default=0, ge=0)
    judge: str | None = None
    model: str
    teacher: str | None
    explanations: DataFile | None
    llm: dict[str, Any] | None
    trainer: TrainerConfig
    adaptation: dict[str, Any] | None = None
    num_beams: int = Field(ge=1)
    max_new_tokens: int = Field(ge=1)
    warm_start: bool
    keep_models: Literal["all", "last", "none"]
    device: str

    @property
    def trains_on_explanations(self) -> bool:
        return self.teacher is not None

    @property
    def n_rounds(self) -> int:
        """Rounds until the budget is spent; the last one may be smaller."""
        return -(-self.budget // self.query_size)

    def save(self, directory: Path, *, goes_on: bool = False) -> None:
        """Write config.yaml into a run directory, versions and git hash beside the settings; with goes_on, those of the
        run's earlier starts too, where they were others."""
        start = {"versions": versions(), "git_hash": git_hash()}
        content = {**self.model_dump(by_alias=True), **start}
        if goes_on and (earlier := [other for other in _starts(directory) if other != start]):
            content["earlier_starts"] = earlier
        write_atomically(directory / CONFIG_FILE, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))

    @classmethod
    def load(cls, directory: Path) -> RunConfig:
        """The settings that a run began with; raises InputError where config.yaml is missing or no longer valid."""
        path = directory / CONFIG_FILE
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            return cls.model_validate({k: v for k, v in content.items() if k not in STARTS})
        except FileNotFoundError:
            raise InputError(
                f"{directory}: not a run directory, {CONFIG_FILE} is missing; `xal run` makes one"
            ) from None
        except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: broken ({reason}); restore the file or begin a new run") from None

    def check_same_run(self, directory: Path) -> None:
        """Raise InputError unless the run that was begun in ``directory`` had these very settings."""
        begun = RunConfig.load(directory)
        before, now = _flat(begun.model_dump(by_alias=True)), _flat(self.model_dump(by_alias=True))
        if self.only_explained or self.measure_explanations:  # then the file decides what the pool is
            before["explanations"], now["explanations"] = (
                config.explanations.sha256 if config.explanations else None for config in (begun, self)
            )
        if all(str(settings.get("teacher")).startswith(RECORDED) for settings in (before, now)):
            now["teacher"] = before["teacher"]  # another name for the file; its content is compared where it matters
        differing = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
        if differing:
            changes = "; ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in differing)
            raise InputError(
                f"{directory} holds a run with other settings ({changes}); start it with the same ones to go on, "
                "or give another --output"
            )


def _starts(directory: Path) -> list[dict[str, Any]]:
    """Versions and git hash of every start that the directory's config.yaml knows of."""
    content = yaml.safe_load((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    return [*content.get("earlier_starts", ()), {name: content.get(name) for name in ("versions", "git_hash")}]


def versions() -> dict[str, str]:
    """Versions of Python, of xal and of the packages that decide a run's numbers."""
    found = {"python": platform.python_version(), "xal": importlib.metadata.version("xal")}
    return found | {package: importlib.metadata.version(package) for package in PACKAGES}


def git_hash() -> str | None:
    """Commit of the checkout that this code runs from, '+changes' behind it if it was edited; None outside of one."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if key in PLACES:
            continue
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
