"""Model directories: equal before and after, named by their content, and refused with a reason if anything is off."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoTokenizer, EncoderDecoderConfig

from service.model import checkpoint
from service.model.checkpoint import Checkpoint, ModelSettings, Provenance, new_directory, read_settings
from service.model.classification import Item, Prediction
from service.model.decoding import Decoding
from service.model.encoding import TextEncoder
from service.model.errors import CheckpointError, InputError
from service.model.families import family_of, load_network
from service.model.network import Network
from service.model.predictor import Predictor
from service.model.scoring import Normaliser
from tests import tiny

COMMAND = "xal export RUN_DIR --round N --output DIR"
SETTINGS = ModelSettings(tiny.TASK, "cls", Decoding(2, 8), Normaliser(9.5, 4.5, 50), True)
PROVENANCE = Provenance(metrics={"macro_f1": 0.5}, lineage={"run": "r", "round": 2})
ITEMS = [Item({"text": "i love this camera"}, ("the reviewer is happy",)), Item({"text": "no"})]


@pytest.fixture(scope="module")
def trained(backbone_dir: Callable[[str], Path]) -> Callable[[str], tuple[Network, TextEncoder]]:
    """Family name -> a network and its encoder, as a trainer would hand them over."""

    def make(family: str) -> tuple[Network, TextEncoder]:
        network, encoder = load_network(backbone_dir(family), tiny.TASK, "cls")
        return network.eval(), encoder

    return make


@pytest.fixture
def copy(model_dir: Path, tmp_path: Path) -> Path:
    """A model directory to damage."""
    return shutil.copytree(model_dir, tmp_path / "model")


def answers(predictor: Predictor) -> list[Prediction]:
    outcomes = predictor.predict(ITEMS, explain=True)
    return [outcome for outcome in outcomes if isinstance(outcome, Prediction)]


def manifest_of(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    return content


def write_manifest(directory: Path, manifest: object) -> None:
    (directory / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def reseal(directory: Path) -> None:
    """Make the manifest fit the files again, as somebody would who writes model directories by hand."""
    manifest = manifest_of(directory)
    names = [path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()]
    names = sorted({*names} - {"manifest.json", "README.md"})
    digests = {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in names}
    manifest["files"] = {name: {"sha256": digest} for name, digest in digests.items()}
    manifest["model_version"] = hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest()[:16]
    write_manifest(directory, manifest)


def refused(directory: Path) -> str:
    with pytest.raises(CheckpointError) as raised:
        checkpoint.load(directory)
    message = str(raised.value)
    assert str(directory) in message
    assert "\n" not in message
    return message


# ------------------------------------------------------------------------------------------------------- there and back


def test_a_loaded_model_answers_as_the_saved_one_did(
    family: str, trained: Callable[[str], tuple[Network, TextEncoder]], tmp_path: Path
) -> None:
    network, encoder = trained(family)
    torch.nn.init.normal_(network.head.bias)
    before = answers(Predictor(Checkpoint(network, encoder, SETTINGS, {"model_version": ""}), torch.device("cpu")))
    checkpoint.save(tmp_path / "model", network, encoder, SETTINGS, PROVENANCE)
    after = answers(Predictor.load(tmp_path / "model", device="cpu"))
    assert len(before) == len(after) == len(ITEMS)
    for left, right in zip(before, after, strict=True):
        assert right.probabilities == pytest.approx(left.probabilities, abs=1e-6)
        assert right.explanation == left.explanation
        assert right.explanation_score == pytest.approx(left.explanation_score, abs=1e-6)
        assert right.candidate_scores == pytest.approx(left.candidate_scores, abs=1e-6)
        assert right.h0 == pytest.approx(left.h0, abs=1e-6)


def tied(network: Network) -> list[list[str]]:
    """Names of parameters that are one and the same."""
    names: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def test_all_that_was_saved_is_loaded(
    family: str, trained: Callable[[str], tuple[Network, TextEncoder]], tmp_path: Path
) -> None:
    network, encoder = trained(family)
    version = checkpoint.save(tmp_path / "model", network, encoder, SETTINGS, PROVENANCE)
    loaded = checkpoint.load(tmp_path / "model")
    assert loaded.settings == SETTINGS
    assert loaded.model_version == version
    assert loaded.manifest["metrics"] == {"macro_f1": 0.5}
    assert loaded.manifest["lineage"] == {"run": "r", "round": 2}
    assert (loaded.network.cues, loaded.network.eos_id, loaded.network.pad_id) == (
        network.cues,
        network.eos_id,
        network.pad_id,
    )
    assert (loaded.encoder.cls_id, loaded.encoder.eos_id) == (encoder.cls_id, encoder.eos_id)
    assert not loaded.network.training
    state = network.state_dict()
    assert loaded.network.state_dict().keys() == state.keys()
    for name, value in loaded.network.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert tied(loaded.network) == tied(network)


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        replace(SETTINGS, normaliser=None, trained_on_explanations=False),
        replace(SETTINGS, normaliser=Normaliser(9.5, 4.5, 50, 0.004, 0.0), acquisition="standardized"),
        replace(SETTINGS, normaliser=None, acquisition="standardized"),
        replace(SETTINGS, pooling="mean", decoding=Decoding(1, 3)),
        replace(SETTINGS, conditioning="label"),
    ],
)
def test_settings_outlive_the_way_through_json(settings: ModelSettings) -> None:
    assert ModelSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_older_directories_have_the_papers_acquisition_and_conditioning() -> None:
    newer = ("acquisition", "std_p", "std_c", "conditioning")
    older = {key: value for key, value in SETTINGS.to_dict().items() if key not in newer}
    read = ModelSettings.from_dict(older)
    assert read == SETTINGS
    assert (read.acquisition, read.normaliser) == ("paper", Normaliser(9.5, 4.5, 50, None, None))
    assert read.conditioning == "none"


def test_the_files_are_those_of_the_fixed_format(model_dir: Path) -> None:
    names = {path.name for path in model_dir.iterdir()}
    assert {"config.json", "xal.json", "manifest.json", "README.md", "head.safetensors", "model.safetensors"} <= names
    assert {Path(name).suffix for name in names} <= {".json", ".safetensors", ".md", ".jinja"}  # no pickle
    assert set(manifest_of(model_dir)["files"]) == names - {"manifest.json", "README.md"}
    assert load_file(model_dir / "head.safetensors")["weight"].shape == (3, 32)
    settings = json.loads((model_dir / "xal.json").read_text(encoding="utf-8"))
    assert settings["head"]["labels"] == ["negative", "neutral", "positive"]
    assert (settings["log_z_p"], settings["log_z_c"], settings["pool_size"]) == (9.5, 4.5, 50)


def test_plain_transformers_load_the_weights_and_the_tokenizer(
    family: str, make_model_dir: Callable[..., Path]
) -> None:
    directory = make_model_dir(family)
    loaded = checkpoint.load(directory)
    found = family_of(AutoConfig.from_pretrained(directory))
    assert found is not None
    plain = found.loader.from_pretrained(directory)  # for a composed model, the class that its configuration names
    ours = loaded.network.backbone.state_dict()
    assert plain.state_dict().keys() == ours.keys()
    assert all(torch.equal(value, ours[name]) for name, value in plain.state_dict().items())
    assert AutoTokenizer.from_pretrained(directory).cls_token_id == loaded.encoder.cls_id


def test_the_output_layer_of_a_flan_t5_stays_its_own(tmp_path: Path) -> None:
    # Its hub directory says tie_word_embeddings: false and holds an lm_head; transformers 5 calls all T5s tied.
    source = tiny.save_backbone("t5", tmp_path / "flan")
    weights = {name: value.clone() for name, value in load_file(source / "model.safetensors").items()}
    weights["lm_head.weight"] = torch.randn(400, 32, generator=torch.Generator().manual_seed(3))
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    network, encoder = load_network(source, tiny.TASK, "cls")
    checkpoint.save(tmp_path / "model", network.eval(), encoder, SETTINGS, PROVENANCE)
    backbone = checkpoint.load(tmp_path / "model").network.backbone
    assert torch.equal(backbone.lm_head.weight, weights["lm_head.weight"])
    assert torch.equal(backbone.get_input_embeddings().weight, weights["shared.weight"])


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_another_user_may_read_every_file(composed_copy: Path, tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        checkpoint.resave(composed_copy, tmp_path / "model", read_settings(composed_copy), PROVENANCE)
    finally:
        os.umask(before)
    for path in (tmp_path / "model", *(tmp_path / "model").rglob("*")):
        assert path.stat().st_mode & 0o044 == 0o044, path
        assert path.stat().st_mode & 0o011 == (0o011 if path.is_dir() else 0), path


def test_the_model_card_says_what_the_model_is(model_dir: Path) -> None:
    card = (model_dir / "README.md").read_text(encoding="utf-8")
    assert manifest_of(model_dir)["model_version"] in card
    for words in ("tiny-sentiment", "negative, neutral, positive", "| macro_f1 | 0.5 |", "| run | tiny |"):
        assert words in card


# -------------------------------------------------------------------------------------------------------------- version


def test_the_version_is_a_hash_of_names_and_contents(model_dir: Path) -> None:
    files = [path for path in model_dir.iterdir() if path.name not in ("manifest.json", "README.md")]
    pairs = sorted([path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in files)
    expected = hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16]
    assert manifest_of(model_dir)["model_version"] == expected


def test_the_version_changes_with_whatever_decides_an_answer_and_with_nothing_else(
    trained: Callable[[str], tuple[Network, TextEncoder]], tmp_path: Path
) -> None:
    network, encoder = trained("t5")

    def version(name: str, settings: ModelSettings = SETTINGS, provenance: Provenance = PROVENANCE) -> str:
        return checkpoint.save(tmp_path / name, network, encoder, settings, provenance)

    first = version("a")
    assert version("b") == first
    assert version("c", provenance=Provenance(metrics={"macro_f1": 0.9}, lineage={"run": "other"})) == first
    assert version("d", replace(SETTINGS, decoding=Decoding(4, 8))) != first
    assert version("e", replace(SETTINGS, normaliser=Normaliser(9.5, 4.5, 51))) != first
    assert version("h", replace(SETTINGS, normaliser=Normaliser(9.5, 4.5, 50, 0.1, 0.1))) != first
    assert version("f", replace(SETTINGS, task=replace(tiny.TASK, input="Review: {text}"))) != first
    with torch.no_grad():
        network.head.bias[0] += 1e-3
    assert version("g") != first


# ------------------------------------------------------------------------------------------------------- damaged, wrong

NAMES = [
    "config.json",
    "generation_config.json",
    "head.safetensors",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "xal.json",
]


def test_these_are_all_the_files_that_a_manifest_lists(model_dir: Path) -> None:
    assert sorted(manifest_of(model_dir)["files"]) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", [0, -1])
def test_a_flipped_byte_is_found(copy: Path, name: str, place: int) -> None:
    content = bytearray((copy / name).read_bytes())
    content[place] ^= 1
    (copy / name).write_bytes(content)
    message = refused(copy)
    assert f"{name} is damaged or altered" in message
    assert COMMAND in message


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    message = refused(copy)
    assert name in message
    assert "missing" in message
    assert COMMAND in message


@pytest.mark.parametrize("name", ["adapter_config.json", "pytorch_model.bin", "model.safetensors.index.json", "x.py"])
def test_an_added_file_is_named(copy: Path, name: str) -> None:
    (copy / name).write_text("{}")
    message = refused(copy)
    assert f"{name} is not in manifest.json; remove it" in message
    assert COMMAND in message


def test_an_added_folder_is_named(copy: Path) -> None:
    (copy / "onnx").mkdir()
    assert "onnx is not in manifest.json" in refused(copy)


def test_other_programs_litter_and_an_edited_card_do_no_harm(copy: Path) -> None:
    (copy / ".DS_Store").write_bytes(b"x")
    (copy / "README.md").write_text("# my model\n")
    checkpoint.load(copy)


def listing_a_path_above(manifest: dict[str, Any]) -> None:
    manifest["files"]["../x"] = {"sha256": "0" * 64}


def listing_a_path_above_through_the_decoder(manifest: dict[str, Any]) -> None:
    manifest["files"]["decoder/../../x"] = {"sha256": "0" * 64}


def listing_the_folder_above_within_the_decoder(manifest: dict[str, Any]) -> None:
    manifest["files"]["decoder/.."] = {"sha256": "0" * 64}


def listing_a_deeper_folder(manifest: dict[str, Any]) -> None:
    manifest["files"]["decoder/more/x"] = {"sha256": "0" * 64}


def listing_another_folder(manifest: dict[str, Any]) -> None:
    manifest["files"]["encoder/x"] = {"sha256": "0" * 64}


def listing_no_name(manifest: dict[str, Any]) -> None:
    manifest["files"]["decoder/"] = {"sha256": "0" * 64}


def listing_an_absolute_path(manifest: dict[str, Any]) -> None:
    manifest["files"]["/etc/passwd"] = {"sha256": "0" * 64}


def not_listing_the_head(manifest: dict[str, Any]) -> None:
    del manifest["files"]["head.safetensors"]


def another_version(manifest: dict[str, Any]) -> None:
    manifest["model_version"] = "0" * 16


def no_version(manifest: dict[str, Any]) -> None:
    del manifest["model_version"]


def another_format(manifest: dict[str, Any]) -> None:
    manifest["format"] = 2


def no_format(manifest: dict[str, Any]) -> None:
    del manifest["format"]


def no_files(manifest: dict[str, Any]) -> None:
    del manifest["files"]


def files_as_a_list(manifest: dict[str, Any]) -> None:
    manifest["files"] = ["config.json"]


def files_without_digests(manifest: dict[str, Any]) -> None:
    manifest["files"]["config.json"] = {}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (listing_a_path_above, "manifest.json names '../x', which is no file of a model directory"),
        (listing_a_path_above_through_the_decoder, "manifest.json names 'decoder/../../x', which is no file"),
        (listing_the_folder_above_within_the_decoder, "decoder/.. is missing"),
        (listing_a_deeper_folder, "manifest.json names 'decoder/more/x', which is no file of a model directory"),
        (listing_another_folder, "manifest.json names 'encoder/x', which is no file of a model directory"),
        (listing_no_name, "manifest.json names 'decoder/', which is no file of a model directory"),
        (listing_an_absolute_path, "manifest.json names '/etc/passwd', which is no file of a model directory"),
        (not_listing_the_head, "manifest.json does not list head.safetensors"),
        (another_version, "manifest.json is altered: its model_version is not that of its files"),
        (no_version, "manifest.json is altered"),
        (another_format, "manifest.json says format 2, but this version of xal reads format 1"),
        (no_format, "manifest.json cannot be read (KeyError('format'))"),
        (no_files, "manifest.json cannot be read (KeyError('files'))"),
        (files_as_a_list, "manifest.json cannot be read"),
        (files_without_digests, "manifest.json cannot be read (KeyError('sha256'))"),
    ],
)
def test_an_edited_manifest_is_found(copy: Path, edit: Callable[[dict[str, Any]], None], said: str) -> None:
    manifest = manifest_of(copy)
    edit(manifest)
    write_manifest(copy, manifest)
    message = refused(copy)
    assert said in message
    assert COMMAND in message


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff\xfe"])
def test_a_manifest_that_is_none_is_said(copy: Path, content: bytes) -> None:
    (copy / "manifest.json").write_bytes(content)
    assert "manifest.json cannot be read" in refused(copy)


def test_a_run_directory_is_told_apart_and_gets_its_own_command(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("[]")
    (tmp_path / "config.yaml").write_text("{}")
    message = refused(tmp_path)
    assert "is a run directory, not a model" in message
    assert f"xal export {tmp_path} --round N --output DIR" in message


def test_a_plain_hub_directory_an_empty_one_and_none_at_all_are_said(
    backbone_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    plain = refused(backbone_dir("t5"))
    assert "not a complete model directory, manifest.json, xal.json, head.safetensors missing" in plain
    assert "manifest.json, xal.json, config.json, head.safetensors missing" in refused(tmp_path)
    assert "no such model directory" in refused(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    assert "no such model directory" in refused(tmp_path / "file")
    for directory in (backbone_dir("t5"), tmp_path, tmp_path / "none"):
        assert COMMAND in refused(directory)


def edited(name: str, **changes: Any) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        content = json.loads((directory / name).read_text(encoding="utf-8")) | changes
        content = {key: value for key, value in content.items() if value is not ...}
        (directory / name).write_text(json.dumps(content), encoding="utf-8")

    return edit


def replaced(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda directory: (directory / name).write_bytes(content) and None


def without_a_weight(directory: Path) -> None:
    weights = load_file(directory / "model.safetensors")
    del weights["encoder.final_layer_norm.weight"]
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


# Directories whose digests fit: written by hand, or by a version of xal that does other things.
SENSELESS = {
    "another format": (edited("xal.json", format=2), "xal.json cannot be used: format 2 is not 1"),
    "no pooling": (edited("xal.json", pooling=...), "xal.json cannot be used: it lacks 'pooling'"),
    "another pooling": (edited("xal.json", pooling="max"), "pooling is 'max'; expected cls or mean"),
    "other decoding": (edited("xal.json", decoding={"beams": 3}), "xal.json cannot be used"),
    "an unsound task": (edited("xal.json", task={"name": "x"}), "xal.json cannot be used: task: missing fields"),
    "sums that are no numbers": (edited("xal.json", log_z_p=float("nan")), "log_z_p and log_z_c must be finite"),
    "another acquisition": (edited("xal.json", acquisition="sum"), "acquisition is 'sum'; expected paper"),
    "nothing to standardise by": (edited("xal.json", acquisition="standardized"), "needs std_p and std_c of the pool"),
    "a spread below nothing": (edited("xal.json", std_p=-0.1), "std_p and std_c must be finite numbers, 0 or more"),
    "settings as a list": (replaced("xal.json", b"[]"), "xal.json cannot be used"),
    "broken settings": (replaced("xal.json", b"{"), "xal.json cannot be used"),
    "two labels, three outputs": (
        edited("xal.json", task={**tiny.TASK.to_dict(), "labels": {"a": "a", "b": "b"}}),
        "size mismatch for weight",
    ),
    "a weight too few": (without_a_weight, "the weights lack encoder.final_layer_norm.weight"),
    "other shapes": (edited("config.json", d_model=64), "the model cannot be loaded"),
    "an encoder only": (
        edited("config.json", model_type="bert"),
        "the model cannot be loaded: a model of type bert (['T5ForConditionalGeneration']) cannot write explanations",
    ),
    "another conditioning": (edited("xal.json", conditioning="text"), "conditioning is 'text'; expected none or label"),
    "weights cut off": (replaced("model.safetensors", b"\x00" * 20), "the model cannot be loaded"),
    "a head that is none": (replaced("head.safetensors", b"pickle"), "the model cannot be loaded"),
}


@pytest.mark.parametrize(("spoil", "said"), SENSELESS.values(), ids=SENSELESS.keys())
def test_a_sealed_directory_that_makes_no_sense_is_refused(
    copy: Path, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(copy)
    reseal(copy)
    message = refused(copy)
    assert said in message
    assert COMMAND in message


def test_resealing_alone_is_not_what_these_directories_fail_on(copy: Path) -> None:
    reseal(copy)
    checkpoint.load(copy)


def test_code_that_a_directory_brings_is_neither_run_nor_asked_about(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda _prompt="": "y")  # left to itself, transformers asks at the terminal
    classes = {"AutoConfig": "evil.C", "AutoModelForSeq2SeqLM": "evil.M"}
    edited("config.json", model_type="evil", auto_map=classes)(copy)
    (copy / "evil.py").write_text("raise SystemExit('this code must not run')")
    reseal(copy)
    assert "contains custom code which must be executed" in refused(copy)


def test_a_pickle_is_not_read_even_if_the_manifest_lists_it(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    torch.save({"evil": print}, copy / "pytorch_model.bin")
    reseal(copy)
    assert "no file named model.safetensors" in refused(copy)


# ------------------------------------------------------------------------------------------------- the decoder's folder


@pytest.fixture
def composed_copy(make_model_dir: Callable[..., Path], tmp_path: Path) -> Path:
    """A composed model's directory to damage."""
    return shutil.copytree(make_model_dir("composed-gpt2", "label"), tmp_path / "composed")


DECODERS = ["decoder/tokenizer.json", "decoder/tokenizer_config.json"]


def test_a_composed_directory_lists_its_decoders_tokenizer_and_any_transformers_reads_its_configuration(
    composed_copy: Path,
) -> None:
    assert sorted(manifest_of(composed_copy)["files"]) == sorted(
        [*DECODERS, *(name for name in NAMES if name != "generation_config.json")]
    )
    config = AutoConfig.from_pretrained(composed_copy)
    assert type(config) is EncoderDecoderConfig
    assert (config.encoder.model_type, config.decoder.model_type) == ("bert", "gpt2")


def test_a_composed_models_answers_survive_a_move_and_a_resave(composed_copy: Path, tmp_path: Path) -> None:
    before = answers(Predictor.load(composed_copy, device="cpu"))
    composed_copy.rename(tmp_path / "moved")
    settings = read_settings(tmp_path / "moved")
    assert settings.conditioning == "label"
    version = checkpoint.resave(tmp_path / "moved", tmp_path / "again", settings, PROVENANCE)
    assert version == manifest_of(tmp_path / "moved")["model_version"]  # the same files, the same answers
    shutil.rmtree(tmp_path / "moved")
    for left, right in zip(before, answers(Predictor.load(tmp_path / "again", device="cpu")), strict=True):
        assert left == right


@pytest.mark.parametrize("name", DECODERS)
def test_a_damaged_or_missing_file_of_the_decoder_is_found(composed_copy: Path, name: str) -> None:
    content = (composed_copy / name).read_bytes()
    (composed_copy / name).write_bytes(content + b" ")
    assert f"{name} is damaged or altered" in refused(composed_copy)
    (composed_copy / name).unlink()
    assert f"{name} is missing" in refused(composed_copy)


def stray_file(directory: Path) -> str:
    (directory / "decoder" / "chat_template.jinja").write_text("x")
    return "decoder/chat_template.jinja is not in manifest.json"


def stray_folder(directory: Path) -> str:
    (directory / "decoder" / "more").mkdir()
    (directory / "decoder" / "more" / "x.json").write_text("{}")
    return "decoder/more is not in manifest.json"


def a_file_for_the_folder(directory: Path) -> str:
    shutil.rmtree(directory / "decoder")
    (directory / "decoder").write_text("x")
    return "decoder/tokenizer.json is missing"


@pytest.mark.parametrize("spoil", [stray_file, stray_folder, a_file_for_the_folder])
def test_what_does_not_belong_into_the_decoders_folder_is_named(
    composed_copy: Path, spoil: Callable[[Path], str]
) -> None:
    assert spoil(composed_copy) in refused(composed_copy)


def test_an_empty_decoders_folder_in_a_model_without_one_is_named(copy: Path) -> None:
    (copy / "decoder").mkdir()
    assert "decoder is not in manifest.json" in refused(copy)


@pytest.mark.parametrize("name", ["tokenizer.json", "decoder/tokenizer.json", "decoder"])
def test_links_are_followed_and_what_they_lead_to_is_verified(composed_copy: Path, tmp_path: Path, name: str) -> None:
    # As hubs' caches and mounted volumes lay files out.
    elsewhere = tmp_path / "elsewhere"
    (composed_copy / name).rename(elsewhere)
    (composed_copy / name).symlink_to(elsewhere)
    checkpoint.verify(composed_copy)
    altered = elsewhere / "tokenizer.json" if elsewhere.is_dir() else elsewhere
    altered.write_text("{}")
    assert "tokenizer.json is damaged or altered" in refused(composed_copy)


# ------------------------------------------------------------------------------------------------------- all or nothing


def test_a_save_that_fails_at_its_end_leaves_nothing(
    trained: Callable[[str], tuple[Network, TextEncoder]], tmp_path: Path
) -> None:
    network, encoder = trained("t5")
    unspeakable = Provenance(metrics={"macro_f1": float("nan")})  # JSON has no NaN: fails when all weights are written
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.save(tmp_path / "model", network, encoder, SETTINGS, unspeakable)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_inside_a_new_directory_takes_it_away(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), new_directory(tmp_path / "new") as temporary:  # noqa: PT012
        (temporary / "half").write_text("written")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_nothing_stands_under_the_name_before_all_is_written(tmp_path: Path) -> None:
    with new_directory(tmp_path / "deep" / "new") as temporary:
        (temporary / "file").write_text("x")
        assert not (tmp_path / "deep" / "new").exists()
    assert os.listdir(tmp_path / "deep") == ["new"]
    assert os.listdir(tmp_path / "deep" / "new") == ["file"]


def test_a_directory_that_exists_is_not_written_over(
    trained: Callable[[str], tuple[Network, TextEncoder]], tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "precious").write_text("x")
    network, encoder = trained("t5")
    with pytest.raises(InputError, match="model exists; give a directory that does not, or remove it first"):
        checkpoint.save(tmp_path / "model", network, encoder, SETTINGS, PROVENANCE)
    assert os.listdir(tmp_path / "model") == ["precious"]


def test_a_directory_that_somebody_makes_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists"), new_directory(tmp_path / "new") as temporary:  # noqa: PT012
        (temporary / "mine").write_text("x")
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "theirs").write_text("x")
    assert os.listdir(tmp_path) == ["new"]
    assert os.listdir(tmp_path / "new") == ["theirs"]


def test_a_resaved_model_differs_in_its_settings_alone(model_dir: Path, tmp_path: Path) -> None:
    settings = replace(read_settings(model_dir), normaliser=Normaliser(1.0, 2.0, 3))
    version = checkpoint.resave(model_dir, tmp_path / "again", settings, Provenance(metrics={"macro_f1": 0.7}))
    first, again = Predictor.load(model_dir, device="cpu"), Predictor.load(tmp_path / "again", device="cpu")
    assert again.model_version == version != first.model_version
    assert again.normaliser == Normaliser(1.0, 2.0, 3)
    assert again.manifest["metrics"] == {"macro_f1": 0.7}
    for left, right in zip(answers(first), answers(again), strict=True):
        assert left.probabilities == right.probabilities
        assert left.explanation_score == right.explanation_score


def test_a_damaged_model_is_not_resaved(copy: Path, tmp_path: Path) -> None:
    (copy / "head.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"head\.safetensors is damaged"):
        checkpoint.resave(copy, tmp_path / "again", SETTINGS, PROVENANCE)
    assert not (tmp_path / "again").exists()
