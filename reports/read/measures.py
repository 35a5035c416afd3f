"""Which metrics a study has, and how they are averaged over datasets."""

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from reports.contract import (
    COMPLETE,
    DEFAULT_PROTOCOL,
    PROTOCOLS,
    TARGET,
    Protocol,
    ReportError,
    Tag,
)
from reports.read.runs import Run
from reports.read.tags import Setting, in_words


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
    names = {run.tags.get(Tag.PROTOCOL, DEFAULT_PROTOCOL) for run in runs}
    found = ", ".join(sorted(names))
    if len(names) > 1:
        raise ReportError(
            f"runs of several protocols in one study ({found}): nothing compares them"
        )
    if found not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise ReportError(f"MLflow tag ship.protocol: {found!r} is unknown here (known: {known})")
    protocol = PROTOCOLS[found]
    if protocol is not PROTOCOLS["cross_dataset"]:
        return protocol
    targets: dict[str, None] = {}
    for text in dict.fromkeys(run.params.get("targets", "[]") for run in runs):
        with contextlib.suppress(json.JSONDecodeError):
            targets |= dict.fromkeys(map(str, json.loads(text) or ()))
    measured = sorted(name for name in metrics if name.startswith(TARGET))
    targets |= dict.fromkeys(name.removeprefix(TARGET) for name in measured)
    columns = {f"{TARGET}{target}": target for target in targets}
    return dataclasses.replace(
        protocol,
        headings={**columns, **protocol.headings},
        shown=(*columns, *protocol.shown),
        drop={**dict.fromkeys(columns, 5), **protocol.drop},
    )


def lacking_lines(
    rows: pl.DataFrame, settings: Iterable[Setting], metrics: Sequence[str]
) -> list[str]:
    """A line for each setting of which some finished seeds lack a metric that its others have.

    Args:
        rows: of the study.
        settings: of the study.
        metrics: the protocol's.
    """
    done = rows.filter(pl.col("state") == COMPLETE)
    columns = [f"test/{name}" for name in metrics]
    some = [(pl.col(c).null_count() > 0) & (pl.col(c).count() > 0) for c in columns]
    odd = done.filter(pl.any_horizontal(one.over("setting_key") for one in some))
    # an arm may share the key of a setting, whose values then name it
    by_kind = sorted(settings, key=lambda s: not s.arm)
    named = {s.key: in_words(s.assignment, s.arm) for s in by_kind}
    lines = []
    for key in odd["setting_key"].unique(maintain_order=True).to_list():
        own = odd.filter(pl.col("setting_key") == key)
        for column in columns:
            seeds = own.filter(pl.col(column).is_null())["seed"].to_list()
            if 0 < len(seeds) < len(own):
                listed = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
                lines.append(f"{named[key]}, {listed}: no {column}, which its other seeds have")
    return lines


def checked_metric(
    protocol: Protocol, name: str, metric: str | None, also: Sequence[str] = ()
) -> str:
    """The metric that a report is of: the one asked for, else the protocol's default.

    Args:
        protocol: the study's.
        name: the study's, for the message.
        metric: the one asked for, without its split; None: none was.
        also: what the message names beside the protocol's metrics.

    Raises:
        ReportError: the study's protocol has no such metric (one line with the choices).
    """
    if metric is None:
        return protocol.default
    if metric not in protocol.headings:
        choices = ", ".join([*protocol.headings, *also])
        raise ReportError(f"{name}: no test metric {metric!r}; metric may be: {choices}")
    return metric


def heading(protocol: Protocol, metric: str) -> str:
    """A metric's column heading; the selection pictures' metrics may be another protocol's."""
    known = (protocol, *PROTOCOLS.values())
    return next((p.headings[metric] for p in known if metric in p.headings), metric)


def average(
    values: Sequence[Mapping[str, float | None]], metric: str, halves: Mapping[str, tuple[str, str]]
) -> float:
    """A metric averaged over datasets: the mean, but H of means, not the mean of H.

    Source: the convention of base-to-new tables (CoOp, arXiv:2109.01134): H of the average is
    2BN/(B+N) of the mean B and the mean N.

    Args:
        values: metric -> value of each dataset, at least one.
        halves: a harmonic mean -> the two that it is of.

    Raises:
        LookupError: a dataset has no value of the metric, or of a half of it.
    """
    if metric in halves:
        one, other = (average(values, half, halves) for half in halves[metric])
        return 2 * one * other / (one + other) if one + other > 0 else 0.0
    found = [value for row in values if (value := row.get(metric)) is not None]
    if len(found) < len(values):
        raise LookupError(metric)
    return sum(found) / len(found)
