"""The text tower's exact speed-ups against open_clip's full-length forward pass."""

from collections.abc import Iterator

import torch

from ship.clip.frozen_clip import FrozenCLIP
from ship.clip.prompts import class_prompts
from tests.bench.bench_steps import class_names
from tests.bench.naive import encode_whole
from tests.bench.timing import Comparison, compare


def comparisons(clip: FrozenCLIP, n_classes: int, n_ctx: int, repeats: int) -> Iterator[Comparison]:
    """Forward and backward to the context, as a CoOp step does it: trimmed, then prefix shared."""
    parts = class_prompts(clip, class_names(n_classes), n_ctx)
    ctx = torch.nn.Parameter(0.02 * torch.randn(1, n_ctx, clip.text_width))
    ids = torch.arange(n_classes)

    def whole() -> None:
        prompts, eot = parts.assemble(ctx.expand(n_classes, -1, -1), ids)
        missing = clip.context_length - prompts.shape[1]
        padded = torch.nn.functional.pad(prompts, (0, 0, 0, missing))
        encode_whole(clip._model, padded, eot).sum().backward()

    def trimmed() -> None:
        prompts, eot = parts.assemble(ctx.expand(n_classes, -1, -1), ids)
        clip.text.encode(prompts, eot).sum().backward()

    def shared() -> None:
        clip.text.encode_shared(parts.prefix(ctx), parts.names, parts.host_lengths).sum().backward()

    label = f"{clip.name}, {n_classes} classes, n_ctx {n_ctx}"
    yield compare(f"CoOp step, trimmed ({label})", whole, trimmed, repeats)
    yield compare(f"CoOp step, shared prefix ({label})", whole, shared, repeats)
