"""Pictures of every mode, and the error that lists faults."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from ship.datasets.base import DatasetError, Picture, some


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """A picture file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def first_pixel(data: bytes) -> tuple[int, ...]:
    """The top left pixel after opening as RGB."""
    image = Picture("x", data).open()
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


def palette(transparency: object) -> bytes:
    """A red palette picture."""
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    return encoded(image, transparency=transparency)


WHITE = (255, 255, 255)
MODES = {
    "grey": (encoded(Image.new("L", (4, 4), 100)), (100, 100, 100)),
    "bilevel": (encoded(Image.new("1", (4, 4), 1)), WHITE),
    "clear": (encoded(Image.new("RGBA", (4, 4), (10, 20, 30, 0))), WHITE),
    "opaque": (encoded(Image.new("RGBA", (4, 4), (10, 20, 30, 255))), (10, 20, 30)),
    "grey-alpha": (encoded(Image.new("LA", (4, 4), (10, 0))), WHITE),
    "palette": (palette(None), (255, 0, 0)),
    "index": (palette(1), WHITE),
    "bytes": (palette(bytes([255, 0])), WHITE),
    "key": (encoded(Image.new("RGB", (4, 4), (9, 9, 9)), transparency=(9, 9, 9)), WHITE),
    "16-bit": (encoded(Image.fromarray(np.full((4, 4), 200 << 8, np.uint16))), (200, 200, 200)),
    "cmyk": (encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"), (255, 0, 0)),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb_over_white(mode: str) -> None:
    """Grey, palette, 16-bit and transparent pictures open as RGB, transparency over white."""
    data, expected = MODES[mode]
    assert first_pixel(data) == pytest.approx(expected, abs=int(mode == "cmyk"))  # a JPEG


def test_long_lists_are_cut_and_counted() -> None:
    """Five items are shown, the rest is a number; unprintable characters are escaped."""
    assert some(range(5)) == "0, 1, 2, 3, 4"
    assert some(range(12)) == "0, 1, 2, 3, 4 and 7 more"
    assert some(["café", "a\nb"]) == "café, 'a\\nb'"


def test_dataset_error_survives_pickling() -> None:
    """Its faults stay a list when a worker hands it to the driver."""
    error = pickle.loads(pickle.dumps(DatasetError("a", "b")))  # noqa: S301
    assert error.faults == ("a", "b")
    assert str(error) == "a\nb"
