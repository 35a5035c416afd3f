"""Which mistakes are the user's: options that cannot be meant, and errors of the method."""

from reports.contract import redacted


def check_options(
    space: str | None,
    address: str,
    storage: str | None,
    detect: float | None,
    max_seeds: int | None,
    *,
    path: bool,
    prefetch: str | None = None,
    dry_run: bool = False,
    in_process: bool = False,
) -> None:
    """Refuse options that cannot be meant, before anything heavy is imported."""
    from harness.checkpoint_storage import storage_fault
    from harness.cli.address import address_fault
    from harness.errors import ConfigError

    lines = []
    if space is None:
        from harness.study_files import packaged_names

        names = ", ".join(packaged_names())
        lines.append(f"--space must be given: a YAML file or a packaged space (choices: {names})")
    faults = (address_fault(address), storage_fault(storage))
    lines += [redacted(fault) for fault in faults if fault]
    if max_seeds is not None and detect is None:
        lines.append("--max-seeds must come with --detect")
    if path and detect is not None:
        lines.append(
            "--path must come without --detect, which needs a space of one factor: there the path "
            "is one step"
        )
    if in_process and address != "local":
        lines.append("--in-process must come without --address: it starts nothing elsewhere")
    if prefetch is not None:
        lines += _prefetch_faults(
            prefetch, address, dry_run=dry_run, detect=detect is not None, path=path
        )
    if lines:
        raise ConfigError(lines)


def _prefetch_faults(
    what: str, address: str, *, dry_run: bool, detect: bool, path: bool
) -> list[str]:
    from harness.cli.prefetch import CHOICES

    lines = []
    if what not in CHOICES:
        choices = ", ".join(CHOICES)
        lines.append(f"--prefetch must be one of the choices, got {what!r} (choices: {choices})")
    beside = {
        "--address": address != "local",
        "--dry-run": dry_run,
        "--detect": detect,
        "--path": path,
    }
    lines += [f"--prefetch must come without {name}" for name, given in beside.items() if given]
    return lines


def is_users(error: ValueError) -> bool:
    """Whether the method's own error is a mistake of the user's: data, weights or plugins."""
    from ship.architectures import BackboneError
    from ship.datasets import DatasetError
    from ship.plugins import PluginError

    return isinstance(error, BackboneError | DatasetError | PluginError)
