"""What a table is before anyone renders it: columns, rows of typed cells, footnotes."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from reports.stats import Association, Compared, Estimate

LEVELS = "levels"
REFERENCES = "reference arms"
OBJECTIVE = "objective"  # in the place of a test metric: the selection score
AVERAGE = "average"  # in the place of a dataset: over several
MOST_ABREAST = 6  # more means than this have their intervals below them
CLASSES = "classes"  # the column of differences over other test classes
MARK = "†"  # beside the label of a row with flags


def versus(control: str) -> str:
    """Return the key of the column of differences to a control at the row's levels."""
    return f"vs_{control}"


class Legend(str):
    """A note on what a column is, which all tables of a kind have; the others are of this table."""


@dataclass(frozen=True)
class Text:
    """A label; exact is the value behind it at full precision, where the text rounds."""

    text: str
    exact: str = ""


@dataclass(frozen=True)
class Counts:
    """Rows behind a mean: finished at full fidelity, and those that are not in it."""

    done: int
    failed: int = 0
    pruned: int = 0
    missing: int = 0

    @property
    def of_all(self) -> str:
        """The number of finished rows, and of how many where some are absent: "4 of 5"."""
        total = self.done + self.failed + self.pruned + self.missing
        return f"{self.done} of {total}" if total > self.done else str(self.done)

    def absent(self) -> list[str]:
        """Name what is not in the mean, e.g. ["1 failed"]."""
        named = (("failed", self.failed), ("pruned", self.pruned), ("missing", self.missing))
        return [f"{count} {name}" for name, count in named if count]


@dataclass(frozen=True)
class Value:
    """An estimate with its interval; signed for differences.

    suffix: what a page says behind it, e.g. "(n 3)" where the row's n is another.
    at: levels of the control that it is a difference to, e.g. "lr 0.01"; for programs.
    """

    estimate: Estimate
    signed: bool = False
    decimals: int = 1
    suffix: str = ""
    at: str = ""


@dataclass(frozen=True)
class Ranged:
    """An estimate whose interval need not be symmetric, shown by its ends.

    bare: by its ends alone, since the estimate stands beside it.
    """

    estimate: Estimate
    decimals: int = 2
    bare: bool = False


@dataclass(frozen=True)
class PValue:
    """A (corrected) p-value, 0 to 1."""

    p: float


@dataclass(frozen=True)
class Quantity:
    """A bare number: seconds, a detectable effect, a count."""

    number: float
    decimals: int = 1


@dataclass(frozen=True)
class Spread:
    """The median of some whole numbers, and the smallest and largest of them."""

    median: float
    low: int
    high: int


Cell = Text | Counts | Value | Ranged | PValue | Quantity | Spread


def known(kind: Callable[..., Cell], value: Any, **more: Any) -> Cell | None:
    """The cell of a value, with what else its kind takes; None of a value that is not known."""
    return None if value is None else kind(value, **more)


@dataclass(frozen=True)
class Column:
    """key names the cell (and the CSV columns).

    cell: of what a row is of, such as a group of rows; None where that has nothing to show.
    drop: when a terminal is too narrow, columns 1 go first, then 2 and so on; 0 stays.
    csv_only: for programs; no page has room for it.
    metric: whose mean over seeds the cells are; "" of anything else.
    dataset: on which, in a table over several: one of them, or AVERAGE.
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
    """How many of a row's finished trials raised a flag, of those that could."""

    name: str
    raised: int
    of: int


@dataclass(frozen=True)
class Row:
    """Cells by column key; a column without a cell is shown as a dash.

    name: in words: of a row of comparisons "n_ctx 4", or an arm's label; of one of ranks a factor.
    level: the same without what the table's only label says: "4".
    counts: of the ledger's rows behind it.
    flags: those that were raised; a page marks the row's label.
    compared: with the baseline; None: it is the baseline, or nothing is compared.
    ranked: how the metric goes with the factor, with p corrected over the table.
    """

    cells: dict[str, Cell]
    baseline: bool = False
    selection: str = ""
    arm: str = ""
    counts: Counts = Counts(0)
    flags: tuple[Flagged, ...] = ()
    compared: Compared | None = None
    ranked: Association | None = None
    name: str = ""
    level: str = ""

    @property
    def flag_counts(self) -> str:
        """The flags for programs: "untrained 5/8; saturated 2/8"."""
        return "; ".join(f"{flag.name} {flag.raised}/{flag.of}" for flag in self.flags)

    @property
    def section(self) -> str:
        """Of the table: its own rows, or the reference arms below them."""
        return REFERENCES if self.arm else LEVELS


@dataclass(frozen=True)
class Table:
    """A table: `labels` of its columns (the first ones) name a row, the others measure it.

    shown: how many rows of the first section a page shows (None: all); CSV always holds all.
    place: "page": everywhere; "files": not in the terminal, where an answer stands with the tables
        that it is made from; "csv": for programs alone.
    kind: what its rows are; "levels" of the only factor, "effects" of one among others, "settings",
        "methods" over datasets, factors by their "ranks"; "" of what compares nothing.
    metric: that its differences are of.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    labels: int = 1
    shown: int | None = None
    place: Literal["page", "files", "csv"] = "page"
    kind: Literal["levels", "effects", "settings", "methods", "ranks", ""] = ""
    metric: str = ""

    @property
    def own(self) -> list[Row]:
        """The rows that are no reference arms."""
        return [row for row in self.rows if not row.arm]

    @property
    def baseline(self) -> Row | None:
        """The row that others are compared with."""
        return next((row for row in self.rows if row.baseline), None)

    @property
    def page_columns(self) -> tuple[Column, ...]:
        """The columns that a page has."""
        return tuple(column for column in self.columns if not column.csv_only)

    @property
    def crowded(self) -> bool:
        """Whether a page has no room for intervals beside their means."""
        measured = {k for row in self.rows for k, cell in row.cells.items() if type(cell) is Value}
        return sum(column.key in measured for column in self.page_columns) > MOST_ABREAST

    def sections(self) -> Iterator[tuple[str, list[Row]]]:
        """Yield (section, the rows that a page shows), empty sections left out."""
        arms = [row for row in self.rows if row.arm]
        found = ((LEVELS, self.own[: self.shown]), (REFERENCES, arms))
        yield from (section for section in found if section[1])


def cells_of(columns: Iterable[Column], line: Any) -> dict[str, Cell]:
    """The cells of what a row is of, by column."""
    found = {column.key: column.cell(line) for column in columns}
    return {key: cell for key, cell in found.items() if cell is not None}


def level_text(value: Any) -> str:
    """A level as people write it in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        exact, short = f"{value:.6g}", f"{value:.3g}"
        plain = len(exact) <= 6 or short == f"{value:.1g}"  # 0.99995 is not 1
        return exact if plain and float(exact) == value else short
    if isinstance(value, dict):
        rest = [f"{k}={level_text(v)}" for k, v in value.items() if k != "name"]
        named = [str(value["name"])] if "name" in value else []
        return " ".join([*named, *rest])
    return value if isinstance(value, str) else json.dumps(value)
