"""The tested epoch in a report's first table."""

from reports.estimates_frame import make_estimates_frame
from reports.render import format_csv, format_tables_as_latex, format_tables_as_markdown
from reports.report import make_report
from reports.tables import build_tables
from tests.reports.builder import StoreBuilder, scores
from tests.reports.listed import listed
from tests.reports.studies import SEEDS


def trained_until(epochs: list[int], **fields: object) -> StoreBuilder:
    """Return a study of one factor whose two levels were tested at such epochs."""
    builder = StoreBuilder(seeds=range(5), **fields)  # type: ignore[arg-type]
    flags: dict[str, list[int]] = {"last_epoch": []}
    for n_ctx in (4, 8):
        results = {s: scores(50.0 + s) for s in SEEDS}
        builder.trial({"generator.n_ctx": n_ctx}, results, epochs=epochs, flags=flags)
    return builder


def shown(builder: StoreBuilder) -> list[str]:
    """Return the column of epochs as Markdown has it; [] without one."""
    table, *_ = build_tables(builder.study())
    lines = [
        line.split("|")
        for line in format_tables_as_markdown([table]).splitlines()
        if line.startswith("|")
    ]
    heads = [head.strip() for head in lines[0]]
    place = heads.index("epoch") if "epoch" in heads else None
    return [] if place is None else [line[place].strip(" *") for line in lines[2:]]


def test_epochs_have_their_median_and_their_range() -> None:
    """It is one number if all seeds agree, and 0 if training was not selected."""
    assert shown(trained_until([12, 0, 35, 12, 10])) == ["12 (0–35)"] * 2
    assert shown(trained_until([20] * 5)) == ["20"] * 2
    assert shown(trained_until([0] * 5)) == ["0"] * 2


def test_methods_without_training_have_no_epoch() -> None:
    """Zero-shot is tested at epoch 0, its only one, and has a dash."""
    builder = trained_until([20] * 5)
    builder.trial({}, {s: scores(50.0) for s in SEEDS}, control="zero_shot")
    assert shown(builder) == ["20", "20", "–"]


def test_programs_get_epochs_and_flags_as_numbers() -> None:
    """They are numbers in CSV files and in the estimates, and texts in LaTeX."""
    report = make_report(listed("tested-untrained").study())
    table = report.tables[0]
    head, first, *_ = format_csv(table).splitlines()
    row = dict(zip(head.split(","), first.split(","), strict=True))
    assert (row["epoch"], row["epoch_min"], row["epoch_max"]) == ("10", "0", "35")
    assert row["flags"] == "last_epoch 1/5; untrained 1/5"
    frame = make_estimates_frame([table]).filter(row="n_ctx 4", metric="harmonic_mean")
    assert frame.select("epoch", "epoch_min", "epoch_max").rows() == [(0.0, 0, 35)]
    assert frame["flags"].to_list() == ["last_epoch 1/5; saturated 1/5; untrained 3/5"]
    assert "& 10 (0--35) &" in format_tables_as_latex([table])
