"""Settings: read from XAL_* variables, checked, and refused in one line."""

from pathlib import Path

import pytest

from service.settings import Settings, SettingsError, read_settings


@pytest.fixture(autouse=True)
def _model_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XAL_MODEL_DIR", str(tmp_path))


def test_a_model_directory_is_all_that_must_be_set(tmp_path: Path) -> None:
    settings = read_settings()
    assert settings.model_dir == tmp_path
    assert (settings.max_items, settings.max_body_bytes, settings.api_keys) == (1000, 4_194_304, ())
    assert settings.explain_batch_tokens is None  # the engine's own


def test_api_keys_are_separated_by_commas_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAL_API_KEYS", " one, two ,,")
    settings = read_settings()
    assert [key.get_secret_value() for key in settings.api_keys] == ["one", "two"]
    assert "two" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("XAL_MODEL_DIR", "/no/such/place", "XAL_MODEL_DIR=/no/such/place: path does not point to a directory"),
        ("XAL_MAX_ITEMS", "many", "XAL_MAX_ITEMS=many: input should be a valid integer"),
        ("XAL_MAX_ITEMS", "0", "XAL_MAX_ITEMS=0: input should be greater than or equal to 1"),
        ("XAL_DEADLINE_SECONDS", "nan", "XAL_DEADLINE_SECONDS=nan"),
        ("XAL_MAX_QUEUE_ITEMS", "10", "XAL_MAX_QUEUE_ITEMS=10 is below XAL_MAX_ITEMS=1000"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refusal:
        read_settings()
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


def test_a_missing_model_directory_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XAL_MODEL_DIR")
    with pytest.raises(SettingsError, match="XAL_MODEL_DIR is not set; set it to a model directory"):
        read_settings()


def test_every_setting_is_in_the_operations_guide_with_its_default() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    lines = [line for line in guide.splitlines() if line.startswith("| `XAL_")]
    cells = [[cell.strip(" `") for cell in line.split("|")] for line in lines]
    rows = {name: default for _, name, default, *_ in cells}
    expected = {
        f"XAL_{name.upper()}": "" if field.is_required() or field.default in ((), None) else str(field.default)
        for name, field in Settings.model_fields.items()
    }
    assert rows == expected
