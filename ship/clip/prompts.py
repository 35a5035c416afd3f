"""Prompts: [SOT] context [class name] . [EOT], as embeddings; the name may stand elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.clip.frozen_clip import FrozenCLIP
from ship.settings import NamePosition


@dataclass(frozen=True)
class ClassPrompts:
    """The parts of a prompt that are not learned, tokenised and embedded once per list of classes.

    sot: embedded start token, (width,).
    names: embedded "class name . EOT" of every class, padded behind EOT, (n_cls, s, width).
    lengths: tokens of each row of names, EOT included, (n_cls,).
    host_lengths: the same where nothing has to wait for them.
    name_lengths: those that are the class name's, without "." and EOT, (n_cls,).
    order: which of (SOT, context, name . EOT) stands at each place, (n_cls, 1 + n_ctx + s); None:
        as they come (the name at the end).
    """

    sot: Float[Tensor, " width"]
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
        """Whole prompts and the index of their EOT, one row for each context and class id.

        Args:
            ctx: the context vectors of n prompts; there may be none in each.
            class_ids: of the prompts.
            on_names: what is added to every token of a prompt's class name.
        """
        sot, names = self.sot.expand(len(ctx), 1, -1), self.names[class_ids]
        if on_names is not None:
            places = torch.arange(names.shape[1], device=names.device)
            named = (places < self.name_lengths[class_ids].unsqueeze(1)).unsqueeze(-1)
            names = names + named * on_names.unsqueeze(1)
        prompts = torch.cat([sot, ctx, names], dim=1)
        if self.order is not None:
            order = self.order[class_ids].unsqueeze(-1).expand_as(prompts)
            prompts = prompts.gather(1, order)
        return prompts, ctx.shape[1] + self.lengths[class_ids]

    def prefix(self, ctx: Float[Tensor, "n n_ctx width"]) -> Float[Tensor, "n p width"]:
        """[SOT] + context, the part that all classes share where the name stands at the end."""
        return torch.cat([self.sot.expand(len(ctx), 1, -1), ctx], dim=1)


def class_prompts(
    clip: FrozenCLIP, class_names: Sequence[str], n_ctx: int, position: NamePosition = "end"
) -> ClassPrompts:
    """Tokenise and embed class names for prompts with n_ctx context vectors.

    A name too long for the context is cut so that EOT still fits, as CLIP's tokenizer does. In the
    middle, the first floor(n_ctx / 2) vectors stand before the name; "." and EOT always come last.

    Args:
        clip: its tokenizer and token embeddings are used.
        class_names: n_cls names.
        n_ctx: context vectors, in tokens.
        position: of the name among them.

    Raises:
        ValueError: n_ctx leaves no room for a name, or makes one of two different names.
    """
    room = clip.context_length - 1 - n_ctx
    if room < 2:
        raise ValueError(
            f"n_ctx must be at most {clip.context_length - 3} for backbone {clip.name!r} "
            f"(context length {clip.context_length}), got {n_ctx}"
        )
    eot = clip.tokenizer.eot_token_id
    encode = clip.tokenizer.encode
    if position == "end":
        rows = [[*encode(f"{name}.")[: room - 1], eot] for name in class_names]
    else:  # apart: of "dog (puppy)." the tokenizer makes one token of ")."
        apart = [[*encode(name), *encode(".")] for name in class_names]
        rows = [[*tokens[: room - 1], eot] for tokens in apart]
    if same := _same_when_cut(clip, class_names, rows, room):
        raise ValueError(
            f"class names that are the same to backbone {clip.name!r}, as n_ctx {n_ctx} leaves "
            f"{room - 1} tokens for a name: {'; '.join(same)}"
        )
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=clip.device)
    host_lengths = tuple(map(len, rows))
    lengths = torch.tensor(host_lengths, device=clip.device)
    # "(puppy)." ends in one token, which counts as the name's
    named = [min(len(encode(name)), room - 1) for name in class_names]
    sot = torch.tensor(clip.tokenizer.sot_token_id, device=clip.device)
    order = None
    if position != "end":
        order = torch.tensor(
            [
                # "." and EOT stay behind the context; a name that was cut has lost its "."
                _order(n_ctx, n_name, longest, position)
                for n_name in named
            ],
            device=clip.device,
        )
    name_lengths = torch.tensor(named, device=clip.device)
    return ClassPrompts(
        clip.text.embed(sot), clip.text.embed(ids), lengths, host_lengths, name_lengths, order
    )


def _same_when_cut(
    clip: FrozenCLIP, class_names: Sequence[str], rows: Sequence[Sequence[int]], room: int
) -> list[str]:
    """Names with different tokens whose rows are the same: "sea horse, sea lion"; the first five.

    Names with the same tokens from the start are a matter of the dataset, which refuses them or,
    as ImageNet, has two classes of one name.
    """
    found: dict[tuple[int, ...], dict[tuple[int, ...], str]] = {}
    for name, row in zip(class_names, rows, strict=True):
        if len(row) == room:
            found.setdefault(tuple(row), {})[tuple(clip.tokenizer.encode(name))] = name
    return [", ".join(names.values()) for names in found.values() if len(names) > 1][:5]


def _order(n_ctx: int, n_name: int, longest: int, position: NamePosition) -> list[int]:
    """Places of (SOT, context, name . EOT, padding) with the name in the middle or at the front."""
    before = n_ctx // 2 if position == "middle" else 0
    ctx = list(range(1, 1 + n_ctx))
    name_end = 1 + n_ctx + n_name
    name = list(range(1 + n_ctx, name_end))
    rest = list(range(name_end, 1 + n_ctx + longest))
    return [0, *ctx[:before], *name, *ctx[before:], *rest]
