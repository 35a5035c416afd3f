"""Prompts through the text layers in as few token positions as can be: the way of a CPU.

Exact speed-ups:
- a sequence is cut at its EOT (a causal tower never looks behind it), prompts of one length
  together, and the last block runs at the EOT positions alone;
- a prefix that prompts share ([SOT] + context, or [SOT] alone) goes through the layers once; every
  prompt attends to its keys and values and runs only its own tokens.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ship.clip.text_layers import TextLayers, finish, merge_heads, project

# Keys and values of a shared prefix, of each layer: (replica, 1, heads, p, head width).
Past = list[tuple[Tensor, Tensor]]

# Fewer prompts than this are not worth a pass of their own: they join the next longer ones.
SMALLEST_GROUP = 32


class FewestTokens:
    """Text features by groups of one length behind a shared prefix.

    Attributes:
        tokens: count of token positions that went through the layers so far (a cost, not a state).
    """

    def __init__(self, layers: TextLayers) -> None:
        self._layers = layers
        self.tokens = 0

    def encode(
        self, prompts: Float[Tensor, "n t width"], eot: Int[Tensor, " n"]
    ) -> Float[Tensor, "n feature"]:
        """As TextTower.encode: what the prompts share is [SOT]."""
        return self._shared(prompts[:1, :1], prompts[:, 1:], eot - 1)[0]

    def encode_shared(
        self,
        prefix: Float[Tensor, "replica p width"],
        suffix: Float[Tensor, "c s width"],
        lengths: Sequence[int],
    ) -> Float[Tensor, "replica c feature"]:
        """As TextTower.encode_shared."""
        return self._shared(prefix, suffix, torch.tensor(lengths, device=suffix.device) - 1)

    def _shared(self, prefix: Tensor, suffix: Tensor, eot: Tensor) -> Tensor:
        positions = self._layers.positions
        past = self._keys_and_values(prefix)
        features = []
        groups = by_length(eot)
        for rows in groups:
            start, length = prefix.shape[1], int(eot[rows].max()) + 1
            tail = self._layers.enter(suffix[rows, :length] + positions[start : start + length])
            features.append(self._run(tail.unsqueeze(0), eot[rows], past))
        return torch.cat(features, dim=1)[:, torch.cat(groups).argsort()]

    def _keys_and_values(self, prefix: Tensor) -> Past:
        """Each layer's keys and values of the shared prefix, (replica, 1, heads, p, head width)."""
        layers = self._layers
        head = layers.enter(prefix + layers.positions[: prefix.shape[1]]).unsqueeze(1)
        self.tokens += head.shape[0] * head.shape[2]
        past: Past = []
        for block in layers.blocks:
            query, key, value = project(block, block.ln_1(head))
            past.append((key, value))
            if len(past) < len(layers.blocks):  # the prefix's own output of the last one is unused
                mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
                head = finish(block, head, merge_heads(mixed))
        return past

    def _run(self, hidden: Tensor, eot: Tensor, past: Past) -> Tensor:
        """Features of one group: the layers over (replica or 1, n, t, width), pooled at eot."""
        n, length = hidden.shape[1:3]
        n_past = past[0][0].shape[-2]
        self.tokens += n * length * len(past[0][0])
        rows = torch.arange(n, device=hidden.device)
        ones = torch.ones(length, n_past + length, dtype=torch.bool, device=hidden.device)
        mask = ones.tril(n_past)  # all of the prefix, and its own tokens up to itself
        blocks = self._layers.blocks
        for depth, block in enumerate(blocks):
            normed = block.ln_1(hidden)
            if depth < len(blocks) - 1:
                query, key, value = project(block, normed)
            else:  # nothing but the output at EOT is asked for
                key, value = project(block, normed, slice(1, 3))
                hidden, normed = (x[:, rows, eot].unsqueeze(2) for x in (hidden, normed))
                (query,) = project(block, normed, slice(0, 1))
                mask = mask[eot][:, None, None]
            key, value = _with_past(key, value, *past[depth])
            # the first layer's tail is the same for all replicas
            query = query.expand(key.shape[0], *query.shape[1:])
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            hidden = finish(block, hidden, merge_heads(mixed))
        return self._layers.features(hidden[:, :, 0])


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


def _with_past(
    key: Tensor, value: Tensor, past_key: Tensor, past_value: Tensor
) -> tuple[Tensor, Tensor]:
    """Put the shared prefix's keys and values before each class's own ones."""
    shape = (past_key.shape[0], key.shape[1], *key.shape[2:])

    def join(past: Tensor, own: Tensor) -> Tensor:
        return torch.cat([past.expand(-1, shape[1], -1, -1, -1), own.expand(shape)], dim=-2)

    return join(past_key, key), join(past_value, value)
