"""Tables: what enters a mean, what is compared to what, and what every table must say."""

import numpy as np
import pytest
from scipy import stats as reference

from reports.stats import holm, minimum_detectable
from reports.tables.build import build_tables
from tests.reports.builder import prompt_len
from tests.reports.tables.cells import cells_of

N_CTX = "generator.n_ctx"


def test_a_table_is_one_family() -> None:
    """Holm counts levels and arms together, and so does the smallest difference that is found."""
    study = prompt_len().study()
    table, *_ = build_tables(study)
    rows = study.rows
    base = rows.filter(rows[N_CTX] == 4)["test/harmonic_mean"].to_numpy()
    arms = ("zero_shot", "no_synthetic", "text_feature", "real_pictures")
    compared = [rows.filter(rows[N_CTX] == n) for n in (1, 2, 8, 16)]
    compared += [rows.filter(rows["arm"] == arm) for arm in arms]
    values = [part["test/harmonic_mean"].to_numpy() for part in compared]
    raw = [reference.ttest_rel(value, base).pvalue for value in values]
    found = [row.cells for row in table.rows if not row.baseline]
    assert [cells["p"].p for cells in found] == pytest.approx(holm(raw))
    for cells, value in zip(found, values, strict=True):
        expected = minimum_detectable(float(np.std(value - base, ddof=1)), 5, 8)
        assert cells["detectable"].number == pytest.approx(expected)
    assert any("Holm over the table (comparisons: 8)" in note for note in table.notes)


def test_order_of_runs_does_not_matter() -> None:
    """The same runs in another order, listed in another order, give the same table."""
    one, other = prompt_len(), prompt_len()
    other.runs.reverse()
    other.wanted.reverse()
    assert build_tables(one.study()) == build_tables(other.study())


def test_an_arm_that_is_the_baseline_differs_by_nothing() -> None:
    """A reference arm that shares the baseline's runs has the difference 0 and p 1."""
    builder = prompt_len()
    builder.wanted = [w for w in builder.wanted if w["arm"] != "text_feature"]
    builder.want({}, arm="text_feature", key='{"generator.n_ctx": 4}')
    table, *_ = build_tables(builder.study())
    cells = cells_of(table, "text feature").cells
    assert cells["difference"].estimate.mean == 0.0
    assert cells["harmonic_mean"] == cells_of(table, "4").cells["harmonic_mean"]
