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

_TARGETS = TypeAdapter(tuple[str, ...])


def configuration_text(assignment: Mapping[str, Any], control: str) -> str:
    """Return a configuration as text: "generator.n_ctx=4", or the name of a control with levels."""
    levels = ", ".join(f"{key}={level}" for key, level in assignment.items())
    if not control:
        return levels or "constants"
    name = CONTROLS[control][0] if control in CONTROLS else control
    return f"{name} ({levels})" if levels else name


def study_protocol(runs: Iterable[Run], metrics: Iterable[str]) -> ProtocolMetrics:
    """Return the protocol of a study. For cross_dataset it has a column per target dataset.

    Args:
        runs: Trials of the study. Their params list the targets as JSON, and each target has a
            metric `accuracy/TARGET`.
        metrics: Names of test metrics.

    Raises:
        ReportError: If the runs have several protocols, or an unknown one.
    """
    runs = list(runs)
    protocols = sorted({run.tags.get(Tag.PROTOCOL, DEFAULT_PROTOCOL) for run in runs})
    if len(protocols) != 1 or protocols[0] not in PROTOCOLS:
        message = f"MLflow tag {Tag.PROTOCOL}: {', '.join(protocols)}: a study has one of"
        raise ReportError(f"{message} {', '.join(PROTOCOLS)}")
    protocol = _with_custom(PROTOCOLS[protocols[0]], runs)
    if protocols != ["cross_dataset"]:
        return protocol
    targets: dict[str, None] = {}
    for text in dict.fromkeys(run.params.get("targets", "[]") for run in runs):
        with contextlib.suppress(ValidationError):
            targets |= dict.fromkeys(_TARGETS.validate_json(text))
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
    """Return a protocol with a column for each metric plugin that the runs name in their params."""
    names: dict[str, None] = {}
    for text in dict.fromkeys(run.params.get("metrics", "[]") for run in runs):
        with contextlib.suppress(ValidationError):
            names |= dict.fromkeys(_TARGETS.validate_json(text))
    columns = {f"{CUSTOM}{name}": name for name in names}
    return replace(
        protocol,
        headings={**protocol.headings, **columns},
        shown=(*protocol.shown, *columns),
        drop={**protocol.drop, **dict.fromkeys(columns, 6)},
    )


def metric_heading(protocol: ProtocolMetrics, metric: str) -> str:
    """Return the column heading of a metric; selection metrics may belong to another protocol."""
    protocols = (protocol, *PROTOCOLS.values())
    return next((p.headings[metric] for p in protocols if metric in p.headings), metric)
