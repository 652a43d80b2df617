"""Adaptation before round 0: what it learns from, what it leaves alone, and that it is done once."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from service.model.errors import InputError, XalError
from service.model.families import load_network
from service.model.network import Network
from service.model.scoring import explanation_score
from service.model.task import Task
from tests import tiny
from training import adaptation
from training.adaptation import AdaptationConfig, Corpus, adaptation_config, adapted
from training.backbones import Backbone
from training.config import RunConfig
from training.data import Example
from training.loop import Loop
from training.trainer import TrainerConfig

CPU = torch.device("cpu")
POOL = [Example(str(i), {"text": text}, None, "train") for i, text in enumerate(tiny.sentences(8))]
SMALL = AdaptationConfig(epochs=2, learning_rate=3e-3, precision="float32")
PAIRS = Task.from_dict(
    {
        **tiny.TASK.to_dict(),
        "name": "pairs",
        "fields": ["sentence1", "sentence2"],
        "labels": {"yes": "entailed", "no": "not entailed"},
        "input": "{sentence1} {sentence2}",
        "prompt": "{sentence1} {sentence2} is {label}, why?",
    }
)
CORPUS = Corpus(
    PAIRS,
    [Example(str(i), {"sentence1": "a plug", "sentence2": f"item {i}"}, ("yes", "no")[i % 2], None) for i in range(6)],
    {str(i): {"yes": f"an item {i} has a plug", "no": "a plug is no such item"} for i in range(6)},
)


def run(
    backbone: Path,
    cache: Path,
    corpus: Corpus | None = None,
    config: AdaptationConfig = SMALL,
    pool: list[Example] = POOL,
) -> Path:
    found = adapted(
        Backbone("tiny", str(backbone), {"epochs": 3}),
        pool,
        corpus,
        task=tiny.TASK,
        config=config,
        device=CPU,
        cache=cache,
        progress=False,
    )
    assert (found.name, found.training) == ("tiny", {"epochs": 3})
    return Path(found.source)


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def changed(before: Path, after: Path) -> set[str]:
    old, new = weights(before), weights(after)
    assert old.keys() == new.keys()
    return {name for name in old if old[name].shape != new[name].shape or not torch.equal(old[name], new[name])}


@pytest.fixture(params=tiny.FAMILIES)
def backbone(request: pytest.FixtureRequest, backbone_dir: Callable[[str], Path]) -> Path:
    """A tiny backbone of every family in turn."""
    return backbone_dir(request.param)


def test_every_family_is_adapted_to_texts_and_to_another_tasks_explanations(backbone: Path, tmp_path: Path) -> None:
    directory = run(backbone, tmp_path, CORPUS)
    report = json.loads((directory / "adaptation.json").read_text())
    assert (report["texts"], report["explanations"]) == (24, 6)
    assert report["last_loss"] < report["first_loss"]
    network, encoder = load_network(directory, tiny.TASK, "mean", "label")
    assert len(network.cues) == 3
    assert encoder.encode_explanation("good")


def test_the_encoder_beside_a_decoder_stays_as_it_is(backbone_dir: Callable[[str], Path], tmp_path: Path) -> None:
    for family, decoder in (("composed-gpt2", ("decoder.", "bridge.")), ("bert2bert", ("decoder.", "lm_head"))):
        found = changed(backbone_dir(family), run(backbone_dir(family), tmp_path / family, CORPUS))
        assert found
        assert all(name.startswith(decoder) for name in found), found
    assert "bridge.weight" in changed(backbone_dir("composed-gpt2"), run(backbone_dir("composed-gpt2"), tmp_path / "a"))


def test_only_what_the_tuning_says_of_the_decoder_is_trained(
    backbone_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    config = SMALL.model_copy(update={"decoder_tuning": "top-1"})
    found = changed(backbone_dir("composed-llama"), run(backbone_dir("composed-llama"), tmp_path, config=config))
    assert {name.split(".")[0] for name in found} == {"bridge", "decoder"}
    assert not any(".layers.0." in name or "embed" in name for name in found)


def test_denoising_teaches_the_decoder_to_take_a_text_from_the_soft_prefix(
    backbone_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    """The words that are left out can only come from the encoder: after adaptation the right text's states help."""
    config = AdaptationConfig(epochs=60, learning_rate=5e-3, left_out=1.0, precision="float32")
    directory = run(backbone_dir("composed-gpt2"), tmp_path, config=config, pool=POOL[:6])
    network, encoder = load_network(directory, tiny.TASK, "mean")
    network = network.eval().with_cues([encoder.decoder_tokens(adaptation.DENOISING_CUE)])
    texts = [encoder.encode_fields(example.fields) for example in POOL[:6]]
    # As the denoising saw them: the decoder reads one word of each.
    first = [encoder.encode_fields({"text": example.fields["text"].split()[0]}) for example in POOL[:6]]
    targets = encoder.batch([encoder.encode_explanation(example.fields["text"]) for example in POOL[:6]])

    def score(order: list[int]) -> float:
        batch = encoder.inputs(
            [type(texts[0])(texts[i].ids, False, first[row].decoder_ids) for row, i in enumerate(order)]
        )
        with torch.inference_mode():
            log_probs = network.explanation_log_probs(network.encode(batch), targets)
        return explanation_score(log_probs, targets.mask).mean().item()

    assert score([0, 1, 2, 3, 4, 5]) > score([3, 4, 5, 0, 1, 2]) + 0.03


def test_it_is_made_once_and_anew_when_anything_that_it_depends_on_changes(
    backbone_dir: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = backbone_dir("t5")
    first = run(backbone, tmp_path)
    made = tmp_path / "made.json"
    made.hardlink_to(first / "adaptation.json")
    labeled = [Example(e.id, e.fields, "positive", e.split) for e in POOL]
    assert run(backbone, tmp_path, pool=labeled) == first  # labels are not looked at
    assert made.samefile(first / "adaptation.json")
    others = [
        run(backbone, tmp_path, pool=POOL[1:]),
        run(backbone, tmp_path, corpus=CORPUS),
        run(backbone, tmp_path, config=SMALL.model_copy(update={"seed": 1})),
        run(backbone_dir("bart"), tmp_path),
    ]
    assert len({first, *others}) == 5
    swapped = [Example(e.id, e.fields, {"yes": "no", "no": "yes"}[str(e.label)], e.split) for e in CORPUS.examples]
    assert run(backbone, tmp_path, corpus=replace(CORPUS, examples=swapped)) not in {first, *others}
    twin = shutil.copytree(backbone, tmp_path / "elsewhere" / backbone.name)
    assert run(twin, tmp_path) == first
    altered = load_file(twin / "model.safetensors")
    save_file({name: value * 2 for name, value in altered.items()}, twin / "model.safetensors", {"format": "pt"})
    assert run(twin, tmp_path) not in {first, *others}
    monkeypatch.setattr(adaptation, "RECIPE", adaptation.RECIPE + 1)
    assert run(backbone, tmp_path) not in {first, *others}


def test_the_same_adaptation_gives_the_same_weights_and_leaves_the_global_generator_alone(
    backbone_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one = run(backbone_dir("composed-llama"), tmp_path / "one", CORPUS)
    assert torch.equal(torch.rand(1), expected)
    torch.rand(7)
    other = run(backbone_dir("composed-llama"), tmp_path / "other", CORPUS)
    assert changed(one, other) == set()


def test_a_loss_that_is_no_number_leaves_nothing_behind(
    backbone_dir: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptation, "generation_loss", lambda scores, _: scores.sum() * float("nan"))
    with pytest.raises(XalError, match="the loss is nan; lower the learning rate"):
        run(backbone_dir("t5"), tmp_path)
    assert [path for path in (tmp_path / "adapted").iterdir() if not path.name.startswith(".")] == []


# ------------------------------------------------------------------------------------------------------------- corpus


def write_corpus(folder: Path, rows: list[dict[str, object]]) -> tuple[Path, Path]:
    file, task = folder / "corpus.jsonl", folder / "corpus.yaml"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task.write_text(yaml.safe_dump(PAIRS.to_dict(), sort_keys=False))
    return file, task


def corpus_row(id: str, split: str, **explanations: str) -> dict[str, object]:
    fields = {"sentence1": "a plug", "sentence2": "an item"}
    return {"id": id, **fields, "label": "yes", "split": split, "explanations": explanations}


def test_a_corpus_is_its_training_rows_with_all_explanations(tmp_path: Path) -> None:
    rows = [
        corpus_row("a", "train", yes="it is", no="it is not"),
        corpus_row("b", "test", yes="seen", no="never"),
        corpus_row("c", "train", yes="half of it"),
    ]
    corpus = Corpus.read(*write_corpus(tmp_path, rows))
    assert [example.id for example in corpus.examples] == ["a"]
    assert corpus.explanations == {"a": {"yes": "it is", "no": "it is not"}}


def test_a_corpus_without_a_usable_row_is_refused(tmp_path: Path) -> None:
    file, task = write_corpus(tmp_path, [corpus_row("b", "test", yes="seen", no="never")])
    with pytest.raises(InputError, match=r"corpus.jsonl: no row .* explains every label of pairs"):
        Corpus.read(file, task)


# ---------------------------------------------------------------------------------------------------------------- runs


def test_a_run_adapts_before_round_0_and_every_other_run_of_the_pool_uses_it_again(
    make_loop: Callable[..., Loop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, corpus_task = write_corpus(
        tmp_path, [corpus_row(str(i), "train", yes=f"it is item {i}", no="it is not") for i in range(4)]
    )
    options = {"adapt": True, "adapt_corpus": corpus, "adapt_corpus_task": corpus_task, "budget": 6}
    loop = make_loop(tmp_path / "run", **options)
    assert Path(loop.source).parent.name == "adapted"
    report = json.loads((Path(loop.source) / "adaptation.json").read_text())
    assert (report["texts"], report["explanations"]) == (24, 4)  # the pool alone: dev and test are not in it
    assert len(list(loop.rounds())) == 1
    config = RunConfig.load(tmp_path / "run")
    assert config.adaptation is not None
    assert config.adaptation["corpus_task"]["name"] == "pairs"
    monkeypatch.setattr(adaptation, "_adapt", None)  # whoever calls it now fails
    again = make_loop(
        tmp_path / "other", **options, strategy="random", seed=7, initial_set=2, train_on_explanations=True
    )
    assert again.source == loop.source


def test_an_adapted_run_does_not_go_on_as_a_plain_one(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    loop = make_loop(tmp_path / "run", adapt=True, budget=6)
    list(loop.rounds())
    with pytest.raises(InputError, match="adaptation"):
        list(make_loop(tmp_path / "run", budget=6).rounds())


@pytest.mark.parametrize(("model", "of_use"), [("composed-gpt2", False), ("llama", True)])
def test_a_run_from_labels_alone_adapts_only_what_reads_with_its_decoder(
    make_loop: Callable[..., Loop], backbone_dir: Callable[[str], Path], tmp_path: Path, model: str, of_use: bool
) -> None:
    loop = make_loop(tmp_path / "run", adapt=True, budget=6, strategy="random", model=str(backbone_dir(model)))
    assert (Path(loop.source).parent.name == "adapted") == of_use
    assert (loop.config.adaptation is not None) == of_use


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"adapt": True, "adapt_corpus": Path("x.jsonl")},
            "--adapt-corpus FILE and --adapt-corpus-task .* go together",
        ),
        ({"adapt_corpus": Path("x.jsonl"), "adapt_corpus_task": Path("t.yaml")}, "give --adapt too"),
    ],
)
def test_half_an_adaptation_is_refused(
    make_loop: Callable[..., Loop], tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_loop(tmp_path / "run", **options)


@pytest.mark.parametrize("copied", ["corpus.jsonl", "data.jsonl"])
def test_the_runs_own_labels_are_no_corpus(
    make_loop: Callable[..., Loop], example_files: dict[str, Path], tmp_path: Path, copied: str
) -> None:
    corpus = shutil.copy(example_files["data"], tmp_path / copied)
    options = {"adapt": True, "adapt_corpus": Path(corpus), "adapt_corpus_task": example_files["task"]}
    with pytest.raises(InputError, match=r"is the run's own data, whose labels .* give explanations of another task"):
        make_loop(tmp_path / "run", **options)


def test_adaptation_trains_as_the_rounds_after_it_will() -> None:
    trainer = TrainerConfig(
        learning_rate=1e-4,
        decoder_learning_rate=2e-3,
        conditioning="label",
        decoder_tuning="lora-4",
        precision="float32",
    )
    config = adaptation_config(trainer)
    assert (config.learning_rate, config.conditioning, config.decoder_tuning) == (2e-3, "label", "lora-4")
    assert config.precision == "float32"
    assert adaptation_config(TrainerConfig(learning_rate=3e-4)).learning_rate == 3e-4


def test_other_cues_share_all_weights(backbone_dir: Callable[[str], Path]) -> None:
    network, encoder = load_network(backbone_dir("composed-llama"), tiny.TASK, "mean", "label")
    other: Network = network.with_cues([encoder.decoder_tokens("so:")])
    assert (network.conditioning, other.conditioning) == ("label", "none")
    assert all(a is b for a, b in zip(network.parameters(), other.parameters(), strict=True))
