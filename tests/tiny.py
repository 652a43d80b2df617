"""Tiny real models with random weights, one of each kind of backbone, their tokenizers trained on real sentences."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertLMHeadModel,
    BertModel,
    EncoderDecoderModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    T5GemmaConfig,
    T5GemmaForConditionalGeneration,
    T5GemmaModuleConfig,
)

from service.model.composed import ComposedModel
from service.model.encoding import DECODER
from service.model.task import Task

ROOT = Path(__file__).parents[1]
EXPLANATIONS = ROOT / "examples" / "product-reviews" / "explanations.jsonl"
ENCODER_DECODERS = ("t5", "bart", "bert2bert", "t5gemma")
COMPOSED = ("composed-llama", "composed-gpt2")
FAMILIES = (*ENCODER_DECODERS, *COMPOSED, "llama")  # the last alone: a prefix-LM
VOCABULARY = 400

TASK = Task.from_dict(
    {
        "name": "tiny-sentiment",
        "fields": ["text"],
        "label_field": "label",
        "labels": {"negative": "negative", "neutral": "neutral", "positive": "positive"},
        "input": "{text}",
        "prompt": 'Review: "{text}". The sentiment of this review is {label}, explain the reason within 30 words.',
        "max_input_tokens": 32,
        "max_explanation_tokens": 16,
    }
)

# Special tokens of each family: what its real tokenizers have. T5's has no [CLS]: the encoder adds one.
_BERT = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
SPECIALS = {
    "t5": {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"},
    "t5gemma": {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"},
    "bart": {
        "bos_token": "<s>",
        "cls_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "unk_token": "<unk>",
    },
    "bert2bert": _BERT,
    "composed-llama": _BERT,
    "composed-gpt2": _BERT,
    "llama": {  # SmolLM2's
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
    },
    "gpt2": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"},
}
AROUND = {"t5": "$A </s>", "t5gemma": "$A", "bart": "<s> $A </s>", "llama": "$A", "gpt2": "$A"}
AROUND |= dict.fromkeys(("bert2bert", *COMPOSED), "[CLS] $A [SEP]")
POSITIONS = 192  # two texts of 32 tokens, the longest cue, an explanation of 16
SIZES = {"llama": 420, "gpt2": 440}  # byte-level: 256 bytes and what they make; other decoders have VOCABULARY


def sentences(limit: int = 100) -> list[str]:
    """Real sentences: the recorded explanations of product reviews."""
    rows = [json.loads(line) for line in EXPLANATIONS.read_text(encoding="utf-8").splitlines()[:limit]]
    return [text for row in rows for text in row["explanations"].values()]


def make_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """A composed family's is its encoder's; its decoder's is that of ``llama`` or ``gpt2``."""
    specials = list(dict.fromkeys(SPECIALS[family].values()))
    if family in SIZES:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        tokenizer = Tokenizer(models.BPE(unk_token=SPECIALS[family]["unk_token"]))
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        alphabet = []
    size = SIZES.get(family, VOCABULARY) - 8
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(sentences(), trainer)
    around = AROUND[family]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=around,
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in specials if token in around],
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIALS[family])


def _t5(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=VOCABULARY,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
            pad_token_id=pad,
            eos_token_id=eos,
            decoder_start_token_id=pad,
        )
    )


def _bart(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=VOCABULARY,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_position_embeddings=64,
            pad_token_id=pad,
            eos_token_id=eos,
            bos_token_id=tokenizer.bos_token_id,
            decoder_start_token_id=eos,
            forced_eos_token_id=eos,
        )
    )


def _t5gemma(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    part = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 64,
        "pad_token_id": pad,
        "eos_token_id": eos,
        "bos_token_id": tokenizer.bos_token_id,
    }
    config = T5GemmaConfig(
        encoder=T5GemmaModuleConfig(**part),
        decoder=T5GemmaModuleConfig(**part, cross_attention_hidden_size=32),
        vocab_size=VOCABULARY,
        pad_token_id=pad,
        eos_token_id=eos,
        bos_token_id=tokenizer.bos_token_id,
    )
    model = T5GemmaForConditionalGeneration(config)
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    return model


def _bert2bert(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    pad = tokenizer.pad_token_id
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "pad_token_id": pad,
    }
    encoder = BertModel(BertConfig(**shape))
    decoder = BertLMHeadModel(BertConfig(**shape, is_decoder=True, add_cross_attention=True))
    return EncoderDecoderModel(encoder=encoder, decoder=decoder)


def llama(tokenizer: PreTrainedTokenizerFast, hidden: int = 32) -> LlamaForCausalLM:
    """As SmolLM2: grouped queries, rotary positions, one table of embeddings for input and output."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=SIZES["llama"],
            hidden_size=hidden,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=POSITIONS,
            initializer_range=0.15,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def gpt2(tokenizer: PreTrainedTokenizerFast, hidden: int = 24) -> GPT2LMHeadModel:
    """Learned positions, tied embeddings, no padding token."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=SIZES["gpt2"],
            n_embd=hidden,
            n_layer=3,
            n_head=2,
            n_positions=POSITIONS,
            initializer_range=0.15,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def bert(tokenizer: PreTrainedTokenizerFast) -> BertModel:
    return BertModel(
        BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=64,
            initializer_range=0.1,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _composed_llama(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return ComposedModel.of(bert(tokenizer), llama(make_tokenizer("llama"), hidden=24), "<|im_start|>")


def _composed_gpt2(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return ComposedModel.of(bert(tokenizer), gpt2(make_tokenizer("gpt2")), "<|endoftext|>")


BACKBONES = {
    "t5": _t5,
    "bart": _bart,
    "bert2bert": _bert2bert,
    "t5gemma": _t5gemma,
    "composed-llama": _composed_llama,
    "composed-gpt2": _composed_gpt2,
    "llama": llama,
    "gpt2": gpt2,
}


def save_backbone(family: str, directory: Path) -> Path:
    """A directory that --model takes: weights, the tokenizer, and under decoder/ that of a composed model's decoder."""
    tokenizer = make_tokenizer(family)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        BACKBONES[family](tokenizer).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    if family in COMPOSED:
        make_tokenizer(family.removeprefix("composed-")).save_pretrained(directory / DECODER)
    return directory
