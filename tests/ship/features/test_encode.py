"""Augmented views are seeded per image and cropped by torchvision's rule."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ship.datasets import ImageDataset, ImageFile, Split, UndecodableError
from ship.features import Parallelism, diagnose_split
from ship.features.encode import augment_image, draw_crop_box
from tests.ship.datasets.conftest import save_image

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


@pytest.mark.parametrize("cores", [1, 2, 15, 16, 17, 24, 31, 40, 64])
def test_on_a_cpu_at_most_one_core_in_eight_is_idle(cores: int) -> None:
    """Also if their number is not a multiple of the 16 threads."""
    parallelism = Parallelism.for_device(torch.device("cpu"), cores)
    assert parallelism.threads <= 16
    assert cores * 7 / 8 <= parallelism.threads * parallelism.cores_each <= cores


def test_image_that_can_be_decoded_by_now_is_named_by_its_path(tmp_path: Path) -> None:
    """Like those that still cannot be decoded."""
    file = ImageFile("a.png", tmp_path / "a.png")
    with pytest.raises(UndecodableError) as caught:
        file.open()
    split = Split((file,), np.array([0]))
    dataset = ImageDataset(("a",), {"train": split}, name="d", template="a photo of a {}.")
    expected = f"dataset d: 1 image of train cannot be decoded: {file.source}"
    assert str(diagnose_split(dataset, "train", caught.value)) == expected
    save_image(tmp_path / "a.png", seed=0)
    assert str(diagnose_split(dataset, "train", caught.value)) == expected
