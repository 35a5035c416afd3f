"""What charts share: axes, intervals, tooltips."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.read import Study, heading
from reports.tables import is_percent

Spec = dict[str, Any]
Values = Sequence[Mapping[str, Any]]


def number(field: str, title: str, **more: Any) -> Spec:
    """A continuous axis that need not begin at 0.

    Args:
        field: of the data. title: of the axis. more: of the encoding; a scale is added to.
    """
    scale = more.pop("scale", {})
    scale = scale if scale.get("type") == "log" else {"zero": False, **scale}  # a log has no 0
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, **more}


def steps(field: str, title: str | None, order: Sequence[str], **more: Any) -> Spec:
    """An axis of labels at equal distances in a given order, slanted where they are long."""
    angle = -20 if sum(map(len, order)) > 36 else 0
    labels = {"sort": list(dict.fromkeys(order)), "axis": {"labelAngle": angle}}
    return {"field": field, "type": "ordinal", "title": title, **labels, **more}


def test_title(study: Study, metric: str) -> str:
    """An axis of a test metric."""
    head = heading(study.protocol, metric)
    return f"test {head} (%)" if is_percent(metric) else f"test {head}"


def tips(fields: Mapping[str, str], digits: int = 2) -> list[Spec]:
    """A tooltip: field -> what it is called; a field that ends in "*" is a number to be rounded."""
    return [
        {"field": field.rstrip("*"), "title": title}
        | ({"format": f".{digits}f"} if field.endswith("*") else {})
        for field, title in fields.items()
    ]


def interval_tips(fields: Mapping[str, str], digits: int = 2) -> list[Spec]:
    """As tips, with the ends of the interval behind."""
    return tips({**fields, "low*": "95% from", "high*": "to"}, digits)


def intervals(values: Values, x: Spec, y: Spec, **more: Any) -> list[Spec]:
    """A layer of vertical intervals from `low` to `high`; none where no value has both.

    Args:
        values: of the layer.
        x, y: encodings of the means.
        more: the layer's encodings, or its colour as `ink`.
    """
    ink = {"color": more.pop("ink")} if "ink" in more else {}
    ends = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, **more}
    mark = {"type": "rule", "strokeWidth": 1.5, "clip": True, **ink}
    known = [value for value in values if value.get("low") is not None]
    layer = {"name": "intervals", "data": {"values": known}, "mark": mark, "encoding": ends}
    return [layer] if known else []


def band(values: Values, x: Spec, y: Spec, **more: Any) -> list[Spec]:
    """A layer of a band from `low` to `high`, as intervals."""
    return [
        {**layer, "name": "band", "mark": {**layer["mark"], "type": "area", "opacity": 0.16}}
        for layer in intervals(values, x, y, **more)
    ]


def points(name: str, encoding: Spec, **more: Any) -> Spec:
    """A layer of filled points."""
    mark = {"type": "point", "filled": True, "size": 55, "opacity": 1, **more}
    return {"name": name, "mark": mark, "encoding": encoding}


def colours(field: str, title: str | None, ranged: Mapping[str, str]) -> Spec:
    """Colours of a few kinds, with a legend below."""
    scale = {"domain": list(ranged), "range": list(ranged.values())}
    legend = {"orient": "bottom"}
    return {"field": field, "type": "nominal", "title": title, "scale": scale, "legend": legend}


def heat(field: str, title: str) -> Spec:
    """Colours of a number: cividis, which colour-blind readers and grey print tell apart."""
    scale, legend = {"scheme": "cividis", "zero": False}, {"gradientLength": 80}
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": scale,
        "legend": legend,
    }
