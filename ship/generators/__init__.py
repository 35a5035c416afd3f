"""Generators of synthetic features for classes without pictures, each behind one small contract."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import Field

from ship.clip import FrozenCLIP
from ship.generators.base import Generator
from ship.generators.controls import (
    GaussianBase,
    GaussianBaseConfig,
    GaussianText,
    GaussianTextConfig,
    NoGeneratorConfig,
    RealPictures,
    RealPicturesConfig,
)
from ship.generators.mlp_vae import MlpVAEConfig, build_mlp_vae
from ship.generators.prompt_vae import PromptVAEConfig, build_prompt_vae
from ship.generators.wgan import WGAN, WGANConfig
from ship.tasks import Task

GeneratorConfig = Annotated[
    PromptVAEConfig
    | WGANConfig
    | MlpVAEConfig
    | GaussianTextConfig
    | GaussianBaseConfig
    | NoGeneratorConfig
    | RealPicturesConfig,
    Field(discriminator="name"),
]

# the settings of that generator, the task to fit it on, the backbone, the seeds
Builder = Callable[[Any, Task, FrozenCLIP, Sequence[int]], Generator]

# name in YAML -> (its settings, what builds it; None: no synthetic features at all)
GENERATORS: dict[str, tuple[type[Any], Builder | None]] = {
    "vae": (PromptVAEConfig, build_prompt_vae),
    "wgan": (WGANConfig, WGAN),
    "mlp_vae": (MlpVAEConfig, build_mlp_vae),
    "gaussian_text": (GaussianTextConfig, GaussianText),
    "gaussian_base": (GaussianBaseConfig, GaussianBase),
    "real": (RealPicturesConfig, RealPictures),
    "none": (NoGeneratorConfig, None),
}

__all__ = ["GENERATORS", "Generator", "GeneratorConfig"]
