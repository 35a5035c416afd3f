"""The names under which a study stands in MLflow: the one source for writer and reader.

Answers for: tags, states, metric keys, and the file of right answers. Imports nothing heavy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    """Why a run failed; ship.failure. NON_FINITE is tried again with --retry-non-finite alone."""

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


class Tag(StrEnum):
    """Every tag that ship-sweep writes; a member is the tag's name."""

    # of every run
    KIND = "ship.kind"
    STATE = "ship.state"
    SELECTION = "ship.selection"
    CODE_VERSION = "ship.code_version"
    PACKAGES = "ship.packages"
    # unique to each run: tells whether the store has it already when its creation got no answer
    RUN_KEY = "ship.run_key"

    # of a study's own run; OBJECTIVE and SAMPLER as the YAML has them, the others JSON
    OBJECTIVE = "ship.objective"
    SAMPLER = "ship.sampler"
    FACTORS = "ship.factors"
    STUDY = "ship.study"
    WANTED = "ship.wanted"
    # the setting that selection prefers, in words, and a digest of the report that the run shows
    BEST = "ship.best_setting"
    PUBLISHED = "ship.published"

    # of a trial's run: which setting it is
    SETTING_KEY = "ship.setting_key"
    ARM = "ship.arm"
    SEEDS = "ship.seeds"
    ASSIGNMENT = "ship.assignment"
    # of one that was not run here: the run of the same setting that has its numbers, and its study
    ADOPTED_RUN = "ship.adopted_run"
    ADOPTED_STUDY = "ship.adopted_study"
    # what made its numbers
    PROTOCOL = "ship.protocol"
    BACKBONE = "ship.backbone"
    DATASET = "ship.dataset"
    SPLIT_VERSION = "ship.split_version"
    RESULTS_VERSION = "ship.results_version"
    DATASET_FINGERPRINT = "ship.dataset_fingerprint"
    BACKBONE_FINGERPRINT = "ship.backbone_fingerprint"
    # of a setting with plugins alone: "finetuner ridge: ship-example 0.1", or a file's SHA-256
    PLUGINS = "ship.plugins"
    DEMONSTRATION = "ship.demonstration"
    DEVICE = "ship.device"
    # how it ended
    REASON = "ship.reason"
    FAILURE = "ship.failure"
    FLAGS = "ship.flags"

    # of an experiment: who holds the study
    LOCK = "ship.lock"

    # MLflow's own
    PARENT_RUN = "mlflow.parentRunId"
    RUN_NOTE = "mlflow.note.content"
    SOURCE_NAME = "mlflow.source.name"
    SOURCE_TYPE = "mlflow.source.type"
    SOURCE_COMMIT = "mlflow.source.git.commit"


LONG_TAGS: Final = (Tag.FACTORS, Tag.STUDY, Tag.WANTED)
"""Tags that go on in NAME.1, NAME.2 where MLflow would cut them."""


def joined_tag(tags: Mapping[str, str], name: str, default: str = "") -> str:
    """The whole text of a long tag.

    Args:
        tags: of a run.
        name: of the tag that it begins in.
        default: for a run without it.
    """
    text, place = tags.get(name, default), 1
    while f"{name}.{place}" in tags:
        text += tags[f"{name}.{place}"]
        place += 1
    return text


OBJECTIVE: Final = "objective"
TARGET: Final = "accuracy/"  # cross_dataset: the accuracy on one target
QUALITY: Final = "quality/"
FLAG: Final = "flag/"
HEADLINE: Final = "headline/"  # of the study's own run; no trial's run has any
LOAD: Final = "system/"  # of the worker's machine, over epochs
_SEED: Final = "seed_"


class Cost(StrEnum):
    """What a trial took; a member is the metric's key.

    SECONDS: of computing, without waiting. PEAK_MEMORY: in MiB.
    """

    SECONDS = "cost/seconds"
    PEAK_MEMORY = "cost/peak_memory_mb"
    TEXT_TOKENS = "cost/text_tokens"


def seed_metric(seed: int, name: str) -> str:
    """The metric key of one seed's final number, e.g. seed_3/test/harmonic_mean."""
    return f"{_SEED}{seed}/{name}"


def curve_metric(seed: int, name: str) -> str:
    """The metric key of one seed over epochs, e.g. curve/seed_3/selection/harmonic_mean.

    Not that of the final number, which is of the epoch that selection chose.
    """
    return f"curve/{seed_metric(seed, name)}"


def interval_metrics(name: str, low: float | None, high: float | None) -> dict[str, float]:
    """The metric keys of an interval's ends, NAME_low and NAME_high; {} where there is none."""
    ends = {"low": low, "high": high}
    return {f"{name}_{end}": value for end, value in ends.items() if value is not None}


def split_seed(key: str) -> tuple[int, str] | None:
    """(3, "test/harmonic_mean") of "seed_3/test/harmonic_mean"; None: no seed's own metric."""
    head, _, name = key.partition("/")
    seed = head.removeprefix(_SEED)
    return (int(seed), name) if name and seed != head and seed.isdecimal() else None


LARGEST: Final = 1e300
"""Bound of a metric's value: MLflow's SQL store writes an infinity as the largest float."""

MOST_STUDIES: Final = 50_000  # of a store: the most that MLflow gives at once

FLAGS: Final = {
    "posterior_collapse": (
        "posterior collapse",
        "no latent unit is active (variance of its posterior mean above 0.01)",
    ),
    "diversity_collapse": (
        "diversity collapse",
        "diversity within a class, or effective rank, below a tenth of the real features'; not"
        " asked of text features, points by construction, nor of the few real pictures",
    ),
    "mean_gap": (
        "mean gap",
        "synthetic class means are further from the real ones than the text features are, by more"
        " than 0.02 in cosine",
    ),
    "last_epoch": (
        "last epoch",
        "selection chose the last epoch (or age of the generator): longer training might do better",
    ),
    "untrained": (
        "tested untrained",
        "selection chose epoch 0, the fine-tuner as initialised, though it could train",
    ),
    "saturated": (
        "saturated",
        "at least half of the evaluated epochs share the best selection score, so that selection"
        " cannot tell epochs apart",
    ),
    "grid_edge": (
        "edge of the grid",
        "selection chose the largest or smallest alpha, beta or ratio that it tried: a better one"
        " may lie beyond",
    ),
}
"""Flags that a trial may raise: what a footnote calls them, and what they mean."""


# The right answers of a trial's run, picture by picture: one row a test picture. Beside the columns
# below there is one of booleans for each seed and kind of answer, called as a metric of the seed:
# seed_3/own, among the classes of the picture's own kind (seen or unseen); seed_3/all, among all
# classes that compete.
HITS: Final = "hits.parquet"
# Beside it, of a study with save: true: the folder of what was trained (ship.trial.trained).
TRAINED: Final = "trained"
EXAM: Final = "exam"  # "", or the metric that the picture counts towards
CLASS_ID: Final = "class_id"
CLASS: Final = "class"  # its name
SEEN: Final = "seen"  # whether the model was trained on real pictures of the class


def trained_file(seed: int) -> str:
    """A seed's file in the folder TRAINED, e.g. seed_3.safetensors."""
    return f"seed_{seed}.safetensors"


REPORT: Final = "report"  # the folder of its files among the run's artifacts


@dataclass(frozen=True)
class Publication:
    """A report as the study's own run shows it.

    metrics: by key, all under HEADLINE.
    params: the settings that all of the study's settings share, as text by dotted name.
    best: the setting that selection prefers, in words; "" where it prefers none.
    note: Markdown, of any length.
    answer: the answer and the description alone, for MLflow's list of experiments.
    page: which of the files is the page to open.
    stamp: of what the files are made of: equal stamps, equal files.
    files: makes them: name -> content.
    """

    metrics: Mapping[str, float]
    params: Mapping[str, str]
    best: str
    note: str
    answer: str
    page: str
    stamp: str
    files: Callable[[], Mapping[str, bytes]]
