import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.training.saved_runs import save_map, save_run
from training.reporting.drawing import new_figure
from training.reporting.maps import class_colours, fitting_legend, label_ids, maps_section
from training.reporting.page import Key, Note, html_page
from training.reporting.pool_map import LABELED, MOST_TEXTS, REST, SELECTED, in_two_dimensions, read_map
from training.reporting.study import Study
from training.runs import read_run


def test_a_map_is_read_as_it_was_saved(tmp_path: Path) -> None:
    found = read_map(save_map(tmp_path, 0, n=60))
    assert found.embeddings.shape == (60, 8)
    assert found.embeddings.dtype == np.float32
    assert [int((found.state == state).sum()) for state in (LABELED, SELECTED, REST)] == [6, 6, 48]
    assert found.label[:4].tolist() == [0, 1, 2, 0]


def test_of_many_texts_a_draw_of_the_rest_is_left(tmp_path: Path) -> None:
    path = save_map(tmp_path, 0, n=2000)
    found = read_map(path)
    assert len(found.state) == MOST_TEXTS
    assert [int((found.state == state).sum()) for state in (LABELED, SELECTED)] == [200, 200]
    assert np.array_equal(found.embeddings, read_map(path).embeddings)


@pytest.mark.parametrize(
    ("replaced", "expected"),
    [
        ({"state": np.zeros(3, np.int8)}, r"found \(60, 8\), \(3,\), \(60,\)"),
        ({"embeddings": np.zeros(60)}, r"found \(60,\)"),
        ({"embeddings": np.full((60, 8), np.inf)}, "at least 8 texts; found 0"),
        ({"state": np.full(60, 7)}, "at least 8 texts; found 0"),
        ({"label": np.array(["a"] * 60)}, "expected arrays"),
        ({"label": np.array([{}] * 60, dtype=object)}, "expected arrays"),
    ],
)
def test_unsound_maps_are_named(tmp_path: Path, replaced: dict[str, object], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        read_map(save_map(tmp_path, 0, **replaced))


def test_files_that_are_no_maps_are_named(tmp_path: Path) -> None:
    path = save_map(tmp_path, 0)
    content = path.read_bytes()
    for broken in (b"", b"text", content[: len(content) // 2], b"PK" + content[40:]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"damaged|expected"):
            read_map(path)
    np.savez(path, embeddings=np.zeros((9, 2)))
    with pytest.raises(ValueError, match="state"):
        read_map(path)


def test_texts_that_are_near_each_other_stay_so_and_every_time_alike(tmp_path: Path) -> None:
    found = read_map(save_map(tmp_path, 0, n=90))
    points = in_two_dimensions(found)
    assert points.shape == (90, 2)
    assert np.array_equal(points, in_two_dimensions(found))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e9 * np.eye(90)
    assert (found.label[distances.argmin(axis=1)] == found.label).mean() > 0.95


@pytest.mark.parametrize(("n", "width"), [(8, 1), (9, 2), (8, 200)])
def test_few_texts_and_any_width_have_a_map(tmp_path: Path, n: int, width: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(n, width)).astype(np.float16)
    assert np.isfinite(in_two_dimensions(read_map(save_map(tmp_path, 0, n=n, embeddings=vectors)))).all()
    same = np.ones((n, width), np.float16)
    assert np.isfinite(in_two_dimensions(read_map(save_map(tmp_path, 1, n=n, embeddings=same)))).all()


def test_first_middle_and_last_round_of_one_run_are_drawn(tmp_path: Path) -> None:
    directory = save_run(tmp_path / "a", points={10 * n: 0.5 for n in range(1, 6)})
    study = Study.of([read_run(directory)])
    assert maps_section(study, progress=False) is None
    for number in range(5):
        save_map(directory, number, n=30)
    (directory / "rounds" / "03" / "map.npz").write_bytes(b"text")
    section = maps_section(study, progress=False)
    assert section is not None
    assert [picture.file for picture in section.pictures] == ["selection_maps.png"]
    warnings = [part.text for part in section.parts if isinstance(part, Note) and part.warning]
    assert len(warnings) == 1
    assert "03/map.npz: no map to draw" in warnings[0]


def test_labels_are_those_of_the_first_run_that_names_them(tmp_path: Path) -> None:
    task = {"name": "product-sentiment", "labels": {"b": "bad", "a": "good"}}
    runs = [save_run(tmp_path / "a"), save_run(tmp_path / "b", settings={"task": task})]
    assert label_ids(Study.of([read_run(directory) for directory in runs])) == ["b", "a"]
    assert label_ids(Study.of([read_run(runs[0])])) == []


@pytest.mark.parametrize("n", [1, 8, 9, 12, 30])
def test_every_class_has_a_colour_of_its_own(n: int) -> None:
    colours = class_colours(n)
    assert len(set(colours)) == len(colours) == n
    assert all(re.fullmatch("#[0-9A-Fa-f]{6}", colour) for colour in colours)
    assert class_colours(3) == class_colours(8)[:3]


def test_what_the_font_cannot_spell_is_explained_by_the_page(tmp_path: Path) -> None:
    names = ["\u597d\u8bc4", "\u5dee\u8bc4", "<b>"]
    directory = save_run(tmp_path / "a", settings={"task": {"name": "\u4efb\u52a1", "labels": names}})
    save_map(directory, 0, n=30, label=np.arange(30) % 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        section = maps_section(Study.of([read_run(directory)]), progress=False)
    assert section is not None
    (key,) = (part for part in section.parts if isinstance(part, Key))
    assert key.colours == list(zip(class_colours(4), [*names, "label 3"], strict=True))
    page = html_page("t", "", [section])
    assert '<td class="colour" style="background: #D55E00"></td><td>\u597d\u8bc4</td>' in page
    assert "<td>&lt;b&gt;</td>" in page


@pytest.mark.parametrize(
    "names", [["rest", "labeled", "next"], ["a class with a long name"] * 7, ["x" * 200], ["$0_$10", "$5, #2 of $6"]]
)
def test_a_legend_is_no_wider_than_its_picture_unless_one_name_is(names: list[str]) -> None:
    from matplotlib.lines import Line2D

    figure = new_figure(4.0, width=6.0)
    figure.subplots(1, 2)
    legend = fitting_legend(figure, [Line2D([], []) for _ in names], names)
    figure.draw_without_rendering()  # dollars are no formula
    assert len(figure.legends) == 1
    assert legend.get_window_extent().width <= figure.bbox.width or len(names) == 1
