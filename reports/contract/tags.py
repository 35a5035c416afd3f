"""The tags of a study's experiment and runs in MLflow."""

from enum import StrEnum
from typing import Final


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
    # why it was run, where neither the study's grid nor its sampler asks for it: ADDED_BY_PATH
    ADDED = "ship.added"
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

    # of an experiment: who holds the study, and the tokens of who held it before
    LOCK = "ship.lock"
    LAST_DRIVER = "ship.last_driver"

    # MLflow's own
    PARENT_RUN = "mlflow.parentRunId"
    RUN_NOTE = "mlflow.note.content"
    SOURCE_NAME = "mlflow.source.name"
    SOURCE_TYPE = "mlflow.source.type"
    SOURCE_COMMIT = "mlflow.source.git.commit"


FINGERPRINTS: Final = (
    Tag.RESULTS_VERSION,
    Tag.DATASET_FINGERPRINT,
    Tag.BACKBONE_FINGERPRINT,
    Tag.PLUGINS,
)
"""What decides a run's numbers beside its params."""

ADDED_BY_PATH: Final = "path"
"""Value of Tag.ADDED, and of "added" in Tag.WANTED: `ship-sweep --path` asked for it."""

LONG_TAGS: Final = (Tag.FACTORS, Tag.STUDY, Tag.WANTED)
"""Tags that go on in NAME.1, NAME.2 where MLflow would cut them."""
