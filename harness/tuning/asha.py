"""Successive halving that judges each setting of a fused trial by itself."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from harness.cluster import error_text
from harness.config import AshaScheduler, StudyConfig
from harness.tuning.fusion import Group, PrunedSettings
from harness.tuning.places import Places
from harness.tuning.worker_deaths import Deaths
from harness.worker import EVALUATIONS, OBJECTIVE

# more evaluations than any trial has: the last rung of successive halving
MOST_EVALUATIONS = 10_000


class _Member(NamedTuple):
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
    """Ray's ASHA over settings; a Ray trial is stopped when all of its settings are.

    It remembers nothing of earlier runs: the first trials of a run that goes on are compared with
    each other.
    """

    def __init__(
        self,
        config: AshaScheduler,
        objective: str,
        find_group: Callable[[str], Group],
        pruned: PrunedSettings,
        deaths: Deaths,
        places: Places,
    ) -> None:
        """Build it.

        Args:
            config: of the study.
            objective: the study's, by name.
            find_group: Ray's trial id -> the works that it trains.
            pruned: where stopped settings are noted.
            deaths: where deaths of workers are noted.
            places: where trials run.
        """
        super().__init__(deaths, places)
        self._objective = objective
        self._find_group = find_group
        self._pruned = pruned
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
        """Judge the settings whose evaluations the result has.

        Args:
            tune_controller: Tune's own, handed on to ASHA.
            trial: Tune's trial.
            result: OBJECTIVE: of each setting of the trial a value, or None.
        """
        values = result.get(OBJECTIVE)
        if values is None:
            return TrialScheduler.CONTINUE
        for place, value in enumerate(values):
            if value is None or place in self._pruned.of(trial.trial_id):
                continue
            # by its key: one that runs again is not judged twice at the same rung
            member = _Member(self._find_group(trial.trial_id)[place].setting.key)
            if member.trial_id not in self._known:
                self._known.add(member.trial_id)
                self._asha.on_trial_add(tune_controller, member)  # type: ignore[arg-type]
            own = {EVALUATIONS: result[EVALUATIONS], OBJECTIVE: value}
            decision = self._asha.on_trial_result(tune_controller, member, own)  # type: ignore[arg-type]
            if decision == TrialScheduler.STOP:
                reason = f"asha stopped it at evaluation {result[EVALUATIONS]}: "
                self._pruned.add(trial.trial_id, place, f"{reason}{self._objective} {value:.2f}")
        over = len(self._pruned.of(trial.trial_id)) == len(values)
        return TrialScheduler.STOP if over else TrialScheduler.CONTINUE


def make_scheduler(
    study: StudyConfig,
    find_group: Callable[[str], Group],
    pruned: PrunedSettings,
    deaths: Deaths,
    places: Places,
) -> TrialScheduler:
    """Ray's scheduler; it sees the evaluations of the selection stage, and those alone.

    Args:
        study: for its scheduler.
        find_group: Ray's trial id -> the works that it trains.
        pruned: where stopped settings are noted.
        deaths: where deaths of workers are noted.
        places: where trials run.
    """
    if not isinstance(study.scheduler, AshaScheduler):
        return Unhalved(deaths, places)
    return Halving(study.scheduler, study.objective, find_group, pruned, deaths, places)
