"""Charts of a metric against one factor: dots for seeds, means with 95% intervals, and controls."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.store import ML_VIEW, FactorRecord, run_address
from reports import tables
from reports.analysis import make_interval_values
from reports.cells import format_level
from reports.charts import vega
from reports.charts.controls import list_finished_controls, make_control_layers
from reports.charts.vega import Chart, Spec, Values
from reports.formatting import format_number
from reports.study import Study, get_metric_heading
from reports.tables import Group

FIGURES = "figures"  # section of the factors' charts
_PLOT_WIDTH = 180  # width of a plot in a paper's column, in pixels
_DOT_SIZE = 5  # diameter of a dot, in pixels


def make_factor_charts(study: Study, metric: str) -> Iterator[Chart]:
    """Yield the chart of a test metric against each factor.

    In a study over datasets, the charts of the other factors show averages over datasets.
    """
    is_only_factor = len(study.factors) == 1
    averaged_study = study if is_only_factor else tables.average_over_datasets(study)
    for factor in study.factors:
        if not is_only_factor and tables.list_datasets(study) and factor.key == tables.DATASET:
            yield from _make_dataset_chart(study, factor, metric)
        elif averaged_study:
            yield from make_factor_chart(averaged_study, factor, metric)


def make_factor_chart(study: Study, factor: FactorRecord, metric: str) -> Iterator[Chart]:
    """Yield the chart of a test metric against a factor. Nothing if no seed has finished.

    Levels are at equal distances, with labels. Numeric factors with a range, or with more than
    tables.MAX_SHOWN_LEVELS levels, have a continuous axis instead, which is logarithmic if the
    factor is. With that many levels, the chart has no means.

    In a sampled study with several factors, each dot is a configuration. There are no means,
    because they would depend on the levels that the sampler chose for the other factors.

    Controls are lines, see list_finished_controls. A study over datasets has none, because its
    controls ran on one dataset.

    Args:
        study: Study with the rows.
        factor: Factor of the horizontal axis.
        metric: Name of the metric, without its split.
    """
    is_scatter = study.sampler != "grid" and len(study.factors) > 1
    groups = tables.make_level_groups(study, factor)
    is_numeric = tables.as_numbers([group.value for group in groups]) is not None
    has_many_levels = is_numeric and len(groups) > tables.MAX_SHOWN_LEVELS
    is_continuous = has_many_levels or (is_numeric and factor.levels is None)
    field = "value" if is_continuous else "level"
    placed_groups = [
        ({field: group.value if is_continuous else format_level(group.value)}, group)
        for group in groups
    ]
    dots, means = _make_dots_and_means(study, metric, placed_groups, is_scatter=is_scatter)
    if not dots:
        return
    if is_scatter or has_many_levels:
        means = []
    low, high = _get_value_range(dots, means, is_percent=tables.is_percent(metric))
    lines = (
        []
        if tables.list_datasets(study)
        else list_finished_controls(study, metric, placed_groups, (low, high))
    )
    control_values = [point["y"] for line in lines for point in line.points]
    low, high = min([low, *control_values]), max([high, *control_values])
    title, heading = (
        tables.shorten_factor_names(study)[factor.key],
        get_metric_heading(study.protocol, metric),
    )
    if is_continuous:
        x = vega.make_value_axis(field, title, dots, log=factor.log)
    else:
        x = vega.make_level_axis(field, title, dots)
    encoding = {"x": x, "y": _make_metric_axis(study, metric, low, high)}
    dots, note = vega.thin_points(dots, "dots")
    spread_dots = _spread_overlapping(dots, field, (high - low) / vega.HEIGHT)
    layers = [*make_control_layers(lines, encoding)]
    if is_numeric and len(means) > 1:
        layers.append(
            vega.make_layer("line", encoding, values=means, color=vega.MEAN, strokeWidth=1)
        )
    layers += _mark_layers(study, spread_dots, means, encoding, {field: title}, heading)
    dot_text = "a configuration's mean over seeds" if is_scatter else "a seed"
    caption = f"Test {heading} of {study.name} against {factor.key}. Each dot is {dot_text}.{note}"
    if means:
        decimals = tables.get_decimals(study, metric)
        texts = [
            f"{format_level(point[field])} {format_number(point['y'], decimals)}" for point in means
        ]
        caption += f" Means with 95% intervals: {', '.join(texts)}."
        if any(vega.select_clipped(means, encoding["y"]).values()):
            caption += " Arrowheads mark intervals that extend beyond the frame."
    if lines:
        caption += f" Lines: {', '.join(line.label for line in lines)}."
    subtitle = ""
    if len(study.factors) > 1:
        subtitle = "each dot is a configuration" if is_scatter else "mean over the other factors"
    yield vega.make_chart(study, (FIGURES, factor.key), title, caption, layers, subtitle=subtitle)


def _make_dataset_chart(study: Study, factor: FactorRecord, metric: str) -> Iterator[Chart]:
    """Yield the chart of each method on each dataset. Nothing if no seed has finished."""
    family = tables.make_method_family(study, metric)
    methods = {
        tables.format_group_name(group, family.labels): group
        for group in family.groups
        if not group.control
    }
    placed_groups = [
        ({"level": name, "method": method}, group.parts[name])
        for name in tables.list_datasets(study)
        for method, group in methods.items()
        if name in group.parts
    ]
    dots, means = _make_dots_and_means(study, metric, placed_groups)
    if not dots:
        return
    title, heading = (
        tables.shorten_factor_names(study)[factor.key],
        get_metric_heading(study.protocol, metric),
    )
    y = _make_metric_axis(
        study, metric, *_get_value_range(dots, means, is_percent=tables.is_percent(metric))
    )
    encoding = {"x": vega.make_level_axis("level", title, dots), "y": y}
    scale = {"domain": list(methods)}
    encoding["xOffset"] = {"field": "method", "type": "nominal", "scale": scale}
    encoding["color"] = vega.make_color_channel("method", list(methods))
    dots, note = vega.thin_points(dots, "dots")
    layers = _mark_layers(
        study, dots, means, encoding, {"level": title, "method": "method"}, heading
    )
    caption = (
        f"Test {heading} of {study.name}: each method on each dataset. Each dot is a seed.{note}"
        " Diamonds are means with 95% intervals."
    )
    if any(vega.select_clipped(means, encoding["y"]).values()):
        caption += " Arrowheads mark intervals that extend beyond the frame."
    if len(methods) > vega.MAX_NAMED:  # too many for a legend
        caption += f" From left to right: {', '.join(methods)}."
    place = (FIGURES, factor.key)
    yield vega.make_chart(study, place, title, caption, layers, subtitle="each method separately")


def _spread_overlapping(dots: Values, field: str, pixel: float) -> list[Spec]:
    """Return the dots. Dots that would overlap have a horizontal shift in pixels as `side`.

    Args:
        dots: Dots of all levels.
        field: Field of the position on the horizontal axis.
        pixel: Difference in the metric per pixel of the plot.
    """
    # (level, height in dots) -> dots
    clusters: dict[tuple[object, int], list[Spec]] = {}
    for dot in dots:
        key = (dot[field], round(dot["y"] / (_DOT_SIZE * pixel)))
        clusters.setdefault(key, []).append(dict(dot))
    level_width = _PLOT_WIDTH / len({level for level, _ in clusters})
    for cluster in (cluster for cluster in clusters.values() if len(cluster) > 1):
        step = min(_DOT_SIZE, level_width / len(cluster))
        for index, dot in enumerate(cluster):
            dot["side"] = round(step * (index - (len(cluster) - 1) / 2), 1)
    return [dot for cluster in clusters.values() for dot in cluster]


def _make_dots_and_means(
    study: Study,
    metric: str,
    placed_groups: Sequence[tuple[Spec, Group]],
    *,
    is_scatter: bool = False,
) -> tuple[list[Spec], list[Spec]]:
    """Return the dots of groups, and the mean of each group over seeds with its interval.

    Args:
        study: Study of the groups.
        metric: Name of the test metric.
        placed_groups: Position on the horizontal axis and group of each level.
        is_scatter: Whether each dot is a configuration instead of a seed.
    """
    column = f"test/{metric}"
    dots, means = list[Spec](), list[Spec]()
    for position, group in placed_groups:
        dots += [
            {**position, **dot} for dot in _group_dots(study, group, column, is_scatter=is_scatter)
        ]
        if estimate := group.estimate(column):
            means.append({**position, **make_interval_values("y", estimate), "n": estimate.n})
    return dots, means


def _group_dots(study: Study, group: Group, column: str, *, is_scatter: bool) -> Iterator[Spec]:
    """Yield a dot per seed of a group, or per configuration in a scatter plot.

    A dot has the fields `y`, the mean over its results, and `name`. If all of its results are from
    one run, and the run has an address, the dot also has `run`, the run's ID.
    """
    keys = {key: key for key in group.column("config_key")} if is_scatter else {}
    values, runs = group.results(column, keys), group.results("run_id", keys)
    pairs_by_dot: dict[Any, list[tuple[str, int]]] = {}
    for config_key, seed in values:
        dot = config_key if is_scatter else seed
        pairs_by_dot.setdefault(dot, []).append((config_key, seed))
    if not is_scatter:
        pairs_by_dot = dict(sorted(pairs_by_dot.items()))
    for dot, pairs in pairs_by_dot.items():
        name = f"mean of {len(pairs)} seeds" if is_scatter else f"seed {dot}"
        run_id, *other_ids = {run for pair in pairs for run in runs.get(pair, ())} or {""}
        has_address = not other_ids and run_address(study.runs_address, run_id)
        run = {"run": run_id} if has_address else {}
        y = tables.mean([tables.mean(values[pair]) for pair in pairs])
        yield {"y": y, "name": name, **run}


def _get_value_range(dots: Values, means: Values, *, is_percent: bool) -> tuple[float, float]:
    """Return the range of dots and intervals.

    If it is at most half a point for percentages, or otherwise 2% of the largest absolute value, it
    is widened by this amount on both sides.

    Args:
        dots: Dots that are drawn.
        means: Means that are drawn.
        is_percent: Whether the values are percentages.
    """
    values = [dot["y"] for dot in dots]
    for point in means:
        # intervals over two seeds are left out, because they may be huge; they are clipped
        if point["low"] is not None and point["n"] > 2:
            values += [point["low"], point["high"]]
    low, high = min(values), max(values)
    min_range = 0.5 if is_percent else 0.02 * max(abs(low), abs(high), 1e-6)
    return (low, high) if high - low > min_range else (low - min_range, high + min_range)


def _make_metric_axis(study: Study, metric: str, low: float, high: float) -> Spec:
    """Return the vertical axis of a test metric, from `low` to `high` with a small margin."""
    margin = 0.05 * (high - low)
    scale = {"domain": [low - margin, high + margin], "nice": False}
    return vega.make_number_axis("y", vega.make_metric_axis_title(study, metric), scale)


def _mark_layers(
    study: Study,
    dots: Values,
    means: Values,
    channels: Spec,
    fields: Mapping[str, str],
    heading: str,
) -> Iterator[Spec]:
    """Yield the layers of dots and of means. A click on a dot opens its run.

    Args:
        study: Study of the dots.
        dots: Dots with the fields of `channels` and `fields`; `side`, if present, shifts a dot
            horizontally by this many pixels.
        means: Means with the fields of `channels` and `fields`.
        channels: Encoding of x, y, and the channels that distinguish points.
        fields: Tooltip fields that identify a point, in the format of vega.tooltip.
        heading: Heading of the metric.
    """
    encoding = {"color": {"value": vega.DOT}, **channels}
    encoding["tooltip"] = vega.tooltip({**fields, "name": "dot", "y*": heading})
    mark: Spec = {"size": 22, "opacity": 0.75, "xOffset": {"expr": "datum.side || 0"}}
    transform: Spec = {}
    if any("run" in dot for dot in dots):
        # the common prefix of all addresses is stored once
        prefix, suffix = json.dumps(study.runs_address), json.dumps(ML_VIEW)
        address = f"datum.run ? {prefix} + datum.run + {suffix} : ''"
        transform["transform"] = [{"calculate": address, "as": "href"}]
        encoding["href"] = {"field": "href"}
        mark["cursor"] = "pointer"
    yield {**vega.make_layer("circle", encoding, name="seeds", values=dots, **mark), **transform}
    if means:
        encoding = {"color": {"value": vega.MEAN}, **channels}
        tooltip = [
            *vega.make_interval_tooltip({**fields, "y*": f"mean {heading}"}),
            *vega.tooltip({"n": "n"}),
        ]
        mark_style = {"shape": "diamond", "stroke": "white", "strokeWidth": 0.6}
        yield from vega.make_points_with_intervals(
            means, encoding, tooltip, name="means", **mark_style
        )
