"""Adaptation before round 0: the decoder, and what connects it to an encoder, trained on texts that cost no label.

Two lessons, in one shuffled pass. *Denoising*: the unlabeled pool's texts are written down whole from what the encoder
makes of them, while the decoder sees them with words left out. *Explaining*: recorded explanations of another task are
learned as a round learns them (Eq. 4 and 5). An encoder beside the decoder stays as it is. The result is a backbone
directory, made once for a pool and used by all rounds, strategies and seeds; no label of the pool, of dev or of test is
seen.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup

from service.model.encoder_decoder import EncoderDecoder
from service.model.encoding import EncodedText, TextEncoder
from service.model.errors import InputError, XalError
from service.model.families import family_of, load_network
from service.model.network import Conditioning, Network
from service.model.scoring import explanation_score
from service.model.task import Task
from training.backbones import Backbone, identity
from training.data import Example, read_examples
from training.losses import generation_loss, ranking_loss
from training.sealed import sealed
from training.teacher import RecordedTeacher
from training.trainer import Precision, TrainerConfig, precision
from training.tuning import PATTERN, tuned

RECIPE = 1  # raise it when the lessons change, so that a directory made by the old ones is not used again
DENOISING_CUE = "\nWhole text:\n"
REPORT = "adaptation.json"


class AdaptationConfig(BaseModel):
    """How a backbone is adapted.

    epochs: passes over both lessons. learning_rate: of all that is trained. batch_size: texts per step. left_out: share
    of a text's words that the denoising decoder does not see, 0 to 1. texts, explanations: at most so many of each
    lesson, drawn at random. ranking: weight of Eq. 5 beside Eq. 4. conditioning, decoder_tuning, precision: see
    TrainerConfig.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=5e-4, gt=0)
    batch_size: int = Field(default=4, ge=1)
    left_out: float = Field(default=0.5, ge=0, le=1)
    texts: int = Field(default=1000, ge=0)
    explanations: int = Field(default=500, ge=0)
    conditioning: Conditioning = "none"
    decoder_tuning: str = Field(default="full", pattern=PATTERN)
    ranking: float = Field(default=1.0, ge=0)
    precision: Precision = "auto"
    seed: int = Field(default=0, ge=0)


def adaptation_config(trainer: TrainerConfig) -> AdaptationConfig:
    """Adaptation as the rounds after it will train: the same parts of the decoder, as fast, given the same."""
    return AdaptationConfig(
        learning_rate=trainer.decoder_learning_rate or trainer.learning_rate,
        conditioning=trainer.conditioning,
        decoder_tuning=trainer.decoder_tuning,
        precision=trainer.precision,
    )


@dataclass(frozen=True)
class Corpus:
    """Recorded explanations of a task, one for every candidate label of each text."""

    task: Task
    examples: Sequence[Example]
    explanations: Mapping[str, Mapping[str, str]]

    @classmethod
    def read(cls, path: Path, task_file: Path) -> Corpus:
        """Rows of a file with fields, label and ``explanations``; of a file with splits the rows of ``train``.

        Raises InputError as read_examples and RecordedTeacher do, and where no row has all explanations.
        """
        task = Task.from_yaml(task_file)
        teacher = RecordedTeacher(path, task)
        rows = read_examples(path, task, require_labels=True)
        usable = [row for row in rows if row.split in (None, "train") and row.id in teacher.covered]
        if not usable:
            raise InputError(f"{path}: no row (of split train, if it has splits) explains every label of {task.name}")
        return cls(task, usable, teacher.explain({row.id: row.fields for row in usable}).explanations)


def adapted(
    backbone: Backbone,
    pool: Sequence[Example],
    corpus: Corpus | None,
    *,
    task: Task,
    config: AdaptationConfig,
    device: torch.device,
    cache: Path,
    progress: bool = True,
) -> Backbone:
    """The backbone adapted to a pool; made at the first call, read from the cache at every other.

    Raises InputError for a backbone that does not load, XalError where the loss stops being a number.
    """
    content = [RECIPE, identity(backbone.source, cache), _identity(task, pool), config.model_dump()]
    if corpus is not None:  # its labels say which explanation is the reasonable one
        labels = [example.label for example in corpus.examples]
        content += [_identity(corpus.task, corpus.examples), labels, corpus.explanations]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
    directory = cache / "adapted" / f"{Path(backbone.source).name}-{digest}"
    sealed(directory, lambda new: _adapt(backbone.source, pool, corpus, task, config, device, new, progress))
    return replace(backbone, source=str(directory))


@dataclass(frozen=True)
class _Item:
    """One text to write behind what the network reads. explanations: the one to write first, then worse ones."""

    text: EncodedText
    explanations: Sequence[tuple[int, ...]]
    labels: Sequence[int]


@dataclass(frozen=True)
class _Lesson:
    """Items of one task and the network that reads its cues; lessons of one backbone share all weights."""

    network: Network
    encoder: TextEncoder
    items: Sequence[_Item]

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[list[_Item]]:
        order = rng.permutation(len(self.items))
        for first in range(0, len(order), size):
            yield [self.items[index] for index in order[first : first + size]]


def _adapt(
    source: str,
    pool: Sequence[Example],
    corpus: Corpus | None,
    task: Task,
    config: AdaptationConfig,
    device: torch.device,
    directory: Path,
    progress: bool,
) -> None:
    begin = time.perf_counter()
    rng = np.random.default_rng(config.seed)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(config.seed)
        network, encoder = load_network(source, task, "mean")
        network.to(device).train()
        lessons = [_denoising(network, encoder, _drawn(pool, config.texts, rng), config, rng)]
        if corpus is not None:
            lessons.append(_explaining(network, encoder, corpus, config, rng))
        with tuned(network, config.decoder_tuning):
            if network.encoder_is_apart:
                network.encoder.requires_grad_(False)
            losses = _optimise(network, lessons, config, rng, progress)
    network.cpu().backbone.save_pretrained(directory)
    encoder.save(directory)
    ends = max(1, len(losses) // 5)
    report = {
        "texts": len(lessons[0].items),
        "explanations": len(lessons[1].items) if corpus is not None else 0,
        "first_loss": float(np.mean(losses[:ends])),
        "last_loss": float(np.mean(losses[-ends:])),
        "seconds": round(time.perf_counter() - begin, 1),
    }
    (directory / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _drawn(examples: Sequence[Example], size: int, rng: np.random.Generator) -> list[Example]:
    return [examples[index] for index in rng.permutation(len(examples))[:size]]


def _denoising(
    network: Network, encoder: TextEncoder, texts: Sequence[Example], config: AdaptationConfig, rng: np.random.Generator
) -> _Lesson:
    """The whole text behind the same text with words left out; an encoder beside the decoder sees all of it, unless it
    is all that the decoder sees."""
    items = []
    for example in texts:
        whole = encoder.encode_fields(example.fields)
        gaps = encoder.encode_fields(
            {name: _thinned(text, config.left_out, rng) for name, text in example.fields.items()}
        )
        read = replace(whole, decoder_ids=gaps.decoder_ids) if whole.decoder_ids else gaps
        items.append(_Item(read, [encoder.encode_explanation(encoder.task.render_input(example.fields))], [0]))
    cue = network.cues[0] if isinstance(network, EncoderDecoder) else encoder.decoder_tokens(DENOISING_CUE)
    return _Lesson(network.with_cues([cue]), encoder, items)


def _thinned(text: str, left_out: float, rng: np.random.Generator) -> str:
    """The text without a random share of its words, but for one at least."""
    words = text.split()
    kept = [word for word, chance in zip(words, rng.random(len(words)), strict=True) if chance >= left_out]
    return " ".join(kept or words[:1])


def _explaining(
    network: Network, encoder: TextEncoder, corpus: Corpus, config: AdaptationConfig, rng: np.random.Generator
) -> _Lesson:
    """Another task's explanations, the reasonable one first, given their labels where the run's will be."""
    own = TextEncoder(encoder.tokenizer, corpus.task, encoder.decoder_tokenizer)
    family = family_of(network.backbone.config)
    assert family is not None  # it was loaded as one
    reader = family.build(network.backbone, own, "mean", config.conditioning).to(network.device)
    items = []
    for example in _drawn(corpus.examples, config.explanations, rng):
        labels = sorted(corpus.task.label_ids, key=lambda label: label != example.label)
        texts = [own.encode_explanation(corpus.explanations[example.id][label]) for label in labels]
        items.append(_Item(own.encode_fields(example.fields), texts, [corpus.task.label_ids.index(x) for x in labels]))
    return _Lesson(reader, own, items)


def _optimise(
    network: Network, lessons: Sequence[_Lesson], config: AdaptationConfig, rng: np.random.Generator, progress: bool
) -> list[float]:
    """One pass after the other over the shuffled batches of all lessons; returns every step's loss."""
    parameters = [parameter for parameter in network.backbone.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)
    steps = config.epochs * sum(math.ceil(len(lesson.items) / config.batch_size) for lesson in lessons)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 20, steps)
    losses: list[float] = []
    with tqdm(total=steps, desc="adapt", unit="step", disable=None if progress else True) as bar:
        for _ in range(config.epochs):
            batches = [(lesson, batch) for lesson in lessons for batch in lesson.batches(config.batch_size, rng)]
            for index in rng.permutation(len(batches)):
                lesson, batch = batches[index]
                with precision(network.device, config.precision):
                    loss = _loss(lesson, batch, config.ranking)
                if not torch.isfinite(loss):
                    raise XalError(f"adaptation: the loss is {loss.item()}; lower the learning rate")
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad(set_to_none=True)
                losses.append(loss.item())
                bar.update()
    return losses


def _loss(lesson: _Lesson, batch: Sequence[_Item], ranking: float) -> Tensor:
    """Eq. 4, and Eq. 5 where there is something to rank. -> scalar."""
    network, device, k = lesson.network, lesson.network.device, len(batch[0].explanations)
    memory = network.encode(lesson.encoder.inputs([item.text for item in batch], device))
    flat = lesson.encoder.batch([tokens for item in batch for tokens in item.explanations], device)
    owners = torch.arange(len(batch), device=device).repeat_interleave(k)
    labels = torch.tensor([label for item in batch for label in item.labels])
    scores = explanation_score(network.explanation_log_probs(memory, flat, owners, labels), flat.mask).view(-1, k)
    return generation_loss(scores, network.conditioning) + ranking * ranking_loss(scores)


def _identity(task: Task, examples: Sequence[Example]) -> object:
    """What the lessons depend on: the task's templates and lengths, and the texts, by hash."""
    texts = json.dumps([[example.id, dict(example.fields)] for example in examples], ensure_ascii=False)
    return [task.to_dict(), hashlib.sha256(texts.encode()).hexdigest()]
