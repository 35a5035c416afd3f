"""A metric against one factor: every seed's dot, means with 95% intervals, the reference arms."""

import json
from collections.abc import Iterator
from typing import Any

from reports.charts import theme
from reports.charts.model import Chart, chart
from reports.charts.pieces import Spec, number, steps, test_title, tips
from reports.charts.points import Arm, Dot, Mean, arms_of, dots_of, limits_of, means_of
from reports.read import Factor, Study, heading, run_address
from reports.tables import (
    MOST_LEVELS,
    averaged,
    dataset_factor,
    decimals_of,
    is_numeric,
    is_percent,
    level_groups,
    short_name,
    without_added,
)

_HEIGHT = 170  # pixels of the plot


def factor_charts(study: Study, metric: str) -> Iterator[Chart]:
    """A chart for each factor; over datasets, of the averages, and one of the datasets.

    Settings that --path ran are left out, as they are of a factor's tables.
    """
    study = without_added(study)
    over = dataset_factor(study)
    whole = study if over is None else averaged(study, over)
    # The arms are one setting on one dataset: no line across means over other factors or datasets.
    arms = over is None and (len(study.factors) == 1 or study.sampler != "grid")
    for factor in study.factors:
        source = study if factor == over else whole
        made = factor_chart(source, factor, metric, arms=arms) if source else None
        if made is not None:
            yield made


def factor_chart(study: Study, factor: Factor, metric: str, *, arms: bool = True) -> Chart | None:
    """The chart of a test metric against a factor.

    Up to 12 levels stand at equal distances, each with its label; more values are a continuous
    axis, logarithmic where the factor is. In a sampled study of several factors a dot is a setting,
    and there is no mean: it would mix in whatever else the sampler chose there.

    Args:
        study: whose finished rows are drawn.
        factor: the horizontal axis.
        metric: name of the metric, without its split.
        arms: whether the reference arms are drawn, too, as horizontal lines.

    Returns:
        None where nothing has finished.
    """
    scattered = study.sampler != "grid" and len(study.factors) > 1
    dots = dots_of(study, factor, metric, settings=scattered)
    if not dots:
        return None
    groups = level_groups(study, factor)
    continuous = is_numeric([g.value for g in groups]) and len(groups) > MOST_LEVELS
    means = [] if scattered or continuous else means_of(study, factor, metric)
    decimals = decimals_of(study, metric)
    limits = limits_of(dots, means, percent=is_percent(metric))
    lines = arms_of(study, metric, limits, decimals) if arms else []
    x = _x(study, factor, dots, continuous=continuous)
    head = heading(study.protocol, metric)
    y = _y(test_title(study, metric), limits, lines)
    joined = is_numeric([group.value for group in groups]) and not continuous
    layers = [
        *_arm_layers(lines, y),
        _dot_layer(study, dots, x, y, head),
        *_mean_layers(means, x, y, head, joined=joined),
    ]
    caption = _caption(study, factor, head, means, lines, decimals, scattered=scattered)
    beside = ["each dot one setting" if scattered else "mean over the other factors"]
    spec = {"height": _HEIGHT, "layer": layers}
    beside = beside if len(study.factors) > 1 else []
    return chart(study, factor.key, short_name(study, factor), caption, spec, *beside)


def _x(study: Study, factor: Factor, dots: list[Dot], *, continuous: bool) -> Spec:
    title = short_name(study, factor)
    if continuous:
        log = factor.log and min(dot.value for dot in dots) > 0
        scale = {"type": "log" if log else "linear", "nice": False, "padding": 8}
        return number("value", title, scale=scale, axis={"labelOverlap": "greedy", "tickCount": 6})
    return steps("level", title, list(dict.fromkeys(dot.level for dot in dots)))


def _y(title: str, limits: tuple[float, float], arms: list[Arm]) -> dict[str, Any]:
    near = [arm.estimate.mean for arm in arms if arm.near]
    low, high = min([limits[0], *near]), max([limits[1], *near])
    margin = 0.05 * (high - low)
    scale = {"domain": [low - margin, high + margin], "zero": False, "nice": False}
    axis = {"tickCount": 5}
    return {"field": "y", "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def _dot_layer(study: Study, dots: list[Dot], x: Spec, y: Spec, head: str) -> Spec:
    place = x["field"]
    values = [
        {place: dot.level if place == "level" else dot.value, "y": dot.y, "name": dot.name}
        | ({"run": dot.run_id} if run_address(study.runs_address, dot.run_id) else {})
        for dot in dots
    ]
    encoding: Spec = {"x": x, "y": y}
    encoding["tooltip"] = tips({place: x["title"], "name": "dot", "y*": head})
    layer: Spec = {"name": "seeds", "data": {"values": values}}
    if any("run" in value for value in values):
        # what all addresses begin with is written once
        begin = json.dumps(study.runs_address)
        layer["transform"] = [{"calculate": f"datum.run ? {begin} + datum.run : ''", "as": "href"}]
        encoding["href"] = {"field": "href"}
    mark = {"type": "circle", "size": 22, "color": theme.DOT, "opacity": 0.75}
    mark |= {"cursor": "pointer"} if "href" in encoding else {}
    return {**layer, "mark": mark, "encoding": encoding}


def _mean_layers(
    means: list[Mean], x: dict[str, Any], y: dict[str, Any], head: str, *, joined: bool
) -> Iterator[dict[str, Any]]:
    values = [
        {"level": m.level, "y": m.estimate.mean, "low": m.estimate.low, "high": m.estimate.high,
         "n": m.estimate.n}
        for m in means
    ]  # fmt: skip
    if not values:
        return
    data = {"values": values}
    if joined and len(values) > 1:
        mark: dict[str, Any] = {"type": "line", "color": theme.MEAN, "strokeWidth": 1}
        yield {"data": data, "mark": mark, "encoding": {"x": x, "y": y}}
    rule = {"type": "rule", "color": theme.MEAN, "strokeWidth": 1.5, "clip": True}
    ends = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}}
    known = [value for value in values if value["low"] is not None]
    yield {"name": "intervals", "data": {"values": known}, "mark": rule, "encoding": ends}
    tooltip = [
        {"field": "level", "title": x["title"]},
        {"field": "y", "title": f"mean {head}", "format": ".2f"},
        {"field": "low", "title": "95% from", "format": ".2f"},
        {"field": "high", "title": "to", "format": ".2f"},
        {"field": "n", "title": "n"},
    ]
    mark = {"type": "point", "shape": "diamond", "size": 55, "filled": True, "opacity": 1}
    mark |= {"color": theme.MEAN, "stroke": "white", "strokeWidth": 0.6}
    encoding = {"x": x, "y": y, "tooltip": tooltip}
    yield {"name": "means", "data": data, "mark": mark, "encoding": encoding}


def _arm_layers(arms: list[Arm], y: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Horizontal lines; the legend has every arm with its mean, the far ones too."""
    if not arms:
        return
    labels = [arm.label for arm in arms]
    colours = {"domain": labels, "range": [theme.ARMS[arm.key][0] for arm in arms]}
    dashes = {"domain": labels, "range": [theme.ARMS[arm.key][1] for arm in arms]}
    legend = {"title": None, "orient": "bottom", "columns": 1, "offset": 6, "symbolType": "stroke",
              "symbolSize": 250, "symbolStrokeWidth": 1.5}  # fmt: skip
    field = {"field": "arm", "type": "nominal"}
    values = [{"arm": arm.label, "y": arm.estimate.mean} for arm in arms if arm.near]
    encoding = {
        "y": y,
        "color": {**field, "scale": colours, "legend": legend},
        "strokeDash": {**field, "scale": dashes, "legend": legend},
    }
    yield {
        "name": "arms",
        "data": {"values": values},
        "mark": {"type": "rule", "strokeWidth": 1.3},
        "encoding": encoding,
    }


def _caption(
    study: Study,
    factor: Factor,
    head: str,
    means: list[Mean],
    arms: list[Arm],
    decimals: int,
    *,
    scattered: bool,
) -> str:
    what = f"Test {head} of {study.name} against {factor.key}."
    dots = "Each dot is a setting's mean over seeds." if scattered else "Each dot is a seed."
    told = ", ".join(f"{m.level} {m.estimate.mean:.{decimals}f}" for m in means)
    levels = f" Means with 95% intervals: {told}." if told else ""
    lines = f" Lines: {', '.join(arm.label for arm in arms)}." if arms else ""
    aside = f" Without the settings that --path ran ({study.aside})." if study.aside else ""
    return f"{what} {dots}{levels}{lines}{aside}"
