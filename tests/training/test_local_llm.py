import sys
import time
from pathlib import Path

import httpx
import pytest

from service.model.errors import InputError, XalError
from service.model.task import Task
from training.local_llm import MODEL_NAME, _server_process, serve_local_llm
from training.offline_parts import cache_directory
from training.teacher import Usage
from training.teacher_api import TeacherConfig
from training.teacher_llm import LLMTeacher

TASK = Path(__file__).parents[2] / "examples" / "product-reviews" / "task.yaml"
TEXTS = {
    "good": {"text": "i love this camera, the pictures are sharp and the battery lasts for days."},
    "bad": {"text": "it broke after a week and nobody answered my mails."},
}


def test_without_xllamacpp_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(InputError, match=r"needs xllamacpp: pip install .*live-teacher"), serve_local_llm(tmp_path):
        pass


@pytest.mark.slow
def test_a_file_that_is_no_model_fails_with_the_servers_own_words(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    (tmp_path / "model.gguf").write_bytes(b"not a model")
    with (
        pytest.raises(XalError, match=r"the local LLM did not start .* said: .*(Failed to init|loading error)"),
        _server_process(tmp_path / "model.gguf"),
    ):
        pass


@pytest.mark.slow
def test_explains_texts_once_and_is_gone_afterwards(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    task = Task.from_yaml(TASK)

    def teacher(base_url: str, model: str) -> LLMTeacher:
        config = TeacherConfig(
            base_url=base_url,
            model=model,
            cache_path=tmp_path / "cache.sqlite",
            max_completion_tokens=80,
            concurrency=2,
            max_total_tokens=10_000,
        )
        return LLMTeacher(task, config, progress=False)

    begin = time.monotonic()
    with serve_local_llm(cache_directory()) as (base_url, model):
        assert model == MODEL_NAME
        assert base_url.startswith("http://127.0.0.1:")
        first = teacher(base_url, model).explain(TEXTS)
    print(f"{time.monotonic() - begin:.1f} s", first)
    assert list(first.explanations) == ["good", "bad"]
    for explanations in first.explanations.values():
        assert list(explanations) == ["negative", "neutral", "positive"]
        assert all(text.strip() for text in explanations.values())
    assert first.usage.requests == 6
    assert 6 * 40 < first.usage.prompt_tokens < 6 * 120
    assert 6 * 1 < first.usage.completion_tokens <= 6 * 80

    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{base_url}/models")
    again = teacher(base_url, model).explain(TEXTS)  # nobody there to ask: all of it comes from the cache
    assert again.explanations == first.explanations
    assert again.usage == Usage(cached=6)
