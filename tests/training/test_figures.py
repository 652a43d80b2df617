import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from training.figures import Level, learning_curve_png, single_curves_png, spread_apart, terminal_curve
from training.reporting.drawing import BASELINE_COLOUR, COLOURS, looks
from training.runs import Run, learning_curves


def run(strategy: str, points: dict[int, float], seed: int = 0, n_test: int = 600, task: str = "sentiment") -> Run:
    rounds = [{"n_labeled": n, "macro_f1": f1, "accuracy": f1, "n_test": n_test} for n, f1 in points.items()]
    return Run(Path(f"{strategy}-{seed}"), {"strategy": strategy, "seed": seed, "task": {"name": task}}, rounds)


def test_a_straight_line_in_characters() -> None:
    drawn = terminal_curve([run("xal", {10: 0.0, 15: 0.5, 20: 1.0})], width=11, height=11).splitlines()
    assert drawn[0] == "sentiment: macro-F1 on 600 test texts"
    assert drawn[1:12] == [
        " 1.000 |           x",
        "       |          .",
        "       |         .",
        "       |        .",
        "       |       .",
        " 0.500 |      x",
        "       |     .",
        "       |    .",
        "       |   .",
        "       |  .",
        " 0.000 | x",
    ]
    assert drawn[12:] == [
        "       +------------",
        "         10  15   20   labeled texts",
        "         x xal (1 run)",
    ]


def test_means_are_drawn_and_meeting_curves_share_a_mark() -> None:
    runs = [
        run("xal", {1: 0.2, 2: 0.9}, seed=0),
        run("xal", {1: 0.4, 2: 1.1}, seed=1),
        run("random", {1: 0.3, 2: 0.0}),
    ]
    drawn = terminal_curve(runs, width=21, height=11).splitlines()
    assert drawn[1].split("|")[1].strip(" .") == "x"  # the mean of 0.9 and 1.1 is the highest point
    assert drawn[1].startswith(" 1.000")
    assert [line[9] for line in drawn[1:12]].count("*") == 1  # both begin at 0.3
    assert drawn[8][9] == "*"  # row 7 of 0..10: 1.0 - 0.7
    assert drawn[11].split("|")[1].strip(" .") == "o"
    assert drawn[-2:] == ["         x xal (2 runs)", "         o random (1 run)"]


def test_one_point_and_flat_curves_stand_in_the_middle() -> None:
    drawn = terminal_curve([run("xal", {48: 0.6})], width=11, height=11).splitlines()
    assert drawn[6] == " 0.600 |      x"
    flat = terminal_curve([run("xal", {16: 0.6, 32: 0.6})], width=11, height=11).splitlines()
    assert flat[6] == " 0.600 | x.........x"


def test_ten_curves_are_still_drawn() -> None:
    runs = [run(f"s{place}", {10: place / 10, 20: place / 20}) for place in range(10)]
    assert "s9 (1 run)" in terminal_curve(runs)
    assert learning_curve_png(learning_curves(runs)).startswith(b"\x89PNG")


def test_test_sets_of_different_size_are_both_named() -> None:
    drawn = terminal_curve([run("xal", {10: 0.5}), run("random", {10: 0.4}, n_test=50)])
    assert "macro-F1 on 50 or 600 test texts" in drawn


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 0.3)), max_size=8))
def test_names_are_spread_apart_in_their_order(names: list[tuple[float, float]]) -> None:
    heights, sizes = [height for height, _ in names], [size for _, size in names]
    spread = spread_apart(heights, sizes)
    order = np.argsort(heights, kind="stable")
    assert all(
        spread[later] - spread[earlier] >= (sizes[later] + sizes[earlier]) / 2 - 1e-9
        for earlier, later in pairwise(order)
    )
    assert sum(spread) == pytest.approx(sum(heights))


def test_names_move_only_as_far_as_they_have_to() -> None:
    assert spread_apart([0.9, 0.1, 0.5], [0.1] * 3) == pytest.approx([0.9, 0.1, 0.5])
    assert spread_apart([0.5, 0.5], [0.1] * 2) == pytest.approx([0.45, 0.55])
    assert spread_apart([0.5, 0.9, 0.46], [0.1] * 3) == pytest.approx([0.53, 0.9, 0.43])
    assert spread_apart([0.5, 0.5], [0.1, 0.3]) == pytest.approx([0.4, 0.6])


def test_names_stay_inside_as_far_as_they_fit() -> None:
    assert spread_apart([1.0, 1.0, 0.2], [0.2] * 3, low=0, high=1) == pytest.approx([0.7, 0.9, 0.2])
    assert spread_apart([0.0, 0.0], [0.2] * 2, low=0, high=1) == pytest.approx([0.1, 0.3])


def colours(png: bytes) -> set[tuple[int, ...]]:
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    assert picture.size == (1280, 736)
    return {colour for count, colour in picture.getcolors(1 << 24) if count > 200}


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def test_the_picture_holds_a_line_for_each_setting_and_grey_is_the_baseline() -> None:
    curves = learning_curves(
        [run("xal", {16: 0.5, 32: 0.6}), run("random", {16: 0.5, 32: 0.55}), run("entropy", {16: 0.4})]
    )
    assert [look.colour for look in looks(curves)] == [COLOURS[0], BASELINE_COLOUR, COLOURS[1]]
    seen = colours(learning_curve_png(curves))
    assert {rgb(COLOURS[0]), rgb(BASELINE_COLOUR), rgb(COLOURS[1])} <= seen
    assert rgb(COLOURS[2]) not in seen


def test_a_band_appears_with_the_second_run() -> None:
    one, two = run("xal", {16: 0.5, 32: 0.6}), run("xal", {16: 0.3, 32: 0.4}, seed=1)
    band = (249, 230, 217)  # 15% of #D55E00 on white, give or take rounding

    def has_band(runs: list[Run]) -> bool:
        return any(
            max(abs(a - b) for a, b in zip(c, band, strict=True)) <= 1
            for c in colours(learning_curve_png(learning_curves(runs)))
        )

    assert has_band([one, two])
    assert not has_band([one])


def test_eighteen_curves_look_different_and_xal_keeps_its_colour() -> None:
    names = [f"s{place}" for place in range(16)]
    curves = learning_curves([run(name, {10: 0.5}) for name in [*names, "xal", "random"]])
    assert len({tuple(map(str, look)) for look in looks(curves)}) == 18
    assert looks(curves)[16] == looks(curves[16:])[0]


def test_many_curves_make_the_picture_taller_and_levels_are_named() -> None:
    runs = [
        run(f"strategy-{place}", {10: place / 20, 20: place / 15}, seed=seed) for place in range(20) for seed in (0, 1)
    ]
    curves = learning_curves(runs)
    levels = [Level("upper-bound (1 run)", 1.4), Level("target", 1.26, ":")]
    assert (
        height(learning_curve_png(curves, levels=levels)) > height(learning_curve_png(curves[:3], levels=levels)) == 736
    )
    assert height(single_curves_png(curves[:8])) < height(single_curves_png(curves[:9]))


def height(png: bytes) -> int:
    return Image.open(io.BytesIO(png)).size[1]


def test_dollars_in_a_name_are_no_formula() -> None:
    (curve,) = learning_curves([run(r"x$\frac$", {16: 0.5}, task=r"cost $\bad$")])
    assert learning_curve_png([curve], levels=[Level(r"$\bad$", 0.4)]).startswith(b"\x89PNG")
    assert single_curves_png([curve]).startswith(b"\x89PNG")
