"""The report of a study's own run is written once and completely, and cannot fail the study."""

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
from tests.harness.fakes import compute_result, make_study
from tests.harness.flaky import Crash, FakeStore, make_study_store

FILES = {"small.html": b"<p>page", "small.md": b"text", "small.pdf": b"today"}
PUBLICATION = Publication(
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


def read_run(store: Store, run_id: str) -> Any:
    """Return the data of the run."""
    return store.client.get_run(run_id).data


def test_report_is_written_completely_and_once(
    store: Store, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has its metrics, params, note and files. An unchanged report is not built again."""
    assert publish_report(store, run_id, PUBLICATION)
    data = read_run(store, run_id)
    (experiment,) = store.client.search_experiments(filter_string="name = 'small'")
    assert experiment.tags[Tag.RUN_NOTE] == PUBLICATION.answer
    assert (data.metrics, data.params) == (PUBLICATION.metrics, PUBLICATION.params)
    assert data.tags[Tag.BEST] == "n_ctx 8"
    end = "Full report: Artifacts, `report/small.html`."
    assert data.tags[Tag.RUN_NOTE] == f"{PUBLICATION.note}\n{end}"
    folder = Path(store.client.download_artifacts(run_id, "report", str(tmp_path)))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    monkeypatch.setattr(Store, "write", None)
    assert not publish_report(store, run_id, replace(PUBLICATION, files=None))  # type: ignore[arg-type]


def test_outdated_report_values_are_replaced(store: Store, run_id: str) -> None:
    """MLflow cannot delete metrics, which become NaN, or change params, which the note contains."""
    publish_report(store, run_id, PUBLICATION)
    changes: dict[str, Any] = {"params": {"shots": "16", "augmentations": "2"}, "stamp": "b"}
    later = replace(PUBLICATION, metrics={"headline/best/harmonic_mean": 72.0}, **changes)
    assert publish_report(store, run_id, later)
    data = read_run(store, run_id)
    assert data.metrics["headline/best/harmonic_mean"] == 72.0
    assert math.isnan(data.metrics["headline/best/harmonic_mean_low"])
    assert data.params == {"shots": "4", "dataset": "emoji", "augmentations": "2"}
    words = "Current values: `dataset` is no longer a constant; `shots` = 16.\n"
    assert words in data.tags[Tag.RUN_NOTE]
    assert not publish_report(store, run_id, later)


def test_long_note_is_cut_between_lines(store: Store, run_id: str) -> None:
    """Its last line has the location of the full report."""
    line = "| a row of the table |\n"
    publish_report(store, run_id, replace(PUBLICATION, note=line * 1000))
    note = read_run(store, run_id).tags[Tag.RUN_NOTE]
    assert MAX_TAG - 2 * len(line) < len(note) <= MAX_TAG
    rows, _, end = note.rpartition("\n\n")
    assert set(rows.splitlines()) == {line.strip()}
    assert end.startswith("Full report")


def test_long_line_of_a_note_is_cut(store: Store, run_id: str) -> None:
    """The note has the beginning of a line that is too long."""
    publish_report(store, run_id, replace(PUBLICATION, note="Title\n" + "x" * 2 * MAX_TAG))
    assert len(read_run(store, run_id).tags[Tag.RUN_NOTE]) == MAX_TAG


def test_outdated_differences_are_removed(store: Store, run_id: str) -> None:
    """A report without differences removes those of an older report."""

    def write_and_read_note(differences: dict[str, str]) -> str:
        write_differences(store, read_runs("small", store.uri), differences)
        return str(read_run(store, run_id).tags[Tag.RUN_NOTE])

    store.write(RunUpdate(run_id=run_id, tags={Tag.KIND: Kind.TRIAL, Tag.RUN_NOTE: "H 70.0"}))
    assert write_and_read_note({run_id: "ΔH 1.0"}) == "H 70.0; difference from the baseline: ΔH 1.0"
    assert write_and_read_note({}) == "H 70.0"


def test_report_stamp_is_written_last() -> None:
    """The next run therefore writes a report that a dead driver has not completed."""
    fake = FakeStore()
    store = make_study_store(fake, *["ok"] * (2 + len(FILES)), "crash before")
    run_id = store.create_run("7", "small", {})
    with pytest.raises(Crash):
        publish_report(store, run_id, PUBLICATION)
    assert store.client.calls[1:] == [  # type: ignore[attr-defined]  # without create_run
        "get_run",
        "set_experiment_tag",
        *["log_artifact"] * len(FILES),
        "log_batch",
    ]
    (run,) = fake.runs.values()
    assert run.files and Tag.PUBLISHED not in run.tags
    assert publish_report(make_study_store(fake), run_id, PUBLICATION)
    assert Tag.PUBLISHED in run.tags


def test_study_run_shows_report_and_rerun_writes_nothing(bench: Bench) -> None:
    """The run has the numbers of the report's tables."""
    study = make_study(description="a line", seeds=3, space={"generator.n_ctx": [1, 4, 8]})

    def publish(outcome: Any) -> Publication:
        return prepare_report(outcome.experiment, outcome.tracking_uri).publication

    assert bench.run(study, publish=publish).complete
    data = bench.get_study_run().data
    assert data.tags[Tag.BEST] == "n_ctx 8"
    mean = sum(compute_result(study.base, seed) for seed in range(3)) / 3
    best = mean + 4  # the base configuration has n_ctx 4, and the best one 8
    assert data.metrics["headline/best/harmonic_mean"] == pytest.approx(best)
    assert data.metrics["headline/vs_baseline/harmonic_mean"] == pytest.approx(4.0)
    assert data.tags[Tag.RUN_NOTE].startswith("a line\n\n### small: the answer")
    before = [run.to_dictionary() for run in bench.list_runs()]
    assert bench.run(study, publish=publish).complete
    assert [run.to_dictionary() for run in bench.list_runs()] == before


def test_run_descriptions_have_difference_from_baseline(bench: Bench) -> None:
    """It follows the run's result, and is updated with more seeds. The baseline has none."""

    def run_and_read_notes(seeds: int) -> list[str]:
        study = make_study(seeds=seeds, space={"generator.n_ctx": [4, 8]}, controls=False)
        bench.run(study, publish=lambda out: prepare_report("small", out.tracking_uri).publication)
        return [run.data.tags[Tag.RUN_NOTE] for run in bench.list_trials()]

    difference = "difference from the baseline: ΔH +4.0"
    baseline, other = run_and_read_notes(2)
    assert baseline.endswith(", 2 seeds") and "difference" not in baseline
    assert other.endswith(f", 2 seeds; {difference}, 2 seeds")
    notes = [note.partition("; ") for note in run_and_read_notes(3)]
    assert [result.rpartition(", ")[2] for result, _, _ in notes] == [
        "2 seeds",
        "2 seeds",
        "1 seed",
        "1 seed",
    ]
    assert [end for _, _, end in notes] == ["", f"{difference}, 3 seeds"] * 2


def test_failed_report_does_not_fail_the_study(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcome has the reason, and the same command writes the report later."""
    max_retries: list[str] = []

    def refuse(*_: Any) -> Any:
        raise StoreError("the store is full")

    def fail_to_read(*_: Any) -> Any:
        raise ReportError("the store gives nothing")

    def read_at_third_attempt(_: Any) -> Publication:
        max_retries.append(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
        if len(max_retries) < 3:
            raise ReportError("cannot read the store") from requests.ConnectionError("cut off")
        return PUBLICATION

    def run_and_get_reason(publish: Any) -> str:
        outcome = bench.run(make_study(seeds=1), publish=publish)
        assert outcome.complete
        return str(outcome.unpublished)

    words = "cannot write the report to MLflow: the store"
    advice = "Run the same command to try again"
    with monkeypatch.context() as patch:
        patch.setattr(harness.study.run, "publish_report", refuse)
        assert run_and_get_reason(lambda _: PUBLICATION) == f"{words} is full. {advice}"
    assert run_and_get_reason(fail_to_read) == f"{words} gives nothing. {advice}"
    assert not run_and_get_reason(lambda _: None)
    assert Tag.PUBLISHED not in bench.get_study_run().data.tags
    assert not run_and_get_reason(read_at_third_attempt)
    assert max_retries == ["2", "2", "2"]
    assert Tag.PUBLISHED in bench.get_study_run().data.tags
