"""Fine-tuners on frozen CLIP features: real and synthetic features in, logits over classes out."""

from typing import Annotated

from pydantic import Field

from ship.finetuners.base import Finetuner
from ship.finetuners.clip_adapter import CLIPAdapter, CLIPAdapterConfig
from ship.finetuners.cocoop import CoCoOp, CoCoOpConfig
from ship.finetuners.coop import CoOp, CoOpConfig
from ship.finetuners.gda import GDA, GDAConfig
from ship.finetuners.kgcoop import KgCoOp, KgCoOpConfig
from ship.finetuners.linear_probe import LinearProbe, LinearProbeConfig
from ship.finetuners.tip_adapter import (
    TipAdapter,
    TipAdapterConfig,
    TipAdapterF,
    TipAdapterFConfig,
)
from ship.finetuners.zero_shot import ZeroShot, ZeroShotConfig

FinetunerConfig = Annotated[
    ZeroShotConfig
    | CoOpConfig
    | CoCoOpConfig
    | KgCoOpConfig
    | CLIPAdapterConfig
    | TipAdapterConfig
    | TipAdapterFConfig
    | LinearProbeConfig
    | GDAConfig,
    Field(discriminator="name"),
]

# name in YAML -> (its settings, what builds it)
FINETUNERS = {
    "zero_shot": (ZeroShotConfig, ZeroShot),
    "coop": (CoOpConfig, CoOp),
    "cocoop": (CoCoOpConfig, CoCoOp),
    "kgcoop": (KgCoOpConfig, KgCoOp),
    "clip_adapter": (CLIPAdapterConfig, CLIPAdapter),
    "tip_adapter": (TipAdapterConfig, TipAdapter),
    "tip_adapter_f": (TipAdapterFConfig, TipAdapterF),
    "linear_probe": (LinearProbeConfig, LinearProbe),
    "gda": (GDAConfig, GDA),
}

__all__ = ["FINETUNERS", "Finetuner", "FinetunerConfig"]
