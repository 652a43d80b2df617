"""Models and texts to measure speed with: shapes of known models, texts of real reviews, explanations of real lengths.

The weights are random. So that the searches end as with a trained model, each text's explanation is made to end at the
length that the teacher's explanation of that text has: for every contestant alike.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessor,
    T5Config,
    T5ForConditionalGeneration,
)

from service.model import explainer
from service.model.checkpoint import Checkpoint, ModelSettings
from service.model.classification import Item
from service.model.composed import ComposedModel, composed
from service.model.decoding import NEVER, Decoding, Search
from service.model.encoder_decoder import encoder_decoder
from service.model.encoding import TextEncoder
from service.model.network import Network
from service.model.predictor import Predictor
from service.model.task import Task
from training.offline_parts import cache_directory, fetch
from training.product_reviews import EXPLANATIONS, SENTENCES, product_reviews

TASK = EXPLANATIONS.with_name("task.yaml")
DECODING = Decoding(num_beams=5, max_new_tokens=60)  # the paper's


@dataclass(frozen=True)
class Shape:
    """A model to measure. items: texts of the pool. explanations: the teacher's of each, the gold label's first, in
    tokens."""

    name: str
    predictor: Predictor
    items: list[Item]
    labels: list[int]
    explanations: list[list[tuple[int, ...]]]

    @property
    def lengths(self) -> list[int]:
        """How long each text's explanation is, in tokens, its end included."""
        return [min(len(own[0]), DECODING.max_new_tokens) for own in self.explanations]

    @property
    def is_t5(self) -> bool:
        return isinstance(self.predictor.network.backbone, T5ForConditionalGeneration)

    def first(self, texts: int) -> Shape:
        """The same with fewer texts."""
        return replace(
            self, items=self.items[:texts], labels=self.labels[:texts], explanations=self.explanations[:texts]
        )

    def copy_in(self, dtype: torch.dtype) -> Shape:
        """The same with weights of its own in another number format; the head stays float32."""
        predictor = copy.copy(self.predictor)
        predictor.network = copy.deepcopy(self.predictor.network)
        predictor.network.backbone.to(dtype)
        return replace(self, predictor=predictor)


def flan_t5_small(texts: int, device: torch.device) -> Shape:
    """60 million parameters: 8 layers of width 512 on each side, 6 heads, 32,128 tokens."""
    return _t5("flan-t5-small's shape", texts, device, d_model=512, d_ff=1024, num_layers=8, num_heads=6)


def flan_t5_large(texts: int, device: torch.device) -> Shape:
    """783 million parameters: 24 layers of width 1024 on each side, 16 heads, 32,128 tokens."""
    return _t5("flan-t5-large's shape", texts, device, d_model=1024, d_ff=2816, num_layers=24, num_heads=16)


def default_backbone(texts: int, device: torch.device) -> Shape:
    """all-MiniLM-L6-v2 (23 million parameters) beside SmolLM2-135M, which is given the label."""
    task, tokenizer = Task.from_yaml(TASK), _tokenizer()
    encoder = BertConfig(
        vocab_size=len(tokenizer), hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    decoder = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rope_theta=100000.0,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = ComposedModel.of(BertModel(encoder), LlamaForCausalLM(decoder), "[CLS]")
        texts_encoder = TextEncoder(tokenizer, task, _tokenizer())
        network = composed(backbone, texts_encoder, "mean", "label")
    return _shape("minilm-smollm2's shape", network, texts_encoder, task, texts, device)


def _t5(name: str, texts: int, device: torch.device, **sizes: int) -> Shape:
    config = T5Config(
        vocab_size=32128,
        d_kv=64,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
        **sizes,
    )
    task = Task.from_yaml(TASK)
    encoder = TextEncoder(_tokenizer(), task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = T5ForConditionalGeneration(config)
        model.lm_head.weight.data *= 0.1  # a trained model's logits differ by tens; these, by hundreds
        network = encoder_decoder(model, encoder, "cls", "none")
    return _shape(name, network, encoder, task, texts, device)


def _tokenizer() -> Any:
    """MiniLM's stands in for all tokenizers: its tokens are about as long as theirs."""
    return AutoTokenizer.from_pretrained(str(fetch("all-minilm-l6-v2", cache_directory())))


def _shape(name: str, network: Network, encoder: TextEncoder, task: Task, texts: int, device: torch.device) -> Shape:
    settings = ModelSettings(task, network.pooling, DECODING, None, True, network.conditioning)
    rows = product_reviews(fetch("rated-sentences", cache_directory()) / SENTENCES, EXPLANATIONS)
    pool = [row for row in rows if row["split"] == "train"][:texts]
    written = _written(EXPLANATIONS)
    explanations = []
    for row in pool:
        others = [label for label in task.label_ids if label != row["label"]]
        explanations.append(
            [encoder.encode_explanation(written[row["id"]][label]) for label in (row["label"], *others)]
        )
    return Shape(
        name,
        Predictor(Checkpoint(network.eval(), encoder, settings, {"model_version": "random"}), device),
        [Item({task.fields[0]: row["text"]}) for row in pool],
        [task.label_ids.index(row["label"]) for row in pool],
        explanations,
    )


def _written(path: Path) -> dict[str, dict[str, str]]:
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {row["id"]: row["explanations"] for row in rows}


@contextmanager
def forced_ends(shape: Shape) -> Iterator[None]:
    """Inside, our search ends every explanation at its text's length."""
    names = vars(explainer)
    ordinary, names["Search"] = names["Search"], partial(EndingSearch, lengths=shape.lengths)
    try:
        yield
    finally:
        names["Search"] = ordinary


class EndingSearch(Search):
    """Our search, where every explanation ends at its text's length. lengths: by the text's number."""

    def __init__(self, *settings: Any, lengths: list[int]) -> None:
        super().__init__(*settings)
        self.lengths = lengths

    def _choose(self, rows: Tensor, logits: Tensor, scores: Tensor) -> Tensor:
        wanted = torch.tensor([self.lengths[self.texts[row] or 0] for row in rows.tolist()], device=logits.device)
        ends = (self.steps[rows] + 1 >= wanted).unsqueeze(1).expand(-1, logits.shape[1])
        return super()._choose(rows, ending(logits, ends, self.network.eos_id), scores)


class Ending(LogitsProcessor):
    """The same for ``generate``. lengths: of the texts of the batch. before: tokens that the decoder begins with."""

    def __init__(self, lengths: list[int], num_beams: int, eos_id: int, before: int) -> None:
        self.lengths = torch.tensor(lengths).repeat_interleave(num_beams)
        self.eos_id, self.before = eos_id, before

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        ends = self.lengths.to(scores.device) <= input_ids.shape[1] - self.before + 1
        return ending(scores, ends, self.eos_id)


def ending(logits: Tensor, ends: Tensor, eos_id: int) -> Tensor:
    """Logits of which the end is certain where it is due and impossible elsewhere. (..., vocab); ends: (...) bool."""
    logits[..., eos_id] = NEVER
    logits[ends] = NEVER
    logits[..., eos_id] = logits[..., eos_id].masked_fill(ends, 0.0)
    return logits
