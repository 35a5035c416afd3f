"""Settings that --path ran: where they stand in a report, and where they must not."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reports.analysis import budget_correlation, importance
from reports.cells import Table
from reports.charts.factor import factor_charts
from reports.export import _attributes
from reports.render import csv_text, latex
from reports.report import Report, make_report
from reports.tables import families, setting_groups
from tests.reports.analysis.planted import METRIC, grid
from tests.reports.builder import StoreBuilder, scores
from tests.reports.listed import listed


def made(builder: StoreBuilder) -> Report:
    """The report of a store."""
    return make_report(builder.study())


def table_of(report: Report, name: str) -> Table:
    """The table of that name."""
    return next(table for table in report.every_table if table.name == name)


def sampled() -> StoreBuilder:
    """The same settings without those that --path ran."""
    builder = listed("path")
    del builder.runs[12:], builder.wanted[12:]
    return builder


def test_latex_and_csv_have_them_marked() -> None:
    """As pages have; the CSV in a column of its own."""
    found = table_of(made(listed("path")), "settings")
    assert "$^\\ddagger$" in latex([found])
    header, first, *_ = csv_text(found).splitlines()
    assert header.endswith(",flags,added") and first.endswith(",true")


@pytest.mark.parametrize("name", ["ranks", "importance"])
def test_what_is_about_a_samplers_draws_is_without_them(name: str) -> None:
    """To the last digit what it is without them, and a note says how many there are."""
    alone, beside = table_of(made(sampled()), name), table_of(made(listed("path")), name)
    assert csv_text(alone) == csv_text(beside)
    without = "2 settings left aside that --path ran: chosen by results"
    assert without in beside.notes and without not in alone.notes


def test_figures_of_factors_are_without_them_too() -> None:
    """A dot a setting: those of the sampler."""
    alone, beside = (
        list(factor_charts(builder.study(), METRIC)) for builder in (sampled(), listed("path"))
    )
    assert [chart.spec["layer"] for chart in alone] == [chart.spec["layer"] for chart in beside]
    assert all("Without the settings that --path ran (2)" in chart.caption for chart in beside)


def cut_grid() -> StoreBuilder:
    """A grid of which the setting (1, 1) was not asked for."""
    builder = grid((2, 2), lambda s: float(s["f0"]))
    builder.runs.pop()
    assert builder.wanted is not None
    builder.wanted.pop()
    return builder


def test_main_effects_are_those_of_the_grid() -> None:
    """A setting far off the others moves neither a level's mean nor a factor's share."""
    builder = cut_grid()
    far = {s: {**scores(90.0), METRIC: 90.0 + s} for s in builder.seeds}
    builder.trial({"f0": 1, "f1": 1}, far, added=True)
    alone, beside = made(cut_grid()), made(builder)
    for name in ("f0", "f1"):
        assert csv_text(table_of(alone, name)) == csv_text(table_of(beside, name))
    both = [one.importance for one in (alone, beside) if one.importance]
    shares, same = ((one.factors, one.pairs, one.rest, one.noise) for one in both)
    assert shares == same
    assert len(table_of(beside, "settings").rows) == 4
    own = {f.name: f.differences for f in families(builder.study(), METRIC)}
    assert {name: len(found) for name, found in own.items()} == {"settings": 3, "f0": 1, "f1": 1}
    assert max(abs(d) for d in own["f1"][0].values()) < 5  # the far one would make it 15


def test_whether_early_values_tell_the_end_is_asked_of_the_samplers_settings() -> None:
    """Settings that a path added were not drawn."""
    study = listed("path").study()
    runs = [str(run) for run in study.rows["run_id"].unique(maintain_order=True)]
    rng = np.random.default_rng(0)

    class Histories:
        """Curves of noise."""

        def of(self, metric: str, run_ids: Any) -> dict[str, list[tuple[int, float]]]:
            return {run: [(i, float(rng.normal())) for i in range(3)] for run in runs}

    found, _ = budget_correlation(replace(study, histories=Histories()))  # type: ignore[arg-type]
    assert [point["n"] for point in found] == [12, 12]


def test_they_count_for_no_trials_of_the_sampler() -> None:
    """An unfinished study of 12 trials that has 12 and two added ones lacks none."""
    builder = listed("path")
    builder.ended = "INTERRUPTED"
    assert builder.study().untried == 0
    builder.trials = 14
    assert builder.study().untried == 2


def test_what_the_scheduler_stopped_before_is_still_a_trial_of_the_samplers() -> None:
    """Its full run is --path's: no draw of importance, and no setting still to be tried."""
    builder = sampled()
    builder.ended = "INTERRUPTED"
    first = builder.runs[0]
    results = {s: scores(60.0 + s) for s in builder.seeds}
    builder.runs[0] = replace(
        first, tags={**first.tags, "ship.state": "PRUNED"}, metrics={"cost/seconds": 1.0}
    )
    assert builder.wanted is not None
    assignment = builder.wanted.pop(0)["assignment"]
    builder.trial(assignment, results, added=True)
    study = builder.study()
    assert study.untried == 0 and set(study.rows["state"]) == {"COMPLETE"}
    assert len(importance(study, METRIC).over.settings) == 11


def test_exports_and_stamps_tell_them_apart() -> None:
    """A report of the same numbers with another mark is another report."""
    study = listed("path").study()
    told = [_attributes(study, group).get("added") for group in setting_groups(study)]
    assert told.count("path") == 2
    plain = replace(study, settings=tuple(replace(s, added=False) for s in study.settings))
    assert make_report(study, METRIC).stamp != make_report(plain, METRIC).stamp
