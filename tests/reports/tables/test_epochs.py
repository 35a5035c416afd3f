"""The column of tested epochs in a report's first table."""

from reports.estimates_frame import make_estimates_frame
from reports.render import format_csv, format_tables_as_latex, format_tables_as_markdown
from reports.report import make_report
from reports.tables import build_tables
from tests.reports.builder import StoreBuilder, make_scores
from tests.reports.studies import SEEDS
from tests.reports.yaml_studies import load_yaml_study


def make_study_with_epochs(epochs: list[int], **fields: object) -> StoreBuilder:
    """Build a study of two levels that were tested at these epochs, one per seed."""
    builder = StoreBuilder(seeds=range(5), **fields)  # type: ignore[arg-type]
    flags: dict[str, list[int]] = {"last_epoch": []}
    for n_ctx in (4, 8):
        results = {s: make_scores(50.0 + s) for s in SEEDS}
        builder.add_run({"generator.n_ctx": n_ctx}, results, epochs=epochs, flags=flags)
    return builder


def read_epochs(builder: StoreBuilder) -> list[str]:
    """Return the column of epochs of the first table in Markdown, or an empty list."""
    table, *_ = build_tables(builder.make_study())
    lines = [
        line.split("|")
        for line in format_tables_as_markdown([table]).splitlines()
        if line.startswith("|")
    ]
    headings = [heading.strip() for heading in lines[0]]
    if "epoch" not in headings:
        return []
    position = headings.index("epoch")
    return [line[position].strip(" *") for line in lines[2:]]


def test_epochs_have_their_median_and_their_range() -> None:
    """The cell is one number if all seeds agree, and 0 if untrained models were selected."""
    assert read_epochs(make_study_with_epochs([12, 0, 35, 12, 10])) == ["12 (0–35)"] * 2
    assert read_epochs(make_study_with_epochs([20] * 5)) == ["20"] * 2
    assert read_epochs(make_study_with_epochs([0] * 5)) == ["0"] * 2


def test_methods_without_training_have_no_epoch() -> None:
    """The row of zero-shot has a dash, although its runs log epoch 0."""
    builder = make_study_with_epochs([20] * 5)
    builder.add_run({}, {s: make_scores(50.0) for s in SEEDS}, control="zero_shot")
    assert read_epochs(builder) == ["20", "20", "–"]


def test_epochs_and_flags_have_columns_in_csv_files_and_estimates() -> None:
    """The columns are median, minimum and maximum. LaTeX has one text."""
    report = make_report(load_yaml_study("tested-untrained").make_study())
    table = report.tables[0]
    head, first, *_ = format_csv(table).splitlines()
    row = dict(zip(head.split(","), first.split(","), strict=True))
    assert (row["epoch"], row["epoch_min"], row["epoch_max"]) == ("10", "0", "35")
    assert row["flags"] == "last_epoch 1/5; untrained 1/5"
    frame = make_estimates_frame([table]).filter(row="n_ctx 4", metric="harmonic_mean")
    assert frame.select("epoch", "epoch_min", "epoch_max").rows() == [(0.0, 0, 35)]
    assert frame["flags"].to_list() == ["last_epoch 1/5; saturated 1/5; untrained 3/5"]
    assert "& 10 (0--35) &" in format_tables_as_latex([table])
