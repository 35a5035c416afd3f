"""A metric against one factor: every seed's dot, means with 95% intervals, the reference arms."""

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reports.read import Factor, Study, heading
from reports.render.arm_lines import draw_arms
from reports.stats import Estimate
from reports.tables import (
    MOST_LEVELS,
    Group,
    arm_groups,
    by_seed,
    chosen_by,
    interval_of,
    is_numeric,
    level_groups,
    level_text,
    matched,
    on_test,
    short_name,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart by colour-blind readers, and by dashes in grey print.
_BLUE, _LIGHT = "#0072B2", "#56B4E9"
_STYLE: dict[Any, Any] = {
    "font.size": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "pdf.fonttype": 42,  # journals refuse Type 3
    "svg.fonttype": "none",
}
_SIZE = (3.5, 2.3)  # inches, a paper's column; the labels of the arms stand at the right
_TITLE = 60  # characters of one line


@dataclass(frozen=True)
class Point:
    """One place on the axis.

    dots: the seeds' values; in a sampled study of several factors the settings' means, and then no
        estimate: a level's mean would mix in whatever else the sampler chose there.
    """

    x: float
    label: str
    dots: tuple[float, ...]
    estimate: Estimate | None


def factor_figure(
    study: Study, factor: Factor, metric: str, *, arms: bool = True
) -> "Figure | None":
    """Draw a test metric in percent against a factor.

    Args:
        study: whose finished rows are drawn.
        factor: the horizontal axis.
        metric: name of the metric, without its split.
        arms: whether the reference arms are drawn, too, as horizontal lines.

    Returns:
        None where nothing has finished.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = level_groups(study, factor)
    numeric = is_numeric([group.value for group in groups])
    scattered = study.sampler != "grid" and len(study.factors) > 1
    points = _points(groups, metric, numeric=numeric, scattered=scattered)
    if not points:
        return None
    with rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _draw_points(axes, points, joined=numeric and len(groups) <= MOST_LEVELS)
        _scale(axes, factor, points, numeric=numeric)
        draw_arms(axes, arm_groups(study) if arms else [], metric, _limits(points))
        axes.set_xlabel(_plain(short_name(study, factor)))
        axes.set_ylabel(_plain(f"test {heading(study.protocol, metric)} (%)"))
        axes.set_title(_plain(_title(study, scattered=scattered)), fontsize=7, loc="left")
        axes.tick_params(width=0.6, length=2.5)
        axes.grid(axis="y", color="#E4E4E4", linewidth=0.5)
        axes.set_axisbelow(True)
    return figure


def figure_bytes(figure: "Figure") -> dict[str, bytes]:
    """The figure as {"png": 200 dpi, "pdf": with embedded TrueType}, the same bytes every time."""
    from matplotlib import rc_context

    files = {}
    with rc_context(_STYLE):
        for kind, extra in (("png", {}), ("pdf", {"CreationDate": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=200, metadata={**extra})
            files[kind] = buffer.getvalue()
    return files


def _points(groups: Sequence[Group], metric: str, *, numeric: bool, scattered: bool) -> list[Point]:
    points = []
    for place, group in enumerate(groups):
        if scattered:
            parts = group.done.partition_by("setting_key", maintain_order=True)
            found = [by_seed(matched(part, f"test/{metric}", {})) for part in parts]
            dots = [sum(seeds.values()) / len(seeds) for seeds in found if seeds]
        else:
            dots = list(by_seed(matched(group.rows, f"test/{metric}", {})).values())
        if dots:
            x = float(group.value) if numeric else float(place)
            estimate = None if scattered else interval_of(metric, dots)
            points.append(Point(x, level_text(group.value), tuple(dots), estimate))
    return points


def _plain(text: str) -> str:
    """A text in which matplotlib reads no formula."""
    return text.replace("$", r"\$")


def _draw_points(axes: "Axes", points: Sequence[Point], *, joined: bool) -> None:
    dots = [(point.x, value) for point in points for value in point.dots]
    look: dict[str, Any] = {"color": _LIGHT, "edgecolors": "white", "linewidths": 0.4}
    axes.scatter([x for x, _ in dots], [y for _, y in dots], s=9, zorder=4, label="dots", **look)
    measured = [(point.x, point.estimate) for point in points if point.estimate is not None]
    if not measured:
        return
    xs, means = [x for x, _ in measured], [e.mean for _, e in measured]
    sides = [
        [0.0 if e.low is None else e.mean - e.low for _, e in measured],
        [0.0 if e.high is None else e.high - e.mean for _, e in measured],
    ]
    axes.errorbar(
        xs, means, yerr=sides, fmt="none", ecolor=_BLUE, elinewidth=1.0, capsize=2.5, zorder=3
    )
    if joined:
        axes.plot(xs, means, color=_BLUE, linewidth=1.0, zorder=3)
    axes.plot(
        xs, means, color=_BLUE, linestyle="none", marker="D", markersize=4.2,
        markeredgecolor="white", markeredgewidth=0.5, zorder=5, label="mean",
    )  # fmt: skip


def _scale(axes: "Axes", factor: Factor, points: Sequence[Point], *, numeric: bool) -> None:
    """Log axis for log factors and levels that multiply; a tick at each level where few."""
    from matplotlib.ticker import NullFormatter, NullLocator

    xs = [point.x for point in points]
    if numeric and min(xs) > 0 and (factor.log or _multiplies(xs)):
        axes.set_xscale("log")
    few = len(points) <= MOST_LEVELS
    if not few:
        return
    labels = [_plain(point.label) for point in points]
    slanted = not numeric and sum(map(len, labels)) > 40
    turn: dict[str, Any] = {"rotation": 20, "ha": "right"} if slanted else {}
    axes.set_xticks(xs, labels, **turn)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    if not numeric:
        axes.set_xlim(-0.5, max(xs) + 0.5)


def _multiplies(xs: Sequence[float]) -> bool:
    """Say whether levels grow by factors rather than steps, as 1, 2, 4, 8 or 16, 64, 512 do."""
    ratios = [after / before for before, after in itertools.pairwise(xs)]
    return len(xs) > 2 and min(ratios) >= 1.5 and xs[-1] >= 8 * xs[0]


def _limits(points: Sequence[Point]) -> tuple[float, float]:
    """The range of dots and intervals, never of zero height."""
    values = [value for point in points for value in point.dots]
    for e in (point.estimate for point in points if point.estimate is not None):
        # An interval of two seeds may be vast; the dots then decide, and it is cut off.
        if e.low is not None and e.high is not None and e.n > 2:
            values += [e.low, e.high]
    low, high = min(values), max(values)
    return (low, high) if high - low > 0.5 else (low - 0.5, high + 0.5)


def _title(study: Study, *, scattered: bool) -> str:
    """What the picture must not be read without."""
    parts = [study.name]
    if study.pooled:
        parts.append(study.scope)
    if len(study.factors) > 1:
        parts.append("each dot one setting" if scattered else "mean over the other factors")
    if on_test(chosen_by(study.rows["selection"].to_list())):
        parts.append("selected on test")
    if study.demonstration:
        parts.append("demonstration backbone")
    # A paper's column holds some sixty characters of a title.
    whole = " · ".join(parts)
    return whole if len(whole) <= _TITLE else " · ".join(parts[:-1]) + f"\n{parts[-1]}"
