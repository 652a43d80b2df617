"""Devices and number formats are chosen among what is there, and a wrong name is said with the right ones."""

import pytest
import torch

from service.model import hardware
from service.model.errors import InputError
from service.model.hardware import LARGE, choose_device, choose_dtype, multiplies_bfloat16


@pytest.mark.parametrize("name", ["", "gpu", "cuda:x", "cpu:", "tpu0"])
def test_a_device_that_is_none_is_said_with_the_choices(name: str) -> None:
    with pytest.raises(InputError, match="expected auto, cpu, cuda, cuda:N or mps"):
        choose_device(name)


@pytest.mark.parametrize("name", ["meta", "xla", "cuda:99", "hpu"])
def test_a_device_that_is_not_here_is_said(name: str) -> None:
    with pytest.raises(InputError, match="is not available here; use auto or cpu"):
        choose_device(name)


def test_the_cpu_is_always_there_and_auto_is_a_gpu_if_there_is_one() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_dtype_is_one_of_three_or_auto() -> None:
    cpu = torch.device("cpu")
    assert choose_dtype("auto", cpu, 1000) == torch.float32
    assert choose_dtype("bfloat16", cpu, 1000) == torch.bfloat16
    assert choose_dtype("float16", cpu, 1000) == torch.float16
    for name in ("int8", "float64", "", "Float32"):
        with pytest.raises(InputError, match="expected auto, float32, bfloat16, float16"):
            choose_dtype(name, cpu, 1000)


@pytest.mark.parametrize(("there", "expected"), [(False, torch.float32), (True, torch.bfloat16)])
def test_a_cpu_with_matrix_units_gets_bfloat16_for_large_models(
    there: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "multiplies_bfloat16", lambda _: there)
    assert choose_dtype("auto", torch.device("cpu"), LARGE) == expected
    assert choose_dtype("auto", torch.device("cpu"), LARGE - 1) == torch.float32


@pytest.mark.parametrize("there", [False, True])
def test_hardware_multiplies_bfloat16_where_torch_says_so(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: there)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: there and not including_emulation)
    assert multiplies_bfloat16(torch.device("cpu")) is there
    assert multiplies_bfloat16(torch.device("cuda")) is there
    assert not multiplies_bfloat16(torch.device("mps"))


def test_torch_has_the_question_that_it_is_asked_of_a_cpu() -> None:
    assert isinstance(multiplies_bfloat16(torch.device("cpu")), bool)
