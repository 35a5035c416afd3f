"""What a run is, what became of it, and why: the values of ship.kind, ship.state, ship.failure."""

from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """Whether a run is the study's own, or that of one setting; ship.kind."""

    STUDY = "study"
    TRIAL = "trial"


class State(StrEnum):
    """What became of a run; ship.state. Tables hold COMPLETE runs alone."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"
    INTERRUPTED = "INTERRUPTED"


class Failure(StrEnum):
    """Why a run failed; ship.failure. NON_FINITE alone is never tried again: it would recur."""

    NON_FINITE = "non_finite"
    ERROR = "error"
    TIME_LIMIT = "time_limit"
    WORKER_DIED = "worker_died"
    OUT_OF_MEMORY = "out_of_memory"
    NODE_LOST = "node_lost"


RUN_STATUS: Final = {
    State.RUNNING: "RUNNING",
    State.COMPLETE: "FINISHED",
    State.PRUNED: "FINISHED",
    State.FAIL: "FAILED",
    State.INTERRUPTED: "KILLED",
}
"""ship.state -> MLflow's own run status."""

# The states of a table's rows, as plain text for polars.
COMPLETE: Final = State.COMPLETE.value
PRUNED: Final = State.PRUNED.value
FAIL: Final = State.FAIL.value
MISSING: Final = "MISSING"  # wanted by the study, no run yet; never written to MLflow
