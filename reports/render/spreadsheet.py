"""Tables as CSV, for programs."""

from collections.abc import Iterator, Sequence

import polars as pl

from reports.cells import Cell, Counts, PValue, Quantity, Ranged, Spread, Table, Text, Value
from reports.formatting import DASH
from reports.tables import on_test

_FIELDS = ("mean", "low", "high", "n")
_COUNTS = {"n": "done", "failed": "failed", "pruned": "pruned", "missing": "missing"}
# What a spreadsheet takes for a formula where a cell begins with it.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def table_frame(table: Table) -> pl.DataFrame:
    """All rows at full precision, as texts: mean, low, high and n of an estimate in four columns.

    Median, minimum and maximum of epochs are in three. What is not known is null. `selection_rule`
    says "selected on test" where it was; `flags` lists FLAG RAISED/OF.
    """
    rows, told = table.rows, dict[str, Sequence[object]]()
    for column in table.columns:
        found = [_fields(column.key, row.cells.get(column.key)) for row in rows]
        names = max(found, key=len, default={}) or [column.key]
        told |= {name: [fields.get(name) for fields in found] for name in names}
    rules = ["selected on test" if on_test(row.selection) else row.selection for row in rows]
    told |= {
        "section": [row.section for row in rows],
        "baseline": [str(row.baseline).lower() for row in rows],
        "arm": [row.arm or None for row in rows],
        "selection_rule": [rule or None for rule in rules],
        "flags": [row.flag_counts or None for row in rows],
    }
    texts = {
        name: [None if one is None else str(one) for one in values] for name, values in told.items()
    }
    return pl.DataFrame(texts, dict.fromkeys(texts, pl.String))


def csv_text(table: Table) -> str:
    """The table's frame as CSV.

    A text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    return no_formulas(table_frame(table)).write_csv()


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
    """A table's frame, whose labels are under their headings, and empty for arms."""
    frame, labels = table_frame(table), table.columns[: table.labels]
    own = pl.col("arm").is_null()
    frame = frame.with_columns(
        pl.when(own).then(pl.col(label.key).replace(DASH, None)).alias(label.key)
        for label in labels
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


def _fields(key: str, cell: Cell | None) -> dict[str, object]:
    """A cell in the CSV columns that its kind has; several of an estimate and of counts."""
    match cell:
        case Counts():
            return {name: getattr(cell, field) for name, field in _COUNTS.items()}
        case Value(estimate) | Ranged(estimate):
            return {f"{key}_{field}": getattr(estimate, field) for field in _FIELDS}
        case PValue(p):
            return {key: p}
        case Quantity(number):
            return {key: int(number) if number == int(number) else number}
        case Spread(median, low, high):
            return {key: median, f"{key}_min": low, f"{key}_max": high}
        case Text(text, exact):
            return {key: exact or text}
    return {}
