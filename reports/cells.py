"""Tables before rendering: columns, rows of typed cells, and notes."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from reports.stats import Association, Compared, Estimate

LEVELS = "levels"
CONTROLS_SECTION = "controls"
EXTERNAL = "external"  # section and Row.control of results from outside the store
OBJECTIVE = "objective"  # value of Column.metric for the selection score
AVERAGE = "average"  # value of Column.dataset for the average over datasets
# If a table has more columns of means than this, intervals are printed below their means.
MAX_COLUMNS_WITH_INTERVALS = 6
CLASSES = "classes"  # key of the column with the difference's interval over other test classes
MARK = "†"  # after the label of a row with flags
EXTERNAL_MARK = "‡"  # after the label of an external row


def make_versus_key(control: str) -> str:
    """Return the key of the column with the difference of each row to a control at its levels."""
    return f"vs_{control}"


class Legend(str):
    """A note that explains columns. All tables that have these columns have the same note.

    Notes about a single table are plain strings.
    """


@dataclass(frozen=True)
class Text:
    """A label.

    Attributes:
        text: Text of the label.
        exact: The value at full precision, for CSV files, if the text is rounded. "" otherwise.
    """

    text: str
    exact: str = ""


@dataclass(frozen=True)
class Counts:
    """Numbers of (configuration, seed) pairs by state. Only finished pairs enter a mean."""

    finished: int
    failed: int = 0
    pruned: int = 0
    missing: int = 0

    @property
    def finished_text(self) -> str:
        """Number of finished pairs, with the total if some have not finished: "4 of 5"."""
        total = self.finished + self.failed + self.pruned + self.missing
        return f"{self.finished} of {total}" if total > self.finished else str(self.finished)

    def absence_texts(self) -> list[str]:
        """Return the numbers of pairs that have not finished as texts, e.g. ["1 failed"]."""
        counts = {"failed": self.failed, "pruned": self.pruned, "missing": self.missing}
        return [f"{count} {state}" for state, count in counts.items() if count]


@dataclass(frozen=True)
class Value:
    """An estimate with its interval.

    Attributes:
        estimate: The estimate.
        signed: Whether positive numbers get a plus, as differences do.
        decimals: Number of decimals.
        suffix: Text after the number on a page, e.g. "(n 3)" if n differs from the row's.
        at: In a difference to a control, the control's levels, e.g. "lr 0.01". Shown only in CSV
            files. "" for other values.
    """

    estimate: Estimate
    signed: bool = False
    decimals: int = 1
    suffix: str = ""
    at: str = ""


@dataclass(frozen=True)
class Ranged:
    """An estimate that is shown with both ends of its interval, which may be asymmetric.

    Attributes:
        estimate: The estimate.
        decimals: Number of decimals.
        bare: Whether to show only the ends, because another column has the mean.
    """

    estimate: Estimate
    decimals: int = 2
    bare: bool = False


@dataclass(frozen=True)
class PValue:
    """A p-value, with or without correction for several tests."""

    p: float


@dataclass(frozen=True)
class Quantity:
    """A number without an interval, e.g. seconds, a detectable effect or a count."""

    number: float
    decimals: int = 1


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum of whole numbers, e.g. of selected epochs."""

    median: float
    low: int
    high: int


Cell = Text | Counts | Value | Ranged | PValue | Quantity | Spread


def make_optional_cell(
    cell_class: Callable[..., Cell], value: Any, **arguments: Any
) -> Cell | None:
    """Return a cell with a value; None if the value is None.

    Args:
        cell_class: Class of the cell, e.g. Quantity.
        value: First argument of the class.
        arguments: Keyword arguments of the class.
    """
    return None if value is None else cell_class(value, **arguments)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: Key of the column's cells in Row.cells, and name of the CSV column.
        heading: Heading on a page.
        cell: Function that gets the object that a row describes, such as a group, and returns the
            column's cell. None is shown as a dash.
        align: Alignment of the text.
        drop: Order in which a narrow terminal drops columns: 1 first, then 2 and so on. Columns
            with 0 are never dropped.
        csv_only: Whether the column is only in CSV files.
        metric: Metric whose means over seeds are in the column. "" for other columns.
        dataset: In a table over several datasets, the dataset of these means, or AVERAGE. "" in
            other tables.
    """

    key: str
    heading: str
    cell: Callable[[Any], Cell | None] = field(default=lambda item: None, compare=False, repr=False)
    align: Literal["left", "right"] = "right"
    drop: int = 0
    csv_only: bool = False
    metric: str = ""
    dataset: str = ""


@dataclass(frozen=True)
class Flagged:
    """A flag of a row.

    Attributes:
        name: Name of the flag.
        n_raised: Number of the row's finished (configuration, seed) pairs that raised it.
        n_checked: Number of the row's finished pairs that were checked for it.
    """

    name: str
    n_raised: int
    n_checked: int


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        cells: The cells by column key. A column without a cell is shown as a dash.
        is_baseline: Whether the row is the baseline.
        selection: Rules that selected the epochs of the row's results, joined by "+".
        control: Name of the control, or EXTERNAL. "" for other rows.
        counts: Numbers of (configuration, seed) pairs in the row, by state.
        flags: Flags that some of these pairs raised. Output formats mark the row's label.
        comparison: Comparison with the baseline. None for the baseline itself and for rows that are
            not compared.
        association: In a table of ranks, the association of the metric with the row's factor; p is
            corrected over the table. None in other tables.
        name: Name in sentences: "n_ctx 4", the label of a control, or a factor in a table of ranks.
        level: Name in sentences that already contain the heading of the label column: "4". If
            there are several label columns: "n_ctx 4 with lr 0.01".
    """

    cells: dict[str, Cell]
    is_baseline: bool = False
    selection: str = ""
    control: str = ""
    counts: Counts = Counts(0)
    flags: tuple[Flagged, ...] = ()
    comparison: Compared | None = None
    association: Association | None = None
    name: str = ""
    level: str = ""

    @property
    def flag_counts(self) -> str:
        """The flags as text for CSV files, e.g. "untrained 5/8; saturated 2/8"."""
        return "; ".join(f"{flag.name} {flag.n_raised}/{flag.n_checked}" for flag in self.flags)

    @property
    def section(self) -> str:
        """The row's section of the table: LEVELS, CONTROLS_SECTION or EXTERNAL."""
        if self.control == EXTERNAL:
            return EXTERNAL
        return CONTROLS_SECTION if self.control else LEVELS


@dataclass(frozen=True)
class Table:
    """A table. The first `n_labels` columns name a row; the others are measurements.

    Attributes:
        name: Name of the table, used in file names.
        title: Title.
        columns: The columns.
        rows: The rows.
        notes: Notes below the table. Those that explain columns are instances of Legend.
        n_labels: Number of columns that name a row.
        max_rows: Maximum number of rows of the section LEVELS on a page. None for all. CSV files
            have all rows.
        place: Where the table is shown. "everywhere"; "files": everywhere except in the terminal;
            "csv": only in CSV files.
        kind: Kind of the rows. "levels": levels of the only factor; "effects": levels of one of
            several factors; "configurations"; "methods": methods over several datasets; "ranks":
            factors with rank associations; "": other tables.
        metric: Metric of the differences. "" without differences.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    n_labels: int = 1
    max_rows: int | None = None
    place: Literal["everywhere", "files", "csv"] = "everywhere"
    kind: Literal["levels", "effects", "configurations", "methods", "ranks", ""] = ""
    metric: str = ""

    @property
    def non_controls(self) -> list[Row]:
        """The rows that are neither controls nor external results."""
        return [row for row in self.rows if not row.control]

    @property
    def baseline(self) -> Row | None:
        """The row that the others are compared with. None if there is none."""
        return next((row for row in self.rows if row.is_baseline), None)

    @property
    def page_columns(self) -> tuple[Column, ...]:
        """The columns that a page shows: those without `csv_only`."""
        return tuple(column for column in self.columns if not column.csv_only)

    @property
    def is_crowded(self) -> bool:
        """Whether there are too many columns of means to print intervals on the same line."""
        value_keys = {
            key for row in self.rows for key, cell in row.cells.items() if type(cell) is Value
        }
        return (
            sum(column.key in value_keys for column in self.page_columns)
            > MAX_COLUMNS_WITH_INTERVALS
        )

    def sections(self) -> Iterator[tuple[str, list[Row]]]:
        """Yield (name, rows) of each section that has rows, with at most `max_rows` of LEVELS."""
        sections = (
            (LEVELS, self.non_controls[: self.max_rows]),
            (CONTROLS_SECTION, [row for row in self.rows if row.section == CONTROLS_SECTION]),
            (EXTERNAL, [row for row in self.rows if row.section == EXTERNAL]),
        )
        yield from ((name, rows) for name, rows in sections if rows)


def get_cells(columns: Iterable[Column], item: Any) -> dict[str, Cell]:
    """Return the cells of a row by column key, without the columns whose cell is None.

    Args:
        columns: The columns.
        item: Object that the row describes, such as a group. Passed to Column.cell.
    """
    cells = {column.key: column.cell(item) for column in columns}
    return {key: cell for key, cell in cells.items() if cell is not None}


def format_level(value: Any) -> str:
    """Return a level as it is written in YAML, with long floats rounded to three digits.

    A mapping becomes its name, if any, followed by its other entries: "vae kl_weight=0.1".
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        exact_text, short_text = f"{value:.6g}", f"{value:.3g}"
        # the second condition keeps all digits of numbers like 0.99995, which would become 1
        keeps_digits = len(exact_text) <= 6 or short_text == f"{value:.1g}"
        return exact_text if keeps_digits and float(exact_text) == value else short_text
    if isinstance(value, dict):
        option_texts = [
            f"{key}={format_level(option)}" for key, option in value.items() if key != "name"
        ]
        name_texts = [str(value["name"])] if "name" in value else []
        return " ".join([*name_texts, *option_texts])
    return value if isinstance(value, str) else json.dumps(value)
