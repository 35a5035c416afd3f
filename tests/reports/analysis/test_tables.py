"""Importance, interactions and paths as tables that every format can show."""

import numpy as np
import pytest

from reports.contract import ReportError
from reports.report import make_report
from reports.tables.formatting import cell_text
from reports.tables.model import Table
from tests.reports.analysis.planted import drawn, grid, levelled, planted
from tests.reports.builder import StoreBuilder, prompt_len
from tests.reports.studies import cross_dataset, one_factor, over_datasets


def tables(builder: StoreBuilder) -> dict[str, Table]:
    """The tables by name."""
    return {table.name: table for table in make_report(builder.study()).together}


def shown(table: Table, column: str) -> list[str]:
    """A column's cells as a page has them."""
    return [cell_text(row.cells.get(column)) for row in table.rows]


def test_tables_of_a_grid() -> None:
    """A grid has its factors and pairs by size, the tests of its pairs, their cells, and a path."""
    made = tables(grid((2, 3, 2), lambda s: 2.0 * s["f1"] + s["f0"]))
    assert list(made) == ["importance", "interactions", "interaction-cells", "path"]
    effects = shown(made["importance"], "effect")
    assert effects[:3] == ["f1", "f0", "f2"] and len(effects) == 7
    assert effects[-1] == "three and more factors together"
    assert made["importance"].title == "planted: importance of factors"
    share = shown(made["importance"], "share")[0]
    assert 75 < float(share.split()[0]) < 100 and share.endswith("]")
    assert sorted(shown(made["interactions"], "freedom")) == ["1, 4", "2, 8", "2, 8"]
    assert len(made["interaction-cells"].rows) == 6 + 4 + 6
    assert shown(made["path"], "change")[:2] == ["baseline", "f1 0 → 2"]


def test_notes_say_what_is_missing() -> None:
    """Trials that are not in the shares, and settings that the path would have looked at."""
    assignments = [{"f0": a, "f1": b} for a in range(2) for b in range(3) if (a, b) != (1, 0)]
    builder = planted(
        levelled((2, 3)), assignments, lambda s: 9.0 * s["f0"] + s["f1"], 5,
        np.random.default_rng(0),
    )  # fmt: skip
    builder.want({"f0": 1, "f1": 0})
    made = tables(builder)
    assert any("1 of 6 settings did not finish" in note for note in made["importance"].notes)
    assert any("f0=1 f1=0" in note for note in made["path"].notes)


def test_sampled_study_says_how_its_shares_are_made() -> None:
    """Settings that were drawn have no pairs, no cells, and no baseline."""
    made = tables(drawn(3, 40, lambda s: 3.0 * s["x1"]))
    assert list(made) == ["importance"]
    assert shown(made["importance"], "effect") == ["x1", *shown(made["importance"], "effect")[1:3],
                                                   "the rest"]  # fmt: skip
    assert any("Freedman-Lane" in note for note in made["importance"].notes)


def test_one_factor_has_none() -> None:
    """The table of one factor says all that there is."""
    assert not make_report(prompt_len().study()).together
    assert not make_report(over_datasets().study()).together


def test_over_datasets_the_averages_are_analysed() -> None:
    """Two factors over two datasets: shares of the averages, and the title says so."""
    factors = one_factor("dataset", ["emoji", "dtd"], "emoji") + levelled((2, 3))
    assignments = [
        {"dataset": d, "f0": a, "f1": b} for d in ("emoji", "dtd") for a in (0, 1) for b in range(3)
    ]
    builder = planted(
        factors, assignments, lambda s: 20.0 * (s["dataset"] == "dtd") + 2.0 * s["f1"], 5,
        np.random.default_rng(0),
    )  # fmt: skip
    made = tables(builder)["importance"]
    assert shown(made, "effect")[0] == "f1" and "average over 2 datasets" in made.title


def test_other_metrics() -> None:
    """Another protocol's default, a metric that is asked for, and one that there is not."""
    study = cross_dataset(shots=(1, 16)).study()
    assert any("Average" in c.heading or "verage" in c.heading
               for c in make_report(study).together[0].columns)  # fmt: skip
    assert "source" in study.protocol.headings and make_report(study, "source").together
    with pytest.raises(ReportError, match="no test metric 'nonsense'"):
        make_report(study, "nonsense")
