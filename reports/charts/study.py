"""Every chart of a study, in reading order; those of its training, of cost and of quality."""

from collections.abc import Iterator, Sequence

from reports.analysis import Analysis, BudgetCorrelation, CostPoint, LearningCurves
from reports.charts import vega
from reports.charts.factor import factor_charts
from reports.charts.together import (
    dependence_charts,
    importance_chart,
    interaction_charts,
    parallel_chart,
)
from reports.charts.vega import Chart, Spec
from reports.contract import QUALITY
from reports.read import Study, heading
from reports.tables import (
    MEASURES,
    factor_labels,
    setting_groups,
    spelled,
    without_added,
)

TRAINING, SETTINGS = "training", "settings"  # sections
MOST_CURVES = 60  # the settings that selection likes best
FEWEST = 4  # settings of a scatter
_SHOWN = ("cosine_to_mean", "synthetic_to_real")  # measures of the class means


def study_charts(analysis: Analysis) -> list[Chart]:
    """The charts of a study, in reading order.

    Args:
        analysis: of the study; over datasets, of its averages.
    """
    study, metric, part = analysis.study, analysis.metric, analysis.subject
    charts = [*factor_charts(study, metric)]
    if part and len(part.factors) > 1:
        charts += importance_chart(part, analysis.importance)
        charts += interaction_charts(part, analysis.interactions, metric)
        charts += dependence_charts(part, analysis.dependence or (), metric)
        charts += parallel_chart(part, metric)
    charts += _curves_chart(study, analysis.curves)
    charts += _budget_chart(study, analysis.budget)
    if part:
        charts += _cost_chart(part, analysis.costs or (), metric)
        charts += _quality_charts(part, metric)
    return charts


def _curves_chart(study: Study, found: LearningCurves | None) -> Iterator[Chart]:
    """A curve for each setting, with a band where it has several runs; none without a curve."""
    if not found or not found.points:
        return
    head = heading(study.protocol, found.metric)
    keys = list(dict.fromkeys(point["key"] for point in found.points))[:MOST_CURVES]
    values = [point for point in found.points if point["key"] in set(keys)]
    x = vega.number("step", "epochs of all stages", {"nice": False})
    y = vega.number("y", f"selection {head} (%)")
    labels = list(dict.fromkeys(value["label"] for value in values))
    at: Spec = {"x": x, "y": y, "color": vega.named("label", labels), "detail": {"field": "key"}}
    fields = {"label": "setting", "state": "state", "step": "epoch", "y*": f"selection {head}"}
    lines = {**at, "tooltip": vega.tips(fields)}
    layers = [
        *vega.intervals(values, at, type="area", opacity=0.16),
        vega.layer("line", lines, name="curves", strokeWidth=1.2, opacity=0.85),
    ]
    best = f" The {len(keys)} best by selection." if found.settings > len(keys) else ""
    caption = (
        f"Selection {head} while training, the mean over a run's seeds; a band where a setting has"
        f" several runs.{best}"
    )
    last: Spec = {"height": 180, "beside": "selection, not test", "values": values}
    yield vega.chart(study, (TRAINING, "curves"), "Learning curves", caption, layers, **last)


def _budget_chart(study: Study, found: BudgetCorrelation | None) -> Iterator[Chart]:
    """Rank correlation of early evaluations with the end; none where it is not defined."""
    if not found:
        return
    values = [
        {"evaluation": str(rung.evaluation), "n": rung.n, **vega.ends("rho", rung.rho)}
        for rung in found.rungs
        if rung.rho is not None
    ]
    if not values:
        return
    at: Spec = {
        "x": vega.steps("evaluation", "evaluation", values),
        "y": vega.number("rho", "Spearman ρ with the end", {"domain": [-1, 1]}),
        "color": {"value": vega.MEAN},
    }
    tooltip = vega.interval_tips({"evaluation": "evaluation", "n": "settings", "rho*": "ρ"})
    layers = vega.estimates(values, at, tooltip, name="rungs")
    left = f" {found.stopped} settings were stopped early and are not in it." * bool(found.stopped)
    caption = (
        f"Spearman's correlation of selection {heading(study.protocol, found.metric)} at an"
        " evaluation with the final one, over settings, with bootstrap 95% intervals." + left
    )
    place, title = (TRAINING, "budget"), "Can early values be believed?"
    yield vega.chart(study, place, title, caption, layers, height=150)


def _cost_chart(study: Study, found: Sequence[CostPoint], metric: str) -> Iterator[Chart]:
    """Seconds a seed against the test metric; none with one setting."""
    if len(found) < 2:
        return
    head = heading(study.protocol, metric)
    kinds = ("other", "none is better and cheaper")
    others, some = vega.thinned([one for one in found if not one.optimal], "other settings")
    values = [
        {
            "label": point.label,
            "seconds": max(point.seconds, 1e-3),
            "kind": kinds[point.optimal],
            **vega.ends("y", point.value),
        }
        for point in (*others, *(one for one in found if one.optimal))
    ]
    scale = {"type": "log", "nice": False, "padding": 8}
    at = {
        "x": vega.number("seconds", "seconds a seed", scale),
        "y": vega.number("y", vega.test_title(study, metric)),
        "color": vega.named("kind", kinds, "by selection score"),
    }
    tooltip = vega.interval_tips({"label": "setting", "seconds*": "seconds", "y*": head})
    layers = vega.estimates(values, at, tooltip, name="settings", size=45)
    caption = (
        f"Each point is a setting: wall seconds of a seed against its mean test {head} with its 95%"
        " interval. Marked: no other setting has a better selection score for fewer seconds." + some
    )
    place, title = (SETTINGS, "cost"), f"Cost against {head}"
    yield vega.chart(study, place, title, caption, layers)


def _quality_charts(study: Study, metric: str) -> Iterator[Chart]:
    """The metric against measures of the class means, a point a setting that is the study's own."""
    study = without_added(study)
    head, labels = heading(study.protocol, metric), factor_labels(study)
    names = {measure.metric: measure.short for measure in MEASURES}
    columns = {name: f"test/{QUALITY}{name}" for name in _SHOWN if f"{QUALITY}{name}" != metric}
    for name, column in columns.items():
        values = []
        for group in setting_groups(study) if column in study.rows.columns else ():
            x, y = group.estimate(column), group.estimate(f"test/{metric}")
            if x and y:
                values.append({"label": spelled(group, labels), "x": x.mean, "y": y.mean})
        if len(values) < FEWEST:
            continue
        values, some = vega.thinned(values, "settings")
        short = names[name]
        encoding = {
            "x": vega.number("x", short, {"padding": 8}),
            "y": vega.number("y", vega.test_title(study, metric)),
            "tooltip": vega.tips({"label": "setting", "x*": short, "y*": head}, 3),
        }
        caption = (
            f"Each point is a setting with synthesized features: {short} against test {head},"
            " means over seeds. That they go together need not mean that one makes the other."
            + some
        )
        place, title = (SETTINGS, f"quality-{name}"), f"{short} against {head}"
        layers = [vega.points(encoding, name="settings", size=45, color=vega.MEAN)]
        yield vega.chart(study, place, title, caption, layers, values=values)
