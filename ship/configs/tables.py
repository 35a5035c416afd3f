"""The built-in generators and fine-tuners: their settings, and what builds them, by name."""

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
from ship.registry import Deferred, FinetunerPlugin, GeneratorPlugin, OneOf, Registry
from ship.settings import NamedSettings

# name in YAML -> its settings, and what builds it (None: no synthetic features at all). Builders
# need torch, and are imported when they are called.
GENERATORS: Final = Registry(
    "generator",
    "ship_sweep.generators",
    GeneratorPlugin,
    {
        "vae": GeneratorPlugin(
            PromptVAEConfig, Deferred("ship.generators.prompt_vae:build_prompt_vae")
        ),
        "wgan": GeneratorPlugin(WGANConfig, Deferred("ship.generators.wgan:WGAN")),
        "mlp_vae": GeneratorPlugin(MlpVAEConfig, Deferred("ship.generators.mlp_vae:build_mlp_vae")),
        "gaussian_text": GeneratorPlugin(
            GaussianTextConfig, Deferred("ship.generators.controls:GaussianText")
        ),
        "gaussian_base": GeneratorPlugin(
            GaussianBaseConfig, Deferred("ship.generators.controls:GaussianBase")
        ),
        "knn_gaussian": GeneratorPlugin(
            KnnGaussianConfig, Deferred("ship.generators.neighbours:KnnGaussian")
        ),
        "real": GeneratorPlugin(
            RealPicturesConfig, Deferred("ship.generators.controls:RealPictures")
        ),
        "none": GeneratorPlugin(NoGeneratorConfig, None),
    },
)
FINETUNERS: Final = Registry(
    "finetuner",
    "ship_sweep.finetuners",
    FinetunerPlugin,
    {
        "zero_shot": FinetunerPlugin(
            ZeroShotConfig, Deferred("ship.finetuners.zero_shot:ZeroShot")
        ),
        "coop": FinetunerPlugin(CoOpConfig, Deferred("ship.finetuners.coop:CoOp")),
        "cocoop": FinetunerPlugin(CoCoOpConfig, Deferred("ship.finetuners.cocoop:CoCoOp")),
        "kgcoop": FinetunerPlugin(KgCoOpConfig, Deferred("ship.finetuners.kgcoop:KgCoOp")),
        "coop_dept": FinetunerPlugin(CoOpDePTConfig, Deferred("ship.finetuners.dept:CoOpDePT")),
        "kgcoop_dept": FinetunerPlugin(
            KgCoOpDePTConfig, Deferred("ship.finetuners.dept:KgCoOpDePT")
        ),
        "tcp": FinetunerPlugin(TCPConfig, Deferred("ship.finetuners.tcp:TCP")),
        "clip_adapter": FinetunerPlugin(
            CLIPAdapterConfig, Deferred("ship.finetuners.clip_adapter:CLIPAdapter")
        ),
        "linear_adapter": FinetunerPlugin(
            LinearAdapterConfig, Deferred("ship.finetuners.linear_adapter:LinearAdapter")
        ),
        "tip_adapter": FinetunerPlugin(
            TipAdapterConfig, Deferred("ship.finetuners.tip_adapter:TipAdapter")
        ),
        "tip_adapter_f": FinetunerPlugin(
            TipAdapterFConfig, Deferred("ship.finetuners.tip_adapter:TipAdapterF")
        ),
        "linear_probe": FinetunerPlugin(
            LinearProbeConfig, Deferred("ship.finetuners.linear_probe:LinearProbe")
        ),
        "zs_lp": FinetunerPlugin(ZSLPConfig, Deferred("ship.finetuners.clap:ZSLP")),
        "clap": FinetunerPlugin(CLAPConfig, Deferred("ship.finetuners.clap:CLAP")),
        "lp_plus_plus": FinetunerPlugin(
            LPPlusPlusConfig, Deferred("ship.finetuners.lp_plus_plus:LPPlusPlus")
        ),
        "gda": FinetunerPlugin(GDAConfig, Deferred("ship.finetuners.gda:GDA")),
    },
)

GeneratorConfig = Annotated[NamedSettings, OneOf(GENERATORS)]
FinetunerConfig = Annotated[NamedSettings, OneOf(FINETUNERS)]
