"""Text transformers of open_clip, applied to prompt embeddings instead of token IDs.

Weights are frozen, so that gradients are computed for the prompts only. TextTower applies the
blocks and projects their outputs to features. Its subclasses decide which positions are computed
for a prompt, and which output becomes its feature:

- ship.clip.causal: like CLIP's tower, where a token does not attend to later ones.
- ship.clip.bidirectional: towers without a mask, where all positions attend to each other.

The last block computes only the outputs that become features. Reduced precision applies to the
blocks only, which are cast once. Embeddings, positions, the last norm and the projection keep the
precision of the loaded weights, as do prompts, features and their gradients.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

# A block of the transformer, and its cached keys and values of SOT, (2, 1, heads, 1, head width).
# The latter are None if the block's input includes SOT.
Block: TypeAlias = tuple[Any, Tensor | None]


class TextTower(ABC):
    """The frozen text transformer of an open_clip model.

    Args:
        model: An open_clip model that ship.architectures.find_unsupported accepts, already on
            its final device.
        dtype: Data type to which the text blocks are cast in place. Defaults to no cast.

    Attributes:
        is_causal: Whether tokens attend to earlier ones only.
        width: Size of a token embedding, which may differ from the feature size.
        context_length: Maximum number of tokens in a prompt, including SOT and EOT.
        depth: Number of blocks of the transformer.
        padding_factor: Approximate factor by which padding multiplies the positions per prompt, 1
            for a causal tower. Limits on the number of prompts per pass are divided by it.
        n_tokens: Number of token positions processed so far, counted once per block. It measures
            cost, and does not affect results.
    """

    is_causal: ClassVar[bool]

    def __init__(self, model: nn.Module, dtype: torch.dtype | None = None) -> None:
        self._tower: Any = get_text_module(model)
        self._positions: Tensor = self._tower.positional_embedding
        self._dtype = dtype or self._positions.dtype
        if dtype is not None:
            self._tower.transformer.to(dtype)
        self._blocks: list[Block] = [(block, None) for block in self._tower.transformer.resblocks]
        self.context_length, self.width = self._positions.shape
        self.depth = len(self._blocks)
        self.padding_factor = 1
        self.n_tokens = 0

    @torch.no_grad()
    def embed(self, ids: Int[Tensor, "*n"]) -> Float[Tensor, "*n width"]:
        """Return token embeddings, without positions."""
        embedded: Tensor = self._tower.token_embedding(ids)
        return embedded

    @abstractmethod
    def encode(
        self, prompts: Float[Tensor, "n t width"], eot: Int[Tensor, " n"]
    ) -> Float[Tensor, "n feature"]:
        """Return unit-norm text features of embedded prompts.

        Args:
            prompts: Token embeddings without positions, starting with SOT if the tokenizer has one.
                The gradient of SOT may be missing. Tokens after a prompt's EOT are ignored.
            eot: Index of each prompt's EOT.
        """

    @abstractmethod
    def encode_shared(
        self,
        prefix: Float[Tensor, "seed p width"],
        suffix: Float[Tensor, "c s width"],
        lengths: Sequence[int],
        tokens: Float[Tensor, "seed c m width"] | None = None,
        depth: int = 0,
    ) -> Float[Tensor, "seed c feature"]:
        """Return unit-norm text features of every prefix followed by every suffix.

        Args:
            prefix: Embedded SOT and context of each seed, without positions.
            suffix: Embedded class name of each class up to EOT, padded, without positions.
            lengths: Number of tokens of each suffix, including EOT.
            tokens: Class-specific tokens that replace the last m tokens of the context after the
                first `depth` blocks. None replaces nothing.
            depth: Number of blocks before the replacement, at least 1 and fewer than all. Must be 0
                without `tokens`.
        """

    def _run(
        self, blocks: Sequence[Block], hidden: Tensor, positions: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Apply blocks to (n, t, width) and return the output at some positions, (n, k, width).

        Args:
            blocks: Blocks to apply.
            hidden: Input, (n, t, width).
            positions: Positions of the output, (n, k).
            mask: Mask added to the attention scores, (n, 1, t, t), or (1, 1, t, 1 + t) if the
                blocks have cached keys of SOT. None is a causal mask in a causal tower, and no mask
                in a bidirectional one.
        """
        hidden = self._apply_blocks(blocks[:-1], hidden, mask)
        mixed = self._attend(blocks[-1], hidden, mask)
        # everything after attention is needed at these positions only
        return finish_block(blocks[-1][0], _gather(hidden, positions), _gather(mixed, positions))

    def _apply_blocks(self, blocks: Sequence[Block], hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Apply blocks to (n, t, width) and return the output at all positions."""
        for block in blocks:
            hidden = finish_block(block[0], hidden, self._attend(block, hidden, mask))
        return hidden

    def _attend(self, block: Block, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Return the concatenated outputs of a block's attention heads, (n, t, width)."""
        self.n_tokens += hidden.shape[0] * hidden.shape[1]
        layer, sot = block
        q, k, v = project_heads(layer, hidden)
        if sot is not None:
            sot = sot.expand(-1, len(hidden), -1, -1, -1)
            k, v = torch.cat([sot[0], k], dim=-2), torch.cat([sot[1], v], dim=-2)
        causal = self.is_causal and mask is None
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return mixed.transpose(-3, -2).flatten(-2)

    def _cast_input(self, hidden: Tensor) -> Tensor:
        """Cast the input of the blocks to their precision."""
        return hidden.to(self._dtype)

    def _project_outputs(self, hidden: Float[Tensor, "*n width"]) -> Float[Tensor, "*n feature"]:
        """Return unit-norm text features of the last block's outputs, in the weights' precision."""
        features = self._tower.ln_final(hidden.to(self._positions.dtype))
        projection = self._tower.text_projection
        if projection is not None:
            features = (
                projection(features) if isinstance(projection, nn.Linear) else features @ projection
            )
        return F.normalize(features, dim=-1)


def get_text_module(model: nn.Module) -> Any:
    """Return the module with the text transformer: `model.text`, or the model if it has none."""
    return getattr(model, "text", model)


def get_pooling(model: nn.Module) -> tuple[str, int]:
    """Return open_clip's pool_type and eos_id, which define the output that becomes the feature."""
    module = get_text_module(model)
    if not hasattr(model, "text"):  # class CLIP names these attributes differently
        return module.text_pool_type, module.text_eos_id
    return module.pool_type, module.eos_id


def project_heads(
    block: Any, hidden: Float[Tensor, "n t width"]
) -> Float[Tensor, "3 n heads t head"]:
    """Return the queries, keys and values of a block's attention, stacked."""
    attention = block.attn
    packed = F.linear(block.ln_1(hidden), attention.in_proj_weight, attention.in_proj_bias)
    packed = packed.unflatten(-1, (3, attention.num_heads, attention.head_dim))
    separated: Tensor = packed.movedim(-3, 0).transpose(-3, -2)
    return separated


def finish_block(block: Any, x: Tensor, mixed: Tensor) -> Tensor:
    """Return a block's output, given its input x and the output of its attention heads.

    This applies the attention's output projection, the residuals and the MLP.
    """
    x = x + block.ls_1(block.attn.out_proj(mixed))
    output: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return output


def _gather(
    x: Float[Tensor, "n t width"], positions: Int[Tensor, "n k"]
) -> Float[Tensor, "n k width"]:
    """Return x[i, positions[i, j]] for all i and j.

    Indexing would be shorter, but the gradient of gather is a single operation.
    """
    return x.gather(1, positions.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
