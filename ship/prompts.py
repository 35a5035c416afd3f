"""Prompts: [SOT] context [class name] . [EOT], as embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.backbone import FrozenCLIP
from ship.replicas import ReplicaRng


@dataclass(frozen=True)
class ClassPrompts:
    """The parts of a prompt that are not learned, tokenised and embedded once per list of classes.

    sot: embedded start token, (width,).
    names: embedded "class name . EOT" of every class, padded behind EOT, (n_cls, s, width).
    lengths: tokens of each row of names, EOT included, (n_cls,).
    """

    sot: Float[Tensor, " width"]
    names: Float[Tensor, "n_cls s width"]
    lengths: Int[Tensor, " n_cls"]

    def assemble(
        self, ctx: Float[Tensor, "n n_ctx width"], class_ids: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n t width"], Int[Tensor, " n"]]:
        """Whole prompts and the index of their EOT, one row for each context and class id."""
        sot = self.sot.expand(len(ctx), 1, -1)
        prompts = torch.cat([sot, ctx, self.names[class_ids]], dim=1)
        return prompts, ctx.shape[1] + self.lengths[class_ids]

    def prefix(self, ctx: Float[Tensor, "n n_ctx width"]) -> Float[Tensor, "n p width"]:
        """[SOT] + context, the part that all classes share."""
        return torch.cat([self.sot.expand(len(ctx), 1, -1), ctx], dim=1)


def class_prompts(clip: FrozenCLIP, class_names: Sequence[str], n_ctx: int) -> ClassPrompts:
    """Tokenise and embed class names for prompts with n_ctx context vectors.

    A name too long for the context is cut so that EOT still fits, as CLIP's tokenizer does.

    Raises:
        ValueError: n_ctx leaves no room for a name.
    """
    room = clip.context_length - 1 - n_ctx
    if room < 2:
        raise ValueError(
            f"n_ctx must be at most {clip.context_length - 3} for backbone {clip.name!r} "
            f"(context length {clip.context_length}), got {n_ctx}"
        )
    eot = clip.tokenizer.eot_token_id
    rows = [[*clip.tokenizer.encode(f"{name}.")[: room - 1], eot] for name in class_names]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=clip.device)
    lengths = torch.tensor([len(row) for row in rows], device=clip.device)
    sot = torch.tensor(clip.tokenizer.sot_token_id, device=clip.device)
    return ClassPrompts(clip.text.embed(sot), clip.text.embed(ids), lengths)


def initial_context(
    clip: FrozenCLIP, n_ctx: int, words: str | None, rng: ReplicaRng
) -> Float[Tensor, "replica n_ctx width"]:
    """Context vectors to start from: N(0, 0.02), the last of them replaced by embedded words.

    Words fill the places just before the class name; with fewer places than words, the first
    words are left out.
    """
    ctx = 0.02 * rng.normal(n_ctx, clip.text_width)
    ids = clip.tokenizer.encode(words)[-n_ctx:] if words else []
    if ids:
        embedded = clip.text.embed(torch.tensor(ids, device=clip.device))
        ctx[:, n_ctx - len(ids) :] = embedded.to(ctx.dtype)
    return ctx
