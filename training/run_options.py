"""The options of ``xal run``, and those that other commands share with it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from training.teacher_options import add_judge_options, add_teacher_options

# Flags that are fields of TrainerConfig: those of every training, and those of one that learns explanations.
LEARNING_FLAGS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "epochs": (int, "passes over the labeled texts each round"),
    "learning_rate": (float, "of the encoder, and of all else unless set"),
    "head_learning_rate": (float, "of the classification head"),
    "batch_size": (int, "texts per optimizer step"),
    "micro_batch_size": (int, "texts in memory at a time"),
    "warmup": (float, "share of the steps in which the learning rate rises"),
    "pooling": (str, "what h_0 is: cls or mean"),
    "precision": (str, "what the model computes in: auto (bfloat16 where the hardware has it), float32 or bfloat16"),
}
EXPLAINING_FLAGS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "explanation_epochs": (int, "the last so many epochs learn explanations too"),
    "decoder_learning_rate": (float, "of the decoder"),
    "lambda1": (str, "weight of the generation loss, Eq. 7, or several"),
    "lambda2": (str, "weight of the ranking loss, Eq. 7, or several"),
    "conditioning": (str, "what an explanation is given beside the text: none, or label"),
    "decoder_tuning": (str, "what of the decoder is trained: full, top-K layers, or lora-R, updates of rank R"),
}


def add_run_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--task", type=Path, required=True, help="task file (YAML)")
    add("--data", type=Path, required=True, help="JSONL, CSV or Parquet; a column split says train, dev or test")
    add("--output", type=Path, required=True, help="run directory; a run that is there goes on")
    add("--strategy", required=True, help="query strategy, or several: xal,entropy,random")
    add("--test", type=Path, help="a test set in a file of its own")
    add("--dev", type=Path, help="a development set in a file of its own")
    add("--budget", type=int, help="labels in all (default 500; with --until the whole pool)")
    add("--query-size", type=int, help="labels a round (default 100; with --until 50)")
    help = "stop at this share of the upper bound, the macro-F1 of training on the whole pool, measured once: 0.9"
    add("--until", type=float, metavar="SHARE", help=help)
    add(
        "--initial", choices=("random", "diverse"), help="the first texts: at random (default), or spread over the pool"
    )
    add("--initial-set", help="number of the first draw, or several: 0-2 (default 0)")
    add("--seed", help="seed of training and selection, or several: 0-2 (default 0)")
    help = "weight of the explanation score in Eq. 8, or several: 0.2,0.5 (default 0.5)"
    add("--lambda", dest="lambda_", help=help)
    add_prefilter_options(parser)
    help = "whose model to keep: every round's, the last, or none once the run is finished (default all)"
    add("--keep-models", choices=("all", "last", "none"), help=help)
    add("--jobs", type=int, help="runs at a time, of several (default: one for each GPU, or one)")
    add_teacher_options(parser.add_argument_group("explanations"))
    _judge_options(parser.add_argument_group("how good the explanations are"))
    _training_options(parser.add_argument_group("model and training"))


def _judge_options(group: argparse._ArgumentGroup) -> None:
    help = "measure ranking and consistency each round, on so many held-out texts that the teacher explains (default 0)"
    group.add_argument("--measure-explanations", type=int, metavar="N", help=help)
    add_judge_options(group)


def add_prefilter_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    help = "explain only the R times QUERY_SIZE texts of highest entropy, and say what this loses (default: all texts)"
    add("--prefilter", type=float, metavar="R", help=help)
    help = "other texts to explain too, from which the loss is estimated (default 100)"
    add("--prefilter-sample", type=int, metavar="N", help=help)


def _training_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add_model_options(group)
    add("--adapt", action="store_true", help="first adapt the model to the pool's texts, once for all its runs")
    add("--adapt-corpus", type=Path, metavar="FILE", help="and to this file of texts, labels and explanations")
    add("--adapt-corpus-task", type=Path, metavar="TASK", help="the task file of --adapt-corpus")
    add("--warm-start", action="store_true", help="go on from the last round's weights instead of the pre-trained ones")
    add("--num-beams", type=int, help="beams for explanations (default 5)")
    add("--max-new-tokens", type=int, help="longest explanation to generate (default: the task's)")
    _add_flags(group, EXPLAINING_FLAGS)


def add_model_options(group: argparse._ArgumentGroup) -> None:
    """Which model learns labels, and how."""
    add = group.add_argument
    add(
        "--model",
        help="hub id (google/flan-t5-large), directory, ENCODER+DECODER of either, or a name of xal backbone list, "
        "which needs no hub (default minilm-smollm2)",
    )
    add("--device", help="auto, cpu, cuda, cuda:N or mps (default auto)")
    _add_flags(group, LEARNING_FLAGS)


def _add_flags(group: argparse._ArgumentGroup, flags: Mapping[str, tuple[Callable[[str], Any], str]]) -> None:
    for name, (kind, help) in flags.items():
        group.add_argument(
            f"--{name.replace('_', '-')}", type=kind, help=f"{help} (default: the model's own or the paper's)"
        )


def take_trainer_options(options: dict[str, Any]) -> dict[str, Any]:
    """Take the fields of TrainerConfig out of a command's options."""
    return {name: options.pop(name) for name in (*LEARNING_FLAGS, *EXPLAINING_FLAGS) if name in options}
