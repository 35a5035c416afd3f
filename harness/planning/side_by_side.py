"""Calibration as trials run: in workers of a Ray on this machine, as many as run side by side.

Trials share memory and its bandwidth, so that one that is alone on a machine is faster. What Ray
and the workers take to start is measured on the way.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from harness.planning.calibration import Calibration, calibrate
from ship.plugins import PluginFile, carried, load_carried

if TYPE_CHECKING:
    from harness.config import StudyConfig
    from harness.method import Method
    from harness.resources import CountedCosts
    from ship.trial_config import TrialConfig


class Calibrator:
    """Calibrates in a process of its own. What goes wrong is told, as Ray would wrap it."""

    def __init__(
        self,
        costs: "CountedCosts",
        method: "Method",
        device: str,
        threads: int,
        plugins: tuple[PluginFile, ...] = (),
    ) -> None:
        load_carried(plugins)  # before a setting of theirs comes
        self._costs = costs
        # settings of one backbone follow each other, often
        load = lru_cache(maxsize=1)(method.load_backbone)
        self._method = replace(method, load_backbone=load)
        self._device, self._threads = device, threads

    def load(self, config: "TrialConfig") -> str:
        """Load a trial's backbone; why it could not be, or ""."""
        try:
            self._method.load_backbone(config.backbone, self._device, config.precision)
        except Exception as error:  # said by whoever asked
            return _told(error)
        return ""

    def calibrate(self, config: "TrialConfig", n_seeds: int) -> Calibration | str:
        """Measure a setting; or why it could not be."""
        try:
            return calibrate(
                config, n_seeds, self._costs, self._method, self._device, self._threads
            )
        except Exception as error:  # said by whoever asked
            return _told(error)


@dataclass(frozen=True)
class SideBySide:
    """Workers that are there.

    started: seconds that Ray and the workers took to start and load a backbone.
    """

    started: float
    _workers: Sequence[Any]

    def __call__(self, config: "TrialConfig", n_seeds: int) -> Calibration:
        """Measure a setting in all workers at once; the mean of what they find.

        Raises:
            ValueError: the backbone cannot be loaded, or the dataset cannot carry the setting.
        """
        import ray

        asked = [worker.calibrate.remote(config, n_seeds) for worker in self._workers]
        found = [one for one in ray.get(asked) if isinstance(one, Calibration) or _refuse(one)]
        return Calibration(
            statistics.fmean(one.seconds_per_flop for one in found),
            max(one.took for one in found),
        )


@contextmanager
def side_by_side(
    study: "StudyConfig",
    n: int,
    config: "TrialConfig",
    costs: "CountedCosts",
    method: "Method",
) -> Iterator[SideBySide]:
    """Workers of a Ray on this machine, each with what a trial takes; Ray ends with the context.

    Args:
        study: with resources in numbers.
        n: workers.
        config: whose backbone they load at first.
        costs, method: see harness.planning.calibration.calibrate.

    Raises:
        ValueError: the backbone cannot be loaded.
        ClusterError: Ray cannot start, or this machine is too small for one trial.
    """
    started = time.monotonic()
    import ray

    from harness.cluster import ray_session, threads

    resources = study.resources
    device = method.accelerator if resources.gpus else "cpu"
    with ray_session(study, None, 0, verbose=False):
        worker: Any = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus)(Calibrator)
        arguments = costs, method, device, threads(study), carried()
        workers = [worker.remote(*arguments) for _ in range(n)]
        for told in ray.get([one.load.remote(config) for one in workers]):
            if told:
                _refuse(told)
        yield SideBySide(time.monotonic() - started, workers)


def _told(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _refuse(why: str) -> bool:
    raise ValueError(why)
