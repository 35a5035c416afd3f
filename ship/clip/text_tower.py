"""CLIP's causal text transformer, driven from prompt embeddings instead of token ids.

Weights are frozen, so that no gradient but the prompts' is ever computed. Two ways through the
layers give the same features, both tested against open_clip's own encode_text: the one with the
fewest tokens on a CPU, the one with the fewest launches on anything else.

In reduced precision the blocks alone are cast, once; embeddings, positions, the last norm and the
projection keep the weights' own precision, and so do prompts, features and their gradients.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.clip.fewest_launches import FewestLaunches
from ship.clip.fewest_tokens import FewestTokens
from ship.clip.text_layers import TextLayers


class UndrivableTower(ValueError):
    """The text tower is not a plain causal CLIP transformer; prompts cannot be put through it."""


class TextTower:
    """The frozen text transformer of an open_clip model.

    Args:
        model: an open_clip model, on the device where it stays.
        dtype: what its text blocks are cast to, in place; None: they stay as they are.
        one_pass: whether all prompts go through the layers together, padded, which saves launches
            and costs tokens; None: wherever it is not on a CPU.

    Attributes:
        width: size of a token embedding; need not equal the feature size.
        context_length: most tokens in a prompt, SOT and EOT included.

    Raises:
        UndrivableTower: the model's text tower is bidirectional, pools otherwise than at EOT,
            or has blocks other than CLIP's own.
    """

    def __init__(
        self, model: nn.Module, dtype: torch.dtype | None = None, one_pass: bool | None = None
    ) -> None:
        from open_clip.model import CLIP

        tower: Any = model if isinstance(model, CLIP) else getattr(model, "text", None)
        check_tower(tower)
        self._layers = TextLayers(tower, dtype)
        positions = self._layers.positions
        self.width: int = positions.shape[1]
        self.context_length: int = positions.shape[0]
        if one_pass is None:
            one_pass = positions.device.type != "cpu"
        self._way = (FewestLaunches if one_pass else FewestTokens)(self._layers)

    @property
    def tokens(self) -> int:
        """Token positions that went through the layers so far (a cost, not a state)."""
        return self._way.tokens

    def embed(self, ids: Int[Tensor, "*n"]) -> Float[Tensor, "*n width"]:
        """Token embeddings, without positions."""
        return self._layers.embed(ids)

    def encode(
        self, prompts: Float[Tensor, "n t width"], eot: Int[Tensor, " n"]
    ) -> Float[Tensor, "n feature"]:
        """Unit-norm text features of embedded prompts (positions are added here).

        Args:
            prompts: token embeddings, the first one (SOT) the same in all; whatever follows a
                prompt's EOT is ignored.
            eot: the index of each prompt's EOT.
        """
        return self._way.encode(prompts, eot)

    def encode_shared(
        self,
        prefix: Float[Tensor, "replica p width"],
        suffix: Float[Tensor, "c s width"],
        lengths: Sequence[int],
    ) -> Float[Tensor, "replica c feature"]:
        """Unit-norm text features of every prefix followed by every suffix.

        Args:
            prefix: embedded [SOT] + context, one per replica.
            suffix: embedded class name up to EOT, one per class, padded behind it.
            lengths: tokens of each suffix, EOT included.
        """
        return self._way.encode_shared(prefix, suffix, lengths)


def check_tower(tower: object) -> None:
    """Refuse a text tower whose forward pass is not the plain causal one.

    Raises:
        UndrivableTower: with the property that stands in the way.
    """
    from open_clip.model import CLIP
    from open_clip.transformer import ResidualAttentionBlock, TextTransformer

    if not isinstance(tower, CLIP | TextTransformer):
        raise UndrivableTower(f"its text tower is a {type(tower).__name__}, not CLIP's transformer")
    if tower.attn_mask is None:
        raise UndrivableTower("its text tower is bidirectional (no causal mask)")
    pool = tower.text_pool_type if isinstance(tower, CLIP) else tower.pool_type
    if pool not in ("argmax", "eos"):
        raise UndrivableTower(f"its text tower pools at {pool!r}, not at EOT")
    if getattr(tower, "cls_emb", None) is not None:
        raise UndrivableTower("its text tower appends a class embedding (CoCa)")
    for block in tower.transformer.resblocks:
        if type(block) is not ResidualAttentionBlock or hasattr(block, "ln_1_kv"):
            raise UndrivableTower(f"its text blocks are {type(block).__name__}, not CLIP's own")
