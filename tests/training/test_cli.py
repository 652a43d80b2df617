"""The command line: exit codes, one clear line for bad input, nothing half-written."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import yaml
from transformers import BertConfig

from tests import tiny
from tests.training.chat_server import ChatServer
from training.cli import main
from training.offline_parts import cache_directory
from training.trainer import TrainerConfig

XAL = Path(sys.executable).with_name("xal")


@pytest.fixture
def run_arguments(
    example_files: dict[str, Path], backbone_dir: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Options of a run that works; tests break one of them."""
    monkeypatch.setenv("XAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("XAL_TEACHER_URL", raising=False)
    return {
        "--task": str(example_files["task"]),
        "--data": str(example_files["data"]),
        "--explanations": str(example_files["explanations"]),
        "--strategy": "xal",
        "--output": str(tmp_path / "run"),
        "--model": str(backbone_dir("t5")),
        "--budget": "12",
        "--query-size": "6",
        "--epochs": "1",
        "--batch-size": "4",
        "--num-beams": "1",
        "--max-new-tokens": "4",
    }


def run(arguments: dict[str, str]) -> int:
    return main(["run", *(word for pair in arguments.items() for word in pair)])


def test_run_export_score_and_report_follow_each_other(
    run_arguments: dict[str, str], example_files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(run_arguments) == 0
    said = capsys.readouterr().out
    assert "round 0: 6 labels, macro-F1 0." in said
    assert "round 1: 12 labels" in said
    assert f"xal export {tmp_path / 'run'} --round 1" in said
    model, scores = tmp_path / "model", tmp_path / "scores.jsonl"
    assert main(["export", str(tmp_path / "run"), "--round", "1", "--output", str(model)]) == 0
    assert main(["score", "--model", str(model), "--input", str(example_files["data"]), "--output", str(scores)]) == 0
    assert "39 rows; normalized over the pool" in capsys.readouterr().out
    rows = [json.loads(line) for line in scores.read_text().splitlines()]
    assert sorted(row["rank"] for row in rows) == list(range(1, 40))
    assert main(["report", str(tmp_path / "run"), "--output", str(tmp_path / "report")]) == 0
    assert {path.suffix for path in (tmp_path / "report").iterdir()} == {".png", ".html"}
    assert main(["doctor", "--model", str(model)]) == 0
    assert "ok    model: version" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_pairs_with_number_labels_and_without_ids_or_splits_run(
    run_arguments: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    task = {**tiny.TASK.to_dict(), "fields": ["sentence1", "sentence2"], "label_field": "gold"}
    task |= {"labels": {1: "a paraphrase", 0: "no paraphrase"}, "input": "{sentence1} / {sentence2}"}
    task["prompt"] = '"{sentence1}" and "{sentence2}": {label}, explain the reason.'
    (tmp_path / "pairs.yaml").write_text(yaml.safe_dump(task))
    columns = {"sentence1": [f"first {i}" for i in range(30)], "sentence2": [f"second, {i}" for i in range(30)]}
    table = pa.table({**columns, "gold": [i % 2 for i in range(30)]})
    data = tmp_path / f"pairs.{suffix}"
    write = pa.csv.write_csv if suffix == "csv" else pa.parquet.write_table
    write(table, data)
    del run_arguments["--explanations"]
    more = {"--task": str(tmp_path / "pairs.yaml"), "--data": str(data), "--strategy": "entropy", "--budget": "8"}
    assert run({**run_arguments, **more}) == 0
    said = capsys.readouterr().out
    assert "held out 6 of 30" in said
    rounds = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert [entry["n_labeled"] for entry in rounds] == [6, 8]
    assert set(rounds[0]["per_class_f1"]) == {"1", "0"}


def test_a_run_started_again_says_what_it_did_and_repeats_nothing(
    run_arguments: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(run_arguments) == 0
    first = capsys.readouterr().out
    before = (tmp_path / "run" / "metrics.json").read_bytes()
    assert run(run_arguments) == 0
    assert capsys.readouterr().out == first
    assert (tmp_path / "run" / "metrics.json").read_bytes() == before


def rows(*changes: dict[str, object]) -> str:
    sound = [{"id": str(i), "text": f"text number {i}", "label": "neutral"} for i in range(8)]
    for index, change in enumerate(changes):
        sound[index] = {k: v for k, v in {**sound[index], **change}.items() if v is not ...}  # type: ignore[dict-item]
    return "".join(json.dumps(row) + "\n" for row in sound)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (rows({"text": ..., "review": "x"}), "text"),
        (rows({}, {"id": "0"}), "'0'"),
        (rows({}, {}, {"text": " "}), "empty"),
        (rows({}, {}, {"label": "mixed"}), "negative, neutral, positive"),
        (rows({"label": None}), "label"),
        (rows()[:-3], "JSON"),
        ("", "row"),
        (rows(*({"split": "test"},) * 8), "pool is empty"),
    ],
    ids=["unknown column", "duplicate id", "empty text", "foreign label", "no label", "JSON", "empty", "empty pool"],
)
def test_bad_data_is_one_line_with_exit_code_2_and_leaves_nothing(
    run_arguments: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], data: str, message: str
) -> None:
    (tmp_path / "bad.jsonl").write_text(data)
    assert run({**run_arguments, "--data": str(tmp_path / "bad.jsonl")}) == 2
    said = capsys.readouterr().err
    assert said.startswith("xal run: ")
    assert said.count("\n") == 1
    assert message in said
    assert "bad.jsonl" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--task", "missing.yaml", "missing.yaml: no such task file"),
        ("--data", "missing.jsonl", "missing.jsonl"),
        ("--explanations", "missing.jsonl", "missing.jsonl"),
        ("--strategy", "astrology", "expected one of random, random-balanced, entropy"),
        ("--strategy", "xal,astrology", "unknown query strategy 'astrology'"),
        ("--strategy", "xal,", "unknown query strategy ''"),
        ("--initial-set", "0-", "--initial-set: expected whole numbers such as 0-2"),
        ("--lambda1", "0.1-0.5", "--lambda1: expected numbers such as 0.1"),
        ("--jobs", "0", "--jobs: expected at least 1, found 0"),
        ("--until", "90", "--until: expected a share of the upper bound, above 0 and at most 1, found 90"),
        ("--measure-explanations", "24", "the teacher explains 24 texts of the pool and too few of dev and test"),
        ("--measure-explanations", "-1", "--measure-explanations: expected at least 0 texts, found -1"),
        ("--query-size", "25", "query size of 25 is larger than the pool of 24"),
        ("--budget", "100", "budget of 100 is larger than the pool of 24"),
        ("--epochs", "0", "trainer.epochs"),
        ("--lambda", "-1", "lambda"),
        ("--lambda", "inf", "lambda"),
        ("--max-new-tokens", "0", "max_new_tokens"),
        ("--learning-rate", "nan", "learning_rate"),
        ("--model", "./no-such-model", "no such directory"),
        ("--pooling", "max", "pooling"),
        ("--device", "abacus", "abacus"),
        ("--seed", "-1", "seed"),
    ],
)
def test_a_bad_option_is_one_line_with_exit_code_2_and_leaves_nothing(
    run_arguments: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
    message: str,
) -> None:
    assert run({**run_arguments, option: value}) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_several_values_make_a_run_directory_each_and_a_report_of_all(
    run_arguments: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], trainings: list[int]
) -> None:
    grid = {**run_arguments, "--strategy": "xal,random", "--seed": "0,1", "--keep-models": "none"}
    assert run(grid) == 0
    said = capsys.readouterr().out
    assert f"4 runs in {tmp_path / 'run'}" in said
    assert "xal-i0-s1: round 1: 12 labels, macro-F1 0." in said
    assert said.count("trains on labels alone, as in the paper") == 1  # not once for every run
    names = ["random-i0-s0", "random-i0-s1", "xal-i0-s0", "xal-i0-s1"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == names
    assert trainings == [6, 12] * 4
    before = {name: (tmp_path / "run" / name / "metrics.json").read_bytes() for name in names}
    trainings.clear()
    assert run({**grid, "--strategy": "xal,random,entropy"}) == 0  # the same and more: only what is missing is run
    assert trainings == [6, 12] * 2
    assert {name: (tmp_path / "run" / name / "metrics.json").read_bytes() for name in names} == before
    assert (tmp_path / "run" / "entropy-i0-s1" / "metrics.json").exists()
    assert main(["report", str(tmp_path / "run"), "--output", str(tmp_path / "report")]) == 0
    assert "too few pairs to show one" in capsys.readouterr().out


def test_a_single_run_s_directory_takes_no_experiment_and_an_experiment_s_no_single_run(
    run_arguments: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run({**run_arguments, "--strategy": "random"}) == 0
    assert run({**run_arguments, "--strategy": "random,entropy"}) == 2
    assert "holds a single run; give an experiment of several runs another --output" in capsys.readouterr().err
    experiment = {**run_arguments, "--output": str(tmp_path / "several"), "--strategy": "random"}
    assert run({**experiment, "--seed": "0-1"}) == 0
    assert run(experiment) == 2
    assert "holds other files" in capsys.readouterr().err


def test_until_says_what_it_aims_at_and_whether_it_was_reached(
    run_arguments: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del run_arguments["--budget"]
    assert run({**run_arguments, "--strategy": "random", "--until": "0.01"}) == 0
    said = capsys.readouterr().out
    assert "note: upper bound: macro-F1 0." in said
    assert "with all 24 labels of the pool" in said
    assert "is reached with 6 labels" in said
    assert len(json.loads((tmp_path / "run" / "metrics.json").read_text())) == 1


def test_an_llm_as_the_classifier_needs_an_llm(
    run_arguments: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [word for name in ("--task", "--data") for word in (name, run_arguments[name])]
    assert main(["llm", *files, "--output", str(tmp_path / "llm")]) == 2
    assert capsys.readouterr().err == (
        "xal llm: an LLM has to be named: give --teacher-url URL (or set XAL_TEACHER_URL)\n"
    )
    with ChatServer() as chat:
        asked = [*files, "--output", str(tmp_path / "llm"), "--teacher-url", chat.base_url, "--teacher-model", "some"]
        assert main(["llm", *asked, "--settings", "zero-shot, five-shot"]) == 2
        assert "expected settings of zero-shot, few-shot, silver" in capsys.readouterr().err
        assert main(["llm", *asked, "--settings", "zero-shot"]) == 0
    assert "zero-shot: macro-F1 " in capsys.readouterr().out
    assert main(["report", str(tmp_path / "llm"), "--output", str(tmp_path / "report")]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"--prefilter": "0.5"}, "--prefilter: input should be greater than or equal to 1, found 0.5"),
        ({"--prefilter": "2", "--prefilter-sample": "0"}, "--prefilter-sample: "),
        ({"--prefilter-sample": "10"}, "give --prefilter R too"),
        ({"--prefilter": "2", "--strategy": "entropy"}, "the strategy entropy reads none"),
    ],
)
def test_a_prefilter_without_meaning_is_one_line_and_leaves_nothing(
    run_arguments: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, str],
    message: str,
) -> None:
    assert run({**run_arguments, **options}) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_run_and_score_tell_what_a_prefilter_kept(
    run_arguments: dict[str, str],
    model_dir: Path,
    example_files: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run({**run_arguments, "--prefilter": "1", "--prefilter-sample": "3"}) == 0
    said = capsys.readouterr().out
    assert "prefilter: explained 9 of 18 texts; keeps about " in said
    assert "of the top 6, estimated from 3 of 12 others" in said
    score = ["score", "--model", str(model_dir), "--input", str(example_files["data"])]
    score += ["--output", str(tmp_path / "s.jsonl"), "--query-size", "4"]
    assert main(score) == 2
    assert "--query-size is for a prefilter" in capsys.readouterr().err
    assert main([*score, "--prefilter", "2.5", "--prefilter-sample", "29"]) == 0
    assert "prefilter: explained 39 of 39 texts; keeps " in capsys.readouterr().out
    assert main([*score, "--prefilter", "2.5", "--prefilter-sample", "0"]) == 2


def test_a_task_template_naming_a_missing_field_is_said(
    run_arguments: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = {**tiny.TASK.to_dict(), "input": "{title}: {text}"}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    assert run({**run_arguments, "--task": str(tmp_path / "task.yaml")}) == 2
    said = capsys.readouterr().err
    assert "task.yaml: input: names {title}" in said


def test_a_model_that_cannot_explain_is_said(
    run_arguments: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    BertConfig().save_pretrained(tmp_path / "bert")
    assert run({**run_arguments, "--model": str(tmp_path / "bert")}) == 2
    assert "of type bert, which alone cannot write explanations" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_strategy_that_learns_from_explanations_needs_a_teacher(
    run_arguments: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    del run_arguments["--explanations"]
    assert run(run_arguments) == 2
    assert "--explanations FILE" in capsys.readouterr().err


def test_one_teacher_is_enough(run_arguments: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run({**run_arguments, "--teacher-url": "http://127.0.0.1:9/v1", "--teacher-model": "m"}) == 2
    assert "not both" in capsys.readouterr().err
    assert run({**run_arguments, "--teacher-model": "m"}) == 2
    assert "--teacher-model needs --teacher-url" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("served", "asked"), [(["only-one"], "only-one"), ([], "default"), (None, "default"), (["a", "b"], None)]
)
def test_an_llm_without_a_name_is_the_one_that_the_api_serves(
    run_arguments: dict[str, str], capsys: pytest.CaptureFixture[str], served: list[str] | None, asked: str | None
) -> None:
    del run_arguments["--explanations"]
    with ChatServer(models=served) as chat:
        code = run({**run_arguments, "--teacher-url": chat.base_url})
    assert code == (0 if asked else 2)
    assert {request["model"] for request in chat.requests} == ({asked} if asked else set())
    if asked is None:
        assert "choose one with --teacher-model: a, b" in capsys.readouterr().err


def test_an_llm_that_does_not_answer_has_no_name_made_up_for_it(
    run_arguments: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    del run_arguments["--explanations"]
    with ChatServer() as chat:
        address = chat.base_url
    assert run({**run_arguments, "--teacher-url": address}) == 1  # it is gone
    assert f"{address} does not say which model it serves: it cannot be reached" in capsys.readouterr().err
    assert not Path(run_arguments["--output"]).exists()


def test_a_model_directory_of_another_task_is_said_before_scoring(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"id": "1", "sentence1": "a", "sentence2": "b"}\n')
    output = tmp_path / "out.jsonl"
    assert main(["score", "--model", str(model_dir), "--input", str(pairs), "--output", str(output)]) == 2
    said = capsys.readouterr().err
    assert "pairs.jsonl" in said
    assert "text" in said
    assert not output.exists()


@pytest.mark.parametrize("command", ["score", "serve"])
def test_what_is_no_model_directory_is_said_with_the_command_that_makes_one(
    command: str, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = (
        ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")] if command == "score" else []
    )
    assert main([command, "--model", str(tmp_path), *more]) == 2
    assert "xal export RUN_DIR --round N --output DIR" in capsys.readouterr().err
    assert main([command, "--model", str(finished_run), *more]) == 2
    assert f"xal export {finished_run}" in capsys.readouterr().err


def test_paths_that_cannot_be_used_are_one_line(
    run_arguments: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    for output in ("file", "file/run"):
        assert run({**run_arguments, "--output": str(tmp_path / output)}) in (1, 2)
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "file" in said
    assert (tmp_path / "file").read_text() == "mine"


def test_the_teachers_variable_is_for_runs_that_ask_a_teacher(
    run_arguments: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with ChatServer(models=["a", "b"]) as chat:  # which of them is not said
        monkeypatch.setenv("XAL_TEACHER_URL", chat.base_url)
        assert run({**run_arguments, "--strategy": "random", "--output": str(tmp_path / "a")}) == 0
        assert run({**run_arguments, "--output": str(tmp_path / "b")}) == 0  # from the file
        del run_arguments["--explanations"]
        assert run({**run_arguments, "--strategy": "random", "--output": str(tmp_path / "c")}) == 0
        assert chat.prompts == []
        assert run({**run_arguments, "--teacher-model": "b"}) == 0
    assert {request["model"] for request in chat.requests} == {"b"}


def test_an_api_key_is_nowhere_in_a_run_directory(
    run_arguments: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    del run_arguments["--explanations"]
    with ChatServer() as chat:
        teacher = {"--teacher-url": chat.base_url, "--teacher-model": "m", "--teacher-key-from": "MY_KEY"}
        assert run({**run_arguments, **teacher}) == 0
    assert {key.removeprefix("Bearer ") for key in chat.keys} == {"sk-very-secret"}
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"sk-very-secret" not in path.read_bytes(), path
    llm = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["llm"]
    assert llm == {"base_url": chat.base_url, "temperature": 0.0, "max_completion_tokens": 256}


def test_doctor_fails_with_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--model", str(tmp_path / "none"), "--service", "http://127.0.0.1:9"]) == 1
    said = capsys.readouterr()
    assert "FAIL  model" in said.out
    assert "xal serve --model DIR" in said.out
    assert "2 of" in said.err


def test_backbones_are_prepared_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    directory = cache_directory() / "backbones" / "minilm-minilm-1"
    assert main(["backbone", "prepare", "minilm-minilm"]) == 0
    assert capsys.readouterr().out == f"{directory}\n"
    assert main(["backbone", "list"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("minilm-minilm\n")
    assert f"prepared: 197 MB in {directory}\n" in said
    assert "\nminilm-smollm2 (the default)\n" in said


def test_a_backbone_that_cannot_be_prepared_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert main(["backbone", "prepare", "gpt-17"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("xal backbone: gpt-17: nothing to prepare; expected minilm-minilm, ")
    assert said.count("\n") == 1
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("XAL_CACHE", str(tmp_path / "file"))
    assert main(["backbone", "prepare", "minilm-minilm"]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "file") in said
    assert "; give another path" in said
    assert said.count("\n") == 1


def test_wrong_usage_exits_with_2_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["run"], ["fly"], ["score", "--model"], ["backbone"], ["backbone", "prepare"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith("xal")
        assert said.endswith("--help` lists what there is\n")
        assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--budget", "500", "the budget of 500 is larger than the pool of"),
        ("--num-beams", "0", "num_beams: input should be greater than or equal to 1, found 0"),
        ("--lambda2", "0.1,inf", "--lambda2: expected finite numbers that are not negative, found '0.1,inf'"),
    ],
)
def test_what_is_wrong_with_all_runs_of_an_experiment_is_said_once_before_any_runs(
    run_arguments: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
    message: str,
) -> None:
    assert run({**run_arguments, "--strategy": "xal,random", option: value}) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_explanations_of_none_of_the_pool_s_texts_are_said_before_anything_is_written(
    run_arguments: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = tmp_path / "others.jsonl"
    others.write_text(json.dumps({"id": "nobody", "explanations": dict.fromkeys(tiny.TASK.labels, "because")}) + "\n")
    assert run({**run_arguments, "--explanations": str(others)}) == 2
    said = capsys.readouterr().err
    assert "are of none of the 24 pool texts; check that the ids agree" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_seed_that_no_generator_takes_is_said(
    run_arguments: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run({**run_arguments, "--seed": str(2**63)}) == 2
    assert "seed: input should be less than 9223372036854775808" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from training.cli import main\n"
        "try: main(['run', '--help'])\n"
        "finally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert "--lambda2" in done.stdout


def test_every_training_flag_is_a_setting_of_the_trainer() -> None:
    from training.run_options import EXPLAINING_FLAGS, LEARNING_FLAGS

    assert {*LEARNING_FLAGS, *EXPLAINING_FLAGS} <= set(TrainerConfig.model_fields)


def test_output_that_is_no_terminal_has_no_progress_bars(run_arguments: dict[str, str]) -> None:
    words = [word for pair in run_arguments.items() for word in pair]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(XAL), "run", *words], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "it/s" not in done.stdout


def test_what_is_in_the_way_of_a_file_is_named_as_wrong_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "written").write_text("new")
    (tmp_path / "wanted").mkdir()
    monkeypatch.setattr("training.cli._doctor", lambda **_: os.replace(tmp_path / "written", tmp_path / "wanted"))
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == f"xal doctor: {tmp_path / 'wanted'}: Is a directory; give another path\n"

    def nameless(**_: object) -> None:
        raise FileExistsError("a library's own")

    monkeypatch.setattr("training.cli._doctor", nameless)
    assert main(["doctor"]) == 1
    assert "a library's own" in capsys.readouterr().err
