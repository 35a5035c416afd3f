"""Which factor matters, and the way from the baseline to what selection prefers."""

from typing import Any

from reports.analysis import AblationPath, Importance
from reports.charts import theme
from reports.charts.model import Chart, chart
from reports.charts.pieces import colours, interval_tips, intervals, number, points, steps
from reports.read import Study, heading
from reports.tables import decimals_of, level_text, p_text, short_names
from reports.tables import number as shown

_KINDS = {"factor": theme.MEAN, "pair": theme.SECOND}


def importance_chart(study: Study, found: Importance) -> Chart | None:
    """Shares of factors and pairs with their intervals over seeds; None where nothing has one."""
    names, head = short_names(study), heading(study.protocol, found.metric)
    values = [
        {
            "effect": " × ".join(names[key] for key in effect.factors),
            "share": effect.share.mean,
            "low": effect.share.low,
            "high": effect.share.high,
            "kind": "pair" if len(effect.factors) > 1 else "factor",
            "p": "–" if effect.holm is None else p_text(effect.holm),
        }
        for effect in (*found.factors, *found.pairs)
        if effect.share is not None
    ]
    if not values:
        return None
    values.sort(key=lambda value: -float(str(value["share"])))
    y = steps("effect", None, [str(value["effect"]) for value in values], axis={})
    x = number("share", f"% of the variance of {head}", scale={"domain": [0, 100]})
    kind = colours("kind", None, _KINDS)
    tooltip = interval_tips({"effect": "factor", "share*": "% of variance", "p": "Holm p"}, 1)
    ends = {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y, "color": kind}
    layers = [
        {"mark": {"type": "rule", "strokeWidth": 1.5}, "encoding": ends},
        points("shares", {"x": x, "y": y, "color": kind, "tooltip": tooltip}),
    ]
    told = ", ".join(f"{value['effect']} {value['share']:.0f}%" for value in values)
    caption = f"Share of the variance of {head} between settings, 95% over seeds: {told}."
    return chart(
        study, "importance", "Importance of factors", caption,
        {"height": 24 * len(values), "data": {"values": values}, "layer": layers},
    )  # fmt: skip


def path_chart(study: Study, path: AblationPath) -> Chart | None:
    """The metric's difference to the baseline, step by step; None where there is no step."""
    names, head = short_names(study), heading(study.protocol, path.metric)
    values: list[dict[str, Any]] = [{"step": "baseline", "y": 0.0, "score": path.score}]
    for step in path.steps:
        if step.total is not None:
            words = ", ".join(f"{names[c.factor]} → {level_text(c.after)}" for c in step.changes)
            total = step.total.difference
            ends = {"low": total.low, "high": total.high}
            values.append({"step": words, "y": total.mean, "score": step.score, **ends})
    if len(values) < 2:
        return None
    x = steps("step", None, [value["step"] for value in values])
    y = number("y", f"Δ test {head} to the baseline", scale={"zero": True})
    tooltip = interval_tips({"step": "change", "score*": "selection score", "y*": f"Δ{head}"})
    layers = [
        {"mark": {"type": "line", "color": theme.MEAN}, "encoding": {"x": x, "y": y}},
        *intervals(values, x, y, ink=theme.MEAN),
        points("steps", {"x": x, "y": y, "tooltip": tooltip}, shape="diamond", color=theme.MEAN),
    ]
    decimals = decimals_of(study, path.metric)
    told = "; ".join(
        f"{value['step']} ({shown(value['y'], decimals, signed=True)})" for value in values[1:]
    )
    caption = f"From the baseline to what selection prefers, difference in test {head}: {told}."
    return chart(
        study, "path", "Path from the baseline", caption,
        {"height": 150, "data": {"values": values}, "layer": layers},
    )  # fmt: skip
