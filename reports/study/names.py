"""How a study's configurations and metrics are called, and which metrics it has."""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.store import ARMS, DEFAULT_PROTOCOL, PROTOCOLS, TARGET, Protocol, Run, Tag
from reports.errors import ReportError

_TARGETS = TypeAdapter(tuple[str, ...])


def in_words(assignment: Mapping[str, Any], arm: str) -> str:
    """A setting as a message names it: "generator.n_ctx=4", or its arm with its levels."""
    levels = ", ".join(f"{key}={level}" for key, level in assignment.items())
    if not arm:
        return levels or "constants"
    name = ARMS[arm][0] if arm in ARMS else arm
    return f"{name} ({levels})" if levels else name


def study_protocol(runs: Iterable[Run], metrics: Iterable[str]) -> Protocol:
    """The protocol of a study; cross_dataset with a column for each target before the average.

    Args:
        runs: of its trials. Their params list the targets, as JSON, and `accuracy/TARGET` is a
            metric of one.
        metrics: names of test metrics.

    Raises:
        ReportError: several protocols, or one that these reports do not know.
    """
    runs = list(runs)
    found = sorted({run.tags.get(Tag.PROTOCOL, DEFAULT_PROTOCOL) for run in runs})
    if len(found) != 1 or found[0] not in PROTOCOLS:
        told = f"MLflow tag {Tag.PROTOCOL}: {', '.join(found)}: a study has one of"
        raise ReportError(f"{told} {', '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[found[0]]
    if found != ["cross_dataset"]:
        return protocol
    targets: dict[str, None] = {}
    for text in dict.fromkeys(run.params.get("targets", "[]") for run in runs):
        with contextlib.suppress(ValidationError):
            targets |= dict.fromkeys(_TARGETS.validate_json(text))
    measured = sorted(name for name in metrics if name.startswith(TARGET))
    targets |= dict.fromkeys(name.removeprefix(TARGET) for name in measured)
    columns = {f"{TARGET}{target}": target for target in targets}
    return replace(
        protocol,
        headings={**columns, **protocol.headings},
        shown=(*columns, *protocol.shown),
        drop={**dict.fromkeys(columns, 5), **protocol.drop},
    )


def heading(protocol: Protocol, metric: str) -> str:
    """A metric's column heading; the selection pictures' metrics may be another protocol's."""
    known = (protocol, *PROTOCOLS.values())
    return next((p.headings[metric] for p in known if metric in p.headings), metric)
