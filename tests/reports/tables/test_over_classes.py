"""The column of intervals over test classes, which is computed from the runs' files."""

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
from reports.tables.over_classes import _NoPredictions, _resample_run
from tests.reports.builder import StoreBuilder, make_scores
from tests.reports.studies import make_factors

N_CTX, SEEDS, CLASSES, IMAGES = "generator.n_ctx", (0, 1, 2, 3, 4), 24, 10
SEEN = np.repeat(np.arange(CLASSES) < CLASSES // 2, IMAGES)


def simulate_correct(level: int, seed: int) -> np.ndarray:
    """Simulate which images are classified correctly. Longer prompts have more easy classes."""
    rng = np.random.default_rng([level, seed])
    easy = np.where(np.arange(CLASSES) % 8 < level, 0.9, 0.5)
    return rng.random(CLASSES * IMAGES) < np.repeat(easy, IMAGES)


def compute_metrics(is_correct: np.ndarray) -> dict[str, float]:
    """Return the metrics of some predictions."""
    return make_scores(100 * float(is_correct[~SEEN].mean()), 100 * float(is_correct[SEEN].mean()))


def make_correct_frame(level: int) -> pl.DataFrame:
    """Return the content of a run's file of correct predictions."""
    ids = np.repeat(np.arange(CLASSES, dtype=np.int32), IMAGES)
    columns = {"eval_set": [""] * len(ids), "class_id": ids, "class": [f"c{i}" for i in ids]}
    predictions = {name_seed_metric(seed, "own"): simulate_correct(level, seed) for seed in SEEDS}
    return pl.DataFrame({**columns, "seen": SEEN, **predictions})


def make_study_with_files(builder: StoreBuilder, levels: Sequence[int], folder: Path) -> Study:
    """Add a run per prompt length and dataset of the builder, and write the runs' files."""
    datasets = [f["levels"] for f in builder.factors if f["key"] == "dataset"] or [[None]]
    folders = {}
    for dataset, level in product(*datasets, levels):
        assignment = {N_CTX: level} | ({} if dataset is None else {"dataset": dataset})
        results = {s: compute_metrics(simulate_correct(level, s)) for s in SEEDS}
        builder.add_run(assignment, results)
        run = builder.runs[-1].run_id
        (folder / run).mkdir()
        make_correct_frame(level).write_parquet(folder / run / CORRECT_FILE)
        folders[run] = (folder / run).as_uri()
    return replace_files(builder.make_study(), RunFiles(folders=folders))


def replace_files(study: Study, files: RunFiles) -> Study:
    """Return the study with these files of correct predictions, none of which is loaded."""
    return dataclasses.replace(study, correct_predictions=CorrectFiles(files))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Return a study of three prompt lengths, with the files of its runs."""
    return make_study_with_files(StoreBuilder(), (2, 4, 8), tmp_path)


def find_class_intervals(study: Study) -> dict[str, object]:
    """Return the cells of intervals over classes by level."""
    table, *_ = build_tables(study)
    return {row.cells["level"].text: row.cells.get("classes") for row in table.rows}


def test_an_answer_warns_of_few_classes(study: Study) -> None:
    """The caution gives the number of seen or unseen classes, whichever is smaller."""
    n_classes = min(SEEN.sum(), (~SEEN).sum()) // IMAGES
    caution = f"Some intervals over classes are based on only {n_classes} classes"
    assert any(line.startswith(caution) for line in make_report(study).answer.cautions)


def test_the_interval_over_classes_contains_the_difference(study: Study) -> None:
    """A note below the table explains the resampling."""
    table, *_ = build_tables(study)
    cells = find_class_intervals(study)
    assert cells["4"] is None
    for level in ("2", "8"):
        cell = cells[level]
        assert isinstance(cell, Ranged)
        low, mean, high = cell.estimate.low, cell.estimate.mean, cell.estimate.high
        assert low is not None and high is not None and low < mean < high
        (row,) = (row for row in table.rows if row.cells["level"].text == level)
        assert mean == row.cells["difference"].estimate.mean
        assert format_cell_text(cell).startswith("[") and cell.estimate.n == len(SEEDS)
    assert cells["8"].estimate.low > 0  # half of the classes are much easier
    (note,) = (note for note in table.notes if "ΔH over classes" in note)
    assert "resampled 1,000 times" in note


def test_draws_are_paired_between_configurations(study: Study) -> None:
    """A configuration with the baseline's predictions differs in no draw and has no interval."""
    folders = dict(study.correct_predictions.files.folders)
    build_record = dict(zip((2, 4, 8), folders, strict=True))
    folders[build_record[2]] = folders[build_record[4]]
    study = replace_files(study, RunFiles(folders=folders))
    assert find_class_intervals(study)["2"] is None


def find_missing_note(study: Study) -> str:
    """Return the note on missing files, or an empty text."""
    table, *_ = build_tables(study)
    return next((note for note in table.notes if CORRECT_FILE in note), "")


def test_runs_without_files_have_no_interval_over_classes(study: Study, tmp_path: Path) -> None:
    """A configuration without files lacks its cell.

    Without the baseline's file, there is no column. A note gives the number of runs without files,
    unless no run has one.
    """
    files = study.correct_predictions.files
    first, base, last = files.folders
    assert find_missing_note(study) == ""
    (tmp_path / first / CORRECT_FILE).write_bytes(b"PAR1 and no more")
    study = replace_files(study, files)
    cells = find_class_intervals(study)
    assert cells["2"] is None and cells["8"] is not None
    assert find_missing_note(study).startswith(
        "correct.parquet is missing or damaged in 1 of 3 runs"
    )
    (tmp_path / base / CORRECT_FILE).unlink()
    study = replace_files(study, files)
    assert set(find_class_intervals(study).values()) == {None}
    table, *_ = build_tables(study)
    assert "classes" not in [column.key for column in table.columns]
    assert find_missing_note(study).startswith(
        "correct.parquet is missing or damaged in 2 of 3 runs"
    )
    (tmp_path / last / CORRECT_FILE).unlink()
    assert find_missing_note(replace_files(study, files)) == ""


def measure_width(cell: object) -> float:
    """Return the width of a cell's interval."""
    assert isinstance(cell, Ranged) and cell.estimate.low is not None
    return float(cell.estimate.high or 0) - cell.estimate.low


def test_an_average_draws_the_classes_of_each_dataset_independently(
    study: Study, tmp_path: Path
) -> None:
    """The interval of four datasets with equal predictions is half as wide as that of one."""
    factors = make_factors("dataset", "abcd", "a") + make_factors(N_CTX, [4, 8], 4)
    (folder := tmp_path / "four").mkdir()
    tables = build_tables(make_study_with_files(StoreBuilder(factors=factors), (4, 8), folder))
    table = next(table for table in tables if table.name == "datasets")
    cell = next(row.cells["classes"] for row in table.rows if not row.is_baseline)
    assert measure_width(cell) == pytest.approx(
        measure_width(find_class_intervals(study)["8"]) / 2, rel=0.25
    )
    assert any("ΔH over classes" in note for note in table.notes)
    dataset_table = next(table for table in tables if table.name.startswith("a-"))
    assert "classes" in [column.key for column in dataset_table.columns]


def test_a_class_average_weights_classes_equally(study: Study, tmp_path: Path) -> None:
    """Accuracies of generalized_zero_shot are averages over the seen or the unseen classes."""
    ids = np.repeat(np.arange(24, dtype=np.int32), [100] + [1] * 23)
    columns = {"eval_set": [""] * len(ids), "class_id": ids, "seen": ids < 12}
    columns[name_seed_metric(0, "all")] = (ids > 0) & (ids < 12)
    pl.DataFrame(columns).write_parquet(tmp_path / CORRECT_FILE)
    study = replace_files(study, RunFiles(folders={"run": tmp_path.as_uri()}))
    seen, unseen = (_resample_run(study, "run", 0, metric) for metric in ("seen", "unseen"))
    assert seen.values.mean() == pytest.approx(100 * 11 / 12, abs=1)
    assert unseen.values == pytest.approx(np.zeros(DRAWS))
    assert seen.n_classes == unseen.n_classes == 12
    with pytest.raises(_NoPredictions):
        _resample_run(study, "run", 0, "base")
