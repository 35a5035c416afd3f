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
_CURVE: Final = "curve_seed_"
_TESTED_TRAINING: Final = "final"  # a stage of ship.trial


class Cost(StrEnum):
    """What a trial took; a member is the metric's key.

    SECONDS: of computing, without waiting. PEAK_MEMORY: in MiB.
    """

    SECONDS = "trial/seconds"
    PEAK_MEMORY = "trial/peak_memory_mb"
    TEXT_TOKENS = "trial/text_tokens"


def stage_metric(stage: str, name: str) -> str:
    """Return the key of a metric over epochs, such as selection/loss.

    MLflow's UI sorts sections by name. `selection` and `test` come first, as the training whose
    model is tested is called `training` there, and what a trial took `trial`.

    Args:
        stage: Stage of a trial, as `ship.trial` names it.
        name: Name of the metric.
    """
    section = stage.removesuffix("_quality")  # with the other metrics of selection
    return f"{section.replace(_TESTED_TRAINING, 'training')}/{name}"


def seed_metric(seed: int, name: str) -> str:
    """Return the metric key of one seed's final number, such as test/harmonic_mean/seed_3."""
    return f"{name}/{_SEED}{seed}"


def curve_metric(seed: int, name: str) -> str:
    """Return the metric key of one seed over epochs, such as selection/loss/curve_seed_3.

    Not that of the final number, which is of the epoch that selection chose.
    """
    return f"{name}/{_CURVE}{seed}"


def interval_metrics(name: str, low: float | None, high: float | None) -> dict[str, float]:
    """Return the metrics of an interval's ends, NAME_low and NAME_high; {} if there is none."""
    ends = {"low": low, "high": high}
    return {f"{name}_{end}": value for end, value in ends.items() if value is not None}


def split_seed(key: str) -> tuple[int, str] | None:
    """Return the seed and name of one seed's final number, and None for any other metric.

    Examples:
        >>> split_seed("test/harmonic_mean/seed_3")
        (3, 'test/harmonic_mean')
    """
    return _split(key, _SEED)


def split_curve(key: str) -> tuple[int, str] | None:
    """Return the seed and name of one seed's metric over epochs, and None for any other metric."""
    return _split(key, _CURVE)


def _split(key: str, mark: str) -> tuple[int, str] | None:
    name, _, last = key.rpartition("/")
    seed = last.removeprefix(mark)
    return (int(seed), name) if name and seed != last and seed.isdecimal() else None


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
        " asked of text features, points by construction, nor of the few real images",
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
# own/seed_3, among the classes of the picture's own kind (seen or unseen); all/seed_3, among all
# classes that compete.
HITS: Final = "hits.parquet"
# All final numbers of each seed: a row a metric, a column a seed.
SEED_TABLE: Final = "seeds.csv"
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
