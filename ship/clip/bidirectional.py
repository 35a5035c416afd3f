"""Text towers without a causal mask: those of SigLIP, SigLIP 2, CLIPA, MobileCLIP and MobileCLIP 2.

Every position attends to all others, including padding, because open_clip does not mask it. Results
therefore depend on the padding, and each prompt is padded to the full context length, as in
open_clip. Prompts are encoded separately, even if their classes share a context. The feature is the
output at EOT (MobileCLIP) or at the last position (SigLIP, CLIPA).
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache, partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.clip.text import TextTower, get_pooling
from ship.prompt_cost import compute_padding_factor
from ship.seeds import to_device

# Maximum number of prompts per pass without gradients. It bounds memory: in a tower of ViT-B/16's
# width, a prompt of 77 tokens needs about 2 MB.
PROMPTS_AT_ONCE = 256


class BidirectionalTower(TextTower):
    """A text transformer without a mask, which encodes prompts padded to the full context length.

    Args:
        model: See TextTower.
        pad: ID of the padding token, whose embedding fills each prompt after EOT.
        dtype: See TextTower.
    """

    is_causal = False

    def __init__(self, model: nn.Module, pad: int, dtype: torch.dtype | None = None) -> None:
        super().__init__(model, dtype)
        self.padding_factor = compute_padding_factor(self.context_length)
        self._pools_last_position = get_pooling(model)[0] == "last"
        device = self._positions.device
        # cached so that training steps do not copy the positions to the device again
        self._get_eot_positions = lru_cache(64)(partial(_make_eot_positions, device))
        self._pad_embedding = self.embed(torch.tensor(pad, device=device))

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
        """See TextTower. Each prefix with each suffix is a separate prompt.

        The context tokens that `tokens` replaces take part in the first `depth` blocks, where every
        position attends to them, even SOT.
        """
        (n_seeds, p), n_cls = prefix.shape[:2], len(suffix)
        prefixes = prefix.unsqueeze(1).expand(-1, n_cls, -1, -1)
        suffixes = suffix.expand(n_seeds, -1, -1, -1)
        prompts = torch.cat([prefixes, suffixes], dim=2).flatten(0, 1)
        eot = self._get_eot_positions(p, tuple(lengths)).repeat(n_seeds)
        replacements = () if tokens is None else (tokens.flatten(0, 1),)
        parts = _split_rows(prompts, eot, *replacements)
        features = [self._encode_padded(*part, depth=depth, end=p) for part in parts]
        encoded: Tensor = torch.cat(features).unflatten(0, (n_seeds, n_cls))
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
            tokens: Tokens that replace those at positions end - m to end - 1, (n, m, width). None
                replaces nothing; `depth` and `end` are then unused.
            depth: Number of blocks before the replacement.
            end: Position after the last replaced token.
        """
        hidden = self._cast_input(self._pad_prompts(prompts, eot) + self._positions)
        blocks = self._blocks
        if tokens is not None:
            hidden = self._apply_blocks(blocks[:depth], hidden, None)
            start = end - tokens.shape[1]
            replacements = self._cast_input(tokens)
            hidden = torch.cat([hidden[:, :start], replacements, hidden[:, end:]], dim=1)
            blocks = blocks[depth:]
        positions = eot
        if self._pools_last_position:
            positions = torch.full_like(eot, self.context_length - 1)
        outputs = self._run(blocks, hidden, positions.unsqueeze(1), None)
        return self._project_outputs(outputs[:, 0])

    def _pad_prompts(self, prompts: Tensor, eot: Tensor) -> Tensor:
        """Replace all tokens after EOT by padding, and append padding up to the context length."""
        n, t = prompts.shape[:2]
        is_padding = torch.arange(t, device=eot.device) > eot.unsqueeze(1)
        embeddings = torch.where(is_padding.unsqueeze(-1), self._pad_embedding, prompts)
        padding = self._pad_embedding.expand(n, self.context_length - t, -1)
        return torch.cat([embeddings, padding], dim=1)


def _split_rows(*tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Split tensors with one row per prompt into passes of at most PROMPTS_AT_ONCE prompts.

    With gradients there is a single pass: splitting would save no memory, because all activations
    are kept for the backward pass.
    """
    if torch.is_grad_enabled():
        return [tensors]
    return zip(*(rows.split(PROMPTS_AT_ONCE) for rows in tensors), strict=True)


def _make_eot_positions(
    device: torch.device, p: int, lengths: tuple[int, ...]
) -> Int[Tensor, " n_cls"]:
    """Return the position of EOT in each prompt of a prefix and a suffix.

    Args:
        device: Device of the result.
        p: Number of tokens of the prefix.
        lengths: Number of tokens of each suffix. The last one is EOT.
    """
    return to_device(torch.tensor(lengths) + p - 1, device)
