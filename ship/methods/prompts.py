"""Prompts of one seed, [SOT] context [class name] . [EOT]; the tower sees all seeds at once.

Packing behind a shared prefix and grouping by length are the tower's (ship.clip.text), and so
stay what they are for many rows.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.clip import FrozenCLIP, class_prompts
from ship.methods.contract import Rng
from ship.methods.stack import folded, plus_product
from ship.settings import NamePosition

# Through the text tower without gradients; a ViT-B/16's keeps some 100 KB of each prompt at a time.
PROMPTS_AT_ONCE = 8192


class Prompts:
    """Prompts of a list of class names behind n_ctx context vectors.

    What is folded is written for all seeds and called for one, without the axis of replicas.

    Raises:
        ValueError: n_ctx leaves no room for a name.
    """

    def __init__(
        self,
        clip: FrozenCLIP,
        class_names: Sequence[str],
        n_ctx: int,
        position: NamePosition = "end",
    ) -> None:
        self._tower = clip.text
        self._parts = class_prompts(clip, class_names, n_ctx, position)
        self._names_are_last = position == "end"

    @folded
    def each(
        self,
        ctx: Float[Tensor, "replica n n_ctx width"],
        class_ids: Int[Tensor, "replica n"],
        on_names: Float[Tensor, "replica n width"] | None = None,
    ) -> Float[Tensor, "replica n feature"]:
        """Unit-norm features of n prompts; without gradients a part at a time.

        Args:
            ctx: the context vectors of each.
            class_ids: of each.
            on_names: what is added to every token of each one's class name.
        """
        step = max(1, PROMPTS_AT_ONCE // len(class_ids))
        if torch.is_grad_enabled() or class_ids.shape[1] <= step:
            return self._encoded(ctx, class_ids, on_names)
        contexts = ctx.split(step, dim=1)
        added = [None] * len(contexts) if on_names is None else on_names.split(step, dim=1)
        many = zip(contexts, class_ids.split(step, dim=1), added, strict=True)
        return torch.cat([self._encoded(*part) for part in many], dim=1)

    def _encoded(self, ctx: Tensor, class_ids: Tensor, on_names: Tensor | None) -> Tensor:
        flat = None if on_names is None else on_names.flatten(0, 1)
        prompts, eot = self._parts.assemble(ctx.flatten(0, 1), class_ids.flatten(), flat)
        return self._tower.encode(prompts, eot).reshape(*class_ids.shape, -1)

    def classes(
        self,
        ctx: Float[Tensor, "*n_cls n_ctx width"],
        tokens: Float[Tensor, "n_cls m width"] | None = None,
        depth: int = 0,
    ) -> Float[Tensor, "n_cls feature"]:
        """Unit-norm features of all classes behind one context, or each behind its own.

        Args:
            ctx: shared by all classes, or of each.
            tokens: of each class, in place of the last m of a shared context before block `depth`.
            depth: blocks of the tower before them.
        """
        if ctx.ndim == 2 and self._names_are_last:
            return self._fold_shared(ctx, tokens, depth)
        n_cls = len(self._parts.names)
        own = ctx if ctx.ndim == 3 else ctx.expand(n_cls, -1, -1)
        return self.each(own, torch.arange(n_cls, device=ctx.device))

    @folded
    def classifiers(
        self, ctx: Float[Tensor, "replica n n_ctx width"], at_once: int
    ) -> Float[Tensor, "replica n n_cls feature"]:
        """Unit-norm features of all classes behind each of n contexts; the name is at the end.

        Args:
            ctx: each shared by all classes.
            at_once: contexts of all seeds together that go through the tower in one pass.
        """
        flat = ctx.flatten(0, 1)
        made = torch.cat([self._shared(part, None, 0) for part in flat.split(at_once)])
        return made.reshape(*ctx.shape[:2], *made.shape[1:])

    def _shared(self, ctx: Tensor, tokens: Tensor | None, depth: int) -> Tensor:
        """Of all seeds' contexts, (replica, n_ctx, width)."""
        names, lengths = self._parts.names, self._parts.host_lengths
        return self._tower.encode_shared(self._parts.prefix(ctx), names, lengths, tokens, depth)

    _fold_shared = folded(_shared)


def initial_context(
    clip: FrozenCLIP, n_ctx: int, words: str | None, rng: Rng
) -> Float[Tensor, "n_ctx width"]:
    """Context vectors to start from: N(0, 0.02), the last of them replaced by embedded words.

    Words fill the places just before the class name; with fewer places than words, the first
    words are left out.

    Args:
        clip: its tokenizer and token embeddings are used.
        n_ctx: context vectors, in tokens.
        words: what the last of them stand for at the start; None: noise alone.
        rng: the seed's stream.
    """
    ctx = 0.02 * rng.normal(n_ctx, clip.text_width)
    ids = clip.tokenizer.encode(words)[-n_ctx:] if words and n_ctx else []
    if ids:
        embedded = clip.text.embed(torch.tensor(ids, device=clip.device))
        ctx[n_ctx - len(ids) :] = embedded.to(ctx)
    return ctx


class Linear(nn.Module):
    """An affine map: weights N(0, std), biases 0 (the start of SHIP's code)."""

    def __init__(self, n_in: int, n_out: int, rng: Rng, std: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(std * rng.normal(n_in, n_out))
        self.bias = nn.Parameter(self.weight.new_zeros(1, n_out))

    def forward(self, x: Float[Tensor, "n n_in"]) -> Float[Tensor, "n n_out"]:
        """x W + b."""
        return plus_product(self.bias, x, self.weight)


def uniform_linear(n_in: int, n_out: int, rng: Rng) -> Linear:
    """torch.nn.Linear's own start: weights and biases U(-b, b), b = n_in^-1/2.

    It is made of normal noise by its distribution.
    """
    layer = Linear(n_in, n_out, rng, std=1.0)
    with torch.no_grad():
        layer.bias.copy_(rng.normal(1, n_out))
        for value in (layer.weight, layer.bias):
            value.copy_((2 * torch.special.ndtr(value) - 1) / n_in**0.5)
    return layer
