"""Tables before rendering: columns, rows of typed cells, and notes."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from reports.stats import Association, Compared, Estimate

LEVELS = "levels"
REFERENCES = "controls"
EXTERNAL = "external"  # used as the control of rows that are not the study's, and as their section
OBJECTIVE = "objective"  # used as the name of a metric: the selection score
AVERAGE = "average"  # used as the name of a dataset: the average over several
MAX_COLUMNS_WITH_INTERVALS = 6  # with more means than this, intervals are printed below the means
CLASSES = "classes"  # key of the column of differences over other test classes
MARK = "†"  # after the label of a row with flags
EXTERNAL_MARK = "‡"  # after the label of an external row


def versus_key(control: str) -> str:
    """Return the key of the column of differences to a control at the row's levels."""
    return f"vs_{control}"


class Legend(str):
    """A note that explains a column, shared by all tables of a kind; other notes are specific."""


@dataclass(frozen=True)
class Text:
    """A label; `exact` is its value at full precision if the text is rounded."""

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
    def of_all(self) -> str:
        """Number of finished rows, with the total if some are absent: "4 of 5"."""
        total = self.finished + self.failed + self.pruned + self.missing
        return f"{self.finished} of {total}" if total > self.finished else str(self.finished)

    def absence_texts(self) -> list[str]:
        """Return the rows that are not in the mean as text, e.g. ["1 failed"]."""
        named = (("failed", self.failed), ("pruned", self.pruned), ("missing", self.missing))
        return [f"{count} {name}" for name, count in named if count]


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
        bare: Whether to show only the ends, because another column has the estimate.
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
    """Return the cell of a value; None if the value is None.

    Args:
        kind: Class of the cell.
        value: First argument of the class.
        arguments: Other arguments of the class.
    """
    return None if value is None else kind(value, **arguments)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: Key of the cells in a row, and name of the CSV columns.
        heading: Heading on a page.
        cell: Function that returns the cell of a line, such as a group of rows; None for no cell.
        align: Alignment of the text.
        drop: Order in which a narrow terminal drops columns: 1 first, then 2 and so on; 0 stays.
        csv_only: Whether the column is only in CSV files.
        metric: Metric whose means over seeds are in the column; "" for other columns.
        dataset: Dataset of the metric in a table over several datasets: one of them, or AVERAGE.
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
    """Number of a row's finished trials that raised a flag, and number that were checked for it."""

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
        control: Name of the control, or EXTERNAL; "" for other rows.
        counts: Numbers of trials behind the row, by state.
        flags: Flags that trials of the row raised; a page marks the row's label.
        comparison: Comparison with the baseline; None for the baseline, or without a comparison.
        association: Rank association of the metric with the factor; p is corrected over the table.
        name: Name in sentences: "n_ctx 4", the label of a control, or a factor in a table of ranks.
        level: The name without the heading of the only label column: "4".
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
        """The flags in the format of CSV files: "untrained 5/8; saturated 2/8"."""
        return "; ".join(f"{flag.name} {flag.n_raised}/{flag.n_checked}" for flag in self.flags)

    @property
    def section(self) -> str:
        """Section of the table: LEVELS, below them REFERENCES for the controls, and EXTERNAL."""
        if self.control == EXTERNAL:
            return EXTERNAL
        return REFERENCES if self.control else LEVELS


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
        max_rows: Number of rows of the first section on a page; None for all. CSV files have all
            rows.
        place: Places that show the table. "page": everywhere; "files": not in the terminal, which
            has the answer and the tables behind it; "csv": only in CSV files.
        kind: Kind of the rows: "levels" of the only factor, "effects" of one among several factors,
            "configurations" (configurations), "methods" over datasets, or factors with their
            "ranks"; "" for tables that compare nothing.
        metric: Metric of the differences.
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
        """The row that others are compared with."""
        return next((row for row in self.rows if row.is_baseline), None)

    @property
    def page_columns(self) -> tuple[Column, ...]:
        """The columns that are not only in CSV files."""
        return tuple(column for column in self.columns if not column.csv_only)

    @property
    def is_crowded(self) -> bool:
        """Whether there are too many means for their intervals to fit on the same line."""
        value_keys = {
            k for row in self.rows for k, cell in row.cells.items() if type(cell) is Value
        }
        return (
            sum(column.key in value_keys for column in self.page_columns)
            > MAX_COLUMNS_WITH_INTERVALS
        )

    def sections(self) -> Iterator[tuple[str, list[Row]]]:
        """Yield each section that is not empty, with the rows that a page shows of it."""
        sections = (
            (LEVELS, self.non_controls[: self.max_rows]),
            (REFERENCES, [row for row in self.rows if row.section == REFERENCES]),
            (EXTERNAL, [row for row in self.rows if row.section == EXTERNAL]),
        )
        yield from (section for section in sections if section[1])


def cells_of(columns: Iterable[Column], line: Any) -> dict[str, Cell]:
    """Return the cells of a line by column key; columns without a cell for it are left out."""
    cells = {column.key: column.cell(line) for column in columns}
    return {key: cell for key, cell in cells.items() if cell is not None}


def level_text(value: Any) -> str:
    """Return a level as it is written in YAML; floats are rounded to three significant digits."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        exact_text, short_text = f"{value:.6g}", f"{value:.3g}"
        is_short = len(exact_text) <= 6 or short_text == f"{value:.1g}"  # 0.99995 is not 1
        return exact_text if is_short and float(exact_text) == value else short_text
    if isinstance(value, dict):
        option_texts = [f"{k}={level_text(v)}" for k, v in value.items() if k != "name"]
        name_parts = [str(value["name"])] if "name" in value else []
        return " ".join([*name_parts, *option_texts])
    return value if isinstance(value, str) else json.dumps(value)
