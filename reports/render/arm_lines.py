"""The reference arms in a figure: a horizontal line each, with its label beside the axes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reports.contract import ARMS
from reports.tables import Group, by_seed, matched

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Arm -> its colour, one of Okabe and Ito's as in figures.py, and its dashes.
_ARM_LINES: dict[str, tuple[str, Any]] = {
    "zero_shot": ("#555555", (0, (1, 1.5))),
    "no_synthetic": ("#D55E00", (0, (5, 2))),
    "text_feature": ("#007A5A", (0, (5, 1.5, 1, 1.5))),
    "real_pictures": ("#AA4488", (0, (8, 2))),
}
# Arms further from the dots than this many of their ranges stand at the edge, with their value.
_REACH = 1.0


def draw_arms(
    axes: "Axes", arms: Sequence[Group], metric: str, limits: tuple[float, float]
) -> None:
    """Horizontal lines with labels beside the axes; far ones are named at the edge instead.

    Args:
        axes: with the dots; their vertical limits are set.
        arms: the reference arms; one that has not finished is left out.
        metric: name of the test metric.
        limits: the lowest and the highest value of the dots and their intervals, in percent.
    """
    low, high = limits
    reach = _REACH * (high - low)
    lines: list[tuple[float, str, str]] = []
    for arm in arms:
        seeds = by_seed(matched(arm.rows, f"test/{metric}", {}))
        if not seeds:
            continue
        mean = sum(seeds.values()) / len(seeds)
        colour, dashes = _ARM_LINES[arm.arm]
        label = ARMS[arm.arm][0].replace(" (", "\n(")
        if low - reach <= mean <= high + reach:
            axes.axhline(mean, color=colour, linestyle=dashes, linewidth=1.0, zorder=1, label=label)
            lines.append((mean, label, colour))
        else:
            arrow = "↑" if mean > high else "↓"
            lines.append((mean, f"{label} {arrow} {mean:.1f}", colour))
    inside = [mean for mean, _, _ in lines if low - reach <= mean <= high + reach]
    bottom, top = min([low, *inside]), max([high, *inside])
    margin = 0.06 * (top - bottom)
    axes.set_ylim(bottom - margin, top + margin)
    _label_lines(axes, sorted(lines))


def _label_lines(axes: "Axes", lines: Sequence[tuple[float, str, str]]) -> None:
    """Write labels at the height of their lines, pushed apart where they would overlap."""
    bottom, top = axes.get_ylim()
    gaps = [0.09 + 0.07 * label.count("\n") for _, label, _ in lines]
    places: list[float] = []
    for (mean, _, _), gap in zip(lines, gaps, strict=True):
        highest = 0.97 - gap / 4  # below the title
        wanted = min(max((mean - bottom) / (top - bottom), 0.02), highest)
        places.append(max(wanted, places[-1] + gap) if places else wanted)
    # What was pushed over the top comes down again, and takes those below along.
    for index in reversed(range(len(places))):
        above = (
            places[index + 1] - gaps[index + 1]
            if index + 1 < len(places)
            else 0.97 - gaps[index] / 4
        )
        places[index] = min(places[index], above)
    for place, (_, label, colour) in zip(places, lines, strict=True):
        axes.text(
            1.02, place, label, transform=axes.transAxes, color=colour, fontsize=6.5,
            va="center", ha="left", linespacing=0.95,
        )  # fmt: skip
