"""The client's README says what is so: its examples run against the real service, its table is that of the code."""

import re
from pathlib import Path

import pytest
import xal_client
from xal_client.errors import ERROR_OF_STATUS, APIStatusError, XalClientError
from xal_client.retries import RETRIED_STATUSES

README = (Path(__file__).parents[3] / "clients" / "python" / "README.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \|([^|]*)\|[^|]+\|([^|]*)\|$", re.MULTILINE)


def test_the_examples_run(service_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(examples) >= 8
    names: dict[str, object] = {}
    for number, example in enumerate(examples, start=1):
        exec(compile(example.replace("http://localhost:3000", service_url), f"README example {number}", "exec"), names)
    printed = capsys.readouterr().out
    assert "1 empty_text" in printed
    assert "/items/0 unknown key" in printed
    assert printed.count(" because: ") == 1


def test_the_table_of_errors_is_complete_and_true() -> None:
    rows = {name: (status.strip(), retried.strip()) for name, status, retried in ROW.findall(README)}
    documented = {name for name in rows if issubclass(getattr(xal_client, name, object), XalClientError)}
    classes = {kind.__name__ for kind in (*XalClientError.__subclasses__(), *APIStatusError.__subclasses__())}
    assert documented == classes
    for status, kind in ERROR_OF_STATUS.items():
        assert rows[kind.__name__] == (str(status), "yes" if status in RETRIED_STATUSES else "no")
