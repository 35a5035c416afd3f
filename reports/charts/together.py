"""Factors together: which matters, the way from the baseline, pairs, single lines behind a mean."""

import math
from collections.abc import Iterator, Sequence

from reports import tables
from reports.analysis import Dependence, Importance, interval_values
from reports.cells import level_id, level_text
from reports.charts import vega
from reports.charts.vega import Chart, Spec
from reports.formatting import DASH, p_text
from reports.read import Factor, Study, heading

TOGETHER = "together"  # the section
MOST_PAIRS = 6  # heat maps of a page
_NUMBERS = 40  # characters of numbers side by side in the cells of a heat map
_MARGIN = 24  # characters that stand beside the only axis of a parallel plot
MOST_LINES = 300  # of parallel coordinates: the settings that selection likes best


def importance_chart(study: Study, found: Importance) -> Iterator[Chart]:
    """Shares of factors and pairs with their intervals over seeds; none where nothing has one."""
    names, head = tables.short_names(study), heading(study.protocol, found.over.metric)
    values = [
        {
            "effect": " × ".join(names[key] for key in effect.factors),
            "kind": "pair" if len(effect.factors) > 1 else "factor",
            "p": DASH if effect.holm is None else p_text(effect.holm),
            **interval_values("share", effect.share),
        }
        for effect in (*found.factors, *found.pairs)
        if effect.share is not None
    ]
    if not values:
        return
    values.sort(key=lambda value: -value["share"])
    y = vega.steps("effect", None, values, axis={})
    x = vega.number("share", f"% of the variance of {head}", {"domain": [0, 100]})
    kind = vega.named("kind", ["factor", "pair"] if found.pairs else ["factor"])
    tooltip = vega.interval_tips({"effect": "factor", "share*": "% of variance", "p": "Holm p"}, 1)
    ends = {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y, "color": kind}
    layers = [
        vega.layer("rule", ends, strokeWidth=1.5),
        vega.points({"x": x, "y": y, "color": kind, "tooltip": tooltip}, name="shares"),
    ]
    told = ", ".join(f"{value['effect']} {value['share']:.0f}%" for value in values)
    caption = f"Share of the variance of {head} between settings, 95% over seeds: {told}."
    place, title, height = (TOGETHER, "importance"), "Importance of factors", 24 * len(values)
    yield vega.chart(study, place, title, caption, layers, height=height, values=values)


def interaction_charts(study: Study, found: Importance, metric: str) -> Iterator[Chart]:
    """A heat map for each pair of factors, those first whose interaction is the surest."""
    names, head = tables.short_names(study), heading(study.protocol, metric)
    for pair in found.interactions[:MOST_PAIRS]:
        values = pair.cells
        means = [value["mean"] for value in values]
        one, other = (names[key] for key in pair.factors)
        p = "" if pair.holm is None else f" (Holm p {p_text(pair.holm)})"
        tooltip = vega.interval_tips({"first": one, "second": other, "mean*": head, "n": "seeds"})
        colour = vega.heat(study, metric, means)
        # dark on the lighter half of the colours
        light = f"datum.mean > {(max(means) + min(means)) / 2!r}"
        ink = {"condition": {"test": light, "value": "black"}, "value": "white"}
        form = f".{tables.decimals_of(study, metric)}f"
        text = {"field": "mean", "type": "quantitative", "format": form}
        across = len({value["second"] for value in values})
        # upright where they would run into each other in a paper's column
        crowded = across * max(len(f"{mean:{form}}") for mean in means) > _NUMBERS
        look: Spec = {"fontSize": 9, **({"angle": -90} if crowded else {})}
        layers = [
            vega.layer("rect", {"color": colour, "tooltip": tooltip}, name="cells"),
            vega.layer("text", {"text": text, "color": ink}, **look),
        ]
        caption = f"Mean test {head} for every level of {one} and {other}{p}."
        spec: Spec = {
            "height": 26 * len({value["first"] for value in values}),
            "values": values,
            "encoding": {
                "x": vega.steps("second", other, values),
                "y": vega.steps("first", one, values, axis={}),
            },
        }
        place = (TOGETHER, f"interaction-{pair.factors[0]}-{pair.factors[1]}")
        yield vega.chart(study, place, f"{one} × {other}", caption, layers, **spec)


def dependence_charts(study: Study, found: Sequence[Dependence], metric: str) -> Iterator[Chart]:
    """Each factor: its mean with a band over seeds, and a line for each setting of the others."""
    names, head = tables.short_names(study), heading(study.protocol, metric)
    factors = {factor.key: factor for factor in study.factors}
    for one in found:
        label, xs = names[one.factor], [point["x"] for point in one.points]
        x = vega.steps("level", label, one.points)
        many = one.fitted or len(xs) > tables.MOST_LEVELS  # a forest was asked at many values
        if many and None not in xs:
            x = vega.spread("x", label, one.points, log=factors[one.factor].log)
        y = vega.number("value", vega.test_title(study, metric))
        tooltip = vega.tips({"others": "others", "level": label, "value*": head})
        single = {"x": x, "y": y, "detail": {"field": "line"}, "tooltip": tooltip}
        mean = {"x": x, "y": {**y, "field": "mean"}}
        thin = {"color": vega.DOT, "opacity": 0.45, "strokeWidth": 0.8}
        thick = {"color": vega.MEAN, "strokeWidth": 2, "point": True}
        layers = [
            vega.layer("line", single, name="lines", values=one.lines, **thin),
            *vega.intervals(one.points, mean, kind="area", color=vega.MEAN, opacity=0.16),
            vega.layer("line", mean, name="mean", values=one.points, **thick),
        ]
        some = f" ({one.drawn} of {one.of} are drawn)" if one.drawn < one.of else ""
        kind = "A forest's partial dependence" if one.fitted else "Mean over the other factors"
        caption = (
            f"{kind} of test {head} on {one.factor}, 95% band over seeds; each thin line is one"
            f" setting of the other factors{some}."
        )
        place, title = (TOGETHER, f"dependence-{one.factor}"), f"{label}, the others held"
        beside = "fitted by a forest" if one.fitted else "settings as they are"
        yield vega.chart(study, place, title, caption, layers, height=150, beside=beside)


def parallel_chart(study: Study, metric: str) -> Iterator[Chart]:
    """Every setting as a line through its levels, coloured by the test metric; none of one."""
    groups = [group for group in tables.setting_groups(study) if group.done]
    found = [(group, group.estimate(f"test/{metric}")) for group in groups[:MOST_LINES]]
    measured = [(group, estimate.mean) for group, estimate in found if estimate]
    if len(measured) < 2:
        return
    names, head = tables.short_names(study), heading(study.protocol, metric)
    places = {factor.key: _places(study, factor) for factor in study.factors}
    values: list[Spec] = []
    for line, (group, mean) in enumerate(measured):
        for key, value in group.value.assignment.items():
            if key in places:
                level = places[key][level_id(value)]
                values.append({"line": line, "factor": names[key], **level, "mean": mean})
    labels = [
        {"factor": names[key], **level, "last": key == study.factors[-1].key}
        for key, levels in places.items()
        for level in levels.values()
        if len(levels) <= tables.MOST_LEVELS or level["at"] in (0.0, 1.0)
    ]
    x = vega.steps("factor", None, [{"factor": name} for name in names.values()])
    axis = {**x["axis"], "domain": False, "ticks": False}
    # levels at the ends stand clear of the axis
    height = vega.number("at", "", {"domain": [-0.08, 1.08], "nice": False}, axis=None)
    at = {"x": {**x, "axis": axis}, "y": height}
    tooltip = vega.tips({"factor": "factor", "level": "level", "mean*": head})
    colour = vega.heat(study, metric, [value["mean"] for value in values])
    lines = {**at, "color": colour, "detail": {"field": "line"}, "tooltip": tooltip}
    words = {**at, "text": {"field": "level"}}
    look: Spec = {"align": "left", "dx": 5}
    longest = max((len(label["level"]) for label in labels if label["last"]), default=0)
    if longest * len(names) > _MARGIN:  # those of the last axis stand to its left
        sides = {"align": ("'right'", "'left'"), "dx": (-5, 5), "limit": (140, 0)}
        look = {key: {"expr": f"datum.last ? {a} : {b}"} for key, (a, b) in sides.items()}
    layers = [
        vega.layer("line", lines, name="settings", values=values, opacity=0.7, strokeWidth=1.2),
        vega.layer("text", words, values=labels, fontSize=9, **look),
    ]
    best = f" The {MOST_LINES} best by selection." if len(groups) > MOST_LINES else ""
    caption = f"Every setting is a line through its levels; its colour is its test {head}.{best}"
    place, title = (TOGETHER, "parallel"), "Parallel coordinates"
    yield vega.chart(study, place, title, caption, layers, height=200)


def _places(study: Study, factor: Factor) -> dict[str, Spec]:
    """Each level, by its id, with its height, 0 to 1: at equal distances, of a range by value."""
    levels = tables.ordered_levels(study, factor)
    values = [float(place) for place in range(len(levels))]
    numbers = tables.as_numbers(levels)
    if numbers is not None and len(levels) > tables.MOST_LEVELS:
        log = factor.log and numbers[0] > 0
        values = [math.log(value) for value in numbers] if log else numbers
    spread = values[-1] - values[0] if len(values) > 1 else 1.0
    return {
        level_id(level): {"level": level_text(level), "at": (value - values[0]) / spread}
        for level, value in zip(levels, values, strict=True)
    }
