"""Every setting as a line through its levels."""

import math
from collections.abc import Iterator
from typing import Any

from reports.charts.model import Chart, chart
from reports.charts.pieces import heat, tips
from reports.read import Factor, Study, heading
from reports.tables import (
    MOST_LEVELS,
    Group,
    is_numeric,
    level_text,
    ordered_levels,
    setting_groups,
    short_names,
)

MOST_LINES = 300  # the settings that selection likes best


def parallel_chart(study: Study, metric: str) -> Chart | None:
    """Parallel coordinates, coloured by the test metric.

    Returns:
        None with fewer than two factors or settings.
    """
    groups = [group for group in setting_groups(study) if not group.done.is_empty()]
    if len(study.factors) < 2 or len(groups) < 2:
        return None
    names, head = short_names(study), heading(study.protocol, metric)
    places = {factor.key: dict(_places(study, factor)) for factor in study.factors}
    values = [
        {"line": line, "factor": names[key], "level": level, "at": places[key][level], "mean": mean}
        for line, group in enumerate(groups[:MOST_LINES])
        for key, level, mean in _through(group, metric)
        if level in places.get(key, {})
    ]
    axis = {"labelAngle": 0, "domain": False, "ticks": False}
    x = {"field": "factor", "type": "nominal", "sort": list(names.values()), "title": None,
         "axis": axis}  # fmt: skip
    y = {"field": "at", "type": "quantitative", "axis": None}
    tooltip = tips({"factor": "factor", "level": "level", "mean*": head})
    lines = {"x": x, "y": y, "color": heat("mean", head), "detail": {"field": "line"}}
    labels = [
        {"factor": names[key], "level": level, "at": at}
        for key, levels in places.items()
        for level, at in levels.items()
        if len(levels) <= MOST_LEVELS or at in (0.0, 1.0)
    ]
    line = {"type": "line", "opacity": 0.7, "strokeWidth": 1.2}
    text = {"type": "text", "align": "left", "dx": 5, "fontSize": 9}
    words = {"x": x, "y": y, "text": {"field": "level"}}
    encoding = {**lines, "tooltip": tooltip}
    layers = [
        {"name": "settings", "data": {"values": values}, "mark": line, "encoding": encoding},
        {"data": {"values": labels}, "mark": text, "encoding": words},
    ]
    best = f" The {MOST_LINES} best by selection." if len(groups) > MOST_LINES else ""
    caption = f"Every setting is a line through its levels; its colour is its test {head}.{best}"
    spec = {"height": 200, "layer": layers}
    return chart(study, "parallel", "Parallel coordinates", caption, spec)


def _places(study: Study, factor: Factor) -> Iterator[tuple[str, float]]:
    """Each level and its height, 0 to 1: at equal distances, of a range by its value."""
    levels = ordered_levels(study, factor)
    values = [float(place) for place in range(len(levels))]
    if is_numeric(levels) and len(levels) > MOST_LEVELS:
        values = [float(level) for level in levels]
        values = [math.log(v) for v in values] if factor.log and values[0] > 0 else values
    spread = values[-1] - values[0] if len(values) > 1 else 1.0
    for level, value in zip(levels, values, strict=True):
        yield level_text(level), (value - values[0]) / spread


def _through(group: Group, metric: str) -> Iterator[tuple[str, str, Any]]:
    """(factor, level, the setting's mean) of every factor that is active in a setting."""
    seeds = group.seeds(f"test/{metric}")
    if seeds:
        mean = sum(seeds.values()) / len(seeds)
        for key, level in group.value.assignment.items():
            yield key, level_text(level), mean
