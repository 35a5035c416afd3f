"""What one trial is: the settings that decide its numbers, and nothing else."""

from typing import Any, Literal

from pydantic import Field, field_validator

from ship.finetuners import FINETUNERS, FinetunerConfig
from ship.generators import GENERATORS, GeneratorConfig
from ship.settings import Settings
from ship.synthesis import SyntheticConfig

# Raised by hand whenever a change of the method changes the numbers that a setting gives:
# results of another version are never pooled with new ones.
RESULTS_VERSION = 1

Selection = Literal["pseudo_new", "base_val", "test"]


class TrialConfig(Settings):
    """One parameter assignment: everything that, with a seed, decides a row of the ledger."""

    backbone: str = Field("pocket", description="pocket, or an open_clip NAME[:PRETRAINED]")
    dataset: str = Field("emoji", description="emoji, a CoOp dataset, or image_folder:NAME")
    max_classes: int | None = Field(
        None, ge=4, description="at most the dataset's first N classes; null: all"
    )
    protocol: Literal["base_to_new"] = Field(
        "base_to_new", description="train on the first half of the classes, test on both halves"
    )
    shots: int = Field(16, ge=1, description="training pictures a base class, at most")
    views: int = Field(2, ge=0, le=64, description="augmented views of each training picture")
    selection: Selection = Field(
        "pseudo_new",
        description="what chooses the epoch: pseudo-new classes, base validation, or test (a leak)",
    )
    pseudo_new_fraction: float = Field(
        0.5, gt=0, lt=1, description="fraction of the base classes held out as pseudo-new"
    )
    eval_every: int = Field(5, ge=1, description="fine-tuning epochs between selection evaluations")
    generator: GeneratorConfig = Field(
        default_factory=GENERATORS["vae"][0], description="where synthetic features come from"
    )
    finetuner: FinetunerConfig = Field(
        default_factory=FINETUNERS["coop"][0], description="what adapts CLIP to the task"
    )
    synthetic: SyntheticConfig = Field(
        default_factory=SyntheticConfig, description="how synthetic features are used"
    )

    @field_validator("generator", "finetuner", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        """Let `finetuner: coop` stand for `finetuner: {name: coop}` with its defaults."""
        return {"name": value} if isinstance(value, str) else value
