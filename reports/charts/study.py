"""Every chart of a study, in reading order; those of its training, of cost and of quality."""

from collections.abc import Iterator

from reports import analysis, tables
from reports.charts import together, vega
from reports.charts.factor import factor_charts
from reports.charts.vega import Chart, Spec
from reports.contract import QUALITY
from reports.read import Study, heading
from reports.report import Report

TRAINING, SETTINGS = "training", "settings"  # sections
MOST_CURVES = 60  # the settings that selection likes best
FEWEST = 4  # settings of a scatter
# measures of the class means that have a chart, and what an axis calls them
_SHOWN = {
    "cosine_to_mean": "cosine of synthetic to real class means",
    "synthetic_to_real": "% right of synthetic class means on real images",
}


def study_charts(report: Report) -> list[Chart]:
    """The charts of a study, in reading order.

    Args:
        report: of the study; charts of one over datasets are of its averages.
    """
    study, metric = report.study, report.metric
    part = analysis.available(analysis.subject, study, metric)
    charts = [*factor_charts(study, metric)]
    if part and len(part.factors) > 1:
        if report.importance:
            charts += together.importance_chart(part, report.importance)
            charts += together.interaction_charts(part, report.importance, metric)
        found = analysis.available(analysis.partial_dependence, study, metric)
        charts += together.dependence_charts(part, found or (), metric)
        charts += together.parallel_chart(part, metric)
    charts += _curves_chart(study)
    charts += _budget_chart(study)
    if part:
        charts += _cost_chart(part, metric)
        charts += _quality_charts(part, metric)
    return charts


def _curves_chart(study: Study) -> Iterator[Chart]:
    """A curve for each setting, with a band where it has several runs; none without a curve."""
    points, head = analysis.learning_curves(study), heading(study.protocol, study.objective)
    if not points:
        return
    keys = list(dict.fromkeys(point["key"] for point in points))
    shown = set(keys[:MOST_CURVES])
    values = [point for point in points if point["key"] in shown]
    x = vega.number("step", "epochs of all stages", {"nice": False})
    y = vega.number("y", f"selection {head} (%)")
    labels = list(dict.fromkeys(value["label"] for value in values))
    at: Spec = {"x": x, "y": y, "color": vega.named("label", labels), "detail": {"field": "key"}}
    fields = {"label": "setting", "state": "state", "step": "epoch", "y*": f"selection {head}"}
    lines = {**at, "tooltip": vega.tips(fields)}
    layers = [
        *vega.intervals(values, at, kind="area", opacity=0.16),
        vega.layer("line", lines, name="curves", strokeWidth=1.2, opacity=0.85),
    ]
    best = f" The {MOST_CURVES} best by selection." if len(keys) > MOST_CURVES else ""
    caption = (
        f"Selection {head} while training, the mean over a run's seeds; a band where a setting has"
        f" several runs.{best}"
    )
    last: Spec = {"height": 180, "beside": "selection, not test", "values": values}
    yield vega.chart(study, (TRAINING, "curves"), "Learning curves", caption, layers, **last)


def _budget_chart(study: Study) -> Iterator[Chart]:
    """Rank correlation of early evaluations with the end; none where it is not defined."""
    values, stopped = analysis.budget_correlation(study)
    if not values:
        return
    at: Spec = {
        "x": vega.steps("evaluation", "evaluation", values),
        "y": vega.number("rho", "Spearman ρ with the end", {"domain": [-1, 1]}),
        "color": {"value": vega.MEAN},
    }
    tooltip = vega.interval_tips({"evaluation": "evaluation", "n": "settings", "rho*": "ρ"})
    layers = vega.points_with_intervals(values, at, tooltip, name="rungs")
    left = f" {stopped} settings were stopped early and are not in it." if stopped else ""
    caption = (
        f"Spearman's correlation of selection {heading(study.protocol, study.objective)} at an"
        " evaluation with the final one, over settings, with bootstrap 95% intervals." + left
    )
    place, title = (TRAINING, "budget"), "Can early values be believed?"
    yield vega.chart(study, place, title, caption, layers, height=150)


def _cost_chart(study: Study, metric: str) -> Iterator[Chart]:
    """Seconds a seed against the test metric; none with one setting."""
    points = analysis.cost_points(study, metric)
    if len(points) < 2:
        return
    head, kinds = heading(study.protocol, metric), (analysis.OTHER, analysis.OPTIMAL)
    # a logarithmic axis has no 0
    values = [{**point, "seconds": max(point["seconds"], 1e-3)} for point in points]
    others, best = ([one for one in values if one["kind"] == kind] for kind in kinds)
    drawn, some = vega.thinned(others, "other settings")
    at = {
        "x": vega.number("seconds", "seconds a seed", {"type": "log", "nice": False, "padding": 8}),
        "y": vega.number("y", vega.test_title(study, metric)),
        "color": vega.named("kind", kinds, "by selection score"),
    }
    tooltip = vega.interval_tips({"label": "setting", "seconds*": "seconds", "y*": head})
    layers = vega.points_with_intervals([*drawn, *best], at, tooltip, name="settings", size=45)
    caption = (
        f"Each point is a setting: wall seconds of a seed against its mean test {head} with its 95%"
        " interval. Marked: no other setting has as good a selection score for as few seconds."
        + some
    )
    place, title = (SETTINGS, "cost"), f"Cost against {head}"
    yield vega.chart(study, place, title, caption, layers)


def _quality_charts(study: Study, metric: str) -> Iterator[Chart]:
    """The metric against measures of the class means, a point per setting."""
    head, labels = heading(study.protocol, metric), tables.factor_labels(study)
    for measure in tables.MEASURES:
        name, short = f"{QUALITY}{measure.metric}", _SHOWN.get(measure.metric, "")
        if not short or name == metric:
            continue
        values = []
        for group in tables.setting_groups(study):
            x, y = group.estimate(f"test/{name}"), group.estimate(f"test/{metric}")
            if x and y:
                values.append({"label": tables.spelled(group, labels), "x": x.mean, "y": y.mean})
        if len(values) < FEWEST:
            continue
        values, some = vega.thinned(values, "settings")
        encoding = {
            "x": vega.number("x", short, {"padding": 8}),
            "y": vega.number("y", vega.test_title(study, metric)),
            "tooltip": vega.tips({"label": "setting", "x*": short, "y*": head}, 3),
        }
        caption = (
            f"Each point is a setting with synthesized features: test {head} against {short},"
            " means over seeds. That they go together need not mean that one makes the other."
            + some
        )
        place, title = (SETTINGS, f"quality-{measure.metric}"), f"{head} against {short}"
        layers = [vega.points(encoding, name="settings", size=45, color=vega.MEAN)]
        yield vega.chart(study, place, title, caption, layers, values=values)
