from training.reporting.tables import table_of, text_table, value_at, values_at


def test_a_text_table_is_aligned() -> None:
    assert text_table([["name", "n"], ["a", "10"], ["longer", ""]]).splitlines() == [
        "name     n",
        "------  --",
        "a       10",
        "longer",
    ]


def test_rows_share_their_columns_and_empty_ones_are_left_out() -> None:
    assert table_of([{"a": "1", "b": ""}, {"c": "2", "b": ""}]) == [["a", "c"], ["1", ""], ["", "2"]]


def test_numbers_are_found_at_their_path_and_nothing_else_is() -> None:
    entry = {"a": {"b": 1, "c": True, "d": "1", "e": float("nan"), "f": None}, "g": 0.5}
    assert value_at(entry, "a", "b") == 1.0
    assert value_at(entry, "g") == 0.5
    assert [value_at(entry, "a", key) for key in "cdefx"] == [None] * 5
    assert value_at(entry, "g", "b") is None
    assert values_at([entry, {}, {"g": 1}], "g") == [0.5, 1.0]
