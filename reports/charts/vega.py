"""Building blocks of charts: axes, layers, colors and tooltips as Vega-Lite values."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from reports.study import Study, get_metric_heading
from reports.tables import is_percent, join_rules, uses_test_images

Spec = dict[str, Any]
Values = Sequence[Mapping[str, Any]]

# Five of Okabe and Ito's colors, and three others. The latter are not blue, gray or light yellow.
COLORS: Final = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#999933", "#8C564B", "#882255",
)  # fmt: skip
MEAN: Final = COLORS[0]
DOT: Final = "#56B4E9"  # not in COLORS, because dots do not stand for a level
MAX_POINTS = 1_000  # points per layer; more would look the same and make pages large
HEIGHT: Final = 170  # height of a plot, in pixels
MAX_NAMED = len(COLORS)  # maximum number of names with their own color in a chart
# Maximum number of characters in an axis's labels together; with more, the labels are slanted.
_MAX_HORIZONTAL_CHARACTERS = 36
_MAX_SLANTED_LABELS = 10  # maximum number of slanted labels; with more, they are vertical


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite specification with its texts.

    Attributes:
        section: Section of the page.
        name: Name in file names.
        title: Title above the chart.
        caption: Description of the chart, also for screen readers.
        spec: Specification without width and text colors, which depend on the output.
    """

    section: str
    name: str
    title: str
    caption: str
    spec: Spec = field(repr=False)


def make_chart(
    study: Study,
    place: tuple[str, str],
    title: str,
    caption: str,
    layers: Iterable[Spec],
    *,
    height: int = HEIGHT,
    subtitle: str = "",
    **more: Any,
) -> Chart:
    """Return a chart with the study's name and its warnings above the plot.

    Args:
        study: Study of the chart.
        place: Section and name of the chart.
        title: Title of the chart.
        caption: Caption of the chart.
        layers: Layers of the plot.
        height: Height of the plot in pixels.
        subtitle: Text at the end of the first line above the plot.
        more: Other properties of the specification. `values` is data shared by all layers.
    """
    scope = [study.scope] if study.pooled_datasets else []
    warnings = (
        ["selected on test"]
        if uses_test_images(join_rules(study.rows["selection"].to_list()))
        else []
    )
    warnings += ["demonstration backbone"] if study.demonstration else []
    lines = [[study.name, *scope, subtitle], warnings]
    title_lines = [" · ".join(filter(None, line)) for line in lines if line]
    data = {"data": {"values": more.pop("values")}} if "values" in more else {}
    spec = {"title": title_lines, "height": height, **data, **more, "layer": list(layers)}
    return Chart(*place, title, caption, {**spec, "description": caption})


def make_layer(
    kind: str, encoding: Spec, *, name: str = "", values: Values | None = None, **mark: Any
) -> Spec:
    """Return a layer of marks.

    Args:
        kind: Vega-Lite's name of the mark.
        encoding: Encoding of the data.
        name: Name of the layer.
        values: Data of the layer. Defaults to the data of the chart.
        mark: Properties of the mark.
    """
    name_field = {"name": name} if name else {}
    data = {} if values is None else {"data": {"values": list(values)}}
    return {**name_field, **data, "mark": {"type": kind, **mark}, "encoding": encoding}


def thin_points(points: Sequence[Spec], noun: str) -> tuple[list[Spec], str]:
    """Return evenly spaced points if there are more than MAX_POINTS, and a note for the caption.

    Args:
        points: All points, in the order of the chart.
        noun: Plural noun for the points in the note.

    Returns:
        The points to draw, and the note. The note is "" if all points are drawn.
    """
    step = max(1, math.ceil(len(points) / MAX_POINTS))
    drawn_points = [*points[::step]]
    note = f" {len(drawn_points):,} of {len(points):,} {noun} are drawn, one in {step}."
    return drawn_points, note if step > 1 else ""


def make_point_layer(
    encoding: Spec, *, name: str, values: Values | None = None, **mark: Any
) -> Spec:
    """Return a layer of filled points."""
    mark_style = {"filled": True, "size": 55, "opacity": 1, **mark}
    return make_layer("point", encoding, name=name, values=values, **mark_style)


def make_interval_layers(
    values: Values, encoding: Spec, *, kind: str = "rule", **mark: Any
) -> list[Spec]:
    """Return layers of vertical intervals from `low` to `high`. [] if there are no intervals.

    If the axis has a domain, further layers have arrowheads at the frame, which mark intervals that
    extend beyond it.

    Args:
        values: Data of the layer.
        encoding: Encoding of the means.
        kind: Type of the mark, "rule" for lines or "area" for a band.
        mark: Properties of the mark.
    """
    ends = {**encoding, "y": {**encoding["y"], "field": "low"}, "y2": {"field": "high"}}
    bounded_values = [value for value in values if value.get("low") is not None]
    if not bounded_values:
        return []
    name = "band" if kind == "area" else "intervals"
    mark_style = {"strokeWidth": 1.5, "clip": True, **mark}
    return [
        make_layer(kind, ends, name=name, values=bounded_values, **mark_style),
        *_make_arrow_heads(bounded_values, encoding),
    ]


def select_clipped(values: Values, y: Spec) -> dict[str, list[Mapping[str, Any]]]:
    """Return the values whose interval extends below ("low") or above ("high") the axis.

    Both lists are empty if the axis has no domain.
    """
    frame = y["scale"].get("domain")
    if frame is None:
        return {"low": [], "high": []}
    bounded_values = [value for value in values if value.get("low") is not None]
    return {
        "low": [value for value in bounded_values if value["low"] < frame[0]],
        "high": [value for value in bounded_values if value["high"] > frame[1]],
    }


def _make_arrow_heads(values: Values, encoding: Spec) -> list[Spec]:
    """Return a layer of triangles for each end of the frame at which intervals are clipped."""
    layers = []
    for end, clipped_values in select_clipped(values, encoding["y"]).items():
        if clipped_values:
            edge = encoding["y"]["scale"]["domain"][0 if end == "low" else 1]
            edge_encoding = {**encoding, "y": {**encoding["y"], "field": "frame"}}
            shape = "triangle-down" if end == "low" else "triangle-up"
            heads = [{**value, "frame": edge} for value in clipped_values]
            layers.append(
                make_point_layer(
                    edge_encoding, name=f"{end} cut", values=heads, shape=shape, size=30
                )
            )
    return layers


def make_points_with_intervals(
    values: Values, encoding: Spec, tooltip: list[Spec], *, name: str, **mark: Any
) -> list[Spec]:
    """Return the layers of intervals, and above them a layer of points with tooltips.

    Args:
        values: Data of both layers, with `low` and `high`.
        encoding: Encoding of the means.
        tooltip: Tooltips of the points.
        name: Name of the layer of points.
        mark: Properties of the points.
    """
    return [
        *make_interval_layers(values, encoding),
        make_point_layer({**encoding, "tooltip": tooltip}, name=name, values=values, **mark),
    ]


def make_value_axis(field: str, title: str, values: Values, *, log: bool) -> Spec:
    """Return the axis of a numeric factor, logarithmic if requested and all values are positive."""
    kind = "log" if log and min(value[field] for value in values) > 0 else "linear"
    return make_number_axis(field, title, {"type": kind, "nice": False, "padding": 8})


def make_number_axis(field: str, title: str, scale: Spec | None = None, **more: Any) -> Spec:
    """Return a continuous axis that need not include 0.

    Args:
        field: Field of the data.
        title: Title of the axis.
        scale: Scale of the axis.
        more: Other properties of the encoding.
    """
    # the format ".6~g" shows 5 instead of 5.0, and 0.81 instead of 1
    scale, axis = scale or {}, {"tickCount": 5, "format": ".6~g"}
    if scale.get("type") == "log":
        axis |= {"format": "~g", "labelOverlap": "greedy", "labelSeparation": 4}
    else:  # a logarithmic scale has no "zero" property
        scale = {"zero": False, **scale}
    channel = {"type": "quantitative", "title": title, "scale": scale, "axis": axis}
    return {"field": field, **channel, **more}


def make_level_axis(field: str, title: str | None, values: Values, **more: Any) -> Spec:
    """Return an axis of labels at equal distances, in the order of the data.

    Labels that do not fit horizontally in a paper's column are slanted or vertical.

    Args:
        field: Field of the data.
        title: Title of the axis.
        values: The data.
        more: Other properties of the encoding.
    """
    names = list(dict.fromkeys(str(value[field]) for value in values))
    angle = 0
    if max(map(len, names), default=0) * len(names) > _MAX_HORIZONTAL_CHARACTERS:
        angle = -30 if len(names) <= _MAX_SLANTED_LABELS else -90
    # with a sort instead of a domain, Vega loses a label "constructor"
    labels = {"scale": {"domain": names}, "axis": {"labelAngle": angle}}
    return {"field": field, "type": "ordinal", "title": title, **labels, **more}


def make_metric_axis_title(study: Study, metric: str) -> str:
    """Return the axis title of a test metric."""
    heading = get_metric_heading(study.protocol, metric)
    return f"test {heading} (%)" if is_percent(metric) else f"test {heading}"


def tooltip(fields: Mapping[str, str], digits: int = 2) -> list[Spec]:
    """Return a tooltip with the titles of fields.

    Args:
        fields: Titles by field name. A "*" after the name marks a number to round.
        digits: Number of decimals of rounded numbers.
    """
    return [
        {"field": field.rstrip("*"), "title": title}
        | ({"format": f".{digits}f"} if field.endswith("*") else {})
        for field, title in fields.items()
    ]


def make_interval_tooltip(fields: Mapping[str, str], digits: int = 2) -> list[Spec]:
    """Return the tooltip of `tooltip`, with the ends of the interval as its last lines."""
    return tooltip({**fields, "low*": "95% from", "high*": "to"}, digits)


def make_color_channel(field: str, names: Sequence[str], title: str | None = None) -> Spec:
    """Return the color channel with a color per name, and a legend below the chart.

    More than MAX_NAMED names have colors from a continuous scale, and no legend.

    Args:
        field: Field of the data with the names.
        names: Names in the order of the legend, or of the scale from dark to light.
        title: Title of the legend.
    """
    if len(names) > MAX_NAMED:
        # both ends are visible on white and on dark pages
        scheme = {"name": "viridis", "extent": [0.2, 0.9]}
        scale = {"domain": list(names), "scheme": scheme}
        return {"field": field, "type": "nominal", "scale": scale, "legend": None}
    scale = {"domain": list(names), "range": list(COLORS[: len(names)])}
    legend = {"orient": "bottom", "columns": 1}
    return {"field": field, "type": "nominal", "title": title, "scale": scale, "legend": legend}
