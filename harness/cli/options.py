"""The options of ship-sweep as a dataclass, and the check for invalid combinations."""

from dataclasses import dataclass, fields
from pathlib import Path

from harness.deploy import FILES

_CHOICES = {"prefetch": ("downloads", "features"), "deploy": tuple(FILES)}
# modes that do not run a study -> other options that they accept
_INSTEAD = {
    "--list": (),
    "--list-options": ("--plugin",),
    "--list-backbones": ("--all",),
    "--check": ("--plugin", "--data-root"),
    "--copy": (),
    "--deploy": (),
    "--predict": ("--plugin", "--setting", "FOLDER"),
}
# option -> option that it requires; option -> options that it excludes
_TOGETHER = {"--all": "--list-backbones", "--predict": "FOLDER", "--setting": "--predict"}
_APART = {
    "--in-process": ("--address",),
    "--prefetch": ("--address", "--dry-run"),
}


@dataclass(frozen=True)
class Options:
    """Values of the options of a command line. harness.cli.main declares and explains them.

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
    """Refuse invalid options before anything heavy is imported.

    Raises:
        ConfigError: Some options are invalid. The message has one line for each.
    """
    from harness.errors import ConfigError, Fault, address_fault

    values = {field.name: getattr(options, field.name) for field in fields(options)}
    names = [name for name, value in values.items() if value not in (None, False)]
    used = ["FOLDER" if name == "pictures" else _flag(name) for name in names]
    mode = next((option for option in used if option in _INSTEAD), None)
    slip = _slip(options) if "FOLDER" in used and "--predict" not in used else ""
    lines = [slip] if slip else []
    if mode is None and options.space is None and " --space " not in slip:
        from harness.study_files import packaged_names

        rule = "must be given: a YAML file or a packaged space"
        lines.insert(0, Fault("--space", rule, choices=packaged_names()).text)
    if options.address is not None and (fault := address_fault(options.address)):
        lines.append(fault)
    for name, choices in _CHOICES.items():
        if (value := getattr(options, name)) not in (None, *choices):
            lines.append(Fault(_flag(name), "must be one of the choices", value, choices).text)
    for option in used:
        required = _TOGETHER.get(option)
        if required is not None and required not in used:
            lines.append(f"{option} must come with {required}")
    conflicts = [
        (option, excluded)
        for option in used
        for excluded in _APART.get(option, ())
        if excluded in used
    ]
    if mode is not None:
        accepted = (mode, *_INSTEAD[mode])
        conflicts += [(mode, option) for option in used if option not in accepted]
    lines += [f"{option} must come without {excluded}" for option, excluded in conflicts]
    if lines:
        raise ConfigError(lines)


def _slip(options: Options) -> str:
    """Return the message for an argument without an option, with a suggestion."""
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
    """Return the command line's form of an option's name, e.g. --all for all_."""
    return f"--{name.rstrip('_').replace('_', '-')}"
