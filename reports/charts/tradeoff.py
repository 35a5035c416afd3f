"""The chart of the two halves of a harmonic mean, such as Base and New, against each other."""

import math
from collections.abc import Iterator, Sequence

from reports import tables
from reports.charts import vega
from reports.charts.vega import Chart, Spec
from reports.study import Study, get_metric_heading

MIN_LINES = 3  # the plot is at least this many times as large as the step between lines
STEPS = 40  # number of steps in which such a line crosses the plot horizontally
MIN_LINE_POINTS = 8  # lines with fewer points, in the corners of the plot, are left out
# Kinds of points, in the order of the legend.
CONTROL, OTHER = "control", "configuration"
BEST = "Pareto-optimal configuration"


def make_tradeoff_chart(study: Study, metric: str, place: tuple[str, str]) -> Iterator[Chart]:
    """Yield the chart of the two halves of a harmonic mean, for at least two points.

    Args:
        study: Study of the chart.
        metric: Test metric. If it is no harmonic mean, there is no chart.
        place: Section and name of the chart.
    """
    halves = study.protocol.halves.get(metric)
    points = _mean_points(study, metric, halves) if halves else []
    if not halves or len(points) < 2:
        return
    heading = get_metric_heading(study.protocol, metric)
    x_heading, y_heading = _get_half_headings(study, halves)
    drawn_points, note = vega.thin_points(points, "configurations and controls")
    kinds = [CONTROL, OTHER, BEST]
    axes: Spec = {
        "x": _make_padded_axis("x", f"test {x_heading} (%)", points),
        "y": _make_padded_axis("y", f"test {y_heading} (%)", points),
    }
    tips = {"label": "configuration", "x*": x_heading, "y*": y_heading, "h*": heading}
    color = vega.make_color_channel("kind", kinds, None)
    # with equal definitions of color and shape, Vega-Lite draws a single legend for both
    shape = {**color, "scale": {"domain": kinds}}
    encoding = {**axes, "color": color, "shape": shape, "tooltip": vega.tooltip(tips)}
    lines = [*_make_lines_of_equal_mean(axes["x"]["scale"]["domain"], axes["y"]["scale"]["domain"])]
    line_encoding = {**axes, "detail": {"field": "h"}, "tooltip": vega.tooltip({"h*": heading})}
    line_style: Spec = {"color": "#999", "strokeWidth": 0.7}
    line_text = {**axes, "text": {"field": "h", "format": "~g"}}
    layers = [
        vega.make_layer("line", line_encoding, name="equal", values=lines, **line_style),
        _make_text_layer(line_text, _select_leftmost(lines), align="left", color="#777"),
        vega.make_point_layer(encoding, name="configurations", values=drawn_points, size=35),
        *_make_control_names(axes, drawn_points),
    ]
    caption = (
        f"Test {x_heading} against {y_heading}, means over seeds. Gray lines: equal {heading}, "
        f"{_format_mean_levels(lines)}.{note}"
    )
    yield vega.make_chart(
        study, place, f"{y_heading} against {x_heading}", caption, layers, height=220
    )


def _make_text_layer(encoding: Spec, values: Sequence[Spec], *, align: str, color: str) -> Spec:
    """Return a layer of small texts above their points, to the right for `align` "left"."""
    dx = 4 if align == "left" else -4
    style: Spec = {"align": align, "dx": dx, "dy": -6, "fontSize": 9, "color": color}
    return vega.make_layer("text", encoding, values=values, **style)


def _select_leftmost(points: Sequence[Spec]) -> list[Spec]:
    """Return the leftmost point of each line, from the points of all lines by x."""
    return list({point["h"]: point for point in reversed(points)}.values())


def _make_control_names(axes: Spec, points: Sequence[Spec]) -> Iterator[Spec]:
    """Yield layers with the names of controls, on the side where the plot has more room."""
    low, high = axes["x"]["scale"]["domain"]
    controls = [point for point in points if point["kind"] == CONTROL]
    for align in ("left", "right"):
        values = [p for p in controls if (2 * p["x"] < low + high) == (align == "left")]
        encoding = {**axes, "text": {"field": "label"}}
        yield _make_text_layer(encoding, values, align=align, color=vega.COLORS[0])


def _get_half_headings(study: Study, halves: tuple[str, str]) -> tuple[str, str]:
    """Return the column headings of two metrics."""
    first, second = (get_metric_heading(study.protocol, half) for half in halves)
    return first, second


def _mean_points(study: Study, metric: str, halves: tuple[str, str]) -> list[Spec]:
    """Return a point per finished configuration and control. Controls come last.

    A point's `h` is the mean of the metric over seeds, as in tables. It is not the harmonic mean of
    `x` and `y`.
    """
    labels = tables.make_label_columns(study)
    points: list[Spec] = []
    for group in (*tables.make_configuration_groups(study), *tables.make_control_groups(study)):
        x, y, h = (group.estimate(f"test/{name}") for name in (*halves, metric))
        if x and y and h and x.mean + y.mean > 0:
            kind = CONTROL if group.control else OTHER
            text = tables.format_group_name(group, labels)
            points.append({"label": text, "x": x.mean, "y": y.mean, "h": h.mean, "kind": kind})
    for point in points:
        if point["kind"] == OTHER and not _is_dominated(point, points):
            point["kind"] = BEST
    return points


def _is_dominated(point: Spec, points: Sequence[Spec]) -> bool:
    """Return True if another configuration is at least as good in both halves and better in one."""
    return any(
        other_point["kind"] != CONTROL
        and other_point["x"] >= point["x"]
        and other_point["y"] >= point["y"]
        and (other_point["x"], other_point["y"]) != (point["x"], point["y"])
        for other_point in points
    )


def _make_padded_axis(field: str, title: str, points: Sequence[Spec]) -> Spec:
    """Return an axis with a margin of one percentage point plus a tenth of the values' range."""
    values = [point[field] for point in points]
    margin = 1.0 + 0.1 * (max(values) - min(values))
    domain = [max(0.0, min(values) - margin), min(100.0, max(values) + margin)]
    return vega.make_number_axis(field, title, {"domain": domain, "nice": False})


def _make_lines_of_equal_mean(xs: Sequence[float], ys: Sequence[float]) -> Iterator[Spec]:
    """Yield points of the lines y = hx / (2x - h) inside a frame, for round harmonic means h.

    Args:
        xs: Left and right end of the frame.
        ys: Lower and upper end of the frame.
    """
    low, high = (2 * x * y / (x + y) for x, y in zip(xs, ys, strict=True))
    step = 10.0 ** math.floor(math.log10(high - low))
    while (high - low) / step < MIN_LINES:
        step /= 2
    for multiple in range(math.ceil(low / step), math.floor(high / step) + 1):
        h = multiple * step
        points: list[Spec] = []
        for index in range(STEPS + 1):
            x = xs[0] + (xs[1] - xs[0]) * index / STEPS
            y = h * x / (2 * x - h) if 2 * x > h else math.inf
            if ys[0] <= y <= ys[1]:
                points.append({"x": round(x, 4), "y": round(y, 4), "h": h})
        if len(points) >= MIN_LINE_POINTS:
            yield from points


def _format_mean_levels(lines: Sequence[Spec]) -> str:
    """Return the harmonic means of the lines as text, such as "60, 70, 80"."""
    levels = sorted({line["h"] for line in lines})
    return ", ".join(f"{level:g}" for level in levels)
