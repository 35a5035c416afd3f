"""Augmented views are seeded per image and cropped by torchvision's rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ship.features.encode import augment_image, draw_crop_box

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))


def test_augmented_view_depends_only_on_image_and_view() -> None:
    """The same two indices give the same pixels, and other indices give other pixels."""
    pixels = augment_image(NOISE, (32, 32), 5, 1)
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, augment_image(NOISE, (32, 32), 5, 1))
    assert not np.array_equal(pixels, augment_image(NOISE, (32, 32), 5, 2))
    assert not np.array_equal(pixels, augment_image(NOISE, (32, 32), 6, 1))


@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=22, max_size=22),
)
def test_crop_is_inside_the_image(width: int, height: int, draws: list[float]) -> None:
    """The box is not empty and does not exceed the image, for any shape."""
    left, top, right, bottom = draw_crop_box(width, height, np.array(draws))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_crops_have_the_configured_area_and_ratio() -> None:
    """Areas are drawn from 0.5 to 1, and aspect ratios from 3/4 to 4/3."""
    rng = np.random.default_rng(0)
    boxes = np.array([draw_crop_box(500, 500, rng.random(22)) for _ in range(2000)])
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    areas = widths * heights / 500**2
    ratios = widths / heights
    assert areas.min() > 0.49
    assert areas.max() <= 1
    assert np.all((ratios > 0.74) & (ratios < 1.35))
    assert np.mean(areas) == pytest.approx(0.72, abs=0.03)
