"""Who may import whom, what importing does, and that the pins are the project's own."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = ("benchmarks", "clients", "service", "tests", "training")  # not what somebody tries out beside them


def imports(folder: str) -> dict[str, set[str]]:
    """Module path -> every module that it imports anywhere in its text."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        found[str(path.relative_to(ROOT))] = names
    assert found, f"{folder} holds no module"
    return found


def tops(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def test_service_never_imports_training_or_clients() -> None:
    for path, names in imports("service").items():
        assert not tops(names) & {"training", "xal_client", "tests"}, path


def test_training_imports_nothing_of_service_but_the_model() -> None:
    for path, names in imports("training").items():
        of_service = {name for name in names if name.startswith("service")}
        assert all(name.startswith("service.model") for name in of_service), path


def test_the_model_stands_on_torch_transformers_and_numpy_alone() -> None:
    allowed = {"service", "torch", "transformers", "numpy", "safetensors", "yaml", *sys.stdlib_module_names}
    for path, names in imports("service/model").items():
        assert tops(names) <= allowed, path
        assert all(name.startswith("service.model") for name in names if name.startswith("service")), path


def test_clients_import_neither_half_and_only_httpx_and_pydantic() -> None:
    for path, names in imports("clients/python/xal_client").items():
        assert tops(names) <= {"xal_client", "httpx", "pydantic", *sys.stdlib_module_names}, path


def test_the_command_lines_module_starts_without_torch_and_serving_does_too() -> None:
    code = "import sys, training.cli, service.app; assert not {'torch', 'training.loop'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


def test_torch_is_pinned_to_the_one_build_that_brings_no_cuda() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "torch==2.13.0" in project["project"]["dependencies"]
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def test_every_dependency_is_pinned_by_the_constraints() -> None:
    pinned = {
        re.split("==", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    wanted: set[str] = set()
    for file in ("pyproject.toml", "clients/python/pyproject.toml"):
        project = tomllib.loads((ROOT / file).read_text(encoding="utf-8"))["project"]
        for group in (project["dependencies"], *project.get("optional-dependencies", {}).values()):
            wanted |= {re.split(r"[\[<>=! ;]", entry)[0].lower().replace("_", "-") for entry in group}
    assert wanted - pinned <= {"xal", "xal-client"}


@pytest.mark.parametrize(
    "command", [["ruff", "check", *CODE], ["ruff", "format", "--check", *CODE], ["lint-imports"], ["mypy"]]
)
def test_the_checks_of_make_check_pass(command: list[str]) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name(command[0])), *command[1:]], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
