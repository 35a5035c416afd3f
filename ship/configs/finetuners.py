"""Settings of the fine-tuners."""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator

from ship.settings import FinetunerSettings, NamePosition
from ship.whole_file import read_whole

MAX_DESCRIPTIONS_BYTES: Final = 64 * 2**20
"""Maximum size of a `descriptions` file."""

# Fields shared by the fine-tuners that learn prompts.
_NCtx = Annotated[int, Field(ge=1, description="number of learned context vectors")]
_CtxInit = Annotated[
    str | None, Field(description="words that initialize the context vectors; null: random")
]
_SgdRate = Annotated[float, Field(gt=0, description="SGD's peak learning rate (see `optimizer`)")]
_Optimizer = Annotated[
    Literal["sgd", "dassl"],
    Field(
        description="sgd: SGD without momentum, and a cosine schedule to 0 that is updated every "
        "step (SHIP); dassl: SGD with momentum 0.9 and weight decay 5e-4, a first epoch with lr "
        "1e-5, and then a cosine schedule that is updated every epoch (CoOp)"
    ),
]
# Fields shared by the fine-tuners that are trained in steps.
_Epochs = Annotated[int, Field(ge=0, description="passes over the real features")]
_BatchSize = Annotated[int, Field(ge=1, description="real features per step")]
# Field shared by the fine-tuners whose authors' code uses Dassl's trainers.
_DropLast = Annotated[
    bool,
    Field(
        description="true: drop an epoch's incomplete last batch (Dassl); false: fill it from the "
        "next shuffle"
    ),
]

# Top-level keys that affect a trial with zero_shot. `generator` is one of them, because a generator
# may be trained to measure the quality of its features, although nothing is fine-tuned.
_ZERO_SHOT_KEYS: Final = (
    "backbone", "precision", "image_precision", "dataset", "targets", "max_classes", "protocol",
    "unseen_class", "shots", "augmentations", "templates", "generator", "finetuner", "quality",
    "metrics",
)  # fmt: skip


class _FixedSyntheticSettings(FinetunerSettings):
    """Settings of a fine-tuner with one fixed set of synthetic features, drawn before training."""

    def explain_unused(self, key: str) -> str | None:
        """Explain why keys for drawing synthetic features in each step are ignored."""
        if key in ("synthetic.ratio", "synthetic.resample"):
            return f"finetuner {self.name} uses one fixed set of synthetic features"
        return None


class _TrainingFreeSettings(_FixedSyntheticSettings):
    """Settings of a fine-tuner that is computed directly from its features, without epochs."""

    def explain_unused(self, key: str) -> str | None:
        """Explain why `eval_every` is ignored, in addition to the keys of the base class."""
        if key == "eval_every":
            return f"finetuner {self.name} has no epochs"
        return super().explain_unused(key)


class ZeroShotConfig(FinetunerSettings):
    """Zero-shot CLIP: the cosine to each class's prompt. Nothing is trained."""

    method = "ship.finetuners.zero_shot:ZeroShot"
    name: Literal["zero_shot"] = "zero_shot"
    templates: Literal["single", "dataset", "ensemble"] = "dataset"
    """single: 'a photo of a {}.'; dataset: the trial's `templates`; ensemble: the mean of seven
    templates"""
    descriptions: str | None = Field(None, min_length=1)
    """JSON file that maps each class name to a list of sentences, which replace the templates;
    every worker needs the same file at this path; null: use templates"""
    random_words: int | None = Field(None, ge=0)
    """replace each description by as many random words as it has words, drawn with this seed
    (WaffleCLIP's control); null: keep the descriptions"""

    @field_validator("descriptions")
    @classmethod
    def _pin_content(cls, value: str | None) -> str | None:
        """Read the file and append ?sha256=DIGEST of its content to the path.

        A changed file therefore results in another configuration.
        """
        if value is None or re.search(r"\?sha256=[0-9a-f]{64}\Z", value):
            return value
        content = read_whole(Path(value), MAX_DESCRIPTIONS_BYTES)
        return f"{value}?sha256={hashlib.sha256(content).hexdigest()}"

    @model_validator(mode="after")
    def _require_descriptions(self) -> "ZeroShotConfig":
        if self.random_words is not None and self.descriptions is None:
            raise ValueError("random_words requires descriptions, whose lengths it copies")
        return self

    def read_descriptions(self) -> tuple[str, bytes]:
        """Return the path of the `descriptions` file, without the digest, and the file's content.

        Call it only if `descriptions` is set.

        Raises:
            ValueError: The file is missing, unreadable or too large, or its content has changed.
        """
        path, _, digest = (self.descriptions or "").rpartition("?sha256=")
        content = read_whole(Path(path), MAX_DESCRIPTIONS_BYTES)
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError(
                f"{path}: its SHA-256 has changed since the study began. Restore the file"
            )
        return path, content

    def explain_unused(self, key: str) -> str | None:
        """Explain why keys for training, and templates that other settings replace, are ignored.

        The trial's `templates` are replaced by `finetuner.templates`, unless these are "dataset".
        `finetuner.descriptions` replace both.
        """
        if key == "templates" and (self.descriptions or self.templates != "dataset"):
            source = "descriptions" if self.descriptions else "templates"
            return f"finetuner zero_shot uses finetuner.{source} in place of templates"
        if key == "finetuner.templates" and self.descriptions:
            return "finetuner zero_shot uses descriptions in place of templates"
        affects_zero_shot = key.partition(".")[0] in _ZERO_SHOT_KEYS
        return None if affects_zero_shot else "finetuner zero_shot trains nothing"


class CoOpConfig(FinetunerSettings):
    """CoOp: learned context vectors around the class name."""

    method = "ship.finetuners.prompts:CoOp"
    name: Literal["coop"] = "coop"
    n_ctx: _NCtx = 4
    ctx_init: _CtxInit = "a photo of a"
    class_specific: bool = False
    """learn a separate context per class; classes without data keep the initial context"""
    name_position: NamePosition = "end"
    """position of the class name relative to the context vectors"""
    optimizer: _Optimizer = "sgd"
    lr: _SgdRate = 2e-3
    epochs: _Epochs = 200
    batch_size: _BatchSize = 256
    drop_last: _DropLast = False


class CoCoOpConfig(FinetunerSettings):
    """CoCoOp: the context depends on the image, so each image needs its own prompt per class."""

    method = "ship.finetuners.prompts:CoCoOp"
    name: Literal["cocoop"] = "cocoop"
    n_ctx: _NCtx = 4
    ctx_init: _CtxInit = "a photo of a"
    reduction: int = Field(16, ge=1)
    """feature size divided by the number of hidden units"""
    optimizer: _Optimizer = "dassl"
    lr: _SgdRate = 2e-3
    epochs: _Epochs = 10
    batch_size: _BatchSize = 1
    drop_last: _DropLast = False


class KgCoOpConfig(FinetunerSettings):
    """KgCoOp: CoOp with a penalty on the distance to the text features of hand-written prompts."""

    method = "ship.finetuners.prompts:KgCoOp"
    name: Literal["kgcoop"] = "kgcoop"
    kg_weight: float = Field(8.0, ge=0)
    """weight of the squared distance to the hand-written prompts"""
    n_ctx: _NCtx = 4
    ctx_init: _CtxInit = "a photo of a"
    optimizer: _Optimizer = "dassl"
    lr: _SgdRate = 2e-3
    epochs: _Epochs = 100
    batch_size: _BatchSize = 128
    drop_last: _DropLast = False


class DePTSettings(FinetunerSettings):
    """Settings of DePT's linear head, and of the prompts that are learned together with it."""

    head_weight: float = Field(0.7, ge=0, le=1)
    """weight of the head in the loss and in the logits of base classes"""
    head_lr_scale: float = Field(6.5, gt=0)
    """learning rate of the head as a multiple of that of the prompts"""
    head_norm: float = Field(10.0, gt=0)
    """norm of the features that the head classifies"""
    n_ctx: _NCtx = 4
    ctx_init: _CtxInit = "a photo of a"
    optimizer: _Optimizer = "dassl"
    lr: _SgdRate = 3.5e-3
    epochs: _Epochs = 10
    batch_size: _BatchSize = 4
    drop_last: _DropLast = False


class CoOpDePTConfig(DePTSettings):
    """CoOp with DePT: a linear head on image features learns what is specific to base classes."""

    method = "ship.finetuners.dept:DePT"
    name: Literal["coop_dept"] = "coop_dept"
    n_ctx: _NCtx = 16
    ctx_init: _CtxInit = None


class KgCoOpDePTConfig(DePTSettings):
    """KgCoOp with DePT: KgCoOp's prompts with DePT's linear head."""

    method = "ship.finetuners.dept:DePT"
    name: Literal["kgcoop_dept"] = "kgcoop_dept"
    kg_weight: float = Field(1.0, ge=0)
    """weight of the squared distance to the hand-written prompts"""


class TCPConfig(FinetunerSettings):
    """TCP: class-specific tokens replace the context in the middle of the text tower."""

    method = "ship.finetuners.prompts:TCP"
    name: Literal["tcp"] = "tcp"
    kg_weight: float = Field(4.0, ge=0)
    """weight of the squared distance to the hand-written prompts"""
    layer: int | None = Field(None, ge=1)
    """number of text blocks before the class-specific tokens are inserted; null: two thirds of all
    blocks"""
    reduction: int = Field(4, ge=1)
    """feature size divided by the number of hidden units"""
    n_ctx: int = Field(4, ge=1)
    """number of learned context vectors; after `layer` blocks, as many class-specific tokens,
    computed from text features, replace them"""
    ctx_init: _CtxInit = None
    lr: float = Field(2e-3, gt=0)
    """Adam's learning rate: 1e-5 in the first epoch, then cosine decay from this value"""
    epochs: _Epochs = 50
    batch_size: _BatchSize = 32
    drop_last: _DropLast = False


class CLIPAdapterConfig(FinetunerSettings):
    """CLIP-Adapter: a small residual MLP on image features; text features are unchanged."""

    method = "ship.finetuners.adapters:CLIPAdapter"
    name: Literal["clip_adapter"] = "clip_adapter"
    ratio: float = Field(0.2, ge=0, le=1)
    """weight of the adapted feature in training and at inference; with tune_on_validation, other
    values are tried for inference, too"""
    tune_on_validation: bool = False
    """choose the ratio for inference by its score on the selection images; with `selection: none`,
    the configured ratio is used"""
    reduction: int = Field(4, ge=1)
    """feature size divided by the number of hidden units"""
    lr: float = Field(1e-3, gt=0)
    """AdamW's initial learning rate, cosine decay to 0"""
    epochs: _Epochs = 50
    batch_size: _BatchSize = 32
    drop_last: _DropLast = False


class LinearAdapterConfig(FinetunerSettings):
    """Linear adapter (RLA): a square matrix on image features, with a penalty towards identity."""

    method = "ship.finetuners.adapters:LinearAdapter"
    name: Literal["linear_adapter"] = "linear_adapter"
    penalty_weight: float = Field(1.0, ge=0)
    """the loss adds penalty_weight / n times the squared distance to the identity, where n is the
    mean number of images per seen class"""
    lr: float = Field(1e-4, gt=0)
    """Adam's initial learning rate, cosine decay to 0"""
    epochs: _Epochs = 300
    batch_size: int = Field(4096, ge=1)
    """real features per step, or all if there are fewer"""


class TipSettings(_FixedSyntheticSettings):
    """Settings of Tip-Adapter's key-value cache, with or without trained keys."""

    # The defaults are init_alpha and init_beta of the authors' configurations for ImageNet,
    # Food101, OxfordPets and SUN397. search_spaces/authors.yaml has the values for other datasets.
    alpha: float = Field(1.17, ge=0)
    """weight of the cache in training (tip_adapter_f) and at inference; with tune_on_validation,
    other values are tried for inference, too"""
    beta: float = Field(1.0, gt=0)
    """sharpness of the cache in training (tip_adapter_f) and at inference; with tune_on_validation,
    other values are tried for inference, too"""
    tune_on_validation: bool = True
    """choose alpha and beta for inference by their score on the selection images; with `selection:
    none`, the configured values are used"""


class TipAdapterConfig(TipSettings, _TrainingFreeSettings):
    """Tip-Adapter, training-free: a key-value cache of features plus the zero-shot classifier."""

    method = "ship.finetuners.adapters:TipAdapter"
    name: Literal["tip_adapter"] = "tip_adapter"

    def explain_unused(self, key: str) -> str | None:
        """Explain why the loss weight is ignored, in addition to the keys of the base classes."""
        if key == "synthetic.loss_weight":
            return "finetuner tip_adapter has no training loss"
        return super().explain_unused(key)


class TipAdapterFConfig(TipSettings):
    """Tip-Adapter with trained keys."""

    method = "ship.finetuners.adapters:TipAdapterF"
    name: Literal["tip_adapter_f"] = "tip_adapter_f"
    lr: float = Field(1e-3, gt=0)
    """AdamW's initial learning rate, cosine decay to 0"""
    epochs: int = Field(20, ge=1)
    """passes over the cached features"""
    batch_size: int = Field(256, ge=1)
    """features per step"""


class LinearProbeConfig(FinetunerSettings):
    """Linear probe: logistic regression on image features, initialized with text features or 0."""

    method = "ship.finetuners.probes:LinearProbe"
    name: Literal["linear_probe"] = "linear_probe"
    init: Literal["zero_shot", "zero"] = "zero_shot"
    """initial weights: text features or 0; weights of classes without data are not trained"""
    l2: float = Field(0.0, ge=0)
    """weight of half the squared distance to the initial weights"""
    lr: float = Field(3e-4, gt=0)
    """AdamW's initial learning rate, cosine decay to 0"""
    epochs: _Epochs = 50
    batch_size: _BatchSize = 32


class ProbeSettings(FinetunerSettings):
    """Settings shared by ZS-LP and CLAP."""

    init_norm: float = Field(10.0, gt=0)
    """norm of the initial weights"""
    lr: float = Field(0.1, gt=0)
    """initial learning rate of SGD with momentum 0.9, cosine decay to 0"""
    epochs: _Epochs = 300
    batch_size: _BatchSize = 256
    drop_last: _DropLast = False


class ZSLPConfig(ProbeSettings):
    """ZS-LP: a linear probe on cosines, initialized with the text features."""

    method = "ship.finetuners.probes:ZSLP"
    name: Literal["zs_lp"] = "zs_lp"


class CLAPConfig(ProbeSettings):
    """CLAP: ZS-LP with a penalty that is larger for classes with good zero-shot predictions."""

    method = "ship.finetuners.probes:CLAP"
    name: Literal["clap"] = "clap"
    penalty_weight: float = Field(1.0, ge=0)
    """weight of the penalty on the distance to the initial weights"""


class LPPlusPlusConfig(_FixedSyntheticSettings):
    """LP++: a linear probe plus weighted text features; learning rates computed from the data."""

    method = "ship.finetuners.probes:LPPlusPlus"
    name: Literal["lp_plus_plus"] = "lp_plus_plus"
    alpha_scale: float = Field(250.0, ge=0)
    """the initial weight of the text features is alpha_scale times the mean cosine between images
    and the text features of their classes"""
    lr_scale: float = Field(1.0, gt=0)
    """factor on the learning rates computed from the data"""
    epochs: int = Field(300, ge=0)
    """number of gradient steps, each on all features"""


class GDAConfig(_TrainingFreeSettings):
    """GDA, training-free: a Gaussian discriminant that is added to the zero-shot logits."""

    method = "ship.finetuners.gda:GDA"
    name: Literal["gda"] = "gda"
    alpha: float = Field(1.0, ge=0)
    """weight of the discriminant; with tune_on_validation, other values are tried, too"""
    tune_on_validation: bool = True
    """choose alpha by its score on the selection images; with `selection: none`, the configured
    value is used"""
    precision: Literal["ks", "pinv"] = "ks"
    """estimate of the inverse covariance. ks: Kubokawa and Srivastava's (the paper's eq. 4); pinv:
    the pseudoinverse of the classes' mean covariance"""
    shrinkage: float | None = Field(None, ge=1e-6, le=1)
    """if set, invert the covariance shrunk by this weight towards a scaled identity, and ignore
    `precision`; null: use `precision`"""
    new_classes: Literal["neighbors", "zero_shot"] = "neighbors"
    """discriminant of classes without features. neighbors: fit a Gaussian to the 64 seen features
    nearest to the class's text feature; zero_shot: use only the zero-shot logit"""

    def explain_unused(self, key: str) -> str | None:
        """Explain why `precision` is ignored, in addition to the keys of the base classes."""
        if key == "finetuner.precision" and self.shrinkage is not None:
            return "finetuner gda uses shrinkage in place of precision"
        return super().explain_unused(key)
