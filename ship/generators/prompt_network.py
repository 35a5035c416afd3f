"""The prompt generator: z and class names -> features, through CLIP's frozen text tower.

Source: arXiv:2307.07397, sec. 3.2: [SOT] (ctx_1 + r) ... (ctx_L + r) [class name] . [EOT]. Every
generator that decodes through CLIP shares it; the variants of the prompt are its ablation.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.clip import FrozenCLIP, class_prompts, initial_context
from ship.configs import NamePosition, PromptMode
from ship.training import ReplicaLinear, ReplicaRng

# The words of prompt "fixed" where ctx_init is null.
FIXED_WORDS = "a photo of a"


@runtime_checkable
class PromptSettings(Protocol):
    """What a generator's settings say about its prompt."""

    @property
    def prompt(self) -> PromptMode:
        """Which part of the prompt depends on z."""

    @property
    def n_ctx(self) -> int:
        """Context vectors; prompt "fixed" has as many as its words."""

    @property
    def ctx_init(self) -> str | None:
        """Words to start from."""

    @property
    def name_position(self) -> NamePosition:
        """Where the class name stands."""

    @property
    def latent_dim(self) -> int:
        """Size of z."""

    @property
    def generator_hidden(self) -> int:
        """Hidden units from z to the prompt."""


# Through the text tower without gradients; a ViT-B/16's keeps some 100 KB of each prompt at a time.
PROMPTS_AT_ONCE = 8192


def uses_z(prompt: PromptMode) -> bool:
    """Whether a prompt depends on z, so that a class has more than one synthetic feature."""
    return prompt in ("instance_bias", "instance_tokens", "noise")


def encodes(prompt: PromptMode) -> bool:
    """Whether z is a code of the picture in training; else it is noise there, as in sampling."""
    return uses_z(prompt) and prompt != "noise"


class PromptGenerator(nn.Module):
    """R prompt generators in front of the frozen text tower.

    prompt "instance_bias": an MLP makes one vector r from z, added to all L global contexts (the
    reference); where there are none, to the tokens of the class name. "instance_tokens": it makes L
    vectors, one added to each context; replacing the contexts instead would span the same prompts,
    as the last layer's bias does what a context does, but would lose their initialisation. "noise":
    as "instance_bias", of a z that knows nothing of the picture (cf. the random vectors that CaPT,
    arXiv:2506.23856, puts in the place of image features).
    "global": contexts alone. "fixed": words, nothing learned.

    Attributes:
        ctx: global contexts, (replica, L, width).

    Raises:
        ValueError: the contexts leave no room for a class name.
    """

    def __init__(
        self,
        settings: PromptSettings,
        clip: FrozenCLIP,
        class_names: Sequence[str],
        rng: ReplicaRng,
    ) -> None:
        super().__init__()
        self._tower = clip.text
        n_ctx, words = settings.n_ctx, settings.ctx_init
        if settings.prompt == "fixed":
            words = words or FIXED_WORDS
            n_ctx = len(clip.tokenizer.encode(words))
        self._prompts = class_prompts(clip, class_names, n_ctx, settings.name_position)
        self.expand: ReplicaLinear | None = None
        if uses_z(settings.prompt):
            vectors = n_ctx if settings.prompt == "instance_tokens" else 1
            self.expand = ReplicaLinear(settings.latent_dim, settings.generator_hidden, rng)
            self.bias = ReplicaLinear(settings.generator_hidden, vectors * clip.text_width, rng)
        ctx = initial_context(clip, n_ctx, words, rng)
        self.ctx = nn.Parameter(ctx, requires_grad=settings.prompt != "fixed")

    def parts(
        self, z: Float[Tensor, "replica n latent"] | None, n: int
    ) -> tuple[Float[Tensor, "replica n n_ctx width"], Float[Tensor, "replica n width"] | None]:
        """The context vectors of n instances, and what is added to the tokens of their names.

        Args:
            z: None where the prompt does not depend on it.
            n: instances of each replica.
        """
        if self.ctx.shape[1] or self.expand is None or z is None:
            return self.contexts(z, n), None
        return self.ctx.unsqueeze(1).expand(-1, n, -1, -1), self.bias(F.relu(self.expand(z)))

    def contexts(
        self, z: Float[Tensor, "replica n latent"] | None, n: int
    ) -> Float[Tensor, "replica n n_ctx width"]:
        """The context vectors of n instances; z is None where the prompt does not depend on it."""
        ctx = self.ctx.unsqueeze(1)
        if self.expand is None or z is None:
            return ctx.expand(-1, n, -1, -1)
        bias: Tensor = self.bias(F.relu(self.expand(z)))
        instance: Tensor = ctx + bias.unflatten(-1, (-1, ctx.shape[-1]))
        return instance

    def forward(
        self,
        z: Float[Tensor, "replica n latent"] | None,
        class_ids: Int[Tensor, "replica n"],
    ) -> Float[Tensor, "replica n feature"]:
        """Unit-norm features of the prompts that z and the class names make.

        Without gradients they are made a part at a time, so that memory does not grow with them.
        """
        step = max(1, PROMPTS_AT_ONCE // len(class_ids))
        if not torch.is_grad_enabled() and class_ids.shape[1] > step:
            parts = [slice(at, at + step) for at in range(0, class_ids.shape[1], step)]
            made: list[Tensor] = [
                self(None if z is None else z[:, part], class_ids[:, part]) for part in parts
            ]
            return torch.cat(made, dim=1)
        ctx, on_names = self.parts(z, class_ids.shape[1])
        added = None if on_names is None else on_names.flatten(0, 1)
        prompts, eot = self._prompts.assemble(ctx.flatten(0, 1), class_ids.flatten(), added)
        return self._tower.encode(prompts, eot).reshape(*class_ids.shape, -1)
