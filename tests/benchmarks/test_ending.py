import pytest

from benchmarks.ending import exit_code
from service.model.errors import InputError, XalError


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("no such file"), 2, "no such file\n"),
        (XalError("the loss is nan"), 1, "the loss is nan\n"),
        (OSError(28, "No space left on device", "runs"), 1, "runs: No space left on device\n"),
        (KeyboardInterrupt(), 130, "stopped; what was measured is kept\n"),
    ],
)
def test_what_goes_wrong_is_one_line_and_an_exit_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    assert exit_code(fail) == code
    assert capsys.readouterr().err == said


def test_what_goes_well_is_code_0_and_other_errors_are_not_hidden() -> None:
    assert exit_code(lambda: None) == 0
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: print(1 / 0))
