"""CoCoOp: a context conditioned on the picture (arXiv:2203.05557).

A meta-net turns a picture's feature x into one token that is added to every context vector
(sec. 3.2): ctx_m(x) = ctx_m + Linear(d / 16, width)(ReLU(Linear(d, d / 16)(x))). So every pair of
picture and class has a prompt of its own: a step costs replicas x pictures x classes prompts
through the text tower, where CoOp's costs replicas x classes, and an evaluation likewise. Synthetic
features condition their prompts as real ones do.

Defaults are those of the authors' code (one picture a step, 10 epochs, learning rate 2e-3), with
plain SGD and cosine as for CoOp here: their momentum, decay and warm-up epoch are left out.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.configs import CoCoOpConfig
from ship.finetuners.base import classification_loss
from ship.finetuners.prompt_learner import PromptTrained, shared_contexts, uniform_linear
from ship.synthesis import Synthesizer
from ship.tasks import Task
from ship.training import ReplicaRng

# Prompts that go through the text tower in one pass, or those of one picture where they are more.
# Bounds memory at inference and, because a part's gradient is taken at once, in training: there
# about 2.3 MiB a prompt on ViT-B/16's tower with names of six tokens.
PROMPTS_AT_ONCE = 1024


class MetaNet(nn.Module):
    """R fused nets from a picture's feature to a token; torch.nn.Linear's own initial weights."""

    def __init__(self, feature_dim: int, hidden: int, width: int, rng: ReplicaRng) -> None:
        super().__init__()
        self.reduce = uniform_linear(feature_dim, hidden, rng)
        self.expand = uniform_linear(hidden, width, rng)

    def forward(
        self, pictures: Float[Tensor, "replica n feature"]
    ) -> Float[Tensor, "replica n width"]:
        """One token a picture."""
        token: Tensor = self.expand(F.relu(self.reduce(pictures)))
        return token


class CoCoOp(PromptTrained):
    """R fused CoCoOp contexts and meta-nets."""

    def __init__(
        self,
        config: CoCoOpConfig,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        learner = shared_contexts(clip, task, seeds, config)
        hidden = max(1, clip.feature_dim // config.reduction)
        weights = ReplicaRng(seeds, "cocoop/meta_net", clip.device, task.features.dtype)
        self.meta_net = MetaNet(clip.feature_dim, hidden, clip.text_width, weights)
        beside = dict(self.meta_net.named_parameters())
        super().__init__(learner, task, synthesizer, clip, seeds, config, beside)

    @property
    def _pairs_at_once(self) -> int:
        """Pairs of replica and picture in one pass, each of which costs n_cls prompts."""
        return max(1, PROMPTS_AT_ONCE // len(self._task.class_names))

    def contexts(
        self, pictures: Float[Tensor, "replica n feature"]
    ) -> Float[Tensor, "replica n n_ctx width"]:
        """Each picture's context: its token added to all vectors."""
        token: Tensor = self.meta_net(pictures)
        return self.learner.ctx.unsqueeze(1) + token.unsqueeze(2)

    def _pieces(
        self, pictures: Float[Tensor, "replica n feature"]
    ) -> Iterator[tuple[slice, Float[Tensor, "m n_cls"]]]:
        """Logits of the pairs (replica, picture), flattened, a bounded number at once.

        Every piece has a graph of its own, down to the contexts and the meta-net.
        """
        flat, size = pictures.flatten(0, 1), self._pairs_at_once
        for start in range(0, len(flat), size):
            piece = slice(start, start + size)
            ctx = self.contexts(pictures).flatten(0, 1)[piece]
            cosine = (self.learner.encode(ctx) @ flat[piece].unsqueeze(2)).squeeze(2)
            yield piece, self._task.logit_scale * cosine

    def loss(
        self,
        features: Float[Tensor, "replica n feature"],
        labels: Int[Tensor, "replica n"],
        weights: Float[Tensor, "replica n"] | None = None,
    ) -> Float[Tensor, " replica"]:
        """Each replica's weighted mean cross-entropy, all parts of it at once.

        Args:
            features: a batch, unit norm.
            labels: of each feature, places among the task's classes.
            weights: of each feature's loss; None: all 1.
        """
        return torch.stack([*self.losses(features, labels, weights)]).sum(0)

    def losses(
        self,
        features: Float[Tensor, "replica n feature"],
        labels: Int[Tensor, "replica n"],
        weights: Float[Tensor, "replica n"] | None = None,
    ) -> Iterator[Float[Tensor, " replica"]]:
        """Parts that add up to the loss, of some pictures each.

        Args:
            features, labels, weights: as of loss.
        """
        weights = torch.ones_like(features[..., 0]) if weights is None else weights
        share = (weights / weights.sum(1, keepdim=True)).flatten()
        replica_of = torch.arange(len(labels), device=labels.device).repeat_interleave(
            labels.shape[1]
        )
        owner = F.one_hot(replica_of, len(labels)).to(features.dtype)
        allowed, flat_labels = self._stream.allowed, labels.reshape(-1, 1)
        for piece, logits in self._pieces(features):
            rivals = None if allowed is None else allowed[replica_of[piece]]
            each = classification_loss(logits.unsqueeze(1), flat_labels[piece], rivals)
            yield (share[piece] * each) @ owner[piece]

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """logit_scale * cosine to the prompts that each picture makes."""
        n_replicas = self._task.n_replicas
        made = []
        for batch in pictures.split(max(1, self._pairs_at_once // n_replicas)):
            pieces = self._pieces(batch.expand(n_replicas, -1, -1))
            logits = torch.cat([logits for _, logits in pieces])
            made.append(logits.reshape(n_replicas, len(batch), -1))
        return torch.cat(made, dim=1)
