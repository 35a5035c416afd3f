"""The report that is published in MLflow, and when a report is written again."""

from dataclasses import replace
from pathlib import Path

import pytest

from reports.cells import Value
from reports.cli import prepare_report
from reports.render import make_publication
from reports.report import Report, make_report
from reports.tables import make_headline
from tests.reports.analysis.planted import METRIC, make_numbered_factors
from tests.reports.builder import StoreBuilder, make_prompt_len, make_scores
from tests.reports.studies import make_factors

H = "harmonic_mean"


@pytest.fixture
def report() -> Report:
    """Return the report of the packaged study, whose best configuration by selection is n_ctx 8."""
    return make_report(make_prompt_len().make_study())


def test_headlines_equal_the_numbers_of_the_table(report: Report) -> None:
    """Headlines are the best configuration's mean and its difference to the baseline."""
    publication = make_publication(report)
    row = next(row for row in report.tables[0].rows if row.cells["level"].text == "8")  # type: ignore[union-attr]
    mean, difference = row.cells[H], row.cells["difference"]
    assert isinstance(mean, Value) and isinstance(difference, Value)
    for name, estimate in ((f"best/{H}", mean.estimate), (f"vs_baseline/{H}", difference.estimate)):
        assert publication.metrics[f"headline/{name}"] == pytest.approx(estimate.mean)
        assert publication.metrics[f"headline/{name}_low"] == pytest.approx(estimate.low)
        assert publication.metrics[f"headline/{name}_high"] == pytest.approx(estimate.high)
    assert publication.best == "n_ctx 8"
    assert len(publication.metrics) == 12


def test_differences_to_controls_are_paired_by_seed(report: Report) -> None:
    """A difference above 0 means that the configuration is better."""
    rows = {
        (row["config_key"], row["seed"]): row[f"test/{H}"] for row in report.study.rows.to_dicts()
    }
    keys = {s.control: s.key for s in report.study.configurations if s.control}
    best = next(
        s.key for s in report.study.configurations if s.assignment.get("generator.n_ctx") == 8
    )
    metrics = make_publication(report).metrics
    for control in ("no_synthetic", "text_feature"):
        expected = sum(rows[best, s] - rows[keys[control], s] for s in range(5)) / 5
        assert metrics[f"headline/vs_{control}/{H}"] == pytest.approx(expected)
    assert metrics[f"headline/vs_no_synthetic/{H}"] > 0
    assert not any("zero_shot" in name or "real_images" in name for name in metrics)


def test_the_note_begins_with_the_answer(report: Report) -> None:
    """The note contains the answer and the main table only."""
    note = make_publication(report).note
    assert note.startswith("### prompt_len: the answer\n")
    assert note.count("### ") == 2
    assert "| n_ctx | n |" in note


def test_no_configuration_is_best_if_selection_rules_differ() -> None:
    """Scores on test images and on other images are not compared."""
    builder = StoreBuilder(factors=make_factors("selection", ["pseudo_new", "test"], "pseudo_new"))
    for rule in ("pseudo_new", "test"):
        builder.add_run(
            {"selection": rule}, {0: make_scores(60), 1: make_scores(62)}, selection=rule
        )
    study = builder.make_study()
    assert make_headline(study, "harmonic_mean") is None


def test_the_headline_of_a_tie_is_the_mean_of_the_tied_configurations() -> None:
    """Tied configurations have equal selection scores and may differ on the test images."""
    builder = StoreBuilder(factors=make_numbered_factors((2,)), seeds=range(3))
    for level, value in enumerate((60.0, 64.0)):
        results = {s: {**make_scores(50.0), METRIC: value + s} for s in range(3)}
        builder.add_run({"f0": level}, results, selected=make_scores(50.0))
    result = make_headline(builder.make_study(), METRIC)
    assert result is not None and result.configuration == "2 tied configurations: f0 0; f0 1"
    assert result.estimate.mean == pytest.approx(63.0)
    assert result.differences["baseline"].mean == pytest.approx(2.0)


@pytest.mark.parametrize("change", ["test result", "description", "metric", "plan", "run"])
def test_the_stamp_depends_on_all_inputs(change: str) -> None:
    """A change of a test result, the description, the metric, the plan or the runs alters it."""
    builder = make_prompt_len()
    before = make_report(builder.make_study(), H).stamp
    study = builder.make_study()
    if change == "test result":
        builder.runs[3].metrics["test/new/seed_2"] += 0.01
        study = builder.make_study()
    elif change == "plan":
        study = builder.add_planned({"generator.n_ctx": 32}).make_study()
    elif change == "run":
        builder.add_run({"generator.n_ctx": 32}, {s: make_scores(50.0) for s in builder.seeds})
        study = builder.make_study()
    elif change == "description":
        study = replace(study, description="another")
    assert make_report(study, "new" if change == "metric" else H).stamp != before


def test_an_unchanged_report_is_not_written_again(
    store_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files keep their modification times, and the tables are printed as always."""
    uri, out = make_prompt_len().write(store_uri), tmp_path / "out"
    prepare_report("prompt_len", uri).show(out)
    first = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert capsys.readouterr().out.endswith(f"report: {out} ({len(first)} files)\n")
    prepare_report("prompt_len", uri).show(out)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == first
    printed = capsys.readouterr().out
    assert printed.startswith("prompt_len: the answer")
    assert printed.endswith(f"report: {out} (unchanged)\n")
    (out / "prompt_len.html").write_text("edited", encoding="utf-8")
    prepare_report("prompt_len", uri).show(out)
    assert capsys.readouterr().out.endswith(f"({len(first)} files)\n")
    assert (out / "prompt_len.html").stat().st_mtime_ns != first[out / "prompt_len.html"]
