"""The command ``xal``: its options, and what each command does with them.

Exit codes: 0 done, 1 failure, 2 wrong usage or input (one line that says what to do), 130 interrupted. Options that
are not given are left out, so that every default stands in one place, the function or the configuration that uses it.
Nothing heavy is imported above the commands' bodies: ``xal --help`` does not wait for torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from service.model.errors import InputError, XalError
from service.model.threads import wait_briefly
from training.offline_parts import cache_directory
from training.run_options import add_model_options, add_prefilter_options, add_run_options, take_trainer_options
from training.teacher_options import add_llm_options, judge_config, teacher_config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    wait_briefly()
    options = vars(_parser().parse_args(arguments))
    name, command = options.pop("command"), options.pop("function")
    try:
        command(**options)
    except InputError as error:
        return _failed(name, error, 2)
    except XalError as error:
        return _failed(name, error, 1)
    except OSError as error:
        path = error.filename2 or error.filename  # the second is where something was to be moved
        place = f"{path}: " if path else ""
        if path and isinstance(error, NotADirectoryError | FileExistsError | IsADirectoryError):
            return _failed(name, f"{place}{error.strerror or error}; give another path", 2)
        return _failed(name, f"{place}{error.strerror or error}; check the path, its permissions and free space", 1)
    except KeyboardInterrupt:
        return _failed(name, "stopped; what was finished is kept", 130)
    return 0


def _failed(command: str, message: object, code: int) -> int:
    print(f"xal {command}: {message}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as for any other wrong input; the usage of ``xal run`` alone would fill a screen."""
        self.exit(2, f"{self.prog}: {message}; `{self.prog} --help` lists what there is\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="xal", description="Explainable active learning (arXiv 2310.05502).")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, function: Callable[..., None], help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help, argument_default=argparse.SUPPRESS)
        command.set_defaults(function=function)
        return command

    _demo_options(add("demo", _demo, "the whole way on real data, offline, with embedded parts"))
    add_run_options(add("run", _run, "the active-learning loop, with labels that come from the data"))
    _llm_options(add("llm", _llm, "an LLM as the classifier: zero-shot, few-shot, and a model of its labels"))
    _backbone_options(add("backbone", _backbone, "the models that need no hub: list them, prepare one"))
    _score_options(add("score", _score, "score a pool file of any size with an exported model"))
    _export_options(add("export", _export, "make a model directory of a run's round"))
    _report_options(add("report", _report, "learning curves and tables of runs: PNG and one HTML page"))
    _serve_options(add("serve", _serve, "serve an exported model over HTTP"))
    _doctor_options(add("doctor", _doctor, "check the installation, a model, a teacher, a running service"))
    return parser


def _demo_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, help="where everything goes (default build/demo)")
    parser.add_argument("--live-teacher", action="store_true", help="explanations by a small LLM that is served here")


def _demo(**options: Any) -> None:
    quiet_libraries()
    from training.demo import demo

    demo(cache=cache_directory(), **options)


def _run(**options: Any) -> None:
    quiet_libraries()
    from training.experiment import Grid, check_directory, check_prefilter, drop_shared_models
    from training.jobs import Job, check_at_once, run_jobs, run_loop
    from training.run_request import RunOptions
    from training.setup import check, check_settings

    trainer = take_trainer_options(options)
    if "train_on_explanations" in options:
        options["train_on_explanations"] = options["train_on_explanations"] == "yes"
    at_once = options.pop("jobs", None)
    check_at_once(at_once)
    judge, llm = judge_config(options), teacher_config(options)
    grid = Grid.of(options, trainer)
    common = RunOptions(**options, strategy=grid.strategies[0], llm=llm, judge=judge, trainer=trainer)
    cells, output = grid.cells(), common.output
    if grid.is_single:
        last = run_loop(cells[0].options(common, alone=True), cache_directory())
        print(f"next: xal report {output} --output DIR")
        if common.keep_models != "none":
            print(f"      xal export {output} --round {last['round']} --output DIR")
        return
    check_prefilter(grid, common)
    check_directory(output)
    jobs = [Job(cell.name, cell.options(common)) for cell in cells]
    for job in jobs:
        check(job.options)
    check_settings(jobs[0].options, cache=cache_directory())  # what all have in common is said once, and at once
    print(f"{len(jobs)} runs in {output}", flush=True)
    run_jobs(jobs, cache_directory(), at_once=at_once)
    if common.keep_models != "all":
        drop_shared_models(output)
    print(f"next: xal report {output} --output DIR")


def _llm_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--task", type=Path, required=True, help="task file (YAML)")
    add("--data", type=Path, required=True, help="JSONL, CSV or Parquet, as for xal run")
    add("--output", type=Path, required=True, help="folder for one run directory a setting, which xal report reads")
    add("--test", type=Path, help="a test set in a file of its own")
    add("--dev", type=Path, help="a development set in a file of its own")
    add("--settings", help="of zero-shot, few-shot, silver (default: zero-shot,few-shot,silver)")
    add("--shots", type=int, help="labeled texts in a few-shot prompt (default 8)")
    help = "as for xal run: shots are drawn of its first texts, whose labels all count (default 100, or a small pool)"
    add("--query-size", type=int, help=help)
    add("--initial-set", type=int, help="number of that first draw (default 0)")
    add("--silver", type=int, metavar="N", help="pool texts that the LLM labels for a model (default: all)")
    add("--seed", type=int, help="seed of the draws and of the training (default 0)")
    add_llm_options(parser.add_argument_group("the LLM"))
    add_model_options(parser.add_argument_group("the model that learns from its labels"))


def _llm(**options: Any) -> None:
    quiet_libraries()
    from training.llm.baselines import BaselineOptions, run_baselines
    from training.values import names

    trainer = take_trainer_options(options)
    if "settings" in options:
        options["settings"] = names(options["settings"])
    llm = teacher_config(options)
    baselines = BaselineOptions(**options, llm=llm, trainer=trainer)
    for result in run_baselines(baselines, cache=cache_directory(), note=lambda note: print(f"note: {note}")):
        print(result, flush=True)
    print(f"next: xal report {baselines.output} RUN_DIR ... --output DIR")


def _backbone_options(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="what there is, how large, and where it is kept")
    help = "fetch, convert and check it now, by SHA-256, so that a run needs no network; prints its directory"
    prepare = actions.add_parser("prepare", help=help, description=help)
    prepare.add_argument("name", metavar="NAME", help="of the list, or ENCODER+DECODER")


def _backbone(action: str, name: str = "") -> None:
    quiet_libraries()
    from training.backbones import listing, prepare

    print(listing(cache_directory()) if action == "list" else prepare(name, cache_directory()))


def _score_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", type=Path, required=True, help="model directory, as xal export makes it")
    add("--input", type=Path, required=True, help="pool: JSONL, CSV or Parquet with the task's fields")
    add("--output", type=Path, required=True, help="results: JSON lines, one for each text, in the input's order")
    add("--lambda", type=float, dest="lambda_", help="weight of the explanation score in Eq. 8 (default 0.5)")
    add(
        "--normalization",
        choices=("pool", "request"),
        dest="normalisation",
        help="sums of Eq. 8: the exported pool's (default) or this file's",
    )
    add_prefilter_options(parser)
    add("--query-size", type=int, help="texts that the prefilter is for, those to be labeled next (default 100)")
    add("--num-beams", type=int, help="beams for explanations (default: the model's)")
    add("--max-new-tokens", type=int, help="longest explanation to generate (default: the model's)")
    add("--device", help="auto, cpu, cuda, cuda:N or mps (default auto)")
    add("--dtype", help="auto, float32, bfloat16 or float16 (default auto: bfloat16 where the hardware has it)")


def _score(model: Path, input: Path, output: Path, device: str = "auto", dtype: str = "auto", **options: Any) -> None:
    quiet_libraries()
    from service.model.predictor import Predictor
    from training.offline_scoring import score_file
    from training.prefilter import Prefilter

    for name, least in (("lambda_", 0), ("num_beams", 1), ("max_new_tokens", 1), ("query_size", 1)):
        if name in options and not least <= options[name] < float("inf"):
            raise InputError(f"--{name.strip('_').replace('_', '-')}: expected at least {least}, found {options[name]}")
    prefilter = Prefilter.of(options.pop("prefilter", None), options.pop("prefilter_sample", None))
    if prefilter is None and "query_size" in options:
        raise InputError("--query-size is for a prefilter; give --prefilter R too, or leave it out: all are scored")
    predictor = Predictor.load(model, device=device, dtype=dtype)
    if not predictor.trained_on_explanations:
        print("note: this model never learned to explain; its explanations and their scores mean nothing")
    done = score_file(predictor, input, output, prefilter=prefilter, **options)
    errors = f", {done.errors} of them errors" if done.errors else ""
    how = f"normalized over the {done.normalisation}, {done.acquisition} acquisition"
    print(f"{output}: {done.rows} rows{errors}; {how}")
    if done.kept:
        print(f"prefilter: {done.kept}")


def _export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="run directory")
    parser.add_argument("--round", type=int, required=True, dest="number", help="a finished round, from 0")
    parser.add_argument("--output", type=Path, required=True, help="model directory to make")
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:N or mps (default auto)")


def _export(run: Path, number: int, output: Path, device: str = "auto") -> None:
    quiet_libraries()
    from training.export import export

    version = export(run, number, output, device=device)
    print(f"{output}: model version {version}\nnext: xal serve --model {output}")
    print(f"      xal score --model {output} --input FILE --output FILE.jsonl")


def _report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN_DIR", help="run directories of one task, or folders of them"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the PNG and the HTML page")


def _report(runs: list[Path], output: Path) -> None:
    from training.report import report

    print(report(runs, output))
    print(f"\nwritten to {output}")


def _serve_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, help="model directory, as xal export makes it")
    parser.add_argument("--port", type=int, help="(default 3000)")
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")


def _serve(model: Path, port: int = 3000, host: str = "127.0.0.1") -> None:
    from service.model.checkpoint import verify
    from training.serving import replace_with_service

    verify(model)  # a wrong directory is said here, in one line, not in a server's log
    replace_with_service(model, host, port, cache_directory())


def _doctor_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help="a model directory to check")
    parser.add_argument("--service", help="base URL of a running service to check")
    parser.add_argument("--teacher-url", help="base URL of an OpenAI-compatible API to check")


def _doctor(**options: Any) -> None:
    quiet_libraries()
    from training.doctor import doctor

    doctor(cache=cache_directory(), **options)


def quiet_libraries() -> None:
    """Keep loading bars, reports and retries of libraries out of the terminal; errors still come through."""
    from huggingface_hub.utils import logging as hub_logging
    from huggingface_hub.utils.tqdm import enable_progress_bars
    from transformers.utils import logging

    hub_logging.set_verbosity_error()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if sys.stderr.isatty():  # a download is worth a bar, which transformers has just switched off with its own
        enable_progress_bars()
