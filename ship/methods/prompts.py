"""Learned prompts [SOT] context [class name] . [EOT], and the linear layers that compute them.

Methods use this module for one seed. Under vmap the prompts of all seeds are encoded in one pass: a
causal text tower (ship.clip.causal) packs prompts with a shared prefix, and groups the prompts of
all seeds by length.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.clip import FrozenCLIP, make_class_prompts
from ship.methods.base import Rng
from ship.methods.batching import add_product, batched_over_seeds
from ship.settings import NamePosition

# Maximum number of prompts that are encoded in one pass without gradients. A ViT-B/16's text tower
# needs about 100 KB per prompt.
PROMPTS_AT_ONCE = 8192


class Prompts:
    """Prompts for a list of class names with n_ctx context vectors each.

    Functions decorated with `batched_over_seeds` have a leading seed axis in their signatures.
    Callers omit this axis.

    Raises:
        ValueError: n_ctx leaves no room for a class name.
    """

    def __init__(
        self,
        clip: FrozenCLIP,
        class_names: Sequence[str],
        n_ctx: int,
        position: NamePosition = "end",
    ) -> None:
        self._tower = clip.text
        self._parts = make_class_prompts(clip, class_names, n_ctx, position)
        self._names_are_last = position == "end"

    @batched_over_seeds
    def encode_prompts(
        self,
        ctx: Float[Tensor, "seed n n_ctx width"],
        class_ids: Int[Tensor, "seed n"],
        name_offsets: Float[Tensor, "seed n width"] | None = None,
    ) -> Float[Tensor, "seed n feature"]:
        """Return unit-norm features of n prompts. Without gradients they are encoded in chunks.

        Args:
            ctx: Context vectors of each prompt.
            class_ids: Class of each prompt.
            name_offsets: Vector of each prompt to add to all tokens of its class name. Defaults to
                none.
        """
        step = max(1, PROMPTS_AT_ONCE // len(class_ids))
        if torch.is_grad_enabled() or class_ids.shape[1] <= step:
            return self._encode(ctx, class_ids, name_offsets)
        contexts = ctx.split(step, dim=1)
        name_parts = (
            [None] * len(contexts) if name_offsets is None else name_offsets.split(step, dim=1)
        )
        chunks = zip(contexts, class_ids.split(step, dim=1), name_parts, strict=True)
        return torch.cat([self._encode(*chunk) for chunk in chunks], dim=1)

    def _encode(self, ctx: Tensor, class_ids: Tensor, name_offsets: Tensor | None) -> Tensor:
        flat = None if name_offsets is None else name_offsets.flatten(0, 1)
        prompts, eot = self._parts.assemble(ctx.flatten(0, 1), class_ids.flatten(), flat)
        return self._tower.encode(prompts, eot).reshape(*class_ids.shape, -1)

    def encode_classes(
        self,
        ctx: Float[Tensor, "*n_cls n_ctx width"],
        tokens: Float[Tensor, "n_cls m width"] | None = None,
        depth: int = 0,
    ) -> Float[Tensor, "n_cls feature"]:
        """Return unit-norm features of all classes for one shared context or one per class.

        Args:
            ctx: Context shared by all classes, or one context per class.
            tokens: Tokens of each class that replace the last m positions of a shared context
                before block `depth`. They require the name at the end. Defaults to none.
            depth: Number of tower blocks before the replacement.

        Raises:
            ValueError: `tokens` are given, but the context is not shared or the name is not at the
                end.
        """
        if ctx.ndim == 2 and self._names_are_last:
            return self._encode_shared(ctx, tokens, depth)
        if tokens is not None:
            raise ValueError("tokens require a shared context with the class name at the end")
        n_cls = len(self._parts.names)
        contexts = ctx if ctx.ndim == 3 else ctx.expand(n_cls, -1, -1)
        return self.encode_prompts(contexts, torch.arange(n_cls, device=ctx.device))

    @batched_over_seeds
    def encode_classifiers(
        self, ctx: Float[Tensor, "seed n n_ctx width"], microbatch_size: int
    ) -> Float[Tensor, "seed n n_cls feature"]:
        """Return unit-norm features of all classes for each of n contexts. Requires position "end".

        Args:
            ctx: Contexts, each shared by all classes.
            microbatch_size: Number of contexts, over all seeds, per pass through the tower.
        """
        flat = ctx.flatten(0, 1)
        features = torch.cat(
            [self._encode_all_seeds(part, None, 0) for part in flat.split(microbatch_size)]
        )
        return features.reshape(*ctx.shape[:2], *features.shape[1:])

    def _encode_all_seeds(self, ctx: Tensor, tokens: Tensor | None, depth: int) -> Tensor:
        """Encode the prompts of all classes for each context. `ctx` is (seed, n_ctx, width)."""
        names, lengths = self._parts.names, self._parts.host_lengths
        return self._tower.encode_shared(self._parts.prefix(ctx), names, lengths, tokens, depth)

    _encode_shared = batched_over_seeds(_encode_all_seeds)


def make_initial_context(
    clip: FrozenCLIP, n_ctx: int, words: str | None, rng: Rng
) -> Float[Tensor, "n_ctx width"]:
    """Return initial context vectors: the embeddings of words, preceded by random vectors.

    Random vectors are normal with a standard deviation of 0.02, as many as are needed for n_ctx
    vectors in total. If the words have more than n_ctx tokens, the first tokens are omitted.

    Args:
        clip: Backbone with the tokenizer and the token embeddings.
        n_ctx: Number of context vectors.
        words: Words to embed. None makes all vectors random.
        rng: Random stream of the seed.
    """
    ctx = 0.02 * rng.normal(n_ctx, clip.text_width)
    ids = clip.tokenizer.encode(words)[-n_ctx:] if words and n_ctx else []
    if ids:
        embedded = clip.text.embed(torch.tensor(ids, device=clip.device))
        ctx[n_ctx - len(ids) :] = embedded.to(ctx)
    return ctx


class Linear(nn.Module):
    """An affine map, initialized as in SHIP's code: weights N(0, std^2), biases 0."""

    def __init__(self, n_in: int, n_out: int, rng: Rng, std: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(std * rng.normal(n_in, n_out))
        self.bias = nn.Parameter(self.weight.new_zeros(1, n_out))

    def forward(self, x: Float[Tensor, "n n_in"]) -> Float[Tensor, "n n_out"]:
        """Return x W + b."""
        return add_product(self.bias, x, self.weight)


def make_uniform_linear(n_in: int, n_out: int, rng: Rng) -> Linear:
    """Return a layer initialized as torch.nn.Linear: weights and biases U(-b, b), b = n_in^-1/2.

    Rng draws normal numbers only. Their distribution function maps them to uniform ones.
    """
    layer = Linear(n_in, n_out, rng, std=1.0)
    with torch.no_grad():
        layer.bias.copy_(rng.normal(1, n_out))
        for value in (layer.weight, layer.bias):
            value.copy_((2 * torch.special.ndtr(value) - 1) / n_in**0.5)
    return layer
