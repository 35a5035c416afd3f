"""A metric against one factor: every seed's dot, means with 95% intervals, the controls."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.store import Factor, run_address
from reports import tables
from reports.analysis import interval_values
from reports.cells import level_text
from reports.charts import vega
from reports.charts.controls import control_layers, control_lines
from reports.charts.vega import Chart, Spec, Values
from reports.formatting import number
from reports.study import Study, heading
from reports.tables import Group

FIGURES = "figures"  # the section of the factors' charts
_COLUMN = 180  # pixels of its width in a paper's column
_DOT = 5  # pixels of a dot


def factor_charts(study: Study, metric: str) -> Iterator[Chart]:
    """A chart for each factor.

    Of a study over datasets the other factors' are of the methods with a result on all of them.
    """
    alone = len(study.factors) == 1
    part = study if alone else tables.averaged(study)
    for factor in study.factors:
        if not alone and tables.datasets(study) and factor.key == tables.DATASET:
            yield from _dataset_chart(study, factor, metric)
        elif part:
            yield from factor_chart(part, factor, metric)


def factor_chart(study: Study, factor: Factor, metric: str) -> Iterator[Chart]:
    """The chart of a test metric against a factor; none where nothing has finished.

    Up to 12 levels stand at equal distances, each with its label; more values, and those of a
    range, are a continuous axis, logarithmic where the factor is. In a sampled study of several
    factors a dot is a setting, and there is no mean: it would mix in whatever else the sampler
    chose there. Controls are lines: those that read a factor of a grid, at each level's settings of
    it; others at the baseline. There are none over datasets, of which controls ran on one.

    Args:
        study: whose finished rows are drawn.
        factor: the horizontal axis.
        metric: name of the metric, without its split.
    """
    scattered = study.sampler != "grid" and len(study.factors) > 1
    groups = tables.level_groups(study, factor)
    numeric = tables.as_numbers([group.value for group in groups]) is not None
    many = numeric and len(groups) > tables.MOST_LEVELS
    ranged = many or (numeric and factor.levels is None)
    field = "value" if ranged else "level"
    placed = [({field: one.value if ranged else level_text(one.value)}, one) for one in groups]
    dots, means = _points(study, metric, placed, scattered=scattered)
    if not dots:
        return
    if scattered or many:
        means = []
    low, high = _limits(dots, means, percent=tables.is_percent(metric))
    lines = [] if tables.datasets(study) else control_lines(study, metric, placed, (low, high))
    near = [point["y"] for line in lines for point in line.points]
    low, high = min([low, *near]), max([high, *near])
    title, head = tables.short_names(study)[factor.key], heading(study.protocol, metric)
    if ranged:
        x = vega.spread(field, title, dots, log=factor.log)
    else:
        x = vega.steps(field, title, dots)
    encoding = {"x": x, "y": _axis(study, metric, low, high)}
    dots, some = vega.thinned(dots, "dots")
    apart = _apart(dots, field, (high - low) / vega.HEIGHT)
    layers = [*control_layers(lines, encoding)]
    if numeric and len(means) > 1:
        layers.append(vega.layer("line", encoding, values=means, color=vega.MEAN, strokeWidth=1))
    layers += _marks(study, apart, means, encoding, {field: title}, head)
    dot = "a setting's mean over seeds" if scattered else "a seed"
    caption = f"Test {head} of {study.name} against {factor.key}. Each dot is {dot}.{some}"
    if means:
        decimals = tables.decimals_of(study, metric)
        told = [f"{level_text(one[field])} {number(one['y'], decimals)}" for one in means]
        caption += f" Means with 95% intervals: {', '.join(told)}."
        if any(vega.beyond_frame(means, encoding["y"]).values()):
            caption += " Arrow heads: the interval goes beyond the frame."
    if lines:
        caption += f" Lines: {', '.join(line.words for line in lines)}."
    beside = ""
    if len(study.factors) > 1:
        beside = "each dot one setting" if scattered else "mean over the other factors"
    yield vega.chart(study, (FIGURES, factor.key), title, caption, layers, beside=beside)


def _dataset_chart(study: Study, over: Factor, metric: str) -> Iterator[Chart]:
    """Each method on each dataset where it has finished: every seed, the mean and its interval."""
    family = tables.method_family(study, metric)
    methods = {tables.spelled(g, family.labels): g for g in family.groups if not g.arm}
    placed = [
        ({"level": name, "method": method}, line.parts[name])
        for name in tables.datasets(study)
        for method, line in methods.items()
        if name in line.parts
    ]
    dots, means = _points(study, metric, placed)
    if not dots:
        return
    title, head = tables.short_names(study)[over.key], heading(study.protocol, metric)
    y = _axis(study, metric, *_limits(dots, means, percent=tables.is_percent(metric)))
    encoding = {"x": vega.steps("level", title, dots), "y": y}
    order = {"domain": list(methods)}
    encoding["xOffset"] = {"field": "method", "type": "nominal", "scale": order}
    encoding["color"] = vega.named("method", list(methods))
    dots, some = vega.thinned(dots, "dots")
    layers = _marks(study, dots, means, encoding, {"level": title, "method": "method"}, head)
    caption = (
        f"Test {head} of {study.name}: each method on each dataset. Each dot is a seed.{some}"
        " Diamonds are means with 95% intervals."
    )
    if any(vega.beyond_frame(means, encoding["y"]).values()):
        caption += " Arrow heads: the interval goes beyond the frame."
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


def _points(
    study: Study, metric: str, placed: Sequence[tuple[Spec, Group]], *, scattered: bool = False
) -> tuple[list[Spec], list[Spec]]:
    """The dots of some groups, and the means over their seeds with intervals, as in the tables.

    Args:
        study: that they are of.
        metric: name of the test metric.
        placed: where a group stands, and the group.
        scattered: whether a dot is a setting, and not a seed.
    """
    column = f"test/{metric}"
    dots, means = list[Spec](), list[Spec]()
    for at, group in placed:
        dots += [{**at, **dot} for dot in _dots(study, group, column, scattered=scattered)]
        if found := group.estimate(column):
            means.append({**at, **interval_values("y", found), "n": found.n})
    return dots, means


def _dots(study: Study, group: Group, column: str, *, scattered: bool) -> Iterator[Spec]:
    """y and name of each seed of a group; scattered: of each setting, the mean over its seeds.

    `run` is the only run behind a dot, if that has an address.
    """
    keys = {key: key for key in group.column("setting_key")} if scattered else {}
    values, runs = group.results(column, keys), group.results("run_id", keys)
    dots: dict[Any, list[tuple[str, int]]] = {}
    for place in values:
        dots.setdefault(place[0] if scattered else place[1], []).append(place)
    for dot, places in dots.items() if scattered else sorted(dots.items()):
        name = f"mean of {len(places)} seeds" if scattered else f"seed {dot}"
        run_id, *others = {run for place in places for run in runs.get(place, ())} or {""}
        known = not others and run_address(study.runs_address, run_id)
        run = {"run": run_id} if known else {}
        y = tables.mean([tables.mean(values[place]) for place in places])
        yield {"y": y, "name": name, **run}


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
    mark: Spec = {"size": 22, "opacity": 0.75, "xOffset": {"expr": "datum.side || 0"}}
    more: Spec = {}
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
