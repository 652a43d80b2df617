"""A sealed directory is made once, is what it was when it was made, or is made anew."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from training.sealed import SEAL, damage, sealed, size


def make(directory: Path) -> None:
    (directory / "inner").mkdir()
    (directory / "inner" / "weights.bin").write_bytes(b"\1" * 1000)
    (directory / "config.json").write_text("{}")
    (directory / "config.json").chmod(0o600)


def never(_: Path) -> None:
    raise AssertionError("made again")


def test_it_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "cache" / "thing"
    assert sealed(place, make) == place
    assert sealed(place, never) == sealed(place, never, thorough=True) == place
    assert size(place) == 1002
    assert [path.name for path in place.parent.iterdir()] == ["thing"]
    assert capsys.readouterr().err == ""


def test_others_may_read_it(tmp_path: Path) -> None:
    place = sealed(tmp_path / "thing", make)
    assert place.stat().st_mode & 0o055 == 0o055 & ~_umask()
    assert (place / "config.json").stat().st_mode & 0o777 == 0o644


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("broken", ["cut", "missing", "no seal", "seal cut", "seal of another kind"])
def test_what_is_damaged_is_made_anew_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    place = sealed(tmp_path / "thing", make)
    weights, seal = place / "inner" / "weights.bin", place / SEAL
    {
        "cut": lambda: weights.write_bytes(b"\1" * 999),
        "missing": weights.unlink,
        "no seal": seal.unlink,
        "seal cut": lambda: seal.write_text(seal.read_text()[:30]),
        "seal of another kind": lambda: seal.write_text('{"config.json": 2}'),
    }[broken]()
    assert damage(place)
    assert sealed(place, make) == place
    assert weights.read_bytes() == b"\1" * 1000
    assert damage(place, thorough=True) is None
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]
    said = capsys.readouterr().err
    assert said.startswith(f"{place} is damaged: ")
    assert ("weights.bin" if broken in ("cut", "missing") else SEAL) in said


def test_a_changed_byte_is_found_by_a_thorough_look(tmp_path: Path) -> None:
    place = sealed(tmp_path / "thing", make)
    (place / "inner" / "weights.bin").write_bytes(b"\1" * 999 + b"\2")
    assert damage(place) is None
    assert sealed(place, never) == place
    assert damage(place, thorough=True) == "inner/weights.bin has not the SHA-256 it was made with"
    sealed(place, make, thorough=True)
    assert (place / "inner" / "weights.bin").read_bytes() == b"\1" * 1000


def test_a_making_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        make(directory)
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError):
        sealed(tmp_path / "thing", fail)
    assert list(tmp_path.iterdir()) == []
    place = sealed(tmp_path / "thing", make)
    (place / SEAL).unlink()
    with pytest.raises(RuntimeError):
        sealed(place, fail)
    assert (place / "inner" / "weights.bin").is_file()


def test_of_many_who_want_it_at_once_one_makes_it_and_the_others_wait(tmp_path: Path) -> None:
    made: list[Path] = []

    def slowly(directory: Path) -> None:
        made.append(directory)
        time.sleep(0.2)
        make(directory)

    with ThreadPoolExecutor(4) as pool:
        places = list(pool.map(lambda _: sealed(tmp_path / "thing", slowly), range(4)))
    assert set(places) == {tmp_path / "thing"}
    assert damage(places[0], thorough=True) is None
    assert len(made) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]
