"""`ship-data list`: what there is, what of it lies under the data root, and how to get the rest."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.data.sources import SOURCES, places
from ship.datasets import DATASETS, PREFIX, survey_dataset
from ship.datasets.layouts import counted, slashed

_PICTURES: Final = (
    "pictures: train/val/test as published; below xlsa17/, trainval/test_seen/test_unseen"
)
_STYLES: Final = {"present": "green", "missing": "dim", "faulty": "red"}


@dataclass(frozen=True)
class Row:
    """A dataset in the list.

    counts: pictures as published, train/val/test (xlsa17: trainval/test_seen/test_unseen).
    state: present, missing, faulty, or "" where no data root was given. fault: the first one.
    """

    name: str
    classes: int
    counts: str
    where: str
    state: str
    fault: str = ""


def rows(data_root: Path | None) -> Iterator[Row]:
    """Every dataset with a name of its own; pictures are looked at, not read."""
    for name, spec in DATASETS.items():
        yield _row(name, spec, data_root)


def print_list(data_root: Path | None, console: Console) -> None:
    """Print the table, what is faulty, and how to get what is not there."""
    table = Table(box=None, header_style="bold")
    for heading in ("dataset", "classes", "pictures", "state"):
        table.add_column(heading, justify="right" if heading == "classes" else "left", no_wrap=True)
    table.add_column("below the data root", overflow="fold")
    found = []
    for row in rows(data_root):
        found.append(row)
        style = _STYLES.get(row.state, "")
        state = f"[{style}]{row.state}[/]" if style else "?"
        table.add_row(row.name, str(row.classes), row.counts, state, escape(row.where))
    table.add_row(f"{PREFIX}NAME", "", "your own", "", "NAME/CLASS/")
    console.print(table)
    console.print(_PICTURES, soft_wrap=True)
    faulty = [row for row in found if row.state == "faulty"]
    absent = [row for row in found if row.state in ("missing", "")]
    if faulty:
        _section("faulty", [(row.name, row.fault) for row in faulty], console)
    if absent:
        lines = [(row.name, SOURCES[row.name].how) for row in absent]
        _section("how to get them", lines, console)
    if data_root is None:
        console.print("\n--data-root DIR shows which of them are there")


def _section(title: str, lines: list[tuple[str, str]], console: Console) -> None:
    console.print(f"\n[bold]{title}[/]")
    for name, line in lines:
        console.print(f"{name}: {line}", markup=False, soft_wrap=True)


def _row(name: str, spec: Any, data_root: Path | None) -> Row:
    folder = getattr(spec, "folder", None)
    if folder is None:  # packaged
        survey = survey_dataset(name)
        state = "faulty" if survey.faults else "present"
        counts = slashed(counted(survey.splits))
        fault = _first(name, survey.faults)
        return Row(name, len(survey.class_names), counts, "packaged", state, fault)
    where, counts = places(spec), slashed(spec.counts)
    if data_root is None:
        return Row(name, spec.classes, counts, where, "")
    if not (data_root / folder).is_dir():
        return Row(name, spec.classes, counts, where, "missing")
    survey = survey_dataset(name, data_root)
    if survey.faults:
        return Row(name, spec.classes, counts, where, "faulty", _first(name, survey.faults))
    return Row(name, spec.classes, counts, where, "present")


def _first(name: str, faults: tuple[str, ...]) -> str:
    if len(faults) < 2:
        return "".join(faults)
    return f"{faults[0]} (and {len(faults) - 1} more: ship-data check {name})"
