"""The frozen layers of CLIP's text transformer, taken apart: what both ways through them share."""

from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

# Gradients inside a half-precision tower are larger by this factor, and divided by it where they
# leave: CLIP's are so small that float16 would lose some. A power of two, so that nothing but
# underflow changes. bfloat16 has float32's range and needs none.
HALF_GRADIENT_SCALE = 256.0

# open_clip's ResidualAttentionBlock; see ship.architectures on when open_clip is imported
Block: TypeAlias = Any


class UndrivableTower(ValueError):
    """The text tower is not a plain causal CLIP transformer; prompts cannot be put through it."""


class TextLayers:
    """Blocks, positions and projection of an open_clip text transformer.

    Args:
        tower: an open_clip CLIP or TextTransformer that check_tower lets pass.
        dtype: what its blocks are cast to, in place; None: they stay as they are.

    Attributes:
        blocks: the residual attention blocks, first to last.
        positions: added to token embeddings, (context length, width).
    """

    def __init__(self, tower: Any, dtype: torch.dtype | None) -> None:
        if dtype is not None:
            tower.transformer.to(dtype)
        self._tower: Any = tower
        self._dtype = dtype
        self._gradient_scale = HALF_GRADIENT_SCALE if dtype == torch.float16 else 1.0
        self.blocks: list[Block] = list(tower.transformer.resblocks)
        self.positions: Tensor = tower.positional_embedding

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings, without positions."""
        with torch.no_grad():
            embedded: Tensor = self._tower.token_embedding(ids)
        return embedded

    def enter(self, hidden: Tensor) -> Tensor:
        """Cast what goes into the blocks to their precision."""
        if self._dtype is None:
            return hidden
        return _scale_gradient(hidden, 1 / self._gradient_scale).to(self._dtype)

    def _leave(self, hidden: Tensor) -> Tensor:
        """Cast what comes out of the blocks back to the precision of the other weights."""
        if self._dtype is None:
            return hidden
        return _scale_gradient(hidden.to(self.positions.dtype), self._gradient_scale)

    def features(self, hidden: Float[Tensor, "*n width"]) -> Float[Tensor, "*n feature"]:
        """Unit-norm text features of what the last block made at EOT."""
        pooled = self._tower.ln_final(self._leave(hidden))
        projection = self._tower.text_projection
        if isinstance(projection, nn.Linear):
            pooled = projection(pooled)
        elif projection is not None:
            pooled = pooled @ projection
        return F.normalize(pooled, dim=-1)


def _scale_gradient(x: Tensor, factor: float) -> Tensor:
    """x itself, whose gradient is multiplied by a factor on its way back."""
    if factor != 1 and x.requires_grad:
        x.register_hook(lambda gradient: gradient * factor)
    return x


def project(block: Block, x: Tensor, parts: slice = slice(0, 3)) -> tuple[Tensor, ...]:
    """Query, key and value, or parts of them: (..., t, width) -> (..., heads, t, head width)."""
    attention = block.attn
    rows = slice(parts.start * x.shape[-1], parts.stop * x.shape[-1])
    bias = attention.in_proj_bias
    packed = F.linear(x, attention.in_proj_weight[rows], None if bias is None else bias[rows])
    heads: Tensor = packed.unflatten(-1, (-1, attention.num_heads, attention.head_dim))
    return tuple(heads.movedim(-3, 0).transpose(-3, -2))


def finish(block: Block, x: Tensor, mixed: Float[Tensor, "*n t mixed"]) -> Tensor:
    """Output projection, residuals and MLP of one block.

    Args:
        x: what went into the block, (..., t, width).
        mixed: what its attention made, heads side by side.
    """
    x = x + block.ls_1(block.attn.out_proj(mixed))
    finished: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return finished


def merge_heads(mixed: Float[Tensor, "*n heads t head_width"]) -> Float[Tensor, "*n t mixed"]:
    """The heads of each position side by side."""
    return mixed.transpose(-3, -2).flatten(-2)


def check_tower(tower: object) -> None:
    """Refuse a text tower whose forward pass is not the plain causal one.

    Raises:
        UndrivableTower: with the property that stands in the way.
    """
    from open_clip.model import CLIP
    from open_clip.transformer import ResidualAttentionBlock, TextTransformer

    if not isinstance(tower, CLIP | TextTransformer):
        raise UndrivableTower(f"its text tower is a {type(tower).__name__}, not CLIP's transformer")
    if tower.attn_mask is None:
        raise UndrivableTower("its text tower is bidirectional (no causal mask)")
    pool = tower.text_pool_type if isinstance(tower, CLIP) else tower.pool_type
    if pool not in ("argmax", "eos"):
        raise UndrivableTower(f"its text tower pools at {pool!r}, not at EOT")
    if getattr(tower, "cls_emb", None) is not None:
        raise UndrivableTower("its text tower appends a class embedding (CoCa)")
    for block in tower.transformer.resblocks:
        if type(block) is not ResidualAttentionBlock or hasattr(block, "ln_1_kv"):
            raise UndrivableTower(f"its text blocks are {type(block).__name__}, not CLIP's own")
