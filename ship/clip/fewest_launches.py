"""Prompts through the text layers in as few operations as can be: the way of an accelerator.

There a launch costs more than a padded token, a fused attention kernel takes 4-D tensors alone,
and asking how long a prompt is would make the host wait. So all prompts go through in one pass,
padded to the longest (a causal tower never looks behind EOT), and no value is read on the host.
Classes that share a context are packed several to a sequence, behind one copy of the context: a
mask keeps them apart, so that sharing costs no operation of its own.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ship.clip.text_layers import TextLayers, finish, merge_heads, project
from ship.transfer import sent

# Tokens of a packed sequence, about: attention grows with its square, and copies of the context
# with its inverse. 128 is what one tile of the fused kernels spans.
SEQUENCE = 128
# A mask's rows begin at multiples of this many numbers, as the fused kernels want them.
ALIGNMENT = 16


class FewestLaunches:
    """Text features in one pass.

    Attributes:
        tokens: count of token positions that went through the layers so far (a cost, not a state).
    """

    def __init__(self, layers: TextLayers) -> None:
        self._layers = layers
        # by (context, name and classes of a sequence, precision): the same ones at every step
        self._masks: dict[tuple[int, int, int, torch.dtype], Tensor] = {}
        self.tokens = 0

    def encode(
        self, prompts: Float[Tensor, "n t width"], eot: Int[Tensor, " n"]
    ) -> Float[Tensor, "n feature"]:
        """As TextTower.encode."""
        hidden = self._layers.enter(prompts + self._layers.positions[: prompts.shape[1]])
        return self._layers.features(self._run(hidden, eot.unsqueeze(1), None)[:, 0])

    def encode_shared(
        self,
        prefix: Float[Tensor, "replica p width"],
        suffix: Float[Tensor, "c s width"],
        eot: Int[Tensor, " c"],
    ) -> Float[Tensor, "replica c feature"]:
        """As TextTower.encode_shared."""
        (n, p), (c, s) = prefix.shape[:2], suffix.shape[:2]
        sequences = math.ceil(c / max(1, (SEQUENCE - p) // s))
        k = math.ceil(c / sequences)  # classes of each
        missing = sequences * k - c
        positions = self._layers.positions
        names = F.pad(suffix + positions[p : p + s], (0, 0, 0, 0, 0, missing))
        names = names.reshape(sequences, k * s, -1).expand(n, -1, -1, -1)
        contexts = (prefix + positions[:p]).unsqueeze(1).expand(-1, sequences, -1, -1)
        hidden = self._layers.enter(torch.cat([contexts, names], dim=2)).flatten(0, 1)
        firsts = torch.arange(p, p + k * s, s, device=eot.device)  # of each class in a sequence
        places = F.pad(eot, (0, missing)).reshape(sequences, k) + firsts
        mask = self._mask(p, s, k, hidden)
        ends = self._run(hidden, places.repeat(n, 1), mask)
        return self._layers.features(ends.reshape(n, sequences * k, -1)[:, :c])

    def _run(self, hidden: Tensor, places: Tensor, mask: Tensor | None) -> Tensor:
        """The layers over (n, t, width); what the last makes at the places (n, k), (n, k, width).

        Args:
            mask: added to the attention's scores, (t, t); None: causal.
        """
        self.tokens += hidden.shape[0] * hidden.shape[1]
        blocks = self._layers.blocks
        for depth, block in enumerate(blocks):
            query, key, value = project(block, block.ln_1(hidden))
            mixed = F.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=mask is None
            )
            mixed = merge_heads(mixed)
            if depth == len(blocks) - 1:  # nothing but the output at EOT is asked for
                hidden, mixed = (_at(x, places) for x in (hidden, mixed))
            hidden = finish(block, hidden, mixed)
        return hidden

    def _mask(self, p: int, s: int, k: int, like: Tensor) -> Tensor:
        """(t, t) of 0 and -inf for [context][name 1]...[name k]: a name sees not its neighbours."""
        key = (p, s, k, like.dtype)
        if key not in self._masks:
            self._masks[key] = sent(packed_mask(p, s, k).to(like.dtype), like.device)
        length = p + k * s
        return self._masks[key][:, :length]


def packed_mask(p: int, s: int, k: int) -> Float[Tensor, "t aligned"]:
    """What is added to the scores of k names of s tokens behind a context of p.

    0 where a token may look (the context, and its own name up to itself), else -inf.

    Returns:
        On the CPU, t = p + k * s; rows go on behind t to the next multiple of ALIGNMENT.
    """
    length = p + k * s
    place = torch.arange(length)
    name = (place - p).div(s, rounding_mode="floor").clamp_min(-1)  # -1: of the context
    seen = (name == name.unsqueeze(1)) | (name == -1)
    seen &= place <= place.unsqueeze(1)
    mask = torch.full((length, math.ceil(length / ALIGNMENT) * ALIGNMENT), -math.inf)
    mask[:, :length].masked_fill_(seen, 0.0)
    return mask


def _at(x: Float[Tensor, "n t width"], places: Int[Tensor, "n k"]) -> Float[Tensor, "n k width"]:
    """x[i, places[i, j]]; gather, whose gradient is one operation where an index's are many."""
    return x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
