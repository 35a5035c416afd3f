"""The module for --plugin ship_example: settings of two methods, and a dataset."""

from typing import Literal

from pydantic import Field

from ship.plugins import DatasetPlugin, FinetunerSettings, GeneratorSettings
from ship_example.shapes import Shapes


class ResidualTextConfig(GeneratorSettings):
    """The class's text feature moved by a learned linear map, plus noise."""

    method = "ship_example.methods:ResidualText"
    name: Literal["residual_text"] = "residual_text"
    noise: float = Field(0.1, ge=0, description="std of the noise per dimension")
    lr: float = Field(0.01, gt=0, description="AdamW's learning rate")
    epochs: int = Field(20, ge=1, description="passes over the images")
    batch_size: int = Field(256, ge=1, description="images per step")


class RidgeConfig(FinetunerSettings):
    """Ridge regression of the classes on features, added to the zero-shot classifier."""

    method = "ship_example.methods:Ridge"
    name: Literal["ridge"] = "ridge"
    l2: float = Field(1.0, gt=0, description="weight of the penalty")


shapes = DatasetPlugin("shapes", Shapes())
