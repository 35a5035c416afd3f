"""The options of ship-sweep as one value, and the refusal of those that cannot be meant."""

from dataclasses import dataclass, fields
from pathlib import Path

from harness.deploy import FILES

_CHOICES = {"prefetch": ("downloads", "features"), "deploy": tuple(FILES)}
# what is done in place of a study, and the only options that it takes beside its own
_INSTEAD = {
    "--list": (),
    "--list-options": ("--plugin",),
    "--list-backbones": ("--all",),
    "--check": ("--plugin", "--data-root"),
    "--copy": (),
    "--deploy": (),
    "--predict": ("--plugin", "--setting", "FOLDER"),
}
# what an option needs, and what it excludes
_TOGETHER = {"--all": "--list-backbones", "--predict": "FOLDER", "--setting": "--predict"}
_APART = {
    "--in-process": ("--address",),
    "--prefetch": ("--address", "--dry-run"),
}


@dataclass(frozen=True)
class Options:
    """The values of a command line's options; harness.cli.main declares and explains each.

    An option that is not used is None or False.
    """

    pictures: Path | None
    space: str | None
    set_: list[str] | None
    plugin: list[str] | None
    data_root: Path | None
    address: str | None
    in_process: bool
    cache_dir: Path | None
    storage: str | None
    store_timeout: float | None
    dry_run: bool
    prefetch: str | None
    no_reuse: bool
    accept_changes: bool
    retry_non_finite: bool
    verbose: bool
    copy: str | None
    list_: bool
    list_options: bool
    check: str | None
    list_backbones: bool
    all_: bool
    predict: str | None
    setting: list[str] | None
    deploy: str | None


def check_options(options: Options) -> None:
    """Refuse options that cannot be meant, before anything heavy is imported.

    Raises:
        ConfigError: a line for each.
    """
    from harness.errors import ConfigError, Fault, address_fault

    values = {field.name: getattr(options, field.name) for field in fields(options)}
    names = [name for name, value in values.items() if value not in (None, False)]
    given = ["FOLDER" if name == "pictures" else _flag(name) for name in names]
    instead = next((one for one in given if one in _INSTEAD), None)
    slip = _slip(options) if "FOLDER" in given and "--predict" not in given else ""
    lines = [slip] if slip else []
    if instead is None and options.space is None and " --space " not in slip:
        from harness.study_files import packaged_names

        must = "must be given: a YAML file or a packaged space"
        lines.insert(0, Fault("--space", must, choices=packaged_names()).text)
    if options.address is not None and (fault := address_fault(options.address)):
        lines.append(fault)
    for name, choices in _CHOICES.items():
        if (value := getattr(options, name)) not in (None, *choices):
            lines.append(Fault(_flag(name), "must be one of the choices", value, choices).text)
    together = [(one, _TOGETHER[one]) for one in given if one in _TOGETHER]
    lines += [f"{one} must come with {other}" for one, other in together if other not in given]
    apart = [(one, other) for one in given for other in _APART.get(one, ()) if other in given]
    if instead is not None:
        apart += [(instead, one) for one in given if one not in (instead, *_INSTEAD[instead])]
    lines += [f"{one} must come without {other}" for one, other in apart]
    if lines:
        raise ConfigError(lines)


def _slip(options: Options) -> str:
    """Return the line that refuses an argument without an option, with what was probably meant."""
    from harness.study_files import packaged_names

    argument = options.pictures or Path()
    key = next((text for text in options.set_ or () if "=" not in text), None)
    if key is not None:
        return f"--set: no equals sign, got '{key} {argument}'. Use --set {key}={argument}"
    study = argument.suffix in (".yaml", ".yml") or str(argument) in packaged_names()
    if study and options.space is None:
        return f"{argument}: a study needs an option. Use --space {argument}"
    return f"{argument}: unexpected argument. Use --predict STUDY FOLDER to predict images"


def _flag(name: str) -> str:
    """Return how an option is written on the command line: all_ as --all."""
    return f"--{name.rstrip('_').replace('_', '-')}"
