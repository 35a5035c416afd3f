"""What ship-sweep loads: settings, and what builds them (torch is imported by then)."""

from typing import Literal

from pydantic import Field

from ship.plugins import (
    DatasetPlugin,
    Deferred,
    FinetunerPlugin,
    GeneratorPlugin,
    NamedSettings,
)
from ship_example.shapes import Shapes


class ResidualTextConfig(NamedSettings):
    """The class's text feature moved by a learned linear map, plus noise."""

    name: Literal["residual_text"] = "residual_text"
    noise: float = Field(0.1, ge=0, description="std of the noise per dimension")
    lr: float = Field(0.01, gt=0, description="Adam's learning rate")
    epochs: int = Field(20, ge=1, description="steps, each over all pictures")


class RidgeConfig(NamedSettings):
    """Ridge regression of the classes on features, beside the zero-shot classifier; no epochs."""

    name: Literal["ridge"] = "ridge"
    l2: float = Field(1.0, gt=0, description="weight of the penalty")
    share: float = Field(0.5, ge=0, le=1, description="share of the regression in the scores")


residual_text = GeneratorPlugin(
    ResidualTextConfig, Deferred("ship_example.residual_text:build_residual_text")
)
ridge = FinetunerPlugin(RidgeConfig, Deferred("ship_example.ridge:build_ridge"))
shapes = DatasetPlugin("shapes", Shapes())
