"""A study from Python: the same as `ship-sweep --space`, from a script or a notebook."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.config import StudyConfig
    from harness.planning import Plan, StudyOutcome


def run_study(
    space: str | Path,
    overrides: Sequence[str] = (),
    *,
    plugins: Sequence[str | Path] = (),
    data_root: Path | str | None = None,
    address: str | None = None,
    in_process: bool = False,
    cache_dir: Path | str | None = None,
    storage: str | None = None,
    tracking_uri: str | None = None,
    detect: float | None = None,
    max_seeds: int | None = None,
    path: bool = False,
    accept_changes: bool = False,
    verbose: bool = False,
) -> "StudyOutcome":
    """Run whatever a study's YAML wants and the store does not have. The same call again resumes.

    Progress is printed as the command prints it. The report is not made: read the study with
    `reports.load_study(outcome.experiment, outcome.tracking_uri)`.

    Args:
        space: a YAML file, or the name of a packaged study.
        overrides: as of --set, e.g. ["seeds=3", "generator.epochs=5"].
        plugins: files with generators, fine-tuners or datasets of one's own, which the study may
            name; they are run, and stay known to this process.
        data_root: where data sets lie.
        address: of a running Ray cluster (HOST:PORT or "auto"); None: this machine.
        in_process: run one trial after the other in this process, so that a debugger stops in a
            method of one's own; the store and the numbers are the same.
        cache_dir: for features, checkpoints, and writes that the store lacks.
        storage: where checkpoints of running trials lie; see ship-sweep --storage.
        tracking_uri: of the MLflow store; None: MLFLOW_TRACKING_URI, else ./mlflow.db.
        detect: points; gives more seeds to what is undecided, see ship-sweep --detect.
        max_seeds: the most seeds of a setting, with detect.
        path: whether to run then what is missing on the path from the baseline to the setting that
            selection prefers; see ship-sweep --path.
        accept_changes: whether finished rows may leave the table since constants, data or weights
            have changed.
        verbose: let Ray and MLflow speak.

    Returns:
        What the study has come to: counts of settings, whether it is complete, and where it is.

    Raises:
        harness.errors.UserError: a mistake in the YAML or the data, a store or a cluster that
            cannot be used; one clear message with every fault.
        KeyboardInterrupt: interrupted while the store was away.
    """
    study = _load(space, overrides, plugins, data_root, here=address is None)
    from harness.planning import Consent
    from harness.study import run_study as run

    return run(
        study,
        data_root=_path(data_root),
        address=address,
        in_process=in_process,
        verbose=verbose,
        cache_dir=_path(cache_dir),
        storage=storage,
        tracking_uri=tracking_uri,
        detect=detect,
        max_seeds=max_seeds,
        path=path,
        consent=Consent(accept_changes, None),
    )


def plan_study(
    space: str | Path,
    overrides: Sequence[str] = (),
    *,
    plugins: Sequence[str | Path] = (),
    data_root: Path | str | None = None,
    cache_dir: Path | str | None = None,
    tracking_uri: str | None = None,
    detect: float | None = None,
    max_seeds: int | None = None,
    path: bool = False,
) -> "Plan":
    """What run_study would do next, and how long that would take on this machine; runs nothing.

    What finding out the time takes is printed.

    Args:
        space, overrides, plugins, data_root, cache_dir, tracking_uri: see run_study.
        detect, max_seeds, path: see run_study; with them it is the next round that is planned.

    Returns:
        The plan: `rows` (setting, state, seeds that would run), `finished`, `estimate` and `notes`,
        as ship-sweep --dry-run prints them.

    Raises:
        harness.errors.UserError: see run_study.
    """
    study = _load(space, overrides, plugins, data_root, here=True)
    from harness.study import plan_study as plan

    return plan(
        study,
        data_root=_path(data_root),
        tracking_uri=tracking_uri,
        cache_dir=_path(cache_dir),
        detect=detect,
        max_seeds=max_seeds,
        path=path,
        say=print,
    )


def _load(
    space: str | Path,
    overrides: Sequence[str],
    plugins: Sequence[str | Path],
    data_root: Path | str | None,
    *,
    here: bool,
) -> "StudyConfig":
    """The study, with the plugins loaded that it may name; here: it is to run on this machine."""
    from harness.config import load_plugins, load_study
    from harness.device import machine_memory
    from harness.errors import ConfigError

    load_plugins(plugins)
    if isinstance(overrides, str) or not all(isinstance(one, str) for one in overrides):
        raise ConfigError([f'overrides must be a list such as ["seeds=3"], got {overrides!r}'])
    memory = machine_memory() if here else None
    return load_study(space, overrides, _path(data_root), memory=memory)


def _path(given: Path | str | None) -> Path | None:
    return None if given is None else Path(given)
