"""CLIP's causal text transformer, driven from prompt embeddings instead of token ids.

Weights are frozen, so that no gradient but the prompts' is ever computed. Exact ways to do less,
tested against open_clip's own encode_text:
- a sequence ends at its EOT (a causal tower never looks behind it), and the last block finishes
  nothing but the positions of EOT;
- classes that share a context are packed several to a sequence, behind one copy of it
  (ship.clip.packing): a mask keeps them apart, and none is padded;
- on an accelerator no value is read on the host, where a launch costs more than a padded token:
  prompts of their own go through in one batch. On a CPU they go in groups of about one length.

In reduced precision the blocks alone are cast, once; embeddings, positions, the last norm and the
projection keep the weights' own precision, and so do prompts, features and their gradients.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.clip.packing import Packing, pack, whence
from ship.clip.text_layers import Block, TextLayers, check_tower, finish, merge_heads, project
from ship.transfer import sent

# Tokens of a packed sequence, about: attention grows with its square, and copies of the context
# with its inverse. 128 is what one tile of the fused kernels spans.
SEQUENCE = 128
# Fewer prompts than this are not worth a batch of their own: they join the next longer ones.
SMALLEST_GROUP = 32


@dataclass(frozen=True)
class InnerTokens:
    """What takes the places of a shared context's last vectors half-way through the tower.

    depth: blocks before that, at least 1 and fewer than there are.
    tokens: of each class its own, as they go into the next block, (replica, c, m, width).
    """

    depth: int
    tokens: Float[Tensor, "replica c m width"]


class TextTower:
    """The frozen text transformer of an open_clip model.

    Args:
        model: an open_clip model, on the device where it stays.
        dtype: what its text blocks are cast to, in place; None: they stay as they are.

    Attributes:
        width: size of a token embedding; need not equal the feature size.
        context_length: most tokens in a prompt, SOT and EOT included.
        depth: blocks of the transformer.

    Raises:
        UndrivableTower: the model's text tower is bidirectional, pools otherwise than at EOT,
            or has blocks other than CLIP's own.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype | None = None) -> None:
        from open_clip.model import CLIP

        tower: Any = model if isinstance(model, CLIP) else getattr(model, "text", None)
        check_tower(tower)
        self._layers = TextLayers(tower, dtype)
        positions = self._layers.positions
        self.width: int = positions.shape[1]
        self.context_length: int = positions.shape[0]
        # by (tokens of the context, lengths of names, precision): the same ones at every step
        self._packings: dict[tuple[int, tuple[int, ...], torch.dtype], Packing] = {}
        self._places: dict[tuple[int, int, tuple[int, ...]], Tensor] = {}
        self.depth = len(self._layers.blocks)
        self._passed = 0  # token positions, counted once for each block

    @property
    def tokens(self) -> int:
        """Token positions that went through all layers so far (a cost, not a state)."""
        return self._passed // self.depth

    def embed(self, ids: Int[Tensor, "*n"]) -> Float[Tensor, "*n width"]:
        """Token embeddings, without positions."""
        return self._layers.embed(ids)

    def encode(
        self, prompts: Float[Tensor, "n t width"], eot: Int[Tensor, " n"]
    ) -> Float[Tensor, "n feature"]:
        """Unit-norm text features of embedded prompts (positions are added here).

        Args:
            prompts: token embeddings, the first one (SOT) the same in all; whatever follows a
                prompt's EOT is ignored.
            eot: the index of each prompt's EOT.
        """
        if eot.device.type != "cpu":
            return self._together(prompts, eot)
        groups = by_length(eot)
        found = [
            self._together(prompts[rows, : int(eot[rows[-1]]) + 1], eot[rows]) for rows in groups
        ]
        return torch.cat(found)[torch.cat(groups).argsort()]

    def encode_shared(
        self,
        prefix: Float[Tensor, "replica p width"],
        suffix: Float[Tensor, "c s width"],
        lengths: Sequence[int],
        inner: InnerTokens | None = None,
    ) -> Float[Tensor, "replica c feature"]:
        """Unit-norm text features of every prefix followed by every suffix.

        Args:
            prefix: embedded [SOT] + context, one per replica.
            suffix: embedded class name up to EOT, one per class, padded behind it.
            lengths: tokens of each suffix, EOT included.
            inner: what replaces the end of the context between two blocks; None: nothing does.
        """
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
        blocks = self._layers.blocks
        if inner is not None:
            before, blocks = blocks[: inner.depth], blocks[inner.depth :]
            hidden = self._through(before, hidden.flatten(0, 1), _repeated(packing, hidden))
            hidden = hidden.unflatten(0, (n, sequences))
            packing, hidden = self._replaced(inner.tokens, packing, hidden, tuple(lengths))
        mask = _repeated(packing, hidden)
        ends = self._run(blocks, hidden.flatten(0, 1), packing.ends.repeat(n, 1), mask)
        return self._layers.features(ends.reshape(n, -1, width)[:, packing.order])

    def _replaced(
        self, own: Tensor, packing: Packing, hidden: Tensor, lengths: tuple[int, ...]
    ) -> tuple[Packing, Tensor]:
        """Each class's own tokens in place of the context's last m, packed with its name.

        What is left of the context is shared as before: it has seen neither.

        Args:
            own: (replica, c, m, width).
            packing, lengths: of the names so far.
            hidden: (replica, sequence, t, width).

        Returns:
            The packing of tokens with names, and what stands there, (replica, sequence, t, width).
        """
        n, m, width = len(own), own.shape[2], own.shape[3]
        p = hidden.shape[2] - packing.classes.shape[1] - m
        prompts = self._packing(p, tuple(m + length for length in lengths), hidden)
        there = torch.cat([self._layers.enter(own).flatten(1, 2), hidden.flatten(1, 2)], dim=1)
        if (p, m, lengths) not in self._places:  # sent once: a recorded step sends nothing
            self._places[p, m, lengths] = whence(packing, prompts, lengths, m)
        places = self._places[p, m, lengths]
        # index_select, whose gradient is one operation
        behind = there.index_select(1, places.flatten()).reshape(n, *places.shape, width)
        context = hidden[:, :1, :p].expand(-1, len(places), -1, -1)
        return prompts, torch.cat([context, behind], dim=2)

    def _together(self, prompts: Tensor, eot: Tensor) -> Tensor:
        """Features of (n, t, width), all t tokens of each."""
        hidden = self._layers.enter(prompts + self._layers.positions[: prompts.shape[1]])
        ends = self._run(self._layers.blocks, hidden, eot.unsqueeze(1), None)
        return self._layers.features(ends[:, 0])

    def _run(
        self, blocks: Sequence[Block], hidden: Tensor, places: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Blocks over (n, t, width); what the last makes at the places (n, k), (n, k, width).

        Args:
            mask: added to the attention's scores, (n, 1, t, t); None: causal.
        """
        hidden = self._through(blocks[:-1], hidden, mask)
        mixed = self._attended(blocks[-1], hidden, mask)
        # nothing but the output at EOT is asked for
        return finish(blocks[-1], _at(hidden, places), _at(mixed, places))

    def _through(self, blocks: Sequence[Block], hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Blocks over (n, t, width), at all places."""
        for block in blocks:
            hidden = finish(block, hidden, self._attended(block, hidden, mask))
        return hidden

    def _attended(self, block: Block, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """What a block's attention makes, heads side by side, (n, t, width)."""
        self._passed += hidden.shape[0] * hidden.shape[1]
        query, key, value = project(block, block.ln_1(hidden))
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None
        )
        return merge_heads(mixed)

    def _packing(self, p: int, lengths: tuple[int, ...], like: Tensor) -> Packing:
        """Of names behind a context, on the device, the mask in the blocks' precision."""
        key = (p, lengths, like.dtype)
        if key not in self._packings:
            made = pack(lengths, p, SEQUENCE)
            made = replace(made, mask=made.mask.to(like.dtype))
            there = {f.name: sent(getattr(made, f.name), like.device) for f in fields(made)}
            self._packings[key] = Packing(**there)
        return self._packings[key]


def by_length(eot: Int[Tensor, " n"]) -> list[Int[Tensor, " m"]]:
    """Row indices in groups of about one position of EOT, the shortest first, in order of it."""
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


def _at(x: Float[Tensor, "n t width"], places: Int[Tensor, "n k"]) -> Float[Tensor, "n k width"]:
    """x[i, places[i, j]]; gather, whose gradient is one operation where an index's are many."""
    return x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def _repeated(packing: Packing, hidden: Float[Tensor, "n S t width"]) -> Tensor:
    """The mask of all contexts in turn, (n * S, 1, t, t); its rows stay aligned."""
    return packing.mask.repeat(len(hidden), 1, 1).unsqueeze(1)[..., : hidden.shape[2]]
