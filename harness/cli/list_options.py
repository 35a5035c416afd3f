"""What ship-sweep lists: packaged studies, the names that a YAML may use, and a study's plan."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.wording import duration, printable_lines, show

if TYPE_CHECKING:
    from harness.planning import Estimate, Plan
    from ship.registry import Registry

_NO_DEFAULTS: Mapping[str, str] = {}
_STUDY_DEFAULTS = {
    "name": "default: the file's stem",
    "sampler": "default grid; tpe where a factor is a range without step or levels",
    "objective": "default: see objective below",
}
_STYLES = {"done": "green", "to run": "cyan", "changed": "yellow", "pruned": "dim", "failed": "red"}


def print_spaces() -> None:
    """The packaged studies, one line each."""
    from harness.study_files import packaged_spaces

    table = Table(box=None, header_style="bold")
    table.add_column("space", no_wrap=True)
    table.add_column("question")
    for name, description in packaged_spaces():
        table.add_row(name, escape(description))
    Console(highlight=False).print(table)


def print_options() -> None:
    """Every name that a YAML may choose, by key; the words are those of the settings classes."""
    console = Console(highlight=False)
    for key, rows in _tables().items():
        table = Table(title=key, title_justify="left", title_style="bold", box=None)
        table.show_header = False
        table.add_column(no_wrap=True, min_width=15)
        table.add_column()
        for name, line in rows:
            table.add_row(f"  {name}", escape(line))
        console.print(table)
    console.print("[bold]backbone[/] pocket, else NAME:PRETRAINED: see ship-sweep --list-backbones")


def _tables() -> Mapping[str, Iterable[tuple[str, str]]]:
    """What --list-options shows: title -> rows of a name and its line."""
    from harness.config import (
        SAMPLERS,
        SCHEDULERS,
        SELECTIONS,
        STUDY_KEYS,
        Factor,
        Record,
        Resources,
        StudyConfig,
    )
    from ship.configs import FINETUNERS, GENERATORS
    from ship.datasets import DATASETS, PREFIX, ImageFolder
    from ship.requirements import PROTOCOLS
    from ship.trial_config import SyntheticConfig, TrialConfig

    datasets = {name: _dataset_line(spec) for name, spec in DATASETS.items()}
    datasets[f"{PREFIX}NAME"] = _first_line(ImageFolder)
    datasets |= _installed(DATASETS)
    return {
        "keys of a trial": _fields(TrialConfig),
        "keys of a study": (
            row for row in _fields(StudyConfig, _STUDY_DEFAULTS) if row[0] in STUDY_KEYS
        ),
        "a factor of space": _fields(Factor),
        "resources": _fields(Resources),
        "record": _fields(Record),
        "generator": [*_variants(GENERATORS), *_installed(GENERATORS).items()],
        "finetuner": [*_variants(FINETUNERS), *_installed(FINETUNERS).items()],
        "dataset": datasets.items(),
        "synthetic": _fields(SyntheticConfig),
        "protocol": ((name, _protocol_line(name, rules.line)) for name, rules in PROTOCOLS.items()),
        "objective": ((name, _objective_line(name)) for name in PROTOCOLS),
        "sampler": SAMPLERS.items(),
        "scheduler": _variants(SCHEDULERS),
        "selection": SELECTIONS.items(),
    }


def print_plan(name: str, plan: "Plan", *, here: bool = True) -> None:
    """What is done and what would run, setting by setting, and how long that would take.

    Args:
        here: whether it would run on this machine.
    """
    table = Table(box=None, header_style="bold", title=f"study {name}", title_justify="left")
    table.add_column("setting")
    table.add_column("state", no_wrap=True)
    table.add_column("seeds to run")
    seconds = plan.estimate.seconds if plan.estimate else {}
    if plan.estimate:
        table.add_column("time", justify="right", no_wrap=True)
    for row in plan.rows:
        seeds = ", ".join(str(seed) for seed in row.seeds)
        state = f"[{_STYLES.get(row.state, '')}]{row.state}[/]"
        time = [duration(seconds[row.key])] if row.key in seconds else []
        table.add_row(escape(row.label), state, seeds, *time)
    console = Console(highlight=False)
    console.print(table)
    for note in plan.notes:
        console.print(printable_lines(note), markup=False, soft_wrap=True)
    if plan.proposals:
        console.print(f"{plan.proposals} more settings to be proposed by the sampler")
    if plan.estimate is not None:
        _print_time(console, plan.estimate, here)
    elif plan.seconds is not None:
        console.print(f"estimated compute time left: about {duration(plan.seconds)}")


def _print_time(console: Console, estimate: "Estimate", here: bool) -> None:
    wall = f", about {duration(estimate.wall)} on this machine ({estimate.parts})" if here else ""
    compute = f"about {duration(estimate.compute)}"
    console.print(
        f"estimated compute time left: {compute}{wall}; from {estimate.source}",
        soft_wrap=True,
    )


def _dataset_line(spec: Any) -> str:
    where = getattr(spec, "folder", None)
    if where is None:
        return getattr(spec, "about", "") or _first_line(type(spec))
    return f"{spec.classes} classes in DATA_ROOT/{where}; {spec.template!r}"


def _variants(choices: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Each variant of a group, then its settings."""
    for name, settings in choices.items():
        yield name, _first_line(settings)
        for field, line in _fields(settings):
            yield f"  .{field}", line


def _installed(table: "Registry[Any]") -> dict[str, str]:
    """Plugins of installed packages, which are not imported only to be listed."""
    loaded = set(table)
    return {
        name: f"A plugin of an installed package ({table.group})."
        for name in table.names()
        if name not in loaded
    }


def _fields(settings: Any, defaults: Mapping[str, str] = _NO_DEFAULTS) -> Iterable[tuple[str, str]]:
    """The settings of a group with what they mean and their defaults.

    Args:
        defaults: those that depend on other settings, in words.
    """
    for name, field in settings.model_fields.items():
        if name != "name" or field.is_required():  # else the variant's own, shown above
            yield name, f"{field.description} ({defaults.get(name) or _default(field)})"


def _default(field: Any) -> str:
    """What a setting is where a YAML does not give it."""
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return f"default {value.name}" if hasattr(value, "name") else "defaults below"
    return f"default {show(value)}"


def _protocol_line(name: str, line: str) -> str:
    from harness.config import default_selection

    own = default_selection({"protocol": name}).get("selection")
    note = f" Selection is {own} by default: by validation pictures of all classes." if own else ""
    return line + note


def _objective_line(protocol: Any) -> str:
    from ship.trial_config import OBJECTIVES, SEEN_OBJECTIVES

    first, *others = OBJECTIVES[protocol]
    seen = SEEN_OBJECTIVES[protocol]
    names = ", ".join([f"{first} (default)", *others])
    return names if seen == first else f"{names}; under selection base_val, {seen} alone"


def _first_line(settings: Any) -> str:
    return (settings.__doc__ or "").strip().splitlines()[0]
