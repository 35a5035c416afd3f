"""CoOp: context optimisation (arXiv:2109.01134), with synthetic features as SHIP adds them.

Defaults are the settings of the authors' code of SHIP (arXiv:2307.07397, github.com/mrflogs/SHIP,
main_coop_vae.py): one context shared by all classes, "a photo of a" to start from, class name at
the end; plain SGD, cosine to 0, 200 epochs in batches of 256 real pictures. With synthetic
features the loss runs over base and new classes together, without over the base classes.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.configs.finetuners import (
    CoCoOpConfig,
    CoOpConfig,
    CoOpDePTConfig,
    KgCoOpConfig,
    KgCoOpDePTConfig,
    TCPConfig,
)
from ship.methods import Draw, Finetuner, Prompts, initial_context
from ship.settings import NamePosition
from ship.tasks import SeedTask


class PromptTuned(Finetuner):
    """Contexts that make a classifier: classes are told by the cosine to their text features.

    ctx: to be trained, (n_ctx, width).
    """

    stream = "coop"  # of all of them, so that rivals start alike and see the same batches
    ctx: nn.Parameter

    def __init__(
        self,
        config: CoOpConfig
        | CoCoOpConfig
        | KgCoOpConfig
        | TCPConfig
        | CoOpDePTConfig
        | KgCoOpDePTConfig,
        task: SeedTask,
        clip: FrozenCLIP,
        draw: Draw,
    ) -> None:
        super().__init__(config, task, clip, draw)
        position: NamePosition = getattr(config, "name_position", "end")
        self.prompts = Prompts(clip, task.class_names, config.n_ctx, position)
        start = initial_context(clip, config.n_ctx, config.ctx_init, draw("coop/context"))
        self.ctx = nn.Parameter(start)

    def optimizer(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """Plain SGD, as in SHIP's code: no momentum, decay or warm-up."""
        return torch.optim.SGD, {"lr": self.config.lr}

    def text_features(self) -> Float[Tensor, "n_cls feature"]:
        """The classifier that the contexts make."""
        return self.prompts.classes(self.ctx)

    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "n n_cls"]:
        """logit_scale * cosine to the learned prompts."""
        return self.logit_scale * pictures @ self.text_features().T


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
