"""Embedded parts of class prompts that do not depend on the context vectors."""

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
    """Embeddings of the fixed parts of the prompts "[SOT] context [class name] . [EOT]".

    They are tokenized and embedded once per list of classes. The name may also be before or within
    the context. Some tokenizers have no SOT, and some drop the ".".

    Attributes:
        sot: Embedded SOT, (1, width), or (0, width) if the tokenizer has none.
        names: Embedded "class name . EOT" of every class, padded after EOT, (n_cls, s, width).
        lengths: Number of tokens in each row of `names`, including EOT, (n_cls,).
        host_lengths: `lengths` as integers, which are read without waiting for the device.
        name_lengths: Number of tokens of the class name without "." and EOT, (n_cls,). If the
            tokenizer merges the "." with the end of the name, the merged token counts.
        order: For each position of a prompt, the index of its token in the concatenation of SOT,
            context and row of `names`, (n_cls, n_sot + n_ctx + s). None if the name is at the end.
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
        name_offset: Float[Tensor, "n width"] | None = None,
    ) -> tuple[Float[Tensor, "n t width"], Int[Tensor, " n"]]:
        """Return complete prompts and the index of their EOT, one per pair of context and class ID.

        Args:
            ctx: Context vectors of n prompts; n_ctx may be 0.
            class_ids: Class of each prompt.
            name_offset: For each prompt, a vector to add to every token of its class name. None
                adds nothing.
        """
        sot, names = self.sot.expand(len(ctx), -1, -1), self.names[class_ids]
        if name_offset is not None:
            positions = torch.arange(names.shape[1], device=names.device)
            is_name = (positions < self.name_lengths[class_ids].unsqueeze(1)).unsqueeze(-1)
            names = names + is_name * name_offset.unsqueeze(1)
        prompts = torch.cat([sot, ctx, names], dim=1)
        if self.order is not None:
            order = self.order[class_ids].unsqueeze(-1).expand_as(prompts)
            prompts = prompts.gather(1, order)
        return prompts, len(self.sot) + ctx.shape[1] + self.lengths[class_ids] - 1

    def prefix(self, ctx: Float[Tensor, "n n_ctx width"]) -> Float[Tensor, "n p width"]:
        """Return SOT and context. All classes share them if the name is at the end."""
        return torch.cat([self.sot.expand(len(ctx), -1, -1), ctx], dim=1)


def make_class_prompts(
    clip: FrozenCLIP, class_names: Sequence[str], n_ctx: int, position: NamePosition = "end"
) -> ClassPrompts:
    """Tokenize and embed class names for prompts with n_ctx context vectors.

    A name that is too long is truncated so that EOT still fits, as by CLIP's tokenizer. "." and EOT
    come last, wherever the name is.

    Args:
        clip: Backbone with the tokenizer and token embeddings.
        class_names: Names of the classes.
        n_ctx: Number of context vectors.
        position: Position of the name among the context vectors: "end", "front", or "middle", where
            the first floor(n_ctx / 2) vectors precede the name.

    Raises:
        ValueError: n_ctx leaves no room for a name, or two different names have the same tokens.
    """
    sot, eot = clip.tokenizer.sot_token_id, clip.tokenizer.eot_token_id
    sot_ids = [] if sot is None else [sot]
    n_free = clip.context_length - len(sot_ids) - n_ctx  # for a name, "." and EOT
    if n_free < 2:
        raise ValueError(
            f"n_ctx must be at most {n_free + n_ctx - 2} for backbone {clip.name!r} "
            f"(context length {clip.context_length}), got {n_ctx}"
        )
    encode = clip.tokenizer.encode
    if position == "end":
        tokens = [encode(f"{name}.") for name in class_names]
    else:
        # The "." is encoded separately from the name, because context vectors may come in between:
        # the tokenizer would merge the ")." of "dog (puppy)." into one token. It is encoded after a
        # word, because some tokenizers put a space before a text. Others drop the ".".
        stop = encode("a.")[len(encode("a")) :]
        tokens = [[*encode(name), *stop] for name in class_names]
    rows = [[*name_tokens[: n_free - 1], eot] for name_tokens in tokens]
    if groups := _find_equal_names(class_names, rows):
        message = f"class names with the same tokens for backbone {clip.name!r}"
        if any(len(rows[class_names.index(names[0])]) == n_free for names in groups):
            message += f", because n_ctx {n_ctx} leaves {n_free - 1} tokens for a name"
        raise ValueError(f"{message}: {'; '.join(map(', '.join, groups))}")
    lengths = tuple(map(len, rows))
    longest = max(lengths)
    pad = get_padding_id(clip.tokenizer)
    ids = [row + [pad] * (longest - len(row)) for row in rows]
    # a truncated name has lost its "."
    name_lengths = [min(len(encode(name)), n_free - 1) for name in class_names]

    def to_tensor(values: Any) -> Tensor:
        return torch.tensor(values, device=clip.device)

    order = None
    if position != "end":
        n_sot = len(sot_ids)
        rows_of_order = [
            _compute_order(n_sot, n_ctx, n_name, longest, position) for n_name in name_lengths
        ]
        order = to_tensor(rows_of_order)
    return ClassPrompts(
        sot=clip.text.embed(torch.tensor(sot_ids, dtype=torch.long, device=clip.device)),
        names=clip.text.embed(to_tensor(ids)),
        lengths=to_tensor(lengths),
        host_lengths=lengths,
        name_lengths=to_tensor(name_lengths),
        order=order,
    )


def _find_equal_names(
    class_names: Sequence[str], rows: Sequence[Sequence[int]]
) -> list[tuple[str, ...]]:
    """Return groups of different names with equal tokens, at most five.

    Tokens may be equal because names are truncated, or because the tokenizer drops punctuation or
    accents. Names that CLIP's tokenizer does not distinguish are not reported: datasets with such
    names are rejected when they are read, except for ImageNet, which has two such pairs.
    """
    names_by_row: dict[tuple[int, ...], list[str]] = {}
    for name, row in zip(class_names, rows, strict=True):
        names_by_row.setdefault(tuple(row), []).append(name)
    # one name per spelling that CLIP's tokenizer distinguishes
    groups = [
        tuple({split_pieces(name): name for name in names}.values())
        for names in names_by_row.values()
    ]
    return [names for names in groups if len(names) > 1][:5]


def _compute_order(
    n_sot: int, n_ctx: int, n_name: int, longest: int, position: NamePosition
) -> list[int]:
    """Return a row of ClassPrompts.order, for position "front" or "middle".

    Args:
        n_sot: Number of SOT tokens, 0 or 1.
        n_ctx: Number of context vectors.
        n_name: Number of tokens of the class name.
        longest: Number of tokens in a padded row of ClassPrompts.names.
        position: Position of the name among the context vectors.
    """
    order = list(range(n_sot + n_ctx + longest))
    target = n_sot + (n_ctx // 2 if position == "middle" else 0)
    start, end = n_sot + n_ctx, n_sot + n_ctx + n_name
    return [*order[:target], *order[start:end], *order[target:start], *order[end:]]
