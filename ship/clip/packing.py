"""Class names of different lengths, several to a sequence behind one copy of their context.

Which token stands where is decided on the host, from the names' lengths alone, so that nothing is
padded to the longest name and nobody waits for a device.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.transfer import sent

# A mask's rows begin at multiples of this many numbers, as the fused kernels want them.
ALIGNMENT = 16


@dataclass(frozen=True)
class Packing:
    """S sequences of a context of p tokens and then of some names; t tokens in all.

    classes, offsets: which name's token stands at each place behind the context, and which one of
        it; (S, t - p). Places that are left over repeat the first token of the first name.
    ends: the place of each name's last token in its sequence; (S, k), left-over ones 0.
    order: where each class is among the S * k ends; (c,).
    mask: what is added to attention's scores: 0 where a token may look (the context, and its own
        name up to itself), else -inf; (S, t, t or more: a multiple of ALIGNMENT).
    """

    classes: Int[Tensor, "S names"]
    offsets: Int[Tensor, "S names"]
    ends: Int[Tensor, "S k"]
    order: Int[Tensor, " c"]
    mask: Float[Tensor, "S t aligned"]


def pack(lengths: Sequence[int], p: int, most: int) -> Packing:
    """Names in as few sequences as are found, all as short as so many sequences allow.

    Args:
        lengths: tokens of each of c names, at least one each.
        p: tokens of the context before them.
        most: tokens of a sequence, about; a name that is longer has a sequence of its own length.
    """
    bins, room = sequences(lengths, p, most)
    return _laid_out(bins, lengths, p, room)


def sequences(lengths: Sequence[int], p: int, most: int) -> tuple[list[list[int]], int]:
    """The names of each sequence, and how many tokens of names fit into one; as pack has them.

    Args:
        lengths, p, most: as of pack.
    """
    largest = max(max(lengths), most - p)
    bins = _bins(lengths, largest)
    least = max(max(lengths), math.ceil(sum(lengths) / len(bins)))
    for room in range(least, largest):  # the shortest that needs no further sequence
        shorter = _bins(lengths, room)
        if len(shorter) <= len(bins):
            return shorter, room
    return bins, largest


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


def whence(
    names: Packing, prompts: Packing, lengths: Sequence[int], m: int
) -> Int[Tensor, "S tokens"]:
    """Which token each place of prompts has, that are m tokens of a class's own and then its name.

    Args:
        names: the c names behind the context that they shared so far.
        prompts: m + length tokens for each of them, behind what is left of that context.
        lengths: tokens of each name.
        m: tokens that come before it.

    Returns:
        For each place behind the context an index into the c * m tokens of the classes' own, with
        the tokens of all sequences of `names` behind them.
    """
    (_, t, _), k = names.mask.shape, names.ends.shape[1]
    last = names.order // k * t + names.ends.flatten()[names.order]
    first = last + 1 - sent(torch.tensor(lengths), last.device)
    of_name = len(lengths) * m + first[prompts.classes] + prompts.offsets - m
    return torch.where(prompts.offsets < m, prompts.classes * m + prompts.offsets, of_name)


def _laid_out(bins: Sequence[Sequence[int]], lengths: Sequence[int], p: int, room: int) -> Packing:
    t, k = p + room, max(map(len, bins))
    classes, offsets = torch.zeros(2, len(bins), room, dtype=torch.long)
    ends = torch.zeros(len(bins), k, dtype=torch.long)
    order = torch.zeros(len(lengths), dtype=torch.long)
    owners = torch.full((len(bins), t), -1)  # whose each place is: -1, the context's
    owners[:, p:] = len(lengths)  # nobody's
    for sequence, names in enumerate(bins):
        first = 0
        for nth, name in enumerate(names):
            places = slice(first, first + lengths[name])
            classes[sequence, places] = name
            offsets[sequence, places] = torch.arange(lengths[name])
            owners[sequence, p:][places] = name
            first = places.stop
            ends[sequence, nth] = p + first - 1
            order[name] = sequence * k + nth
    place = torch.arange(t)
    seen = (owners.unsqueeze(1) == owners.unsqueeze(2)) | (owners == -1).unsqueeze(1)
    seen &= place <= place.unsqueeze(1)
    mask = torch.full((len(bins), t, math.ceil(t / ALIGNMENT) * ALIGNMENT), -math.inf)
    mask[:, :, :t].masked_fill_(seen, 0.0)
    return Packing(classes, offsets, ends, order, mask)
