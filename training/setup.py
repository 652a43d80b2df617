"""From what a user asks for to a run that can start: files read and checked, names resolved, settings fixed."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from service.model.errors import InputError
from service.model.families import load_network
from service.model.hardware import choose_device
from service.model.scoring import LAMBDA
from service.model.task import Task
from training import backbones
from training.adaptation import RECIPE, Corpus, adaptation_config, adapted
from training.config import DataFile, RunConfig, Until
from training.dropout import check_dropout
from training.llm.judge import LLMJudge
from training.loop import Loop, check_output, has_begun
from training.pool import check_budget
from training.prefilter import Prefilter
from training.run_data import read_splits
from training.run_notes import coverage_notes, label_notes
from training.run_request import RunOptions
from training.splits import Splits
from training.strategies import STRATEGIES, QueryStrategy, query_strategy
from training.teacher import RecordedTeacher, Teacher
from training.teacher_llm import LLMTeacher
from training.tuning import tuned
from training.upper_bound import target


def prepare(options: RunOptions, *, cache: Path, progress: bool = True) -> tuple[Loop, list[str]]:
    """A Loop that is ready to run, and notes on what was decided for the user.

    Raises InputError for whatever is wrong with the files, the settings and the run directory, before anything is
    written but an adapted backbone and an upper bound, which the cache keeps.
    """
    settled = _settle(options, cache, progress)
    config, task, splits, strategy = settled.config, settled.task, settled.splits, settled.strategy
    teacher, backbone, notes = settled.teacher, settled.backbone, settled.notes
    encoder_is_apart = _check_loads(settled)
    if options.adapt and teacher is None and encoder_is_apart:
        notes.append("--adapt is left out: it trains the decoder alone, which a run from labels alone does not use")
    elif options.adapt:
        config = config.model_copy(update={"adaptation": _adaptation(options, config)})
    if options.until is not None:
        config = config.model_copy(update={"until": _begun_until(options.output, options.until)})
    check_output(options.output, config)  # not after an adaptation or an upper bound
    plain = backbone
    if config.adaptation is not None:
        backbone = adapted(
            backbone,
            splits.train,
            settled.corpus,
            task=task,
            config=adaptation_config(config.trainer),
            device=choose_device(options.device),
            cache=cache,
            progress=progress,
        )
    loop = Loop(
        config,
        task,
        splits,
        strategy,
        teacher,
        backbone.source,
        options.output,
        progress,
        shared=options.shared,
        judges=(("llm", partial(LLMJudge, task, options.judge, progress=progress)),) if options.judge else (),
    )
    if options.until is not None and config.until is None:
        # An adaptation leaves an encoder that is apart as it was, and a model from labels alone reads nothing else.
        bounded = replace(loop, source=plain.source) if encoder_is_apart else loop
        until, found = target(bounded, options.until, cache)
        notes += found
        loop = replace(loop, config=config.model_copy(update={"until": until}))
    return loop, notes


def _check_loads(settled: _Settled) -> bool:
    """Load the model once and let it go, so that one that does not load, fit the task or have so many layers is found
    before a teacher is paid. Returns whether its encoder is apart from its decoder."""
    trainer = settled.config.trainer
    with torch.random.fork_rng(devices=[]):
        network, _ = load_network(settled.backbone.source, settled.task, trainer.pooling, trainer.conditioning)
        with tuned(network, trainer.decoder_tuning):
            pass
        if "dropout_probabilities" in settled.strategy.needs:
            check_dropout(network.encoder)
        return network.encoder_is_apart


def check_settings(options: RunOptions, *, cache: Path) -> None:
    """Raise InputError, as ``prepare`` does, for files and settings that no run can start with; loads no model."""
    _settle(options, cache, progress=False)


@dataclass(frozen=True)
class _Settled:
    """All that is known of a run before its model is loaded; notes: on what was decided for the user."""

    config: RunConfig
    task: Task
    splits: Splits
    strategy: QueryStrategy
    teacher: Teacher | None
    backbone: backbones.Backbone
    corpus: Corpus | None
    notes: list[str]


def _settle(options: RunOptions, cache: Path, progress: bool) -> _Settled:
    task, strategy, teacher, notes = check(options, progress=progress)
    data = DataFile.of(options.data)
    test, dev = (DataFile.of(path) if path else None for path in (options.test, options.dev))
    splits = _splits(options, task, (data, test, dev))
    notes += splits.notes + label_notes(splits, task)
    if not options.only_explained:
        notes += coverage_notes(splits, teacher)
    options = options.within(len(splits.train))
    corpus = _corpus(options, [file for file in (data, test, dev) if file is not None])
    backbone = backbones.resolve(options.model, cache)
    config = _config(options, task, (data, test, dev), backbone, strategy, teacher)
    check_budget(len(splits.train), config.query_size, config.budget)  # not after an adaptation or an upper bound
    return _Settled(config, task, splits, strategy, teacher, backbone, corpus, notes)


def check(options: RunOptions, *, progress: bool = True) -> tuple[Task, QueryStrategy, Teacher | None, list[str]]:
    """What can be known of a run before its data and model are read: task, strategy, teacher, and notes for the user.

    Raises InputError for whatever is wrong with these.
    """
    choose_device(options.device)
    task = Task.from_yaml(options.task)
    strategy = _strategy(options)
    if prefilter := Prefilter.of(options.prefilter, options.prefilter_sample):
        prefilter.check(strategy)
    if options.judge is not None and not options.measure_explanations:
        raise InputError("--judge-url names who judges explanations of held-out texts; give --measure-explanations N")
    return task, strategy, *_teacher(options, strategy, task, progress)


def _splits(options: RunOptions, task: Task, files: tuple[DataFile, DataFile | None, DataFile | None]) -> Splits:
    """Pool, dev and test; the same for every strategy, so that all share one pool."""
    if options.only_explained and options.explanations is None:
        raise InputError("--only-explained needs --explanations FILE, which says what is explained")
    if options.measure_explanations < 0:
        raise InputError(f"--measure-explanations: expected at least 0 texts, found {options.measure_explanations}")
    return read_splits(
        task,
        *files,
        covered=RecordedTeacher(options.explanations, task).covered if options.explanations else None,
        only_covered=options.only_explained,
        explained=options.measure_explanations,
    )


def _config(
    options: RunOptions,
    task: Task,
    files: tuple[DataFile, DataFile | None, DataFile | None],
    backbone: backbones.Backbone,
    strategy: QueryStrategy,
    teacher: Teacher | None,
) -> RunConfig:
    longest, llm = options.max_new_tokens, None
    if options.llm is not None and teacher is not None:
        llm = options.llm.model_dump(include={"base_url", "temperature", "max_completion_tokens"})
    settings = {
        "strategy": options.strategy,
        "task": task.to_dict(),
        "data": files[0],
        "test_data": files[1],
        "dev_data": files[2],
        "only_explained": options.only_explained,
        "budget": options.budget,
        "query_size": options.query_size,
        "initial": options.initial,
        "initial_set": options.initial_set,
        "seed": options.seed,
        "lambda": options.lambda_,
        "prefilter": Prefilter.of(options.prefilter, options.prefilter_sample),
        "measure_explanations": options.measure_explanations,
        "judge": options.judge.model if options.judge else None,
        "model": backbone.name,
        "teacher": teacher.name if teacher else None,
        "explanations": DataFile.of(options.explanations) if options.explanations else None,
        "llm": llm,
        "trainer": {**backbone.training, **options.trainer, **({} if strategy.ranks else {"lambda2": 0.0})},
        "num_beams": options.num_beams,
        "max_new_tokens": task.max_explanation_tokens if longest is None else longest,
        "warm_start": options.warm_start,
        "keep_models": options.keep_models,
        "device": options.device,
    }
    try:
        return RunConfig.model_validate(settings)
    except ValidationError as error:
        raise InputError(_first_problem(error)) from None


def _begun_until(output: Path, share: float) -> Until | None:
    """Where the run that was begun in a directory stops, None where none was: its upper bound, measured again
    elsewhere, might be a little different."""
    if not has_begun(output):
        return None
    until = RunConfig.load(output).until
    if until is None:
        raise InputError(f"{output} holds a run that was begun without --until; leave it out, or give another --output")
    return until.model_copy(update={"share": share})


def _adaptation(options: RunOptions, config: RunConfig) -> dict[str, Any]:
    """What config.yaml says of the adaptation."""
    corpus, corpus_task = options.adapt_corpus, options.adapt_corpus_task
    return {
        **adaptation_config(config.trainer).model_dump(),
        "recipe": RECIPE,
        "corpus": DataFile.of(corpus).model_dump() if corpus else None,
        "corpus_task": Task.from_yaml(corpus_task).to_dict() if corpus_task else None,
    }


def _corpus(options: RunOptions, files: Sequence[DataFile]) -> Corpus | None:
    """The explanations of another task that the backbone is adapted to, None where only the pool's texts are.

    files: the run's own, whose labels cost something or are measured on.
    """
    if (options.adapt_corpus is None) != (options.adapt_corpus_task is None):
        raise InputError("--adapt-corpus FILE and --adapt-corpus-task TASK.yaml go together: the file and its task")
    if options.adapt_corpus is None or options.adapt_corpus_task is None:
        return None
    if not options.adapt:
        raise InputError("--adapt-corpus is for a run that adapts its backbone; give --adapt too")
    if DataFile.of(options.adapt_corpus).sha256 in {file.sha256 for file in files}:
        raise InputError(
            f"--adapt-corpus {options.adapt_corpus} is the run's own data, whose labels the run has yet to ask for; "
            "give explanations of another task"
        )
    return Corpus.read(options.adapt_corpus, options.adapt_corpus_task)


def _strategy(options: RunOptions) -> QueryStrategy:
    if options.lambda_ == LAMBDA:
        return query_strategy(options.strategy)
    if "lambda_" not in inspect.signature(STRATEGIES.get(options.strategy, query_strategy)).parameters:
        raise InputError(f"--lambda weighs the terms of Eq. 8, which the strategy {options.strategy} does not use")
    return query_strategy(options.strategy, lambda_=options.lambda_)


def _teacher(
    options: RunOptions, strategy: QueryStrategy, task: Task, progress: bool
) -> tuple[Teacher | None, list[str]]:
    """The teacher that this run asks, None where its model learns from labels alone; and a note on what is
    then left out."""
    if options.explanations is not None and options.llm is not None:
        raise InputError("two teachers are named; give --explanations FILE or --teacher-url URL, not both")
    named = options.explanations is not None or options.llm is not None
    wanted = strategy.uses_explanations if options.train_on_explanations is None else options.train_on_explanations
    if "explanation_scores" in strategy.needs and not wanted:
        raise InputError(f"the strategy {strategy.name} scores explanations, so its model has to train on them")
    if wanted and not named:
        raise InputError(
            f"the strategy {strategy.name} trains on explanations; name a teacher: --explanations FILE for recorded "
            "ones, or --teacher-url URL --teacher-model NAME for an LLM"
        )
    if not wanted:
        idle = ["the teacher is not asked"] if named else []
        idle += ["no explanations are measured"] if options.measure_explanations else []
        reason = f"the strategy {strategy.name} trains on labels alone, as in the paper; {' and '.join(idle)}"
        return None, [f"{reason} (--train-on-explanations yes changes that)"] if idle else []
    if options.llm is not None:
        if not any(f"{{{name}}}" in task.prompt for name in task.fields):
            raise InputError(f"{options.task}: the prompt names no field, so the LLM would never see the text")
        return LLMTeacher(task, options.llm, progress=progress), []
    return RecordedTeacher(options.explanations or "", task), []


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].lower()}, found {problem['input']!r}"
