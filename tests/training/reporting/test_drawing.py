from training.reporting.drawing import name_rows, rows_figure, shortened, told_apart, wrapped

WEIGHTS = [
    f"xal, lambda {lambda_}, trainer.lambda1 {lambda1}, trainer.lambda2 {lambda2}"
    for lambda_ in (0.3, 0.5)
    for lambda1 in (0.05, 0.1)
    for lambda2 in (0.01, 0.1)
]


def test_names_are_cut_only_as_far_as_they_can_be_told_apart() -> None:
    assert told_apart(["xal", "a strategy with a long name"], 11) == ["xal", "a st...name"]
    assert len({shortened(name, 30) for name in WEIGHTS}) < len(WEIGHTS)
    short = told_apart(WEIGHTS, 30)
    assert len(set(short)) == len(WEIGHTS)
    assert max(map(len, short)) < max(len(name.replace("trainer.", "")) for name in WEIGHTS)
    assert told_apart(["xal", "xal"], 9) == ["xal", "xal"]
    assert told_apart([], 9) == []


def test_names_that_differ_in_the_middle_alone_are_left_whole() -> None:
    names = [f"{'a' * 40} {middle} {'b' * 40}" for middle in "xy"]
    assert told_apart(names, 20) == names


def test_a_long_name_takes_lines_and_a_row_that_is_high_enough() -> None:
    names = ["xal, model minilm-minilm against xal-no-rank, model minilm-minilm", "xal (2 runs)"]
    figure = rows_figure(names, around=1, row=0.3)
    assert figure.get_figheight() > rows_figure(names[1:] * 2, around=1, row=0.3).get_figheight()
    axes = figure.add_subplot()
    name_rows(axes, names)
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "xal, model minilm-minilm against\nxal-no-rank, model minilm-minilm",
        "xal (2\N{NO-BREAK SPACE}runs)",
    ]


def test_runs_stay_with_their_number() -> None:
    assert wrapped("a strategy (2 runs)", 14) == "a strategy\n(2\N{NO-BREAK SPACE}runs)"
