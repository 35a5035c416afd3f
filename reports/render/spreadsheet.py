"""Tables as CSV, for programs."""

import csv
import io
from collections.abc import Iterator, Sequence

import polars as pl

from reports.stats import Estimate
from reports.tables import Cell, Counts, PValue, Quantity, Ranged, Table, Text, Value, on_test

_FIELDS = ("mean", "low", "high", "n")
# What a spreadsheet takes for a formula where a cell begins with it.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def csv_text(table: Table, *, plain: bool = False) -> str:
    """All rows at full precision: mean, low, high and n of every estimate in columns of their own.

    A text that a spreadsheet would take for a formula has an apostrophe before it.

    What is not known is an empty field. `selection_rule` says "selected on test" where it was;
    `flags` lists FLAG RAISED/OF; `added` tells what --path ran.

    Args:
        table: that is written.
        plain: leave such texts as they are, for a reader that is no spreadsheet.
    """
    names = {column.key: _names(table, column.key) for column in table.columns}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    shield = str if plain else _no_formula
    headings = [heading for found in names.values() for heading in found]
    headings += ["section", "baseline", "arm", "selection_rule", "flags", "added"]
    writer.writerow(map(shield, headings))
    for row in table.rows:
        values = [
            value for key, found in names.items() for value in _values(row.cells.get(key), found)
        ]
        selection = "selected on test" if on_test(row.selection) else row.selection
        flags = "; ".join(f"{flag.name} {flag.raised}/{flag.of}" for flag in row.flags)
        baseline, added = (str(said).lower() for said in (row.baseline, row.added))
        values += [row.section, baseline, row.arm, selection, flags, added]
        writer.writerow(shield(str(value)) for value in values)
    return buffer.getvalue()


def no_formulas(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame for a CSV file in which no spreadsheet finds a formula: see csv_text."""
    texts = pl.col(pl.String).map_elements(_no_formula, return_dtype=pl.String)
    return frame.with_columns(texts).rename(_no_formula)


def _no_formula(text: str) -> str:
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def csv_stream(tables: Sequence[Table]) -> str:
    """All tables as one CSV, which polars.read_csv and pandas.read_csv take without options.

    The first column, `table`, is the table's name; the others are those of csv_text, whichever
    table has them. A factor has one column in all tables, by its heading (n_ctx), which is empty
    for reference arms (column arm). As readers guess a column's type from its first rows, a number
    that is not known is NaN, and what is no number among numbers ("1 of 3") stands in a column of
    its own, datasets_text beside datasets. A text that is not known is empty.
    """
    frame = pl.concat([_labelled(table) for table in tables], how="diagonal")
    typed = pl.DataFrame([part for column in frame for part in _typed(column)])
    return no_formulas(typed).write_csv()


def _labelled(table: Table) -> pl.DataFrame:
    """A table's CSV as texts; its labels are under their headings, and empty for arms."""
    frame = pl.read_csv(io.StringIO(csv_text(table, plain=True)), infer_schema=False)
    labels = table.columns[: table.labels]
    own = pl.col("arm").is_null()
    frame = frame.with_columns(
        pl.when(own).then(pl.col(label.key).replace("–", None)).alias(label.key) for label in labels
    )
    others = {"table", *frame.columns} - {label.key for label in labels}
    headings = {
        label.key: f"space.{label.heading}" if label.heading in others else label.heading
        for label in labels
    }
    return frame.rename(headings).insert_column(0, pl.lit(table.name).alias("table"))


def _typed(texts: pl.Series) -> Iterator[pl.Series]:
    """Texts that are numbers as numbers, whole ones where all are; the others beside them."""
    numbers, whole = (texts.cast(kind, strict=False) for kind in (pl.Float64, pl.Int64))
    others = texts.filter(numbers.is_null()).null_count() < numbers.null_count()
    measured = texts.name.endswith(tuple(f"_{field}" for field in _FIELDS))
    if numbers.null_count() == len(texts) and (others or not measured):
        yield texts
    elif others:
        yield numbers.fill_null(float("nan"))
        yield texts.set(numbers.is_not_null(), None).alias(f"{texts.name}_text")
    else:
        yield whole if whole.null_count() == 0 else numbers.fill_null(float("nan"))


def _names(table: Table, key: str) -> list[str]:
    """The CSV columns of one table column, by the kind of its cells."""
    kinds = {type(row.cells[key]) for row in table.rows if key in row.cells}
    if Counts in kinds:
        return ["n", "failed", "pruned", "missing"]
    if kinds & {Value, Ranged}:
        return [f"{key}_{field}" for field in _FIELDS]
    return [key]


def _values(cell: Cell | None, names: Sequence[str]) -> list[object]:
    empty: list[object] = [""] * len(names)
    match cell:
        case Counts(done, failed, pruned, missing):
            return [done, failed, pruned, missing]
        case Value(Estimate(mean, low, high, n)) | Ranged(Estimate(mean, low, high, n)):
            return [repr(mean), *("" if end is None else repr(end) for end in (low, high)), n]
        case PValue(p):
            return [repr(p)]
        case Quantity(number):
            return [int(number) if number == int(number) else repr(number)]
        case Text(text, exact) if len(names) == 1:
            return [exact or text]
    return empty
