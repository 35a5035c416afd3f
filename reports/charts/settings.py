"""Settings as points: what they cost against what they reach, and feature quality against it."""

from collections.abc import Iterator, Sequence
from typing import Any

from reports.analysis import CostPoint
from reports.charts import theme
from reports.charts.model import Chart, chart
from reports.charts.pieces import (
    colours,
    interval_tips,
    intervals,
    number,
    points,
    test_title,
    tips,
)
from reports.contract import QUALITY
from reports.read import Study, heading
from reports.tables import MEASURES, factor_labels, setting_groups, spelled, without_added

_SHOWN = ("cosine_to_mean", "synthetic_to_real")  # measures of the class means
FEWEST = 4  # settings of a scatter
_KINDS = {"none is better and cheaper": theme.SECOND, "other": theme.DOT}


def cost_chart(study: Study, found: Sequence[CostPoint], metric: str) -> Chart | None:
    """Seconds a seed against the test metric; None with one setting."""
    if len(found) < 2:
        return None
    head = heading(study.protocol, metric)
    best, other = _KINDS
    values = [
        {"label": p.label, "seconds": max(p.seconds, 1e-3), "y": p.value.mean, "low": p.value.low,
         "high": p.value.high, "kind": best if p.optimal else other}
        for p in found
    ]  # fmt: skip
    axis = {"tickCount": 5, "labelOverlap": "greedy", "format": "~g"}
    scale = {"type": "log", "nice": False, "padding": 8}
    x = number("seconds", "seconds a seed", scale=scale, axis=axis)
    y = number("y", test_title(study, metric))
    kind = colours("kind", "by selection score", _KINDS)
    tooltip = interval_tips({"label": "setting", "seconds*": "seconds", "y*": head})
    encoding = {"x": x, "y": y, "color": kind, "tooltip": tooltip}
    layers = [*intervals(values, x, y, color=kind), points("settings", encoding, size=45)]
    caption = (
        f"Each point is a setting: wall seconds of a seed against its mean test {head} with its 95%"
        " interval. Marked: no other setting has a better selection score for fewer seconds."
    )
    spec = {"height": 170, "data": {"values": values}, "layer": layers}
    return chart(study, "cost", f"Cost against {head}", caption, spec)


def quality_charts(study: Study, metric: str) -> Iterator[Chart]:
    """The metric against measures of the class means, a point a setting that is the study's own."""
    study = without_added(study)
    head = heading(study.protocol, metric)
    names = {measure.metric: measure.short for measure in MEASURES}
    for name in (name for name in _SHOWN if f"{QUALITY}{name}" != metric):
        values = _points(study, f"test/{QUALITY}{name}", f"test/{metric}")
        if len(values) < FEWEST:
            continue
        x = number("x", names[name], scale={"padding": 8})
        y = number("y", test_title(study, metric))
        tooltip = tips({"label": "setting", "x*": names[name], "y*": head}, 3)
        layer = points("settings", {"x": x, "y": y, "tooltip": tooltip}, size=45, color=theme.MEAN)
        caption = (
            f"Each point is a setting with synthesized features: {names[name]} against test {head},"
            " means over seeds. That they go together need not mean that one makes the other."
        )
        spec = {"height": 170, "data": {"values": values}, "layer": [layer]}
        yield chart(study, f"quality-{name}", f"{names[name]} against {head}", caption, spec)


def _points(study: Study, x: str, y: str) -> list[dict[str, Any]]:
    """A point for each setting that has both, means over seeds."""
    if x not in study.rows.columns or y not in study.rows.columns:
        return []
    labels, found = factor_labels(study), []
    for group in setting_groups(study):
        one, other = (list(group.seeds(name).values()) for name in (x, y))
        if one and other:
            means = {"x": sum(one) / len(one), "y": sum(other) / len(other)}
            found.append({"label": spelled(group, labels), **means})
    return found
