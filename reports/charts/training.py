"""Learning curves of the selection objective, and how early they tell the end."""

from reports.analysis import BudgetCorrelation, LearningCurves
from reports.charts import theme
from reports.charts.model import Chart, chart
from reports.charts.pieces import Spec, band, interval_tips, intervals, number, points, steps, tips
from reports.read import Study, heading

MOST_CURVES = 60  # the settings that selection likes best
MOST_NAMED = 8  # of them, with a colour each


def curves_chart(study: Study, found: LearningCurves) -> Chart | None:
    """A curve for each setting, with a band where it has several runs; None without a curve."""
    head = heading(study.protocol, found.metric)
    frame = found.points
    keys = frame["setting_key"].unique(maintain_order=True).to_list()[:MOST_CURVES]
    values = [
        {"key": row["setting_key"], "label": row["label"], "step": row["step"], "y": row["mean"],
         "state": row["state"], "low": row["low"], "high": row["high"]}
        for row in frame.filter(frame["setting_key"].is_in(keys)).rows(named=True)
    ]  # fmt: skip
    if not values:
        return None
    x = number("step", "epochs of all stages", scale={"nice": False})
    y = number("y", f"selection {head} (%)")
    labels = list(dict.fromkeys(str(value["label"]) for value in values))
    colour: Spec = {"value": theme.DOT}
    if len(labels) <= MOST_NAMED:
        legend = {"orient": "bottom", "columns": 1}
        colour = {"field": "label", "type": "nominal", "title": None, "sort": labels,
                  "scale": {"scheme": "tableau10"}, "legend": legend}  # fmt: skip
    shared = {"color": colour, "detail": {"field": "key"}}
    tooltip = tips(
        {"label": "setting", "state": "state", "step": "epoch", "y*": f"selection {head}"}
    )
    line = {"type": "line", "strokeWidth": 1.2, "opacity": 0.85}
    encoding = {"x": x, "y": y, **shared, "tooltip": tooltip}
    layers = [*band(values, x, y, **shared), {"name": "curves", "mark": line, "encoding": encoding}]
    best = f" The {len(keys)} best by selection." if found.settings > len(keys) else ""
    caption = (
        f"Selection {head} while training, the mean over a run's seeds; a band where a setting has"
        f" several runs.{best}"
    )
    spec = {"height": 180, "data": {"values": values}, "layer": layers}
    return chart(study, "curves", "Learning curves", caption, spec, "selection, not test")


def budget_chart(study: Study, found: BudgetCorrelation) -> Chart | None:
    """Rank correlation of early evaluations with the end; None where it is not defined."""
    values = [
        {"evaluation": str(rung.evaluation), "rho": rung.rho.mean, "low": rung.rho.low,
         "high": rung.rho.high, "n": rung.n}
        for rung in found.rungs
        if rung.rho is not None
    ]  # fmt: skip
    if not values:
        return None
    head = heading(study.protocol, found.metric)
    x = steps("evaluation", "evaluation", [str(value["evaluation"]) for value in values])
    y = number("rho", "Spearman ρ with the end", scale={"domain": [-1, 1]})
    tooltip = interval_tips({"evaluation": "evaluation", "n": "settings", "rho*": "ρ"})
    layers = [
        *intervals(values, x, y, ink=theme.MEAN),
        points("rungs", {"x": x, "y": y, "tooltip": tooltip}, color=theme.MEAN),
    ]
    left = f" {found.stopped} settings were stopped early and are not in it." * bool(found.stopped)
    caption = (
        f"Spearman's correlation of selection {head} at an evaluation with the final one, over"
        f" settings, with bootstrap 95% intervals.{left}"
    )
    spec = {"height": 150, "data": {"values": values}, "layer": layers}
    return chart(study, "budget", "Can early values be believed?", caption, spec)
