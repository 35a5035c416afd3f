"""ship-sweep: bring the world to what a study's YAML says, and print its table.

    ship-sweep --space prompt_len.yaml
    ship-sweep --space prompt_len.yaml --set dataset=caltech101 --data-root ~/data

The options are declared here, once, and those that cannot be meant are refused.
Everything heavy (torch, ray, mlflow, pydantic) is imported inside the functions: --help is instant.
"""

from dataclasses import KW_ONLY, dataclass, fields
from pathlib import Path
from typing import Any

import typer

from harness.deploy import FILES
from harness.removed import REMOVED
from reports.command import USER_MISTAKE, Command, command, flag_of, start

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
    """What a command line says. Each option is declared here once, its help is what stands below.

    Attributes:
        pictures (FOLDER): With --predict: the pictures, at any depth.
        space (FILE): The study: a YAML file, or a packaged one by name.
        set_ (KEY=VALUE): Override a key of the YAML, e.g. shots=4, finetuner=coop,
            generator.epochs=5, space.shots=null; may be repeated.
        plugin (FILE): A Python file, or the name of a module, with a custom generator, fine-tuner
            or dataset that the YAML may name; it is run. May be repeated.
        data_root (DIR): Where datasets lie.
        address (ADDRESS): Ray cluster: local, auto or HOST:PORT.
        in_process: Run one trial after the other in this process: for a debugger, and whole
            tracebacks. The numbers are the same.
        cache_dir (DIR): Features, checkpoints, and writes that the store lacks.
        storage (URI): Where checkpoints of running trials lie: a folder that all nodes see, or e.g.
            s3://BUCKET/PREFIX; by default in the cache folder.
        dry_run: Print what is done, what would run, and, once a trial has finished, how long it
            would take; run nothing.
        prefetch (WHAT): Run nothing, but fetch what the study needs, where there is a network:
            downloads (weights, and pictures as ship-data does), or features (these, and extract
            them).
        no_reuse: Run what other studies of the store have finished of the same settings, too.
        accept_changes: Rerun settings whose constants, data or weights have changed, and drop their
            finished rows from the table. Otherwise such a study is refused.
        retry_non_finite: Run seeds again that failed because a loss, logit or synthetic feature was
            NaN or infinite. On a GPU that need not recur.
        verbose: Let Ray and MLflow speak.
        copy (NAME): Write a packaged study's YAML into this folder, with its comments. The study
            `template` explains every key.
        list_: List the packaged studies.
        list_options: List generators, fine-tuners, datasets and so on.
        check (NAME): Run no study, but check whether a generator, a fine-tuner or a dataset, say of
            --plugin, does what a trial relies on.
        list_backbones: List the backbones that can be used.
        all_: With --list-backbones: the refused ones, and why.
        predict (STUDY): Run no study, but name the pictures of FOLDER by what one of its settings
            has trained (save: true); the file is STUDY-predictions.csv here.
        setting (KEY=VALUE): With --predict: a factor's level of the setting that is meant; may be
            repeated; by default the setting that selection prefers. Where datasets differ, the
            dataset must be named.
        deploy (NAME): Print a cluster's recipe, e.g. slurm; readme has all.
        version: Print the version.
    """

    pictures: Path | None = None
    _: KW_ONLY
    space: str | None = None
    set_: list[str] | None = None
    plugin: list[str] | None = None
    data_root: Path | None = None
    address: str = "local"
    in_process: bool = False
    cache_dir: Path | None = None
    storage: str | None = None
    dry_run: bool = False
    prefetch: str | None = None
    no_reuse: bool = False
    accept_changes: bool = False
    retry_non_finite: bool = False
    verbose: bool = False
    copy: str | None = None
    list_: bool = False
    list_options: bool = False
    check: str | None = None
    list_backbones: bool = False
    all_: bool = False
    predict: str | None = None
    setting: list[str] | None = None
    deploy: str | None = None
    version: bool = False


def check_options(options: Options) -> None:
    """Refuse options that cannot be meant, before anything heavy is imported.

    Raises:
        ConfigError: a line for each.
    """
    from harness.errors import ConfigError, Fault, address_fault

    changed = [one.name for one in fields(Options) if getattr(options, one.name) != one.default]
    given = ["FOLDER" if name == "pictures" else flag_of(name) for name in changed]
    instead = next((one for one in given if one in _INSTEAD), None)
    slip = _slip(options) if "FOLDER" in given and "--predict" not in given else ""
    lines = [slip] if slip else []
    if instead is None and options.space is None and " --space " not in slip:
        from harness.study_files import packaged_names

        must = "must be given: a YAML file or a packaged space"
        lines.insert(0, Fault("--space", must, choices=packaged_names()).text)
    if fault := address_fault(options.address):
        lines.append(fault)
    for name, choices in _CHOICES.items():
        if (value := getattr(options, name)) not in (None, *choices):
            lines.append(Fault(flag_of(name), "must be one of the choices", value, choices).text)
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


_EPILOG = (
    "ship-sweep --copy prompt_len  writes the YAML of a packaged study here\n\n"
    "ship-sweep --space prompt_len.yaml --dry-run  says what it would run\n\n"
    "ship-sweep --space prompt_len.yaml --set seeds=3  runs it with fewer seeds\n\n"
    "Running the same command again goes on where the last one stopped. "
    "Exit codes: 0 the study is complete; 1 --check has found a fault; 2 refused or broken off: a "
    "mistake in the command, the YAML or the data, another driver, or a plugin, store, cluster or "
    "storage that cannot be used; "
    "3 incomplete: trials failed or are missing, the store is away, Ray has died, or another "
    "driver has taken the study over; 130 interrupted; 141 nobody reads what is printed any more."
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class SweepCommand(Command):
    """A command that reports removed options before its options are parsed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments.

        Raises:
            typer.Exit: One or more of them are removed options.
        """
        options = [argument.partition("=")[0] for argument in args]
        sentences = [REMOVED[option] for option in options if option in REMOVED]
        if sentences:
            typer.echo("\n".join(sentences), err=True)
            raise typer.Exit(USER_MISTAKE)
        return super().parse_args(ctx, args)


@command(app, source=Options, epilog=_EPILOG, cls=SweepCommand, pictures={"hidden": True})
def sweep(**given: Any) -> None:
    """Run a study of SHIP: whatever the YAML wants and the store does not have yet."""
    options = Options(**given)
    if options.version:
        from importlib.metadata import version

        typer.echo(version("ship-sweep"))
        return
    from harness.cli.run import carry_out

    carry_out(options)


def main() -> None:
    """Entry point of the ship-sweep script."""
    start(app)


if __name__ == "__main__":
    main()
