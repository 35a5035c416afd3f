"""Print the lists of studies, options and backbones, and check methods, datasets and metrics."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from harness import config
from harness.command import CHECK_FAILED
from harness.errors import Fault, UserError
from harness.study_files import list_packaged_spaces
from harness.wording import escape_controls, find_closest, show
from ship.architectures import list_architectures
from ship.configs import FINETUNERS, GENERATORS, METRICS
from ship.datasets import DATASETS, PREFIX, ImageFolder
from ship.prompt_cost import compute_prompt_cost
from ship.protocol_rules import PROTOCOLS
from ship.trial_config import OBJECTIVES, SyntheticConfig, TrialConfig

_DEPENDENT_DEFAULTS = {
    "name": "default: the file's name without .yaml",
    "sampler": "default grid; tpe if a factor is a range without step or levels",
    "dataset": f"default below for backbone {config.BACKBONE}, else required",
}
_BACKBONE_NOTES = (
    "backbone: pocket, NAME:PRETRAINED, where PRETRAINED is a tag from the table or the path of a "
    "checkpoint, or hf-hub:ORG/MODEL for an open_clip repository on the Hugging Face Hub, e.g. "
    "hf-hub:imageomics/bioclip.",
    "size: dimension of a feature. context: maximum number of tokens in a prompt; n_ctx is at most "
    "3 less, because of the start token, the end token and the class name. cost: floating-point "
    "operations of the text encoder per prompt in a training step of CoOp, relative to ViT-B-16. "
    "Encoders without a causal mask (SigLIP, CLIPA, most of MobileCLIP) compute their whole "
    "context for each prompt.",
    "Published weights that were trained with QuickGELU, and checkpoints in OpenAI's own format, "
    "always use QuickGELU, even without -quickgelu in the name (e.g. ViT-B-16:openai). Any other "
    "checkpoint uses QuickGELU only if the backbone's name ends in -quickgelu.",
)


def print_studies() -> None:
    """Print the packaged studies, one line each."""
    table = Table(Column("space", no_wrap=True), "question", box=None, header_style="bold")
    for name, description in list_packaged_spaces():
        table.add_row(name, escape(description))
    _print(table)


def print_options() -> None:
    """Print the keys of a YAML and their choices, with descriptions from the config classes."""
    for key, rows in _make_option_tables().items():
        names = Column(no_wrap=True, min_width=15)
        table = Table(names, Column(), title=key, title_justify="left", box=None, show_header=False)
        table.title_style = "bold"
        for name, line in rows:
            table.add_row(f"  {name}", escape(line))
        _print(table)
    choices = "pocket, NAME:PRETRAINED or hf-hub:ORG/MODEL: see ship-sweep backbones"
    _print(f"[bold]backbone[/] {choices}")


def print_backbones(*, show_all: bool = False) -> None:
    """Print a table of the supported backbones.

    Args:
        show_all: Whether to include the architectures without published weights, and unsupported
            ones with the reason.
    """
    # so narrow that every tag fits on a line of 80 characters, because a split tag cannot be copied
    headings = ("size", "context", "cost")
    sizes = [Column(heading, justify="right", no_wrap=True) for heading in headings]
    columns = (Column("backbone", no_wrap=True), *sizes, Column("pretrained", overflow="fold"))
    table = Table(*columns, box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    rows = list_architectures()
    for row in rows:
        weights = "packaged" if row.name == "pocket" else ", ".join(row.tags)
        if show_all or (weights and not row.refusal):
            refusal = f"refused: {row.refusal}" if row.refusal else ""
            cost = "" if refusal else _format_cost(row.name)
            cells = (str(row.feature_dim), str(row.context_length), cost)
            text = escape(refusal or weights or "only a checkpoint's path")
            table.add_row(row.name, *cells, text, style="dim" if refusal else None)
    _print(table, "")
    if not show_all:
        hidden = f"{len(rows) - table.row_count} more architectures with --all: those without "
        _print(f"{hidden}published weights, and unsupported ones with the reason.")
    _print(*map(escape, _BACKBONE_NOTES))


def _format_cost(backbone: str) -> str:
    """Return a backbone's cost per prompt, relative to ViT-B-16, as text such as "1.0" or "25"."""
    cost = compute_prompt_cost(backbone)
    return f"{cost:.1f}" if cost < 10 else f"{cost:.0f}"


def run_check(name: str, data_root: Path | None) -> None:
    """Run the checks of a generator, fine-tuner, dataset or metric, and print the results.

    Args:
        name: Name in a YAML, either packaged or from a plugin.
        data_root: Folder that contains the datasets' folders. None if they are not needed.

    Raises:
        UserError: There is no generator, fine-tuner, dataset or metric with this name.
        typer.Exit: A check failed.
    """
    from ship.testing import check_dataset, check_finetuner, check_generator, check_metric

    is_image_folder = name.startswith(PREFIX)
    names = [*GENERATORS, *FINETUNERS, *DATASETS, *METRICS]
    if not is_image_folder and name not in names:
        rule = "must be a generator, fine-tuner, dataset or metric"
        fault = Fault("NAME", rule, name, suggestion=find_closest(name, names)).text
        hint = "ship-sweep options lists them; --plugin loads custom ones"
        raise UserError(f"{fault}; {hint}")
    generator, n_failed = GENERATORS.get(name), 0
    checks = {
        "generator": check_generator(name) if generator and generator.method else (),
        "fine-tuner": check_finetuner(name) if name in FINETUNERS else (),
        "dataset": check_dataset(name, data_root) if is_image_folder or name in DATASETS else (),
        "metric": check_metric(name) if name in METRICS else (),
    }
    for kind, results in checks.items():
        for line in map(str, results):
            typer.echo(escape_controls(f"{kind} {name}: {line}"))
            n_failed += line.startswith("FAILED")
    typer.echo(f"failed checks: {n_failed}" if n_failed else "all checks passed")
    if n_failed:
        raise typer.Exit(CHECK_FAILED)


def _print(*items: Table | str) -> None:
    """Print tables and lines."""
    console = Console(highlight=False)
    for item in items:
        console.print(item)


def _make_option_tables() -> Mapping[str, Iterable[tuple[str, str]]]:
    """Return the tables of `ship-sweep options`: title -> rows of (name, description)."""
    datasets = [(name, _describe_dataset(spec)) for name, spec in DATASETS.items()]
    study = _list_fields(config.StudyConfig, _DEPENDENT_DEFAULTS)
    return {
        "keys of a trial": _list_fields(TrialConfig, _DEPENDENT_DEFAULTS),
        f"defaults of backbone {config.BACKBONE}": _list_backbone_defaults(),
        "keys of a study": (row for row in study if row[0] in config.STUDY_KEYS),
        "a factor of space": _list_fields(config.Factor),
        "resources": _list_fields(config.Resources),
        "log": _list_fields(config.Log),
        "generator": _list_variants(GENERATORS),
        "finetuner": _list_variants(FINETUNERS),
        "dataset": [*datasets, (f"{PREFIX}NAME", _get_first_line(ImageFolder))],
        "synthetic": _list_fields(SyntheticConfig),
        "protocol": ((name, rules.summary) for name, rules in PROTOCOLS.items()),
        "objective": ((name, ", ".join(OBJECTIVES[name])) for name in PROTOCOLS),
        "sampler": config.SAMPLERS.items(),
        "scheduler": _list_variants(config.SCHEDULERS),
        "selection": config.SELECTIONS.items(),
    }


def _list_backbone_defaults() -> Iterable[tuple[str, str]]:
    """Yield a row for each group or method of the packaged backbone's defaults."""
    for path, defaults in config.load_defaults().items():
        settings = ", ".join(f"{key} {show(value)}" for key, value in defaults.items())
        yield path or "a trial", settings


def _describe_dataset(spec: Any) -> str:
    """Return the description of a dataset."""
    folder = getattr(spec, "folder", None)
    if folder is None:
        return getattr(spec, "description", "") or _get_first_line(type(spec))
    return f"{spec.classes} classes in DATA_ROOT/{folder}; {spec.template!r}"


def _list_variants(choices: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield a row for each variant of a group, followed by rows for its options."""
    for name, settings in choices.items():
        yield name, _get_first_line(settings)
        for field, line in _list_fields(settings):
            yield f"  .{field}", line


def _list_fields(
    settings: Any, defaults: Mapping[str, str] | None = None
) -> Iterable[tuple[str, str]]:
    """Yield a row for each option of a config class: its name, and its description and default.

    Args:
        settings: The config class.
        defaults: Texts of defaults that depend on other options.
    """
    for name, field in settings.model_fields.items():
        if name != "name" or field.is_required():  # a variant's name is shown in its own row
            yield (
                name,
                f"{field.description} ({(defaults or {}).get(name) or _format_default(field)})",
            )


def _format_default(field: Any) -> str:
    """Return the default of an option as text, e.g. "default 16" or "required"."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return f"default {value.name}" if hasattr(value, "name") else "defaults below"
    return f"default {show(value)}"


def _get_first_line(settings: Any) -> str:
    """Return the first line of a class's docstring."""
    return (settings.__doc__ or "").strip().splitlines()[0]
