"""Prompts through the text layers in as few operations as can be: the way of an accelerator.

There a launch costs more than a padded token, a fused attention kernel takes 4-D tensors alone,
and asking how long a prompt is would make the host wait. So all prompts go through in one pass,
padded to the longest (a causal tower never looks behind EOT), and no value is read on the host.
Classes that share a context are packed several to a sequence, behind one copy of the context
(ship.clip.packing): a mask keeps them apart, so that sharing costs no operation of its own, and
their lengths are known on the host, so that none is padded.
"""

from collections.abc import Sequence
from dataclasses import fields, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ship.clip.packing import Packing, pack
from ship.clip.text_layers import TextLayers, finish, merge_heads, project
from ship.transfer import sent

# Tokens of a packed sequence, about: attention grows with its square, and copies of the context
# with its inverse. 128 is what one tile of the fused kernels spans.
SEQUENCE = 128


class FewestLaunches:
    """Text features in one pass.

    Attributes:
        tokens: count of token positions that went through the layers so far (a cost, not a state).
    """

    def __init__(self, layers: TextLayers) -> None:
        self._layers = layers
        # by (tokens of the context, lengths of names, precision): the same ones at every step
        self._packings: dict[tuple[int, tuple[int, ...], torch.dtype], Packing] = {}
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
        lengths: Sequence[int],
    ) -> Float[Tensor, "replica c feature"]:
        """As TextTower.encode_shared."""
        (n, p), (_, s, width) = prefix.shape[:2], suffix.shape
        positions = self._layers.positions
        contexts = self._layers.enter(prefix + positions[:p])
        packing = self._packing(p, tuple(lengths), contexts)
        names = (suffix + positions[p : p + s]).reshape(-1, width)
        names = names[packing.classes * s + packing.offsets]
        sequences = len(names)
        hidden = torch.cat(
            [
                contexts.unsqueeze(1).expand(-1, sequences, -1, -1),
                self._layers.enter(names).expand(n, -1, -1, -1),
            ],
            dim=2,
        )
        # of all contexts in turn; rows stay aligned
        mask = packing.mask.repeat(n, 1, 1).unsqueeze(1)[..., : hidden.shape[2]]
        ends = self._run(hidden.flatten(0, 1), packing.ends.repeat(n, 1), mask)
        return self._layers.features(ends.reshape(n, -1, width)[:, packing.order])

    def _run(self, hidden: Tensor, places: Tensor, mask: Tensor | None) -> Tensor:
        """The layers over (n, t, width); what the last makes at the places (n, k), (n, k, width).

        Args:
            mask: added to the attention's scores, (n, 1, t, t); None: causal.
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

    def _packing(self, p: int, lengths: tuple[int, ...], like: Tensor) -> Packing:
        """Of names behind a context, on the device, the mask in the blocks' precision."""
        key = (p, lengths, like.dtype)
        if key not in self._packings:
            made = pack(lengths, p, SEQUENCE)
            made = replace(made, mask=made.mask.to(like.dtype))
            there = {f.name: sent(getattr(made, f.name), like.device) for f in fields(made)}
            self._packings[key] = Packing(**there)
        return self._packings[key]


def _at(x: Float[Tensor, "n t width"], places: Int[Tensor, "n k"]) -> Float[Tensor, "n k width"]:
    """x[i, places[i, j]]; gather, whose gradient is one operation where an index's are many."""
    return x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
