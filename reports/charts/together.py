"""Factors together: means of every two levels, and single lines behind a mean."""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from reports.analysis import Dependence, Interaction
from reports.charts import theme
from reports.charts.model import Chart, chart
from reports.charts.pieces import Spec, band, heat, interval_tips, number, steps, test_title, tips
from reports.read import Study, heading
from reports.tables import decimals_of, p_text, short_names

MOST_PAIRS = 6  # heat maps of a page
MOST_ROWS = 24  # levels of a factor in a heat map


def interaction_charts(study: Study, pairs: Sequence[Interaction], metric: str) -> Iterator[Chart]:
    """A heat map for each pair of factors, those first whose interaction is the surest."""
    names, head = short_names(study), heading(study.protocol, metric)
    for pair in [pair for pair in pairs if _legible(pair)][:MOST_PAIRS]:
        cells = pair.cells
        one, other = (names[key] for key in pair.factors)
        p = "" if pair.holm is None else f" (Holm p {p_text(pair.holm)})"
        encoding = {
            "x": steps("second", other, cells["second"].to_list()),
            "y": {**steps("first", one, cells["first"].to_list()), "axis": {}},
        }
        tooltip = interval_tips({"first": one, "second": other, "mean*": head, "n": "seeds"})
        colour = heat("mean", head)
        # dark on the lighter half of the colours
        light = f"datum.mean > {(cells['mean'].max() + cells['mean'].min()) / 2!r}"  # type: ignore[operator]
        ink = {"condition": {"test": light, "value": "black"}, "value": "white"}
        text = {
            "field": "mean",
            "type": "quantitative",
            "format": f".{decimals_of(study, metric)}f",
        }
        layers = [
            {"name": "cells", "mark": "rect", "encoding": {"color": colour, "tooltip": tooltip}},
            {"mark": {"type": "text", "fontSize": 9}, "encoding": {"text": text, "color": ink}},
        ]
        spec = {
            "height": 26 * cells["first"].n_unique(),
            "data": _data(cells),
            "encoding": encoding,
        }
        caption = f"Mean test {head} for every level of {one} and {other}{p}."
        name = f"interaction-{pair.factors[0]}-{pair.factors[1]}"
        yield chart(study, name, f"{one} × {other}", caption, {**spec, "layer": layers})


def _legible(pair: Interaction) -> bool:
    """Whether a heat map of the pair's levels can be read."""
    return max(pair.cells[side].n_unique() for side in ("first", "second")) <= MOST_ROWS


def dependence_charts(study: Study, found: Sequence[Dependence], metric: str) -> Iterator[Chart]:
    """Each factor: its mean with a band over seeds, and a line for each setting of the others."""
    names, head = short_names(study), heading(study.protocol, metric)
    for one in found:
        label = names[one.factor]
        x = _x(study, one, label)
        y = number("value", test_title(study, metric))
        tooltip = tips({"others": "others", "level": label, "value*": head})
        single = {"x": x, "y": y, "detail": {"field": "line"}, "tooltip": tooltip}
        thin = {"type": "line", "color": theme.DOT, "opacity": 0.45, "strokeWidth": 0.8}
        thick = {"type": "line", "color": theme.MEAN, "strokeWidth": 2, "point": True}
        mean = {"x": x, "y": {**y, "field": "mean"}}
        layers = [
            {"name": "lines", "data": _data(one.lines), "mark": thin, "encoding": single},
            *band(one.points.rows(named=True), x, y, ink=theme.MEAN),
            {"name": "mean", "data": _data(one.points), "mark": thick, "encoding": mean},
        ]
        kind = "A forest's partial dependence" if one.fitted else "Mean over the other factors"
        caption = (
            f"{kind} of test {head} on {one.factor}, 95% band over seeds; each thin line is one"
            " setting of the other factors."
        )
        spec = {"height": 150, "layer": layers}
        beside = "fitted by a forest" if one.fitted else "settings as they are"
        yield chart(
            study, f"dependence-{one.factor}", f"{label}, the others held", caption, spec, beside
        )


def _x(study: Study, one: Dependence, label: str) -> Spec:
    """A continuous axis for what a forest was asked at many values, else one of labels."""
    xs = one.points["x"]
    if not one.fitted or xs.null_count():
        return steps("level", label, one.points["level"].to_list())
    factor = next(factor for factor in study.factors if factor.key == one.factor)
    log = factor.log and bool((xs > 0).all())
    return number("x", label, scale={"type": "log" if log else "linear", "nice": False})


def _data(frame: pl.DataFrame) -> dict[str, Any]:
    return {"values": frame.rows(named=True)}
