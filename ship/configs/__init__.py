"""What each part of a trial may be set to: pydantic classes and names, without torch.

Answers for: the keys of a YAML below a trial's own (ship.trial_config), their bounds and what they
mean, and the tables of generators and fine-tuners, which plugins join. What is configured stands
in the package of the same name, and imports its class from here.
"""

from ship.configs.files import opened
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
from ship.configs.objectives import OBJECTIVES, SEEN_OBJECTIVES, Objective, ProtocolName
from ship.configs.prompt import NamePosition, PromptMode, uses_z
from ship.configs.synthetic import SyntheticConfig
from ship.configs.tables import FINETUNERS, GENERATORS, FinetunerConfig, GeneratorConfig

__all__ = [
    "FINETUNERS",
    "GENERATORS",
    "OBJECTIVES",
    "SEEN_OBJECTIVES",
    "CLAPConfig",
    "CLIPAdapterConfig",
    "CoCoOpConfig",
    "CoOpConfig",
    "CoOpDePTConfig",
    "FinetunerConfig",
    "GDAConfig",
    "GaussianBaseConfig",
    "GaussianTextConfig",
    "GeneratorConfig",
    "KgCoOpConfig",
    "KgCoOpDePTConfig",
    "KnnGaussianConfig",
    "LPPlusPlusConfig",
    "LinearAdapterConfig",
    "LinearProbeConfig",
    "MlpVAEConfig",
    "NamePosition",
    "NoGeneratorConfig",
    "Objective",
    "PromptMode",
    "PromptVAEConfig",
    "ProtocolName",
    "RealPicturesConfig",
    "SyntheticConfig",
    "TCPConfig",
    "TipAdapterConfig",
    "TipAdapterFConfig",
    "WGANConfig",
    "ZSLPConfig",
    "ZeroShotConfig",
    "opened",
    "uses_z",
]
