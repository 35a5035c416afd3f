"""Names of configurations and metrics in reports, and the metrics that a study has."""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.store import (
    CONTROLS,
    CUSTOM,
    DEFAULT_PROTOCOL,
    PROTOCOLS,
    TARGET,
    ProtocolMetrics,
    Run,
    Tag,
)
from reports.errors import ReportError

_NAME_LIST = TypeAdapter(tuple[str, ...])  # validates params that are JSON lists of names
# Column.drop of the columns that a study adds to its protocol.
_TARGET_DROP = 5
_PLUGIN_DROP = 6


def format_configuration(assignment: Mapping[str, Any], control: str) -> str:
    """Return a configuration as text, such as "generator.n_ctx=4".

    A control is its label, followed by its levels in parentheses if it has any. A configuration
    without levels is "constants".

    Args:
        assignment: Levels of the factors by dotted name.
        control: Name of the control. "" for other configurations.
    """
    levels = ", ".join(f"{key}={level}" for key, level in assignment.items())
    if not control:
        return levels or "constants"
    label = CONTROLS[control][0] if control in CONTROLS else control
    return f"{label} ({levels})" if levels else label


def get_study_protocol(runs: Iterable[Run], metrics: Iterable[str]) -> ProtocolMetrics:
    """Return the protocol of a study with the headings of all metrics that the study has.

    These are the metrics of the protocol, those of metric plugins, and, for cross_dataset, the
    accuracy on each target dataset.

    Args:
        runs: Trials of the study, at least one. The params `targets` and `metrics` are JSON lists
            with the names of target datasets and metric plugins. Invalid lists are ignored.
        metrics: Names of the logged test metrics. `accuracy/TARGET` adds a target dataset that no
            param lists.

    Raises:
        ReportError: If the runs have several protocols, or an unknown one.
    """
    runs = list(runs)
    protocols = sorted({run.tags.get(Tag.PROTOCOL, DEFAULT_PROTOCOL) for run in runs})
    if len(protocols) != 1 or protocols[0] not in PROTOCOLS:
        raise ReportError(
            f"all runs must have the same protocol (MLflow tag {Tag.PROTOCOL}), one of"
            f" {', '.join(PROTOCOLS)}; got {', '.join(protocols) or 'no runs'}"
        )
    protocol = _add_plugin_metrics(PROTOCOLS[protocols[0]], runs)
    if protocols == ["cross_dataset"]:
        return _add_target_metrics(protocol, runs, metrics)
    return protocol


def _add_target_metrics(
    protocol: ProtocolMetrics, runs: Iterable[Run], metrics: Iterable[str]
) -> ProtocolMetrics:
    """Return the protocol with a column per target dataset, before its other columns."""
    targets = _list_names(runs, "targets")
    for metric in sorted({name for name in metrics if name.startswith(TARGET)}):
        targets[metric.removeprefix(TARGET)] = None
    columns = {f"{TARGET}{target}": target for target in targets}
    return replace(
        protocol,
        headings={**columns, **protocol.headings},
        shown=(*columns, *protocol.shown),
        drop={**dict.fromkeys(columns, _TARGET_DROP), **protocol.drop},
    )


def _add_plugin_metrics(protocol: ProtocolMetrics, runs: Iterable[Run]) -> ProtocolMetrics:
    """Return the protocol with a column per metric plugin, after its other columns."""
    columns = {f"{CUSTOM}{name}": name for name in _list_names(runs, "metrics")}
    return replace(
        protocol,
        headings={**protocol.headings, **columns},
        shown=(*protocol.shown, *columns),
        drop={**protocol.drop, **dict.fromkeys(columns, _PLUGIN_DROP)},
    )


def _list_names(runs: Iterable[Run], param: str) -> dict[str, None]:
    """Return the names in a param of any run, as keys in the order of the runs."""
    names: dict[str, None] = {}
    for text in dict.fromkeys(run.params.get(param, "[]") for run in runs):
        with contextlib.suppress(ValidationError):
            names |= dict.fromkeys(_NAME_LIST.validate_json(text))
    return names


def get_metric_heading(protocol: ProtocolMetrics, metric: str) -> str:
    """Return the column heading of a metric, from any protocol; else the metric's name."""
    # a metric of selection may have a heading only in another protocol
    protocols = (protocol, *PROTOCOLS.values())
    return next((p.headings[metric] for p in protocols if metric in p.headings), metric)
