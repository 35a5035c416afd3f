"""The prompt that generates: z and class names -> features, through CLIP's frozen text tower.

Source: arXiv:2307.07397, sec. 3.2: [SOT] (ctx_1 + r) ... (ctx_L + r) [class name] . [EOT]. The VAE
and the WGAN share it; the variants of the prompt are its ablation.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.configs.generators import PromptVAEConfig, WGANConfig, uses_z
from ship.methods import Linear, Prompts, Rng, initial_context

# The words of prompt "fixed" where ctx_init is null.
FIXED_WORDS = "a photo of a"


class PromptDecoder(nn.Module):
    """Prompts that z makes, in front of the frozen text tower.

    prompt "instance_bias": an MLP makes one vector r from z, added to all L global contexts (the
    reference); where there are none, to the tokens of the class name. "instance_tokens": it makes L
    vectors, one added to each context; replacing the contexts instead would span the same prompts,
    as the last layer's bias does what a context does, but would lose their initialisation. "noise":
    as "instance_bias", of a z that knows nothing of the picture (cf. the random vectors that CaPT,
    arXiv:2506.23856, puts in the place of image features).
    "global": contexts alone. "fixed": words, nothing learned.

    Attributes:
        ctx: global contexts, (L, width).

    Raises:
        ValueError: the contexts leave no room for a class name.
    """

    def __init__(
        self,
        config: PromptVAEConfig | WGANConfig,
        clip: FrozenCLIP,
        class_names: Sequence[str],
        rng: Rng,
    ) -> None:
        super().__init__()
        n_ctx, words = config.n_ctx, config.ctx_init
        if config.prompt == "fixed":
            words = words or FIXED_WORDS
            n_ctx = len(clip.tokenizer.encode(words))
        self._prompts = Prompts(clip, class_names, n_ctx, config.name_position)
        if uses_z(config.prompt):
            vectors = n_ctx if config.prompt == "instance_tokens" else 1
            self.expand = Linear(config.latent_dim, config.generator_hidden, rng)
            self.bias = Linear(config.generator_hidden, vectors * clip.text_width, rng)
        ctx = initial_context(clip, n_ctx, words, rng)
        self.ctx = nn.Parameter(ctx, requires_grad=config.prompt != "fixed")

    def forward(
        self, z: Float[Tensor, "n latent"] | None, class_ids: Int[Tensor, " n"]
    ) -> Float[Tensor, "n feature"]:
        """Unit-norm features of the prompts that z and the class names make.

        Args:
            z: None where the prompt does not depend on it.
            class_ids: of the prompts.
        """
        n_ctx, width = self.ctx.shape
        shared = self.ctx.expand(len(class_ids), -1, -1)
        if z is None:
            return self._prompts.each(shared, class_ids)
        r = self.bias(F.relu(self.expand(z)))
        if not n_ctx:
            return self._prompts.each(shared, class_ids, on_names=r)
        return self._prompts.each(self.ctx + r.unflatten(-1, (-1, width)), class_ids)
