"""Learned contexts in front of class names: CoOp, CoCoOp, KgCoOp and TCP.

CoOp (arXiv:2109.01134) is here as SHIP adds features to it. Defaults are the settings of the
authors' code of SHIP (arXiv:2307.07397, github.com/mrflogs/SHIP, main_coop_vae.py): one context
shared by all classes, "a photo of a" to start from, class name at the end; plain SGD, cosine to 0,
200 epochs in batches of 256 real pictures. With synthetic features the loss runs over base and new
classes together, without over the base classes.

CoCoOp (arXiv:2203.05557) conditions the context on the picture. A meta-net turns a picture's
feature x into one token that is added to every context vector (sec. 3.2): ctx_m(x) = ctx_m +
Linear(d / 16, width)(ReLU(Linear(d, d / 16)(x))). So every pair of picture and class has a prompt
of its own: a step costs seeds x pictures x classes prompts through the text tower, where CoOp's
costs seeds x classes, and an evaluation likewise. Synthetic features condition their prompts as
real ones do. Defaults are those of the authors' code (github.com/KaiyangZhou/CoOp).

KgCoOp (arXiv:2303.13283) holds CoOp near the hand-written prompts: loss = cross-entropy +
weight * L_kg, where L_kg is the mean over classes of the squared Euclidean distance between the
unit-norm text features of the learned and of the hand-written prompt (the dataset's template). The
squared distance and weight 8 are the paper's (as restated elsewhere); the authors' code
(github.com/htyao89/KgCoOp), whose other figures are the defaults, has 1 - cos, half of it, also
with weight 8: that is weight 4 here. The mean is over the classes that the cross-entropy runs over:
base classes without synthetic features (as in the authors' code, which knows no others), all
classes with them.

TCP (Yao et al., arXiv:2311.18231) has prompts that hold what is known of their class: the text
feature t_c of the hand-written prompt of each class goes through a small net,
Linear(d / 4, n_ctx * width)(QuickGELU(Linear(d, d / 4)(t_c))), and what comes out takes the places
of the n_ctx learned contexts, which all classes share up to there, between two blocks of the text
tower: before block 8 of 12, counted from 0. A new class has its tokens from its name. The loss is
KgCoOp's with t_c. Defaults are those of the authors' code
(github.com/htyao89/Textual-based_Class-aware_prompt_tuning, trainers/tcp.py): 50 epochs in batches
of 32, Adam with rate 2e-3 and epsilon 1e-3, random contexts, weight 4 (their 8 times 1 - cos). Left
out are the words that their prompts have behind the class name on some datasets (on UCF101 before
it). In a tower of another depth the tokens come in two thirds of the way, as theirs do.

All but CoOp are trained as in their authors' code, whose trainers are Dassl's (see dassl_rate).
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
from ship.methods.prompts import Prompts, initial_context, uniform_linear
from ship.settings import NamePosition

# Dassl's figures: its defaults, and the rate of the warm-up epoch in the authors' configurations.
MOMENTUM: Final = 0.9
DECAY: Final = 5e-4
WARM_UP_RATE: Final = 1e-5
TCP_EPSILON: Final = 1e-3
# Prompts that go through the text tower in one pass, or those of one picture where they are more.
# Bounds memory at inference and, because a part's gradient is taken at once, in training: there
# about 2.3 MiB a prompt on ViT-B/16's tower with names of six tokens.
PROMPTS_AT_ONCE: Final = 1024


def dassl_rate(base: float, epoch: float, epochs: int) -> float:
    """1e-5 in the first epoch; behind it epoch by epoch along a cosine, which does not reach 0.

    So it is in the code of CoCoOp, KgCoOp, DePT and TCP: a constant warm-up of one epoch and
    CosineAnnealingLR, whose count begins behind it (github.com/KaiyangZhou/Dassl.pytorch,
    dassl/optim/lr_scheduler.py).
    """
    behind = int(epoch) - 1
    return WARM_UP_RATE if behind < 0 else base * (1 + math.cos(math.pi * behind / epochs)) / 2


class PromptTuned(Finetuner):
    """Contexts that make a classifier: classes are told by the cosine to their text features.

    ctx: to be trained, (n_ctx, width).
    """

    stream = "coop"  # of all of them, so that rivals start alike and see the same batches
    ctx: nn.Parameter

    def __init__(self, config: Any, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        position: NamePosition = getattr(config, "name_position", "end")
        self.prompts = Prompts(clip, task.class_names, config.n_ctx, position)
        start = initial_context(clip, config.n_ctx, config.ctx_init, draw("coop/context"))
        self.ctx = nn.Parameter(start)

    def optimizer(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """SGD: plain, as in SHIP's code, or with Dassl's momentum and decay."""
        settings: dict[str, Any] = {"lr": self.config.lr}
        if self.config.optimizer == "dassl":
            settings |= {"momentum": MOMENTUM, "weight_decay": DECAY}
        return torch.optim.SGD, settings

    def rate(self, base: float, epoch: float, epochs: int) -> float:
        """Step by step along a cosine to 0, or Dassl's."""
        dassl = self.config.optimizer == "dassl"
        return dassl_rate(base, epoch, epochs) if dassl else super().rate(base, epoch, epochs)

    def text_features(self) -> Float[Tensor, "n_cls feature"]:
        """The classifier that the contexts make."""
        return self.prompts.classes(self.ctx)

    def logits(self, pictures: Features, choice: Choice) -> Logits:
        """logit_scale * cosine to the learned prompts."""
        return self.logit_scale * pictures @ self.text_features().T

    def knowledge_distance(self, learned: Float[Tensor, "n_cls feature"]) -> Float[Tensor, ""]:
        """Return KgCoOp's L_kg: squared distance to each class's written prompt, mean over allowed.

        Args:
            learned: Text features of the learned prompts, unit norm, so that a class's distance is
                2 - 2 cos. Those of the written prompts are self.text.
        """
        distance = (learned - self.text).square().sum(-1)
        if self.allowed is None:
            return distance.mean()
        mean: Tensor = (distance * self.allowed).sum() / self.allowed.sum()
        return mean


class CoOp(PromptTuned):
    """Cross-entropy through the learned prompts (CoOp, eq. 2).

    Class-specific contexts (CSC), (n_cls, n_ctx, width), all start from the same vectors, so that
    at the start both kinds are the same classifier (CoOp's code draws them apart if they start at
    random). Those of a class that no feature, real or synthetic, belongs to are trained only as a
    rival in the softmax; where the loss leaves the class out, not at all.
    """

    def __init__(self, config: CoOpConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        if config.class_specific:
            self.ctx = nn.Parameter(self.ctx.detach().repeat(len(task.class_names), 1, 1))


class CoCoOp(PromptTuned):
    """Contexts, and the meta-net: reduce and expand, from a picture's feature to its token."""

    at_once: int

    def __init__(self, config: CoCoOpConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        hidden, start = max(1, clip.feature_dim // config.reduction), draw("cocoop/meta_net")
        self.reduce = uniform_linear(clip.feature_dim, hidden, start)
        self.expand = uniform_linear(hidden, clip.text_width, start)
        self.at_once = max(1, PROMPTS_AT_ONCE // len(task.class_names))

    def logits(self, pictures: Features, choice: Choice) -> Logits:
        """logit_scale * cosine to the prompts that each picture makes."""
        return torch.cat([self._scores(part) for part in pictures.split(self.at_once)])

    def _scores(self, pictures: Tensor) -> Tensor:
        tokens = self.expand(F.relu(self.reduce(pictures)))
        text = self.prompts.classifiers(self.ctx + tokens.unsqueeze(1), self.at_once)
        return self.logit_scale * (text @ pictures.unsqueeze(2)).squeeze(2)


class KgCoOp(PromptTuned):
    """CoOp's contexts, tied to the hand-written prompts."""

    def loss(self, features: Features, labels: Labels, weights: Weights) -> Float[Tensor, ""]:
        """Cross-entropy of a batch + weight * L_kg."""
        learned = self.text_features()
        logits = self.logit_scale * features @ learned.T
        distance: Tensor = self.config.weight * self.knowledge_distance(learned)
        return self.cross_entropy(logits, labels, weights) + distance


class TCP(KgCoOp):
    """Contexts, and a net that makes each class's own tokens.

    net.reduce, net.expand: from a class's text feature to its tokens; they start as
        torch.nn.Linear's do. The activation is QuickGELU, x * sigmoid(1.702 x), whatever the
        backbone's is.
    """

    def __init__(self, config: TCPConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        self._depth, start = inner_depth(config.layer, clip), draw("tcp/net")
        hidden = max(1, clip.feature_dim // config.reduction)
        self.net = nn.ModuleDict(
            {
                "reduce": uniform_linear(clip.feature_dim, hidden, start),
                "expand": uniform_linear(hidden, config.n_ctx * clip.text_width, start),
            }
        )

    def optimizer(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """Adam, with the authors' epsilon and Dassl's decay."""
        rate = self.config.lr
        return torch.optim.Adam, {"lr": rate, "eps": TCP_EPSILON, "weight_decay": DECAY}

    def rate(self, base: float, epoch: float, epochs: int) -> float:
        """Dassl's."""
        return dassl_rate(base, epoch, epochs)

    def text_features(self) -> Float[Tensor, "n_cls feature"]:
        """The classifier of prompts whose contexts become each class's own on their way."""
        hidden = self.net["reduce"](self.text)
        tokens = self.net["expand"](hidden * torch.sigmoid(1.702 * hidden))
        return self.prompts.classes(self.ctx, tokens.unflatten(1, (len(self.ctx), -1)), self._depth)


def inner_depth(layer: int | None, clip: FrozenCLIP) -> int:
    """Blocks of the text tower before the classes' own tokens.

    Args:
        layer: as it is set; None: two thirds of them.
        clip: whose text tower it is.

    Raises:
        ValueError: there are not as many.
    """
    depth = 2 * clip.text.depth // 3 if layer is None else layer
    if not 0 < depth < clip.text.depth:
        raise ValueError(
            f"layer must be 1 to {clip.text.depth - 1} for backbone {clip.name!r}, whose text "
            f"tower has {clip.text.depth} blocks, got {layer}"
        )
    return depth
