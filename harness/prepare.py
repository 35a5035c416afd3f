"""Before the sweep, on the driver: extract every feature set that the study's trials will read."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from harness.config import StudyConfig
from harness.fingerprints import Fingerprints
from harness.method import Method
from harness.method import Progress as Report
from harness.plan import Plan
from harness.space import levels
from harness.trainable import feature_key
from ship.trial_config import TrialConfig

# the settings that features depend on
READ = ("backbone", "dataset", "views")


def needed(study: StudyConfig, plan: Plan) -> list[TrialConfig]:
    """One trial for each feature set that the plan's work and any proposal may read."""
    configs = [work.setting.config for work in plan.work]
    if plan.proposals:
        configs += [study.trial.model_copy(update=update) for update in _combinations(study)]
    return list({feature_key(config): config for config in configs}.values())


def prepare_features(
    configs: Iterable[TrialConfig],
    fingerprints: Fingerprints,
    method: Method,
    data_root: Path | None,
    cache_dir: Path,
    console: Console,
    device: str = "cpu",
) -> dict[str, Any]:
    """Extract, or read from the cache, one feature set a (backbone, data set, views).

    Raises:
        ValueError: a backbone or a data set that cannot be loaded.
    """
    features: dict[str, Any] = {}
    clip: Any = None
    # one backbone at a time
    for config in sorted(configs, key=lambda config: (config.backbone, config.dataset)):
        if clip is None or clip[0] != config.backbone:
            clip = (config.backbone, method.load_backbone(config.backbone, device))
            fingerprints.remember(config.backbone, clip[1].fingerprint)
        with reporter(f"features: {config.dataset} through {config.backbone}", console) as report:
            features[feature_key(config)] = method.extract(
                clip[1], config.dataset, data_root, config.views, cache_dir, report
            )
    return features


def driver_device(gpus: float) -> str:
    """Where features are extracted: on the driver's GPU if the study asks for one and it is there.

    Args:
        gpus: what a trial of the study takes.
    """
    if not gpus:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def reporter(title: str, console: Console) -> Iterator[Report]:
    """A progress bar with the time left, or a line a quarter where it is no terminal.

    Nothing is shown before the first report: features from the cache take no time.
    """
    if not console.is_terminal:
        yield _Lines(title, console)
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    task = bar.add_task(title, total=None, start=True)

    def report(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield report
    finally:
        bar.stop()


class _Lines:
    """Prints a line at the start and after each quarter."""

    def __init__(self, title: str, console: Console) -> None:
        self._title = title
        self._console = console
        self._quarter = -1

    def __call__(self, done: int, total: int) -> None:
        quarter = 4 * done // total if total else 4
        if quarter > self._quarter:
            self._quarter = quarter
            self._console.print(
                f"{self._title}: {done}/{total}", markup=False, highlight=False, soft_wrap=True
            )


def _combinations(study: StudyConfig) -> Iterator[Mapping[str, Any]]:
    varied = {name: levels_of(study, name) for name in READ if name in study.space}
    for values in product(*varied.values()):
        yield dict(zip(varied, values, strict=True))


def levels_of(study: StudyConfig, name: str) -> list[Any]:
    """Every value that a factor may take; an integer range counts one by one."""
    found = levels(study, name)
    if found is not None:
        return found
    factor = study.space[name]
    if not isinstance(factor.low, int) or not isinstance(factor.high, int):
        raise ValueError(f"space.{name} must have choices: features are extracted for each")
    return list(range(factor.low, factor.high + 1))
