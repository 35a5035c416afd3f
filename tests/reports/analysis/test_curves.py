"""Curves of the selection objective."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reports.analysis.training import make_learning_curves
from reports.study import Study, load_records
from tests.reports.analysis.planted import levelled
from tests.reports.builder import StoreBuilder, scores

KEY = "selection/harmonic_mean"


class Made:
    """Histories that are given."""

    def __init__(self, curves: Mapping[str, Sequence[float]]) -> None:
        self.curves = curves

    def load(self, metric: str, run_ids: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
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


def test_curves_of_a_configuration_have_an_interval_over_its_runs() -> None:
    """Seeds that were added later are another run. With two runs, the mean has an interval."""
    builder = StoreBuilder(factors=levelled((2,)), seeds=range(4))
    builder.trial({"f0": 0}, {s: scores(60.0 + s) for s in (0, 1)})
    builder.trial({"f0": 0}, {s: scores(60.0 + s) for s in (2, 3)})
    builder.trial({"f0": 1}, {s: scores(50.0) for s in range(4)}, state="PRUNED")
    curves = {"run0": [40.0, 50.0, 55.0], "run1": [42.0, 54.0], "run2": [41.0]}
    rows = make_learning_curves(with_curves(builder, curves))
    names = ("label", "state", "step", "y")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("f0 0", "COMPLETE", 3, 41.0), ("f0 0", "COMPLETE", 4, 52.0),
        ("f0 0", "COMPLETE", 5, 55.0), ("f0 1", "PRUNED", 3, 41.0),
    ]  # fmt: skip
    assert rows[0]["low"] < 41 < rows[0]["high"] and rows[2]["low"] is None


def test_curves_are_read_from_the_store_on_demand(store_uri: str) -> None:
    """A study that load_records read has the curves that its runs logged."""
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
    points = make_learning_curves(load_records(builder.name, store_uri))
    assert [(point["step"], point["y"]) for point in points] == [(1, 30.0), (2, 41.0)]
