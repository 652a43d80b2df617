"""Metrics: what is counted, and that worker processes add up."""

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from service.metrics import Metrics


def samples(exposition: str) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(value for name, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def test_everything_that_is_heard_is_counted() -> None:
    metrics = Metrics()
    metrics.request_done("/classify", 200, 0.02)
    metrics.request_done("/classify", 429, 0.3)
    metrics.item_done("/classify", "ok")
    metrics.item_done("/classify", "empty_text")
    metrics.queue_changed("explain", 7)
    metrics.batch_done("classify", 3, 100, 0.25)
    metrics.model_loaded("9f2c", "sentiment", "cpu")
    found = samples(metrics.exposition().decode())
    assert found["xal_requests_total", ("/classify", "2xx")] == 1
    assert found["xal_requests_total", ("/classify", "4xx")] == 1
    assert found["xal_request_seconds_bucket", ("0.025", "/classify")] == 1
    assert found["xal_request_seconds_sum", ("/classify",)] == 0.32
    assert found["xal_items_total", ("empty_text", "/classify")] == 1
    assert found["xal_queue_items", ("explain",)] == 7
    assert found["xal_batch_items_bucket", ("classify", "2.0")] == 0
    assert found["xal_batch_items_bucket", ("classify", "4.0")] == 1
    assert found["xal_batch_tokens_sum", ("classify",)] == 100
    assert found["xal_model_seconds_sum", ("classify",)] == 0.25
    assert found["xal_model_info", ("cpu", "9f2c", "sentiment")] == 1


WORKER = """
import sys
from service.metrics import Metrics
metrics = Metrics()
metrics.request_done("/classify", 200, 0.02)
metrics.queue_changed("explain", 3)
if sys.argv[1] == "leaves":
    metrics.close()
else:
    sys.stdout.write(metrics.exposition().decode())
"""


def test_workers_add_up_and_one_that_ended_keeps_its_counts_but_not_its_queue(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    run = [sys.executable, "-c", WORKER]
    root = Path(__file__).parents[2]
    subprocess.run([*run, "leaves"], env=environment, cwd=root, check=True)
    text = subprocess.run([*run, "asks"], env=environment, cwd=root, check=True, capture_output=True, text=True).stdout
    found = samples(text)
    assert found["xal_requests_total", ("/classify", "2xx")] == 2
    assert found["xal_queue_items", ("explain",)] == 3
