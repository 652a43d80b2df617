"""The search over a tree of beams is transformers' own, for every kind of decoder that looks back at an encoder."""

from typing import Any

import pytest
import torch
from transformers import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    BartConfig,
    BertConfig,
    BigBirdPegasusConfig,
    BlenderbotConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GenerationConfig,
    GPT2Config,
    LEDConfig,
    LongT5Config,
    M2M100Config,
    MarianConfig,
    MBartConfig,
    PegasusConfig,
    PegasusXConfig,
    PreTrainedConfig,
    RobertaConfig,
    T5Config,
    UMT5Config,
)

from service.model.decoding import Decoding, beam_search
from service.model.encoder_decoder import EncoderDecoder, takes_positions
from service.model.encoding import TokenBatch, pad

VOCABULARY, PAD, EOS, START = 40, 0, 1, 2
BART: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 64,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "decoder_start_token_id": START,
    "forced_eos_token_id": None,
    "init_std": 0.5,
}
T5: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 2,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "decoder_start_token_id": PAD,
}
BERT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
GPT2: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 64,
    "initializer_range": 0.3,
}
WRITES = {"is_decoder": True, "add_cross_attention": True}


def pair(encoder: PreTrainedConfig, decoder: PreTrainedConfig) -> EncoderDecoderConfig:
    return EncoderDecoderConfig(
        encoder=encoder.to_dict(),
        decoder=decoder.to_dict(),
        decoder_start_token_id=START,
        pad_token_id=PAD,
        eos_token_id=EOS,
    )


CONFIGS = {
    "bart": BartConfig(**BART),
    "mbart": MBartConfig(**BART),
    "marian": MarianConfig(**BART),
    "pegasus": PegasusConfig(**BART),
    "blenderbot": BlenderbotConfig(**BART),
    "m2m100": M2M100Config(**BART),
    "bigbird-pegasus": BigBirdPegasusConfig(**BART, attention_type="original_full"),
    "led": LEDConfig(
        **BART, max_encoder_position_embeddings=64, max_decoder_position_embeddings=64, attention_window=8
    ),
    "t5": T5Config(**T5),
    "umt5": UMT5Config(**T5),
    "longt5": LongT5Config(**T5, local_radius=4),
    "bert-bert": pair(BertConfig(**BERT), BertConfig(**BERT, **WRITES)),
    "roberta-roberta": pair(RobertaConfig(**BERT), RobertaConfig(**BERT, **WRITES)),
    "bert-gpt2": pair(BertConfig(**BERT), GPT2Config(**GPT2, **WRITES)),
}


def model_of(config: PreTrainedConfig, seed: int) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if isinstance(config, EncoderDecoderConfig):
            model: Any = EncoderDecoderModel(config)
        else:
            model = MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING[type(config)](config)
    if "t5" in config.model_type:
        model.lm_head.weight.data *= 0.3  # random T5s are sure of one token; these are in doubt
    start = config.decoder_start_token_id
    model.generation_config = GenerationConfig(decoder_start_token_id=start, eos_token_id=EOS, pad_token_id=PAD)
    return model.eval()


@torch.inference_mode()
@pytest.mark.parametrize("name", CONFIGS)
def test_the_hypotheses_are_generates(name: str) -> None:
    texts = [[7, 3, 21, 35, 9, 12, 4], [5, 6], [30, 31, 32, 33], [38, 3, 3, 8, 8]]
    batch = pad(texts, PAD)
    for seed in range(3):
        model = model_of(CONFIGS[name], seed)
        start = CONFIGS[name].decoder_start_token_id
        network = EncoderDecoder(model, 2, "cls", [(start,)], EOS, PAD).eval()
        found = beam_search(network, network.encode(TokenBatch(batch.ids, batch.mask)), Decoding(3, 10))
        expected = model.generate(
            input_ids=batch.ids,
            attention_mask=batch.mask.long(),
            num_beams=3,
            max_new_tokens=10,
            early_stopping=True,
            length_penalty=1.0,
            do_sample=False,
        )[:, 1:].tolist()
        for tokens, row in zip(found.tokens, expected, strict=True):
            assert tokens == row[: len(tokens)]
            assert tokens[-1] == EOS or len(tokens) == 10


@torch.inference_mode()
@pytest.mark.parametrize("name", CONFIGS)
def test_the_memory_of_a_token_is_what_its_keys_and_values_take(name: str) -> None:
    model = model_of(CONFIGS[name], 0)
    network = EncoderDecoder(model, 2, "cls", [(CONFIGS[name].decoder_start_token_id,)], EOS, PAD).eval()
    batch = pad([[7, 3, 21]], PAD)
    opening = network.begin(network.encode(TokenBatch(batch.ids, batch.mask)), torch.tensor([0]), network.cues[0])
    assert network.token_bytes == sum(layer.keys.nbytes + layer.values.nbytes for layer in opening.cache.layers)


def test_a_decoder_that_counts_by_itself_is_told_apart() -> None:
    assert all(takes_positions(model_of(config, 0).get_decoder()) for config in CONFIGS.values())
    assert not takes_positions(model_of(PegasusXConfig(**BART, block_size=8, num_global_tokens=2), 0).get_decoder())
