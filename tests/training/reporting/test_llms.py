from pathlib import Path

from tests.training.saved_runs import save_run
from training.reporting.llms import llm_section
from training.reporting.study import Study
from training.runs import read_run


def test_llms_stand_beside_the_best_points_of_the_curves(tmp_path: Path) -> None:
    teacher = {"requests": 6, "cached": 0, "prompt_tokens": 1000, "completion_tokens": 500, "cost": 0.125}
    runs = [
        save_run(tmp_path / "a", points={10: 0.5, 20: 0.7, 30: 0.6}, teacher=teacher),
        save_run(tmp_path / "b", strategy="random", points={10: 0.5, 20: 0.55}),
        save_run(tmp_path / "c", strategy="llm-zero-shot", points={0: 0.6}, teacher=teacher, unparsable=7),
        save_run(tmp_path / "d", strategy="llm-silver", points={0: 0.58}, silver={"labels": 90, "accuracy": 0.8}),
    ]
    section = llm_section(Study.of([read_run(directory) for directory in runs]))
    assert section is not None
    header, zero, silver, xal, random = section.parts[0].rows  # type: ignore[union-attr]
    assert header == ["classifier", "runs", "labels", "macro-F1", "accuracy", "unparsable", "its labels right",
                      "requests", "tokens", "cost", "to match the best LLM"]  # fmt: skip
    assert zero == ["llm-zero-shot", "1", "0", "0.600", "0.700", "7", "", "6", "1,500", "0.1250", ""]
    assert silver == ["llm-silver", "1", "0", "0.580", "0.680", "", "0.800", "", "", "", ""]
    assert xal == ["xal", "1", "20", "0.700", "0.800", "", "", "12", "3,000", "0.2500", "15 labels"]
    assert random == ["random", "1", "20", "0.550", "0.650", "", "", "", "", "", "not reached"]
    assert llm_section(Study.of([read_run(runs[0])])) is None
