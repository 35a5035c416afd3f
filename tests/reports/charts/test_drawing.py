"""The pictures of charts, which no other test of this process draws."""

import io

import pytest
from PIL import Image

from reports.charts import chart_bytes, factor_chart
from tests.reports.builder import StoreBuilder, prompt_len, scores
from tests.reports.charts.test_charts import STUDIES, charts_of
from tests.reports.studies import one_factor

ODD = ("\x1b[2J", "\x00", "\ufffe", "𝕏", "</text>", "a" * 500, "constructor")


def test_one_chart_of_each_kind_is_drawn() -> None:
    """Of levels of any characters, too: what XML cannot hold would end the process, not raise."""
    builder = StoreBuilder(name="odd", factors=one_factor("finetuner", ["coop", *ODD], "coop"))
    for level in ("coop", *ODD):
        builder.trial({"finetuner": level}, {s: scores(55.0 + s) for s in range(2)})
    every = [*charts_of(builder).values()]
    for make in STUDIES.values():
        every += charts_of(make()).values()
    kinds = {chart.name.split("-")[0]: chart for chart in reversed(every)}
    for chart in (every[0], *kinds.values()):
        assert all(chart_bytes(chart).values())


def test_files() -> None:
    """A paper's column wide, fonts embedded and none of Type 3; PNG alike every time."""
    study = prompt_len().study()
    (chart,) = factor_chart(study, study.factors[0], "harmonic_mean")
    first, second = chart_bytes(chart), chart_bytes(chart)
    assert first["png"] == second["png"]
    picture = Image.open(io.BytesIO(first["png"]))
    assert picture.width == pytest.approx(4 * 3.3 * 72, abs=4)
    assert first["pdf"].startswith(b"%PDF") and b"/Font" in first["pdf"]
    assert b"/Type3" not in first["pdf"]
    assert b"<svg" in first["svg"] and b"<script" not in first["svg"]
    wide = Image.open(io.BytesIO(chart_bytes(chart, 6.9)["png"]))
    assert wide.width == pytest.approx(4 * 6.9 * 72, abs=4)
