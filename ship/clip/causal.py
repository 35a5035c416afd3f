"""Causal text towers, like CLIP's: a token does not attend to later tokens.

The feature of a prompt is the output at its EOT, which does not depend on the padding after it. Two
optimizations use this. Both are exact, and tested against open_clip's encode_text:

- Names after a shared context (encode_shared) are packed into few sequences, each with one copy of
  the context. A mask separates the names (ship.clip.packing). Where each token goes in the packed
  sequences depends only on the names' lengths, and is computed on the host.
- Prompts with separate contexts (encode) run on a CPU in groups of similar length. Prompts are cut
  after the last EOT of their group. SOT is not computed again: it is the same in all prompts and
  attends only to itself, so that its keys and values are constants of each block.

An accelerator runs prompts with separate contexts in one batch, with padding and SOT. Padding costs
less than further kernel launches, and grouping by length would make the host wait for the lengths.
Inserting SOT's constant keys and values would cost two launches per block, and save nothing
noticeable in long sequences.
"""

import math
from collections.abc import Sequence
from functools import lru_cache, partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.clip.packing import Packing, compute_repacking_indices, pack
from ship.clip.text import Block, TextTower, finish_block, project_heads

# Minimum number of prompts in a group of similar length. A smaller group also gets the next longer
# prompts. Only the last group may be smaller.
MIN_GROUP_SIZE = 32


class CausalTower(TextTower):
    """A causal text transformer.

    Args:
        model: See TextTower.
        sot: ID of the SOT token. None if the tokenizer has none.
        dtype: See TextTower.
    """

    is_causal = True

    def __init__(self, model: nn.Module, sot: int | None, dtype: torch.dtype | None = None) -> None:
        super().__init__(model, dtype)
        # Packings, indices and masks are computed on the host, and cached because all steps use the
        # same ones. The cached functions are not methods: that would keep the tower in memory.
        self._get_packing = lru_cache(64)(partial(pack, self._positions.device, self._dtype))
        compute_indices = partial(compute_repacking_indices, self._get_packing)
        self._get_repacking_indices = lru_cache(64)(compute_indices)
        self._get_causal_mask = lru_cache(64)(partial(_make_mask_without_sot, self._dtype))
        self._blocks_with_sot = [] if sot is None else self._cache_sot(sot)

    def encode(
        self, prompts: Float[Tensor, "n t width"], eot: Int[Tensor, " n"]
    ) -> Float[Tensor, "n feature"]:
        """See TextTower. A CPU encodes groups of similar length, other devices a single batch."""
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
        """See TextTower. Class names are packed after their shared context.

        Dimensions are named as in Packing: S sequences of t tokens, which begin with the p tokens
        of the context.
        """
        n_seeds, p = prefix.shape[:2]
        _, s, width = suffix.shape  # s: tokens of the longest name
        packing = self._get_packing(p, tuple(lengths))
        context = self._cast_input(prefix + self._positions[:p])
        name_tokens = (suffix + self._positions[p : p + s]).reshape(-1, width)
        names = self._cast_input(name_tokens[packing.classes * s + packing.offsets])
        contexts = context.unsqueeze(1).expand(-1, len(names), -1, -1)
        hidden = torch.cat([contexts, names.expand(n_seeds, -1, -1, -1)], dim=2)
        # hidden: (n_seeds, S, t, width)
        if tokens is not None:
            hidden = self._apply_blocks(
                self._blocks[:depth], hidden.flatten(0, 1), _repeat_mask(packing, hidden)
            ).unflatten(0, (n_seeds, -1))
            # Pack again: each name is preceded by its m class-specific tokens. The rest of the
            # context is still shared, because it does not attend to later positions.
            m = tokens.shape[2]
            inner = self._cast_input(tokens).flatten(1, 2)
            source = torch.cat([inner, hidden.flatten(1, 2)], dim=1)
            indices = self._get_repacking_indices(p, tuple(lengths), m)
            # index_select, because its gradient is a single operation
            longer_names = source.index_select(1, indices.flatten()).unflatten(1, indices.shape)
            contexts = hidden[:, :1, : p - m].expand(-1, len(indices), -1, -1)
            hidden = torch.cat([contexts, longer_names], dim=2)
            packing = self._get_packing(p - m, tuple(m + length for length in lengths))
        ends, mask = packing.ends.repeat(n_seeds, 1), _repeat_mask(packing, hidden)
        outputs = self._run(self._blocks[depth:], hidden.flatten(0, 1), ends, mask)
        return self._project_outputs(outputs.reshape(n_seeds, -1, width)[:, packing.end_indices])

    def _encode_batch(self, prompts: Tensor, eot: Tensor) -> Tensor:
        """Return the features of prompts (n, t, width), computed in one batch."""
        hidden = self._cast_input(prompts + self._positions[: prompts.shape[1]])
        return self._project_outputs(self._run(self._blocks, hidden, eot.unsqueeze(1), None)[:, 0])

    def _encode_without_sot(self, prompts: Tensor, eot: Tensor) -> Tensor:
        """Return the same features as _encode_batch, using the cached keys and values of SOT."""
        t = prompts.shape[1]
        hidden = self._cast_input(prompts[:, 1:] + self._positions[1:t])
        positions = (eot - 1).unsqueeze(1)
        outputs = self._run(self._blocks_with_sot, hidden, positions, self._get_causal_mask(t))
        return self._project_outputs(outputs[:, 0])

    @torch.no_grad()
    def _cache_sot(self, sot: int) -> list[Block]:
        """Return the blocks, each with its keys and values of SOT."""
        token = torch.tensor([[sot]], device=self._positions.device)
        hidden = self._cast_input(self.embed(token) + self._positions[:1])
        blocks: list[Block] = []
        for layer, _ in self._blocks:
            keys_and_values = project_heads(layer, hidden)[1:]
            blocks.append((layer, keys_and_values.contiguous()))
            hidden = finish_block(layer, hidden, keys_and_values[1].transpose(-3, -2).flatten(-2))
        return blocks


def group_by_length(eot: Int[Tensor, " n"]) -> list[Int[Tensor, " m"]]:
    """Group prompts of similar length.

    Args:
        eot: Index of each prompt's EOT.

    Returns:
        Indices of the m prompts of each group, in ascending order of `eot` across all groups.
    """
    _, counts = eot.unique(return_counts=True)
    sizes = [0]
    for count in counts.tolist():
        if sizes[-1] >= MIN_GROUP_SIZE:
            sizes.append(0)
        sizes[-1] += count
    return list(eot.argsort(stable=True).split(sizes))


def _make_mask_without_sot(dtype: torch.dtype, t: int) -> Float[Tensor, "1 1 tokens t"]:
    """Return the causal mask of t tokens without the row of SOT: 0 up to each token, then -inf."""
    return torch.full((1, 1, t - 1, t), -math.inf, dtype=dtype).triu(2)


def _repeat_mask(packing: Packing, hidden: Float[Tensor, "n S t width"]) -> Tensor:
    """Return the mask of the sequences repeated n times, (n * S, 1, t, t).

    The padding of the mask's rows is cut off in a view, not in a copy, so that rows stay aligned.
    """
    return packing.mask.repeat(len(hidden), 1, 1).unsqueeze(1)[..., : hidden.shape[2]]
