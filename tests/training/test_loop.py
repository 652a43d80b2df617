"""Algorithm 1: what each round holds, and what it depends on."""

import json
import math
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import f1_score

from service.model import checkpoint
from service.model.classification import Item, Prediction
from service.model.errors import InputError
from service.model.predictor import Predictor
from tests.training_fixtures import SMALL, comparable
from training.cold_start import diverse_initial_set
from training.config import Until
from training.evaluation import calibration_error
from training.held_out import measure_explanations
from training.judge import train_word_judge
from training.loop import Loop, read_rounds
from training.pool import initial_set
from training.predictions import measure
from training.round_map import LABELED, MAP_FILE, REST, SELECTED
from training.round_model import model_directory, round_directory
from training.selection import redundancy
from training.strategies import STRATEGIES
from training.teacher import Explained, Teacher, Usage
from training.trainer import fit

XAL = Path(sys.executable).with_name("xal")


def test_rounds_label_the_budget_in_queries_that_never_repeat_a_text(finished_run: Path) -> None:
    rounds = read_rounds(finished_run)
    assert [entry["round"] for entry in rounds] == [0, 1, 2]
    assert [entry["n_labeled"] for entry in rounds] == [6, 12, 18]
    chosen = [id_ for entry in rounds for id_ in entry["selected_ids"]]
    assert len(chosen) == len(set(chosen)) == 18
    assert [entry["queried_ids"] for entry in rounds] == [rounds[1]["selected_ids"], rounds[2]["selected_ids"], []]


def test_every_round_tells_what_the_reports_read(finished_run: Path) -> None:
    for entry in read_rounds(finished_run):
        assert entry["n_test"] == 9
        assert set(entry["seconds"]) == {"teach", "train", "evaluate", "score", "select", "map"}
        assert entry["teacher"]["cost"] == 0
    config = yaml.safe_load((finished_run / "config.yaml").read_text())
    assert config["strategy"] == "xal"
    assert config["seed"] == 0
    assert config["versions"]["torch"].startswith("2.13.0")
    assert len(config["data"]["sha256"]) == 64


def test_a_selection_is_the_highest_acquisition_score_of_the_saved_model(
    finished_run: Path, make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    first = read_rounds(finished_run)[0]
    waiting = [e for e in make_loop(tmp_path / "unused").splits.train if e.id not in first["selected_ids"]]
    predictor = Predictor.load(model_directory(finished_run, 0), device="cpu")
    found = [predictor.predict([Item(e.fields)], explain=True)[0] for e in waiting]  # one by one, unlike the loop
    p = [o.explanation_score or 0 for o in found if isinstance(o, Prediction)]
    c = [o.entropy for o in found if isinstance(o, Prediction)]
    z_p, z_c = sum(math.exp(-x) for x in p), sum(math.exp(x) for x in c)
    scores = [0.5 / 1.5 * math.exp(-a) / z_p + 1 / 1.5 * math.exp(b) / z_c for a, b in zip(p, c, strict=True)]
    best = sorted(range(len(scores)), key=lambda i: -scores[i])[:6]
    assert {waiting[i].id for i in best} == set(first["queried_ids"])
    assert first["normaliser"]["size"] == 18
    assert first["normaliser"]["log_z_p"] == pytest.approx(math.log(z_p), abs=1e-5)
    assert first["normaliser"]["log_z_c"] == pytest.approx(math.log(z_c), abs=1e-5)


@pytest.mark.parametrize("strategy", ["xal", "xal-std"])
def test_a_prefilter_that_samples_all_others_chooses_as_without_it_and_tells_what_it_would_keep(
    make_loop: Callable[..., Loop], tmp_path: Path, strategy: str
) -> None:
    options = {"strategy": strategy, "budget": 12, "lambda_": 5.0}
    plain = list(make_loop(tmp_path / "plain", **options).rounds())
    found = list(make_loop(tmp_path / "some", prefilter=1.0, prefilter_sample=24, **options).rounds())
    for entry, other in zip(found, plain, strict=True):
        assert entry["queried_ids"] == other["queried_ids"]
        assert entry["model_version"] == other["model_version"]
        assert entry["normaliser"] == pytest.approx(other["normaliser"])
        assert entry["selection"].keys() == other["selection"].keys()
        assert entry["selection"]["explanation_share"] == pytest.approx(other["selection"]["explanation_share"])
        for name in ("n", "size", "overlap_with_entropy", "overlap_with_random"):
            assert entry["selection"][name] == other["selection"][name]
        # With R = 1 the candidates are what entropy alone would choose.
        kept = entry["prefilter"].pop("kept_share")
        assert kept == pytest.approx(other["selection"]["overlap_with_entropy"])
        waiting = 24 - entry["n_labeled"]
        assert entry["prefilter"] == {
            "explained": waiting, "of": waiting, "candidates": 6, "sampled": waiting - 6, "size": 6,
        }  # fmt: skip
        assert other["prefilter"] is None


def test_a_run_with_a_prefilter_chooses_among_explained_texts_by_sums_over_the_pool(
    make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    loop = make_loop(tmp_path / "r", prefilter=1.5, prefilter_sample=3, budget=12)
    first, last = loop.rounds()
    config = yaml.safe_load((tmp_path / "r" / "config.yaml").read_text())
    assert config["prefilter"] == {"ratio": 1.5, "sample": 3}
    kept = first["prefilter"].pop("kept_share")
    assert 0 <= kept <= 1
    assert first["prefilter"] == {"explained": 12, "of": 18, "candidates": 9, "sampled": 3, "size": 6}
    assert last["prefilter"]["of"] == 12
    waiting = [e for e in loop.splits.train if e.id not in first["selected_ids"]]
    predictor = Predictor.load(model_directory(tmp_path / "r", 0), device="cpu")
    found = {e.id: predictor.predict([Item(e.fields)], explain=True)[0] for e in waiting}
    c = {id_: o.entropy for id_, o in found.items() if isinstance(o, Prediction)}
    candidates = sorted(c, key=lambda id_: -c[id_])[:9]
    assert len(set(first["queried_ids"]) - set(candidates)) <= 3  # the sample may be chosen too
    assert first["normaliser"]["size"] == 18
    assert first["normaliser"]["log_z_c"] == pytest.approx(math.log(sum(map(math.exp, c.values()))), abs=1e-5)
    # Z_p: each of the 3 sampled stands for 3 of the 9 others, at the least and at the most as they can be.
    term = {id_: math.exp(-(o.explanation_score or 0)) for id_, o in found.items() if isinstance(o, Prediction)}
    others = sorted(term[id_] for id_ in term if id_ not in candidates)
    own = sum(term[id_] for id_ in candidates)
    assert own + 3 * sum(others[:3]) <= math.exp(first["normaliser"]["log_z_p"]) * (1 + 1e-5)
    assert own + 3 * sum(others[-3:]) >= math.exp(first["normaliser"]["log_z_p"]) * (1 - 1e-5)


def test_the_same_settings_give_the_same_run(
    finished_run: Path, make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    again = list(make_loop(tmp_path / "again").rounds())
    assert comparable(again) == comparable(read_rounds(finished_run))


def test_the_initial_set_depends_on_its_number_alone(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    first = {}
    for name, options in {
        "a": {"strategy": "random", "explanations": None, "seed": 0},
        "b": {"strategy": "entropy", "explanations": None, "seed": 5},
        "c": {"strategy": "random", "explanations": None, "initial_set": 1},
    }.items():
        loop = make_loop(tmp_path / name, budget=6, **options)
        first[name] = next(loop.rounds())["selected_ids"]
        assert first[name] == initial_set(loop.splits.train, 6, loop.config.initial_set)
    assert first["a"] == first["b"] != first["c"]


@pytest.mark.parametrize("strategy", ["random", "entropy"])
def test_baselines_train_without_explanations_as_in_the_paper(
    make_loop: Callable[..., Loop], tmp_path: Path, strategy: str
) -> None:
    loop = make_loop(tmp_path / strategy, strategy=strategy, budget=12)
    rounds = list(loop.rounds())
    assert loop.teacher is None
    assert all(entry["normaliser"] is None and entry["selection"] is None for entry in rounds)
    assert not Predictor.load(model_directory(tmp_path / strategy, 1)).trained_on_explanations


def test_a_last_query_takes_what_is_left_of_the_budget(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    rounds = list(make_loop(tmp_path / "r", strategy="random", explanations=None, budget=8).rounds())
    assert [entry["n_labeled"] for entry in rounds] == [6, 8]


def test_a_pool_can_be_labeled_to_its_end(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    rounds = list(make_loop(tmp_path / "r", budget=24, query_size=12).rounds())
    assert [entry["n_labeled"] for entry in rounds] == [12, 24]
    assert rounds[-1]["normaliser"] is None  # nothing is left to sum over


def test_every_round_starts_from_the_pretrained_weights_unless_warm_started(
    make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    options = {"trainer": {**SMALL, "epochs": 2}, "strategy": "random", "explanations": None, "budget": 12}
    last_models = []
    for warm in (False, True):
        loop = make_loop(tmp_path / f"{warm}", warm_start=warm, **options)
        by_id = {example.id: example for example in loop.splits.train}
        labeled = [by_id[id_] for entry in loop.rounds() for id_ in entry["selected_ids"]]
        expected, _ = fit(
            labeled,
            None,
            task=loop.task,
            source=loop.source,
            config=loop.config.trainer,
            seed=loop.config.seed,
            device=torch.device("cpu"),
            warm_start=model_directory(loop.directory, 0) if warm else None,
            progress=False,
        )
        last_models.append(checkpoint.load(model_directory(loop.directory, 1)).network.state_dict())
        for name, weights in expected.state_dict().items():
            assert torch.equal(last_models[-1][name], weights), (warm, name)
    anew, warmed = last_models
    assert any(not torch.equal(anew[name], warmed[name]) for name in anew)


def test_only_the_last_model_is_kept_if_so_asked(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    list(make_loop(tmp_path / "r", keep_models="last", budget=12).rounds())
    assert not model_directory(tmp_path / "r", 0).exists()
    assert model_directory(tmp_path / "r", 1).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query_size": 30, "budget": 30}, "query size of 30 is larger than the pool of 24"),
        ({"budget": 25}, "budget of 25 is larger than the pool of 24"),
        ({"query_size": 0}, "query size is 0"),
    ],
)
def test_a_budget_that_does_not_fit_the_pool_leaves_nothing_behind(
    make_loop: Callable[..., Loop], tmp_path: Path, options: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        next(make_loop(tmp_path / "r", **options).rounds())
    assert not (tmp_path / "r").exists()


def test_more_layers_than_the_decoder_has_are_refused_before_anything_is_written_or_paid(
    make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="expected at most top-2, all of the decoder's layers; found 99"):
        make_loop(tmp_path / "r", trainer={"decoder_tuning": "top-99"})
    assert not (tmp_path / "r").exists()


def test_a_selected_text_without_explanations_is_named(
    make_loop: Callable[..., Loop], example_files: dict[str, Path], tmp_path: Path
) -> None:
    lines = example_files["explanations"].read_text().splitlines()
    partial = tmp_path / "partial.jsonl"
    partial.write_text("\n".join(lines[:20]) + "\n")
    missing = {json.loads(line)["id"] for line in lines[20:]}
    with pytest.raises(InputError, match=r"partial\.jsonl: no explanation") as caught:
        list(make_loop(tmp_path / "r", explanations=partial, budget=24).rounds())
    assert any(id_ in str(caught.value) for id_ in missing)
    # Once the file explains them, the run goes on; ...
    partial.write_text("\n".join(lines) + "\n")
    rounds = list(make_loop(tmp_path / "r", explanations=partial, budget=24).rounds())
    assert rounds[-1]["n_labeled"] == 24
    # ... kept out of the pool, they do no harm.
    partial.write_text("\n".join(lines[:20]) + "\n")
    loop = make_loop(tmp_path / "s", explanations=partial, only_explained=True)
    assert not missing & {example.id for example in loop.splits.train}


def waiting_and_predicted(loop: Loop, number: int) -> dict[str, Prediction]:
    """What the model of a round says of each text that waits after it, asked one by one."""
    rounds = read_rounds(loop.directory)
    labeled = {id_ for entry in rounds[: number + 1] for id_ in entry["selected_ids"]}
    predictor = Predictor.load(model_directory(loop.directory, number), device="cpu")
    found = {}
    for example in loop.splits.train:
        if example.id not in labeled:
            outcome = predictor.predict([Item(example.fields)], explain=True)[0]
            assert isinstance(outcome, Prediction)
            found[example.id] = outcome
    return found


def test_the_measures_are_those_of_the_test_texts_and_of_the_dev_texts(
    finished_run: Path, make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    loop = make_loop(tmp_path / "unused")
    labels = loop.task.label_ids
    for number, entry in enumerate(read_rounds(finished_run)):
        predictor = Predictor.load(model_directory(finished_run, number), device="cpu")
        for measured, examples in ((entry, loop.splits.test), (entry["dev"], loop.splits.dev)):
            found = [predictor.predict([Item(e.fields)])[0] for e in examples]  # one by one, unlike the loop
            p = [list(o.probabilities.values()) for o in found if isinstance(o, Prediction)]
            gold, predicted = [str(e.label) for e in examples], [labels[np.argmax(row)] for row in p]
            f1 = f1_score(gold, predicted, labels=labels, average="macro", zero_division=0)
            assert measured["macro_f1"] == pytest.approx(f1)
            assert measured["accuracy"] == pytest.approx(np.mean(np.equal(gold, predicted)))
            error = calibration_error(p, [labels.index(label) for label in gold])
            assert measured["calibration_error"] == pytest.approx(error, abs=1e-6)


def test_rounds_tell_the_most_and_the_least_reasonable_explanations_and_how_alike_the_query_is(
    finished_run: Path, make_loop: Callable[..., Loop]
) -> None:
    found = waiting_and_predicted(make_loop(finished_run), 0)
    first, _, last = read_rounds(finished_run)
    by_score = sorted(found, key=lambda id_: -(found[id_].explanation_score or 0))
    assert [entry["id"] for entry in first["explanation_examples"]["most"]] == by_score[:5]
    assert [entry["id"] for entry in first["explanation_examples"]["least"]] == by_score[:-6:-1]
    shown = first["explanation_examples"]["least"][0]
    assert shown["explanation"] == found[shown["id"]].explanation
    assert shown["predicted"] == found[shown["id"]].label
    unit = {id_: o.h0 / np.linalg.norm(o.h0) for id_, o in found.items()}
    query = first["queried_ids"]
    nearest = [max(float(unit[a] @ unit[b]) for b in query if b != a) for a in query]
    assert first["redundancy"]["chosen"] == pytest.approx(np.mean(nearest), abs=1e-5)
    every, chosen = list(found), np.array([list(found).index(id_) for id_ in query])
    expected = redundancy(np.stack([found[id_].h0 for id_ in every]), chosen)
    assert first["redundancy"] == pytest.approx(expected, abs=1e-5)
    assert len(last["explanation_examples"]["most"]) == 3  # of 6 that are left
    assert first["explanations"] is None  # not asked for


def test_a_round_that_saw_no_explanations_shows_none(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    for strategy, sees_the_pool in (("random", False), ("entropy", True)):
        first, last = make_loop(tmp_path / strategy, strategy=strategy, budget=12).rounds()
        assert first["explanation_examples"] is None
        assert (first["redundancy"] is not None) == sees_the_pool
        assert last["redundancy"] is None  # nothing more was chosen
        assert 0 <= first["calibration_error"] <= 1
        assert (round_directory(tmp_path / strategy, 0) / MAP_FILE).exists() == sees_the_pool


def test_a_map_holds_the_labeled_the_chosen_and_the_other_texts_with_their_labels(
    finished_run: Path, make_loop: Callable[..., Loop]
) -> None:
    loop = make_loop(finished_run)
    index = {example.id: loop.task.label_ids.index(str(example.label)) for example in loop.splits.train}
    rounds = read_rounds(finished_run)
    labeled: list[str] = []
    for number, entry in enumerate(rounds):
        labeled += entry["selected_ids"]
        with np.load(round_directory(finished_run, number) / MAP_FILE, allow_pickle=False) as file:
            state, label, embeddings = (file[name] for name in ("state", "label", "embeddings"))
        waiting = [id_ for id_ in index if id_ not in labeled]
        assert label.tolist() == [index[id_] for id_ in labeled + waiting]
        assert np.bincount(state, minlength=3)[[LABELED, SELECTED, REST]].tolist() == [
            6 * number + 6,
            6,
            12 - 6 * number,
        ]
        if number < 2:  # after the last round nothing was chosen: those are what the next query would have been
            chosen = {id_ for id_, s in zip(labeled + waiting, state, strict=True) if s == SELECTED}
            assert chosen == set(entry["queried_ids"])
        found = waiting_and_predicted(loop, number)
        assert embeddings[len(labeled) :] == pytest.approx(np.stack([found[id_].h0 for id_ in waiting]), abs=5e-3)
    assert [path.name for path in round_directory(finished_run, 0).iterdir() if path.name.startswith(".")] == []


def test_explanations_of_held_out_texts_are_measured_each_round_and_never_learned(
    make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    loop = make_loop(tmp_path / "r", measure_explanations=4, budget=20, query_size=10)
    assert loop.teacher is not None
    assert (len(loop.splits.train), len(loop.splits.explained)) == (20, 4)
    other = train_word_judge({"1": {"negative": "bad", "positive": "good"}})
    loop = replace(loop, judges=(("other", lambda: other),))
    rounds = list(loop.rounds())
    labeled: list[str] = []
    for number, entry in enumerate(rounds):
        labeled += entry["selected_ids"]
        assert not set(labeled) & {example.id for example in loop.splits.explained}
        learned = {e.id: e.fields for e in loop.splits.train if e.id in labeled}
        theirs = loop.teacher.explain({e.id: e.fields for e in loop.splits.explained}).explanations
        expected = measure_explanations(
            Predictor.load(model_directory(tmp_path / "r", number), device="cpu"),
            loop.splits.explained,
            theirs,
            # The judge has read what the round's model learned from, and nothing else.
            {"words": train_word_judge(loop.teacher.explain(learned).explanations), "other": other},
            progress=False,
        )
        usage = entry["explanations"].pop("usage")
        assert (usage["requests"], usage["cost"]) == (0, 0)  # a file costs nothing
        assert entry["explanations"] == expected
        assert entry["explanations"]["texts"] == 4
        assert set(entry["explanations"]["consistency"]) == {"words", "other"}
    assert len(labeled) == 20  # all of the pool but for those
    again = make_loop(tmp_path / "again", measure_explanations=4, seed=3, initial_set=2)
    assert again.splits.explained == loop.splits.explained


@dataclass(frozen=True)
class PaidTeacher:
    """A teacher who takes a cent for each text."""

    teacher: Teacher
    name: str = "paid"
    covered: frozenset[str] | None = None

    def explain(self, texts: Mapping[str, Mapping[str, str]]) -> Explained:
        found = self.teacher.explain(texts).explanations
        return Explained(found, Usage(requests=len(texts), cost=0.01 * len(texts)))


def test_what_measuring_explanations_costs_is_told_apart_from_the_rounds_bill(
    make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    loop = make_loop(tmp_path / "r", measure_explanations=4, budget=6)
    assert loop.teacher is not None
    (entry,) = replace(loop, teacher=PaidTeacher(loop.teacher)).rounds()
    assert entry["teacher"]["requests"] == 6
    assert entry["teacher"]["cost"] == pytest.approx(0.06)
    assert entry["explanations"]["usage"]["requests"] == 4
    assert entry["explanations"]["usage"]["cost"] == pytest.approx(0.04)


def test_a_run_without_a_teacher_leaves_out_the_same_texts_and_measures_no_explanations(
    make_loop: Callable[..., Loop], tmp_path: Path
) -> None:
    loop = make_loop(tmp_path / "r", strategy="entropy", measure_explanations=4, budget=20, query_size=10)
    assert loop.splits.explained == make_loop(tmp_path / "x", measure_explanations=4).splits.explained
    rounds = list(loop.rounds())
    assert [entry["explanations"] for entry in rounds] == [None, None]
    chosen = {id_ for entry in rounds for id_ in entry["selected_ids"]}
    assert not chosen & {example.id for example in loop.splits.explained}


def test_a_warm_start_needs_no_more_than_the_model_before(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    options = {"warm_start": True, "strategy": "random", "explanations": None}
    kept, none = (
        [entry["model_version"] for entry in make_loop(tmp_path / keep, keep_models=keep, **options).rounds()]
        for keep in ("all", "none")
    )
    assert kept == none


def test_a_diverse_initial_set_is_spread_out_and_repeats(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    first = {}
    for name, options in {
        "a": {"initial": "diverse", "strategy": "random"},
        "b": {"initial": "diverse", "strategy": "entropy", "seed": 5},
        "c": {"initial": "diverse", "strategy": "random", "initial_set": 1},
        "d": {"strategy": "random"},
    }.items():
        loop = make_loop(tmp_path / name, budget=6, explanations=None, **options)
        first[name] = next(loop.rounds())["selected_ids"]
        if name != "d":
            number = loop.config.initial_set
            expected = diverse_initial_set(loop.splits.train, 6, number, task=loop.task, source=loop.source)
            assert first[name] == expected
    assert first["a"] == first["b"]
    assert set(first["a"]) != set(first["d"])
    assert len(set(first["c"])) == 6
    with pytest.raises(InputError, match="initial was 'diverse', is 'random'"):
        next(make_loop(tmp_path / "a", budget=6, explanations=None, strategy="random").rounds())


def test_a_run_stops_where_the_test_texts_reach_its_target(
    make_loop: Callable[..., Loop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = iter([0.2, 0.9, 0.5, 0.1])  # of the test texts and of the dev texts, round after round

    def scripted(*args: Any, **options: Any) -> dict[str, Any]:
        return {**measure(*args, **options), "macro_f1": next(reached)}

    monkeypatch.setattr("training.loop.measure", scripted)
    loop = make_loop(tmp_path / "r", strategy="random")
    until = Until(share=0.5, upper_bound=1.0, target=0.5)
    rounds = list(replace(loop, config=loop.config.model_copy(update={"until": until})).rounds())
    assert [entry["n_labeled"] for entry in rounds] == [6, 12]
    assert [len(entry["queried_ids"]) for entry in rounds] == [6, 0]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_chooses_different_texts_that_wait(
    make_loop: Callable[..., Loop], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, strategy: str
) -> None:
    shared = tmp_path_factory.getbasetemp() / "first-rounds"
    loop = make_loop(tmp_path / "r", strategy=strategy, budget=12, num_beams=1, shared=shared)
    first, last = loop.rounds()
    assert [first["n_labeled"], last["n_labeled"]] == [6, 12]
    assert last["selected_ids"] == first["queried_ids"]
    assert len({*first["selected_ids"], *last["selected_ids"]}) == 12
    assert {*first["selected_ids"], *last["selected_ids"]} <= {example.id for example in loop.splits.train}
    assert last["queried_ids"] == []
    explains = loop.strategy.uses_explanations
    assert Predictor.load(model_directory(tmp_path / "r", 1)).trained_on_explanations == explains
    assert (loop.config.trainer.lambda2 > 0) == loop.strategy.ranks


@pytest.mark.parametrize("strategy", ["bald", "badge"])
def test_what_a_strategy_draws_is_seeded_by_run_and_round(
    make_loop: Callable[..., Loop], tmp_path: Path, strategy: str
) -> None:
    one, two = (
        [entry["queried_ids"] for entry in make_loop(tmp_path / name, strategy=strategy, budget=12).rounds()]
        for name in "ab"
    )
    assert one == two


def test_all_strategies_share_the_pool_of_explained_texts(
    make_loop: Callable[..., Loop], example_files: dict[str, Path], tmp_path: Path
) -> None:
    partial = tmp_path / "partial.jsonl"
    partial.write_text("\n".join(example_files["explanations"].read_text().splitlines()[:20]) + "\n")
    pools = [
        [e.id for e in make_loop(tmp_path / s, strategy=s, explanations=partial, only_explained=True).splits.train]
        for s in ("xal", "random")
    ]
    assert pools[0] == pools[1]
    assert len(pools[0]) == 20
    run = tmp_path / "limited"
    next(make_loop(run, explanations=partial, only_explained=True, budget=6).rounds())
    shutil.copyfile(example_files["explanations"], partial)  # the file decides what the pool is
    with pytest.raises(InputError, match="explanations was"):
        next(make_loop(run, explanations=partial, only_explained=True, budget=6).rounds())


def test_selection_draws_do_not_depend_on_global_generators(make_loop: Callable[..., Loop], tmp_path: Path) -> None:
    options = {"strategy": "random", "explanations": None, "budget": 12}
    np.random.seed(1)  # noqa: NPY002
    one = [entry["selected_ids"] for entry in make_loop(tmp_path / "one", **options).rounds()]
    np.random.seed(2)  # noqa: NPY002
    assert one == [entry["selected_ids"] for entry in make_loop(tmp_path / "two", **options).rounds()]
