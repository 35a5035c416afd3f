"""Causal text towers, like CLIP's: a token does not attend to later tokens.

Exact optimizations, tested against open_clip's encode_text:

- A sequence ends at its EOT, where the output is its feature.
- Classes that share a context are packed into few sequences, each with one copy of the context
  (ship.clip.packing). A mask separates the classes, which are not padded. The positions of tokens
  are computed on the host, from the names' lengths only.
- Prompts with separate contexts run in one batch on an accelerator: a kernel launch costs more than
  padding, and grouping by length would read values on the host. On a CPU they run in groups of
  similar length, without SOT. SOT is the same in all prompts and attends only to itself, so its
  keys and values are constants of each block. Accelerators do not use these constants, which cost
  two launches per block and gain nothing for long sequences.
"""

import math
from collections.abc import Sequence
from functools import lru_cache, partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.clip.packing import Packing, pack, source_positions
from ship.clip.text import Block, TextTower, finish_block, project_heads

# Minimum number of prompts in a group of similar length. Smaller groups are merged with the next
# longer prompts; only the last group may be smaller.
SMALLEST_GROUP = 32


class CausalTower(TextTower):
    """A causal text transformer.

    Args:
        model: See TextTower.
        sot: Token ID of SOT. None if the tokenizer has none.
        dtype: See TextTower.
    """

    is_causal = True

    def __init__(self, model: nn.Module, sot: int | None, dtype: torch.dtype | None = None) -> None:
        super().__init__(model, dtype)
        # Cached because all steps of a training need the same ones, which are computed on the host.
        # The caches do not refer to the tower, so that its memory can be freed.
        self._packing = lru_cache(64)(partial(pack, self._positions.device, self._dtype))
        self._sources = lru_cache(64)(partial(source_positions, self._packing))
        self._causal = lru_cache(64)(partial(_mask_without_sot, self._dtype))
        self._blocks_with_sot = [] if sot is None else self._cache_sot(sot)

    def encode(
        self, prompts: Float[Tensor, "n t width"], eot: Int[Tensor, " n"]
    ) -> Float[Tensor, "n feature"]:
        """See TextTower. A CPU computes prompts of similar length together, a GPU all prompts."""
        if eot.device.type != "cpu":
            return self._encode_batch(prompts, eot)
        groups = group_by_length(eot)
        encode = self._encode_without_sot if self._blocks_with_sot else self._encode_batch
        features = [encode(prompts[rows, : int(eot[rows[-1]]) + 1], eot[rows]) for rows in groups]
        return torch.cat(features)[torch.cat(groups).argsort()]

    def encode_shared(
        self,
        prefix: Float[Tensor, "seed p width"],
        suffix: Float[Tensor, "c s width"],
        lengths: Sequence[int],
        tokens: Float[Tensor, "seed c m width"] | None = None,
        depth: int = 0,
    ) -> Float[Tensor, "seed c feature"]:
        """See TextTower. Classes are packed after their shared context."""
        (n, p), (_, s, width) = prefix.shape[:2], suffix.shape
        contexts = self._cast_input(prefix + self._positions[:p])
        packing = self._packing(p, tuple(lengths))
        names = (suffix + self._positions[p : p + s]).reshape(-1, width)
        names = self._cast_input(names[packing.classes * s + packing.offsets])
        contexts = contexts.unsqueeze(1).expand(-1, len(names), -1, -1)
        hidden = torch.cat([contexts, names.expand(n, -1, -1, -1)], dim=2)
        if tokens is not None:
            hidden = self._apply_blocks(
                self._blocks[:depth], hidden.flatten(0, 1), _repeat_mask(packing, hidden)
            ).unflatten(0, (n, -1))
            # the rest of the context is still shared, because it does not attend to later positions
            m = tokens.shape[2]
            inner = self._cast_input(tokens).flatten(1, 2)
            source = torch.cat([inner, hidden.flatten(1, 2)], dim=1)
            positions = self._sources(p, tuple(lengths), m)
            # the gradient of index_select is a single operation
            names = source.index_select(1, positions.flatten()).unflatten(1, positions.shape)
            contexts = hidden[:, :1, : p - m].expand(-1, len(positions), -1, -1)
            hidden = torch.cat([contexts, names], dim=2)
            packing = self._packing(p - m, tuple(m + length for length in lengths))
        ends, mask = packing.ends.repeat(n, 1), _repeat_mask(packing, hidden)
        outputs = self._run(self._blocks[depth:], hidden.flatten(0, 1), ends, mask)
        return self._features(outputs.reshape(n, -1, width)[:, packing.order])

    def _encode_batch(self, prompts: Tensor, eot: Tensor) -> Tensor:
        """Return the features of prompts (n, t, width), computed in one batch."""
        hidden = self._cast_input(prompts + self._positions[: prompts.shape[1]])
        return self._features(self._run(self._blocks, hidden, eot.unsqueeze(1), None)[:, 0])

    def _encode_without_sot(self, prompts: Tensor, eot: Tensor) -> Tensor:
        """Return the same features as _encode_batch, with cached keys and values of SOT."""
        t = prompts.shape[1]
        hidden = self._cast_input(prompts[:, 1:] + self._positions[1:t])
        positions = (eot - 1).unsqueeze(1)
        outputs = self._run(self._blocks_with_sot, hidden, positions, self._causal(t))
        return self._features(outputs[:, 0])

    @torch.no_grad()
    def _cache_sot(self, sot: int) -> list[Block]:
        """Return the blocks together with their keys and values of SOT."""
        token = torch.tensor([[sot]], device=self._positions.device)
        hidden = self._cast_input(self.embed(token) + self._positions[:1])
        blocks: list[Block] = []
        for layer, _ in self._blocks:
            keys_and_values = project_heads(layer, hidden)[1:]
            blocks.append((layer, keys_and_values.contiguous()))
            hidden = finish_block(layer, hidden, keys_and_values[1].transpose(-3, -2).flatten(-2))
        return blocks


def group_by_length(eot: Int[Tensor, " n"]) -> list[Int[Tensor, " m"]]:
    """Return row indices in groups of similar positions of EOT, in ascending order of EOT."""
    _, counts = eot.unique(return_counts=True)
    sizes = [0]
    for count in counts.tolist():
        if sizes[-1] >= SMALLEST_GROUP:
            sizes.append(0)
        sizes[-1] += count
    return list(eot.argsort(stable=True).split(sizes))


def _mask_without_sot(dtype: torch.dtype, t: int) -> Float[Tensor, "1 1 tokens t"]:
    """Return the causal mask of t tokens without the row of SOT: 0 up to each token, else -inf."""
    return torch.full((1, 1, t - 1, t), -math.inf, dtype=dtype).triu(2)


def _repeat_mask(packing: Packing, hidden: Float[Tensor, "n S t width"]) -> Tensor:
    """Return the mask repeated for all contexts, (n * S, 1, t, t), with aligned rows."""
    return packing.mask.repeat(len(hidden), 1, 1).unsqueeze(1)[..., : hidden.shape[2]]
