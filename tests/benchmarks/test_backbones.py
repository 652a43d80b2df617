import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from benchmarks.backbones import main
from benchmarks.cell import Protocol, run_cell
from benchmarks.datasets import DataSet, esnli, hold_out, product_reviews
from benchmarks.grid import run_grid
from benchmarks.ranking import rank_as_served, rank_given_own_labels
from benchmarks.results import append_cell, read_cells
from benchmarks.rows import ROWS, Row, Settled, digest, settle
from benchmarks.tables import BEGIN, END, render, summary, write_tables
from service.model.classification import Item, Prediction
from service.model.errors import InputError
from service.model.predictor import Predictor
from tests import tiny
from training.backbones import Backbone
from training.data import Example
from training.explanation_quality import ranking_accuracy
from training.fitted import fitted_predictor
from training.judge import train_word_judge
from training.offline_parts import cache_directory
from training.pool import initial_set
from training.trainer import TrainerConfig

PROTOCOL = Protocol(num_beams=2, explained=4, scored=3)
CONFIG = TrainerConfig(epochs=1, batch_size=4, learning_rate=1e-3)


@pytest.fixture(scope="module")
def data() -> DataSet:
    """12 pool texts, 6 dev and 4 ranking texts: recorded explanations stand for the texts too."""
    rows = [json.loads(line) for line in tiny.EXPLANATIONS.read_text(encoding="utf-8").splitlines()[:22]]
    labels = [tiny.TASK.label_ids[index % 3] for index in range(len(rows))]
    examples = [
        Example(row["id"], {"text": row["explanations"][label]}, label, None)
        for row, label in zip(rows, labels, strict=True)
    ]
    explanations = {row["id"]: row["explanations"] for row in rows}
    return DataSet("tiny", tiny.TASK, examples[:12], examples[12:18], examples[18:], explanations, shows_texts=True)


@pytest.fixture(scope="module")
def settled(backbone_dir: Callable[[str], Path]) -> Callable[..., Settled]:
    """A row under a name of the table, with a tiny model behind it."""

    def make(name: str, family: str = "t5", **config: Any) -> Settled:
        row = Row(name, "tiny", explains=name != "encoder-only", adapted=name.endswith("adapted"))
        return Settled(row, Backbone("tiny", str(backbone_dir(family))), CONFIG.model_copy(update=config))

    return make


def run(settled: Settled, data: DataSet, **options: Any) -> dict[str, Any]:
    judge = train_word_judge(data.explained(data.pool))
    settings = {"labels": 6, "seed": 0, "device": "cpu", "protocol": PROTOCOL, "progress": False, **options}
    return run_cell(settled, data, {"words": judge}, **settings)


def test_a_cell_holds_every_measure(
    settled: Callable[..., Settled], data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[Predictor] = []

    def kept(*args: Any, **options: Any) -> Predictor:
        fitted.append(fitted_predictor(*args, **options))
        return fitted[-1]

    monkeypatch.setattr("benchmarks.cell.fitted_predictor", kept)
    found = run(settled("minilm-minilm"), data)
    [predictor] = fitted
    gold = [str(example.label) for example in data.dev]
    predicted = [predictor.predict([Item(example.fields)])[0].label for example in data.dev]
    f1 = f1_score(gold, predicted, labels=data.task.label_ids, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(f1)
    assert found["accuracy"] == pytest.approx(np.mean(np.equal(gold, predicted)))
    assert (found["ranking"]["texts"], found["ranking"]["pairs"]) == (4, 8)
    assert found["ranking_own_label"] is None  # of a model that is conditioned on nothing there is none
    assert (found["explained"], found["scored"]) == (4, 3)
    samples = found["samples"]
    assert [sample["predicted"] for sample in samples] == predicted[:4]
    agreed = sum(sample["judged"]["words"] == sample["predicted"] for sample in samples)
    assert found["consistency"]["words"] == agreed / 4
    drawn = initial_set(data.pool, 6 + 3, 0)[6:]  # behind those that were learned from
    by_id = {example.id: example for example in data.pool}
    scored = [predictor.predict([Item(by_id[id_].fields)], explain=True)[0] for id_ in drawn]
    assert found["explanation_score_std"] == pytest.approx(np.std([one.explanation_score for one in scored]), abs=1e-6)
    assert set(found["explanation_share"]) == {"paper", "standardized"}
    assert [sample["id"] for sample in samples] == [example.id for example in data.dev[:4]]
    assert all(sample["text"] == data.dev[i].fields["text"] for i, sample in enumerate(samples))
    assert found["device"] == "cpu"
    json.dumps(found, allow_nan=False)


def test_a_cell_repeats_but_for_its_seconds(settled: Callable[..., Settled], data: DataSet) -> None:
    first, again = (run(settled("minilm-minilm"), data) for _ in range(2))
    for seconds in ("train_seconds", "score_seconds_per_100"):
        assert first.pop(seconds) > 0
        assert again.pop(seconds) > 0
    assert first == again


def test_a_row_without_explanations_measures_none(settled: Callable[..., Settled], data: DataSet) -> None:
    found = run(settled("encoder-only"), data)
    assert "macro_f1" in found
    assert not found.keys() & {"ranking", "consistency", "explanation_share", "samples"}


def test_texts_that_may_not_be_shown_stay_out_of_the_samples(settled: Callable[..., Settled], data: DataSet) -> None:
    hidden = replace(data, shows_texts=False)
    assert all("text" not in sample for sample in run(settled("minilm-minilm"), hidden)["samples"])


def test_a_pool_that_is_too_small_for_the_labels_is_said(settled: Callable[..., Settled], data: DataSet) -> None:
    with pytest.raises(InputError, match="pool of 12"):
        run(settled("encoder-only"), data, labels=10)


@pytest.mark.parametrize("family", ["bert2bert", "composed-llama", "llama"])
def test_a_row_conditioned_on_labels_is_ranked_both_ways(
    settled: Callable[..., Settled], data: DataSet, family: str
) -> None:
    found = run(settled("minilm-minilm-label", family, conditioning="label", pooling="mean"), data)
    assert found["ranking_own_label"]["pairs"] == found["ranking"]["pairs"] == 8


def test_ranking_as_served_is_that_of_the_candidates_scores(model_dir: Path, data: DataSet) -> None:
    predictor = Predictor.load(model_dir, device="cpu")
    rows = []
    for example in data.ranking:
        own = data.explanations[example.id]
        gold = own[str(example.label)]
        others = [text for label, text in own.items() if label != example.label]
        [outcome] = predictor.predict([Item(example.fields, (gold, *others))], explain=True)
        rows.append(outcome.candidate_scores)
    expected = ranking_accuracy(rows)
    assert rank_as_served(predictor, data)[0] == expected
    # Conditioned on nothing, the label that an explanation was written for changes nothing.
    assert rank_given_own_labels(predictor, data) == expected


def test_ranking_where_the_prediction_is_right_is_that_of_these_texts_alone(model_dir: Path, data: DataSet) -> None:
    predictor = Predictor.load(model_dir, device="cpu")
    outcomes = predictor.predict([Item(example.fields) for example in data.ranking])
    predicted = [outcome.label for outcome in outcomes if isinstance(outcome, Prediction)]
    right = [replace(example, label=label) for example, label in zip(data.ranking, predicted, strict=True)]
    wrong = [
        replace(example, label=next(label for label in data.task.label_ids if label != found))
        for example, found in zip(data.ranking, predicted, strict=True)
    ]
    of_right, _ = rank_as_served(predictor, replace(data, ranking=right[:2]))
    assert rank_as_served(predictor, replace(data, ranking=[*right[:2], *wrong[2:]]))[1] == of_right
    assert rank_as_served(predictor, replace(data, ranking=wrong))[1] is None


def test_a_grid_goes_on_where_it_stopped_and_measures_changed_settings_anew(
    settled: Callable[..., Settled], data: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "docs" / "backbones.jsonl"

    def grid(rows: list[Settled], seeds: list[int]) -> list[tuple[str, int]]:
        run_grid(rows, [data], [6], seeds, results, cache=tmp_path, device="cpu", protocol=PROTOCOL, progress=False)
        return [(cell["row"], cell["seed"]) for cell in read_cells(results)]

    floor, other = settled("encoder-only"), settled("minilm-minilm")
    assert grid([floor], [0]) == [("encoder-only", 0)]
    before = results.read_text()
    assert grid([floor], [0]) == [("encoder-only", 0)]
    assert "measured already" in capsys.readouterr().out
    found = grid([floor, other], [0, 1])
    assert found == [("encoder-only", 0), ("minilm-minilm", 0), ("encoder-only", 1), ("minilm-minilm", 1)]
    assert results.read_text().startswith(before)
    assert len(grid([settled("encoder-only", epochs=2)], [0])) == 5
    assert list(results.parent.iterdir()) == [results]  # no lock, no half-written file is left
    cell = read_cells(results)[0]
    assert cell["settings"]["trainer"]["epochs"] == 1
    assert cell["versions"]["torch"]


def test_an_adapted_row_trains_on_a_backbone_made_once_for_the_pool(
    settled: Callable[..., Settled], data: DataSet, tmp_path: Path
) -> None:
    row = settled("minilm-smollm2-adapted", "composed-llama", pooling="mean")
    corpus = replace(data, name="other", pool=data.dev)
    results = tmp_path / "results.jsonl"
    run_grid(
        [row],
        [data],
        [6],
        [0, 1],
        results,
        cache=tmp_path,
        corpora=[data, corpus],
        device="cpu",
        protocol=PROTOCOL,
        progress=False,
    )
    assert len(list((tmp_path / "adapted").iterdir())) == 1
    settings = read_cells(results)[0]["settings"]
    assert settings["source"] == Path(row.backbone.source).name
    assert settings["adaptation"]["corpus"] == corpus.digest
    assert read_cells(results)[1]["adaptation"]["texts"] == 12
    ready = row.adapted_to(data, corpus, cache=tmp_path, device="cpu", progress=False)
    assert Path(ready.backbone.source).parent == tmp_path / "adapted"


def test_whole_groups_are_held_out_as_many_as_fit() -> None:
    examples = [Example(f"{group}_{i}", {"text": "x"}, None, None) for group in range(10) for i in range(3)]
    kept, held_out = hold_out(examples, 10, lambda example: example.id[0])
    assert len(held_out) == 9  # three groups of three; a fourth does not fit
    assert {example.id[0] for example in kept}.isdisjoint(example.id[0] for example in held_out)
    assert [*sorted([*kept, *held_out], key=examples.index)] == examples
    assert hold_out(examples[::-1], 10, lambda example: example.id[0])[1] == held_out[::-1]


def test_the_product_reviews_are_parted_by_review_and_leave_texts_to_score() -> None:
    found = product_reviews(cache_directory())
    assert (len(found.pool), len(found.ranking), len(found.dev)) == (400, 200, 625)
    parts = [{example.id.partition("_")[0] for example in part} for part in (found.pool, found.ranking, found.dev)]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert set(found.explained(found.pool)) | set(found.explained(found.ranking)) == set(found.explanations)


def esnli_file(path: Path, rows: int) -> Path:
    labels = ("entailment", "neutral", "contradiction")
    content = [
        {
            "id": f"{number}",
            "sentence1": f"premise {number // 3}",
            "sentence2": f"hypothesis {number}",
            "label": labels[number % 3],
            "split": "test" if number % 30 > 26 else "train",
            "explanations": {label: f"{label} because of {number}" for label in labels},
        }
        for number in range(rows)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


def test_esnli_is_parted_by_premise_and_its_test_rows_are_left_aside(tmp_path: Path) -> None:
    found = esnli(esnli_file(tmp_path / "esnli.jsonl", 1500))
    parts = (found.pool, found.dev, found.ranking)
    assert all(example.split == "train" for part in parts for example in part)
    assert sum(map(len, parts)) == 1350
    assert (len(found.dev), len(found.ranking)) == (798, 198)  # premises have three rows each
    premises = [{example.fields["sentence1"] for example in part} for part in parts]
    assert sum(map(len, premises)) == len(set.union(*premises))
    assert not found.shows_texts
    with pytest.raises(InputError, match=r"more than 1000 rows of split train, found 901"):
        esnli(esnli_file(tmp_path / "few.jsonl", 1000))


def test_the_digest_changes_with_the_data_and_with_the_settings(settled: Callable[..., Settled], data: DataSet) -> None:
    other = replace(data, pool=data.pool[1:])
    assert data.digest != other.digest
    assert digest(settled("minilm-minilm").settings(None)) != digest(
        settled("minilm-minilm", lambda2=1.0).settings(None)
    )
    row = settled("minilm-smollm2-adapted")
    assert digest(row.settings(None)) != digest(row.settings(data)) != digest(row.settings(other))


def test_a_row_that_this_version_cannot_train_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^row odd: model \S+/none: no such directory"):
        settle(Row("odd", str(tmp_path / "none")), tmp_path)


def cell(row: str, seed: int, macro_f1: float, **other: Any) -> dict[str, Any]:
    key = {"row": row, "data": "tiny", "labels": 100, "seed": seed, "digest": "a"}
    seconds = {"train_seconds": 10.0, "score_seconds_per_100": 1.5, "device": "cpu", "threads": 2}
    return key | {"macro_f1": macro_f1, "accuracy": 0.5} | seconds | other


def test_a_mean_has_its_standard_error_by_hand() -> None:
    assert summary([0.5, 0.6, 0.7], 3) == "0.600 ± 0.058"  # 0.1 / sqrt(3)
    assert summary([0.5], 2) == "0.50"
    assert summary([None, 0.5], 2) == summary([], 2) == "-"


def test_the_tables_count_seeds_and_leave_out_what_other_settings_measured() -> None:
    old = cell("minilm-minilm", 2, 0.1) | {"digest": "old"}
    shown = cell(
        "minilm-minilm",
        0,
        0.5,
        ranking={"value": 0.75, "standard_error": 0.03, "texts": 4, "pairs": 8},
        consistency={"encoder": 0.9, "words": 0.8},
        judge_accuracy={"encoder": 0.96, "words": 0.91},
        samples=[
            {"id": "1", "text": "a|b", "gold": "x", "predicted": "y", "judged": {"encoder": "y"}, "explanation": ""}
        ],
    )
    page = render(
        [old, shown, cell("minilm-minilm", 1, 0.7), cell("encoder-only", 0, 0.4), cell("encoder-only", 0, 0.6)]
    )
    lines = [line for line in page.splitlines() if line.startswith("| minilm-minilm |")]
    assert lines[0].startswith("| minilm-minilm | 2 | 0.600 ± 0.100 | 0.500 ± 0.000 | - |")  # one seed has no ranking
    assert lines[1].endswith("| 10 ± 0 | 1.5 ± 0.0 | cpu, 2 threads |")
    assert "| encoder-only | 1 | 0.600 |" in page  # the later measurement of one cell counts
    assert page.index("| encoder-only") < page.index("| minilm-minilm")
    assert "96.0%, the word judge of 91.0%" in page
    assert "| a\\|b | x | y | y | (nothing) |" in page


def test_tables_replace_what_stands_between_the_marks_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_tables([cell("encoder-only", 0, 0.5)], page)
    once = page.read_text()
    assert once.startswith(f"before\n{BEGIN}\n")
    assert once.endswith(f"{END}\nafter\n")
    assert "old" not in once
    write_tables([cell("encoder-only", 0, 0.5)], page)
    assert page.read_text() == once
    page.write_text("nothing")
    with pytest.raises(InputError, match="expected the lines"):
        write_tables([], page)


def test_cells_are_appended_whole_and_in_order(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    assert read_cells(results) == []
    for seed in range(3):
        append_cell(results, cell("encoder-only", seed, 0.5))
    assert [entry["seed"] for entry in read_cells(results)] == [0, 1, 2]
    with pytest.raises(ValueError, match="JSON"):
        append_cell(results, {"macro_f1": float("nan")})
    assert len(read_cells(results)) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--row", "none"], "no row 'none'; there are encoder-only"),
        (["--row", "encoder-only", "--data", "none"], "no data set 'none'"),
        (["--row", "encoder-only", "--data", "e-snli"], "name it with --esnli FILE"),
    ],
)
def test_wrong_names_end_the_command_with_what_there_is(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_the_command_makes_the_tables_of_the_page(tmp_path: Path) -> None:
    page, results = tmp_path / "page.md", tmp_path / "results.jsonl"
    page.write_text(f"{BEGIN}\n{END}\n")
    append_cell(results, cell("encoder-only", 0, 0.5))
    assert main(["--table", "--results", str(results), "--page", str(page)]) == 0
    assert "| encoder-only | 1 | 0.500 |" in page.read_text()


def test_the_page_holds_the_marks_and_describes_every_row() -> None:
    page = (tiny.ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")
    assert page.count(BEGIN) == page.count(END) == 1
    for row in ROWS.values():
        assert f"`{row.name.replace('-label', '').replace('-adapted', '')}`" in page
