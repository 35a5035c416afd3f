"""Generators of synthetic features for classes without pictures, each behind one small contract."""

from collections.abc import Callable, Sequence
from typing import Any

from ship.clip import FrozenCLIP
from ship.configs import (
    GaussianBaseConfig,
    GaussianTextConfig,
    KnnGaussianConfig,
    MlpVAEConfig,
    NoGeneratorConfig,
    PromptVAEConfig,
    RealPicturesConfig,
    WGANConfig,
)
from ship.generators.base import Generator
from ship.generators.controls import GaussianBase, GaussianText, RealPictures
from ship.generators.mlp_vae import build_mlp_vae
from ship.generators.neighbours import KnnGaussian
from ship.generators.prompt_vae import build_prompt_vae
from ship.generators.wgan import WGAN
from ship.tasks import Task

# the settings of that generator, the task to fit it on, the backbone, the seeds
Builder = Callable[[Any, Task, FrozenCLIP, Sequence[int]], Generator]

# name in YAML -> (its settings, what builds it; None: no synthetic features at all)
GENERATORS: dict[str, tuple[type[Any], Builder | None]] = {
    "vae": (PromptVAEConfig, build_prompt_vae),
    "wgan": (WGANConfig, WGAN),
    "mlp_vae": (MlpVAEConfig, build_mlp_vae),
    "gaussian_text": (GaussianTextConfig, GaussianText),
    "gaussian_base": (GaussianBaseConfig, GaussianBase),
    "knn_gaussian": (KnnGaussianConfig, KnnGaussian),
    "real": (RealPicturesConfig, RealPictures),
    "none": (NoGeneratorConfig, None),
}

__all__ = ["GENERATORS", "Generator"]
