"""CoCoOp: a context conditioned on the picture (arXiv:2203.05557).

A meta-net turns a picture's feature x into one token that is added to every context vector
(sec. 3.2): ctx_m(x) = ctx_m + Linear(d / 16, width)(ReLU(Linear(d, d / 16)(x))). So every pair of
picture and class has a prompt of its own: a step costs seeds x pictures x classes prompts
through the text tower, where CoOp's costs seeds x classes, and an evaluation likewise. Synthetic
features condition their prompts as real ones do.

Defaults are those of the authors' code (one picture a step, 10 epochs, learning rate 2e-3), with
plain SGD and cosine as for CoOp here: their momentum, decay and warm-up epoch are left out.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs.finetuners import CoCoOpConfig
from ship.finetuners.coop import PromptTuned
from ship.methods import Draw, uniform_linear
from ship.tasks import SeedTask

# Prompts that go through the text tower in one pass, or those of one picture where they are more.
# Bounds memory at inference and, because a part's gradient is taken at once, in training: there
# about 2.3 MiB a prompt on ViT-B/16's tower with names of six tokens.
PROMPTS_AT_ONCE = 1024


class CoCoOp(PromptTuned):
    """Contexts, and the meta-net: reduce and expand, from a picture's feature to its token."""

    at_once: int

    def __init__(self, config: CoCoOpConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        hidden, start = max(1, clip.feature_dim // config.reduction), draw("cocoop/meta_net")
        self.reduce = uniform_linear(clip.feature_dim, hidden, start)
        self.expand = uniform_linear(hidden, clip.text_width, start)
        self.at_once = max(1, PROMPTS_AT_ONCE // len(task.class_names))

    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "n n_cls"]:
        """logit_scale * cosine to the prompts that each picture makes."""
        return torch.cat([self._scores(part) for part in pictures.split(self.at_once)])

    def _scores(self, pictures: Tensor) -> Tensor:
        tokens = self.expand(F.relu(self.reduce(pictures)))
        text = self.prompts.classifiers(self.ctx + tokens.unsqueeze(1), self.at_once)
        return self.logit_scale * (text @ pictures.unsqueeze(2)).squeeze(2)
