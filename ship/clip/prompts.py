"""Prompts of classes as embeddings: the fixed parts around context vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.architectures import get_padding_id
from ship.clip.backbone import FrozenCLIP
from ship.datasets.base import split_pieces
from ship.settings import NamePosition


@dataclass(frozen=True)
class ClassPrompts:
    """The fixed parts of the prompts "[SOT] context [class name] . [EOT]", as embeddings.

    They are tokenized and embedded once per list of classes. The name may also be before or within
    the context. Some tokenizers have no SOT, some drop the ".".

    Attributes:
        sot: Embedded start token, (1, width), or (0, width) if there is none.
        names: Embedded "class name . EOT" of every class, padded after EOT, (n_cls, s, width).
        lengths: Number of tokens in each row of names, including EOT, (n_cls,).
        host_lengths: The same on the host, available without synchronization.
        name_lengths: Number of tokens of the class name, without "." and EOT, (n_cls,).
        order: Index into (SOT, context, name . EOT) for each position, (n_cls, n_sot + n_ctx + s).
            None if the name is at the end.
    """

    sot: Float[Tensor, "n_sot width"]
    names: Float[Tensor, "n_cls s width"]
    lengths: Int[Tensor, " n_cls"]
    host_lengths: tuple[int, ...]
    name_lengths: Int[Tensor, " n_cls"]
    order: Int[Tensor, "n_cls t"] | None = None

    def assemble(
        self,
        ctx: Float[Tensor, "n n_ctx width"],
        class_ids: Int[Tensor, " n"],
        on_names: Float[Tensor, "n width"] | None = None,
    ) -> tuple[Float[Tensor, "n t width"], Int[Tensor, " n"]]:
        """Return complete prompts and the index of their EOT, one row per context and class ID.

        Args:
            ctx: Context vectors of n prompts; n_ctx may be 0.
            class_ids: Class of each prompt.
            on_names: Vector to add to every token of each prompt's class name. Defaults to none.
        """
        sot, names = self.sot.expand(len(ctx), -1, -1), self.names[class_ids]
        if on_names is not None:
            positions = torch.arange(names.shape[1], device=names.device)
            is_name = (positions < self.name_lengths[class_ids].unsqueeze(1)).unsqueeze(-1)
            names = names + is_name * on_names.unsqueeze(1)
        prompts = torch.cat([sot, ctx, names], dim=1)
        if self.order is not None:
            order = self.order[class_ids].unsqueeze(-1).expand_as(prompts)
            prompts = prompts.gather(1, order)
        return prompts, len(self.sot) + ctx.shape[1] + self.lengths[class_ids] - 1

    def prefix(self, ctx: Float[Tensor, "n n_ctx width"]) -> Float[Tensor, "n p width"]:
        """Return [SOT] + context, the part that all classes share if the name is at the end."""
        return torch.cat([self.sot.expand(len(ctx), -1, -1), ctx], dim=1)


def make_class_prompts(
    clip: FrozenCLIP, class_names: Sequence[str], n_ctx: int, position: NamePosition = "end"
) -> ClassPrompts:
    """Tokenize and embed class names for prompts with n_ctx context vectors.

    A name that is too long is truncated so that EOT still fits, as CLIP's tokenizer does. With
    position "middle", the first floor(n_ctx / 2) vectors precede the name. "." and EOT always come
    last.

    Args:
        clip: Backbone with the tokenizer and token embeddings.
        class_names: Names of the classes.
        n_ctx: Number of context vectors.
        position: Position of the name among the context vectors.

    Raises:
        ValueError: n_ctx leaves no room for a name, or two different names have the same tokens.
    """
    sot, eot = clip.tokenizer.sot_token_id, clip.tokenizer.eot_token_id
    start = [] if sot is None else [sot]
    room = clip.context_length - len(start) - n_ctx
    if room < 2:
        raise ValueError(
            f"n_ctx must be at most {room + n_ctx - 2} for backbone {clip.name!r} "
            f"(context length {clip.context_length}), got {n_ctx}"
        )
    encode = clip.tokenizer.encode
    if position == "end":
        tokens = [encode(f"{name}.") for name in class_names]
    else:  # encoded separately: in "dog (puppy)." the tokenizer merges ")." into one token
        # after a word: some tokenizers put a space before a text, and some drop the "."
        stop = encode("a.")[len(encode("a")) :]
        tokens = [[*encode(name), *stop] for name in class_names]
    rows = [[*name_tokens[: room - 1], eot] for name_tokens in tokens]
    if groups := _find_equal_names(class_names, rows):
        rule = f"class names with the same tokens for backbone {clip.name!r}"
        if any(len(rows[class_names.index(names[0])]) == room for names in groups):
            rule += f", because n_ctx {n_ctx} leaves {room - 1} tokens for a name"
        raise ValueError(f"{rule}: {'; '.join(map(', '.join, groups))}")
    lengths = tuple(map(len, rows))
    longest = max(lengths)
    pad = get_padding_id(clip.tokenizer)
    ids = [row + [pad] * (longest - len(row)) for row in rows]
    # a merged token such as ")." counts as part of the name; a truncated name has lost its "."
    name_lengths = [min(len(encode(name)), room - 1) for name in class_names]
    orders = [
        _compute_order(len(start), n_ctx, n_name, longest, position) for n_name in name_lengths
    ]

    def on_device(values: Any) -> Tensor:
        return torch.tensor(values, device=clip.device)

    return ClassPrompts(
        sot=clip.text.embed(torch.tensor(start, dtype=torch.long, device=clip.device)),
        names=clip.text.embed(on_device(ids)),
        lengths=on_device(lengths),
        host_lengths=lengths,
        name_lengths=on_device(name_lengths),
        order=None if position == "end" else on_device(orders),
    )


def _find_equal_names(
    class_names: Sequence[str], rows: Sequence[Sequence[int]]
) -> list[tuple[str, ...]]:
    """Return the first five groups of different names with equal tokens.

    Truncation may make names equal, and so may a tokenizer that drops punctuation or accents. Names
    that CLIP's tokenizer reads as the same name are not reported: datasets reject them when they
    are read, except for ImageNet, where two pairs of classes share a name.
    """
    by_row: dict[tuple[int, ...], dict[str, None]] = {}
    for name, row in zip(class_names, rows, strict=True):
        by_row.setdefault(tuple(row), {})[name] = None
    name_groups = (names for names in by_row.values() if len(names) > 1)
    groups = (tuple({split_pieces(name): name for name in names}.values()) for names in name_groups)
    return [names for names in groups if len(names) > 1][:5]


def _compute_order(
    n_sot: int, n_ctx: int, n_name: int, longest: int, position: NamePosition
) -> list[int]:
    """Return the order of (SOT, context, name . EOT, padding) for position "front" or "middle"."""
    order = list(range(n_sot + n_ctx + longest))
    before = n_sot + (n_ctx // 2 if position == "middle" else 0)
    name, end = n_sot + n_ctx, n_sot + n_ctx + n_name
    return [*order[:before], *order[name:end], *order[before:name], *order[end:]]
