"""The report at the study's own run: written once, completely, and without risk for the study."""

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

import harness.study.run
from harness.recording import publish_report, write_differences
from harness.store import MAX_TAG, Kind, Publication, RunUpdate, Store, Tag, read_runs
from harness.store.errors import StoreError
from reports.cli import prepare_report
from reports.errors import ReportError
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study, truth
from tests.harness.flaky import Crash, FakeStore, study_store

FILES = {"small.html": b"<p>page", "small.md": b"text", "small.pdf": b"today"}
MADE = Publication(
    metrics={"headline/best/harmonic_mean": 71.5, "headline/best/harmonic_mean_low": 70.0},
    params={"shots": "4", "dataset": "emoji"},
    best="n_ctx 8",
    note="### small: the answer\n\n- n_ctx: higher.\n",
    answer="### small: the answer\n\n- n_ctx: higher.\n",
    page="small.html",
    stamp="a",
    files=lambda: FILES,
)


@pytest.fixture
def run_id(store: Store) -> str:
    """Create a run in the test's store."""
    return str(store.client.create_run(store.get_or_create_experiment("small")).info.run_id)


def shown(store: Store, run_id: str) -> Any:
    """Return the data of the run."""
    return store.client.get_run(run_id).data


def test_report_is_written_completely_and_once(
    store: Store, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metrics, params, note and files; an unchanged report is not built again."""
    assert publish_report(store, run_id, MADE)
    data = shown(store, run_id)
    (experiment,) = store.client.search_experiments(filter_string="name = 'small'")
    assert experiment.tags[Tag.RUN_NOTE] == MADE.answer
    assert (data.metrics, data.params) == (MADE.metrics, MADE.params)
    assert data.tags[Tag.BEST] == "n_ctx 8"
    where = "Full report: Artifacts, `report/small.html`."
    assert data.tags[Tag.RUN_NOTE] == f"{MADE.note}\n{where}"
    folder = Path(store.client.download_artifacts(run_id, "report", str(tmp_path)))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    monkeypatch.setattr(Store, "write", None)
    assert not publish_report(store, run_id, replace(MADE, files=None))  # type: ignore[arg-type]


def test_outdated_report_values_are_replaced(store: Store, run_id: str) -> None:
    """MLflow cannot delete metrics (they become NaN) or change params (the note has them)."""
    publish_report(store, run_id, MADE)
    now: dict[str, Any] = {"params": {"shots": "16", "augmentations": "2"}, "stamp": "b"}
    later = replace(MADE, metrics={"headline/best/harmonic_mean": 72.0}, **now)
    assert publish_report(store, run_id, later)
    data = shown(store, run_id)
    assert data.metrics["headline/best/harmonic_mean"] == 72.0
    assert math.isnan(data.metrics["headline/best/harmonic_mean_low"])
    assert data.params == {"shots": "4", "dataset": "emoji", "augmentations": "2"}
    words = "Current values: `dataset` is no longer a constant; `shots` = 16.\n"
    assert words in data.tags[Tag.RUN_NOTE]
    assert not publish_report(store, run_id, later)


def test_long_note_ends_with_a_whole_line(store: Store, run_id: str) -> None:
    """It also says where the full report is."""
    line = "| a row of the table |\n"
    publish_report(store, run_id, replace(MADE, note=line * 1000))
    note = shown(store, run_id).tags[Tag.RUN_NOTE]
    assert MAX_TAG - 2 * len(line) < len(note) <= MAX_TAG
    rows, _, end = note.rpartition("\n\n")
    assert set(rows.splitlines()) == {line.strip()}
    assert end.startswith("Full report")


def test_long_line_of_a_note_is_cut(store: Store, run_id: str) -> None:
    """The note keeps the beginning of a line that does not fit."""
    publish_report(store, run_id, replace(MADE, note="Title\n" + "x" * 2 * MAX_TAG))
    assert len(shown(store, run_id).tags[Tag.RUN_NOTE]) == MAX_TAG


def test_outdated_differences_are_removed(store: Store, run_id: str) -> None:
    """A report without differences removes those of an older report."""

    def note(differences: dict[str, str]) -> str:
        write_differences(store, read_runs("small", store.uri), differences)
        return str(shown(store, run_id).tags[Tag.RUN_NOTE])

    store.write(RunUpdate(run_id=run_id, tags={Tag.KIND: Kind.TRIAL, Tag.RUN_NOTE: "H 70.0"}))
    assert note({run_id: "ΔH 1.0"}) == "H 70.0; difference from the baseline: ΔH 1.0"
    assert note({}) == "H 70.0"


def test_report_stamp_is_written_last() -> None:
    """The next run writes what a driver that died did not."""
    fake = FakeStore()
    store = study_store(fake, *["ok"] * (2 + len(FILES)), "crash before")
    run_id = store.create_run("7", "small", {})
    with pytest.raises(Crash):
        publish_report(store, run_id, MADE)
    assert store.client.calls[1:] == [  # type: ignore[attr-defined]  # after the first write
        "get_run",
        "set_experiment_tag",
        *["log_artifact"] * len(FILES),
        "log_batch",
    ]
    (run,) = fake.runs.values()
    assert run.files and Tag.PUBLISHED not in run.tags
    assert publish_report(study_store(fake), run_id, MADE)
    assert Tag.PUBLISHED in run.tags


def test_study_run_shows_report_and_rerun_writes_nothing(bench: Bench) -> None:
    """The run has the numbers of the tables."""
    study = make_study(description="a line", seeds=3, space={"generator.n_ctx": [1, 4, 8]})

    def report(outcome: Any) -> Publication:
        return prepare_report(outcome.experiment, outcome.tracking_uri).publication

    assert bench.run(study, publish=report).complete
    data = bench.parent().data
    assert data.tags[Tag.BEST] == "n_ctx 8"
    best = sum(truth(study.base, seed) for seed in range(3)) / 3 + 4  # the constant n_ctx is 4
    assert data.metrics["headline/best/harmonic_mean"] == pytest.approx(best)
    assert data.metrics["headline/vs_baseline/harmonic_mean"] == pytest.approx(4.0)
    assert data.tags[Tag.RUN_NOTE].startswith("a line\n\n### small: the answer")
    before = [run.to_dictionary() for run in bench.runs()]
    assert bench.run(study, publish=report).complete
    assert [run.to_dictionary() for run in bench.runs()] == before


def test_run_descriptions_have_difference_from_baseline(bench: Bench) -> None:
    """After the run's result, and updated with more seeds; the baseline has none."""

    def notes(seeds: int) -> list[str]:
        study = make_study(seeds=seeds, space={"generator.n_ctx": [4, 8]}, controls=False)
        bench.run(study, publish=lambda out: prepare_report("small", out.tracking_uri).publication)
        return [run.data.tags[Tag.RUN_NOTE] for run in bench.trials()]

    against = "difference from the baseline: ΔH +4.0"
    (baseline, other) = notes(2)
    assert baseline.endswith(", 2 seeds") and "against" not in baseline
    assert other.endswith(f", 2 seeds; {against}, 2 seeds")
    for note, seeds in zip(notes(3), ("2 seeds", "2 seeds", "1 seed", "1 seed"), strict=True):
        result, _, difference = note.partition("; ")
        assert result.endswith(f", {seeds}") and difference in ("", f"{against}, 3 seeds")


def test_failed_report_does_not_fail_the_study(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcome has the reason, and the same command writes the report later."""
    tries: list[str] = []

    def refuse(*_: Any) -> Any:
        raise StoreError("the store is full")

    def unread(*_: Any) -> Any:
        raise ReportError("the store gives nothing")

    def cut_off(_: Any) -> Publication:
        tries.append(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
        if len(tries) < 3:
            raise ReportError("cannot read the store") from requests.ConnectionError("cut off")
        return MADE

    def unpublished(report: Any) -> str:
        outcome = bench.run(make_study(seeds=1), publish=report)
        assert outcome.complete
        return str(outcome.unpublished)

    words = "cannot write the report to MLflow: the store"
    advice = "Run the same command to try again"
    with monkeypatch.context() as patch:
        patch.setattr(harness.study.run, "publish_report", refuse)
        assert unpublished(lambda _: MADE) == f"{words} is full. {advice}"
    assert unpublished(unread) == f"{words} gives nothing. {advice}"
    assert not unpublished(lambda _: None)
    assert Tag.PUBLISHED not in bench.parent().data.tags
    assert not unpublished(cut_off)
    assert tries == ["2", "2", "2"]
    assert Tag.PUBLISHED in bench.parent().data.tags
