"""The names used in the MLflow store, which is the system of record: tags, states, metric keys."""

from enum import StrEnum

PARENT_RUN = "mlflow.parentRunId"
RUN_NOTE = "mlflow.note.content"

KIND = "ship.kind"
STATE = "ship.state"
REASON = "ship.reason"
FAILURE = "ship.failure"
SETTING_KEY = "ship.setting_key"
# unique to each run: tells whether the store has it already when its creation got no answer
RUN_KEY = "ship.run_key"
ARM = "ship.arm"
SEEDS = "ship.seeds"
ASSIGNMENT = "ship.assignment"
DEVICE = "ship.device"
FUSED = "ship.fused"
BACKBONE = "ship.backbone"
WANTED = "ship.wanted"
FLAGS = "ship.flags"
STUDY = "ship.study"
FACTORS = "ship.factors"
RESULTS = "ship.results_version"
DATASET_PRINT = "ship.dataset_fingerprint"
BACKBONE_PRINT = "ship.backbone_fingerprint"
PRINTS = (RESULTS, DATASET_PRINT, BACKBONE_PRINT)

OBJECTIVE = "objective"
SECONDS = "cost/seconds"
PEAK_MEMORY = "cost/peak_memory_mb"
TEXT_TOKENS = "cost/text_tokens"
# of trials that held GPUs: how many, and what memory one has
GPUS = "cost/gpus"
DEVICE_MEMORY = "cost/device_memory_mb"
# analytic FLOPs, percent of the matmul ceiling that they reached, and that ceiling in FLOP/s
FLOPS = "cost/flops"
MFU = "cost/mfu"
MATMUL = "cost/matmul_flops_per_second"


class State(StrEnum):
    """What became of a run; ship.state. Tables hold COMPLETE runs alone."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"
    INTERRUPTED = "INTERRUPTED"


class Failure(StrEnum):
    """Why a run failed; ship.failure. Only NON_FINITE is settled: it would only happen again."""

    NON_FINITE = "non_finite"
    ERROR = "error"
    TIME_LIMIT = "time_limit"
    WORKER_DIED = "worker_died"
    OUT_OF_MEMORY = "out_of_memory"
    NODE_LOST = "node_lost"


# ship.state -> MLflow's own run status
RUN_STATUS = {
    State.RUNNING: "RUNNING",
    State.COMPLETE: "FINISHED",
    State.PRUNED: "FINISHED",
    State.FAIL: "FAILED",
    State.INTERRUPTED: "KILLED",
}


def seed_metric(seed: int, name: str) -> str:
    """The metric key of one seed's final number, e.g. seed_3/test/harmonic_mean."""
    return f"seed_{seed}/{name}"
