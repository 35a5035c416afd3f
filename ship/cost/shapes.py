"""The sizes that a trial's cost depends on: of a text tower, and of a dataset."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ship.architectures import Precision, feature_dim, load_tokenizer, text_settings
from ship.configs import NamePosition
from ship.subsets import FeatureSet


@dataclass(frozen=True)
class TowerShape:
    """A CLIP text tower.

    width, layers, mlp_width: of its blocks.
    context_length: most tokens of a prompt, SOT and EOT included.
    feature_dim: size of text and image features.
    element_bytes: of a number inside the blocks: 4, in half precision 2.
    count: tokens of a text without SOT and EOT.
    """

    width: int
    layers: int
    mlp_width: int
    context_length: int
    feature_dim: int
    element_bytes: int
    count: Callable[[str], int]

    @classmethod
    def of_name(
        cls, backbone: str, precision: Precision = "fp32", tokenizer: Any = None
    ) -> "TowerShape":
        """Of a backbone by name: from its configuration, without its weights.

        Args:
            tokenizer: the backbone's, where it is loaded already.

        Raises:
            BackboneError: open_clip has no such architecture.
        """
        text = text_settings(backbone)
        encode = (tokenizer or load_tokenizer(backbone)).encode
        return cls(
            width=text.width,
            layers=text.layers,
            mlp_width=int(text.width * text.mlp_ratio),
            context_length=text.context_length,
            feature_dim=feature_dim(backbone),
            element_bytes=4 if precision in ("fp32", "tf32") else 2,
            count=lru_cache(maxsize=None)(lambda words: len(encode(words))),
        )

    def name_lengths(
        self, names: Sequence[str], n_ctx: int, position: NamePosition = "end"
    ) -> list[int]:
        """Tokens of "NAME . EOT" of each class, cut as ship.clip.class_prompts cuts them."""
        room = self.context_length - 1 - n_ctx
        if position == "end":
            counts = [self.count(f"{name}.") for name in names]
        else:
            counts = [self.count(name) + self.count(".") for name in names]
        return [min(count, room - 1) + 1 for count in counts]

    def sentence_lengths(self, sentences: Sequence[str]) -> list[int]:
        """Tokens of whole sentences behind SOT, EOT included, cut as CLIP's tokenizer does."""
        return [min(self.count(text), self.context_length - 2) + 1 for text in sentences]


@dataclass(frozen=True)
class DataShape:
    """A dataset as a trial studies it (see ship.subsets.studied_classes).

    class_names, template: what prompts are made of.
    train, val, test: pictures of each class.
    n_base: how many classes, the first ones, are base.
    """

    class_names: tuple[str, ...]
    template: str
    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    n_base: int

    @classmethod
    def of(cls, features: FeatureSet) -> "DataShape":
        """Of a feature set; its labels are enough, features may be of size 0."""
        n = len(features.class_names)

        def counts(labels: np.ndarray) -> tuple[int, ...]:
            return tuple(np.bincount(labels, minlength=n).tolist())

        return cls(
            features.class_names,
            features.template,
            counts(features.train_labels),
            counts(features.val_labels),
            counts(features.test_labels),
            features.n_base,
        )
