"""A metric against one factor: every seed's dot, means with 95% intervals, the reference arms."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from reports import tables
from reports.charts import vega
from reports.charts.vega import Chart, Spec, Values
from reports.contract import ARMS, COMPLETE
from reports.read import Factor, Study, heading, run_address

FIGURES = "figures"  # the section of the factors' charts
# Arms further from the dots than this many of their ranges are told in the legend alone.
_REACH = 1.0
_HEIGHT = 170  # pixels of the plot
_LARGEST = 1e100  # of a level on an axis of numbers; no NaN is
_COLUMN = 180  # pixels of its width in a paper's column
_DOT = 5  # pixels of a dot
# of each arm's line: colour and dashes
_LINES: Final = {
    "zero_shot": ("#777777", [1, 2]),
    "no_synthetic": ("#D55E00", [6, 2]),
    "text_feature": ("#009E73", [6, 2, 1, 2]),
    "real_pictures": ("#CC79A7", [10, 3]),
}


def factor_charts(study: Study, metric: str) -> Iterator[Chart]:
    """A chart for each factor; over datasets, of the averages, and one of the datasets.

    Settings that --path ran are left out, as they are of a factor's tables.
    """
    study = tables.without_added(study)
    over = tables.dataset_factor(study)
    whole = study if over is None else tables.averaged(study, over)
    # The arms are one setting on one dataset: no line across means over other factors or datasets.
    arms = over is None and (len(study.factors) == 1 or study.sampler != "grid")
    for factor in study.factors:
        source = study if factor == over else whole
        made = factor_chart(source, factor, metric, arms=arms) if source else None
        if made is not None:
            yield made


def factor_chart(study: Study, factor: Factor, metric: str, *, arms: bool = True) -> Chart | None:
    """The chart of a test metric against a factor.

    Up to 12 levels stand at equal distances, each with its label; more values, and those of a
    range, are a continuous axis, logarithmic where the factor is. In a sampled study of several
    factors a dot is a setting, and there is no mean: it would mix in whatever else the sampler
    chose there.

    Args:
        study: whose finished rows are drawn.
        factor: the horizontal axis.
        metric: name of the metric, without its split.
        arms: whether the reference arms are drawn, too, as horizontal lines.

    Returns:
        None where nothing has finished.
    """
    scattered = study.sampler != "grid" and len(study.factors) > 1
    groups = tables.level_groups(study, factor)
    dots = [dot for group in groups for dot in _dots(study, group, metric, scattered=scattered)]
    if not dots:
        return None
    levels = [group.value for group in groups]
    numeric = tables.is_numeric(levels) and all(abs(level) <= _LARGEST for level in levels)
    many = numeric and len(groups) > tables.MOST_LEVELS
    means = [] if scattered or many else [_mean(group, metric) for group in groups]
    means = [mean for mean in means if mean]
    low, high = _limits(dots, means, percent=tables.is_percent(metric))
    dots, some = vega.thinned(dots, "dots")
    lines = _arms(study, metric, low, high) if arms else []
    near = [line for line in lines if line["near"]]
    title, head = tables.short_name(study, factor), heading(study.protocol, metric)
    x = vega.steps("level", title, dots)
    if many or (numeric and factor.levels is None):
        log = factor.log and min(dot["value"] for dot in dots) > 0
        kind = "log" if log else "linear"
        x = vega.number("value", title, {"type": kind, "nice": False, "padding": 8})
    low, high = min([low, *(arm["y"] for arm in near)]), max([high, *(arm["y"] for arm in near)])
    margin = 0.05 * (high - low)
    scale = {"domain": [low - margin, high + margin], "nice": False}
    y = vega.number("y", vega.test_title(study, metric), scale)
    layers = [
        *_arm_layers(lines, near, y),
        _dot_layer(study, _apart(dots, (high - low) / _HEIGHT), x, y, head),
        *_mean_layers(means, x, y, head, joined=numeric and not many),
    ]
    decimals = tables.decimals_of(study, metric)
    dot = "a setting's mean over seeds" if scattered else "a seed"
    told = ", ".join(f"{mean['level']} {tables.number(mean['y'], decimals)}" for mean in means)
    caption = (
        f"Test {head} of {study.name} against {factor.key}."
        f" Each dot is {dot}.{some}"
        + f" Means with 95% intervals: {told}." * bool(told)
        + f" Lines: {', '.join(arm['arm'] for arm in lines)}." * bool(lines)
        + f" Without the settings that --path ran ({study.aside})." * bool(study.aside)
    )
    beside = "each dot one setting" if scattered else "mean over the other factors"
    beside = beside if len(study.factors) > 1 else ""
    return vega.chart(
        study, (FIGURES, factor.key), title, caption, layers, beside=beside, height=_HEIGHT
    )


def _dots(study: Study, group: tables.Group, metric: str, *, scattered: bool) -> Iterator[Spec]:
    """Each seed of a level or, in a sampled study of several factors, each setting's mean.

    `run` is the only run behind a dot, if that has an address.
    """
    at = {"level": tables.level_text(group.value), "value": group.value}
    seeds: dict[Any, dict[int, list[float]]] = {}
    runs: dict[Any, set[str]] = {}
    names = ("setting_key" if scattered else "seed", "seed", "state", "run_id", f"test/{metric}")
    for dot, seed, state, run_id, value in zip(*map(group.column, names), strict=True):
        if state == COMPLETE and value is not None:
            seeds.setdefault(dot, {}).setdefault(seed, []).append(value)
        if state == COMPLETE and run_id is not None:
            runs.setdefault(dot, set()).add(run_id)
    for dot, own in seeds.items() if scattered else sorted(seeds.items()):
        means = [sum(values) / len(values) for values in own.values()]
        name = f"mean of {len(means)} seeds" if scattered else f"seed {dot}"
        run_id, *others = runs.get(dot, {""})
        known = not others and run_address(study.runs_address, run_id)
        run = {"run": run_id} if known else {}
        yield {**at, "y": sum(means) / len(means), "name": name, **run}


def _mean(group: tables.Group, metric: str) -> Spec:
    """A level's mean over seeds with its interval, as in the factor's table; {} without any."""
    values = list(group.seeds(f"test/{metric}").values())
    if not values:
        return {}
    e = tables.interval_of(metric, values)
    at = {"level": tables.level_text(group.value), "value": group.value}
    return {**at, "y": e.mean, "low": e.low, "high": e.high, "n": e.n}


def _arms(study: Study, metric: str, low: float, high: float) -> list[Spec]:
    """The reference arms that finished, highest first; near: whether its line is drawn.

    Args:
        study: with its arms.
        metric: name of the test metric.
        low, high: the lowest and the highest value that is drawn of the levels.
    """
    reach, decimals, found = _REACH * (high - low), tables.decimals_of(study, metric), []
    for group in tables.arm_groups(study):
        if mean := _mean(group, metric):
            near = low - reach <= mean["y"] <= high + reach
            told = f"{ARMS[group.arm][0]} {tables.number(mean['y'], decimals)}"
            told += "" if near else " (beyond)"
            found.append({"key": group.arm, "arm": told, "y": mean["y"], "near": near})
    return sorted(found, key=lambda arm: -arm["y"])


def _limits(dots: Values, means: Values, *, percent: bool) -> tuple[float, float]:
    """The range of dots and intervals, never of zero height: half a point, or a part of the values.

    Args:
        dots, means: that are drawn.
        percent: whether they are percentages.
    """
    values = [dot["y"] for dot in dots]
    for mean in means:
        # An interval of two seeds may be vast; the dots then decide, and it is cut off.
        if mean["low"] is not None and mean["n"] > 2:
            values += [mean["low"], mean["high"]]
    low, high = min(values), max(values)
    least = 0.5 if percent else 0.02 * max(abs(low), abs(high), 1e-6)
    return (low, high) if high - low > least else (low - least, high + least)


def _apart(dots: Values, pixel: float) -> list[Spec]:
    """The dots, with how many pixels each is moved to a side where it would lie on another one.

    Args:
        dots: of all levels.
        pixel: the metric's difference that is one pixel of the plot.
    """
    heaps: dict[tuple[str, int], list[Spec]] = {}
    for dot in (dict(dot) for dot in dots):
        heaps.setdefault((dot["level"], round(dot["y"] / (_DOT * pixel))), []).append(dot)
    room = _COLUMN / len({level for level, _ in heaps})
    for heap in (heap for heap in heaps.values() if len(heap) > 1):
        step = min(_DOT, room / len(heap))
        for place, dot in enumerate(heap):
            dot["side"] = round(step * (place - (len(heap) - 1) / 2), 1)
    return [dot for heap in heaps.values() for dot in heap]


def _dot_layer(study: Study, dots: Values, x: Spec, y: Spec, head: str) -> Spec:
    shown = {x["field"], "y", "name", "run", "side"}
    values = [{key: value for key, value in dot.items() if key in shown} for dot in dots]
    tooltip = vega.tips({x["field"]: x["title"], "name": "dot", "y*": head})
    encoding: Spec = {"x": x, "y": y, "tooltip": tooltip}
    mark: Spec = {"size": 22, "color": vega.DOT, "opacity": 0.75}
    more: Spec = {}
    if any("side" in dot for dot in dots):
        mark["xOffset"] = {"expr": "datum.side || 0"}
    if any("run" in dot for dot in dots):
        # what all addresses begin with is written once
        begin = json.dumps(study.runs_address)
        more["transform"] = [{"calculate": f"datum.run ? {begin} + datum.run : ''", "as": "href"}]
        encoding["href"] = {"field": "href"}
        mark["cursor"] = "pointer"
    return {**vega.layer("circle", encoding, name="seeds", values=values, **mark), **more}


def _mean_layers(means: Values, x: Spec, y: Spec, head: str, *, joined: bool) -> Iterator[Spec]:
    if not means:
        return
    at = {"x": x, "y": y}
    hidden = {"level", "value"} - {x["field"]}
    means = [{key: value for key, value in mean.items() if key not in hidden} for mean in means]
    if joined and len(means) > 1:
        yield vega.layer("line", at, values=means, color=vega.MEAN, strokeWidth=1)
    yield from vega.intervals(means, x, y, color=vega.MEAN)
    told = {x["field"]: x["title"], "y*": f"mean {head}"}
    tooltip = [*vega.interval_tips(told), *vega.tips({"n": "n"})]
    look = {"shape": "diamond", "color": vega.MEAN, "stroke": "white", "strokeWidth": 0.6}
    yield vega.points({**at, "tooltip": tooltip}, name="means", values=means, **look)


def _arm_layers(arms: Sequence[Spec], near: Sequence[Spec], y: Spec) -> Iterator[Spec]:
    """Horizontal lines; the legend has every arm with its mean, the far ones too."""
    if not arms:
        return
    legend = {"title": None, "orient": "bottom", "columns": 1, "offset": 6, "symbolType": "stroke",
              "symbolSize": 250, "symbolStrokeWidth": 1.5}  # fmt: skip
    encoding: Spec = {"y": y}
    for place, channel in enumerate(("color", "strokeDash")):
        looks = [_LINES[arm["key"]][place] for arm in arms]
        scale = {"domain": [arm["arm"] for arm in arms], "range": looks}
        encoding[channel] = {"field": "arm", "type": "nominal", "scale": scale, "legend": legend}
    values = [{"arm": arm["arm"], "y": arm["y"]} for arm in near]
    yield vega.layer("rule", encoding, name="arms", values=values, strokeWidth=1.3)
