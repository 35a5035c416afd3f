"""Fine-tuners on frozen CLIP features: real and synthetic features in, logits over classes out."""

from typing import Annotated

from pydantic import Field

from ship.finetuners.base import Finetuner
from ship.finetuners.coop import CoOp, CoOpConfig
from ship.finetuners.tip_adapter import (
    TipAdapter,
    TipAdapterConfig,
    TipAdapterF,
    TipAdapterFConfig,
)
from ship.finetuners.zero_shot import ZeroShot, ZeroShotConfig

FinetunerConfig = Annotated[
    ZeroShotConfig | CoOpConfig | TipAdapterConfig | TipAdapterFConfig,
    Field(discriminator="name"),
]

# name in YAML -> (its settings, what builds it)
FINETUNERS = {
    "zero_shot": (ZeroShotConfig, ZeroShot),
    "coop": (CoOpConfig, CoOp),
    "tip_adapter": (TipAdapterConfig, TipAdapter),
    "tip_adapter_f": (TipAdapterFConfig, TipAdapterF),
}

__all__ = ["FINETUNERS", "Finetuner", "FinetunerConfig"]
