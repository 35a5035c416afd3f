"""Generators of synthetic features for classes without pictures, each behind one small contract."""

from typing import Annotated

from pydantic import Field

from ship.generators.base import Generator
from ship.generators.controls import (
    GaussianText,
    GaussianTextConfig,
    NoGeneratorConfig,
    RealPictures,
    RealPicturesConfig,
)
from ship.generators.prompt_vae import PromptVAE, PromptVAEConfig

GeneratorConfig = Annotated[
    PromptVAEConfig | GaussianTextConfig | NoGeneratorConfig | RealPicturesConfig,
    Field(discriminator="name"),
]

# name in YAML -> (its settings, what builds it; None: no synthetic features at all)
GENERATORS = {
    "vae": (PromptVAEConfig, PromptVAE),
    "gaussian_text": (GaussianTextConfig, GaussianText),
    "real": (RealPicturesConfig, RealPictures),
    "none": (NoGeneratorConfig, None),
}

__all__ = ["GENERATORS", "Generator", "GeneratorConfig"]
