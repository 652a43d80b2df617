"""Model directories: safetensors weights, tokenizer, task and lineage in one folder that is verified when loaded."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from service.model.decoding import Decoding
from service.model.encoding import DECODER, TextEncoder
from service.model.errors import CheckpointError, InputError
from service.model.families import load_backbone
from service.model.model_card import model_card
from service.model.network import Conditioning, Network, Pooling
from service.model.scoring import Acquisition, Normaliser
from service.model.task import Task

FORMAT = 1
HEAD = "head.safetensors"
SETTINGS = "xal.json"
MANIFEST = "manifest.json"
CARD = "README.md"
MAKE_ONE = "make one with: xal export RUN_DIR --round N --output DIR"


@dataclass(frozen=True)
class ModelSettings:
    """What xal.json holds beside the head's shape: all that scoring needs to know about a trained network."""

    task: Task
    pooling: Pooling
    decoding: Decoding
    normaliser: Normaliser | None
    trained_on_explanations: bool
    conditioning: Conditioning = "none"
    acquisition: Acquisition = "paper"

    def to_dict(self) -> dict[str, Any]:
        n = self.normaliser
        return {
            "format": FORMAT,
            "task": self.task.to_dict(),
            "head": {"file": HEAD, "outputs": len(self.task.labels), "labels": list(self.task.label_ids)},
            "pooling": self.pooling,
            "conditioning": self.conditioning,
            "decoding": asdict(self.decoding),
            "log_z_p": n.log_z_p if n else None,
            "log_z_c": n.log_z_c if n else None,
            "pool_size": n.size if n else None,
            "std_p": n.std_p if n else None,
            "std_c": n.std_c if n else None,
            "acquisition": self.acquisition,
            "trained_on_explanations": self.trained_on_explanations,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelSettings:
        if data.get("format") != FORMAT:
            raise CheckpointError(
                f"format {data.get('format')!r} is not {FORMAT}, the one that this version of xal reads"
            )
        if data["pooling"] not in ("cls", "mean"):
            raise CheckpointError(f"pooling is {data['pooling']!r}; expected cls or mean")
        conditioning = data.get("conditioning", "none")  # older directories do not say
        if conditioning not in ("none", "label"):
            raise CheckpointError(f"conditioning is {conditioning!r}; expected none or label")
        acquisition = data.get("acquisition", "paper")  # older directories do not say: theirs is the paper's
        if acquisition not in ("paper", "standardized"):
            raise CheckpointError(f"acquisition is {acquisition!r}; expected paper or standardized")
        normaliser = _read_normaliser(data)
        if acquisition == "standardized" and normaliser is not None and None in (normaliser.std_p, normaliser.std_c):
            raise CheckpointError("the standardized acquisition needs std_p and std_c of the pool")
        return cls(
            task=Task.from_dict(data["task"]),
            pooling=data["pooling"],
            conditioning=conditioning,
            decoding=Decoding(**data["decoding"]),
            normaliser=normaliser,
            trained_on_explanations=bool(data["trained_on_explanations"]),
            acquisition=acquisition,
        )


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from. metrics: name -> number; lineage: run, round, seed, data hash, teacher, ..."""

    metrics: dict[str, Any] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model directory. manifest: the verified content of manifest.json."""

    network: Network
    encoder: TextEncoder
    settings: ModelSettings
    manifest: dict[str, Any]

    @property
    def model_version(self) -> str:
        return str(self.manifest["model_version"])


def save(
    directory: Path, network: Network, encoder: TextEncoder, settings: ModelSettings, provenance: Provenance
) -> str:
    """Write a model directory, all of it or nothing; returns its model version. Raises InputError where it exists."""
    with new_directory(directory) as temporary:
        network.backbone.save_pretrained(temporary)
        encoder.save(temporary)
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in network.head.state_dict().items()},
            temporary / HEAD,
        )
        return _seal(temporary, settings, provenance)


def resave(source: Path, directory: Path, settings: ModelSettings, provenance: Provenance) -> str:
    """Copy a verified model directory under new settings and provenance; returns the copy's model version."""
    manifest = verify(source)
    with new_directory(directory) as temporary:
        for name in manifest["files"]:
            (temporary / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, temporary / name)
        return _seal(temporary, settings, provenance)


def load(directory: str | Path, dtype: torch.dtype = torch.float32) -> Checkpoint:
    """Verify and load a model directory, on the CPU, in evaluation mode.

    Only safetensors are read and no code that a directory brings is run. Raises CheckpointError naming the file that
    is missing, altered or unreadable, and the command that makes a model directory.
    """
    directory = Path(directory)
    manifest = verify(directory)
    settings = read_settings(directory)
    try:
        backbone, encoder, family, missing = load_backbone(directory, settings.task, dtype, local_files_only=True)
        if missing:
            raise CheckpointError(f"the weights lack {missing[0]}")
        network = family.build(backbone, encoder, settings.pooling, settings.conditioning)
        network.head.load_state_dict(load_file(directory / HEAD))
    except (InputError, OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{directory}: the model cannot be loaded: {reason}; {MAKE_ONE}") from None
    return Checkpoint(network.eval(), encoder, settings, manifest)


def weights_size(directory: str | Path) -> int:
    """Bytes of a directory's weights; 0 where there are none, which ``load`` says."""
    return sum(file.stat().st_size for file in Path(directory).glob("*.safetensors"))


def read_settings(directory: Path) -> ModelSettings:
    """What a verified model directory's xal.json says; raises CheckpointError where it makes no sense."""
    try:
        return ModelSettings.from_dict(json.loads((directory / SETTINGS).read_text(encoding="utf-8")))
    except (InputError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{directory}: {SETTINGS} cannot be used: {reason}; {MAKE_ONE}") from None


def verify(directory: str | Path) -> dict[str, Any]:
    """Check every file of a model directory against its manifest's SHA-256 and return the manifest.

    Raises CheckpointError for a directory that is missing, is not a model directory, or differs from its manifest by
    a missing, changed or added file.
    """
    directory = Path(directory)
    files = _listed_files(directory)
    for name, expected in files.items():
        if not (directory / name).is_file():
            raise CheckpointError(
                f"{directory}: {name} is missing, though {MANIFEST} lists it; copy it again or {MAKE_ONE}"
            )
        found = sha256(directory / name)
        if found != expected:
            raise CheckpointError(
                f"{directory}: {name} is damaged or altered: expected SHA-256 {expected[:12]}…, found {found[:12]}…; "
                f"copy it again or {MAKE_ONE}"
            )
    folders = {Path(name).parent.as_posix() for name in files}
    for name in _names(directory):
        # A stray file could change what transformers loads (adapters, pickles); dot files are other programs' litter.
        if name not in {*files, *folders, MANIFEST, CARD} and not Path(name).name.startswith("."):
            raise CheckpointError(f"{directory}: {name} is not in {MANIFEST}; remove it or {MAKE_ONE}")
    manifest: dict[str, Any] = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    if manifest.get("model_version") != _version(files):
        raise CheckpointError(
            f"{directory}: {MANIFEST} is altered: its model_version is not that of its files; {MAKE_ONE}"
        )
    return manifest


def sha256(path: Path) -> str:
    """Hex digest of a file's content, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """A temporary directory that takes the given name once the block ends well, and vanishes if it does not."""
    exists = InputError(f"{directory} exists; give a directory that does not, or remove it first")
    if directory.exists():
        raise exists
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        try:
            temporary.rename(directory)
        except OSError:
            if directory.exists():  # made by somebody else meanwhile
                raise exists from None
            raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _read_normaliser(data: Mapping[str, Any]) -> Normaliser | None:
    """What xal.json says of the pool, nothing where there was none; older directories do not know the terms' spread."""
    if data["log_z_p"] is None:
        return None
    log_z_p, log_z_c = float(data["log_z_p"]), float(data["log_z_c"])
    if not (math.isfinite(log_z_p) and math.isfinite(log_z_c)):
        raise CheckpointError("log_z_p and log_z_c must be finite numbers")
    std_p, std_c = (None if data.get(name) is None else float(data[name]) for name in ("std_p", "std_c"))
    if any(std is not None and not 0 <= std < math.inf for std in (std_p, std_c)):
        raise CheckpointError("std_p and std_c must be finite numbers, 0 or more")
    return Normaliser(log_z_p, log_z_c, int(data["pool_size"]), std_p, std_c)


def _listed_files(directory: Path) -> dict[str, str]:
    """File name -> SHA-256, from the manifest."""
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: no such model directory; {MAKE_ONE}")
    if (directory / "metrics.json").exists() and (directory / "config.yaml").exists():
        raise CheckpointError(
            f"{directory} is a run directory, not a model; export a round of it: "
            f"xal export {directory} --round N --output DIR"
        )
    if missing := [name for name in (MANIFEST, SETTINGS, "config.json", HEAD) if not (directory / name).is_file()]:
        raise CheckpointError(f"{directory}: not a complete model directory, {', '.join(missing)} missing; {MAKE_ONE}")
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        found = manifest["format"]
        files = {str(name): str(entry["sha256"]) for name, entry in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{directory}: {MANIFEST} cannot be read ({error!r}); {MAKE_ONE}") from None
    if found != FORMAT:
        raise CheckpointError(
            f"{directory}: {MANIFEST} says format {found!r}, but this version of xal reads format {FORMAT}; {MAKE_ONE}"
        )
    if unsafe := [name for name in files if name not in (Path(name).name, f"{DECODER}/{Path(name).name}")]:
        raise CheckpointError(
            f"{directory}: {MANIFEST} names {unsafe[0]!r}, which is no file of a model directory; {MAKE_ONE}"
        )
    if unlisted := [name for name in (SETTINGS, "config.json", HEAD) if name not in files]:
        raise CheckpointError(f"{directory}: {MANIFEST} does not list {', '.join(unlisted)}; {MAKE_ONE}")
    return files


def _seal(directory: Path, settings: ModelSettings, provenance: Provenance) -> str:
    """Write xal.json, the manifest and the model card around the weights; returns the model version."""
    write_json(directory / SETTINGS, settings.to_dict())
    names = sorted(name for name in _names(directory) if name not in (MANIFEST, CARD) and (directory / name).is_file())
    files = {name: {"sha256": sha256(directory / name), "bytes": (directory / name).stat().st_size} for name in names}
    version = _version({name: str(entry["sha256"]) for name, entry in files.items()})
    manifest = {"format": FORMAT, "model_version": version, "files": files, **asdict(provenance)}
    write_json(directory / MANIFEST, manifest)
    (directory / CARD).write_text(model_card(settings, manifest), encoding="utf-8")
    for path in directory.rglob("*"):  # whatever the writer's mask is, a service may be another user
        path.chmod(0o755 if path.is_dir() else 0o644)
    return version


def _names(directory: Path) -> list[str]:
    """Everything in a model directory and in the folder of its decoder's tokenizer, as names relative to it."""
    paths = [*directory.iterdir(), *(directory / DECODER).glob("*")]
    return [path.relative_to(directory).as_posix() for path in paths]


def _version(files: Mapping[str, str]) -> str:
    """Content hash of everything that decides the answers: 16 hex digits over all names and digests."""
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()[:16]


def write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
