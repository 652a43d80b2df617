"""What comes out of a GGUF file is the model and the tokenizer that went in: a tiny one written here, and SmolLM2."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from service.model.errors import InputError
from tests import tiny
from training import gguf_conversion
from training.backbones import resolve
from training.gguf_conversion import convert
from training.local_llm import serve_local_llm
from training.offline_parts import cache_directory, fetch

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = "{% for message in messages %}{{ '<|im_start|>' + message['content'] + '<|im_end|>' }}{% endfor %}"
TEXTS = [
    "it broke after 25 days, twice",
    "two  spaces and  2 digits: 1999",
    "<|im_start|>hi<|im_end|>",
    " naïve ½ 😀\n",
]


def llama(tied: bool) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=tiny.VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        tie_word_embeddings=tied,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return LlamaForCausalLM(config).eval()


def byte_tokenizer() -> Tokenizer:
    """Splits as SmolLM2's does: digit by digit, then by GPT-2's rule."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=tiny.VOCABULARY, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*tiny.sentences(), "in the  year  of"] * 2, trainer)
    assert tokenizer.get_vocab_size() == tiny.VOCABULARY
    return tokenizer


def write_gguf(file: Path, model: LlamaForCausalLM, tokenizer: Tokenizer, splitting: str = "smollm") -> Path:
    config = model.config
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t in SPECIALS else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_merges([" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for name, weights in model.state_dict().items():
        if name != "lm_head.weight" or not config.tie_word_embeddings:
            writer.add_tensor(gguf_name(name), in_llama_cpps_order(name, weights, config).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def gguf_name(name: str) -> str:
    mapping = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    found = mapping.get_name(name, try_suffixes=(".weight",))
    assert found is not None, name
    return str(found)


def in_llama_cpps_order(name: str, weights: torch.Tensor, config: LlamaConfig) -> torch.Tensor:
    """llama.cpp rotates neighbouring dimensions of queries and keys, transformers the two halves of a head."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return weights
    rows, columns = weights.shape
    return weights.reshape(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns).contiguous()


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    return byte_tokenizer()


@pytest.fixture(scope="module")
def converted(byte_level: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("gguf")
    convert(write_gguf(place / "tiny.gguf", llama(tied=True), byte_level), place / "converted")
    return place / "converted"


@pytest.mark.parametrize("tied", [True, False], ids=["tied embeddings", "own output weights"])
def test_the_logits_are_those_of_the_model_that_was_written(byte_level: Tokenizer, tmp_path: Path, tied: bool) -> None:
    model = llama(tied)
    convert(write_gguf(tmp_path / "tiny.gguf", model, byte_level), tmp_path / "converted")
    again, report = AutoModelForCausalLM.from_pretrained(tmp_path / "converted", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = torch.arange(60).reshape(2, 30)
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(ids).logits, model(ids).logits, rtol=0, atol=1e-6)
    assert {weights.dtype for weights in again.parameters()} == {torch.float32}
    assert again.config.tie_word_embeddings is tied
    assert not hasattr(again.config, "quantization_config")


def test_the_ids_are_those_of_the_tokenizer_that_was_written(
    converted: Path, byte_level: Tokenizer, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(converted)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        ids = byte_level.encode(text).ids
        assert tokenizer(text).input_ids == again(text).input_ids == ids
        assert tokenizer.decode(ids) == text


def test_special_tokens_template_and_length_are_the_files(converted: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(converted)
    assert tokenizer.convert_tokens_to_ids(SPECIALS) == [0, 1, 2]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert tokenizer.apply_chat_template([{"content": "a"}], tokenize=False) == "<|im_start|>a<|im_end|>"
    assert tokenizer.model_max_length == 64
    generation = json.loads((converted / "generation_config.json").read_text())
    assert [generation[f"{name}_token_id"] for name in ("bos", "eos", "pad")] == [1, 2, 2]


def test_it_keeps_no_path_draws_nothing_and_says_one_line(
    byte_level: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_rng_state()
    convert(write_gguf(tmp_path / "tiny.gguf", llama(tied=True), byte_level), tmp_path / "converted")
    assert torch.equal(torch.get_rng_state(), before)
    for file in (tmp_path / "converted").glob("*.json"):
        assert str(tmp_path) not in file.read_text(), file
    said = [line for line in capsys.readouterr().err.splitlines() if "tiny.gguf" in line or "tensors" in line]
    assert len(said) == 1
    assert said[0].startswith("converting tiny.gguf")


def test_another_kind_of_tokenizer_is_refused(byte_level: Tokenizer, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", llama(tied=True), byte_level, splitting="llama-bpe")
    with pytest.raises(InputError, match="of the kind 'llama-bpe'; only gpt-2, smollm can be converted"):
        convert(file, tmp_path / "converted")


def test_missing_packages_are_named_with_the_command_that_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_conversion, "NEEDS", ("gguf", "no_such_package"))
    with pytest.raises(InputError, match=r"needs no_such_package: pip install .* '\.\[train\]'"):
        convert(tmp_path / "tiny.gguf", tmp_path / "converted")


def ask(url: str, **body: Any) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_smollm2_is_what_llama_cpp_and_transformers_make_of_its_file() -> None:
    directory = resolve("smollm2", cache_directory()).source
    file = fetch("smollm2-135m-instruct", cache_directory())
    model, tokenizer = AutoModelForCausalLM.from_pretrained(directory).eval(), AutoTokenizer.from_pretrained(directory)
    original = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name).eval()
    chat = [{"role": "user", "content": "Which country is Paris the capital of?"}]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(prompt, return_tensors="pt")
    with serve_local_llm(cache_directory()) as (url, _), torch.no_grad():
        base = url.removesuffix("/v1")
        for text in (*TEXTS, prompt):
            ids = tokenizer(text).input_ids
            assert ids == ask(f"{base}/tokenize", content=text, parse_special=True)["tokens"]
            assert torch.equal(model(torch.tensor([ids])).logits, original(torch.tensor([ids])).logits)
        [first, *_] = ask(f"{base}/completion", prompt=prompt, n_predict=1, n_probs=5, temperature=0)[
            "completion_probabilities"
        ]
        ours = model(**inputs).logits[0, -1].log_softmax(-1)
        for entry in first["top_logprobs"]:  # llama.cpp computes with rounded activations
            assert abs(ours[entry["id"]].item() - entry["logprob"]) < 0.5
        written = model.generate(**inputs, max_new_tokens=100, do_sample=False)[0, inputs.input_ids.shape[1] :]
    assert "France" in tokenizer.decode(written)
    assert written[-1] == tokenizer.eos_token_id
