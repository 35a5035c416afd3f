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
    if lines:
        raise ConfigError(lines)


def is_users(error: ValueError) -> bool:
    """Whether the method's own error is a mistake of the user's: data or weights are not there."""
    from ship.architectures import BackboneError
    from ship.datasets import DatasetError

    return isinstance(error, BackboneError | DatasetError)
