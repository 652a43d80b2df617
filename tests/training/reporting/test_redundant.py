from pathlib import Path

from tests.training.saved_runs import save_run
from training.reporting.redundant import redundancy_section
from training.reporting.study import Study
from training.runs import read_run


def test_chosen_and_random_batches_are_means_over_rounds_and_runs(tmp_path: Path) -> None:
    values = [{"chosen": 0.9, "random": 0.5}, {"chosen": 0.7, "random": 0.6}]
    runs = [save_run(tmp_path / str(seed), seed=seed, redundancy=value) for seed, value in enumerate(values)]
    runs += [
        save_run(tmp_path / "r", strategy="random"),
        save_run(tmp_path / "c", strategy="cal", redundancy={"chosen": 1}),
    ]
    section = redundancy_section(Study.of([read_run(directory) for directory in runs]))
    assert section is not None
    assert section.parts[-1].rows == [  # type: ignore[union-attr]
        ["strategy", "chosen", "random", "difference"],
        ["xal", "0.800", "0.550", "+0.250"],
        ["cal", "1.000", "", ""],
    ]
    assert section.pictures[0].png.startswith(b"\x89PNG")
    assert redundancy_section(Study.of([read_run(runs[2])])) is None
