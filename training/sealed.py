"""Directories that are made once and kept: sealed with the size and SHA-256 of every file, made anew when damaged."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from training.locks import in_turn

SEAL = "seal.json"  # file -> its bytes and sha256, written last; a directory without it is not complete


def sealed(directory: Path, make: Callable[[Path], None], *, thorough: bool = False) -> Path:
    """The directory, made by ``make(empty directory)`` if it is not there or is not what it was when it was made.

    Every use compares the files' sizes, which costs nothing and finds what happens: copies cut short, files removed.
    A thorough one compares their SHA-256 too, which reads every byte (a second or two for 500 MB, more from a slow
    disk), so it is left to whoever asks for it. Who comes while another process makes it waits. Nothing half-made is
    ever in place, and what is damaged stays until its successor is made.
    """
    if damage(directory, thorough=thorough) is None:
        return directory
    with in_turn(directory):
        reason = damage(directory, thorough=thorough)
        if reason is None:  # made meanwhile
            return directory
        if directory.exists():
            print(f"{directory} is damaged: {reason}; it is made anew", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as work:
            made = Path(work) / "made"
            made.mkdir()
            make(made)
            _seal(made)
            if directory.exists():
                directory.rename(Path(work) / "damaged")
            made.rename(directory)
    return directory


def damage(directory: Path, *, thorough: bool = False) -> str | None:
    """What is wrong with a sealed directory, None for nothing: a file's size and, if thorough, its SHA-256."""
    try:
        files = json.loads((directory / SEAL).read_text(encoding="utf-8"))
        for name, seal in files.items():
            if (directory / name).stat().st_size != seal["bytes"]:
                return f"{name} has not the size it was made with"
            if thorough and _sha256(directory / name) != seal["sha256"]:
                return f"{name} has not the SHA-256 it was made with"
    except (OSError, ValueError, AttributeError, LookupError, TypeError) as error:
        missing = Path(error.filename).name if isinstance(error, FileNotFoundError) else SEAL
        return f"{missing} is missing or cannot be read"
    return None


def size(directory: Path) -> int:
    """Bytes of a sealed directory's files, as its seal counts them."""
    return sum(seal["bytes"] for seal in json.loads((directory / SEAL).read_text(encoding="utf-8")).values())


def _seal(directory: Path) -> None:
    files = sorted(file for file in directory.rglob("*") if file.is_file())
    for file in files:
        file.chmod(0o644)  # safetensors lets only its writer read; a cache may be shared
    seals = {
        file.relative_to(directory).as_posix(): {"bytes": file.stat().st_size, "sha256": _sha256(file)}
        for file in files
    }
    (directory / SEAL).write_text(json.dumps(seals, indent=1) + "\n", encoding="utf-8")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
