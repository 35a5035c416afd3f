"""Define how a study is stored in MLflow: tags, states, metric keys and files of its runs.

The code that writes the store and the code that reads it share these names. This module imports
only the standard library.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """Kind of a run (ship.kind): the study's own, or a trial of one configuration."""

    STUDY = "study"
    TRIAL = "trial"


class State(StrEnum):
    """State of a run (ship.state). Tables contain only COMPLETE runs."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"
    INTERRUPTED = "INTERRUPTED"


class Failure(StrEnum):
    """Kind of a run's failure (ship.failure).

    When the study is run again, all kinds but NON_FINITE are retried. That kind is retried only
    with --retry-non-finite.
    """

    NON_FINITE = "non_finite"
    ERROR = "error"
    TIME_LIMIT = "trial_timeout"
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
MISSING: Final = "MISSING"  # planned, but without a run; never written to MLflow


class Tag(StrEnum):
    """Every tag that ship-sweep writes; a member is the tag's name."""

    # every run
    KIND = "ship.kind"
    STATE = "ship.state"
    SELECTION = "ship.selection"
    CODE_VERSION = "ship.code_version"
    PACKAGES = "ship.packages"
    # unique to each run: finds a run if the answer to the request that created it was lost
    RUN_KEY = "ship.run_key"

    # a study's own run: text
    OBJECTIVE = "ship.objective"
    SAMPLER = "ship.sampler"
    BEST = "ship.best_config"  # label of the configuration with the best selection score
    PUBLISHED = "ship.published"  # digest of the published report
    YAML_DIGEST = "ship.yaml_digest"  # of the files study.yaml and study.resolved.yaml
    # a study's own run: JSON
    FACTORS = "ship.factors"
    STUDY = "ship.study"
    PLANNED = "ship.planned"

    # a trial's run: its configuration
    CONFIG_KEY = "ship.config_key"
    CONTROL = "ship.control"
    SEEDS = "ship.seeds"
    ASSIGNMENT = "ship.assignment"
    # a reused result: the run of the same configuration that computed it, and that run's study
    REUSED_RUN = "ship.reused_run"
    REUSED_STUDY = "ship.reused_study"
    # what determined its numbers
    PROTOCOL = "ship.protocol"
    BACKBONE = "ship.backbone"
    DATASET = "ship.dataset"
    SPLIT_VERSION = "ship.split_version"
    RESULTS_VERSION = "ship.results_version"
    DATASET_FINGERPRINT = "ship.dataset_fingerprint"
    BACKBONE_FINGERPRINT = "ship.backbone_fingerprint"
    # only with plugins: "finetuner ridge: ship-example 0.1", or a file's SHA-256
    PLUGINS = "ship.plugins"
    DEMONSTRATION = "ship.demonstration"
    DEVICE = "ship.device"
    # how it ended
    REASON = "ship.reason"
    FAILURE = "ship.failure"
    FLAGS = "ship.flags"

    # an experiment: owner of the study's lease. Another name would not keep out drivers of
    # earlier versions.
    LEASE = "ship.lock"

    # MLflow's own
    PARENT_RUN = "mlflow.parentRunId"
    RUN_NOTE = "mlflow.note.content"
    SOURCE_NAME = "mlflow.source.name"
    SOURCE_TYPE = "mlflow.source.type"
    SOURCE_COMMIT = "mlflow.source.git.commit"
    # an experiment's: the metric that MLflow's charts show first
    PRIMARY_METRIC = "mlflow.experiment.primaryMetric.name"
    PRIMARY_IS_GREATER_BETTER = "mlflow.experiment.primaryMetric.greaterIsBetter"


LONG_TAGS: Final = (Tag.FACTORS, Tag.STUDY, Tag.PLANNED)
"""Tags that are continued in NAME.1, NAME.2 and so on, because MLflow would truncate them."""


def join_tag(tags: Mapping[str, str], name: str, default: str = "") -> str:
    """Return the full text of a tag that may be continued in NAME.1, NAME.2 and so on.

    Args:
        tags: Tags of a run.
        name: Name of the first tag.
        default: Text to return if the run lacks the tag.
    """
    text, index = tags.get(name, default), 1
    while f"{name}.{index}" in tags:
        text += tags[f"{name}.{index}"]
        index += 1
    return text


OBJECTIVE: Final = "objective"  # metric of a trial: mean of the study's objective over seeds
# Prefixes of metric names.
TARGET: Final = "accuracy/"  # cross_dataset: the accuracy on one target
QUALITY: Final = "quality/"  # quality of synthetic features
CUSTOM: Final = "custom/"  # metrics of plugins, as ship.metrics names them
FLAG: Final = "flag/"  # one of FLAGS
HEADLINE: Final = "headline/"  # only in the study's own run
LOAD: Final = "system/"  # load of the worker's machine over epochs
# Prefixes of the last part of a metric's key.
_SEED: Final = "seed_"
_CURVE: Final = "curve_seed_"
_TESTED_TRAINING: Final = "final"  # ship.trial's name of the stage that trains the tested model


class Cost(StrEnum):
    """Cost of a trial. Each member is a metric's key.

    SECONDS is the computation time in seconds, without waiting. PEAK_MEMORY is in MiB. TEXT_TOKENS
    is the number of tokens that passed through the text encoder.
    """

    SECONDS = "trial/seconds"
    PEAK_MEMORY = "trial/peak_memory_mb"
    TEXT_TOKENS = "trial/text_tokens"


def name_stage_metric(stage: str, name: str) -> str:
    """Return the key of a metric over epochs, such as selection/loss.

    The part before the slash is a section of MLflow's UI, which sorts sections by name: `selection`
    and `test` come before `training` (of the model that is tested) and `trial` (costs).

    Args:
        stage: Stage of a trial, as `ship.trial` names it. A suffix "_quality" is removed.
        name: Name of the metric.
    """
    section = stage.removesuffix("_quality")
    return f"{section.replace(_TESTED_TRAINING, 'training')}/{name}"


def name_seed_metric(seed: int, name: str) -> str:
    """Return the key of one seed's final number, such as test/harmonic_mean/seed_3.

    A final number is a metric's only value in a trial, such as a test metric, or its value at the
    selected epoch.
    """
    return f"{name}/{_SEED}{seed}"


def name_curve_metric(seed: int, name: str) -> str:
    """Return the key of one seed's metric over epochs, such as selection/loss/curve_seed_3.

    The value of the selected epoch is a final number, with the key of `name_seed_metric`.
    """
    return f"{name}/{_CURVE}{seed}"


def make_interval_metrics(name: str, low: float | None, high: float | None) -> dict[str, float]:
    """Return an interval as the metrics NAME_low and NAME_high. An end that is None is left out."""
    ends = {"low": low, "high": high}
    return {f"{name}_{end}": value for end, value in ends.items() if value is not None}


def split_seed(key: str) -> tuple[int, str] | None:
    """Return the seed and the name of one seed's final number. None for the key of another metric.

    Examples:
        >>> split_seed("test/harmonic_mean/seed_3")
        (3, 'test/harmonic_mean')
    """
    return _split_key(key, _SEED)


def split_curve(key: str) -> tuple[int, str] | None:
    """Return the seed and the name of one seed's curve over epochs. None for any other metric."""
    return _split_key(key, _CURVE)


def _split_key(key: str, prefix: str) -> tuple[int, str] | None:
    """Return the seed and NAME of a key NAME/{prefix}{seed}. None for any other key."""
    name, _, last_part = key.rpartition("/")
    seed = last_part.removeprefix(prefix)
    return (int(seed), name) if name and seed != last_part and seed.isdecimal() else None


MAX_METRIC_VALUE: Final = 1e300
"""Metric values of at least this magnitude count as not finite.

MLflow's SQL store writes an infinity as the largest float.
"""

MAX_STUDIES: Final = 50_000  # per store; MLflow returns at most this many in one request

FLAGS: Final = {
    "posterior_collapse": (
        "posterior collapse",
        "no latent unit is active (variance of its posterior mean above 0.01)",
    ),
    "diversity_collapse": (
        "diversity collapse",
        "diversity within a class, or effective rank, below a tenth of the real features'; not"
        " checked for real images, or for text features, which do not vary within a class",
    ),
    "mean_gap": (
        "mean gap",
        "synthetic class means are further from the real ones than the text features are, by more"
        " than 0.02 in cosine",
    ),
    "last_epoch": (
        "last epoch",
        "selection chose the last epoch (with selection authors: of the generator): longer training"
        " might be better",
    ),
    "untrained": (
        "tested untrained",
        "selection chose epoch 0, the untrained fine-tuner",
    ),
    "saturated": (
        "saturated",
        "at least half of the evaluated epochs share the best selection score, so that selection"
        " cannot distinguish epochs",
    ),
    "grid_edge": (
        "edge of the grid",
        "selection chose the largest or smallest alpha, beta or ratio that it tried: a better value"
        " may be outside the grid",
    ),
}
"""Key of a flag that a trial may raise -> the flag's name in footnotes, and its meaning."""


# Folder of trained models, in studies with save_models: true (ship.trial.trained).
TRAINED: Final = "trained"
# All final numbers of a trial's run: one row per metric, one column per seed.
SEEDS_CSV: Final = "seeds.csv"
# Correct predictions of a trial's run: one row per test image, with the four columns below. Further
# columns are True where a seed's prediction is correct. They are named like metrics of seeds:
# own/seed_3 is about predictions among the classes of the image's kind (seen or unseen), and
# all/seed_3 about predictions among all competing classes.
CORRECT_FILE: Final = "correct.parquet"
EVAL_SET: Final = "eval_set"  # metric that the image counts towards, or ""
CLASS_ID: Final = "class_id"
CLASS: Final = "class"  # name of the class
SEEN: Final = "seen"  # whether the model was trained on real images of the class


def name_trained_file(seed: int) -> str:
    """Return the name of a seed's file in the folder TRAINED, e.g. seed_3.safetensors."""
    return f"seed_{seed}.safetensors"


REPORT: Final = "report"  # folder of the report among the artifacts of the study's own run


@dataclass(frozen=True)
class Publication:
    """A report as the study's own run shows it.

    Attributes:
        metrics: Metrics by key, all under HEADLINE.
        params: Options that all configurations of the study share, as text by dotted name.
        best: Label of the configuration with the best selection score. "" if there is none.
        note: Report as Markdown of any length, for the run's description.
        answer: Only the answer and the study's description, for MLflow's list of experiments.
        page: Name of the file to open in a browser.
        stamp: Digest of the report's inputs. Equal stamps mean equal files.
        files: Function that returns the content of each file by name.
        differences: Run ID of a trial -> its configuration's difference from the baseline, as text.
    """

    metrics: Mapping[str, float]
    params: Mapping[str, str]
    best: str
    note: str
    answer: str
    page: str
    stamp: str
    files: Callable[[], Mapping[str, bytes]]
    differences: Mapping[str, str] = field(default_factory=dict)
