"""Tables as CSV files."""

from collections.abc import Iterator, Sequence

import polars as pl

from reports.cells import Cell, Counts, PValue, Quantity, Ranged, Spread, Table, Text, Value
from reports.formatting import DASH
from reports.tables import uses_test_images

_FIELDS = ("mean", "low", "high", "n")
_COUNTS = {"n": "finished", "failed": "failed", "pruned": "pruned", "missing": "missing"}
# Characters at the start of a cell that a spreadsheet interprets as a formula.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def table_frame(table: Table) -> pl.DataFrame:
    """Return all rows of a table at full precision, as text; unknown values are null.

    An estimate has four columns: mean, low, high and n. Epochs have three: median, minimum and
    maximum. `selection_rule` is "selected on test" if selection used test images. The texts in
    `flags` have the form "FLAG RAISED/CHECKED", in numbers of trials.
    """
    rows, columns = table.rows, dict[str, Sequence[object]]()
    for column in table.columns:
        cells = [_cell_fields(column.key, row.cells.get(column.key)) for row in rows]
        names = max(cells, key=len, default={}) or [column.key]
        columns |= {name: [fields.get(name) for fields in cells] for name in names}
    rules = [
        "selected on test" if uses_test_images(row.selection) else row.selection for row in rows
    ]
    columns |= {
        "section": [row.section for row in rows],
        "baseline": [str(row.is_baseline).lower() for row in rows],
        "control": [row.control or None for row in rows],
        "selection_rule": [rule or None for rule in rules],
        "flags": [row.flag_counts or None for row in rows],
    }
    texts = {
        name: [None if value is None else str(value) for value in values]
        for name, values in columns.items()
    }
    return pl.DataFrame(texts, dict.fromkeys(texts, pl.String))


def csv_text(table: Table) -> str:
    """Return the table's frame as CSV.

    Text that a spreadsheet would interpret as a formula gets a leading apostrophe.
    """
    return escape_formulas(table_frame(table)).write_csv()


def escape_formulas(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame in which no text or heading is a formula for a spreadsheet; see csv_text."""
    texts = pl.col(pl.String).map_elements(_escape_formula, return_dtype=pl.String)
    return frame.with_columns(texts).rename(_escape_formula)


def _escape_formula(text: str) -> str:
    """Return the text with a leading apostrophe if it looks like a formula and is not a number."""
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def csv_stream(tables: Sequence[Table]) -> str:
    """Return all tables as one CSV that polars.read_csv and pandas.read_csv read without options.

    The first column, `table`, is the table's name. The others are the columns of csv_text of all
    tables. A factor has the same column in all tables, named by its heading (n_ctx); it is empty
    for controls, which are in the column control. Readers infer a column's type from its first
    rows. Therefore unknown numbers are NaN, unknown text is empty, and text among numbers ("1 of
    3") is in a separate column, such as datasets_text for datasets.
    """
    frame = pl.concat([_name_labels(table) for table in tables], how="diagonal")
    typed_frame = pl.DataFrame([part for column in frame for part in _infer_types(column)])
    return escape_formulas(typed_frame).write_csv()


def _name_labels(table: Table) -> pl.DataFrame:
    """Return a table's frame with its labels under their headings, and empty for controls."""
    frame, labels = table_frame(table), table.columns[: table.n_labels]
    is_configuration = pl.col("control").is_null()
    frame = frame.with_columns(
        pl.when(is_configuration).then(pl.col(label.key).replace(DASH, None)).alias(label.key)
        for label in labels
    )
    other_names = {"table", *frame.columns} - {label.key for label in labels}
    headings = {
        label.key: f"space.{label.heading}" if label.heading in other_names else label.heading
        for label in labels
    }
    return frame.rename(headings).insert_column(0, pl.lit(table.name).alias("table"))


def _infer_types(texts: pl.Series) -> Iterator[pl.Series]:
    """Yield numbers, as integers if all are whole, and a separate column of the text among them."""
    numbers, integers = (texts.cast(kind, strict=False) for kind in (pl.Float64, pl.Int64))
    has_text = texts.filter(numbers.is_null()).null_count() < numbers.null_count()
    is_estimate = texts.name.endswith(tuple(f"_{field}" for field in _FIELDS))
    if numbers.null_count() == len(texts) and (has_text or not is_estimate):
        yield texts
    elif has_text:
        yield numbers.fill_null(float("nan"))
        yield texts.set(numbers.is_not_null(), None).alias(f"{texts.name}_text")
    else:
        yield integers if integers.null_count() == 0 else numbers.fill_null(float("nan"))


def _cell_fields(key: str, cell: Cell | None) -> dict[str, object]:
    """Return a cell's CSV columns; estimates, counts and epochs have several."""
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
