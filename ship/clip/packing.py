"""Pack many class names into few sequences, after copies of a shared context.

A causal text tower then processes the context once per sequence instead of once per class. Example:
a context of three tokens (x), and the names of four classes with 2, 3, 2 and 2 tokens (0a, 0b; 1a,
1b, 1c; ...), packed into two sequences of eight tokens. The last position is not used.

    position     0   1   2   3   4   5   6   7
    sequence 0   x   x   x   1a  1b  1c  0a  0b
    sequence 1   x   x   x   2a  2b  3a  3b  -

A mask hides names from each other: 0a attends to x, x, x and itself only. Positional embeddings do
not follow this layout: the first token of each name has the position after the context, here 3.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.seeds import to_device

# Default maximum length of a packed sequence, exceeded only if the context and one long name do not
# fit. Attention costs more in longer sequences, while shorter ones need more copies of the context.
# 128 tokens are a tile of torch's fused attention kernels.
SEQUENCE_TOKENS = 128
# The length of a mask's rows is a multiple of this, as fused attention kernels require.
ALIGNMENT = 16


class Packing(NamedTuple):
    """S sequences of t tokens: p tokens of the context, and `room` = t - p positions for names.

    There are c names, one per class. A sequence has at most k names.

    Attributes:
        classes: Class whose name is at each position after the context, (S, room). Unused positions
            are filled with class 0, offset 0.
        offsets: Index of the token within the name at each of these positions, (S, room).
        ends: Position of the last token of each name in its sequence, (S, k). Filled with 0 if a
            sequence has fewer names.
        end_indices: Index of each class's entry in ends.flatten(), (c,). It restores the order of
            the classes.
        flat_starts: Index of the first token of each class's name among all S * t tokens, (c,).
        mask: Mask added to the attention scores, (S, t, t rounded up to a multiple of ALIGNMENT). 0
            where a token may attend: to itself, to earlier tokens of the context, and to earlier
            tokens of its own name. -inf elsewhere.
    """

    classes: Int[Tensor, "S room"]
    offsets: Int[Tensor, "S room"]
    ends: Int[Tensor, "S k"]
    end_indices: Int[Tensor, " c"]
    flat_starts: Int[Tensor, " c"]
    mask: Float[Tensor, "S t aligned"]


def pack(
    device: torch.device,
    dtype: torch.dtype,
    n_context: int,
    lengths: tuple[int, ...],
    max_tokens: int = SEQUENCE_TOKENS,
) -> Packing:
    """Pack names into few sequences of equal length.

    Names are assigned by first-fit decreasing. Sequences have the smallest length at which this
    needs no more sequences than at the maximum length.

    Args:
        device: Device of the result.
        dtype: Data type of the mask.
        n_context: Number of tokens of the context before the names.
        lengths: Number of tokens of each name, at least 1.
        max_tokens: Maximum length of a sequence. It is exceeded if the context and the longest name
            do not fit.

    Returns:
        The positions of all names in the sequences, and the attention mask.

    Example:
        The packing in the drawing above:

        >>> packing = pack(torch.device("cpu"), torch.float32, 3, (2, 3, 2, 2), max_tokens=8)
        >>> packing.classes.tolist()
        [[1, 1, 1, 0, 0], [2, 2, 3, 3, 0]]
        >>> packing.offsets.tolist()
        [[0, 1, 2, 0, 1], [0, 1, 0, 1, 0]]
        >>> packing.ends.tolist(), packing.end_indices.tolist()
        ([[5, 7], [4, 6]], [1, 0, 2, 3])
        >>> packing.flat_starts.tolist()
        [6, 3, 11, 13]
        >>> packing.mask[0, 6, :8].tolist()  # what 0a attends to
        [0.0, 0.0, 0.0, -inf, -inf, -inf, 0.0, -inf]
    """
    # room: number of positions of a sequence after the context
    max_room = max(max(lengths), max_tokens - n_context)
    n_sequences = len(_assign_to_bins(lengths, max_room))
    min_room = max(max(lengths), math.ceil(sum(lengths) / n_sequences))
    candidates = range(min_room, max_room + 1)
    room = next(room for room in candidates if len(_assign_to_bins(lengths, room)) <= n_sequences)
    bins = _assign_to_bins(lengths, room)

    t, k = n_context + room, max(map(len, bins))
    classes, offsets = torch.zeros(2, len(bins), room, dtype=torch.long)
    ends = torch.zeros(len(bins), k, dtype=torch.long)
    end_indices, flat_starts = torch.zeros(2, len(lengths), dtype=torch.long)
    owners = torch.full((len(bins), t), -1)  # class of each position; -1: the context
    owners[:, n_context:] = len(lengths)  # unused until a name is assigned
    for sequence, class_ids in enumerate(bins):
        start = 0  # offset of the next name from the end of the context
        for slot, class_id in enumerate(class_ids):
            positions = slice(start, start + lengths[class_id])
            classes[sequence, positions] = class_id
            offsets[sequence, positions] = torch.arange(lengths[class_id])
            owners[sequence, n_context:][positions] = class_id
            end_indices[class_id] = sequence * k + slot
            flat_starts[class_id] = sequence * t + n_context + start
            start = positions.stop
            ends[sequence, slot] = n_context + start - 1
    visible = (owners.unsqueeze(1) == owners.unsqueeze(2)) | (owners == -1).unsqueeze(1)
    width = math.ceil(t / ALIGNMENT) * ALIGNMENT
    mask = torch.full((len(bins), t, width), -math.inf, dtype=dtype)
    mask[:, :, :t].masked_fill_(visible.tril(), 0.0)
    tensors = (classes, offsets, ends, end_indices, flat_starts, mask)
    return Packing(*(to_device(tensor, device) for tensor in tensors))


def compute_repacking_indices(
    get_packing: Callable[[int, tuple[int, ...]], Packing],
    n_context: int,
    lengths: tuple[int, ...],
    n_inserted: int,
) -> Int[Tensor, "S room"]:
    """Return the indices by which TCP builds new packed sequences between two blocks.

    The last n_inserted tokens of the context are dropped, and the same number of class-specific
    tokens is put in front of each name. With one inserted token (*), the drawing above becomes:

        position     0   1   2   3   4   5   6   7   8
        sequence 0   x   x   1*  1a  1b  1c  0*  0a  0b
        sequence 1   x   x   2*  2a  2b  3*  3a  3b  -

    Args:
        get_packing: Function that returns the Packing for a number of context tokens and lengths of
            names.
        n_context: Number of tokens of the context before the replacement.
        lengths: Number of tokens of each of c names, without class-specific tokens.
        n_inserted: Number of class-specific tokens per class.

    Returns:
        Index of the token to put at each position after the shortened context. Indices count the
        c * n_inserted class-specific tokens, class by class, and then all tokens of the old
        sequences. S and `room` are those of the new packing.
    """
    before = get_packing(n_context, lengths)
    after = get_packing(n_context - n_inserted, tuple(n_inserted + length for length in lengths))
    inserted = after.classes * n_inserted + after.offsets
    old_tokens_start = len(lengths) * n_inserted
    offsets = after.offsets - n_inserted  # within the name without its class-specific tokens
    name_tokens = old_tokens_start + before.flat_starts[after.classes] + offsets
    return torch.where(after.offsets < n_inserted, inserted, name_tokens)


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
