"""Run directories -> learning curves, from ``config.yaml`` and ``metrics.json`` alone."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from service.model.errors import InputError

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.json"

# Keys of config.yaml, wherever they stand, that leave a run what it is and may change between two starts of it: where
# things lie, what they run on, and recorded explanations, which may have lacked a text that was chosen;
PLACES = {"file", "base_url", "device", "versions", "git_hash", "earlier_starts", "keep_models", "explanations"}
# those in which the runs of one setting may differ: chance, how far they go, and what is measured on the way (beside
# whatever begins with MEASURE);
REPETITION = {"seed", "initial_set", "budget", "until", "judge"}
MEASURE = "measure"
# and what runs did before there was a key for it.
BEFORE_THE_KEY = {"initial": "random"}

# What a run reads only if its model trains on explanations (a dot: inside of a group).
EXPLAINING = {
    "lambda", "num_beams", "max_new_tokens", "prefilter", "teacher", "llm", "adaptation", "trainer.lambda1",
    "trainer.lambda2", "trainer.explanation_epochs", "trainer.conditioning", "trainer.decoder_learning_rate",
    "trainer.decoder_tuning",
}  # fmt: skip

LONGEST_VALUE = 20  # characters of a setting in a label
GIVEN = "given"  # stands for a group of settings that a run has, where another may have none of them


@dataclass(frozen=True)
class Run:
    """A saved run. rounds: those of metrics.json, each with at least ``n_labeled``, ``macro_f1`` and ``accuracy``."""

    directory: Path
    config: Mapping[str, Any]
    rounds: Sequence[Mapping[str, Any]]

    @property
    def strategy(self) -> str:
        return str(self.config["strategy"])

    @property
    def task_name(self) -> str:
        return str(self.config["task"]["name"])

    @property
    def n_labeled(self) -> list[int]:
        return [entry["n_labeled"] for entry in self.rounds]


@dataclass(frozen=True)
class Curve:
    """The runs of one setting. n_labeled: the numbers of labels, increasing, that all of them were measured at."""

    label: str
    runs: Sequence[Run]
    n_labeled: Sequence[int]

    def values(self, metric: str) -> NDArray[np.float64]:
        """``macro_f1`` or ``accuracy`` of every run at every point, (runs, points)."""
        return np.array(
            [[entry[metric] for entry in run.rounds if entry["n_labeled"] in self.n_labeled] for run in self.runs]
        )

    @property
    def last_entries(self) -> list[Mapping[str, Any]]:
        """The round of every run at the last number of labels that all of them share."""
        return [entry for run in self.runs for entry in run.rounds if entry["n_labeled"] == self.n_labeled[-1]]

    @property
    def title(self) -> str:
        """The label and how many runs stand behind it."""
        return f"{self.label} ({len(self.runs)} run{'' if len(self.runs) == 1 else 's'})"


def read_run(directory: str | Path) -> Run:
    """Read a run directory. Raises InputError, naming what is missing or broken, where it is not one."""
    directory = Path(directory)
    if not directory.is_dir():
        raise InputError(f"{directory}: expected the directory of a run; found no directory; `xal run` makes one")
    config = _load(directory, CONFIG_FILE, yaml.safe_load)
    task = config.get("task") if isinstance(config, dict) else None
    if not isinstance(task, dict) or "name" not in task or "strategy" not in config:
        raise InputError(f"{directory / CONFIG_FILE}: expected the strategy and the task's name; is this a run's file?")
    rounds = _load(directory, METRICS_FILE, json.loads) if (directory / METRICS_FILE).exists() else []
    if not isinstance(rounds, list):
        raise InputError(f"{directory / METRICS_FILE}: expected a list of rounds; found {type(rounds).__name__}")
    if not rounds:
        raise InputError(f"{directory}: no round is finished yet; start the same `xal run` again to go on")
    _check_rounds(rounds, directory / METRICS_FILE)
    return Run(directory, config, rounds)


def find_runs(paths: Sequence[str | Path]) -> tuple[list[Run], list[str]]:
    """The runs of run directories and grid directories, and a warning for each that is left out of a grid.

    A grid directory is no run itself, but folders right below it are. Those of them without a finished round are left
    out; other folders and hidden ones do not count. Raises InputError as read_run does, and where no run is left.
    """
    runs, left_out = [], []
    for path in map(Path, paths):
        inside = _runs_below(path)
        for directory in inside or [path]:
            if inside and not _has_begun(directory):
                left_out.append(f"{directory}: no round is finished yet; left out.")
            else:
                runs.append(read_run(directory))
    if not runs:
        raise InputError(
            "; ".join(["expected at least one run directory with a finished round; found none", *left_out])
        )
    return runs, left_out


def _runs_below(path: Path) -> list[Path]:
    if not path.is_dir() or (path / CONFIG_FILE).exists():
        return []
    return sorted(d for d in path.iterdir() if not d.name.startswith(".") and (d / CONFIG_FILE).is_file())


def _has_begun(directory: Path) -> bool:
    """Whether the folder of a grid has a finished round, or a file that is broken, which read_run then names."""
    try:
        return bool(json.loads((directory / METRICS_FILE).read_text(encoding="utf-8")) != [])
    except FileNotFoundError:
        return False
    except (OSError, ValueError, RecursionError):
        return True


def learning_curves(runs: Sequence[Run]) -> list[Curve]:
    """One curve for each setting, in the order of the runs.

    Runs of one strategy belong together unless their settings differ, seeds apart; what differs stands in the label.
    Raises InputError for no runs, for runs of different tasks, which one figure cannot compare, for a directory given
    twice, and for runs of one setting that were never measured at the same number of labels.
    """
    if not runs:
        raise InputError("expected at least one run directory; found none")
    for run in runs:
        if run.task_name != runs[0].task_name:
            raise InputError(
                f"cannot compare runs of different tasks: {runs[0].directory} is {runs[0].task_name}, "
                f"{run.directory} is {run.task_name}; report each task on its own"
            )
    if len({run.directory.resolve() for run in runs}) < len(runs):
        raise InputError("a run directory is given twice; name each once")
    groups: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(sorted(settings(run.config).items())), []).append(run)
    return [_curve(_label(members[0], runs), members) for members in groups.values()]


def share_data(runs: Sequence[Run]) -> bool:
    """Whether all runs drew from the same pool and were measured on the same texts, by the hashes of their files."""
    files = [(run.config.get("data"), run.config.get("test_data")) for run in runs]
    hashes = {tuple(str(file.get("sha256")) if isinstance(file, dict) else None for file in pair) for pair in files}
    return len(hashes) == 1


def _curve(label: str, runs: list[Run]) -> Curve:
    shared = set(runs[0].n_labeled).intersection(*(run.n_labeled for run in runs[1:]))
    if not shared:
        raise InputError(
            f"the runs of {label} share no number of labels ({', '.join(str(run.directory) for run in runs)}); "
            "report them one by one"
        )
    return Curve(label, runs, sorted(shared))


def _label(run: Run, runs: Sequence[Run]) -> str:
    """The strategy, and the run's values of all settings in which the runs of this strategy differ."""
    siblings = [settings(other.config) for other in runs if other.strategy == run.strategy]
    own = settings(run.config)
    keys = sorted({key for settings in siblings for key in settings})
    differing = [key for key in keys if len({s.get(key) for s in siblings if _in_group(key, s)}) > 1]
    named = [f"{key} {_shorten(key, own, siblings)}" for key in differing if _in_group(key, own)]
    return ", ".join([run.strategy, *named])


def _in_group(key: str, settings: Mapping[str, str]) -> bool:
    """Whether a run has the group of settings that the key stands in; without it, that alone is the difference."""
    group = key.rpartition(".")[0]
    return not group or settings.get(group) == GIVEN


def settings(config: Mapping[str, Any]) -> dict[str, str]:
    """What makes a run's curve another one: setting -> value, ``trainer.lambda2`` for one inside of a group.

    Where the run's model learned from labels alone, what concerns explanations is left out: it was never read.
    """
    found = dict(_flat(config))
    if "teacher" in config and config["teacher"] is None:
        return {key: value for key, value in found.items() if not concerns_explanations(key)}
    return found


def concerns_explanations(key: str) -> bool:
    """Whether this setting, or the group that it stands in, says how explanations are learned, made or weighed."""
    return key in EXPLAINING or key.partition(".")[0] in EXPLAINING


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in config.items():
        key = str(key)
        if key in PLACES | REPETITION or key.startswith(MEASURE) or value is None:  # None: as before there was the key
            continue
        if isinstance(value, dict):
            yield f"{prefix}{key}", GIVEN
            yield from _flat(value, f"{prefix}{key}.")
        elif prefix or BEFORE_THE_KEY.get(key) != value:
            yield f"{prefix}{key}", str(value)


def _shorten(key: str, own: Mapping[str, str], siblings: Sequence[Mapping[str, str]]) -> str:
    """A run's value of a setting: the end of a long one, or all of it where a sibling's other value ends alike."""
    value, *others = (settings.get(key, BEFORE_THE_KEY.get(key, "unset")) for settings in (own, *siblings))
    end = value[3 - LONGEST_VALUE :]
    if len(value) <= LONGEST_VALUE or any(other != value and other.endswith(end) for other in others):
        return value
    return f"...{end}"


def _load(directory: Path, name: str, parse: Any) -> Any:
    path = directory / name
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{directory}: not a run directory, {name} is missing; `xal run` makes one") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: broken ({reason}); restore the file or run again into an empty directory") from error


def _check_rounds(rounds: list[Any], path: Path) -> None:
    before = -1
    for place, entry in enumerate(rounds):
        if not isinstance(entry, dict):
            raise InputError(f"{path}, entry {place}: expected a round; found {type(entry).__name__}")
        for key in ("n_labeled", "macro_f1", "accuracy"):
            value = entry.get(key)
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(f"{path}, entry {place}: expected a number for {key!r}; found {value!r}")
        if entry["n_labeled"] <= before:
            raise InputError(f"{path}, entry {place}: expected more labels than the {before} of the round before")
        before = entry["n_labeled"]
