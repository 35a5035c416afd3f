"""Augmented views of an icon, and words for what each view looks like.

The words (colour, ground, size, greyness) go into captions, so that the text tower learns more
than class names and a prompt's context has something to say.
"""

import colorsys
import random
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Final

from PIL import Image, ImageChops, ImageEnhance, ImageFilter, ImageOps

HUES: Final = {
    "red": 0,
    "orange": 30,
    "yellow": 52,
    "green": 115,
    "teal": 175,
    "blue": 215,
    "purple": 275,
    "pink": 325,
}
"""Hue in degrees of each colour word; black, white, gray and brown are decided before."""

WHITE: Final = (255, 255, 255)


@dataclass(frozen=True)
class Looks:
    """What a caption may say of one view; empty where there is nothing to say."""

    colour: str
    ground: str
    size: str
    gray: bool

    def row(self) -> dict[str, str | bool]:
        """As a table's row."""
        return asdict(self)


def colour_word(red: float, green: float, blue: float) -> str:
    """English word for a colour given in 0..1."""
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    hue *= 360
    if value < 0.22:
        return "black"
    if saturation < 0.15:
        return "white" if value > 0.9 else "gray"
    if (hue < 45 or hue > 340) and value < 0.62 and saturation > 0.25:
        return "brown"
    return min(HUES, key=lambda word: min(abs(hue - HUES[word]), 360 - abs(hue - HUES[word])))


def main_colour(picture: Image.Image) -> str:
    """The commonest colour word among the pixels that are not the white ground."""
    small = picture.resize((24, 24), Image.Resampling.BOX).tobytes()
    pixels = zip(small[::3], small[1::3], small[2::3], strict=True)
    inked = [pixel for pixel in pixels if min(pixel) < 237]
    if len(inked) < 8:
        return "white"
    words = Counter(colour_word(r / 255, g / 255, b / 255) for r, g, b in inked)
    return words.most_common(1)[0][0]


def plain_view(picture: Image.Image) -> tuple[Image.Image, Looks]:
    """The icon as it is."""
    return picture, Looks(main_colour(picture), ground="", size="", gray=False)


def random_view(picture: Image.Image, rng: random.Random) -> tuple[Image.Image, Looks]:
    """A moved, recoloured icon, now and then in greys or as a line drawing, and its looks."""
    colour = main_colour(picture)
    ground = WHITE if rng.random() < 0.5 else tuple(rng.randint(120, 255) for _ in range(3))
    # Multiplying recolours the white ground and keeps the anti-aliased edges.
    view = ImageChops.multiply(picture, Image.new("RGB", picture.size, ground))
    scale = rng.uniform(0.6, 1.08)
    view = _move(view, rng, scale, ground)
    style = rng.random()
    if style < 0.2:
        view = view.convert("L").convert("RGB")
    elif style < 0.3:
        view = _line_drawing(view)
    elif style < 0.75:
        view = _recolour(view, rng)
    if rng.random() < 0.15:
        view = view.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.2)))
    gray = style < 0.3
    red, green, blue = (channel / 255 for channel in ground)
    word = "" if ground == WHITE else "gray" if gray else colour_word(red, green, blue)
    size = "small" if scale < 0.72 else "large" if scale > 1.0 else ""
    return view, Looks(colour, ground=word if style < 0.2 or not gray else "", size=size, gray=gray)


def _move(
    picture: Image.Image, rng: random.Random, scale: float, ground: tuple[int, ...]
) -> Image.Image:
    """Rotate by up to 20 degrees, shear, scale, shift by up to 8 pixels, mirror half the time."""
    size = picture.width
    picture = picture.rotate(rng.uniform(-20, 20), Image.Resampling.BILINEAR, fillcolor=ground)
    shear, shift_x, shift_y = rng.uniform(-0.14, 0.14), rng.randint(-8, 8), rng.randint(-8, 8)
    # Image.transform takes the inverse map, output to input, about the centre.
    centre, inverse = size / 2, 1 / scale
    matrix = (
        *(inverse, shear * inverse, centre - inverse * (1 + shear) * centre - shift_x * inverse),
        *(0.0, inverse, centre - inverse * centre - shift_y * inverse),
    )
    picture = picture.transform(
        picture.size,
        Image.Transform.AFFINE,
        matrix,
        Image.Resampling.BILINEAR,
        fillcolor=ground,
    )
    return ImageOps.mirror(picture) if rng.random() < 0.5 else picture


def _line_drawing(picture: Image.Image) -> Image.Image:
    """Dark edges on white."""
    edges = picture.convert("L").filter(ImageFilter.FIND_EDGES)
    # FIND_EDGES marks the frame of the picture too.
    edges.paste(0, (0, 0, edges.width, 1))
    edges.paste(0, (0, 0, 1, edges.height))
    edges.paste(0, (0, edges.height - 1, edges.width, edges.height))
    edges.paste(0, (edges.width - 1, 0, edges.width, edges.height))
    return ImageOps.invert(edges.point([min(255, 3 * level) for level in range(256)])).convert(
        "RGB"
    )


def _recolour(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Turn the hue by up to 29 degrees; change saturation, contrast and brightness."""
    hue, saturation, value = picture.convert("HSV").split()
    turn = rng.randint(-20, 20)
    hue = hue.point([(level + turn) % 256 for level in range(256)])
    picture = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    picture = ImageEnhance.Color(picture).enhance(rng.uniform(0.4, 1.5))
    picture = ImageEnhance.Contrast(picture).enhance(rng.uniform(0.7, 1.3))
    return ImageEnhance.Brightness(picture).enhance(rng.uniform(0.75, 1.15))
