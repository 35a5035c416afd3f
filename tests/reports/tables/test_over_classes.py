"""The column of differences over other test classes, computed from the runs' files."""

import dataclasses
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from harness.store import CORRECT_FILE, RunFiles, name_seed_metric
from reports.cells import Ranged
from reports.formatting import format_cell_text
from reports.report import make_report
from reports.stats import DRAWS
from reports.study import Study
from reports.study.on_demand import CorrectFiles
from reports.tables import build_tables
from reports.tables.over_classes import _resample_run, _Unanswered
from tests.reports.builder import StoreBuilder, scores
from tests.reports.studies import one_factor

N_CTX, SEEDS, CLASSES, IMAGES = "generator.n_ctx", (0, 1, 2, 3, 4), 24, 10
SEEN = np.repeat(np.arange(CLASSES) < CLASSES // 2, IMAGES)


def answers(level: int, seed: int) -> np.ndarray:
    """Which images are right; the longer the prompt, the more classes are easy."""
    rng = np.random.default_rng([level, seed])
    easy = np.where(np.arange(CLASSES) % 8 < level, 0.9, 0.5)
    return rng.random(CLASSES * IMAGES) < np.repeat(easy, IMAGES)


def measured_columns(right: np.ndarray) -> dict[str, float]:
    """The metrics of some answers."""
    return scores(100 * float(right[~SEEN].mean()), 100 * float(right[SEEN].mean()))


def frame(level: int) -> pl.DataFrame:
    """The file of a run."""
    ids = np.repeat(np.arange(CLASSES, dtype=np.int32), IMAGES)
    columns = {"eval_set": [""] * len(ids), "class_id": ids, "class": [f"c{i}" for i in ids]}
    half_answers = {name_seed_metric(seed, "own"): answers(level, seed) for seed in SEEDS}
    return pl.DataFrame({**columns, "seen": SEEN, **half_answers})


def kept(builder: StoreBuilder, levels: Sequence[int], folder: Path) -> Study:
    """A trial of each length on each of the builder's datasets, with the files that runs keep."""
    datasets = [f["levels"] for f in builder.factors if f["key"] == "dataset"] or [[None]]
    folders = {}
    for dataset, level in product(*datasets, levels):
        at = {N_CTX: level} | ({} if dataset is None else {"dataset": dataset})
        builder.trial(at, {s: measured_columns(answers(level, s)) for s in SEEDS})
        run = builder.runs[-1].run_id
        (folder / run).mkdir()
        frame(level).write_parquet(folder / run / CORRECT_FILE)
        folders[run] = (folder / run).as_uri()
    return dataclasses.replace(
        builder.study(), correct_predictions=CorrectFiles(RunFiles(folders=folders))
    )


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Three lengths, with their files."""
    return kept(StoreBuilder(), (2, 4, 8), tmp_path)


def over_classes(study: Study) -> dict[str, object]:
    """Level -> its cell."""
    table, *_ = build_tables(study)
    return {row.cells["level"].text: row.cells.get("classes") for row in table.rows}


def test_an_answer_warns_of_few_classes(study: Study) -> None:
    """Few classes easily miss a loss, and the number is that of the smaller half."""
    half = min(sum(SEEN), sum(not seen for seen in SEEN)) // IMAGES
    caution = f"Some intervals over classes are based on only {half} classes"
    assert any(line.startswith(caution) for line in make_report(study).answer.cautions)


def test_the_interval_over_classes_contains_the_difference(study: Study) -> None:
    """It is computed from the runs' files, is wider if few classes differ, and has a note."""
    table, *_ = build_tables(study)
    cells = over_classes(study)
    assert cells["4"] is None
    for level in ("2", "8"):
        cell = cells[level]
        assert isinstance(cell, Ranged)
        low, mean, high = cell.estimate.low, cell.estimate.mean, cell.estimate.high
        assert low is not None and high is not None and low < mean < high
        (row,) = (row for row in table.rows if row.cells["level"].text == level)
        assert mean == row.cells["difference"].estimate.mean
        assert format_cell_text(cell).startswith("[") and cell.estimate.n == len(SEEDS)
    assert cells["8"].estimate.low > 0  # half of the classes are easier, by far
    (note,) = (note for note in table.notes if "ΔH over classes" in note)
    assert "resampled 1,000 times" in note


def test_draws_are_paired_between_configurations(study: Study) -> None:
    """A configuration with the baseline's answers differs in no draw and has no interval."""
    folders = dict(study.correct_predictions.files.folders)
    run_of = dict(zip((2, 4, 8), folders, strict=True))
    folders[run_of[2]] = folders[run_of[4]]
    assert (
        over_classes(
            dataclasses.replace(study, correct_predictions=CorrectFiles(RunFiles(folders=folders)))
        )["2"]
        is None
    )


def missing_line(study: Study) -> str:
    """The note that tells of missing files, or an empty text."""
    table, *_ = build_tables(study)
    return next((note for note in table.notes if CORRECT_FILE in note), "")


def test_runs_without_answers_have_no_interval_over_classes(study: Study, tmp_path: Path) -> None:
    """A configuration without files lacks its cell.

    Without the baseline's, the column is missing. A note gives the number of runs as long as any
    has a file.
    """
    first, base, last = study.correct_predictions.files.folders
    assert missing_line(study) == ""
    (tmp_path / first / CORRECT_FILE).write_bytes(b"PAR1 and no more")
    study = dataclasses.replace(
        study, correct_predictions=CorrectFiles(study.correct_predictions.files)
    )
    assert (cells := over_classes(study))["2"] is None and cells["8"] is not None
    assert missing_line(study).startswith("correct.parquet is missing or damaged in 1 of 3 runs")
    (tmp_path / base / CORRECT_FILE).unlink()
    study = dataclasses.replace(
        study, correct_predictions=CorrectFiles(study.correct_predictions.files)
    )
    assert set(over_classes(study).values()) == {None}
    table, *_ = build_tables(study)
    assert "classes" not in [column.key for column in table.columns]
    assert missing_line(study).startswith("correct.parquet is missing or damaged in 2 of 3 runs")
    (tmp_path / last / CORRECT_FILE).unlink()
    assert (
        missing_line(
            dataclasses.replace(
                study, correct_predictions=CorrectFiles(study.correct_predictions.files)
            )
        )
        == ""
    )


def width(cell: object) -> float:
    """Of a cell's interval."""
    assert isinstance(cell, Ranged) and cell.estimate.low is not None
    return float(cell.estimate.high or 0) - cell.estimate.low


def test_an_average_draws_the_classes_of_each_dataset_independently(
    study: Study, tmp_path: Path
) -> None:
    """Four datasets with the same answers have half the interval of one."""
    factors = one_factor("dataset", "abcd", "a") + one_factor(N_CTX, [4, 8], 4)
    (folder := tmp_path / "four").mkdir()
    tables = build_tables(kept(StoreBuilder(factors=factors), (4, 8), folder))
    table = next(table for table in tables if table.name == "datasets")
    cell = next(row.cells["classes"] for row in table.rows if not row.is_baseline)
    assert width(cell) == pytest.approx(width(over_classes(study)["8"]) / 2, rel=0.25)
    assert any("ΔH over classes" in note for note in table.notes)
    dataset_table = next(table for table in tables if table.name.startswith("a-"))
    assert "classes" in [column.key for column in dataset_table.columns]


def test_a_class_average_weights_classes_equally(study: Study, tmp_path: Path) -> None:
    """Generalized zero-shot accuracies are averages over classes, of one kind of classes."""
    ids = np.repeat(np.arange(24, dtype=np.int32), [100] + [1] * 23)
    columns = {"eval_set": [""] * len(ids), "class_id": ids, "seen": ids < 12}
    right = (ids > 0) & (ids < 12)
    pl.DataFrame({**columns, name_seed_metric(0, "all"): right}).write_parquet(
        tmp_path / CORRECT_FILE
    )
    study = dataclasses.replace(
        study, correct_predictions=CorrectFiles(RunFiles(folders={"run": tmp_path.as_uri()}))
    )
    seen, unseen = (_resample_run(study, "run", 0, metric) for metric in ("seen", "unseen"))
    assert seen.values.mean() == pytest.approx(100 * 11 / 12, abs=1)
    assert unseen.values == pytest.approx(np.zeros(DRAWS))
    assert seen.n_classes == unseen.n_classes == 12
    with pytest.raises(_Unanswered):
        _resample_run(study, "run", 0, "base")
