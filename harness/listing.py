"""What ship-sweep lists: packaged studies, the names that a YAML may use, and a study's plan."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.faults import show

if TYPE_CHECKING:
    from harness.plan import Plan

_STYLES = {"done": "green", "to run": "cyan", "changed": "yellow", "pruned": "dim", "failed": "red"}


def print_spaces() -> None:
    """The packaged studies, one line each."""
    from harness.packaged import packaged_spaces

    table = Table(box=None, header_style="bold")
    table.add_column("space", no_wrap=True)
    table.add_column("question")
    for name, description in packaged_spaces():
        table.add_row(name, escape(description))
    Console(highlight=False).print(table)


def print_options() -> None:
    """Every name that a YAML may choose, by key; the words are those of the settings classes."""
    from harness.options import SAMPLERS, SCHEDULERS, SELECTIONS
    from ship.datasets import DATASETS
    from ship.finetuners import FINETUNERS
    from ship.generators import GENERATORS
    from ship.protocols import PROTOCOLS
    from ship.synthesis import SyntheticConfig

    console = Console(highlight=False)
    tables: Mapping[str, Iterable[tuple[str, str]]] = {
        "generator": _variants(GENERATORS),
        "finetuner": _variants(FINETUNERS),
        "dataset": ((name, _dataset_line(spec)) for name, spec in DATASETS.items()),
        "synthetic": _fields(SyntheticConfig),
        "protocol": ((name, _first_line(build)) for name, build in PROTOCOLS.items()),
        "sampler": SAMPLERS.items(),
        "scheduler": ((name, _first_line(settings)) for name, settings in SCHEDULERS.items()),
        "selection": SELECTIONS.items(),
    }
    for key, rows in tables.items():
        table = Table(title=key, title_justify="left", title_style="bold", box=None)
        table.show_header = False
        table.add_column(no_wrap=True, min_width=15)
        table.add_column()
        for name, line in rows:
            table.add_row(f"  {name}", escape(line))
        console.print(table)
    console.print("[bold]backbone[/] pocket, else NAME:PRETRAINED: see ship-sweep --list-backbones")


def print_plan(name: str, plan: "Plan") -> None:
    """What is done and what would run, setting by setting."""
    table = Table(box=None, header_style="bold", title=f"study {name}", title_justify="left")
    table.add_column("setting")
    table.add_column("state", no_wrap=True)
    table.add_column("seeds to run")
    for row in plan.rows:
        seeds = ", ".join(str(seed) for seed in row.seeds)
        table.add_row(escape(row.label), f"[{_STYLES.get(row.state, '')}]{row.state}[/]", seeds)
    console = Console(highlight=False)
    console.print(table)
    if plan.proposals:
        console.print(f"{plan.proposals} more settings to be proposed by the sampler")
    if plan.seconds is not None:
        console.print(f"estimated compute time left: {plan.seconds / 60:.1f} min")


def _dataset_line(spec: Any) -> str:
    where = getattr(spec, "folder", None)
    if where is None:
        return _first_line(type(spec))
    return f"{spec.classes} classes in DATA_ROOT/{where}; {spec.template!r}"


def _variants(choices: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Each variant of a group, then its settings."""
    for name, pair in choices.items():
        yield name, _first_line(pair[0])
        for field, line in _fields(pair[0]):
            yield f"  .{field}", line


def _fields(settings: Any) -> Iterable[tuple[str, str]]:
    """The settings of a group with what they mean and their defaults."""
    for name, field in settings.model_fields.items():
        if name != "name":
            yield name, f"{field.description} (default {show(field.default)})"


def _first_line(settings: Any) -> str:
    return (settings.__doc__ or "").strip().splitlines()[0]
