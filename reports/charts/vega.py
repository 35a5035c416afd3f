"""What a chart is before it is drawn, and what charts share: axes, layers, colours, tooltips.

A specification is Vega-Lite's, as plain values.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from reports.study import Study, heading
from reports.tables import chosen_by, is_percent, on_test

Spec = dict[str, Any]
Values = Sequence[Mapping[str, Any]]

# Five of Okabe and Ito's colours, and three that are no second blue, grey or light yellow.
COLOURS: Final = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#999933", "#8C564B", "#882255",
)  # fmt: skip
MEAN: Final = COLOURS[0]
DOT: Final = "#56B4E9"  # stands for no level
MOST_POINTS = 1_000  # of a layer; what is more looks the same, and makes a page large
HEIGHT: Final = 170  # pixels of a plot
MOST_NAMED = len(COLOURS)  # of a chart's settings or methods, with a colour each
_ABREAST = 36  # characters of all labels side by side
_SLANTED = 10  # labels that do not collide where they are slanted


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite specification with its words.

    section: the part of the page that it stands in. name: of its files. title: above it. caption:
    what it shows, for readers who cannot see it, and for those who can. spec: without width and
    colours of the text, which whoever draws it gives.
    """

    section: str
    name: str
    title: str
    caption: str
    spec: Spec = field(repr=False)


def chart(
    study: Study,
    place: tuple[str, str],
    title: str,
    caption: str,
    layers: Iterable[Spec],
    *,
    height: int = HEIGHT,
    beside: str = "",
    **more: Any,
) -> Chart:
    """A chart with, above it, what it must not be read without, in lines that a column holds.

    Args:
        study: that it is of.
        place: its section and its name.
        title, caption: as a Chart's.
        layers: its marks.
        height: of the plot, in pixels.
        beside: what else to say in its first line.
        more: of the specification; `values` is the data that its layers share.
    """
    scope = [study.scope] if study.pooled else []
    warnings = ["selected on test"] if on_test(chosen_by(study.rows["selection"].to_list())) else []
    warnings += ["demonstration backbone"] if study.demonstration else []
    lines = [[study.name, *scope, beside], warnings]
    told = [" · ".join(filter(None, line)) for line in lines if line]
    data = {"data": {"values": more.pop("values")}} if "values" in more else {}
    spec = {"title": told, "height": height, **data, **more, "layer": list(layers)}
    return Chart(*place, title, caption, {**spec, "description": caption})


def layer(
    kind: str, encoding: Spec, *, name: str = "", values: Values | None = None, **mark: Any
) -> Spec:
    """Marks of a kind.

    Args:
        kind: Vega-Lite's name of the mark.
        encoding: what of the data is drawn where.
        name: of the layer.
        values: its data; None: those of the chart.
        mark: properties of the mark.
    """
    named = {"name": name} if name else {}
    data = {} if values is None else {"data": {"values": list(values)}}
    return {**named, **data, "mark": {"type": kind, **mark}, "encoding": encoding}


def thinned(points: Sequence[Spec], what: str) -> tuple[list[Spec], str]:
    """As many points as a layer has, evenly over their order, and what a caption says of that.

    Args:
        points: all of them, in an order that is a chart's own.
        what: they are, in words.

    Returns:
        All, and "", where they are few.
    """
    every = max(1, math.ceil(len(points) / MOST_POINTS))
    shown = [*points[::every]]
    told = f" {len(shown):,} of {len(points):,} {what} are drawn, one in {every}."
    return shown, told if every > 1 else ""


def points(encoding: Spec, *, name: str, values: Values | None = None, **mark: Any) -> Spec:
    """A layer of filled points."""
    whole = {"filled": True, "size": 55, "opacity": 1, **mark}
    return layer("point", encoding, name=name, values=values, **whole)


def intervals(values: Values, encoding: Spec, *, kind: str = "rule", **mark: Any) -> list[Spec]:
    """A layer of vertical intervals from `low` to `high`; none where no value has both.

    Where the axis has a domain, arrow heads at the frame mark the ends that lie beyond it.

    Args:
        values: of the layer.
        encoding: of the means.
        kind: of the marks; an area is a band.
        mark: properties of the marks.
    """
    ends = {**encoding, "y": {**encoding["y"], "field": "low"}, "y2": {"field": "high"}}
    known = [value for value in values if value.get("low") is not None]
    if not known:
        return []
    name = "band" if kind == "area" else "intervals"
    look = {"strokeWidth": 1.5, "clip": True, **mark}
    return [layer(kind, ends, name=name, values=known, **look), *_arrow_heads(known, encoding)]


def beyond_frame(values: Values, y: Spec) -> dict[str, list[Mapping[str, Any]]]:
    """Return the values whose interval ends below or above the axis, by "low" and "high"."""
    frame = y["scale"].get("domain")
    if frame is None:
        return {"low": [], "high": []}
    known = [value for value in values if value.get("low") is not None]
    return {
        "low": [value for value in known if value["low"] < frame[0]],
        "high": [value for value in known if value["high"] > frame[1]],
    }


def _arrow_heads(values: Values, encoding: Spec) -> list[Spec]:
    """Return a layer of triangles at the frame for each side at which intervals are cut."""
    layers = []
    for end, cut in beyond_frame(values, encoding["y"]).items():
        if cut:
            place = encoding["y"]["scale"]["domain"][0 if end == "low" else 1]
            at = {**encoding, "y": {**encoding["y"], "field": "frame"}}
            shape = "triangle-down" if end == "low" else "triangle-up"
            heads = [{**value, "frame": place} for value in cut]
            layers.append(points(at, name=f"{end} cut", values=heads, shape=shape, size=30))
    return layers


def points_with_intervals(
    values: Values, at: Spec, tips: list[Spec], *, name: str, **mark: Any
) -> list[Spec]:
    """Intervals, and before them points with their tooltips.

    Args:
        values: of both layers, with `low` and `high`.
        at: encoding of the means.
        tips: of the points.
        name: of their layer.
        mark: properties of the points.
    """
    return [
        *intervals(values, at),
        points({**at, "tooltip": tips}, name=name, values=values, **mark),
    ]


def spread(field: str, title: str, values: Values, *, log: bool) -> Spec:
    """The axis of a factor's numbers, logarithmic where asked and there is no 0 among them."""
    kind = "log" if log and min(value[field] for value in values) > 0 else "linear"
    return number(field, title, {"type": kind, "nice": False, "padding": 8})


def number(field: str, title: str, scale: Spec | None = None, **more: Any) -> Spec:
    """A continuous axis that need not begin at 0.

    Args:
        field: of the data. title, scale: of the axis. more: of the encoding.
    """
    scale, axis = scale or {}, {"tickCount": 5, "format": ".6~g"}  # 5, not 5.0; 0.81, not 1
    if scale.get("type") == "log":
        axis |= {"format": "~g", "labelOverlap": "greedy", "labelSeparation": 4}
    else:  # a log has no 0
        scale = {"zero": False, **scale}
    told = {"type": "quantitative", "title": title, "scale": scale, "axis": axis}
    return {"field": field, **told, **more}


def steps(field: str, title: str | None, values: Values, **more: Any) -> Spec:
    """An axis of labels at equal distances in the order of the data.

    Where a paper's column has no room for them side by side, they are slanted or stand upright.

    Args:
        field: of the data. title: of the axis. values: the data. more: of the encoding.
    """
    listed = list(dict.fromkeys(str(value[field]) for value in values))
    angle = 0
    if max(map(len, listed), default=0) * len(listed) > _ABREAST:
        angle = -30 if len(listed) <= _SLANTED else -90
    # the domain, not a sort, of which Vega makes code that a label "constructor" is no part of
    labels = {"scale": {"domain": listed}, "axis": {"labelAngle": angle}}
    return {"field": field, "type": "ordinal", "title": title, **labels, **more}


def test_title(study: Study, metric: str) -> str:
    """An axis of a test metric."""
    head = heading(study.protocol, metric)
    return f"test {head} (%)" if is_percent(metric) else f"test {head}"


def tips(fields: Mapping[str, str], digits: int = 2) -> list[Spec]:
    """A tooltip: field -> what it is called; a field that ends in "*" is a number to be rounded."""
    return [
        {"field": field.rstrip("*"), "title": title}
        | ({"format": f".{digits}f"} if field.endswith("*") else {})
        for field, title in fields.items()
    ]


def interval_tips(fields: Mapping[str, str], digits: int = 2) -> list[Spec]:
    """As tips, with the ends of the interval behind."""
    return tips({**fields, "low*": "95% from", "high*": "to"}, digits)


def named(field: str, names: Sequence[str], title: str | None = None) -> Spec:
    """Return a colour per name, with a legend below; of more than MOST_NAMED, a scale without one.

    Args:
        field: of the data, whose values they are.
        names: in the order of the legend, or of the scale from dark to light.
        title: of the legend.
    """
    if len(names) > MOST_NAMED:
        # neither end is lost on a white or a dark page
        scheme = {"name": "viridis", "extent": [0.2, 0.9]}
        scale = {"domain": list(names), "scheme": scheme}
        return {"field": field, "type": "nominal", "scale": scale, "legend": None}
    scale = {"domain": list(names), "range": list(COLOURS[: len(names)])}
    legend = {"orient": "bottom", "columns": 1}
    return {"field": field, "type": "nominal", "title": title, "scale": scale, "legend": legend}
