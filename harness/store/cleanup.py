"""Runs that nobody writes to any more."""

from typing import TYPE_CHECKING, Any

from harness.store.batches import set_state
from harness.store.outbox.calls import drop_run, runs_of
from reports.contract import Kind, State, Tag

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


# Why a trial's run was cut short.
INTERRUPTED = "the study was interrupted"
LEFT = "its driver ended without closing it"


def close_dead_runs(client: "MlflowClient", experiment_id: str, reason: str = LEFT) -> int:
    """Mark runs that a dead driver left RUNNING as INTERRUPTED; returns how many there were.

    One whose last state was already written, and only MLflow's status was not, keeps that state.

    Args:
        client: of the store.
        experiment_id: of the study.
        reason: why a trial's run was cut short, for people.
    """
    dead = client.search_runs(
        [experiment_id], filter_string="attributes.status = 'RUNNING'", max_results=1000
    )
    for run in dead:
        if _is_twin(client, experiment_id, run):
            drop_run(client, run.info.run_id)
        else:
            state = _last_state(run)
            told = state is State.INTERRUPTED and run.data.tags.get(Tag.KIND) == Kind.TRIAL
            set_state(client, run.info.run_id, state, {Tag.REASON: reason} if told else None)
    return len(dead)


def _last_state(run: Any) -> State:
    written = State(run.data.tags.get(Tag.STATE, State.RUNNING))
    keeps = run.data.tags.get(Tag.KIND) == Kind.TRIAL and written is not State.RUNNING
    return written if keeps else State.INTERRUPTED


def _is_twin(client: "MlflowClient", experiment_id: str, run: Any) -> bool:
    """Whether a request made a run that had been given up, and another one is written to."""
    key = run.data.tags.get(Tag.RUN_KEY)
    if key is None:
        return False

    def rank(run: Any) -> tuple[bool, int, str]:
        written = len(run.data.params) + len(run.data.metrics)
        return run.info.status != "RUNNING", written, run.info.run_id

    return any(rank(other) > rank(run) for other in runs_of(client, experiment_id, key))
