import argparse
from pathlib import Path
from typing import Any

import pytest

from service.model.errors import InputError
from tests.training.chat_server import ChatServer
from training.teacher_api import TeacherConfig
from training.teacher_options import (
    add_judge_options,
    add_llm_options,
    add_teacher_options,
    judge_config,
    teacher_config,
)

URL = "http://127.0.0.1:9/v1"
TEACHER = ["--teacher-url", URL, "--teacher-model", "gpt"]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("XAL_TEACHER_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XAL_CACHE", str(tmp_path))


def parse(*words: str, teacher: bool = True) -> dict[str, Any]:
    """Options as a command has them: those that are not given are left out."""
    parser = argparse.ArgumentParser(argument_default=argparse.SUPPRESS)
    if teacher:
        add_teacher_options(parser.add_argument_group("teacher"))
    add_judge_options(parser.add_argument_group("judge"))
    return vars(parser.parse_args(words))


def config(*words: str, **options: Any) -> TeacherConfig:
    made = teacher_config({"strategy": "xal", **parse(*words), **options})
    assert isinstance(made, TeacherConfig)
    return made


def test_every_option_reaches_its_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sesame")
    made = config(
        *TEACHER, "--teacher-key-from", "MY_KEY", "--teacher-max-tokens", "5000", "--teacher-max-cost", "2.5",
        "--teacher-prices", "0.5", "1.5", "--teacher-temperature", "0.7", "--teacher-answer-tokens", "32",
        "--teacher-length-parameter", "max_completion_tokens", "--teacher-concurrency", "3",
        "--teacher-cache", "c.sqlite",
    )  # fmt: skip
    assert made == TeacherConfig(
        base_url=URL,
        model="gpt",
        api_key="sesame",
        cache_path=Path("c.sqlite"),
        max_total_tokens=5000,
        max_cost=2.5,
        prompt_price=0.5,
        completion_price=1.5,
        temperature=0.7,
        max_completion_tokens=32,
        length_parameter="max_completion_tokens",
        concurrency=3,
    )
    assert made.api_key.get_secret_value() == "sesame"
    assert config(*TEACHER) == TeacherConfig(base_url=URL, model="gpt", cache_path=tmp_path / "teacher.sqlite")
    assert config(*TEACHER, "--teacher-temperature", "default").temperature is None


def test_what_is_taken_out_is_the_teachers_alone() -> None:
    options = {"strategy": "xal", **parse(*TEACHER, "--only-explained")}
    teacher_config(options)
    assert options == {"strategy": "xal", "only_explained": True}


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"strategy": "xal"}, True),
        ({"strategy": "random"}, False),
        ({"strategy": "random,xal"}, True),
        ({"strategy": "random, xal-std"}, True),
        ({"strategy": "random,entropy"}, False),
        ({"strategy": "random,entropy", "train_on_explanations": True}, True),
        ({"strategy": "random,xal", "train_on_explanations": False}, False),
        ({"strategy": "xal", "explanations": Path("e.jsonl")}, False),
        ({}, True),  # a command without strategies is about the LLM
    ],
)
def test_the_variable_names_a_teacher_only_where_one_is_asked(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], asked: bool
) -> None:
    monkeypatch.setenv("XAL_TEACHER_URL", URL)
    with ChatServer(models=["served"]) as server:
        monkeypatch.setenv("XAL_TEACHER_URL", server.base_url)
        made = teacher_config(dict(options))
    assert (made is not None) == asked
    if asked:
        assert (made.base_url, made.model) == (server.base_url, "served")


def test_without_an_address_there_is_no_teacher_and_no_use_for_its_options() -> None:
    assert teacher_config({"strategy": "xal"}) is None
    assert judge_config({}) is None
    with pytest.raises(InputError, match=r"--teacher-max-tokens needs --teacher-url \(or XAL_TEACHER_URL\)"):
        teacher_config({"strategy": "xal", **parse("--teacher-max-tokens", "5")})
    with pytest.raises(InputError, match="--judge-model needs --judge-url"):
        judge_config(parse("--judge-model", "gpt"))


def test_an_unknown_strategy_is_named() -> None:
    with pytest.raises(InputError, match="unknown query strategy 'xall'"):
        teacher_config({"strategy": "random,xall"})


def test_a_judge_shares_the_teachers_wallet_and_nothing_else(tmp_path: Path) -> None:
    options = parse(
        *TEACHER, "--teacher-prices", "1", "2", "--teacher-max-cost", "3", "--teacher-max-tokens", "400",
        "--teacher-cache", str(tmp_path / "c.sqlite"), "--teacher-concurrency", "2", "--teacher-temperature", "1",
        "--judge-url", "http://127.0.0.1:8/v1", "--judge-model", "other",
    )  # fmt: skip
    expected = TeacherConfig(
        base_url="http://127.0.0.1:8/v1",
        model="other",
        cache_path=tmp_path / "c.sqlite",
        max_total_tokens=400,
        max_cost=3,
        prompt_price=1,
        completion_price=2,
        concurrency=2,
    )
    assert judge_config(options) == expected
    assert not any(name.startswith("judge_") for name in options)
    assert teacher_config(options).model == "gpt"  # it still has all that is its own


def test_a_judge_has_its_own_where_that_is_given_and_needs_no_teacher(tmp_path: Path) -> None:
    words = ["--judge-url", URL, "--judge-model", "other"]
    free = judge_config(parse(*TEACHER, "--teacher-prices", "1", "2", "--teacher-max-cost", "3", *words,
                              "--judge-prices", "0", "0"))  # fmt: skip
    assert (free.prompt_price, free.completion_price, free.max_cost) == (0, 0, None)
    dear = judge_config(parse(*words, "--judge-prices", "5", "6", "--judge-max-cost", "7", teacher=False))
    assert (dear.prompt_price, dear.max_cost, dear.cache_path) == (5, 7, tmp_path / "teacher.sqlite")


def test_a_server_of_several_models_wants_the_option_of_the_role_that_asks() -> None:
    with ChatServer(models=["a", "b"]) as server:
        with pytest.raises(InputError, match=r"serves 2 models; choose one with --judge-model: a, b"):
            judge_config(parse("--judge-url", server.base_url))
        with pytest.raises(InputError, match=r"choose one with --teacher-model: a, b"):
            config("--teacher-url", server.base_url)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--teacher-key-from", "NO_SUCH_VARIABLE"], "--teacher-key-from NO_SUCH_VARIABLE: no such variable is set"),
        (["--teacher-max-cost", "5"], r"^teacher: a cap on cost \(max_cost\) caps nothing without .*--teacher-prices"),
        (["--teacher-concurrency", "0"], "^--teacher-concurrency: input should be greater than or equal to 1$"),
        (["--teacher-answer-tokens", "0"], "^--teacher-answer-tokens: input should be greater"),
        (["--teacher-prices", "1", "-1"], "^--teacher-prices: input should be greater"),
        (["--teacher-temperature", "hot"], "^--teacher-temperature: input should be a valid number"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        config(*TEACHER, *words)
    assert "\n" not in str(caught.value)


def test_a_judges_options_are_refused_by_their_own_names() -> None:
    judge = ["--judge-url", URL, "--judge-model", "m"]
    for words, message in (
        (["--judge-answer-tokens", "0"], "^--judge-answer-tokens: "),
        (["--judge-max-cost", "5", "--judge-prices", "0", "0"], "^judge: .* caps nothing without .*--judge-prices"),
    ):
        with pytest.raises(InputError, match=message):
            judge_config(parse(*judge, *words))


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://localhost/v1", "http://", ""])
@pytest.mark.parametrize("model", [True, False])
def test_an_address_that_is_none_is_wrong_input_and_nobody_is_asked(url: str, model: bool) -> None:
    for role, read in (("teacher", config), ("judge", lambda *words: judge_config(parse(*words)))):
        named = [f"--{role}-model", "m"] if model else []
        with pytest.raises(InputError, match=f"^--{role}-url: expected an address such as http://127.0.0.1:8080/v1"):
            read(f"--{role}-url", url, *named)


def test_an_empty_variable_names_no_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAL_TEACHER_URL", "")
    assert teacher_config({"strategy": "xal"}) is None


def test_both_roles_have_the_same_options_and_a_judges_help_names_what_it_shares() -> None:
    helps = {}
    for role in ("teacher", "judge"):
        parser = argparse.ArgumentParser(argument_default=argparse.SUPPRESS)
        add_llm_options(parser.add_argument_group(role), role)
        helps[role] = {action.dest.removeprefix(f"{role}_"): str(action.help) for action in parser._actions}
    assert list(helps["teacher"]) == list(helps["judge"])
    shared = [name for name, text in helps["judge"].items() if text.endswith("(default: the teacher's)")]
    assert shared == ["max_tokens", "max_cost", "prices", "concurrency", "cache"]
    assert not any("teacher's" in text for text in helps["teacher"].values())
