"""The controls in a factor's figure: horizontal lines, or lines through the factor's levels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from harness.store import COMPETING, CONTROLS, FINETUNER_ALONE
from reports import tables
from reports.charts import vega
from reports.charts.vega import Spec
from reports.formatting import format_number, join_names
from reports.study import Study
from reports.tables import Group

# A control is drawn up to this distance from the dots, in units of their range. Controls farther
# away are only in the legend.
_REACH = 1.0
# Color and dashes of each control's line.
_LOOKS: Final = {
    "zero_shot": ("#777777", [1, 2]),
    "no_synthetic": ("#D55E00", [6, 2]),
    "text_feature": ("#009E73", [6, 2, 1, 2]),
    "real_images": ("#CC79A7", [10, 3]),
}


@dataclass(frozen=True)
class ControlLine:
    """A control in a figure.

    Attributes:
        control: Key of the control.
        label: Name in the legend.
        height: Highest mean of the control.
        points: Points of the line. A matched control has a point per level; any other has a single
            point with only `y`, and is a horizontal line. [] if the line is too far from the dots.
        is_matched: Whether the control has a mean at each level of the figure's factor.
    """

    control: str
    label: str
    height: float
    points: Sequence[Spec]
    is_matched: bool


def list_finished_controls(
    study: Study,
    metric: str,
    placed_groups: Sequence[tuple[Spec, Group]],
    value_range: tuple[float, float],
) -> list[ControlLine]:
    """Return the finished controls, the highest first.

    If the study is a grid and depends on factors that affect a control, the control is drawn at
    each level of the figure's factor, as the mean over the configurations of the level. If no
    factor affects the control, or it has no result at some level, it is drawn at the baseline.

    Args:
        study: Study with a single dataset, with its controls.
        metric: Name of the test metric.
        placed_groups: Position on the horizontal axis and group of each level.
        value_range: Lowest and highest value drawn for the levels.
    """
    names, decimals = tables.shorten_factor_names(study), tables.get_decimals(study, metric)
    lines = []
    for baseline in tables.make_control_groups(study):
        control, label = baseline.control, CONTROLS[baseline.control][0]
        estimate = baseline.estimate(f"test/{metric}")
        control_factors = tables.get_factors_of_control(
            study, control if control in COMPETING else FINETUNER_ALONE
        )
        points = (
            _list_matched_points(study, metric, control, placed_groups) if control_factors else []
        )
        is_matched = bool(points)
        if is_matched:
            label += f" at the same {join_names([names[key] for key in control_factors])}"
        elif estimate:
            points = [{"y": estimate.mean}]
            label += f" {format_number(estimate.mean, decimals)}"
            label += " at the baseline" if control_factors else ""
        else:
            continue
        height = max(point["y"] for point in points)
        low, high = value_range
        reach = _REACH * (high - low)
        if any(not low - reach <= point["y"] <= high + reach for point in points):
            label, points = f"{label} (outside the plot)", []
        lines.append(ControlLine(control, label, height, points, is_matched))
    return sorted(lines, key=lambda line: -line.height)


def _list_matched_points(
    study: Study, metric: str, control: str, placed_groups: Sequence[tuple[Spec, Group]]
) -> list[Spec]:
    """Return a control's mean at each level. [] if it has no result at one of the levels."""
    if control not in COMPETING or study.sampler != "grid":
        return []
    controls = tables.find_controls_by_configuration(study, control)
    points = []
    for position, group in placed_groups:
        keys = dict.fromkeys(row["config_key"] for row in group.finished_rows)
        estimates = [controls[key].estimate(f"test/{metric}") for key in keys if key in controls]
        means = [estimate.mean for estimate in estimates if estimate]
        if means:
            points.append({**position, "y": tables.mean(means)})
    return points if len(points) == len(placed_groups) else []


def make_control_layers(lines: Sequence[ControlLine], encoding: Spec) -> Iterator[Spec]:
    """Yield the layers of the controls' lines. Nothing without controls.

    Args:
        lines: The controls. The legend includes those without points.
        encoding: Encoding of x and y.
    """
    if not lines:
        return
    legend = {"title": None, "orient": "bottom", "columns": 1, "offset": 6, "symbolType": "stroke",
              "symbolSize": 250, "symbolStrokeWidth": 1.5}  # fmt: skip
    looks: Spec = {}
    for index, channel in enumerate(("color", "strokeDash")):
        values = [_LOOKS[line.control][index] for line in lines]
        scale = {"domain": [line.label for line in lines], "range": values}
        looks[channel] = {"field": "control", "type": "nominal", "scale": scale, "legend": legend}
    horizontal_points, matched_points = (
        [
            {"control": line.label, **point}
            for line in lines
            for point in line.points
            if line.is_matched == is_matched
        ]
        for is_matched in (False, True)
    )
    horizontal_encoding = {"y": encoding["y"], **looks}
    yield vega.make_layer(
        "rule", horizontal_encoding, name="controls", values=horizontal_points, strokeWidth=1.3
    )
    if matched_points:
        line_encoding = {**encoding, **looks}
        yield vega.make_layer(
            "line", line_encoding, name="matched", values=matched_points, strokeWidth=1.3
        )
