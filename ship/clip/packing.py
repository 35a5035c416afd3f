"""Packing of class names after a shared context into few sequences, for causal text towers."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.seeds import to_device

# Approximate number of tokens in a packed sequence. The cost of attention grows with its square,
# but shorter sequences need more copies of the context. A tile of the fused kernels spans 128.
SEQUENCE = 128
# Alignment of the rows of a mask, in numbers, as the fused kernels require.
ALIGNMENT = 16


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
    device: torch.device,
    dtype: torch.dtype,
    p: int,
    lengths: tuple[int, ...],
    max_tokens: int = SEQUENCE,
) -> Packing:
    """Pack names into few sequences, each as short as their number allows.

    Args:
        device: Device of the result.
        dtype: Data type of the mask.
        p: Number of tokens of the context before the names.
        lengths: Number of tokens of each of c names, at least 1.
        max_tokens: Approximate maximum length of a sequence. A longer name has its own sequence.
    """
    max_room = max(max(lengths), max_tokens - p)
    fewest = len(_assign_to_bins(lengths, max_room))
    min_room = max(max(lengths), math.ceil(sum(lengths) / fewest))
    rooms = range(min_room, max_room + 1)
    room = next(room for room in rooms if len(_assign_to_bins(lengths, room)) <= fewest)
    bins = _assign_to_bins(lengths, room)

    t, k = p + room, max(map(len, bins))
    classes, offsets = torch.zeros(2, len(bins), room, dtype=torch.long)
    ends = torch.zeros(len(bins), k, dtype=torch.long)
    order, starts = torch.zeros(2, len(lengths), dtype=torch.long)
    owners = torch.full((len(bins), t), -1)  # class of each position; -1: the context
    owners[:, p:] = len(lengths)  # unused
    for sequence, names in enumerate(bins):
        first = 0
        for nth, name in enumerate(names):
            positions = slice(first, first + lengths[name])
            classes[sequence, positions] = name
            offsets[sequence, positions] = torch.arange(lengths[name])
            owners[sequence, p:][positions] = name
            order[name] = sequence * k + nth
            starts[name] = sequence * t + p + first
            first = positions.stop
            ends[sequence, nth] = p + first - 1
    visible = (owners.unsqueeze(1) == owners.unsqueeze(2)) | (owners == -1).unsqueeze(1)
    width = math.ceil(t / ALIGNMENT) * ALIGNMENT
    mask = torch.full((len(bins), t, width), -math.inf, dtype=dtype)
    mask[:, :, :t].masked_fill_(visible.tril(), 0.0)
    parts = (classes, offsets, ends, order, starts, mask)
    return Packing(*(to_device(part, device) for part in parts))


def find_sources(packing: Any, p: int, lengths: tuple[int, ...], m: int) -> Int[Tensor, "S tokens"]:
    """Return the source of each token when m class-specific tokens replace the context's last m.

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


def _assign_to_bins(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Assign names to sequences of `room` tokens: longest first, into the first that fits."""
    bins: list[list[int]] = []
    room_left: list[int] = []
    for name in sorted(range(len(lengths)), key=lambda c: -lengths[c]):
        chosen_bin = next(
            (i for i, free in enumerate(room_left) if free >= lengths[name]), len(bins)
        )
        if chosen_bin == len(bins):
            bins.append([])
            room_left.append(room)
        bins[chosen_bin].append(name)
        room_left[chosen_bin] -= lengths[name]
    return bins
