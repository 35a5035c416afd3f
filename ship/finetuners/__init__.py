"""Fine-tuners on frozen CLIP features: real and synthetic features in, logits over classes out."""

from ship.configs import (
    CLAPConfig,
    CLIPAdapterConfig,
    CoCoOpConfig,
    CoOpConfig,
    GDAConfig,
    KgCoOpConfig,
    LinearAdapterConfig,
    LinearProbeConfig,
    LPPlusPlusConfig,
    TipAdapterConfig,
    TipAdapterFConfig,
    ZeroShotConfig,
    ZSLPConfig,
)
from ship.finetuners.base import Finetuner
from ship.finetuners.clap import CLAP, ZSLP
from ship.finetuners.clip_adapter import CLIPAdapter
from ship.finetuners.cocoop import CoCoOp
from ship.finetuners.coop import CoOp
from ship.finetuners.gda import GDA
from ship.finetuners.kgcoop import KgCoOp
from ship.finetuners.linear_adapter import LinearAdapter
from ship.finetuners.linear_probe import LinearProbe
from ship.finetuners.lp_plus_plus import LPPlusPlus
from ship.finetuners.tip_adapter import TipAdapter, TipAdapterF
from ship.finetuners.zero_shot import ZeroShot

# name in YAML -> (its settings, what builds it)
FINETUNERS = {
    "zero_shot": (ZeroShotConfig, ZeroShot),
    "coop": (CoOpConfig, CoOp),
    "cocoop": (CoCoOpConfig, CoCoOp),
    "kgcoop": (KgCoOpConfig, KgCoOp),
    "clip_adapter": (CLIPAdapterConfig, CLIPAdapter),
    "linear_adapter": (LinearAdapterConfig, LinearAdapter),
    "tip_adapter": (TipAdapterConfig, TipAdapter),
    "tip_adapter_f": (TipAdapterFConfig, TipAdapterF),
    "linear_probe": (LinearProbeConfig, LinearProbe),
    "zs_lp": (ZSLPConfig, ZSLP),
    "clap": (CLAPConfig, CLAP),
    "lp_plus_plus": (LPPlusPlusConfig, LPPlusPlus),
    "gda": (GDAConfig, GDA),
}

__all__ = ["FINETUNERS", "Finetuner"]
