"""Settings of the fine-tuners."""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator

from ship.settings import FinetunerSettings, NamePosition
from ship.whole_file import read_whole

MAX_BYTES: Final = 64 * 2**20
"""Maximum size of a file of descriptions."""

# Fields of the fine-tuners that learn prompts.
_NCtx = Annotated[int, Field(ge=1, description="number of learned context vectors")]
_CtxInit = Annotated[
    str | None, Field(description="words that initialize the context vectors; null: random")
]
_SgdRate = Annotated[float, Field(gt=0, description="SGD's peak learning rate (see `optimizer`)")]
_Optimizer = Annotated[
    Literal["sgd", "dassl"],
    Field(
        description="sgd: plain SGD, cosine decay to 0 per step (SHIP); dassl: SGD with momentum "
        "0.9, weight decay 5e-4, a first epoch with lr 1e-5, then cosine decay per epoch (CoOp)"
    ),
]
# Fields of the fine-tuners that are trained in steps.
_Epochs = Annotated[int, Field(ge=0, description="passes over the real features")]
_BatchSize = Annotated[int, Field(ge=1, description="real features per step")]
# Field of the fine-tuners whose authors' code uses Dassl's trainers.
_DropLast = Annotated[
    bool,
    Field(
        description="true: drop an epoch's incomplete last batch (Dassl); false: fill it from the "
        "next shuffle"
    ),
]

# Keys that a trial with zero_shot uses. It trains no fine-tuner, but still measures the quality of
# a generator's features.
_ZERO_SHOT_KEYS: Final = (
    "backbone", "precision", "image_precision", "dataset", "targets", "max_classes", "unseen_class",
    "shots", "augmentations", "templates", "generator", "finetuner", "quality",
)  # fmt: skip


class _FixedSyntheticConfig(FinetunerSettings):
    """Settings of a fine-tuner with one fixed set of synthetic features, drawn before training."""

    def explain_unused(self, key: str) -> str | None:
        """Return why a key is ignored: synthetic features are not drawn in each step."""
        if key in ("synthetic.ratio", "synthetic.resample"):
            return f"finetuner {self.name} uses one fixed set of synthetic features"
        return None


class _TrainingFreeConfig(_FixedSyntheticConfig):
    """Settings of a fine-tuner that is computed directly from its features, without epochs."""

    def explain_unused(self, key: str) -> str | None:
        """Return why a key is ignored: there are no epochs to evaluate."""
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
    """JSON file that maps each class name to a list of sentences, which are averaged instead of
    templates; every worker needs the same file at this path"""
    random_words: int | None = Field(None, ge=0)
    """control: replace each description by as many random words, drawn with this seed; null: keep
    the descriptions"""

    @field_validator("descriptions")
    @classmethod
    def _append_digest(cls, value: str | None) -> str | None:
        """Append the file's digest, so that a changed file results in another configuration."""
        if value is None or re.search(r"\?sha256=[0-9a-f]{64}\Z", value):
            return value
        content = read_whole(Path(value), MAX_BYTES)
        return f"{value}?sha256={hashlib.sha256(content).hexdigest()}"

    @model_validator(mode="after")
    def _require_descriptions(self) -> "ZeroShotConfig":
        if self.random_words is not None and self.descriptions is None:
            raise ValueError("random_words requires descriptions, whose lengths it copies")
        return self

    def read_descriptions(self) -> tuple[str, bytes]:
        """Return the path of the file of descriptions, without the digest, and its content.

        Raises:
            ValueError: The file is missing, unreadable or too large, or its content has changed.
        """
        path, _, digest = (self.descriptions or "").rpartition("?sha256=")
        content = read_whole(Path(path), MAX_BYTES)
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError(
                f"{path}: has changed since the study began (other SHA-256). Restore it"
            )
        return path, content

    def explain_unused(self, key: str) -> str | None:
        """Return why a key is ignored: nothing is trained, or other sentences replace templates."""
        if key == "templates" and (self.descriptions or self.templates != "dataset"):
            source = "descriptions" if self.descriptions else "templates"
            return f"finetuner zero_shot uses its own sentences ({source})"
        is_read = key.partition(".")[0] in _ZERO_SHOT_KEYS
        return None if is_read else "finetuner zero_shot trains nothing"


class CoOpConfig(FinetunerSettings):
    """CoOp: learned context vectors around the class name."""

    method = "ship.finetuners.prompts:CoOp"
    name: Literal["coop"] = "coop"
    n_ctx: _NCtx = 4
    ctx_init: _CtxInit = "a photo of a"
    class_specific: bool = False
    """learn a separate context per class; that of a class without data stays as initialized"""
    name_position: NamePosition = "end"
    """position of the class name relative to the context vectors"""
    optimizer: _Optimizer = "sgd"
    lr: _SgdRate = 2e-3
    epochs: _Epochs = 200
    batch_size: _BatchSize = 256
    drop_last: _DropLast = False


class CoCoOpConfig(FinetunerSettings):
    """CoCoOp: a context conditioned on the image; each image needs a prompt per class."""

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
    """KgCoOp: CoOp whose text features are kept near those of the hand-written prompts."""

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
    """Settings of DePT's head and of the prompts that it is combined with."""

    head_weight: float = Field(0.7, ge=0, le=1)
    """weight of the head in the loss and in base classes' logits"""
    head_lr_scale: float = Field(6.5, gt=0)
    """the head's learning rate divided by that of the prompts"""
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
    """CoOp with DePT: a second, linear head learns what is specific to the base classes."""

    method = "ship.finetuners.dept:DePT"
    name: Literal["coop_dept"] = "coop_dept"
    n_ctx: _NCtx = 16
    ctx_init: _CtxInit = None


class KgCoOpDePTConfig(DePTSettings):
    """KgCoOp with DePT: KgCoOp's prompts with the same second head."""

    method = "ship.finetuners.dept:DePT"
    name: Literal["kgcoop_dept"] = "kgcoop_dept"
    kg_weight: float = Field(1.0, ge=0)
    """weight of the squared distance to the hand-written prompts"""


class TCPConfig(FinetunerSettings):
    """TCP: contexts become class-specific inside the text tower, from the class's text feature."""

    method = "ship.finetuners.prompts:TCP"
    name: Literal["tcp"] = "tcp"
    kg_weight: float = Field(4.0, ge=0)
    """weight of the squared distance to the hand-written prompts"""
    layer: int | None = Field(None, ge=1)
    """number of text blocks before the class-specific tokens are inserted; null: two thirds of
    them"""
    reduction: int = Field(4, ge=1)
    """feature size divided by the number of hidden units"""
    n_ctx: int = Field(4, ge=1)
    """number of learned context vectors, and of the class-specific tokens that replace them"""
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
    """weight of the adapted feature (with tune_on_validation: during training)"""
    tune_on_validation: bool = False
    """select the ratio for inference on the selection images"""
    reduction: int = Field(4, ge=1)
    """feature size divided by the number of hidden units"""
    lr: float = Field(1e-3, gt=0)
    """AdamW's initial learning rate, cosine decay to 0"""
    epochs: _Epochs = 50
    batch_size: _BatchSize = 32
    drop_last: _DropLast = False


class LinearAdapterConfig(FinetunerSettings):
    """Linear adapter (RLA): one square matrix on image features, kept near the identity."""

    method = "ship.finetuners.adapters:LinearAdapter"
    name: Literal["linear_adapter"] = "linear_adapter"
    penalty_weight: float = Field(1.0, ge=0)
    """weight of the squared distance to the identity; divided by the number of images per class"""
    lr: float = Field(1e-4, gt=0)
    """Adam's initial learning rate, cosine decay to 0"""
    epochs: _Epochs = 300
    batch_size: int = Field(4096, ge=1)
    """real features per step, or all if there are fewer"""


class TipSettings(_FixedSyntheticConfig):
    """Settings of Tip-Adapter's key-value cache, with or without trained keys."""

    # init_alpha and init_beta in the authors' configurations of ImageNet, Food101, OxfordPets and
    # SUN397; the values of other datasets are in search_spaces/authors.yaml
    alpha: float = Field(1.17, ge=0)
    """weight of the cache (tip_adapter_f: during training)"""
    beta: float = Field(1.0, gt=0)
    """sharpness of the cache (tip_adapter_f: during training)"""
    tune_on_validation: bool = True
    """select alpha and beta on the selection images"""


class TipAdapterConfig(TipSettings, _TrainingFreeConfig):
    """Tip-Adapter, training-free: a key-value cache of features plus the zero-shot classifier."""

    method = "ship.finetuners.adapters:TipAdapter"
    name: Literal["tip_adapter"] = "tip_adapter"

    def explain_unused(self, key: str) -> str | None:
        """Return why a key is ignored: there is no training loss."""
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
    """Linear probe: logistic regression on image features, initialized with text features."""

    method = "ship.finetuners.probes:LinearProbe"
    name: Literal["linear_probe"] = "linear_probe"
    init: Literal["zero_shot", "zero"] = "zero_shot"
    """initial weights: text features or 0; classes without data keep them"""
    l2: float = Field(0.0, ge=0)
    """weight of half the squared distance to the initial weights"""
    lr: float = Field(3e-4, gt=0)
    """AdamW's initial learning rate, cosine decay to 0"""
    epochs: _Epochs = 50
    batch_size: _BatchSize = 32


class ProbeSettings(FinetunerSettings):
    """Settings of ZS-LP and of CLAP, which is ZS-LP with a penalty."""

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
    """CLAP: ZS-LP with a penalty that is stronger the better a text feature fits its class."""

    method = "ship.finetuners.probes:CLAP"
    name: Literal["clap"] = "clap"
    penalty_weight: float = Field(1.0, ge=0)
    """weight of the penalty on the distance to the initial weights"""


class LPPlusPlusConfig(_FixedSyntheticConfig):
    """LP++: a linear probe plus weighted text features; learning rates come from the data."""

    method = "ship.finetuners.probes:LPPlusPlus"
    name: Literal["lp_plus_plus"] = "lp_plus_plus"
    alpha_scale: float = Field(250.0, ge=0)
    """initial multiplier of the text features, divided by the images' mean cosine to them"""
    lr_scale: float = Field(1.0, gt=0)
    """factor on the learning rates computed from the data"""
    epochs: int = Field(300, ge=0)
    """number of gradient steps, each on all features"""


class GDAConfig(_TrainingFreeConfig):
    """GDA, training-free: a discriminant of Gaussian classes that is added to zero-shot logits."""

    method = "ship.finetuners.gda:GDA"
    name: Literal["gda"] = "gda"
    alpha: float = Field(1.0, ge=0)
    """weight of the discriminant"""
    tune_on_validation: bool = True
    """select alpha on the selection images"""
    precision: Literal["ks", "pinv"] = "ks"
    """estimate of the inverse covariance. ks: the paper's eq. 4; pinv: the pseudoinverse of the
    classes' mean covariance"""
    shrinkage: float | None = Field(None, ge=1e-6, le=1)
    """weight of the scaled identity in the covariance, which is then inverted instead of using
    `precision`; null: use `precision`"""
    new_classes: Literal["neighbors", "zero_shot"] = "neighbors"
    """classes without features. neighbors: a Gaussian from the 64 seen features nearest to the
    class's text feature; zero_shot: only the zero-shot logit"""
