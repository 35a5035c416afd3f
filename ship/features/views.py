"""Augmented views of training pictures, as in the reference code: random crop, random flip."""

import math
from typing import Final

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

AUGMENTATION: Final = (
    "random resized crop of 0.5 to 1 of the area, ratio 3/4 to 4/3, bicubic; horizontal flip; "
    "seed 0; version 1"
)
"""Names what augmented_view does; part of the feature cache's key. Raise the version with it."""

_SEED: Final = 0
_ATTEMPTS: Final = 10
_SCALE: Final = (0.5, 1.0)
_RATIO: Final = (3 / 4, 4 / 3)

Box = tuple[int, int, int, int]


def augmented_view(
    image: Image.Image, size: tuple[int, int], index: int, view: int
) -> UInt8[np.ndarray, "height width 3"]:
    """View `view` (1, 2, ...) of picture `index` of the training split.

    The same picture and view always give the same pixels, whatever else is extracted.

    Args:
        size: height and width of the result.
    """
    height, width = size
    draws = _uniforms(index, view)
    crop = image.crop(crop_box(image.width, image.height, draws[:-1]))
    resized = crop.resize((width, height), Image.Resampling.BICUBIC)
    pixels: UInt8[np.ndarray, "height width 3"] = np.asarray(resized)
    return pixels[:, ::-1] if draws[-1] < 0.5 else pixels


def crop_box(width: int, height: int, draws: Float64[np.ndarray, " draws"]) -> Box:
    """torchvision's RandomResizedCrop rule for one picture.

    Area uniform in scale, aspect ratio log-uniform; after ten boxes that do not fit, the largest
    central box whose ratio is allowed.

    Args:
        draws: 22 uniform numbers in [0, 1): ten areas and ratios by turns, then left and top.
    Returns:
        (left, top, right, bottom).
    """
    for attempt in range(_ATTEMPTS):
        area = width * height * (_SCALE[0] + draws[2 * attempt] * (_SCALE[1] - _SCALE[0]))
        log_ratio = math.log(_RATIO[0])
        log_ratio += draws[2 * attempt + 1] * (math.log(_RATIO[1]) - log_ratio)
        w = round(math.sqrt(area * math.exp(log_ratio)))
        h = round(math.sqrt(area / math.exp(log_ratio)))
        if 0 < w <= width and 0 < h <= height:
            left = int(draws[-2] * (width - w + 1))
            top = int(draws[-1] * (height - h + 1))
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * _RATIO[1])))
    h = min(height, max(1, round(width / _RATIO[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _uniforms(index: int, view: int) -> Float64[np.ndarray, " draws"]:
    """23 numbers in [0, 1); raw PCG64 output, whose stream numpy never changes."""
    raw = np.random.PCG64([_SEED, index, view]).random_raw(2 * _ATTEMPTS + 3)
    return (raw >> np.uint64(11)) * 2.0**-53
