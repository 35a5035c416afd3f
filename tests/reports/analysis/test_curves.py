"""Curves of the selection objective, and how early they tell the end."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from reports.analysis.training import budget_correlation, learning_curves
from reports.read import Study, load_records
from tests.reports.analysis.planted import grid, levelled, nothing
from tests.reports.builder import StoreBuilder, scores

KEY = "selection/harmonic_mean"


class Made:
    """Histories that are given."""

    def __init__(self, curves: Mapping[str, Sequence[float]]) -> None:
        self.curves = curves

    def of(self, metric: str, run_ids: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
        """Evaluations at steps 3, 4, ...: a generator was trained before."""
        assert metric == KEY
        return {
            run_id: list(enumerate(values, start=3))
            for run_id, values in self.curves.items()
            if run_id in run_ids
        }


def with_curves(builder: StoreBuilder, curves: Mapping[str, Sequence[float]]) -> Study:
    """The study, whose runs have these curves."""
    return replace(builder.study(), histories=Made(curves))  # type: ignore[arg-type]


def test_one_curve_a_setting_with_a_band_over_runs() -> None:
    """Seeds that were added later are another run; with it there is an interval."""
    builder = StoreBuilder(factors=levelled((2,)), seeds=range(4))
    builder.trial({"f0": 0}, {s: scores(60.0 + s) for s in (0, 1)})
    builder.trial({"f0": 0}, {s: scores(60.0 + s) for s in (2, 3)})
    builder.trial({"f0": 1}, {s: scores(50.0) for s in range(4)}, state="PRUNED")
    curves = {"run0": [40.0, 50.0, 55.0], "run1": [42.0, 54.0], "run2": [41.0]}
    rows = learning_curves(with_curves(builder, curves))
    names = ("label", "state", "step", "y")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("f0 0", "COMPLETE", 3, 41.0), ("f0 0", "COMPLETE", 4, 52.0),
        ("f0 0", "COMPLETE", 5, 55.0), ("f0 1", "PRUNED", 3, 41.0),
    ]  # fmt: skip
    assert rows[0]["low"] < 41 < rows[0]["high"] and rows[2]["low"] is None


def test_curves_come_from_the_store(store_uri: str) -> None:
    """What a study's runs have logged is read through load_records, when it is asked for."""
    from mlflow.tracking import MlflowClient

    builder = StoreBuilder(factors=levelled((2,)), seeds=range(2))
    for level in range(2):
        builder.trial({"f0": level}, {s: scores(60.0 + level + s) for s in range(2)})
    builder.write(store_uri)
    client = MlflowClient(tracking_uri=store_uri)
    experiment = client.get_experiment_by_name(builder.name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`ship.kind` = 'trial'")
    for step, value in ((2, 41.0), (1, 30.0)):
        client.log_metric(runs[0].info.run_id, KEY, value, step=step)
    made = learning_curves(load_records(builder.name, store_uri))
    assert [(one["step"], one["y"]) for one in made] == [(1, 30.0), (2, 41.0)]


def test_rungs_against_the_end() -> None:
    """An evaluation that ranks as the end does has rho 1; one of noise is near 0."""
    rng = np.random.default_rng(0)
    builder = grid((30,), lambda s: 1.0 * s["f0"], 2, rng)
    noise = rng.normal(size=30)
    curves = {
        f"run{i}": [0.0, float(noise[i]), i + 9 * float(noise[i]), float(i), float(i), float(i)]
        for i in range(30)
    }
    made, stopped = budget_correlation(with_curves(builder, curves))
    assert [point["evaluation"] for point in made] == ["1", "2", "4", "5"]
    first, second, *late = made
    assert first["low"] < 0 < first["high"] and first["rho"] < second["rho"]
    assert all(point["rho"] > 0.98 for point in late)
    assert all(point["n"] == 30 for point in made) and stopped == 0


def test_stopped_settings_are_counted_and_not_ranked() -> None:
    """What the scheduler stopped has no end to compare with."""
    builder = grid((6,), lambda s: 1.0 * s["f0"], 2)
    for run in builder.runs[:2]:
        run.tags["ship.state"] = "PRUNED"
    curves = {f"run{i}": [0.0, float(i)] + [float(i)] * (i >= 2) for i in range(6)}
    made, stopped = budget_correlation(with_curves(builder, curves))
    assert stopped == 2 and [point["n"] for point in made] == [4, 4]


@pytest.mark.parametrize("curves", [{}, {"run0": [1.0, 2.0]}, {f"run{i}": [1.0] for i in range(4)}])
def test_there_are_no_rungs(curves: Mapping[str, Sequence[float]]) -> None:
    """No history, too few settings, one evaluation."""
    assert budget_correlation(with_curves(grid((4,), nothing, 2), curves)) == ([], 0)
