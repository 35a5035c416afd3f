"""CLIP's causal text transformer, driven from prompt embeddings instead of token ids.

Exact speed-ups, all tested against open_clip's own encode_text:
- a sequence is cut at its EOT (a causal tower never looks behind it), prompts of one length
  together, and the last block runs at the EOT positions alone;
- weights are frozen, so that no gradient but the prompts' is ever computed;
- a prefix that prompts share ([SOT] + context, or [SOT] alone) goes through the layers once; every
  prompt attends to its keys and values and runs only its own tokens.

In reduced precision the blocks alone are cast, once; embeddings, positions, the last norm and the
projection keep the weights' own precision, and so do prompts, features and their gradients.
"""

from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

# Gradients inside a half-precision tower are larger by this factor, and divided by it where they
# leave: CLIP's are so small that float16 would lose some. A power of two, so that nothing but
# underflow changes. bfloat16 has float32's range and needs none.
HALF_GRADIENT_SCALE = 256.0

# Keys and values of a shared prefix, of each layer: (replica, 1, heads, p, head width).
Past = list[tuple[Tensor, Tensor]]


# open_clip's ResidualAttentionBlock; see ship.architectures on when open_clip is imported
Block: TypeAlias = Any


class UndrivableTower(ValueError):
    """The text tower is not a plain causal CLIP transformer; prompts cannot be put through it."""


class TextTower:
    """The frozen text transformer of an open_clip model.

    Args:
        model: an open_clip model.
        dtype: what its text blocks are cast to, in place; None: they stay as they are.

    Attributes:
        width: size of a token embedding; need not equal the feature size.
        context_length: most tokens in a prompt, SOT and EOT included.
        tokens: count of token positions that went through the layers so far (a cost, not a state).

    Raises:
        UndrivableTower: the model's text tower is bidirectional, pools otherwise than at EOT,
            or has blocks other than CLIP's own.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype | None = None) -> None:
        from open_clip.model import CLIP

        tower: Any = model if isinstance(model, CLIP) else getattr(model, "text", None)
        check_tower(tower)
        if dtype is not None:
            tower.transformer.to(dtype)
        self._tower: Any = tower
        self._dtype = dtype
        self._gradient_scale = HALF_GRADIENT_SCALE if dtype == torch.float16 else 1.0
        self._blocks: list[Block] = list(tower.transformer.resblocks)
        self._positions: Tensor = tower.positional_embedding
        self.width: int = self._positions.shape[1]
        self.context_length: int = self._positions.shape[0]
        self.tokens = 0

    def embed(self, ids: Int[Tensor, "*n"]) -> Float[Tensor, "*n width"]:
        """Token embeddings, without positions."""
        with torch.no_grad():
            embedded: Tensor = self._tower.token_embedding(ids)
        return embedded

    def encode(
        self, prompts: Float[Tensor, "n t width"], eot: Int[Tensor, " n"]
    ) -> Float[Tensor, "n feature"]:
        """Unit-norm text features of embedded prompts (positions are added here).

        Args:
            prompts: token embeddings, the first one (SOT) the same in all; whatever follows a
                prompt's EOT is ignored.
            eot: the index of each prompt's EOT.
        """
        return self.encode_shared(prompts[:1, :1], prompts[:, 1:], eot - 1)[0]

    def encode_shared(
        self,
        prefix: Float[Tensor, "replica p width"],
        suffix: Float[Tensor, "c s width"],
        eot: Int[Tensor, " c"],
    ) -> Float[Tensor, "replica c feature"]:
        """Unit-norm text features of every prefix followed by every suffix.

        Args:
            prefix: embedded [SOT] + context, one per replica.
            suffix: embedded class name up to EOT, one per class, padded behind it.
            eot: the index of EOT within each suffix.
        """
        past = self._keys_and_values(prefix)
        features = []
        groups = by_length(eot)
        for rows in groups:
            start, length = prefix.shape[1], int(eot[rows].max()) + 1
            tail = self._enter(suffix[rows, :length] + self._positions[start : start + length])
            features.append(self._run(tail.unsqueeze(0), eot[rows], past))
        return torch.cat(features, dim=1)[:, torch.cat(groups).argsort()]

    def _keys_and_values(self, prefix: Tensor) -> Past:
        """Each layer's keys and values of the shared prefix, (replica, 1, heads, p, head width)."""
        head = self._enter(prefix + self._positions[: prefix.shape[1]]).unsqueeze(1)
        self.tokens += head.shape[0] * head.shape[2]
        past: Past = []
        for block in self._blocks:
            query, key, value = _project(block, block.ln_1(head))
            past.append((key, value))
            if len(past) < len(self._blocks):  # the prefix's own output of the last block is unused
                mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
                head = _finish(block, head, mixed)
        return past

    def _enter(self, hidden: Tensor) -> Tensor:
        """Cast what goes into the blocks to their precision."""
        if self._dtype is None:
            return hidden
        return _scale_gradient(hidden, 1 / self._gradient_scale).to(self._dtype)

    def _leave(self, hidden: Tensor) -> Tensor:
        """Cast what comes out of the blocks back to the precision of the other weights."""
        if self._dtype is None:
            return hidden
        return _scale_gradient(hidden.to(self._positions.dtype), self._gradient_scale)

    def _run(self, hidden: Tensor, eot: Tensor, past: Past) -> Tensor:
        """The layers over (replica or 1, n, t, width), pooled at eot, projected, normalised."""
        n, length = hidden.shape[1:3]
        n_past = past[0][0].shape[-2]
        self.tokens += n * length * len(past[0][0])
        rows = torch.arange(n, device=hidden.device)
        ones = torch.ones(length, n_past + length, dtype=torch.bool, device=hidden.device)
        mask = ones.tril(n_past)  # all of the prefix, and its own tokens up to itself
        for depth, block in enumerate(self._blocks):
            normed = block.ln_1(hidden)
            if depth < len(self._blocks) - 1:
                query, key, value = _project(block, normed)
            else:  # nothing but the output at EOT is asked for
                key, value = _project(block, normed, slice(1, 3))
                hidden, normed = (x[:, rows, eot].unsqueeze(2) for x in (hidden, normed))
                (query,) = _project(block, normed, slice(0, 1))
                mask = mask[eot][:, None, None]
            key, value = _with_past(key, value, *past[depth])
            # the first layer's tail is the same for all replicas
            query = query.expand(key.shape[0], *query.shape[1:])
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            hidden = _finish(block, hidden, mixed)
        pooled = self._tower.ln_final(self._leave(hidden[:, :, 0]))
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


# Fewer prompts than this are not worth a pass of their own: they join the next longer ones.
SMALLEST_GROUP = 32


def by_length(eot: Int[Tensor, " n"]) -> list[Int[Tensor, " m"]]:
    """Row indices grouped by the position of EOT, shortest first."""
    order = eot.argsort(stable=True)
    _, counts = eot.unique(return_counts=True)
    sizes: list[int] = []
    pending = 0
    for count in counts.tolist():
        pending += count
        if pending >= SMALLEST_GROUP:
            sizes.append(pending)
            pending = 0
    if pending:
        sizes.append(pending)
    return list(order.split(sizes))


def _project(block: Block, x: Tensor, parts: slice = slice(0, 3)) -> tuple[Tensor, ...]:
    """Query, key and value, or parts of them: (..., t, width) -> (..., heads, t, head width)."""
    attention = block.attn
    rows = slice(parts.start * x.shape[-1], parts.stop * x.shape[-1])
    bias = attention.in_proj_bias
    packed = F.linear(x, attention.in_proj_weight[rows], None if bias is None else bias[rows])
    heads: Tensor = packed.unflatten(-1, (-1, attention.num_heads, attention.head_dim))
    return tuple(heads.movedim(-3, 0).transpose(-3, -2))


def _with_past(
    key: Tensor, value: Tensor, past_key: Tensor, past_value: Tensor
) -> tuple[Tensor, Tensor]:
    """Put the shared prefix's keys and values before each class's own ones."""
    shape = (past_key.shape[0], key.shape[1], *key.shape[2:])

    def join(past: Tensor, own: Tensor) -> Tensor:
        return torch.cat([past.expand(-1, shape[1], -1, -1, -1), own.expand(shape)], dim=-2)

    return join(past_key, key), join(past_value, value)


def _finish(block: Block, x: Tensor, mixed: Tensor) -> Tensor:
    """Output projection, residuals and MLP of one block."""
    attended = block.attn.out_proj(mixed.transpose(-3, -2).flatten(-2))
    x = x + block.ls_1(attended)
    finished: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return finished


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
