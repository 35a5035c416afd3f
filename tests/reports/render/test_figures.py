"""Figures are read back from their axes: what is drawn is what the table says."""

import io
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reports.render.figures import factor_figure, figure_bytes
from reports.tables.build import build_tables

Build = Callable[..., Any]
N_CTX = "generator.n_ctx"


def draw(builder: Any, place: int = 0) -> Any:
    """The axes of a study's factor."""
    study = builder.study()
    figure = factor_figure(study, study.factors[place], "harmonic_mean")
    assert figure is not None
    return figure.axes[0]


def means(axes: Any) -> dict[float, float]:
    """x -> y of the mean markers."""
    (line,) = [line for line in axes.lines if line.get_label() == "mean"]
    return dict(zip(map(float, line.get_xdata()), map(float, line.get_ydata()), strict=True))


def dots(axes: Any) -> np.ndarray:
    """The dots, (n, 2)."""
    (found,) = [c for c in axes.collections if c.get_label() == "dots"]
    return np.asarray(found.get_offsets())


def words(axes: Any) -> list[str]:
    """The labels beside the axes."""
    return [text.get_text() for text in axes.texts]


def test_means_intervals_and_dots_are_the_tables(packaged: Build) -> None:
    """Markers, error bars and dots hold exactly the numbers of the ablation table."""
    builder = packaged()
    table, *_ = build_tables(builder.study())
    axes = draw(builder)
    estimates = [row.cells["harmonic_mean"].estimate for row in table.rows[:5]]
    assert list(means(axes)) == [1, 2, 4, 8, 16]
    assert list(means(axes).values()) == pytest.approx([e.mean for e in estimates])
    (bars,) = [c for c in axes.collections if c.get_label() != "dots"]
    ends = [(segment[0][1], segment[1][1]) for segment in bars.get_segments()]
    assert ends == [pytest.approx((e.low, e.high)) for e in estimates]
    rows = builder.study().rows.drop_nulls(N_CTX)
    expected = sorted(rows.select(N_CTX, "test/harmonic_mean").rows())
    assert sorted(map(tuple, dots(axes))) == [pytest.approx(pair) for pair in expected]


def test_arms_are_lines_or_named_at_the_edge(packaged: Build) -> None:
    """Near arms are horizontal lines at their mean; a far one keeps the axis readable."""
    builder = packaged()
    axes = draw(builder)
    rows = builder.study().rows
    for arm, label in (("zero_shot", "zero-shot"), ("text_feature", "text feature")):
        (line,) = [line for line in axes.lines if line.get_label() == label]
        mean = rows.filter(rows["arm"] == arm)["test/harmonic_mean"].mean()
        assert list(line.get_ydata()) == pytest.approx([mean, mean])
    assert "real pictures\n(ceiling) ↑ 70.7" in words(axes)
    assert axes.get_ylim()[1] < 65


def test_labels_of_arms_do_not_overlap(packaged: Build) -> None:
    """Labels keep their distance even where two arms coincide."""
    axes = draw(packaged())
    heights = sorted(text.get_position()[1] for text in axes.texts)
    assert min(b - a for a, b in itertools.pairwise(heights)) > 0.08
    assert heights[0] >= 0 and heights[-1] <= 1


@pytest.mark.parametrize(
    ("levels", "log", "scale"),
    [([1, 2, 4, 8, 16], False, "log"), ([1e-4, 1e-2, 1.0], True, "log"),
     ([1, 2, 3], False, "linear"), ([2, 4, 6, 8, 20], False, "linear"),
     ([16, 64, 128, 256, 512], False, "log"),
     ([0, 1, 2, 4], True, "linear"), ([0.5, 1.0], True, "log")],
)  # fmt: skip
def test_axis_scale(
    build: Build, percentages: Build, levels: list[float], log: bool, scale: str
) -> None:
    """Log for log factors and geometric levels; never where a level is 0; a tick at each level."""
    factors = [{"key": N_CTX, "levels": levels, "log": log, "baseline": levels[0]}]
    builder = build(factors=factors, seeds=(0, 1))
    for level in levels:
        builder.trial({N_CTX: level}, {s: percentages(55.0 + s) for s in range(2)})
    axes = draw(builder)
    assert axes.get_xscale() == scale
    assert list(axes.get_xticks()) == pytest.approx(levels)


def test_categories_have_places_and_no_line(build: Build, percentages: Build) -> None:
    """Names stand at 0, 1, ... in the study's order, and nothing joins them."""
    levels = ["tip_adapter", "coop"]
    factors = [{"key": "finetuner", "levels": levels, "log": False, "baseline": "coop"}]
    builder = build(factors=factors, seeds=(0, 1))
    for name in levels:
        builder.trial({"finetuner": name}, {s: percentages(55.0 + s) for s in range(2)})
    axes = draw(builder)
    assert [text.get_text() for text in axes.get_xticklabels()] == levels
    assert list(means(axes)) == [0, 1]
    assert not [line for line in axes.lines if line.get_linestyle() == "-"]


def test_one_seed_has_a_mark_and_no_interval(build: Build, percentages: Build) -> None:
    """Without an interval the error bar has no length."""
    builder = build(seeds=(0,))
    for n_ctx in (2, 4):
        builder.trial({N_CTX: n_ctx}, {0: percentages(55.0)})
    axes = draw(builder)
    (bars,) = [c for c in axes.collections if c.get_label() != "dots"]
    assert all(segment[0][1] == segment[1][1] for segment in bars.get_segments())


def test_sampled_study_shows_settings_and_no_level_means(build: Build, percentages: Build) -> None:
    """Where a sampler chose the other factors, a level's mean would mean nothing."""
    factors = [
        {"key": "generator.kl_weight", "levels": None, "log": True, "baseline": None},
        {"key": N_CTX, "levels": [1, 2], "log": False, "baseline": 1},
    ]
    builder = build(factors=factors, sampler="tpe", trials=6, seeds=(0, 1))
    for place in range(6):
        assignment = {"generator.kl_weight": 0.01 * 2**place, N_CTX: 1 + place % 2}
        builder.trial(assignment, {s: percentages(50.0 + place + s) for s in range(2)})
    axes = draw(builder, 1)
    assert len(dots(axes)) == 6
    assert not [line for line in axes.lines if line.get_label() == "mean"]
    assert "each dot one setting" in axes.get_title("left")


@pytest.mark.parametrize("selection", ["test", "pseudo_new"])
def test_title_carries_the_warnings(packaged: Build, selection: str) -> None:
    """A picture travels without its table, so it says so itself."""
    title = draw(packaged(selection=selection)).get_title("left")
    assert ("selected on test" in title) == (selection == "test")
    assert "demonstration backbone" in title


def test_nothing_finished_is_no_figure(build: Build) -> None:
    """A study without a number has no figure."""
    study = build(seeds=(0,)).trial({N_CTX: 4}, {0: {}}, state="FAIL").study()
    assert factor_figure(study, study.factors[0], "harmonic_mean") is None


def test_files(packaged: Build) -> None:
    """200 dpi PNG at a column's width, PDF with TrueType fonts, and the same bytes every time."""
    study = packaged().study()
    first, second = (
        figure_bytes(factor_figure(study, study.factors[0], "harmonic_mean"))  # type: ignore[arg-type]
        for _ in range(2)
    )
    picture = Image.open(io.BytesIO(first["png"]))
    assert picture.size == pytest.approx((700, 460), abs=1)  # the height goes by the fonts
    assert picture.info["dpi"] == pytest.approx((200, 200), abs=0.1)
    assert first["pdf"].startswith(b"%PDF") and b"/Type3" not in first["pdf"]
    assert first == second


def test_no_pyplot_and_no_lasting_style(packaged: Build) -> None:
    """Drawing leaves matplotlib's settings as they were."""
    import sys

    import matplotlib as mpl

    before = dict(mpl.rcParams)
    draw(packaged())
    assert dict(mpl.rcParams) == before
    assert "seaborn" not in sys.modules
