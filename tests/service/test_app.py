"""The running service: every endpoint, every documented error, many clients at once, and a log without texts."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from scipy.stats import zscore

from service.model import checkpoint
from service.model.checkpoint import Provenance, read_settings
from service.model.classification import Item, Prediction
from service.model.predictor import Predictor
from service.model.scoring import Normaliser
from service.schemas import AcquisitionResponse, ClassifyResponse, ExplainResponse, ModelCard, Problem
from tests.service_process import RunningService

CANARY = "canary-4711"
TEXTS = [
    "too heavy to carry around all day",
    "works well",
    "the battery is fine but the screen is far too dark to read outside",
    "i returned it after a week",
]


@pytest.fixture(scope="module")
def client(service_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service_url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def predictor(model_dir: Path) -> Predictor:
    return Predictor.load(model_dir, device="cpu")


def post(client: httpx.Client, path: str, items: list[Any], **options: Any) -> dict[str, Any]:
    content = json.dumps({"items": items, "options": options})  # httpx's own JSON cannot hold half a surrogate pair
    response = client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def check_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The answer is problem details as documented, and repeats nothing that was sent."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    Problem.model_validate(body)
    assert body["request_id"] == response.headers["x-request-id"]
    assert CANARY not in response.text
    return body


def expected(predictor: Predictor, text: str, **arguments: Any) -> Prediction:
    outcome = predictor.predict([Item({"text": text})], **arguments)[0]
    assert isinstance(outcome, Prediction)
    return outcome


def test_classify_answers_what_the_predictor_says(client: httpx.Client, predictor: Predictor) -> None:
    body = post(client, "/classify", [{"id": "a1", "text": TEXTS[0]}, {"fields": {"text": TEXTS[1]}}])
    ClassifyResponse.model_validate(body)
    assert body["model_version"] == predictor.model_version
    assert [row["id"] for row in body["results"]] == ["a1", "1"]
    for row, text in zip(body["results"], TEXTS, strict=False):
        alone = expected(predictor, text)
        assert list(row) == ["id", "label", "probabilities", "entropy", "truncated"]
        assert row["label"] == alone.label
        assert row["probabilities"] == pytest.approx(alone.probabilities, abs=1e-5)
        assert row["entropy"] == pytest.approx(alone.entropy, abs=1e-5)


def test_a_text_longer_than_the_model_reads_is_marked(client: httpx.Client) -> None:
    rows = post(client, "/classify", [{"text": "short"}, {"text": "long " * 100}])["results"]
    assert [row["truncated"] for row in rows] == [False, True]


def test_explain_adds_an_explanation_and_scores_candidates(client: httpx.Client, predictor: Predictor) -> None:
    items = [{"text": TEXTS[0]}, {"text": TEXTS[1], "candidates": ["it is good", "it is heavy"]}]
    body = post(client, "/explain", items, num_beams=2, max_new_tokens=6)
    ExplainResponse.model_validate(body)
    plain, with_candidates = body["results"]
    alone = expected(predictor, TEXTS[0], explain=True, num_beams=2, max_new_tokens=6)
    assert plain["explanation"] == alone.explanation
    assert plain["explanation_score"] == pytest.approx(alone.explanation_score, abs=1e-5)
    assert "candidate_scores" not in plain
    item = Item({"text": TEXTS[1]}, ("it is good", "it is heavy"))
    scored = predictor.predict([item], explain=True, num_beams=2, max_new_tokens=6)[0]
    assert isinstance(scored, Prediction)
    assert with_candidates["candidate_scores"] == pytest.approx(scored.candidate_scores, abs=1e-5)


def test_acquisition_scores_are_equation_8_over_the_models_pool(client: httpx.Client, predictor: Predictor) -> None:
    body = post(client, "/acquisition_score", [{"text": text} for text in TEXTS], **{"lambda": 2.0})
    AcquisitionResponse.model_validate(body)
    assert (body["normalization"], body["acquisition"]) == ("pool", "paper")
    assert "selected" not in body
    assert predictor.normaliser is not None
    for row in body["results"]:
        explanation_term = np.exp(-row["explanation_score"] - predictor.normaliser.log_z_p)
        entropy_term = np.exp(row["entropy"] - predictor.normaliser.log_z_c)
        assert row["acquisition_score"] == pytest.approx(2 / 3 * explanation_term + 1 / 3 * entropy_term, rel=1e-6)


def test_a_model_of_the_standardized_acquisition_scores_by_it_and_says_so(
    start_service: Callable[..., RunningService], model_dir: Path, tmp_path: Path
) -> None:
    pool = Normaliser(log_z_p=9.5, log_z_c=4.5, size=50, std_p=0.004, std_c=0.003)
    settings = replace(read_settings(model_dir), acquisition="standardized", normaliser=pool)
    checkpoint.resave(model_dir, tmp_path / "model", settings, Provenance())
    items = [{"text": text} for text in TEXTS]
    with httpx.Client(base_url=start_service(tmp_path / "model").url, timeout=60) as client:
        over_pool = post(client, "/acquisition_score", items, **{"lambda": 2.0})
        over_request = post(client, "/acquisition_score", items, normalization="request", **{"lambda": 2.0})
        card = ModelCard.model_validate(client.get("/model").json())
    assert over_pool["acquisition"] == over_request["acquisition"] == card.acquisition == "standardized"
    AcquisitionResponse.model_validate(over_pool)
    p, c = (np.array([row[name] for row in over_pool["results"]]) for name in ("explanation_score", "entropy"))
    z_p, z_c = (np.exp(-p - 9.5) - 1 / 50) / 0.004, (np.exp(c - 4.5) - 1 / 50) / 0.003
    assert [row["acquisition_score"] for row in over_pool["results"]] == pytest.approx((2 * z_p + z_c) / 3, rel=1e-6)
    expected = (2 * zscore(np.exp(-p)) + zscore(np.exp(c))) / 3
    assert [row["acquisition_score"] for row in over_request["results"]] == pytest.approx(expected, abs=1e-3)


def test_acquisition_scores_over_the_request_add_up_to_one_and_select_the_best(client: httpx.Client) -> None:
    items = [{"id": f"t{place}", "text": text} for place, text in enumerate(TEXTS)] + [{"id": "bad", "text": " "}]
    body = post(client, "/acquisition_score", items, normalization="request", top_k=2)
    AcquisitionResponse.model_validate(body)
    assert body["normalization"] == "request"
    answered = [row for row in body["results"] if "error" not in row]
    assert sum(row["acquisition_score"] for row in answered) == pytest.approx(1.0)
    best = sorted(answered, key=lambda row: -row["acquisition_score"])
    assert [row["rank"] for row in best] == [1, 2, 3, 4]
    assert body["selected"] == [row["id"] for row in best[:2]]


def test_scores_of_one_model_compare_across_requests(client: httpx.Client) -> None:
    together = post(client, "/acquisition_score", [{"text": text} for text in TEXTS])["results"]
    apart = [post(client, "/acquisition_score", [{"text": text}])["results"][0] for text in TEXTS]
    assert [row["acquisition_score"] for row in together] == pytest.approx(
        [row["acquisition_score"] for row in apart], abs=1e-5
    )


def test_a_bad_item_gets_an_error_and_its_neighbours_get_answers(client: httpx.Client) -> None:
    items = [{"text": "good"}, {"text": " \n"}, {"fields": {"title": CANARY}}, {"fields": {"text": "a", "x": CANARY}}]
    body = post(client, "/explain", [*items, {"text": "good too"}])
    ExplainResponse.model_validate(body)
    codes = [row.get("error", {}).get("code") for row in body["results"]]
    assert codes == [None, "empty_text", "missing_field", "unknown_field", None]
    assert [row["id"] for row in body["results"]] == ["0", "1", "2", "3", "4"]
    assert CANARY not in json.dumps(body)


@pytest.mark.parametrize("path", ["/classify", "/explain", "/acquisition_score"])
def test_a_record_without_a_text_or_cut_within_an_emoji_fails_alone(client: httpx.Client, path: str) -> None:
    bad = [
        {"text": None},
        {},
        {"id": "f", "fields": {"text": None}},
        {"text": "cut \ud83d"},
        {"fields": {"\ud83d": "a"}},
    ]
    # The two halves of an emoji, each with an escape of its own, are whole again.
    body = post(client, path, [{"text": "good"}, *bad, {"text": "good \ud83d\ude00"}])
    codes = [row.get("error", {}).get("code") for row in body["results"]]
    assert codes == [None, "missing_field", "missing_field", "missing_field", "invalid_text", "missing_field", None]
    assert [row["id"] for row in body["results"]] == ["0", "1", "2", "f", "4", "5", "6"]
    alone = post(client, path, [{"text": "good"}, {"text": "good \U0001f600"}])["results"]
    for row, expected_row in zip([body["results"][0], body["results"][-1]], alone, strict=True):
        assert row["probabilities"] == pytest.approx(expected_row["probabilities"], abs=1e-5)


def test_half_a_surrogate_pair_in_a_candidate_fails_its_item_alone(client: httpx.Client) -> None:
    items = [{"text": "good", "candidates": ["why"]}, {"text": "good", "candidates": ["why", "\ud83d"]}]
    good, bad = post(client, "/explain", items)["results"]
    assert len(good["candidate_scores"]) == 1
    assert bad["error"]["code"] == "invalid_text"


def test_only_bad_items_are_still_an_answer(client: httpx.Client) -> None:
    body = post(client, "/acquisition_score", [{"text": ""}], normalization="request", top_k=3)
    assert (body["results"][0]["error"]["code"], body["selected"]) == ("empty_text", [])


def test_64_clients_at_once_each_get_what_they_would_get_alone(service_url: str, predictor: Predictor) -> None:
    """Requests of all kinds and sizes, one item in five bad, half of the requests with options of their own."""

    def request(number: int) -> tuple[str, list[str], dict[str, Any]]:
        path = ("/classify", "/explain", "/acquisition_score")[number % 3]
        texts = [" " if (number + k) % 5 == 0 else f"{TEXTS[k % 4]} {number % 4}" for k in range(number % 7 + 1)]
        return path, texts, {"num_beams": 2, "max_new_tokens": 5} if path == "/explain" and number % 2 else {}

    def send(number: int) -> dict[str, Any]:
        path, texts, options = request(number)
        return post(client, path, [{"text": text} for text in texts], **options)

    @cache
    def alone(text: str, path: str, *options: tuple[str, int]) -> Prediction:
        return expected(predictor, text, explain=path != "/classify", **dict(options))

    with (
        httpx.Client(base_url=service_url, timeout=60, limits=httpx.Limits(max_connections=64)) as client,
        ThreadPoolExecutor(max_workers=64) as pool,
    ):
        bodies = list(pool.map(send, range(64)))
    for number, body in enumerate(bodies):
        path, texts, options = request(number)
        assert len(body["results"]) == len(texts)
        for row, text in zip(body["results"], texts, strict=True):
            if text == " ":
                assert row["error"]["code"] == "empty_text"
                continue
            answer = alone(text, path, *options.items())
            assert row["probabilities"] == pytest.approx(answer.probabilities, abs=1e-5)
            if path != "/classify":
                assert row["explanation_score"] == pytest.approx(answer.explanation_score, abs=1e-5)


def test_model_says_what_is_served(client: httpx.Client, predictor: Predictor) -> None:
    body = client.get("/model").json()
    card = ModelCard.model_validate(body)
    assert (card.model_version, card.labels, card.fields) == (
        predictor.model_version,
        ["negative", "neutral", "positive"],
        ["text"],
    )
    assert (card.pool_size, card.trained_on_explanations, card.device) == (50, True, "cpu")
    assert (card.conditioning, card.acquisition) == ("none", "paper")
    assert (card.limits.max_items, card.limits.max_input_tokens, card.decoding.num_beams) == (1000, 32, 3)
    assert (card.metrics, card.lineage) == (predictor.manifest["metrics"], predictor.manifest["lineage"])


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz"])
def test_probes_say_200(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 200


BAD_REQUESTS = [
    (400, "POST", "/classify", b'{"items": [{"text": "' + CANARY.encode(), {}),
    (400, "POST", "/explain", b'{"items": [{"text": "' + CANARY.encode() + b'\xed\xa0\xbd"}]}', {}),
    (422, "POST", "/explain", b'{"items": [{"text": "a", "id": "' + CANARY.encode() + b'\\ud800"}]}', {}),
    (404, "POST", f"/{CANARY}", b"{}", {}),
    (404, "GET", f"/static_content/{CANARY}", b"", {}),
    (405, "GET", "/classify", b"", {}),
    (405, "OPTIONS", "/classify", b"", {}),
    (405, "POST", "/model", b"{}", {}),
    (413, "POST", "/classify", CANARY.encode() * 400_000, {}),
    (413, "POST", "/classify", json.dumps({"items": [{"text": CANARY}] * 1001}).encode(), {}),
    (415, "POST", "/classify", CANARY.encode(), {"Content-Type": "text/plain"}),
    (415, "POST", "/classify", f"items={CANARY}".encode(), {"Content-Type": "application/x-www-form-urlencoded"}),
    (422, "POST", "/classify", json.dumps({"items": [{"text": {CANARY: CANARY}, CANARY: 1}]}).encode(), {}),
    (422, "POST", "/explain", json.dumps({"items": CANARY, "options": {CANARY: CANARY}}).encode(), {}),
    (422, "POST", "/acquisition_score", json.dumps({"items": [{"id": CANARY, "text": "a"}] * 2}).encode(), {}),
]


@pytest.mark.parametrize(("status", "method", "path", "body", "headers"), BAD_REQUESTS)
def test_a_bad_request_gets_its_documented_status_as_a_problem(
    client: httpx.Client, status: int, method: str, path: str, body: bytes, headers: dict[str, str]
) -> None:
    response = client.request(method, path, content=body, headers={"Content-Type": "application/json", **headers})
    problem = response.json()
    if CANARY in path:
        assert problem.pop("instance") == path  # RFC 9457: the path asked; the log has only the route
        response = httpx.Response(status, headers=response.headers, json={**problem, "instance": ""})
        response.headers["content-type"] = "application/problem+json"
    check_problem(response, status)


def test_422_points_at_each_fault(client: httpx.Client) -> None:
    response = client.post("/explain", json={"items": [{"text": 1}, 0], "options": {"num_beams": 99}})
    assert [error["pointer"] for error in check_problem(response, 422)["errors"]] == ["/items/0/text", "/items/1"]
    response = client.post("/explain", json={"items": [{"text": "a"}], "options": {"num_beams": 99}})
    assert check_problem(response, 422)["errors"] == [
        {"pointer": "/options/num_beams", "detail": "at most 8 is allowed here"}
    ]


def test_the_documentation_describes_what_is_answered(client: httpx.Client) -> None:
    document = client.get("/docs.json").json()
    assert {"/classify", "/explain", "/acquisition_score", "/model", "/livez", "/readyz", "/metrics"} <= set(
        document["paths"]
    )
    answer = document["paths"]["/explain"]["post"]["responses"]
    assert set(answer) == {"200", "default"}
    assert set(answer["200"]["content"]["application/json"]["schema"]["properties"]) == {"model_version", "results"}
    schemas = document["components"]["schemas"]
    references = {part.split('"')[0] for part in json.dumps(document).split('"#/components/schemas/')[1:]}
    assert references <= set(schemas)
    assert set(schemas["Problem"]["required"]) == {"type", "title", "status", "detail", "instance", "request_id"}


def test_metrics_count_requests_items_and_batches_and_nothing_that_users_name(client: httpx.Client) -> None:
    for number in range(30):
        client.get(f"/{CANARY}-{number}", headers={"X-Request-Id": f"id-{number}"})
    post(client, "/classify", [{"id": CANARY, "text": "a"}, {"text": ""}])
    text = client.get("/metrics").text
    assert 'xal_items_total{outcome="empty_text",route="/classify"}' in text
    assert 'xal_model_info{device="cpu"' in text
    assert "xal_batch_tokens_bucket" in text
    assert CANARY not in text
    assert "id-7" not in text
    routes = {line.split('route="')[1].split('"')[0] for line in text.splitlines() if 'route="' in line}
    known = {"/classify", "/explain", "/acquisition_score", "/model", "/metrics", "/livez", "/readyz", "/healthz"}
    assert routes <= known | {"/docs.json", "other"}


def test_the_log_has_a_line_for_each_request_and_no_text_of_any(client: httpx.Client, service: RunningService) -> None:
    """Good, bad and malformed requests with the canary in every place that a user fills."""
    good = {"id": CANARY, "text": CANARY, "candidates": [CANARY]}
    post(client, "/explain", [good, {"fields": {CANARY: CANARY}}, {"text": " "}])
    for _, method, path, body, headers in BAD_REQUESTS:
        headers = {"Content-Type": "application/json", **headers}
        client.request(method, path, params={"q": CANARY}, content=body, headers=headers)
    client.get("/model", headers={"X-Request-Id": "the-last-one", "User-Agent": CANARY, "Authorization": CANARY})
    deadline = time.monotonic() + 10
    while "the-last-one" not in service.log and time.monotonic() < deadline:
        time.sleep(0.05)
    assert CANARY not in service.log
    lines = [json.loads(line) for line in service.log.splitlines() if line.startswith("{")]
    last = lines[-1]
    assert (last["request_id"], last["route"], last["status"], last["items"]) == ("the-last-one", "/model", 200, None)
    assert lines[-2 - len(BAD_REQUESTS)]["items"] == 3
    assert last["ms"] > 0


def waiting_items(client: httpx.Client, lane: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f'xal_queue_items{{lane="{lane}"}}'))


def test_limits_keys_and_the_queue_follow_the_settings(
    start_service: Callable[..., RunningService], model_dir: Path
) -> None:
    """One more service, with other settings: starting one takes seconds."""
    service = start_service(
        model_dir,
        XAL_API_KEYS="one,two",
        XAL_MAX_ITEMS="100",
        XAL_MAX_QUEUE_ITEMS="100",
        XAL_MAX_BODY_BYTES="20000",
        XAL_EXPLAIN_BATCH_TOKENS="1",
        XAL_DEADLINE_SECONDS="3",
    )
    with httpx.Client(base_url=service.url, timeout=60) as client:
        assert check_problem(client.post("/classify", json={"items": [{"text": "a"}]}), 401)["detail"]
        assert client.get("/model").status_code == 401
        assert client.get("/metrics").status_code == 200
        client.headers["Authorization"] = "Bearer two"
        assert client.post("/classify", json={"items": [{"text": "a"}]}).status_code == 200
        assert client.get("/model").json()["limits"]["max_items"] == 100
        check_problem(client.post("/classify", json={"items": [{"text": "a"}] * 101}), 413)
        check_problem(client.post("/classify", json={"items": [{"text": "a" * 20_000}]}), 413)

        slow = {"items": [{"text": "a"}] * 100, "options": {"num_beams": 8, "max_new_tokens": 200}}
        with ThreadPoolExecutor(max_workers=2) as pool:
            late = pool.submit(client.post, "/explain", json=slow)
            while waiting_items(client, "explain") < 50:
                assert not late.done(), "the items were never seen to wait"
                time.sleep(0.02)
            response = client.post("/classify", json={"items": [{"text": "a"}] * 90})
            check_problem(response, 429)
            assert 1 <= int(response.headers["retry-after"]) <= 60
            check_problem(late.result(), 504)
        assert client.post("/classify", json={"items": [{"text": "a"}] * 90}).status_code == 200

        with pytest.raises(httpx.ReadTimeout):  # a client that hangs up takes its work with it
            client.post("/explain", json=slow, timeout=0.5)
        deadline = time.monotonic() + 30
        while waiting_items(client, "explain"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert "Bearer" not in service.log
    assert "two" not in service.log
