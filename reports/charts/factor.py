"""A metric against one factor: every seed's dot, means with 95% intervals, the reference arms."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from reports import tables
from reports.analysis import interval_values
from reports.cells import level_text
from reports.charts import vega
from reports.charts.vega import Chart, Spec, Values
from reports.contract import ARMS, COMPLETE
from reports.formatting import number
from reports.read import Factor, Study, heading, run_address
from reports.tables import Group

FIGURES = "figures"  # the section of the factors' charts
# Arms further from the dots than this many of their ranges are told in the legend alone.
_REACH = 1.0
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
    """A chart for each factor; like a factor's tables, without the settings that --path ran.

    Of a study over datasets the other factors' are of the methods with a result on all of them.
    """
    study = tables.without_added(study)
    over, alone, whole = tables.datasets(study), len(study.factors) == 1, tables.averaged(study)
    # The arms are one setting on one dataset: no line across means over other factors or datasets.
    arms = not over and (alone or study.sampler != "grid")
    for factor in study.factors:
        if over and not alone and factor.key == tables.DATASET:
            yield from _dataset_chart(study, factor, metric)
        elif whole or alone:
            yield from factor_chart(study if alone else whole or study, factor, metric, arms=arms)


def factor_chart(
    study: Study, factor: Factor, metric: str, *, arms: bool = True
) -> Iterator[Chart]:
    """The chart of a test metric against a factor; none where nothing has finished.

    Up to 12 levels stand at equal distances, each with its label; more values, and those of a
    range, are a continuous axis, logarithmic where the factor is. In a sampled study of several
    factors a dot is a setting, and there is no mean: it would mix in whatever else the sampler
    chose there.

    Args:
        study: whose finished rows are drawn.
        factor: the horizontal axis.
        metric: name of the metric, without its split.
        arms: whether the reference arms are drawn, too, as horizontal lines.
    """
    scattered = study.sampler != "grid" and len(study.factors) > 1
    groups = tables.level_groups(study, factor)
    levels = [group.value for group in groups]
    numeric = tables.as_numbers(levels) is not None
    many = numeric and len(groups) > tables.MOST_LEVELS
    ranged = many or (numeric and factor.levels is None)
    decimals = tables.decimals_of(study, metric)
    dots, means, told = list[Spec](), list[Spec](), list[str]()
    for level, group in zip(levels, groups, strict=True):
        text = level_text(level)
        place = {"value": level} if ranged else {"level": text}
        seeds = _seeds(study, group, metric, scattered=scattered)
        dots += [{**place, **dot} for dot in seeds]
        mean = None if scattered or many else _mean(group, metric)
        if mean:
            means.append({**place, **mean})
            told.append(f"{text} {number(mean['y'], decimals)}")
    if not dots:
        return
    low, high = _limits(dots, means, percent=tables.is_percent(metric))
    dots, some = vega.thinned(dots, "dots")
    lines = _arms(study, metric, low, high) if arms else []
    near = [line["y"] for line in lines if line["near"]]
    low, high = min([low, *near]), max([high, *near])
    title, head = tables.short_name(study, factor), heading(study.protocol, metric)
    if ranged:
        x = vega.spread("value", title, dots, log=factor.log)
    else:
        x = vega.steps("level", title, dots)
    encoding = {"x": x, "y": _axis(study, metric, low, high)}
    apart = _apart(dots, x["field"], (high - low) / vega.HEIGHT)
    layers = [*_arm_layers(lines, encoding["y"])]
    if numeric and len(means) > 1:
        layers.append(vega.layer("line", encoding, values=means, color=vega.MEAN, strokeWidth=1))
    layers += _marks(study, apart, means, encoding, {x["field"]: title}, head)
    dot = "a setting's mean over seeds" if scattered else "a seed"
    caption = f"Test {head} of {study.name} against {factor.key}. Each dot is {dot}.{some}"
    if told:
        caption += f" Means with 95% intervals: {', '.join(told)}."
    if lines:
        caption += f" Lines: {', '.join(arm['arm'] for arm in lines)}."
    if study.aside:
        caption += f" Without the settings that --path ran ({study.aside})."
    beside = ""
    if len(study.factors) > 1:
        beside = "each dot one setting" if scattered else "mean over the other factors"
    yield vega.chart(study, (FIGURES, factor.key), title, caption, layers, beside=beside)


def _dataset_chart(study: Study, over: Factor, metric: str) -> Iterator[Chart]:
    """Each method on each dataset where it has finished: every seed, the mean and its interval."""
    family = tables.method_family(study, metric)
    methods = {tables.spelled(g, family.labels): g for g in family.groups if not g.arm}
    dots: list[Spec] = []
    means: list[Spec] = []
    for name in tables.datasets(study):
        for method, line in methods.items():
            if part := line.parts.get(name):
                at = {"level": name, "method": method}
                dots += [{**at, **dot} for dot in _seeds(study, part, metric)]
                if mean := _mean(part, metric):
                    means.append({**at, **mean})
    if not dots:
        return
    title, head = tables.short_name(study, over), heading(study.protocol, metric)
    y = _axis(study, metric, *_limits(dots, means, percent=tables.is_percent(metric)))
    dots, some = vega.thinned(dots, "dots")
    encoding = {"x": vega.steps("level", title, dots), "y": y}
    encoding["xOffset"] = {"field": "method", "type": "nominal", "sort": list(methods)}
    encoding["color"] = vega.named("method", list(methods))
    layers = _marks(study, dots, means, encoding, {"level": title, "method": "method"}, head)
    caption = (
        f"Test {head} of {study.name}: each method on each dataset. Each dot is a seed.{some}"
        " Diamonds are means with 95% intervals."
    )
    if len(methods) > vega.MOST_NAMED:  # no legend has so many
        caption += f" From left to right: {', '.join(methods)}."
    place = (FIGURES, over.key)
    yield vega.chart(study, place, title, caption, layers, beside="each method by itself")


def _apart(dots: Values, field: str, pixel: float) -> list[Spec]:
    """The dots, with how many pixels each is moved to a side where it would lie on another one.

    Args:
        dots: of all levels.
        field: that says where on the horizontal axis a dot is.
        pixel: the metric's difference that is one pixel of the plot.
    """
    heaps: dict[tuple[object, int], list[Spec]] = {}
    for dot in dots:
        heaps.setdefault((dot[field], round(dot["y"] / (_DOT * pixel))), []).append(dict(dot))
    room = _COLUMN / len({level for level, _ in heaps})
    for heap in (heap for heap in heaps.values() if len(heap) > 1):
        step = min(_DOT, room / len(heap))
        for place, dot in enumerate(heap):
            dot["side"] = round(step * (place - (len(heap) - 1) / 2), 1)
    return [dot for heap in heaps.values() for dot in heap]


def _arms(study: Study, metric: str, low: float, high: float) -> list[Spec]:
    """The reference arms that finished, highest first; near: whether its line is drawn.

    Args:
        study: with its arms.
        metric: name of the test metric.
        low, high: the lowest and the highest value that is drawn of the levels.
    """
    reach = _REACH * (high - low)
    decimals = tables.decimals_of(study, metric)
    found = []
    for group in tables.arm_groups(study):
        if mean := _mean(group, metric):
            near = low - reach <= mean["y"] <= high + reach
            told = f"{ARMS[group.arm][0]} {number(mean['y'], decimals)}"
            told += "" if near else " (beyond)"
            found.append({"key": group.arm, "arm": told, "y": mean["y"], "near": near})
    return sorted(found, key=lambda arm: -arm["y"])


def _arm_layers(arms: Sequence[Spec], y: Spec) -> Iterator[Spec]:
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
    values = [{"arm": arm["arm"], "y": arm["y"]} for arm in arms if arm["near"]]
    yield vega.layer("rule", encoding, name="arms", values=values, strokeWidth=1.3)


def _seeds(study: Study, group: Group, metric: str, *, scattered: bool = False) -> Iterator[Spec]:
    """y and name of each seed of a group; scattered: of each setting, the mean over its seeds.

    `run` is the only run behind a dot, if that has an address.
    """
    seeds: dict[Any, dict[int, list[float]]] = {}
    runs: dict[Any, set[str]] = {}
    names = ("setting_key" if scattered else "seed", "seed", "state", "run_id", f"test/{metric}")
    for dot, seed, state, run_id, value in zip(*map(group.column, names), strict=True):
        if state == COMPLETE and value is not None:
            seeds.setdefault(dot, {}).setdefault(seed, []).append(value)
        if state == COMPLETE and run_id is not None:
            runs.setdefault(dot, set()).add(run_id)
    for dot, own in seeds.items() if scattered else sorted(seeds.items()):
        means = [tables.mean(values) for values in own.values()]
        name = f"mean of {len(means)} seeds" if scattered else f"seed {dot}"
        run_id, *others = runs.get(dot, {""})
        known = not others and run_address(study.runs_address, run_id)
        run = {"run": run_id} if known else {}
        yield {"y": tables.mean(means), "name": name, **run}


def _mean(group: Group, metric: str) -> Spec | None:
    """The mean over a group's seeds with its interval, as in the tables; None without any."""
    found = group.estimate(f"test/{metric}")
    return {**interval_values("y", found), "n": found.n} if found else None


def _limits(dots: Values, means: Values, *, percent: bool) -> tuple[float, float]:
    """The range of dots and intervals, never of zero height: half a point, or a part of the values.

    Args:
        dots, means: that are drawn.
        percent: whether they are percentages.
    """
    values = [dot["y"] for dot in dots]
    for one in means:
        # An interval of two seeds may be vast; the dots then decide, and it is cut off.
        if one["low"] is not None and one["n"] > 2:
            values += [one["low"], one["high"]]
    low, high = min(values), max(values)
    least = 0.5 if percent else 0.02 * max(abs(low), abs(high), 1e-6)
    return (low, high) if high - low > least else (low - least, high + least)


def _axis(study: Study, metric: str, low: float, high: float) -> Spec:
    """The vertical axis of a test metric, with a little room around what is drawn."""
    margin = 0.05 * (high - low)
    scale = {"domain": [low - margin, high + margin], "nice": False}
    return vega.number("y", vega.test_title(study, metric), scale)


def _marks(
    study: Study, dots: Values, means: Values, at: Spec, named: Mapping[str, str], head: str
) -> Iterator[Spec]:
    """The dots, a click on which opens their run, and before them the means.

    Args:
        study: that they are of.
        dots, means: with what `at` and `named` ask for; `side` moves a dot by so many pixels.
        at: the encoding: x, y, and what else tells points apart.
        named: the fields that name a point, as tips takes them.
        head: heading of the metric.
    """
    encoding = {"color": {"value": vega.DOT}, **at}
    encoding["tooltip"] = vega.tips({**named, "name": "dot", "y*": head})
    mark: Spec = {"size": 22, "opacity": 0.75}
    more: Spec = {}
    if any("side" in dot for dot in dots):
        mark["xOffset"] = {"expr": "datum.side || 0"}
    if any("run" in dot for dot in dots):
        # what all addresses begin with is written once
        begin = json.dumps(study.runs_address)
        more["transform"] = [{"calculate": f"datum.run ? {begin} + datum.run : ''", "as": "href"}]
        encoding["href"] = {"field": "href"}
        mark["cursor"] = "pointer"
    yield {**vega.layer("circle", encoding, name="seeds", values=dots, **mark), **more}
    if means:
        encoding = {"color": {"value": vega.MEAN}, **at}
        told = [*vega.interval_tips({**named, "y*": f"mean {head}"}), *vega.tips({"n": "n"})]
        look = {"shape": "diamond", "stroke": "white", "strokeWidth": 0.6}
        yield from vega.points_with_intervals(means, encoding, told, name="means", **look)
