"""Tables as CSV files."""

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from reports.cells import Cell, Counts, PValue, Quantity, Ranged, Spread, Table, Text, Value
from reports.formatting import DASH
from reports.tables import uses_test_images

# Fields of Estimate that have a CSV column, which are also the suffixes of these columns.
_ESTIMATE_FIELDS = ("mean", "low", "high", "n")
# CSV column -> field of Counts
_COUNT_FIELDS = {"n": "finished", "failed": "failed", "pruned": "pruned", "missing": "missing"}
# If a cell starts with one of these characters, a spreadsheet interprets it as a formula.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def make_table_frame(table: Table) -> pl.DataFrame:
    """Return all rows of a table as text, at full precision. Unknown values are null.

    Most columns of the table become one column of the frame, named by their key. Others become
    several:

    - Counts: `n` (finished), `failed`, `pruned` and `missing`.
    - An estimate: KEY_mean, KEY_low, KEY_high and KEY_n.
    - Epochs: KEY (median), KEY_min and KEY_max.

    The last columns are `section`, `baseline`, `control`, `selection_rule` and `flags`.
    `selection_rule` is "selected on test" if selection used test images. `flags` has, for each
    flag, the number of trials that raised it and the number checked, e.g. "untrained 5/8; saturated
    2/8".
    """
    rows, columns = table.rows, dict[str, Sequence[object]]()
    for column in table.columns:
        cells = [_make_cell_fields(column.key, row.cells.get(column.key)) for row in rows]
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


def format_csv(table: Table) -> str:
    """Return the frame of make_table_frame as CSV, after escape_formulas."""
    return escape_formulas(make_table_frame(table)).write_csv()


def escape_formulas(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame in which a spreadsheet interprets no text or heading as a formula.

    Those that it would interpret as one get a leading apostrophe.
    """
    escaped_columns = pl.col(pl.String).map_elements(_escape_formula, return_dtype=pl.String)
    return frame.with_columns(escaped_columns).rename(_escape_formula)


def _escape_formula(text: str) -> str:
    """Return the text with a leading apostrophe if it looks like a formula and is not a number."""
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def format_combined_csv(tables: Sequence[Table]) -> str:
    """Return all tables as one CSV that polars.read_csv and pandas.read_csv read without options.

    The first column, `table`, is the table's name. The others are the columns of all tables, see
    make_table_frame. A factor has the same column in all tables, named by its heading, such as
    n_ctx. It is empty for controls, whose names are in the column `control`.

    Readers infer a column's type from its first rows. Therefore unknown measurements are NaN, and
    text in a column of numbers, such as "1 of 3" in `datasets`, is moved to another column,
    `datasets_text`. Unknown text and unknown levels of factors are empty.
    """
    names = _get_label_names(tables)
    frame = pl.concat([_rename_labels(table, names) for table in tables], how="diagonal")
    label_columns = set(names.values())
    typed_columns = [
        typed_column
        for column in frame
        for typed_column in _split_by_type(column, keeps_null=column.name in label_columns)
    ]
    return escape_formulas(pl.DataFrame(typed_columns)).write_csv()


def _get_label_names(tables: Sequence[Table]) -> dict[str, str]:
    """Return the names of label columns in format_combined_csv: heading -> name.

    The name is the heading. It has the prefix "space." if a column without labels has this name in
    any table.
    """
    headings: list[str] = []
    other_names = {"table"}
    for table in tables:
        labels = table.columns[: table.n_labels]
        headings += [label.heading for label in labels]
        other_names |= {*make_table_frame(table).columns} - {label.key for label in labels}
    return {
        heading: f"space.{heading}" if heading in other_names else heading for heading in headings
    }


def _rename_labels(table: Table, names: Mapping[str, str]) -> pl.DataFrame:
    """Return a table's frame with a first column `table`, and with renamed label columns.

    Labels of controls and of inactive factors become null.

    Args:
        table: The table.
        names: Heading -> name of a label column; see _get_label_names.
    """
    frame, labels = make_table_frame(table), table.columns[: table.n_labels]
    is_configuration = pl.col("control").is_null()
    frame = frame.with_columns(
        pl.when(is_configuration).then(pl.col(label.key).replace(DASH, None)).alias(label.key)
        for label in labels
    )
    frame = frame.rename({label.key: names[label.heading] for label in labels})
    return frame.insert_column(0, pl.lit(table.name).alias("table"))


def _split_by_type(texts: pl.Series, *, keeps_null: bool) -> Iterator[pl.Series]:
    """Yield the numbers of a column, and then, if it has any, the other texts as NAME_text.

    A column without numbers is yielded unchanged, unless it is the column of an estimate in which
    all values are unknown.

    Args:
        texts: Column of numbers and other text, all as text.
        keeps_null: Whether unknown numbers stay null. If not, they become NaN, and a column of
            integers with unknown values becomes a column of floats.
    """
    numbers, integers = (texts.cast(kind, strict=False) for kind in (pl.Float64, pl.Int64))
    has_numbers = numbers.null_count() < len(texts)
    has_text = numbers.null_count() > texts.null_count()
    is_estimate = texts.name.endswith(tuple(f"_{field}" for field in _ESTIMATE_FIELDS))
    if not has_numbers and (has_text or not is_estimate):
        yield texts
        return
    are_whole = integers.null_count() == numbers.null_count()
    if keeps_null:
        yield integers if are_whole else numbers
    elif are_whole and not numbers.null_count():
        yield integers
    else:
        yield numbers.fill_null(float("nan"))
    if has_text:
        yield texts.set(numbers.is_not_null(), None).alias(f"{texts.name}_text")


def _make_cell_fields(key: str, cell: Cell | None) -> dict[str, object]:
    """Return a cell's values by name of their column in make_table_frame.

    Args:
        key: Key of the cell's column in the table.
        cell: The cell. None if the row has none in this column; the result is then {}.
    """
    match cell:
        case Counts():
            return {name: getattr(cell, field) for name, field in _COUNT_FIELDS.items()}
        case Value(estimate) | Ranged(estimate):
            return {f"{key}_{field}": getattr(estimate, field) for field in _ESTIMATE_FIELDS}
        case PValue(p):
            return {key: p}
        case Quantity(number):
            return {key: int(number) if number == int(number) else number}
        case Spread(median, low, high):
            return {key: median, f"{key}_min": low, f"{key}_max": high}
        case Text(text, exact):
            return {key: exact or text}
    return {}
