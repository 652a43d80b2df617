"""What is particular to encoder-decoders: start tokens, widths and positions of two halves, embeddings for [CLS]."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertLMHeadModel,
    BertModel,
    EncoderDecoderModel,
    RobertaConfig,
    RobertaForCausalLM,
    RobertaModel,
    T5Config,
    T5ForConditionalGeneration,
)

from service.model.encoder_decoder import EncoderDecoder
from service.model.families import load_network
from service.model.network import positions
from service.model.predictor import Predictor
from tests import tiny


@pytest.mark.parametrize(
    ("family", "start", "end"),
    [("t5", "<pad>", "</s>"), ("bart", "</s>", "</s>"), ("bert2bert", "[CLS]", "[SEP]"), ("t5gemma", "<bos>", "<eos>")],
)
def test_the_start_token_is_the_checkpoints_or_else_cls(
    predictor_of: Callable[..., Predictor], family: str, start: str, end: str
) -> None:
    network, encoder = predictor_of(family).network, predictor_of(family).encoder
    assert encoder.tokenizer.convert_ids_to_tokens(list(network.cues[0])) == [start]
    assert encoder.tokenizer.convert_ids_to_tokens(network.eos_id) == end


@pytest.mark.parametrize("family", tiny.ENCODER_DECODERS)
def test_given_a_label_an_explanation_stands_behind_its_words_and_a_colon(
    predictor_of: Callable[..., Predictor], family: str
) -> None:
    network, encoder = predictor_of(family, "label").network, predictor_of(family, "label").encoder
    start = predictor_of(family).network.cues[0][0]
    words = ("negative:", "neutral:", "positive:")
    expected = [(start, *encoder.tokenizer(word, add_special_tokens=False)["input_ids"]) for word in words]
    assert list(network.cues) == expected


def test_an_added_cls_gets_an_embedding_where_the_table_is_full(tmp_path: Path) -> None:
    tokenizer = tiny.make_tokenizer("t5")
    full = len(tokenizer)
    config = T5Config(vocab_size=full, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    network, encoder = load_network(tmp_path, tiny.TASK, "cls")
    assert encoder.cls_id == full
    assert network.backbone.get_input_embeddings().num_embeddings == full + 1
    memory = network.encode(encoder.inputs([encoder.encode_fields({"text": "good"})]))
    log_probs = network.explanation_log_probs(memory, encoder.batch([encoder.encode_explanation("good")]))
    assert log_probs.isfinite().all()


def test_the_width_is_the_encoders_where_encoder_and_decoder_differ() -> None:
    shape = {"vocab_size": 50, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    encoder = BertModel(BertConfig(hidden_size=16, **shape))
    decoder = BertLMHeadModel(BertConfig(hidden_size=8, is_decoder=True, add_cross_attention=True, **shape))
    backbone = EncoderDecoderModel(encoder=encoder, decoder=decoder)
    assert EncoderDecoder(backbone, 2, "cls", [(0,)], 1, 0).hidden_size == 16


@torch.inference_mode()
def test_robertas_positions_begin_behind_the_padding() -> None:
    # 22 rows of positions, pad id 1: row 0 unused, row 1 the padding's, 20 for tokens.
    config = RobertaConfig(
        vocab_size=30,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=22,
    )
    decoder_config = RobertaConfig(**{**config.to_dict(), "is_decoder": True, "add_cross_attention": True})
    assert positions(config) == 20
    model = EncoderDecoderModel(encoder=RobertaModel(config), decoder=RobertaForCausalLM(decoder_config)).eval()
    assert model.get_encoder()(input_ids=torch.full((1, 20), 5)).last_hidden_state.shape == (1, 20, 8)
    with pytest.raises((IndexError, RuntimeError)):
        model.get_encoder()(input_ids=torch.full((1, 21), 5))
