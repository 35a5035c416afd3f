"""All charts of a study in reading order.

The charts of single factors are made in factor.py, and the tradeoff chart in tradeoff.py.
"""

from collections.abc import Iterator

from harness.store import QUALITY
from reports import analysis, tables
from reports.analysis import Importance, make_interval_values
from reports.charts import vega
from reports.charts.factor import make_factor_charts
from reports.charts.tradeoff import make_tradeoff_chart
from reports.charts.vega import Chart, Spec
from reports.formatting import DASH, format_p
from reports.report import Report
from reports.study import Study, get_metric_heading

# Sections of the page.
SECTION_TOGETHER, SECTION_TRAINING = "together", "training"
SECTION_CONFIGURATIONS = "configurations"
MAX_CURVES = 60  # maximum number of curves; those with the best selection scores are kept
MIN_POINTS = 4  # minimum number of configurations in a chart of a quality measure
# Axis titles of the quality measures that have a chart.
_QUALITY_AXES = {
    "cosine_to_mean": "cosine of synthetic to real class means",
    "synthetic_to_real": "accuracy of synthetic class means on real images (%)",
}


def make_study_charts(report: Report) -> list[Chart]:
    """Return the charts of a study in reading order.

    Args:
        report: Report of the study. If it is a study over datasets, most charts show averages over
            datasets.
    """
    study, metric = report.study, report.metric
    analyzed_study = analysis.compute_if_available(analysis.select_analyzed_study, study, metric)
    charts = [*make_factor_charts(study, metric)]
    if analyzed_study and report.importance:
        charts += _make_importance_chart(analyzed_study, report.importance)
    charts += _make_curves_chart(study)
    if analyzed_study:
        charts += make_tradeoff_chart(analyzed_study, metric, (SECTION_CONFIGURATIONS, "tradeoff"))
        charts += _make_cost_chart(analyzed_study, metric)
        charts += _make_quality_charts(analyzed_study, metric)
    return charts


def _make_importance_chart(study: Study, importance: Importance) -> Iterator[Chart]:
    """Yield the chart of the importance of factors and pairs. Nothing if no share is known.

    For a grid the chart has intervals, for a sampled study it has none.
    """
    names = tables.shorten_factor_names(study)
    heading = get_metric_heading(study.protocol, importance.design.metric)
    values = [
        {
            "effect": " × ".join(names[key] for key in effect.factors),
            "kind": "pair" if len(effect.factors) > 1 else "factor",
            "p": DASH if effect.holm_p is None else format_p(effect.holm_p),
            **make_interval_values("share", effect.share),
        }
        for effect in (*importance.factors, *importance.pairs)
        if effect.share is not None
    ]
    if not values:
        return
    values.sort(key=lambda value: -value["share"])
    y = vega.make_level_axis("effect", None, values, axis={})
    if importance.design.is_sampled:
        n_configurations = len(importance.design.configurations)
        x_title = f"% of importance for {heading}, {n_configurations} configurations"
        measure = (
            f"Importance for {heading} by Optuna's PED-ANOVA over {n_configurations}"
            " configurations, without a test"
        )
        tooltip = vega.tooltip({"effect": "factor", "share*": "% of importance"}, 1)
    else:
        x_title = f"% of the variance of {heading}"
        measure = (
            f"Share of the variance of {heading} between configurations, with 95% intervals over"
            " seeds"
        )
        tooltip = vega.make_interval_tooltip(
            {"effect": "factor", "share*": "% of variance", "p": "Holm p"}, 1
        )
    x = vega.make_number_axis("share", x_title, {"domain": [0, 100]})
    color = vega.make_color_channel("kind", ["factor", "pair"] if importance.pairs else ["factor"])
    ends = {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y, "color": color}
    layers = [
        vega.make_layer("rule", ends, strokeWidth=1.5),
        vega.make_point_layer({"x": x, "y": y, "color": color, "tooltip": tooltip}, name="shares"),
    ]
    shares = ", ".join(f"{value['effect']} {value['share']:.0f}%" for value in values)
    caption = f"{measure}: {shares}."
    place, height = (SECTION_TOGETHER, "importance"), 24 * len(values)
    yield vega.make_chart(
        study, place, "Importance of factors", caption, layers, height=height, values=values
    )


def _make_curves_chart(study: Study) -> Iterator[Chart]:
    """Yield the chart of learning curves, one per configuration. Nothing if the store has none.

    The curve of a configuration with several runs has a band: 95% intervals over these runs.
    """
    points = analysis.make_learning_curves(study)
    if not points:
        return
    heading = get_metric_heading(study.protocol, study.objective)
    keys = list(dict.fromkeys(point["key"] for point in points))
    shown_keys = set(keys[:MAX_CURVES])
    values = [point for point in points if point["key"] in shown_keys]
    x = vega.make_number_axis("step", "epochs of all stages", {"nice": False})
    y = vega.make_number_axis("y", f"selection {heading} (%)")
    labels = list(dict.fromkeys(value["label"] for value in values))
    channels: Spec = {
        "x": x,
        "y": y,
        "color": vega.make_color_channel("label", labels),
        "detail": {"field": "key"},
    }
    fields = {
        "label": "configuration",
        "state": "state",
        "step": "epoch",
        "y*": f"selection {heading}",
    }
    line_encoding = {**channels, "tooltip": vega.tooltip(fields)}
    layers = [
        *vega.make_interval_layers(values, channels, kind="area", opacity=0.16),
        vega.make_layer("line", line_encoding, name="curves", strokeWidth=1.2, opacity=0.85),
    ]
    note = (
        f" Only the {MAX_CURVES} best configurations by selection are drawn."
        if len(keys) > MAX_CURVES
        else ""
    )
    if len(labels) > vega.MAX_NAMED:
        note += " Colors from dark to light: from the best configuration by selection to the worst."
    caption = (
        f"Selection {heading} during training: mean over the seeds of a run. Bands: 95% intervals"
        f" over the runs of a configuration.{note}"
    )
    options: Spec = {"height": 180, "subtitle": "selection, not test", "values": values}
    yield vega.make_chart(
        study, (SECTION_TRAINING, "curves"), "Learning curves", caption, layers, **options
    )


def _make_cost_chart(study: Study, metric: str) -> Iterator[Chart]:
    """Yield the chart of the test metric against seconds per seed, for at least two points."""
    points = analysis.make_cost_points(study, metric)
    if len(points) < 2:
        return
    heading, kinds = get_metric_heading(study.protocol, metric), (analysis.OTHER, analysis.OPTIMAL)
    # a logarithmic axis cannot show 0
    values = [{**point, "seconds": max(point["seconds"], 1e-3)} for point in points]
    other_points, optimal_points = (
        [value for value in values if value["kind"] == kind] for kind in kinds
    )
    drawn_points, note = vega.thin_points(other_points, "other configurations")
    channels = {
        "x": vega.make_number_axis(
            "seconds", "seconds per seed", {"type": "log", "nice": False, "padding": 8}
        ),
        "y": vega.make_number_axis("y", vega.make_metric_axis_title(study, metric)),
        "color": vega.make_color_channel("kind", kinds, "by selection score"),
    }
    tooltip = vega.make_interval_tooltip(
        {"label": "configuration", "seconds*": "seconds", "y*": heading}
    )
    layers = vega.make_points_with_intervals(
        [*drawn_points, *optimal_points], channels, tooltip, name="configurations", size=45
    )
    caption = (
        f"Each point is a configuration: mean test {heading} with its 95% interval against"
        " wall-clock seconds per seed. Pareto-optimal: no other configuration has as good a"
        " selection score in as few seconds." + note
    )
    place, title = (SECTION_CONFIGURATIONS, "cost"), f"Cost against {heading}"
    yield vega.make_chart(study, place, title, caption, layers)


def _make_quality_charts(study: Study, metric: str) -> Iterator[Chart]:
    """Yield charts of the metric against quality measures, with a point per configuration.

    Measures with fewer than MIN_POINTS points have no chart.
    """
    heading, labels = get_metric_heading(study.protocol, metric), tables.make_label_columns(study)
    for measure in tables.MEASURES:
        name, axis_title = f"{QUALITY}{measure.metric}", _QUALITY_AXES.get(measure.metric, "")
        if not axis_title or name == metric:
            continue
        values = []
        for group in tables.make_configuration_groups(study):
            x, y = group.estimate(f"test/{name}"), group.estimate(f"test/{metric}")
            if x and y:
                values.append(
                    {"label": tables.format_group_name(group, labels), "x": x.mean, "y": y.mean}
                )
        if len(values) < MIN_POINTS:
            continue
        values, note = vega.thin_points(values, "configurations")
        encoding = {
            "x": vega.make_number_axis("x", axis_title, {"padding": 8}),
            "y": vega.make_number_axis("y", vega.make_metric_axis_title(study, metric)),
            "tooltip": vega.tooltip({"label": "configuration", "x*": axis_title, "y*": heading}, 3),
        }
        caption = (
            f"Each point is a configuration with synthetic features: test {heading} against"
            f" {axis_title}, means over seeds. An association need not be causal." + note
        )
        place = (SECTION_CONFIGURATIONS, f"quality-{measure.metric}")
        title = f"{heading} against {axis_title}"
        layers = [vega.make_point_layer(encoding, name="configurations", size=45, color=vega.MEAN)]
        yield vega.make_chart(study, place, title, caption, layers, values=values)
