"""The generators and the fine-tuners that a YAML may name: their settings, by name."""

from typing import Annotated, Final

from ship.configs.finetuners import (
    CLAPConfig,
    CLIPAdapterConfig,
    CoCoOpConfig,
    CoOpConfig,
    CoOpDePTConfig,
    GDAConfig,
    KgCoOpConfig,
    KgCoOpDePTConfig,
    LinearAdapterConfig,
    LinearProbeConfig,
    LPPlusPlusConfig,
    TCPConfig,
    TipAdapterConfig,
    TipAdapterFConfig,
    ZeroShotConfig,
    ZSLPConfig,
)
from ship.configs.generators import (
    GaussianBaseConfig,
    GaussianTextConfig,
    KnnGaussianConfig,
    MlpVAEConfig,
    NoGeneratorConfig,
    PromptVAEConfig,
    RealPicturesConfig,
    WGANConfig,
)
from ship.registry import OneOf, Registry, name_of
from ship.settings import FinetunerSettings, GeneratorSettings, NamedSettings

# in the order in which they are listed
_GENERATORS: Final[tuple[type[GeneratorSettings], ...]] = (
    PromptVAEConfig,
    WGANConfig,
    MlpVAEConfig,
    GaussianTextConfig,
    GaussianBaseConfig,
    KnnGaussianConfig,
    RealPicturesConfig,
    NoGeneratorConfig,
)
_FINETUNERS: Final[tuple[type[FinetunerSettings], ...]] = (
    ZeroShotConfig,
    CoOpConfig,
    CoCoOpConfig,
    KgCoOpConfig,
    CoOpDePTConfig,
    KgCoOpDePTConfig,
    TCPConfig,
    CLIPAdapterConfig,
    LinearAdapterConfig,
    TipAdapterConfig,
    TipAdapterFConfig,
    LinearProbeConfig,
    ZSLPConfig,
    CLAPConfig,
    LPPlusPlusConfig,
    GDAConfig,
)
GENERATORS: Final[Registry[type[GeneratorSettings]]] = Registry(
    "generator",
    "ship_sweep.generators",
    GeneratorSettings,
    {name_of(kind): kind for kind in _GENERATORS},
)
FINETUNERS: Final[Registry[type[FinetunerSettings]]] = Registry(
    "finetuner",
    "ship_sweep.finetuners",
    FinetunerSettings,
    {name_of(kind): kind for kind in _FINETUNERS},
)

GeneratorConfig = Annotated[NamedSettings, OneOf(GENERATORS)]
FinetunerConfig = Annotated[NamedSettings, OneOf(FINETUNERS)]
