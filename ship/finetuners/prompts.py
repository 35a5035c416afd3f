"""Learned contexts in front of class names: CoOp, CoCoOp, KgCoOp and TCP.

CoOp (arXiv:2109.01134) is implemented as SHIP extends it. Defaults are the settings of SHIP's code
(arXiv:2307.07397, github.com/mrflogs/SHIP, main_coop_vae.py): one context shared by all classes,
initialized with "a photo of a", class name at the end; plain SGD, cosine to 0, 200 epochs in
batches of 256 real images. With synthetic features the loss runs over base and new classes
together, without them over the base classes.

CoCoOp (arXiv:2203.05557) conditions the context on the image. A meta-net turns an image's feature x
into one token that is added to every context vector (sec. 3.2): ctx_m(x) = ctx_m +
Linear(d / 16, width)(ReLU(Linear(d, d / 16)(x))). Every pair of image and class therefore has its
own prompt: a step or an evaluation encodes seeds x images x classes prompts, where CoOp encodes
seeds x classes. Synthetic features condition their prompts as real ones do. Defaults are those of
the authors' code (github.com/KaiyangZhou/CoOp).

KgCoOp (arXiv:2303.13283) keeps CoOp near the hand-written prompts: loss = cross-entropy +
kg_weight * L_kg, where L_kg is the mean over classes of the squared Euclidean distance between the
unit-norm text features of the learned and of the hand-written prompts (`templates`). The squared
distance and weight 8 are the paper's (as restated in later papers). The authors' code
(github.com/htyao89/KgCoOp) also has weight 8, but for 1 - cos, which is half the squared distance:
this is weight 4 here. All other defaults are those of the code. The mean is over the classes in the
cross-entropy: without synthetic features (the only case in the authors' code) the base classes,
with them all classes.

TCP (Yao et al., arXiv:2311.18231) adds knowledge of the class to the prompts. The text feature t_c
of each class's hand-written prompt goes through a small net,
Linear(d / 4, n_ctx * width)(QuickGELU(Linear(d, d / 4)(t_c))). Its output replaces the n_ctx
contexts in the middle of the text tower: before block 8 of 12, counted from 0, or after two thirds
of the blocks in a tower of another depth. The earlier blocks get learned contexts, which all
classes share. A new class gets its tokens from its name. The loss is KgCoOp's, with the distance to
t_c. Defaults are those of the authors' code
(github.com/htyao89/Textual-based_Class-aware_prompt_tuning, trainers/tcp.py): 50 epochs in batches
of 32, Adam with rate 2e-3 and epsilon 1e-3, random contexts, weight 4 (their 8 times 1 - cos). On
some datasets, the authors' prompts have further words after the class name (on UCF101 before it),
which are omitted here.

All but CoOp are trained as in their authors' code, which uses Dassl's trainers (see
compute_dassl_lr).
"""

import math
from typing import Any, Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.configs.finetuners import CoCoOpConfig, CoOpConfig, TCPConfig
from ship.methods import Choice, Draw, Features, Finetuner, Labels, Logits, SeedTask, Weights
from ship.methods.prompts import Prompts, make_initial_context, make_uniform_linear
from ship.settings import NamePosition

# Dassl's defaults, and the rate of the warm-up epoch in the authors' configurations.
MOMENTUM: Final = 0.9
DECAY: Final = 5e-4
WARM_UP_RATE: Final = 1e-5
TCP_EPSILON: Final = 1e-3
# CoCoOp's maximum number of prompts per pass through the text tower; a single image may have more.
# In training, each pass has its own backward pass. Memory per prompt is about 2.3 MiB on ViT-B/16's
# tower with names of six tokens.
PROMPTS_AT_ONCE: Final = 1024


def compute_dassl_lr(base: float, epoch: float, epochs: int) -> float:
    """Return Dassl's learning rate: 1e-5 in the first epoch, then a cosine that does not reach 0.

    The rate is constant within an epoch. CoCoOp, KgCoOp, DePT and TCP use it in their code: a
    constant warm-up of one epoch and CosineAnnealingLR, which starts to count after the warm-up
    (github.com/KaiyangZhou/Dassl.pytorch, dassl/optim/lr_scheduler.py).
    """
    annealed = int(epoch) - 1
    return WARM_UP_RATE if annealed < 0 else base * (1 + math.cos(math.pi * annealed / epochs)) / 2


class PromptTuned(Finetuner):
    """Base class of learned prompts, which classify by the cosine to their text features.

    Attributes:
        ctx: Trained context vectors, (n_ctx, width).
    """

    stream = "coop"  # shared by all subclasses, so that they train on the same batches
    ctx: nn.Parameter

    def __init__(self, config: Any, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        position: NamePosition = getattr(config, "name_position", "end")
        self.prompts = Prompts(clip, task.class_names, config.n_ctx, position)
        start = make_initial_context(clip, config.n_ctx, config.ctx_init, draw("coop/context"))
        self.ctx = nn.Parameter(start)

    def optimizer(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """Return SGD. The setting `optimizer` adds Dassl's momentum and weight decay."""
        settings: dict[str, Any] = {"lr": self.config.lr}
        if self.config.optimizer == "dassl":
            settings |= {"momentum": MOMENTUM, "weight_decay": DECAY}
        return torch.optim.SGD, settings

    def lr_at(self, base: float, epoch: float, epochs: int) -> float:
        """Return the rate of the setting `optimizer`: Dassl's, or a cosine that decays to 0."""
        dassl = self.config.optimizer == "dassl"
        return (
            compute_dassl_lr(base, epoch, epochs) if dassl else super().lr_at(base, epoch, epochs)
        )

    def text_features(self) -> Float[Tensor, "n_cls feature"]:
        """Return the text features of the learned prompts."""
        return self.prompts.encode_classes(self.ctx)

    def logits(self, images: Features, choice: Choice) -> Logits:
        """Return logit_scale * cosine to the learned prompts."""
        return self.logit_scale * images @ self.text_features().T

    def knowledge_distance(self, learned: Float[Tensor, "n_cls feature"]) -> Float[Tensor, ""]:
        """Return KgCoOp's L_kg: the mean squared distance to the text features `text`.

        The mean is over the classes of `class_mask`. Features have unit norm, so a class's squared
        distance is 2 - 2 cos.

        Args:
            learned: Text features of the learned prompts.
        """
        distance = (learned - self.text).square().sum(-1)
        if self.class_mask is None:
            return distance.mean()
        mean: Tensor = (distance * self.class_mask).sum() / self.class_mask.sum()
        return mean


class CoOp(PromptTuned):
    """Contexts trained with the cross-entropy (CoOp, eq. 2), shared or one per class.

    Class-specific contexts (CSC), (n_cls, n_ctx, width), all start from the same vectors, so shared
    and class-specific contexts start as the same classifier. (CoOp's code draws random starts for
    each class.) The contexts of a class without features, real or synthetic, get no gradient,
    because the class is not in the loss.
    """

    def __init__(self, config: CoOpConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        if config.class_specific:
            self.ctx = nn.Parameter(self.ctx.detach().repeat(len(task.class_names), 1, 1))


class CoCoOp(PromptTuned):
    """Contexts conditioned on the image by a meta-net.

    Attributes:
        reduce: First layer of the meta-net, from an image feature to hidden units.
        expand: Second layer of the meta-net, from hidden units to the image's token.
    """

    microbatch_size: int

    def __init__(self, config: CoCoOpConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        hidden, start = max(1, clip.feature_dim // config.reduction), draw("cocoop/meta_net")
        self.reduce = make_uniform_linear(clip.feature_dim, hidden, start)
        self.expand = make_uniform_linear(hidden, clip.text_width, start)
        n_prompts = clip.text.padding_factor * len(task.class_names)
        self.microbatch_size = max(1, PROMPTS_AT_ONCE // n_prompts)

    def logits(self, images: Features, choice: Choice) -> Logits:
        """Return logit_scale * cosine to the prompts conditioned on each image."""
        parts = images.split(self.microbatch_size)
        return torch.cat([self._compute_logits(part) for part in parts])

    def _compute_logits(self, images: Tensor) -> Tensor:
        tokens = self.expand(F.relu(self.reduce(images)))
        text = self.prompts.encode_classifiers(self.ctx + tokens.unsqueeze(1), self.microbatch_size)
        return self.logit_scale * (text @ images.unsqueeze(2)).squeeze(2)


class KgCoOp(PromptTuned):
    """CoOp's contexts with a penalty on the distance to the hand-written prompts."""

    def loss(self, features: Features, labels: Labels, weights: Weights) -> Float[Tensor, ""]:
        """Return the cross-entropy of a batch + kg_weight * L_kg."""
        learned = self.text_features()
        logits = self.logit_scale * features @ learned.T
        distance: Tensor = self.config.kg_weight * self.knowledge_distance(learned)
        return self.cross_entropy(logits, labels, weights) + distance


class TCP(KgCoOp):
    """Shared contexts, and a net that computes the class-specific tokens that replace them.

    Attributes:
        net: Layers `reduce` and `expand` from a class's text feature to its tokens, initialized as
            torch.nn.Linear. Between them is QuickGELU, x * sigmoid(1.702 x), for every backbone.
    """

    def __init__(self, config: TCPConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        self._depth, start = find_inner_depth(config.layer, clip), draw("tcp/net")
        hidden = max(1, clip.feature_dim // config.reduction)
        self.net = nn.ModuleDict(
            {
                "reduce": make_uniform_linear(clip.feature_dim, hidden, start),
                "expand": make_uniform_linear(hidden, config.n_ctx * clip.text_width, start),
            }
        )

    def optimizer(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """Return Adam with the authors' epsilon and Dassl's weight decay."""
        rate = self.config.lr
        return torch.optim.Adam, {"lr": rate, "eps": TCP_EPSILON, "weight_decay": DECAY}

    def lr_at(self, base: float, epoch: float, epochs: int) -> float:
        """Return Dassl's learning rate."""
        return compute_dassl_lr(base, epoch, epochs)

    def text_features(self) -> Float[Tensor, "n_cls feature"]:
        """Return the text features of prompts with the class-specific tokens."""
        hidden = self.net["reduce"](self.text)
        tokens = self.net["expand"](hidden * torch.sigmoid(1.702 * hidden))
        return self.prompts.encode_classes(
            self.ctx, tokens.unflatten(1, (len(self.ctx), -1)), self._depth
        )


def find_inner_depth(layer: int | None, clip: FrozenCLIP) -> int:
    """Return the number of text tower blocks before the class-specific tokens.

    Args:
        layer: The setting `layer`. None means two thirds of the blocks, rounded down.
        clip: Backbone with the text tower.

    Raises:
        ValueError: The tower has too few blocks.
    """
    depth = 2 * clip.text.depth // 3 if layer is None else layer
    if not 0 < depth < clip.text.depth:
        raise ValueError(
            f"layer must be 1 to {clip.text.depth - 1} for backbone {clip.name!r}, whose text "
            f"tower has {clip.text.depth} blocks, got {layer}"
        )
    return depth
