"""CLIP's causal text transformer, applied to prompt embeddings instead of token IDs.

Weights are frozen, so that gradients are computed for the prompts only. Exact optimizations, tested
against open_clip's encode_text:

- A sequence ends at its EOT (a causal tower ignores what follows), and the last block computes its
  output at the positions of EOT only.
- Classes that share a context are packed into few sequences, each with one copy of the context
  (pack). A mask separates them, and none is padded. The positions of tokens are computed on the
  host, from the names' lengths only.
- On an accelerator no value is read on the host, and a kernel launch costs more than a padded
  token: prompts with separate contexts run in one batch. On a CPU they run in groups of similar
  length, without SOT. SOT is the same in all prompts and attends only to itself, so that its keys
  and values are constants of each block. Using them costs two launches per block and gains nothing
  for long sequences.

With reduced precision only the blocks are cast, once. Embeddings, positions, the last norm and the
projection keep the precision of the weights, as do prompts, features and their gradients.
"""

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.seeds import to_device

# Approximate number of tokens in a packed sequence. The cost of attention grows with its square,
# the number of copies of the context with its inverse. A tile of the fused kernels spans 128.
SEQUENCE = 128
# Fewer prompts than this are not worth a separate batch: they join the next longer ones.
SMALLEST_GROUP = 32
# The rows of a mask start at multiples of this many numbers, as the fused kernels require.
ALIGNMENT = 16
# Gradients inside a half-precision tower are scaled by this factor and unscaled when they leave:
# CLIP's are so small that some would underflow in float16. A power of two changes nothing but
# underflow. bfloat16 has the range of float32 and needs no scaling.
HALF_GRADIENT_SCALE = 256.0


# A block of the transformer, and its keys and values of SOT, (2, 1, heads, 1, head width), if the
# input does not include SOT; None if it does.
_Block: TypeAlias = tuple[Any, Tensor | None]


class TextTower:
    """The frozen text transformer of an open_clip model.

    Args:
        model: An open_clip model whose architecture is drivable (ship.architectures), already on
            its final device.
        sot: Token ID of SOT.
        dtype: Data type to which the text blocks are cast in place. Defaults to no cast.

    Attributes:
        width: Size of a token embedding, which may differ from the feature size.
        context_length: Maximum number of tokens in a prompt, including SOT and EOT.
        depth: Number of blocks of the transformer.
        passed: Number of token positions processed so far, counted once per block (a measure of
            cost, not a state).
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
        # Cached because every step needs the same ones: a recorded step must not copy from the
        # host. The caches do not refer to the tower, so that its memory can be freed.
        self._packing = lru_cache(64)(partial(pack, self._positions.device, self._dtype))
        self._places = lru_cache(64)(partial(_source_places, self._packing))
        self._causal = lru_cache(64)(partial(_mask_without_sot, self._dtype))
        self._blocks_with_sot = self._with_sot(sot)

    @torch.no_grad()
    def embed(self, ids: Int[Tensor, "*n"]) -> Float[Tensor, "*n width"]:
        """Return token embeddings, without positions."""
        embedded: Tensor = self._tower.token_embedding(ids)
        return embedded

    def encode(
        self, prompts: Float[Tensor, "n t width"], eot: Int[Tensor, " n"]
    ) -> Float[Tensor, "n feature"]:
        """Return unit-norm text features of embedded prompts. Positions are added here.

        Args:
            prompts: Token embeddings, starting with SOT, which gets no gradient. Tokens after a
                prompt's EOT are ignored.
            eot: Index of each prompt's EOT.
        """
        if eot.device.type != "cpu":
            return self._together(prompts, eot)
        groups = by_length(eot)
        features = [
            self._without_sot(prompts[rows, : int(eot[rows[-1]]) + 1], eot[rows]) for rows in groups
        ]
        return torch.cat(features)[torch.cat(groups).argsort()]

    def encode_shared(
        self,
        prefix: Float[Tensor, "seed p width"],
        suffix: Float[Tensor, "c s width"],
        lengths: Sequence[int],
        tokens: Float[Tensor, "seed c m width"] | None = None,
        depth: int = 0,
    ) -> Float[Tensor, "seed c feature"]:
        """Return unit-norm text features of every prefix followed by every suffix.

        Args:
            prefix: Embedded [SOT] + context of each seed.
            suffix: Embedded class name of each class up to EOT, padded after it.
            lengths: Number of tokens of each suffix, including EOT.
            tokens: Class-specific tokens that replace the last m tokens of the context before block
                `depth`. Defaults to no replacement.
            depth: Number of blocks before the replacement, at least 1 and fewer than all.
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
            # the rest of the context is still shared: it attends neither to tokens nor to names
            m = tokens.shape[2]
            source = torch.cat([self._enter(tokens).flatten(1, 2), hidden.flatten(1, 2)], dim=1)
            places = self._places(p, tuple(lengths), m)
            # the gradient of index_select is a single operation
            names = source.index_select(1, places.flatten()).unflatten(1, places.shape)
            contexts = hidden[:, :1, : p - m].expand(-1, len(places), -1, -1)
            hidden = torch.cat([contexts, names], dim=2)
            packing = self._packing(p - m, tuple(m + length for length in lengths))
        ends, mask = packing.ends.repeat(n, 1), _repeated(packing, hidden)
        outputs = self._run(self._blocks[depth:], hidden.flatten(0, 1), ends, mask)
        return self._features(outputs.reshape(n, -1, width)[:, packing.order])

    def _together(self, prompts: Tensor, eot: Tensor) -> Tensor:
        """Return the features of prompts (n, t, width), computed in one batch from all t tokens."""
        hidden = self._enter(prompts + self._positions[: prompts.shape[1]])
        return self._features(self._run(self._blocks, hidden, eot.unsqueeze(1), None)[:, 0])

    def _without_sot(self, prompts: Tensor, eot: Tensor) -> Tensor:
        """Return the same features, computed with constant keys and values of SOT."""
        t = prompts.shape[1]
        hidden = self._enter(prompts[:, 1:] + self._positions[1:t])
        places = (eot - 1).unsqueeze(1)
        outputs = self._run(self._blocks_with_sot, hidden, places, self._causal(t))
        return self._features(outputs[:, 0])

    def _run(
        self, blocks: Sequence[_Block], hidden: Tensor, places: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Apply blocks to (n, t, width) and return the output at some positions, (n, k, width).

        Args:
            blocks: Blocks to apply.
            hidden: Input, (n, t, width).
            places: Positions of the output, (n, k).
            mask: Mask added to the attention scores, (n, 1, t, t), or (1, 1, t, 1 + t) if the
                blocks have SOT. Defaults to a causal mask.
        """
        hidden = self._through(blocks[:-1], hidden, mask)
        mixed = self._attended(blocks[-1], hidden, mask)
        # only the output at EOT is needed
        return _finished(blocks[-1][0], _at(hidden, places), _at(mixed, places))

    def _through(self, blocks: Sequence[_Block], hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Apply blocks to (n, t, width) and return the output at all positions."""
        for block in blocks:
            hidden = _finished(block[0], hidden, self._attended(block, hidden, mask))
        return hidden

    def _attended(self, block: _Block, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Return the output of a block's attention, with concatenated heads, (n, t, width)."""
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
        """Return the blocks with their keys and values of SOT, which attends only to itself."""
        token = torch.tensor([[sot]], device=self._positions.device)
        hidden = self._enter(self.embed(token) + self._positions[:1])
        blocks: list[_Block] = []
        for layer, _ in self._blocks:
            keys_and_values = _heads(layer, hidden)[1:]
            blocks.append((layer, keys_and_values.contiguous()))
            hidden = _finished(layer, hidden, keys_and_values[1].transpose(-3, -2).flatten(-2))
        return blocks

    def _enter(self, hidden: Tensor) -> Tensor:
        """Cast the input of the blocks to their precision."""
        return _scale_gradient(hidden, 1 / self._gradient_scale).to(self._dtype)

    def _features(self, hidden: Float[Tensor, "*n width"]) -> Float[Tensor, "*n feature"]:
        """Return unit-norm text features of the output at EOT, in the weights' precision."""
        outputs = _scale_gradient(hidden.to(self._positions.dtype), self._gradient_scale)
        pooled = self._tower.ln_final(outputs)
        projection = self._tower.text_projection
        if projection is not None:
            pooled = (
                projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
            )
        return F.normalize(pooled, dim=-1)


def by_length(eot: Int[Tensor, " n"]) -> list[Int[Tensor, " m"]]:
    """Return row indices in groups of similar positions of EOT, sorted from shortest to longest."""
    _, counts = eot.unique(return_counts=True)
    sizes = [0]
    for count in counts.tolist():
        if sizes[-1] >= SMALLEST_GROUP:
            sizes.append(0)
        sizes[-1] += count
    return list(eot.argsort(stable=True).split(sizes))


def _heads(block: Any, hidden: Float[Tensor, "n t width"]) -> Float[Tensor, "3 n heads t head"]:
    """Return the queries, keys and values of a block's attention."""
    attention = block.attn
    packed = F.linear(block.ln_1(hidden), attention.in_proj_weight, attention.in_proj_bias)
    packed = packed.unflatten(-1, (3, attention.num_heads, attention.head_dim))
    heads: Tensor = packed.movedim(-3, 0).transpose(-3, -2)
    return heads


def _mask_without_sot(dtype: torch.dtype, t: int) -> Float[Tensor, "1 1 tokens t"]:
    """Return the causal mask of t tokens without a row for SOT: 0 up to each token, else -inf."""
    return torch.full((1, 1, t - 1, t), -math.inf, dtype=dtype).triu(2)


def _finished(block: Any, x: Tensor, mixed: Tensor) -> Tensor:
    """Apply a block's output projection, residuals and MLP to its input and attention output."""
    x = x + block.ls_1(block.attn.out_proj(mixed))
    finished: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return finished


def _scale_gradient(x: Tensor, factor: float) -> Tensor:
    """Return x, with a hook that multiplies its gradient by a factor."""
    if factor != 1 and x.requires_grad:
        x.register_hook(lambda gradient: gradient * factor)
    return x


def _at(x: Float[Tensor, "n t width"], places: Int[Tensor, "n k"]) -> Float[Tensor, "n k width"]:
    """Return x[i, places[i, j]] with gather, whose gradient is a single operation."""
    return x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def _repeated(packing: "Packing", hidden: Float[Tensor, "n S t width"]) -> Tensor:
    """Return the mask repeated for all contexts, (n * S, 1, t, t). Its rows stay aligned."""
    return packing.mask.repeat(len(hidden), 1, 1).unsqueeze(1)[..., : hidden.shape[2]]


class Packing(NamedTuple):
    """S sequences of t tokens: a context of p tokens, followed by several names.

    Attributes:
        classes: Class of the name token at each position after the context, (S, t - p). Unused
            positions repeat the first token of the first name.
        offsets: Index of that token within the name, (S, t - p).
        ends: Position of each name's last token in its sequence, (S, k); 0 if unused.
        order: Index of each class among the S * k ends, (c,).
        starts: Index of each class's first token among the S * t tokens, (c,).
        mask: Mask added to the attention scores: 0 for the context and for earlier tokens of the
            same name, else -inf. (S, t, t rounded up to a multiple of ALIGNMENT).
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
    """Pack names into few sequences, and make these as short as their number allows.

    Args:
        device: Device of the result.
        dtype: Data type of the mask.
        p: Number of tokens of the context before the names.
        lengths: Number of tokens of each of c names, at least 1.
        most: Approximate maximum length of a sequence. A longer name has its own sequence.
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
    owners = torch.full((len(bins), t), -1)  # class of each position; -1: the context
    owners[:, p:] = len(lengths)  # unused
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
    parts = (classes, offsets, ends, order, starts, mask)
    return Packing(*(to_device(part, device) for part in parts))


def _source_places(
    packing: Any, p: int, lengths: tuple[int, ...], m: int
) -> Int[Tensor, "S tokens"]:
    """Return the source of each token once m class-specific tokens replace the context's last m.

    Args:
        packing: Function that returns the Packing of names after a context of some length.
        p: Number of tokens of the context before the replacement.
        lengths: Number of tokens of each of c names.
        m: Number of class-specific tokens.

    Returns:
        For each position after the remaining context, an index into the concatenation of the c * m
        class-specific tokens and the tokens of all sequences before the replacement.
    """
    before: Packing = packing(p, lengths)
    after: Packing = packing(p - m, tuple(m + length for length in lengths))
    of_name = len(lengths) * m + before.starts[after.classes] + after.offsets - m
    return torch.where(after.offsets < m, after.classes * m + after.offsets, of_name)


def _bins(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Assign names to sequences of `room` tokens: longest first, into the first that fits."""
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
