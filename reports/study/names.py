"""Display names of a study's configurations and metrics, and the metrics that it has."""

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

_NAMES = TypeAdapter(tuple[str, ...])  # a param with a JSON list of names


def configuration_text(assignment: Mapping[str, Any], control: str) -> str:
    """Return a configuration as text: "generator.n_ctx=4", or the name of a control with levels.

    A configuration without levels is called "constants".

    Args:
        assignment: Levels of the factors by dotted name.
        control: Name of the control; "" for other configurations.
    """
    levels = ", ".join(f"{key}={level}" for key, level in assignment.items())
    if not control:
        return levels or "constants"
    name = CONTROLS[control][0] if control in CONTROLS else control
    return f"{name} ({levels})" if levels else name


def study_protocol(runs: Iterable[Run], metrics: Iterable[str]) -> ProtocolMetrics:
    """Return the protocol of a study, with a heading for each metric of the study.

    Metric plugins and, for cross_dataset, target datasets add metrics to those of the protocol.

    Args:
        runs: Trials of the study. Their params list the targets and the metric plugins as JSON.
        metrics: Names of the test metrics that were logged; `accuracy/TARGET` implies a target.

    Raises:
        ReportError: If the runs have several protocols, or an unknown one.
    """
    runs = list(runs)
    protocols = sorted({run.tags.get(Tag.PROTOCOL, DEFAULT_PROTOCOL) for run in runs})
    if len(protocols) != 1 or protocols[0] not in PROTOCOLS:
        rule = f"must be one of {', '.join(PROTOCOLS)}, the same in all runs"
        raise ReportError(f"MLflow tag {Tag.PROTOCOL} {rule}, got {', '.join(protocols)}")
    protocol = _with_custom(PROTOCOLS[protocols[0]], runs)
    if protocols != ["cross_dataset"]:
        return protocol
    targets: dict[str, None] = {}
    for text in dict.fromkeys(run.params.get("targets", "[]") for run in runs):
        with contextlib.suppress(ValidationError):
            targets |= dict.fromkeys(_NAMES.validate_json(text))
    target_metrics = sorted(name for name in metrics if name.startswith(TARGET))
    targets |= dict.fromkeys(name.removeprefix(TARGET) for name in target_metrics)
    columns = {f"{TARGET}{target}": target for target in targets}
    return replace(
        protocol,
        headings={**columns, **protocol.headings},
        shown=(*columns, *protocol.shown),
        drop={**dict.fromkeys(columns, 5), **protocol.drop},
    )


def _with_custom(protocol: ProtocolMetrics, runs: Iterable[Run]) -> ProtocolMetrics:
    """Return a protocol with a column for each metric plugin in the runs' params."""
    names: dict[str, None] = {}
    for text in dict.fromkeys(run.params.get("metrics", "[]") for run in runs):
        with contextlib.suppress(ValidationError):
            names |= dict.fromkeys(_NAMES.validate_json(text))
    columns = {f"{CUSTOM}{name}": name for name in names}
    return replace(
        protocol,
        headings={**protocol.headings, **columns},
        shown=(*protocol.shown, *columns),
        drop={**protocol.drop, **dict.fromkeys(columns, 6)},
    )


def metric_heading(protocol: ProtocolMetrics, metric: str) -> str:
    """Return the column heading of a metric; the metric itself if it has no heading."""
    # a selection metric may belong to another protocol
    protocols = (protocol, *PROTOCOLS.values())
    return next((p.headings[metric] for p in protocols if metric in p.headings), metric)
