"""The table of what selection chose, and the line that names what it would take."""

from reports.contract import FLAGS
from reports.tables.build import build_tables
from reports.tables.model import Table, Text
from tests.reports.builder import StoreBuilder, scores
from tests.reports.studies import SEEDS, one_factor
from tests.reports.tables.cells import cells_of

ALPHA, EPOCH = "selection/alpha", "selection_epoch"


def tip(**keys: object) -> StoreBuilder:
    """Two levels of shots under Tip-Adapter-F, whose choices differ from seed to seed."""
    builder = StoreBuilder(name="tip", factors=one_factor("shots", [4, 16], 4), **keys)  # type: ignore[arg-type]
    for shots, better in ((4, 0.0), (16, 2.0)):
        results = {s: scores(50.0 + better + s) for s in SEEDS}
        edge = {"grid_edge": [0, 1] if shots == 16 else [], "last_epoch": []}
        run = builder.trial({"shots": shots}, results, flags=edge).runs[-1]
        for seed in SEEDS:
            run.metrics[f"seed_{seed}/{ALPHA}"] = 10.0 if seed < 2 and shots == 16 else 3.0
            run.metrics[f"seed_{seed}/{EPOCH}"] = float(seed)
    return builder


def table_of(builder: StoreBuilder, name: str) -> Table:
    """One of a study's tables."""
    return next(table for table in build_tables(builder.study()) if table.name == name)


def test_epochs_and_alphas_are_counted_over_seeds() -> None:
    """The median with its range, and each value with its seeds; edges are marked and explained."""
    table = table_of(tip(), "selected")
    cells = cells_of(table, "16").cells
    assert cells["epoch"] == Text("2 (0–4)")
    assert cells["alpha"] == Text("3 (3), 10 (2)")
    assert "beta" not in cells
    assert [flag.name for flag in cells_of(table, "16").flags] == ["grid_edge"]
    label, meaning = FLAGS["grid_edge"]
    assert any(f"† {label} in 2 of 10 trials" in note and meaning in note for note in table.notes)
    assert table.place == "files"


def test_what_was_not_searched_has_no_column() -> None:
    """A configured alpha is no choice: without a grid there is no edge that could be flagged."""
    builder = tip()
    for run in builder.runs:
        for key in [key for key in run.metrics if "grid_edge" in key]:
            del run.metrics[key]
        run.tags.pop("ship.flags", None)
    columns = [column.key for column in table_of(builder, "selected").columns]
    assert columns == ["level", "n", "score", "epoch"]


def test_the_setting_that_selection_would_take_is_named_in_the_first_table() -> None:
    """With its score, which has a column there; it need not be the best one on test."""
    builder = tip()
    for seed in SEEDS:
        builder.runs[1].metrics[f"seed_{seed}/test/harmonic_mean"] = 1.0
    table = table_of(builder, "shots")
    mean = sum(scores(52.0 + s)["harmonic_mean"] - 3 for s in SEEDS) / len(SEEDS)
    (line,) = [note for note in table.notes if note.startswith("selection alone")]
    assert line.startswith(f"selection alone would take shots 16: sel. H {mean:.1f}, ")
    assert cells_of(table, "16").cells["objective"].estimate.mean == mean  # type: ignore[union-attr]


def test_what_selected_nothing_has_no_such_table() -> None:
    """Selection none measures nothing: neither table nor line nor score."""
    builder = tip(selection="none")
    for run in builder.runs:
        for key in [key for key in run.metrics if "/selection/" in key]:
            del run.metrics[key]
    (table,) = build_tables(builder.study())
    assert not any("selection alone" in note for note in table.notes)
    assert "nothing is selected: settings as given, tested at the last epoch" in table.notes


def test_the_authors_rule_is_a_leak_in_every_table() -> None:
    """In the title, and in words of its own."""
    for table in build_tables(tip(selection="reference").study()):
        assert table.title.endswith("(selected on test)")
        assert any("as SHIP's authors do" in note for note in table.notes)
    few = build_tables(tip(selection="few_val").study())[0]
    assert "epochs selected on a few base-class validation pictures" in few.notes
