"""Tables before rendering: columns, rows of typed cells, and notes."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from reports.stats import Association, Compared, Estimate

LEVELS = "levels"
CONTROLS_SECTION = "controls"
EXTERNAL = "external"  # section, and value of Row.control, of rows from outside the store
OBJECTIVE = "objective"  # value of Column.metric for the selection score
AVERAGE = "average"  # value of Column.dataset for the average over datasets
MAX_COLUMNS_WITH_INTERVALS = 6  # with more means than this, intervals are printed below the means
CLASSES = "classes"  # key of the column with intervals of the difference over other test classes
MARK = "†"  # after the label of a row with flags
EXTERNAL_MARK = "‡"  # after the label of an external row


def versus_key(control: str) -> str:
    """Return the key of the column with differences to a control that has the row's levels."""
    return f"vs_{control}"


class Legend(str):
    """A note that explains columns and is the same for all tables of a kind.

    Notes on one table only are plain strings.
    """


@dataclass(frozen=True)
class Text:
    """A label.

    Attributes:
        text: Text of the label.
        exact: Value at full precision if the text is rounded. "" otherwise.
    """

    text: str
    exact: str = ""


@dataclass(frozen=True)
class Counts:
    """Numbers of finished, failed, pruned and missing rows; only finished rows enter a mean."""

    finished: int
    failed: int = 0
    pruned: int = 0
    missing: int = 0

    @property
    def finished_text(self) -> str:
        """Number of finished rows, with the total if some are absent: "4 of 5"."""
        total = self.finished + self.failed + self.pruned + self.missing
        return f"{self.finished} of {total}" if total > self.finished else str(self.finished)

    def absence_texts(self) -> list[str]:
        """Return the numbers of rows that are not in the mean as texts, e.g. ["1 failed"]."""
        counts = {"failed": self.failed, "pruned": self.pruned, "missing": self.missing}
        return [f"{count} {state}" for state, count in counts.items() if count]


@dataclass(frozen=True)
class Value:
    """An estimate with its interval.

    Attributes:
        estimate: The estimate.
        signed: Whether positive numbers get a plus, as in differences.
        decimals: Number of decimals.
        suffix: Text after the number on a page, e.g. "(n 3)" if n differs from the row's.
        at: Levels of the control in a difference, e.g. "lr 0.01". Only in CSV files.
    """

    estimate: Estimate
    signed: bool = False
    decimals: int = 1
    suffix: str = ""
    at: str = ""


@dataclass(frozen=True)
class Ranged:
    """An estimate whose interval may be asymmetric, so that both ends are shown.

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
    """A p-value between 0 and 1, possibly corrected."""

    p: float


@dataclass(frozen=True)
class Quantity:
    """A number without an interval: seconds, a detectable effect, a count."""

    number: float
    decimals: int = 1


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum of some whole numbers."""

    median: float
    low: int
    high: int


Cell = Text | Counts | Value | Ranged | PValue | Quantity | Spread


def optional_cell(kind: Callable[..., Cell], value: Any, **arguments: Any) -> Cell | None:
    """Return a cell with a value; None if the value is None.

    Args:
        kind: Class of the cell.
        value: First argument of the class.
        arguments: Keyword arguments of the class.
    """
    return None if value is None else kind(value, **arguments)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: Key of the column's cell in a row, and name of the CSV column.
        heading: Heading on a page.
        cell: Function from the object that a row describes, such as a group, to the column's cell;
            it returns None for no cell.
        align: Alignment of the text.
        drop: Order in which a narrow terminal drops columns: 1 first, then 2 and so on. Columns
            with 0 are never dropped.
        csv_only: Whether the column is only in CSV files.
        metric: Metric whose means over seeds are in the column; "" for other columns.
        dataset: Dataset of the metric in a table over several datasets: one of them, or AVERAGE. ""
            in other tables.
    """

    key: str
    heading: str
    cell: Callable[[Any], Cell | None] = field(default=lambda line: None, compare=False, repr=False)
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
        n_raised: Number of the row's finished trials that raised it.
        n_checked: Number of the row's finished trials that were checked for it.
    """

    name: str
    n_raised: int
    n_checked: int


@dataclass(frozen=True)
class Row:
    """Cells by column key; a column without a cell is shown as a dash.

    Attributes:
        cells: The cells by column key.
        is_baseline: Whether the row is the baseline.
        selection: Rules that selected the epochs of the row, joined by "+".
        control: Name of the control, or EXTERNAL. "" for other rows.
        counts: Numbers of trials behind the row, by state.
        flags: Flags that trials of the row raised. Output formats mark the row's label.
        comparison: Comparison with the baseline. None for the baseline, or without a comparison.
        association: In a table of ranks, the rank association of the metric with the factor, with a
            p that is corrected over the table. None in other tables.
        name: Name in sentences: "n_ctx 4", the label of a control, or a factor in a table of ranks.
        level: Name in sentences that contain the heading of the only label column: "4". With
            several label columns, all labels with their headings.
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
        """The flags as text for CSV files: "untrained 5/8; saturated 2/8"."""
        return "; ".join(f"{flag.name} {flag.n_raised}/{flag.n_checked}" for flag in self.flags)

    @property
    def section(self) -> str:
        """Section of the table that has the row: LEVELS, CONTROLS_SECTION or EXTERNAL."""
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
        notes: The notes.
        n_labels: Number of columns that name a row.
        max_rows: Maximum number of rows in the first section on a page. None for all. CSV files
            have all rows.
        place: Where the table is shown. "page": everywhere; "files": everywhere except in the
            terminal; "csv": only in CSV files.
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
    place: Literal["page", "files", "csv"] = "page"
    kind: Literal["levels", "effects", "configurations", "methods", "ranks", ""] = ""
    metric: str = ""

    @property
    def non_controls(self) -> list[Row]:
        """The rows that are neither controls nor external."""
        return [row for row in self.rows if not row.control]

    @property
    def baseline(self) -> Row | None:
        """The row that others are compared with; None if there is none."""
        return next((row for row in self.rows if row.is_baseline), None)

    @property
    def page_columns(self) -> tuple[Column, ...]:
        """The columns that are not only in CSV files."""
        return tuple(column for column in self.columns if not column.csv_only)

    @property
    def is_crowded(self) -> bool:
        """Whether there are too many means for their intervals to fit on the same line."""
        value_keys = {
            key for row in self.rows for key, cell in row.cells.items() if type(cell) is Value
        }
        return (
            sum(column.key in value_keys for column in self.page_columns)
            > MAX_COLUMNS_WITH_INTERVALS
        )

    def sections(self) -> Iterator[tuple[str, list[Row]]]:
        """Yield the name of each section that is not empty, with its rows up to `max_rows`."""
        sections = (
            (LEVELS, self.non_controls[: self.max_rows]),
            (CONTROLS_SECTION, [row for row in self.rows if row.section == CONTROLS_SECTION]),
            (EXTERNAL, [row for row in self.rows if row.section == EXTERNAL]),
        )
        yield from ((name, rows) for name, rows in sections if rows)


def cells_of(columns: Iterable[Column], line: Any) -> dict[str, Cell]:
    """Return the cells of a row by column key, without columns that have no cell.

    Args:
        columns: The columns.
        line: Object that the row describes, such as a group.
    """
    cells = {column.key: column.cell(line) for column in columns}
    return {key: cell for key, cell in cells.items() if cell is not None}


def level_text(value: Any) -> str:
    """Return a level as it is written in YAML; long floats have three significant digits."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        exact_text, short_text = f"{value:.6g}", f"{value:.3g}"
        # the second condition keeps all digits of numbers like 0.99995, which would become 1
        is_short = len(exact_text) <= 6 or short_text == f"{value:.1g}"
        return exact_text if is_short and float(exact_text) == value else short_text
    if isinstance(value, dict):
        option_texts = [f"{k}={level_text(v)}" for k, v in value.items() if k != "name"]
        name_parts = [str(value["name"])] if "name" in value else []
        return " ".join([*name_parts, *option_texts])
    return value if isinstance(value, str) else json.dumps(value)
