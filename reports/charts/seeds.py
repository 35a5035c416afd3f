"""Seeds as dots, and the means over them with their intervals, which several charts share."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from reports.analysis import interval_values
from reports.charts import vega
from reports.charts.vega import Spec, Values
from reports.contract import COMPLETE
from reports.read import Study, run_address
from reports.tables import Group, mean


def seed_points(
    study: Study, group: Group, metric: str, *, scattered: bool = False
) -> Iterator[Spec]:
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
        means = [mean(values) for values in own.values()]
        name = f"mean of {len(means)} seeds" if scattered else f"seed {dot}"
        run_id, *others = runs.get(dot, {""})
        known = not others and run_address(study.runs_address, run_id)
        run = {"run": run_id} if known else {}
        yield {"y": mean(means), "name": name, **run}


def mean_points(group: Group, metric: str) -> Iterator[Spec]:
    """The mean over a group's seeds with its interval, as in the tables; none without any."""
    if found := group.estimate(f"test/{metric}"):
        yield {**interval_values("y", found), "n": found.n}


def limits(dots: Values, means: Values, *, percent: bool) -> tuple[float, float]:
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


def axis(study: Study, metric: str, low: float, high: float) -> Spec:
    """The vertical axis of a test metric, with a little room around what is drawn."""
    margin = 0.05 * (high - low)
    scale = {"domain": [low - margin, high + margin], "nice": False}
    return vega.number("y", vega.test_title(study, metric), scale)


def marks(
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
        yield from vega.estimates(means, encoding, told, name="means", **look)
