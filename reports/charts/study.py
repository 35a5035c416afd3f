"""Every chart of a study, in reading order; those of its training, of cost and of quality."""

from collections.abc import Iterator, Sequence

from reports.analysis import Analysis, BudgetCorrelation, CostPoint, LearningCurves
from reports.charts import vega
from reports.charts.datasets import dataset_charts
from reports.charts.factor import factor_chart
from reports.charts.together import (
    dependence_charts,
    importance_chart,
    interaction_charts,
    parallel_chart,
    path_chart,
)
from reports.charts.vega import Chart, Spec
from reports.contract import QUALITY
from reports.read import Study, heading
from reports.tables import (
    MEASURES,
    datasets,
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
    return list(_charts(analysis))


def _charts(analysis: Analysis) -> Iterator[Chart]:
    study, metric, part = analysis.study, analysis.metric, analysis.subject
    yield from filter(None, factor_charts(study, metric))
    if part and len(part.factors) > 1:
        if analysis.importance:
            yield from importance_chart(part, analysis.importance)
        if analysis.path:
            yield from path_chart(part, analysis.path)
        yield from interaction_charts(part, analysis.interactions, metric)
        yield from dependence_charts(part, analysis.dependence or (), metric)
        yield from parallel_chart(part, metric)
    if analysis.curves:
        yield from _curves_chart(study, analysis.curves)
    if analysis.budget:
        yield from _budget_chart(study, analysis.budget)
    if part:
        yield from _cost_chart(part, analysis.costs or (), metric)
        yield from _quality_charts(part, metric)


def factor_charts(study: Study, metric: str) -> Iterator[Chart | None]:
    """A chart for each factor; like a factor's tables, without the settings that --path ran."""
    study = without_added(study)
    over, alone = datasets(study), len(study.factors) == 1
    if over and not alone:
        yield from dataset_charts(study, metric)
        return
    # The arms are one setting on one dataset: no line across means over other factors or datasets.
    arms = not over and (alone or study.sampler != "grid")
    for factor in study.factors:
        yield factor_chart(study, factor, metric, arms=arms)


def _curves_chart(study: Study, found: LearningCurves) -> Iterator[Chart]:
    """A curve for each setting, with a band where it has several runs; none without a curve."""
    head = heading(study.protocol, found.metric)
    keys = list(dict.fromkeys(point["key"] for point in found.points))[:MOST_CURVES]
    values = [point for point in found.points if point["key"] in set(keys)]
    if not values:
        return
    x = vega.number("step", "epochs of all stages", {"nice": False})
    y = vega.number("y", f"selection {head} (%)")
    named = {value["key"]: value["label"] for value in values}
    # in the study's order, not in that of what selection likes best
    labels = list(dict.fromkeys(named[s.key] for s in study.settings if s.key in named))
    few = len(labels) <= vega.MOST_NAMED
    colour = vega.named("label", labels) if few else {"value": vega.DOT}
    at: Spec = {"x": x, "y": y, "color": colour, "detail": {"field": "key"}}
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


def _budget_chart(study: Study, found: BudgetCorrelation) -> Iterator[Chart]:
    """Rank correlation of early evaluations with the end; none where it is not defined."""
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
    shown, some = vega.thinned(found, "settings", lambda point: point.optimal)
    values = [
        {
            "label": point.label,
            "seconds": max(point.seconds, 1e-3),
            "kind": kinds[point.optimal],
            **vega.ends("y", point.value),
        }
        for point in shown
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
