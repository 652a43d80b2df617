"""What ours is measured against: the procedure of the authors' code, and transformers used well.

The former is rebuilt from its description: all inputs padded to 128 tokens, in the order of the pool, encoded once for
the head and once more by ``generate``, twelve at a time.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList
from transformers.modeling_outputs import BaseModelOutput

from benchmarks.shapes import DECODING, Ending, Shape
from benchmarks.side_by_side import quickest
from service.model.composed import Composed
from service.model.decoding import Decoding
from service.model.network import Memory, Network
from service.model.scoring import entropy

AUTHORS_LENGTH, AUTHORS_BATCH = 128, 12
SEARCH: dict[str, Any] = {
    "early_stopping": True,
    "length_penalty": 1.0,
    "do_sample": False,
    "return_dict_in_generate": True,
    "output_scores": True,
}

Scores = list[tuple[float, float]]  # (p, c) of every text


@torch.inference_mode()
def authors_selection(shape: Shape) -> Scores:
    """Explanation score and entropy of every text, as the authors' code finds them."""
    network, encoder = shape.predictor.network, shape.predictor.encoder
    scores: Scores = []
    for first in range(0, len(shape.items), AUTHORS_BATCH):
        rows = range(first, min(first + AUTHORS_BATCH, len(shape.items)))
        texts = [encoder.encode_fields(shape.items[row].fields) for row in rows]
        ids = torch.full((len(texts), AUTHORS_LENGTH), encoder.pad_id)
        mask = torch.zeros_like(ids)
        for row, text in enumerate(texts):
            ids[row, : len(text.ids)], mask[row, : len(text.ids)] = torch.tensor(text.ids), 1
        ids, mask = ids.to(network.device), mask.to(network.device)
        states = network.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        c = _entropies(network.head(states[:, 0].float()))
        lengths = [shape.lengths[row] for row in rows]
        output = network.backbone.generate(
            input_ids=ids,
            attention_mask=mask,
            logits_processor=LogitsProcessorList([Ending(lengths, DECODING.num_beams, network.eos_id, 1)]),
            num_beams=DECODING.num_beams,
            max_new_tokens=DECODING.max_new_tokens,
            **SEARCH,
        )
        scores += zip(output.sequences_scores.tolist(), c, strict=True)
    return scores


@torch.inference_mode()
def transformers_selection(shape: Shape, batch: int) -> Scores:
    """The same by transformers used well: sorted by length, padded to the longest of a batch, a text encoded once."""
    network, encoder = shape.predictor.network, shape.predictor.encoder
    texts = [encoder.encode_fields(item.fields) for item in shape.items]
    order = sorted(range(len(texts)), key=lambda row: -len(texts[row].ids))
    found: dict[int, tuple[float, float]] = {}
    for first in range(0, len(order), batch):
        rows = order[first : first + batch]
        memory = network.encode(encoder.inputs([texts[row] for row in rows], network.device))
        logits = network.classify(memory)
        written = generated(network, memory, logits.argmax(dim=1), DECODING, [shape.lengths[row] for row in rows])
        p = [score for _, score in written]
        found |= dict(zip(rows, zip(p, _entropies(logits), strict=True), strict=True))
    return [found[row] for row in range(len(texts))]


class TranslatorSelection:
    """The same by CTranslate2, in the quickest number format that it has here; the head is ours.

    It cannot force the end of each text's explanation by itself: texts of about the same length share a call.
    """

    @classmethod
    def of(cls, shape: Shape) -> TranslatorSelection | None:
        """None where CTranslate2 is not installed."""
        try:
            import ctranslate2  # noqa: F401
        except ImportError:
            return None
        return cls(shape)

    def __init__(self, shape: Shape) -> None:
        from ctranslate2 import Translator, get_supported_compute_types
        from ctranslate2.converters import TransformersConverter

        device = shape.predictor.device.type
        tokenizer = shape.predictor.encoder.tokenizer
        with tempfile.TemporaryDirectory() as directory:
            shape.predictor.network.backbone.save_pretrained(directory)
            tokenizer.save_pretrained(directory)
            converted = Path(TransformersConverter(directory).convert(str(Path(directory) / "converted")))
            settings = json.loads((converted / "config.json").read_text())
            # What the borrowed tokenizer does not name by T5's names.
            settings |= {"eos_token": tokenizer.sep_token, "bos_token": tokenizer.cls_token, "layer_norm_epsilon": 1e-6}
            (converted / "config.json").write_text(json.dumps(settings))
            translators = {
                kind: Translator(
                    str(converted), device=device, compute_type=kind, intra_threads=torch.get_num_threads()
                )
                for kind in sorted(get_supported_compute_types(device))
            }
        part = shape.first(32)
        best = quickest({kind: partial(_translate, translator, part) for kind, translator in translators.items()})
        self._translator = translators[best]

    def __call__(self, shape: Shape) -> None:
        shape.predictor.predict(shape.items)
        _translate(self._translator, shape)


def _translate(translator: Any, shape: Shape) -> None:
    encoder = shape.predictor.encoder
    groups: dict[int, list[list[str]]] = {}
    for item, length in zip(shape.items, shape.lengths, strict=True):
        tokens = encoder.tokenizer.convert_ids_to_tokens(encoder.encode_fields(item.fields).ids)
        groups.setdefault(round(length / 4) * 4, []).append(tokens)
    for length, texts in groups.items():
        translator.translate_batch(
            texts,
            beam_size=DECODING.num_beams,
            min_decoding_length=length - 1,
            max_decoding_length=length - 1,
            return_scores=True,
            max_batch_size=32,
        )


def generated(
    network: Network, memory: Memory, labels: Tensor, decoding: Decoding, lengths: Sequence[int] | None = None
) -> list[tuple[list[int], float]]:
    """Tokens of each text's explanation as ``generate`` finds it, and what it takes for its score.

    labels: (batch,), those that explanations are given. lengths: where each explanation is made to end, if anywhere.
    """
    found: dict[int, tuple[list[int], float]] = {}
    settings: dict[str, Any] = {"num_beams": decoding.num_beams, "max_new_tokens": decoding.max_new_tokens, **SEARCH}
    cues = network.cues_of(labels, len(labels))
    for cue in dict.fromkeys(cues):  # one at a time: the last token must be a real one
        rows = [row for row, own in enumerate(cues) if own == cue]
        own, read = memory.select(torch.tensor(rows, device=network.device)), torch.tensor([cue] * len(rows))
        read = read.to(network.device)
        before = 0 if isinstance(network, Composed) else len(cue)
        if lengths is not None:
            ending = Ending([lengths[row] for row in rows], decoding.num_beams, network.eos_id, before)
            settings["logits_processor"] = LogitsProcessorList([ending])
        if isinstance(network, Composed):
            prefix, mask = network._prefix(own)  # type: ignore[arg-type]
            output = network.decoder.generate(
                inputs_embeds=torch.cat([prefix, network.decoder.get_input_embeddings()(read)], dim=1),
                attention_mask=torch.cat([mask, torch.ones_like(read, dtype=torch.bool)], dim=1).long(),
                **settings,
            )
        else:
            output = network.backbone.generate(
                encoder_outputs=BaseModelOutput(last_hidden_state=own.states),
                attention_mask=own.mask.long(),
                decoder_input_ids=read,
                **settings,
            )
        tokens = [_up_to(sequence[before:], network.eos_id) for sequence in output.sequences.tolist()]
        found |= dict(zip(rows, zip(tokens, output.sequences_scores.tolist(), strict=True), strict=True))
    return [found[row] for row in range(len(cues))]


def _up_to(tokens: list[int], eos_id: int) -> list[int]:
    return tokens[: tokens.index(eos_id) + 1] if eos_id in tokens else tokens


def _entropies(logits: Tensor) -> list[float]:
    return list(entropy(torch.softmax(logits.double(), dim=-1).cpu().numpy()).tolist())
