"""The evidence: data sets whose parts are apart, runs that are run once, and results without what is not ours."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import evidence_data, evidence_runs
from benchmarks.evidence import main, model_name
from benchmarks.evidence_data import ESNLI_PARTS, EXAMPLES, esnli, mams
from benchmarks.evidence_runs import collect, key_of, missing_jobs, run_of
from benchmarks.results import append_cell, read_cells
from service.model.errors import InputError
from service.model.task import Task
from tests.training.saved_runs import save_run
from training.data import Example, read_examples
from training.runs import learning_curves
from training.teacher import RecordedTeacher

LABELS = ("entailment", "neutral", "contradiction")
SMALL_PARTS = {"train": 12, "dev": 4, "test": 6}
FINISHED: dict[str, Any] = {"selected_ids": ["a1"], "queried_ids": []}


def write_esnli(path: Path, premises: dict[str, int]) -> Path:
    """split -> number of premises, two texts of each. Premise 0 stands in every split."""
    rows = [
        {
            "id": f"{split}-{number}-{place}",
            "sentence1": f"Premise {number if number == 0 else f'{split} {number}'}.",
            "sentence2": f"Hypothesis {place}.",
            "label": LABELS[(number + place) % 3],
            "split": split,
            "explanations": {label: f"It is {label}, says {number}." for label in LABELS},
        }
        for split, count in premises.items()
        for number in range(count)
        for place in range(2)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def esnli_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows for parts of 12, 4 and 6 texts, which are all that is asked for here."""
    monkeypatch.setattr(evidence_data, "ESNLI_PARTS", SMALL_PARTS)
    return write_esnli(tmp_path / "rows.jsonl", {"train": 12, "test": 6})


def options(tmp_path: Path, **changed: Any) -> Namespace:
    """Those of the command, for one run of e-SNLI."""
    values = {"data": "e-snli", "strategy": "xal", "initial_set": "0", "seed": "0", "model": "minilm-minilm"}
    values |= {"runs": tmp_path / "runs", "results": tmp_path / "results.jsonl", "device": "cpu", "budget": 150}
    return Namespace(**(values | dict.fromkeys(("mams", "mams_explanations", "esnli")) | changed))


def by_part(path: Path) -> dict[str, list[Example]]:
    examples = read_examples(path, Task.from_yaml(EXAMPLES / "e-snli" / "task.yaml"), require_labels=True)
    return {part: [example for example in examples if example.split == part] for part in SMALL_PARTS}


def test_the_parts_of_esnli_share_no_premise(esnli_file: Path, tmp_path: Path) -> None:
    found = esnli(esnli_file, tmp_path / "data")
    parts = by_part(found.data)
    assert {part: len(examples) for part, examples in parts.items()} == SMALL_PARTS
    premises = [{example.fields["sentence1"] for example in examples} for examples in parts.values()]
    assert sum(map(len, premises)) == len(set.union(*premises)) == 11  # two texts of each
    # pool and dev are of e-SNLI's own train, test of its test
    assert {example.id.partition("-")[0] for part in ("train", "dev") for example in parts[part]} == {"train"}
    assert {example.id.partition("-")[0] for example in parts["test"]} == {"test"}
    covered = RecordedTeacher(found.explanations, Task.from_yaml(found.task)).covered
    assert covered == {example.id for examples in parts.values() for example in examples}


def test_a_premise_of_both_splits_is_in_one_part_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence_data, "ESNLI_PARTS", SMALL_PARTS)
    # as many as there are: all of train is taken, so what it shares with test is missing there
    rows = write_esnli(tmp_path / "rows.jsonl", {"train": 8, "test": 4})
    parts = by_part(esnli(rows, tmp_path).data)
    assert "Premise 0." in {example.fields["sentence1"] for part in ("train", "dev") for example in parts[part]}
    assert "Premise 0." not in {example.fields["sentence1"] for example in parts["test"]}


def test_the_parts_of_esnli_are_the_same_every_time_whatever_the_order_of_the_rows(
    esnli_file: Path, tmp_path: Path
) -> None:
    first, again = (esnli(esnli_file, tmp_path / folder).data.read_text() for folder in ("one", "two"))
    assert first == again
    turned = tmp_path / "turned.jsonl"
    turned.write_text("".join(line + "\n" for line in reversed(esnli_file.read_text().splitlines())))
    assert sorted(esnli(turned, tmp_path / "three").data.read_text().splitlines()) == sorted(first.splitlines())


@pytest.mark.parametrize(("part", "premises"), [("train", {"train": 6, "test": 6}), ("test", {"train": 12, "test": 2})])
def test_too_few_rows_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, premises: dict[str, int]
) -> None:
    monkeypatch.setattr(evidence_data, "ESNLI_PARTS", SMALL_PARTS)
    rows = write_esnli(tmp_path / "rows.jsonl", premises)
    with pytest.raises(InputError, match=rf"rows.jsonl: expected rows for {SMALL_PARTS[part]} {part} texts, found \d"):
        esnli(rows, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_pool_that_is_a_tenth_too_small_is_said_of_the_full_size(tmp_path: Path) -> None:
    rows = write_esnli(tmp_path / "rows.jsonl", {"train": (400 + 520) // 2, "test": 501})
    with pytest.raises(InputError, match="expected rows for 600 train texts, found 520"):
        esnli(rows, tmp_path)
    assert ESNLI_PARTS == {"train": 600, "dev": 400, "test": 1000}


def test_rows_without_explanations_are_named(esnli_file: Path, tmp_path: Path) -> None:
    lines = esnli_file.read_text().splitlines()
    bare = {key: value for key, value in json.loads(lines[1]).items() if key != "explanations"}
    esnli_file.write_text("\n".join([lines[0], json.dumps(bare), *lines[2:]]))
    with pytest.raises(InputError, match=r"rows.jsonl, line 2: expected the columns id and explanations"):
        esnli(esnli_file, tmp_path)


def test_the_pool_of_mams_is_what_is_explained() -> None:
    found = mams(Path("mams.jsonl"), Path("explanations.jsonl"))
    assert found.only_explained
    assert Task.from_yaml(found.task).fields == ("text", "target")


def test_finished_runs_are_collected_once_and_unfinished_ones_are_not(tmp_path: Path) -> None:
    grid, results = tmp_path / "grid", tmp_path / "results.jsonl"
    assert collect(grid, "mams", results) == 0  # nothing was run yet
    save_run(grid / "xal-i0-s0", **FINISHED)
    save_run(grid / "random-i0-s0", strategy="random", **FINISHED)
    save_run(grid / "xal-i0-s1", selected_ids=["a1"], queried_ids=["a2"])
    (save_run(grid / "xal-i0-s2") / "metrics.json").unlink()  # no round is finished
    assert collect(grid, "mams", results) == 2
    once = results.read_text()
    assert [cell["name"] for cell in read_cells(results)] == ["random-i0-s0", "xal-i0-s0"]
    assert collect(grid, "mams", results) == 0
    assert results.read_text() == once
    assert collect(grid, "e-snli", results) == 2  # runs of the same names on other data are other runs
    metrics = grid / "xal-i0-s1" / "metrics.json"
    metrics.write_text(json.dumps([round_ | FINISHED for round_ in json.loads(metrics.read_text())]))
    assert collect(grid, "mams", results) == 1


def test_what_is_collected_has_no_paths_ids_or_texts_and_six_digits(tmp_path: Path) -> None:
    here = tmp_path / "private"
    save_run(
        here / "xal-i0-s0",
        model=str(here / "models" / "tiny-t5"),
        data={"file": str(here / "secret.jsonl"), "sha256": "ab12"},
        settings={"llm": {"base_url": "http://private", "temperature": 0.0}},
        points={50: 0.123456789},
        selected_ids=["secret-1"],
        queried_ids=[],
        explanation_examples={"most": [{"id": "secret-2", "text": "secret text"}]},
        explanations={"ranking": {"value": 2 / 3}},
        per_class_f1={"negative": [0.1, 1 / 3]},
    )
    collect(here, "mams", tmp_path / "results.jsonl")
    assert "secret" not in (line := (tmp_path / "results.jsonl").read_text())
    assert "private" not in line
    [cell] = read_cells(tmp_path / "results.jsonl")
    assert cell["config"]["model"] == "tiny-t5"
    assert cell["config"]["data"] == {"sha256": "ab12"}
    assert cell["config"]["versions"] == {"torch": "2.13.0"}
    [entry] = cell["rounds"]
    assert (entry["n_labeled"], entry["macro_f1"]) == (50, 0.123457)
    assert (entry["explanations"]["ranking"]["value"], entry["per_class_f1"]["negative"]) == (0.666667, [0.1, 0.333333])


def test_a_line_of_the_results_is_a_run_for_reports(tmp_path: Path) -> None:
    for seed in range(2):
        save_run(tmp_path / "grid" / f"xal-i0-s{seed}", seed=seed, points={50: 0.4, 100: 0.5 + seed / 10}, **FINISHED)
    collect(tmp_path / "grid", "mams", tmp_path / "results.jsonl")
    [curve] = learning_curves([run_of(cell) for cell in read_cells(tmp_path / "results.jsonl")])
    assert curve.values("macro_f1").tolist() == [[0.4, 0.5], [0.4, 0.6]]


def test_runs_that_are_in_the_results_are_not_run_again(esnli_file: Path, tmp_path: Path) -> None:
    wanted = options(tmp_path, esnli=esnli_file, strategy="xal,random", seed="0-1")
    assert {job.name for job in missing_jobs(wanted, tmp_path)} == {
        f"{strategy}-i0-s{seed}" for strategy in ("xal", "random") for seed in (0, 1)
    }
    held = {"data": "e-snli", "name": "xal-i0-s1", "config": {"model": "minilm-minilm", "budget": 150}}
    append_cell(wanted.results, held)
    append_cell(wanted.results, held | {"name": "xal-i0-s0", "data": "mams"})
    append_cell(wanted.results, held | {"name": "random-i0-s0", "config": {"model": "smollm2", "budget": 100}})
    assert {job.name for job in missing_jobs(wanted, tmp_path)} == {"xal-i0-s0", "random-i0-s0", "random-i0-s1"}
    with pytest.raises(
        InputError, match=r"--budget: the runs of e-snli with minilm-minilm .* have 150 labels, not 100"
    ):
        missing_jobs(options(tmp_path, esnli=esnli_file, budget=100), tmp_path)


def test_a_backbone_in_a_directory_goes_by_its_name_and_is_held_by_it(esnli_file: Path, tmp_path: Path) -> None:
    wanted = options(tmp_path, esnli=esnli_file, model=str(tmp_path / "tiny-t5"))
    [job] = missing_jobs(wanted, tmp_path)
    assert job.options.output == tmp_path / "runs" / "e-snli-tiny-t5" / "xal-i0-s0"
    assert job.options.model == str(tmp_path / "tiny-t5")
    append_cell(wanted.results, {"data": "e-snli", "name": "xal-i0-s0", "config": {"model": "tiny-t5", "budget": 150}})
    assert missing_jobs(wanted, tmp_path) == []
    assert model_name("minilm-minilm") == "minilm-minilm"
    assert model_name("org/encoder+/models/decoder") == "encoder+decoder"


def test_a_run_is_told_what_all_have_in_common(esnli_file: Path, tmp_path: Path) -> None:
    [job] = missing_jobs(options(tmp_path, esnli=esnli_file), tmp_path)
    told = job.options
    assert (told.budget, told.query_size, told.num_beams, told.measure_explanations) == (150, 50, 2, 60)
    assert told.trainer == {"explanation_epochs": 3, "lambda2": 0.1}
    assert told.data == told.explanations
    assert (told.keep_models, told.device, told.shared) == ("none", "cpu", told.output.parent / ".first-rounds")


def test_the_command_runs_collects_and_runs_nothing_twice(
    esnli_file: Path,
    tmp_path: Path,
    backbone_dir: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in {"QUERY_SIZE": 4, "NUM_BEAMS": 1, "EXPLAINED": 2}.items():
        monkeypatch.setattr(evidence_runs, name, value)
    model = backbone_dir("t5")
    monkeypatch.setitem(evidence_runs.TRAINER, str(model), {"epochs": 1, "batch_size": 4})
    monkeypatch.setenv("XAL_CACHE", str(tmp_path / "cache"))
    results, runs = tmp_path / "results.jsonl", tmp_path / "runs"
    common = ["--data", "e-snli", "--esnli", str(esnli_file), "--model", str(model), "--device", "cpu", "--jobs", "1"]
    common += ["--runs", str(runs), "--results", str(results), "--initial-set", "0", "--seed", "0", "--budget", "8"]
    assert main([*common, "--strategy", "random"]) == 0
    assert "1 runs added" in capsys.readouterr().out
    assert main([*common, "--strategy", "random,xal"]) == 0
    printed = capsys.readouterr().out
    assert "1 runs added" in printed
    assert "xal-i0-s0: round 1: 8 labels" in printed
    assert "random-i0-s0" not in printed
    cells = read_cells(results)
    assert [key_of(cell) for cell in cells] == [("e-snli", "t5", "random-i0-s0"), ("e-snli", "t5", "xal-i0-s0")]
    kept = results.read_text()
    written = [row for row in by_part(runs / "data" / "e-snli.jsonl").values() for row in row]
    for row in written:
        assert row.id not in kept
        assert row.fields["sentence1"] not in kept
    assert str(tmp_path) not in kept
    assert str(model) not in kept
    config = yaml.safe_load((runs / "e-snli-t5" / "xal-i0-s0" / "config.yaml").read_text())
    assert cells[1]["config"]["trainer"] == config["trainer"]
    assert main([*common, "--collect"]) == 0
    assert "0 runs added" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--data", "e-snli"], "--esnli FILE"),
        (["--data", "mams"], "--mams and --mams-explanations"),
        (["--data", "mams", "--mams", "mams.jsonl"], "--mams and --mams-explanations"),
        (["--data", "e-snli", "--esnli", "none.jsonl"], "none.jsonl: expected a data file; found no such file"),
        (["--data", "e-snli", "--esnli", "rows.jsonl", "--seed", "x"], "expected whole numbers"),
    ],
)
def test_a_missing_file_is_one_line_and_exit_code_2(
    arguments: list[str],
    named: str,
    esnli_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(esnli_file.parent)
    assert main([*arguments, "--results", "results.jsonl"]) == 2
    said = capsys.readouterr().err
    assert named in said
    assert said.count("\n") == 1
    assert not Path("results.jsonl").exists()
