"""The schedulers of a study: every trial to its end, or successive halving."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from harness.cluster import error_text
from harness.config import AshaScheduler, StudyConfig
from harness.planning import Work
from harness.tuning.places import Places
from harness.tuning.worker_deaths import Deaths
from harness.worker import EVALUATIONS, OBJECTIVE

# more evaluations than any trial has: the last rung of successive halving
MOST_EVALUATIONS = 10_000


class _Setting(NamedTuple):
    """A setting, as far as ASHA looks at trials."""

    trial_id: str


class Unhalved(FIFOScheduler):
    """Every trial runs to its end; deaths of workers are noted before anyone acts on them."""

    def __init__(self, deaths: Deaths, places: Places) -> None:
        """Build it.

        Args:
            deaths: where they are noted.
            places: where trials run.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._deaths = deaths
        self._places = places

    def choose_trial_to_run(self, tune_controller: Any) -> Any | None:
        """The first trial that waits for a place: it is what an idle worker is handed.

        Tune's own choice is the first trial that does not run. Its worker may be starting; Tune
        then hands it the idle worker and kills the one that starts. Where trials are shorter than
        the start of a worker, a study would run on one of its places alone.
        """
        return self._places.look(tune_controller, tune_controller.get_trials())

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Tune tells its scheduler first, then the searcher, then the callbacks."""
        self._deaths.saw(trial.trial_id, error_text(trial))


class Halving(Unhalved):
    """Ray's ASHA over settings.

    It remembers nothing of earlier runs: the first trials of a run that goes on are compared with
    each other.
    """

    def __init__(
        self,
        config: AshaScheduler,
        objective: str,
        find_work: Callable[[str], Work],
        stopped: dict[str, str],
        deaths: Deaths,
        places: Places,
    ) -> None:
        """Build it.

        Args:
            config: of the study.
            objective: the study's, by name.
            find_work: Ray's trial id -> what it trains.
            stopped: where stopped trials are noted, with why.
            deaths: where deaths of workers are noted.
            places: where trials run.
        """
        super().__init__(deaths, places)
        self._objective = objective
        self._find_work = find_work
        self._stopped = stopped
        self._known: set[str] = set()
        self._asha = ASHAScheduler(
            time_attr=EVALUATIONS,
            metric=OBJECTIVE,
            mode="max",
            max_t=MOST_EVALUATIONS,
            grace_period=config.grace_period,
            reduction_factor=config.reduction_factor,
            stop_last_trials=False,
        )

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Judge a trial by its newest evaluation.

        Args:
            tune_controller: Tune's own, handed on to ASHA.
            trial: Tune's trial.
            result: with OBJECTIVE where there was an evaluation of a trial that may be stopped.
        """
        if OBJECTIVE not in result:
            return TrialScheduler.CONTINUE
        # by its key: one that runs again is not judged twice at the same rung
        setting = _Setting(self._find_work(trial.trial_id).setting.key)
        if setting.trial_id not in self._known:
            self._known.add(setting.trial_id)
            self._asha.on_trial_add(tune_controller, setting)  # type: ignore[arg-type]
        decision = self._asha.on_trial_result(tune_controller, setting, result)  # type: ignore[arg-type]
        if decision == TrialScheduler.STOP:
            evaluation, value = result[EVALUATIONS], result[OBJECTIVE]
            self._stopped[trial.trial_id] = (
                f"asha stopped it at evaluation {evaluation}: {self._objective} {value:.2f}"
            )
        return decision


def make_scheduler(
    study: StudyConfig,
    find_work: Callable[[str], Work],
    stopped: dict[str, str],
    deaths: Deaths,
    places: Places,
) -> TrialScheduler:
    """Ray's scheduler; it sees the evaluations of the selection stage, and those alone.

    Args:
        study: for its scheduler.
        find_work: Ray's trial id -> what it trains.
        stopped: where stopped trials are noted, with why.
        deaths: where deaths of workers are noted.
        places: where trials run.
    """
    if not isinstance(study.scheduler, AshaScheduler):
        return Unhalved(deaths, places)
    return Halving(study.scheduler, study.objective, find_work, stopped, deaths, places)
