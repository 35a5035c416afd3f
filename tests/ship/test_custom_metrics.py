"""Metric plugins: registered, checked, computed by seed."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ship.configs import METRICS
from ship.metrics import Predictions, compute_custom
from ship.plugins import MetricPlugin, PluginError, find_plugin_identities, load_plugin
from ship.protocol_rules import find_unmet_requirements
from ship.registry import Origin
from ship.testing import check_metric
from ship.trial_config import TrialConfig

pytestmark = pytest.mark.usefixtures("restore_registries")

PREDICTIONS = Predictions(
    logits=torch.tensor([[[5.0, 1, 0], [0, 1, 2]], [[0, 3, 1], [9, 0, 4]]]),
    labels=torch.tensor([0, 2]),
    seen=torch.tensor([[True, True, False], [True, False, False]]),
)


def register(name: str, compute: Callable[..., Any]) -> None:
    """Register a metric as if a file had it."""
    METRICS.add(MetricPlugin(name, compute), Origin(f"file {name}.py", "sha256:0"))


def test_a_metric_gets_one_seeds_predictions_labels_and_groups() -> None:
    """As numpy arrays in double precision; the result has a number per seed."""
    calls: list[Any] = []

    def largest_seen(logits: Any, labels: Any, seen: Any) -> float:
        calls.append((logits.dtype, labels.tolist(), seen.tolist()))
        return float(logits[:, seen].max())

    register("largest_seen", largest_seen)
    values = compute_custom(PREDICTIONS, ["largest_seen"])
    assert list(values) == ["custom/largest_seen"]
    assert values["custom/largest_seen"].tolist() == [5.0, 9.0]
    assert calls[1] == (np.float64, [0, 2], [True, False, False])
    assert compute_custom(PREDICTIONS, []) == {}


def test_a_failed_seed_is_not_computed() -> None:
    """A seed with a non-finite logit has failed; the metric never sees its predictions."""
    logits = PREDICTIONS.logits.clone()
    logits[0, 1, 2] = math.nan
    register("total", lambda logits, labels, seen: logits.sum())
    predictions = Predictions(logits, PREDICTIONS.labels, PREDICTIONS.seen)
    first, second = compute_custom(predictions, ["total"])["custom/total"].tolist()
    assert math.isnan(first) and second == 17.0


@pytest.mark.parametrize("value", [math.nan, math.inf, "1", None, np.zeros(2), 1j])
def test_what_is_no_finite_number_is_refused(value: Any) -> None:
    """One line with the plugin, the metric and the value."""
    register("odd", lambda *_: value)
    with pytest.raises(PluginError, match=r"^file odd.py: metric odd must return a finite number"):
        compute_custom(PREDICTIONS, ["odd"])


def test_a_metric_cannot_change_the_predictions() -> None:
    """The arrays are read-only copies."""

    def spoil(logits: Any, labels: Any, seen: Any) -> float:
        logits[:] = 0
        return 0.0

    register("spoil", spoil)
    before = PREDICTIONS.logits.clone()
    with pytest.raises(ValueError, match="read-only"):
        compute_custom(PREDICTIONS, ["spoil"])
    assert torch.equal(PREDICTIONS.logits, before)


def test_a_file_registers_a_metric_by_its_hash(tmp_path: Path) -> None:
    """An edited file has another identity."""
    path = tmp_path / "mine.py"
    text = "from ship.plugins import MetricPlugin\nm = MetricPlugin('zero', lambda *_: 0.0)\n"
    path.write_text(text)
    load_plugin(path)
    before = find_plugin_identities("none", "coop", [], ["zero"])
    assert before["metric zero"].startswith("sha256:")
    path.write_text(text.replace("0.0", "1.0"))
    load_plugin(path)
    assert find_plugin_identities("none", "coop", [], ["zero"]) != before


@pytest.mark.parametrize(
    ("plugin", "expected"),
    [
        ("MetricPlugin('m', 3)", "metric m: `compute` must be a function, got 3"),
        ("MetricPlugin('a b', print)", "invalid metric name 'a b'"),
    ],
)
def test_an_invalid_metric_is_refused(plugin: str, expected: str, tmp_path: Path) -> None:
    """When its file is loaded."""
    path = tmp_path / "mine.py"
    path.write_text(f"from ship.plugins import MetricPlugin\nm = {plugin}\n")
    with pytest.raises(PluginError, match=expected):
        load_plugin(path)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"metrics": ["none_such"]}, "metrics[0] must be the name of a metric that --plugin load"),
        (
            {"metrics": "zero", "protocol": "cross_dataset", "targets": ["photos"]},
            "metrics cannot be combined with protocol cross_dataset",
        ),
        (
            {"metrics": ["zero"], "selection": "authors"},
            "metrics cannot be combined with selection authors",
        ),
        ({"metrics": ["zero"]}, ""),
    ],
)
def test_a_study_names_loaded_metrics_of_a_single_test(keys: Any, expected: str) -> None:
    """Other names, protocols and selections are refused when the YAML is read."""
    register("zero", lambda *_: 0.0)
    faults = [
        f"{r.key} {r.rule}" for r in find_unmet_requirements(TrialConfig.model_validate(keys))
    ]
    assert any(expected in fault for fault in faults) if expected else not faults


def test_checks_of_a_metric() -> None:
    """A sound one passes; one that draws random numbers or returns text fails."""
    register("sound", lambda logits, labels, seen: float(logits.mean()))
    register("text", lambda *_: "1")
    random = np.random.default_rng()
    register("random", lambda *_: random.normal())
    assert all(result.passed for result in check_metric("sound"))
    assert [result.passed for result in check_metric("text")] == [False]
    assert [result.passed for result in check_metric("random")] == [True, False]
