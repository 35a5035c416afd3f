"""Text towers without a causal mask: those of SigLIP, SigLIP 2, CLIPA, MobileCLIP and MobileCLIP 2.

Every position attends to every other one, and open_clip masks no padding. A prompt is therefore
filled up to the full context length with the embedding of the padding token, and all of it is
computed for each prompt: nothing is shared between classes. The feature is read off at EOT
(MobileCLIP) or at the last position (SigLIP, CLIPA).
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache, partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.clip.text import TextTower, get_pooling
from ship.prompt_cost import padding_factor
from ship.seeds import to_device

# Number of prompts per pass without gradients. Bounds memory: with ViT-B/16's width and 77 tokens
# a prompt needs about 2 MB.
PROMPTS_AT_ONCE = 256


class BidirectionalTower(TextTower):
    """A text transformer without a mask.

    Args:
        model: See TextTower.
        pad: Token ID of padding.
        dtype: See TextTower.
    """

    is_causal = False

    def __init__(self, model: nn.Module, pad: int, dtype: torch.dtype | None = None) -> None:
        super().__init__(model, dtype)
        self.padding_factor = padding_factor(self.context_length)
        self._reads_last = get_pooling(model)[0] == "last"
        # cached because a recorded step must not copy from the host
        self._end_positions = lru_cache(64)(partial(_end_positions, self._positions.device))
        self._pad = self.embed(torch.tensor(pad, device=self._positions.device))

    def encode(
        self, prompts: Float[Tensor, "n t width"], eot: Int[Tensor, " n"]
    ) -> Float[Tensor, "n feature"]:
        """See TextTower. Tokens after a prompt's EOT are replaced by padding."""
        return torch.cat([self._read(*part) for part in _split_rows(prompts, eot)])

    def encode_shared(
        self,
        prefix: Float[Tensor, "seed p width"],
        suffix: Float[Tensor, "c s width"],
        lengths: Sequence[int],
        tokens: Float[Tensor, "seed c m width"] | None = None,
        depth: int = 0,
    ) -> Float[Tensor, "seed c feature"]:
        """See TextTower. Every prefix and suffix is a prompt of its own.

        The tokens that `tokens` replaces have been attended to by all others, SOT included.
        """
        (n, p), c = prefix.shape[:2], len(suffix)
        prefixes = prefix.unsqueeze(1).expand(-1, c, -1, -1)
        prompts = torch.cat([prefixes, suffix.expand(n, -1, -1, -1)], dim=2).flatten(0, 1)
        eot = self._end_positions(p, tuple(lengths)).repeat(n)
        inner = () if tokens is None else (tokens.flatten(0, 1),)
        parts = _split_rows(prompts, eot, *inner)
        features = [self._read(*part, depth=depth, end=p) for part in parts]
        encoded: Tensor = torch.cat(features).unflatten(0, (n, c))
        return encoded

    def _read(
        self,
        prompts: Tensor,
        eot: Tensor,
        tokens: Tensor | None = None,
        *,
        depth: int = 0,
        end: int = 0,
    ) -> Tensor:
        """Return the features of n prompts, (n, feature).

        Args:
            prompts: Token embeddings, (n, t, width).
            eot: Index of each prompt's EOT, (n,).
            tokens: Tokens that replace those before position `end`, (n, m, width).
            depth: Number of blocks before the replacement.
            end: Position after the replaced tokens.
        """
        hidden = self._enter(self._pad_prompts(prompts, eot) + self._positions)
        if tokens is not None:
            hidden = self._apply_blocks(self._blocks[:depth], hidden, None)
            start = end - tokens.shape[1]
            hidden = torch.cat([hidden[:, :start], self._enter(tokens), hidden[:, end:]], dim=1)
        positions = torch.full_like(eot, self.context_length - 1) if self._reads_last else eot
        blocks = self._blocks if tokens is None else self._blocks[depth:]
        return self._features(self._run(blocks, hidden, positions.unsqueeze(1), None)[:, 0])

    def _pad_prompts(self, prompts: Tensor, eot: Tensor) -> Tensor:
        """Return prompts with padding after EOT, up to the full context length."""
        n, t = prompts.shape[:2]
        is_padding = torch.arange(t, device=eot.device) > eot.unsqueeze(1)
        embeddings = torch.where(is_padding.unsqueeze(-1), self._pad, prompts)
        return torch.cat([embeddings, self._pad.expand(n, self.context_length - t, -1)], dim=1)


def _split_rows(*tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Split the rows of tensors into parts that fit memory. With gradients there is one part."""
    if torch.is_grad_enabled():
        return [tensors]
    return zip(*(rows.split(PROMPTS_AT_ONCE) for rows in tensors), strict=True)


def _end_positions(device: torch.device, p: int, lengths: tuple[int, ...]) -> Int[Tensor, " c"]:
    """Return the index of the last token of each name after a context of p tokens."""
    return to_device(torch.tensor(lengths) + p - 1, device)
