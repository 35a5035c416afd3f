"""Packing of class names after a shared context into few sequences, for causal text towers."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.seeds import to_device

# Default of the approximate maximum number of tokens in a packed sequence. Attention costs more in
# longer sequences, while shorter ones need more copies of the context. 128 tokens are a tile of
# torch's fused attention kernels.
SEQUENCE_TOKENS = 128
# The length of a mask's rows is a multiple of this, as fused attention kernels require.
ALIGNMENT = 16


class Packing(NamedTuple):
    """S sequences of t tokens: a context of p tokens, followed by several names.

    There are c names, one per class. A sequence has at most k names.

    Attributes:
        classes: Class of the name token at each position after the context, (S, t - p). Unused
            positions repeat the first token of the first name.
        offsets: Index of that token within the name, (S, t - p).
        ends: Position of the last token of each name in the sequence, (S, k); 0 if unused.
        order: Index of each class's entry in the flattened `ends`, (c,).
        starts: Index of the first token of each class's name among all S * t tokens, (c,).
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
    max_tokens: int = SEQUENCE_TOKENS,
) -> Packing:
    """Pack names into few sequences of equal length, as short as that number of sequences allows.

    Args:
        device: Device of the result.
        dtype: Data type of the mask.
        p: Number of tokens of the context before the names.
        lengths: Number of tokens of each of c names, at least 1.
        max_tokens: Maximum length of a sequence. It is exceeded if the context and the longest name
            do not fit.
    """
    # room: number of tokens of a sequence after the context
    max_room = max(max(lengths), max_tokens - p)
    n_sequences = len(_assign_to_bins(lengths, max_room))
    min_room = max(max(lengths), math.ceil(sum(lengths) / n_sequences))
    rooms = range(min_room, max_room + 1)
    room = next(room for room in rooms if len(_assign_to_bins(lengths, room)) <= n_sequences)
    bins = _assign_to_bins(lengths, room)

    t, k = p + room, max(map(len, bins))
    classes, offsets = torch.zeros(2, len(bins), room, dtype=torch.long)
    ends = torch.zeros(len(bins), k, dtype=torch.long)
    order, starts = torch.zeros(2, len(lengths), dtype=torch.long)
    owners = torch.full((len(bins), t), -1)  # class of each position; -1: the context
    owners[:, p:] = len(lengths)  # unused until a name is assigned
    for sequence, class_ids in enumerate(bins):
        start = 0  # of the next name, counted after the context
        for slot, class_id in enumerate(class_ids):
            positions = slice(start, start + lengths[class_id])
            classes[sequence, positions] = class_id
            offsets[sequence, positions] = torch.arange(lengths[class_id])
            owners[sequence, p:][positions] = class_id
            order[class_id] = sequence * k + slot
            starts[class_id] = sequence * t + p + start
            start = positions.stop
            ends[sequence, slot] = p + start - 1
    visible = (owners.unsqueeze(1) == owners.unsqueeze(2)) | (owners == -1).unsqueeze(1)
    width = math.ceil(t / ALIGNMENT) * ALIGNMENT
    mask = torch.full((len(bins), t, width), -math.inf, dtype=dtype)
    mask[:, :, :t].masked_fill_(visible.tril(), 0.0)
    tensors = (classes, offsets, ends, order, starts, mask)
    return Packing(*(to_device(tensor, device) for tensor in tensors))


def find_sources(
    get_packing: Any, p: int, lengths: tuple[int, ...], m: int
) -> Int[Tensor, "S tokens"]:
    """Find the tokens to repack when m class-specific tokens replace the last m of the context.

    The class-specific tokens then belong to the names, so that each name is m tokens longer and the
    context m tokens shorter.

    Args:
        get_packing: Function of the number of context tokens and the lengths of the names that
            returns their Packing.
        p: Number of tokens of the context before the replacement.
        lengths: Number of tokens of each of c names, without class-specific tokens.
        m: Number of class-specific tokens per class.

    Returns:
        For each position after the shorter context, the index of its token among the c * m
        class-specific tokens, followed by the tokens of all sequences before the replacement.
    """
    before: Packing = get_packing(p, lengths)
    after: Packing = get_packing(p - m, tuple(m + length for length in lengths))
    name_tokens = len(lengths) * m + before.starts[after.classes] + after.offsets - m
    return torch.where(after.offsets < m, after.classes * m + after.offsets, name_tokens)


def _assign_to_bins(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Assign names to bins of `room` tokens: the longest first, each to the first bin that fits.

    Returns:
        Classes of the names in each bin.
    """
    bins: list[list[int]] = []
    room_left: list[int] = []
    for class_id in sorted(range(len(lengths)), key=lambda c: -lengths[c]):
        fitting_bins = (i for i, free in enumerate(room_left) if free >= lengths[class_id])
        chosen_bin = next(fitting_bins, len(bins))
        if chosen_bin == len(bins):
            bins.append([])
            room_left.append(room)
        bins[chosen_bin].append(class_id)
        room_left[chosen_bin] -= lengths[class_id]
    return bins
