"""TCP: prompts that hold what is known of their class, from its text feature (arXiv:2311.18231).

Source: Yao et al., "TCP: Textual-based Class-aware Prompt tuning for Visual-Language Model", and
the authors' code (github.com/htyao89/Textual-based_Class-aware_prompt_tuning, trainers/tcp.py,
trainers/clip_text/model.py). The text feature t_c of the hand-written prompt of each class goes
through a small net, Linear(d / 4, n_ctx * width)(QuickGELU(Linear(d, d / 4)(t_c))), and what comes
out takes the places of the n_ctx learned contexts, which all classes share up to there, between two
blocks of the text tower: before block 8 of 12, counted from 0. A new class has its tokens from its
name. The loss is KgCoOp's: cross-entropy + weight * L_kg, the squared distance to t_c.

Defaults are the authors': 50 epochs in batches of 32, Adam with rate 2e-3 and epsilon 1e-3, random
contexts, weight 4 (their 8 times 1 - cos). Left out are Adam's decay, a warm-up epoch, and the
words that their prompts have behind the class name on some datasets. In a tower of another depth
the tokens come in two thirds of the way, as theirs do.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.configs.finetuners import TCPConfig
from ship.finetuners.kgcoop import KgCoOp
from ship.methods import Draw, uniform_linear
from ship.tasks import SeedTask

EPSILON = 1e-3


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
        """Adam, with the authors' epsilon."""
        return torch.optim.Adam, {"lr": self.config.lr, "eps": EPSILON}

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
