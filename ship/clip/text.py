"""CLIP's causal text transformer, driven from prompt embeddings instead of token ids.

Weights are frozen, so that no gradient but the prompts' is ever computed. Exact ways to do less,
tested against open_clip's own encode_text:
- a sequence ends at its EOT (a causal tower never looks behind it), and the last block finishes
  nothing but the positions of EOT;
- classes that share a context are packed several to a sequence, behind one copy of it (pack): a
  mask keeps them apart, and none is padded. Which token stands where is decided on the host, from
  the names' lengths alone;
- on an accelerator no value is read on the host, where a launch costs more than a padded token:
  prompts of their own go through in one batch. On a CPU they go in groups of about one length,
  without SOT: it is the same in all prompts and sees only itself, so that its keys and values are
  constants of each block. They cost two launches a block, and gain nothing in long sequences.

In reduced precision the blocks alone are cast, once; embeddings, positions, the last norm and the
projection keep the weights' own precision, and so do prompts, features and their gradients.
"""

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.replicas import sent

# Tokens of a packed sequence, about: attention grows with its square, and copies of the context
# with its inverse. 128 is what one tile of the fused kernels spans.
SEQUENCE = 128
# Fewer prompts than this are not worth a batch of their own: they join the next longer ones.
SMALLEST_GROUP = 32
# A mask's rows begin at multiples of this many numbers, as the fused kernels want them.
ALIGNMENT = 16
# Gradients inside a half-precision tower are larger by this factor, and divided by it where they
# leave: CLIP's are so small that float16 would lose some. A power of two, so that nothing but
# underflow changes. bfloat16 has float32's range and needs none.
HALF_GRADIENT_SCALE = 256.0


# A block of the transformer, with its keys and values of SOT, (2, 1, heads, 1, head width), where
# SOT precedes the tokens that go through; None where it is one of them.
_Block: TypeAlias = tuple[Any, Tensor | None]


class TextTower:
    """The frozen text transformer of an open_clip model.

    Args:
        model: an open_clip model whose architecture is drivable (ship.architectures), on the device
            where it stays.
        sot: Token id of SOT.
        dtype: what its text blocks are cast to, in place; None: they stay as they are.

    Attributes:
        width: size of a token embedding; need not equal the feature size.
        context_length: most tokens in a prompt, SOT and EOT included.
        depth: blocks of the transformer.
        passed: token positions so far, counted once for each block (a cost, not a state).
    """

    def __init__(self, model: nn.Module, sot: int, dtype: torch.dtype | None = None) -> None:
        self._tower: Any = getattr(model, "text", model)
        self._positions: Tensor = self._tower.positional_embedding
        self._dtype = dtype or self._positions.dtype
        if dtype is not None:
            self._tower.transformer.to(dtype)
        self._gradient_scale = HALF_GRADIENT_SCALE if dtype == torch.float16 else 1.0
        self._blocks: list[_Block] = [(it, None) for it in self._tower.transformer.resblocks]
        self.context_length, self.width = self._positions.shape
        self.depth = len(self._blocks)
        self.passed = 0
        # The same ones at every step, and sent once: a recorded step sends nothing. Neither holds
        # the tower, whose memory is free as soon as nobody needs it.
        self._packing = lru_cache(64)(partial(pack, self._positions.device, self._dtype))
        self._places = lru_cache(64)(partial(_whence, self._packing))
        self._causal = lru_cache(64)(partial(_mask_behind_sot, self._dtype))
        self._blocks_behind_sot = self._with_sot(sot)

    @torch.no_grad()
    def embed(self, ids: Int[Tensor, "*n"]) -> Float[Tensor, "*n width"]:
        """Token embeddings, without positions."""
        embedded: Tensor = self._tower.token_embedding(ids)
        return embedded

    def encode(
        self, prompts: Float[Tensor, "n t width"], eot: Int[Tensor, " n"]
    ) -> Float[Tensor, "n feature"]:
        """Unit-norm text features of embedded prompts (positions are added here).

        Args:
            prompts: token embeddings, the first one SOT's, which has no gradient; whatever follows
                a prompt's EOT is ignored.
            eot: the index of each prompt's EOT.
        """
        if eot.device.type != "cpu":
            return self._together(prompts, eot)
        groups = by_length(eot)
        found = [
            self._behind_sot(prompts[own, : int(eot[own[-1]]) + 1], eot[own]) for own in groups
        ]
        return torch.cat(found)[torch.cat(groups).argsort()]

    def encode_shared(
        self,
        prefix: Float[Tensor, "replica p width"],
        suffix: Float[Tensor, "c s width"],
        lengths: Sequence[int],
        tokens: Float[Tensor, "replica c m width"] | None = None,
        depth: int = 0,
    ) -> Float[Tensor, "replica c feature"]:
        """Unit-norm text features of every prefix followed by every suffix.

        Args:
            prefix: embedded [SOT] + context, one per replica.
            suffix: embedded class name up to EOT, one per class, padded behind it.
            lengths: tokens of each suffix, EOT included.
            tokens: of each class its own, which take the places of the context's last m half-way
                through the tower, as they go into the next block; None: nothing does.
            depth: blocks before that, at least 1 and fewer than there are.
        """
        (n, p), (_, s, width) = prefix.shape[:2], suffix.shape
        contexts = self._enter(prefix + self._positions[:p])
        packing = self._packing(p, tuple(lengths))
        names = (suffix + self._positions[p : p + s]).reshape(-1, width)
        names = self._enter(names[packing.classes * s + packing.offsets])
        contexts = contexts.unsqueeze(1).expand(-1, len(names), -1, -1)
        hidden = torch.cat([contexts, names.expand(n, -1, -1, -1)], dim=2)
        if tokens is not None:
            hidden = self._through(
                self._blocks[:depth], hidden.flatten(0, 1), _repeated(packing, hidden)
            ).unflatten(0, (n, -1))
            # what is left of the context is shared as before: it has seen neither
            m = tokens.shape[2]
            there = torch.cat([self._enter(tokens).flatten(1, 2), hidden.flatten(1, 2)], dim=1)
            places = self._places(p, tuple(lengths), m)
            # index_select, whose gradient is one operation
            own = there.index_select(1, places.flatten()).unflatten(1, places.shape)
            contexts = hidden[:, :1, : p - m].expand(-1, len(places), -1, -1)
            hidden = torch.cat([contexts, own], dim=2)
            packing = self._packing(p - m, tuple(m + length for length in lengths))
        ends, mask = packing.ends.repeat(n, 1), _repeated(packing, hidden)
        made = self._run(self._blocks[depth:], hidden.flatten(0, 1), ends, mask)
        return self._features(made.reshape(n, -1, width)[:, packing.order])

    def _together(self, prompts: Tensor, eot: Tensor) -> Tensor:
        """Features of (n, t, width), all t tokens of each."""
        hidden = self._enter(prompts + self._positions[: prompts.shape[1]])
        return self._features(self._run(self._blocks, hidden, eot.unsqueeze(1), None)[:, 0])

    def _behind_sot(self, prompts: Tensor, eot: Tensor) -> Tensor:
        """Return the same features, computed from all tokens but SOT."""
        t = prompts.shape[1]
        hidden = self._enter(prompts[:, 1:] + self._positions[1:t])
        places = (eot - 1).unsqueeze(1)
        made = self._run(self._blocks_behind_sot, hidden, places, self._causal(t))
        return self._features(made[:, 0])

    def _run(
        self, blocks: Sequence[_Block], hidden: Tensor, places: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Blocks over (n, t, width); what the last makes at the places (n, k), (n, k, width).

        Args:
            mask: added to the attention's scores, (n, 1, t, t), or (1, 1, t, 1 + t) where the
                blocks have SOT; None: causal.
        """
        hidden = self._through(blocks[:-1], hidden, mask)
        mixed = self._attended(blocks[-1], hidden, mask)
        # nothing but the output at EOT is asked for
        return _finished(blocks[-1][0], _at(hidden, places), _at(mixed, places))

    def _through(self, blocks: Sequence[_Block], hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Blocks over (n, t, width), at all places."""
        for block in blocks:
            hidden = _finished(block[0], hidden, self._attended(block, hidden, mask))
        return hidden

    def _attended(self, block: _Block, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """What a block's attention makes, heads side by side, (n, t, width)."""
        self.passed += hidden.shape[0] * hidden.shape[1]
        layer, sot = block
        q, k, v = _heads(layer, hidden)
        if sot is not None:
            sot = sot.expand(-1, len(hidden), -1, -1, -1)
            k, v = torch.cat([sot[0], k], dim=-2), torch.cat([sot[1], v], dim=-2)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return mixed.transpose(-3, -2).flatten(-2)

    @torch.no_grad()
    def _with_sot(self, sot: int) -> list[_Block]:
        """Return the blocks with their keys and values of SOT, whose attention is its own value."""
        token = torch.tensor([[sot]], device=self._positions.device)
        hidden = self._enter(self.embed(token) + self._positions[:1])
        blocks: list[_Block] = []
        for layer, _ in self._blocks:
            keys_and_values = _heads(layer, hidden)[1:]
            blocks.append((layer, keys_and_values.contiguous()))
            hidden = _finished(layer, hidden, keys_and_values[1].transpose(-3, -2).flatten(-2))
        return blocks

    def _enter(self, hidden: Tensor) -> Tensor:
        """Cast what goes into the blocks to their precision."""
        return _scale_gradient(hidden, 1 / self._gradient_scale).to(self._dtype)

    def _features(self, hidden: Float[Tensor, "*n width"]) -> Float[Tensor, "*n feature"]:
        """Unit-norm text features, in the weights' own precision, of what is made at EOT."""
        left = _scale_gradient(hidden.to(self._positions.dtype), self._gradient_scale)
        pooled = self._tower.ln_final(left)
        projection = self._tower.text_projection
        if projection is not None:
            pooled = (
                projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
            )
        return F.normalize(pooled, dim=-1)


def by_length(eot: Int[Tensor, " n"]) -> list[Int[Tensor, " m"]]:
    """Row indices in groups of about one position of EOT, the shortest first, in order of it."""
    _, counts = eot.unique(return_counts=True)
    sizes = [0]
    for count in counts.tolist():
        if sizes[-1] >= SMALLEST_GROUP:
            sizes.append(0)
        sizes[-1] += count
    return list(eot.argsort(stable=True).split(sizes))


def _heads(block: Any, hidden: Float[Tensor, "n t width"]) -> Float[Tensor, "3 n heads t head"]:
    """Queries, keys and values of a block's attention."""
    attention = block.attn
    packed = F.linear(block.ln_1(hidden), attention.in_proj_weight, attention.in_proj_bias)
    heads = packed.unflatten(-1, (3, attention.num_heads, attention.head_dim))
    apart: Tensor = heads.movedim(-3, 0).transpose(-3, -2)
    return apart


def _mask_behind_sot(dtype: torch.dtype, t: int) -> Float[Tensor, "1 1 tokens t"]:
    """Return what is added to the scores of t tokens but SOT: 0 up to each one, else -inf."""
    return torch.full((1, 1, t - 1, t), -math.inf, dtype=dtype).triu(2)


def _finished(block: Any, x: Tensor, mixed: Tensor) -> Tensor:
    """Output projection, residuals and MLP of a block, of what went in and what attention made."""
    x = x + block.ls_1(block.attn.out_proj(mixed))
    finished: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return finished


def _scale_gradient(x: Tensor, factor: float) -> Tensor:
    """x itself, whose gradient is multiplied by a factor on its way back."""
    if factor != 1 and x.requires_grad:
        x.register_hook(lambda gradient: gradient * factor)
    return x


def _at(x: Float[Tensor, "n t width"], places: Int[Tensor, "n k"]) -> Float[Tensor, "n k width"]:
    """x[i, places[i, j]]; gather, whose gradient is one operation where an index's are many."""
    return x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def _repeated(packing: "Packing", hidden: Float[Tensor, "n S t width"]) -> Tensor:
    """The mask of all contexts in turn, (n * S, 1, t, t); its rows stay aligned."""
    return packing.mask.repeat(len(hidden), 1, 1).unsqueeze(1)[..., : hidden.shape[2]]


class Packing(NamedTuple):
    """S sequences of a context of p tokens and then of some names; t tokens in all.

    classes, offsets: which name's token stands at each place behind the context, and which one of
        it; (S, t - p). Places that are left over repeat the first token of the first name.
    ends: the place of each name's last token in its sequence; (S, k), left-over ones 0.
    order: where each class is among the S * k ends; (c,).
    starts: where its first token is among the S * t tokens; (c,).
    mask: what is added to attention's scores: 0 where a token may look (the context, and its own
        name up to itself), else -inf; (S, t, t or more: a multiple of ALIGNMENT).
    """

    classes: Int[Tensor, "S names"]
    offsets: Int[Tensor, "S names"]
    ends: Int[Tensor, "S k"]
    order: Int[Tensor, " c"]
    starts: Int[Tensor, " c"]
    mask: Float[Tensor, "S t aligned"]


def pack(
    device: torch.device, dtype: torch.dtype, p: int, lengths: tuple[int, ...], most: int = SEQUENCE
) -> Packing:
    """Names in as few sequences as are found, all as short as so many sequences allow.

    Args:
        device: that it lies on.
        dtype: of the mask.
        p: tokens of the context before them.
        lengths: tokens of each of c names, at least one each.
        most: tokens of a sequence, about; a name that is longer has a sequence of its own length.
    """
    largest = max(max(lengths), most - p)
    fewest = len(_bins(lengths, largest))
    least = max(max(lengths), math.ceil(sum(lengths) / fewest))
    rooms = range(least, largest + 1)
    room = next(room for room in rooms if len(_bins(lengths, room)) <= fewest)
    bins = _bins(lengths, room)

    t, k = p + room, max(map(len, bins))
    classes, offsets = torch.zeros(2, len(bins), room, dtype=torch.long)
    ends = torch.zeros(len(bins), k, dtype=torch.long)
    order, starts = torch.zeros(2, len(lengths), dtype=torch.long)
    owners = torch.full((len(bins), t), -1)  # whose each place is: -1, the context's
    owners[:, p:] = len(lengths)  # nobody's
    for sequence, names in enumerate(bins):
        first = 0
        for nth, name in enumerate(names):
            places = slice(first, first + lengths[name])
            classes[sequence, places] = name
            offsets[sequence, places] = torch.arange(lengths[name])
            owners[sequence, p:][places] = name
            order[name] = sequence * k + nth
            starts[name] = sequence * t + p + first
            first = places.stop
            ends[sequence, nth] = p + first - 1
    seen = (owners.unsqueeze(1) == owners.unsqueeze(2)) | (owners == -1).unsqueeze(1)
    aligned = math.ceil(t / ALIGNMENT) * ALIGNMENT
    mask = torch.full((len(bins), t, aligned), -math.inf, dtype=dtype)
    mask[:, :, :t].masked_fill_(seen.tril(), 0.0)
    found = (classes, offsets, ends, order, starts, mask)
    return Packing(*(sent(part, device) for part in found))


def _whence(packing: Any, p: int, lengths: tuple[int, ...], m: int) -> Int[Tensor, "S tokens"]:
    """Which token each place has, once m tokens of each name's own are packed before it.

    Args:
        packing: gives the Packing of names behind so many tokens of a context.
        p: tokens of the context that the names shared so far, m of which go.
        lengths: tokens of each of c names.

    Returns:
        For each place behind what is left of the context an index into the c * m tokens of the
        names' own, with the tokens of all sequences so far behind them.
    """
    before: Packing = packing(p, lengths)
    after: Packing = packing(p - m, tuple(m + length for length in lengths))
    of_name = len(lengths) * m + before.starts[after.classes] + after.offsets - m
    return torch.where(after.offsets < m, after.classes * m + after.offsets, of_name)


def _bins(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Names in sequences of so much room, the longest first, each where it is the first to fit."""
    bins: list[list[int]] = []
    left: list[int] = []
    for name in sorted(range(len(lengths)), key=lambda c: -lengths[c]):
        place = next((i for i, free in enumerate(left) if free >= lengths[name]), len(bins))
        if place == len(bins):
            bins.append([])
            left.append(room)
        bins[place].append(name)
        left[place] -= lengths[name]
    return bins
