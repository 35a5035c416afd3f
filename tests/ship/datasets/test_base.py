"""Images of every mode, the error with all faults, and names of datasets and classes."""

import io
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image

from ship.architectures import load_tokenizer
from ship.configs import FINETUNERS
from ship.datasets import DATASETS, find_nearest_dataset
from ship.datasets.base import (
    CONTEXT_LENGTH,
    DatasetError,
    Faults,
    ImageFile,
    UndecodableError,
    clean_class_name,
    split_pieces,
)
from ship.datasets.xlsa import clean_xlsa_name
from ship.templates import AUTHORS, fill_template, validate_template
from tests.case_files import load_cases


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Return the bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def first_pixel(data: bytes) -> tuple[int, ...]:
    """Return the top left pixel of an image opened as RGB."""
    image = ImageFile("x", data).open()
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


def palette(transparency: object) -> bytes:
    """Return a red palette image."""
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    return encoded(image, transparency=transparency)


WHITE = (255, 255, 255)
WIDE = Image.fromarray(np.full((4, 4), 200 << 8, np.uint16))
MODES = {
    "gray": (encoded(Image.new("L", (4, 4), 100)), (100, 100, 100)),
    "bilevel": (encoded(Image.new("1", (4, 4), 1)), WHITE),
    "clear": (encoded(Image.new("RGBA", (4, 4), (10, 20, 30, 0))), WHITE),
    "opaque": (encoded(Image.new("RGBA", (4, 4), (10, 20, 30, 255))), (10, 20, 30)),
    "gray-alpha": (encoded(Image.new("LA", (4, 4), (10, 0))), WHITE),
    "palette": (palette(None), (255, 0, 0)),
    "index": (palette(1), WHITE),
    "bytes": (palette(bytes([255, 0])), WHITE),
    "key": (encoded(Image.new("RGB", (4, 4), (9, 9, 9)), transparency=(9, 9, 9)), WHITE),
    "16-bit": (encoded(WIDE), (200, 200, 200)),
    "16-bit-key": (encoded(WIDE, transparency=200 << 8), WHITE),
    "16-bit-other-key": (encoded(WIDE, transparency=0), (200, 200, 200)),
    "cmyk": (encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"), (255, 0, 0)),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_image_mode_is_decoded_to_rgb_over_white(mode: str) -> None:
    """Gray, palette, 16-bit and transparent images open as RGB, transparency over white."""
    data, expected = MODES[mode]
    assert first_pixel(data) == pytest.approx(expected, abs=int(mode == "cmyk"))  # a JPEG


def test_floating_point_images_are_rejected() -> None:
    """Pillow would open values between 0 and 1 as black."""
    data = encoded(Image.new("F", (4, 4), 0.5), "TIFF")
    with pytest.raises(
        UndecodableError, match=r"x \(the range of floating-point pixels is unknown; save"
    ):
        ImageFile("x", data).open()


def test_dataset_error_survives_pickling() -> None:
    """The list of faults is unchanged when a worker sends the error to the driver."""
    error = pickle.loads(pickle.dumps(DatasetError("a", "b")))  # noqa: S301
    assert error.faults == ("a", "b")
    assert str(error) == "a\nb"


NAMES = load_cases(__file__, "names.yaml")
TEMPLATE = "a photo of a {}."
LETTERS = "aAbé2 _-.'(&;<|"  # letters that start, continue or end pieces, or are ignored


@pytest.fixture(scope="module")
def clip() -> SimpleTokenizer:
    """CLIP's own tokenizer."""
    return SimpleTokenizer()


@pytest.fixture(scope="module")
def pocket() -> SimpleTokenizer:
    """The tokenizer of the packaged backbone, with a smaller vocabulary."""
    tokenizer = load_tokenizer("pocket")
    assert isinstance(tokenizer, SimpleTokenizer)
    return tokenizer


@pytest.mark.parametrize(("name", "meant"), NAMES["datasets"].items())
def test_other_names_of_datasets_are_recognized(name: str, meant: str | None) -> None:
    """Names in papers, folders and torchvision lead to a dataset; other names to none."""
    assert find_nearest_dataset(name) == meant


def test_authors_templates_name_existing_methods_and_datasets() -> None:
    """No entry names an unknown method or repeats the dataset's own template."""
    for (finetuner, dataset), result in AUTHORS.items():
        assert finetuner in FINETUNERS and result != (DATASETS[dataset].template,)
        assert [validate_template(template).count("{}") for template in result] == [1] * len(result)


@pytest.mark.parametrize(("written", "words"), NAMES["words"].items())
def test_xlsa17_class_names_become_words(written: str, words: str) -> None:
    """Plus signs, underscores, leading numbers and SUN's letters are removed."""
    assert clean_xlsa_name(written) == words


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [(*pair, kind == "same") for kind in ("same", "apart") for pair in NAMES[kind]],
)
def test_names_are_equal_if_their_token_ids_are(
    clip: SimpleTokenizer, pocket: SimpleTokenizer, first: str, second: str, same: bool
) -> None:
    """In both vocabularies and in prompts; the fault has both names."""
    for tokenizer in (clip, pocket):
        for text in ("{}", TEMPLATE):
            ids = [
                tokenizer.encode(fill_template(text, clean_class_name(n))) for n in (first, second)
            ]
            assert (ids[0] == ids[1]) == same
    result = Faults()
    result.add_same_names("x", ["fox", first, second])
    assert [fault.endswith(f"2 classes: {first}, {second}") for fault in result] == [True] * same


@given(st.text(LETTERS, max_size=6), st.text(LETTERS, max_size=6))
def test_pieces_differ_if_and_only_if_token_ids_differ(
    clip: SimpleTokenizer, first: str, second: str
) -> None:
    """split_pieces and CLIP's tokenizer distinguish the same names."""
    ids = [clip.encode(clean_class_name(name)) for name in (first, second)]
    assert (split_pieces(first) == split_pieces(second)) == (ids[0] == ids[1])


def test_names_that_differ_only_after_truncation_are_a_fault(clip: SimpleTokenizer) -> None:
    """Names must differ within the tokens that CLIP reads."""
    room = CONTEXT_LENGTH - 3 - len(clip.encode("a photo of a"))
    for prefix, fine in (("very " * room, 1), ("very " * (room + 1), 0), ("\U00014400" * 20, 0)):
        names = [prefix + end for end in ("big", "small")]
        ids = clip([fill_template(TEMPLATE, name) for name in names])
        assert bool((ids[0] != ids[1]).any()) == fine
        result = Faults()
        result.add_odd_names("x", ["dog", *names], TEMPLATE)
        assert len(result) == (not fine)
        assert all("truncates prompts to 77 tokens: " in fault for fault in result)
