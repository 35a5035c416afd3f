"""Text towers without a causal mask: those of SigLIP, SigLIP 2, CLIPA, MobileCLIP and MobileCLIP 2.

Every position attends to every other one, including padding, which open_clip does not mask. Each
prompt is therefore padded to the full context length with the embedding of the padding token.
Prompts are encoded separately, even if their classes share a context. The feature is the output at
EOT (MobileCLIP) or at the last position (SigLIP, CLIPA).
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache, partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.clip.text import TextTower, get_pooling
from ship.prompt_cost import compute_padding_factor
from ship.seeds import to_device

# Maximum number of prompts per pass without gradients. It bounds memory: with ViT-B/16's width and
# 77 tokens, a prompt needs about 2 MB.
PROMPTS_AT_ONCE = 256


class BidirectionalTower(TextTower):
    """A text transformer without a mask.

    Args:
        model: See TextTower.
        pad: ID of the padding token.
        dtype: See TextTower.
    """

    is_causal = False

    def __init__(self, model: nn.Module, pad: int, dtype: torch.dtype | None = None) -> None:
        super().__init__(model, dtype)
        self.padding_factor = compute_padding_factor(self.context_length)
        self._reads_last = get_pooling(model)[0] == "last"
        # cached so that training steps do not copy them to the device again
        self._get_end_positions = lru_cache(64)(partial(_get_end_positions, self._positions.device))
        self._pad = self.embed(torch.tensor(pad, device=self._positions.device))

    def encode(
        self, prompts: Float[Tensor, "n t width"], eot: Int[Tensor, " n"]
    ) -> Float[Tensor, "n feature"]:
        """See TextTower. Tokens after a prompt's EOT are replaced by padding."""
        return torch.cat([self._encode_padded(*part) for part in _split_rows(prompts, eot)])

    def encode_shared(
        self,
        prefix: Float[Tensor, "seed p width"],
        suffix: Float[Tensor, "c s width"],
        lengths: Sequence[int],
        tokens: Float[Tensor, "seed c m width"] | None = None,
        depth: int = 0,
    ) -> Float[Tensor, "seed c feature"]:
        """See TextTower. Each pair of a prefix and a suffix is a separate prompt.

        In the first `depth` blocks all positions, even SOT, also attend to the context tokens that
        `tokens` replaces later.
        """
        (n, p), c = prefix.shape[:2], len(suffix)
        prefixes = prefix.unsqueeze(1).expand(-1, c, -1, -1)
        prompts = torch.cat([prefixes, suffix.expand(n, -1, -1, -1)], dim=2).flatten(0, 1)
        eot = self._get_end_positions(p, tuple(lengths)).repeat(n)
        inner = () if tokens is None else (tokens.flatten(0, 1),)
        parts = _split_rows(prompts, eot, *inner)
        features = [self._encode_padded(*part, depth=depth, end=p) for part in parts]
        encoded: Tensor = torch.cat(features).unflatten(0, (n, c))
        return encoded

    def _encode_padded(
        self,
        prompts: Tensor,
        eot: Tensor,
        tokens: Tensor | None = None,
        *,
        depth: int = 0,
        end: int = 0,
    ) -> Tensor:
        """Pad n prompts and return their features, (n, feature).

        Args:
            prompts: Token embeddings, (n, t, width).
            eot: Index of each prompt's EOT, (n,).
            tokens: Tokens that replace the m tokens before position `end`, (n, m, width). None
                replaces nothing.
            depth: Number of blocks before the replacement.
            end: Position after the last replaced token.
        """
        hidden = self._cast_input(self._pad_prompts(prompts, eot) + self._positions)
        if tokens is not None:
            hidden = self._apply_blocks(self._blocks[:depth], hidden, None)
            start = end - tokens.shape[1]
            inner = self._cast_input(tokens)
            hidden = torch.cat([hidden[:, :start], inner, hidden[:, end:]], dim=1)
        positions = torch.full_like(eot, self.context_length - 1) if self._reads_last else eot
        blocks = self._blocks if tokens is None else self._blocks[depth:]
        return self._project_outputs(self._run(blocks, hidden, positions.unsqueeze(1), None)[:, 0])

    def _pad_prompts(self, prompts: Tensor, eot: Tensor) -> Tensor:
        """Return prompts with padding after EOT, up to the full context length."""
        n, t = prompts.shape[:2]
        is_padding = torch.arange(t, device=eot.device) > eot.unsqueeze(1)
        embeddings = torch.where(is_padding.unsqueeze(-1), self._pad, prompts)
        return torch.cat([embeddings, self._pad.expand(n, self.context_length - t, -1)], dim=1)


def _split_rows(*tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Split the rows of tensors into passes of at most PROMPTS_AT_ONCE rows.

    With gradients there is a single pass: splitting would save no memory, because all activations
    are kept for the backward pass.
    """
    if torch.is_grad_enabled():
        return [tensors]
    return zip(*(rows.split(PROMPTS_AT_ONCE) for rows in tensors), strict=True)


def _get_end_positions(device: torch.device, p: int, lengths: tuple[int, ...]) -> Int[Tensor, " c"]:
    """Return the index of each suffix's last token after a prefix of p tokens."""
    return to_device(torch.tensor(lengths) + p - 1, device)
