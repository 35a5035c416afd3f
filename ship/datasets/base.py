"""What a dataset is: named classes and three splits of labelled pictures; and its class names."""

import html
import io
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import ftfy
import numpy as np
import regex
from jaxtyping import Int64
from PIL import Image

from ship.templates import has_control, sentence

SPLITS: Final = ("train", "val", "test")
"""The names of a dataset's splits, in the order of extraction."""
FORMATS: Final = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What pictures may be, whatever they are called: for others Pillow starts programs (EPS)."""
LARGEST_PICTURE: Final = 89_478_485
"""Pixels; decoded they take a quarter of a GiB. Above, Pillow warns of a bomb."""
CONTEXT_LENGTH: Final = 77
"""Tokens of a prompt, its start and its end included, that CLIP reads; it cuts what follows."""
MOST_LETTERS: Final = 1000
"""Of a class name; the longest published one has some 60, and no prompt has room for as many."""
# The pieces that CLIP's tokenizer looks up, each by itself (open_clip's SimpleTokenizer.pat).
_PIECE: Final = regex.compile(
    r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)


class DatasetError(ValueError):
    """A dataset that cannot be used; made of every fault found, a self-contained line each."""

    @property
    def faults(self) -> tuple[str, ...]:
        """The lines, which str() joins with newlines."""
        return self.args

    def __str__(self) -> str:
        return "\n".join(self.args)


class UndecodableError(Exception):
    """A picture that is too large to be decoded, or no whole one of FORMATS; str() says where.

    picture: its name.
    """

    def __init__(self, picture: str, where: str) -> None:
        super().__init__(where)
        self.picture = picture


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture, not yet decoded: a file, or encoded bytes held in memory.

    name: what messages call it; a path relative to the dataset, or an icon's name.
    """

    name: str
    source: Path | bytes

    def read(self) -> bytes:
        """The encoded bytes."""
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()

    def open(self) -> Image.Image:
        """Decode to RGB, transparency over white; EXIF orientation is left alone, as in CoOp.

        Raises:
            UndecodableError: it cannot be read, holds floating-point values, or has more than
                LARGEST_PICTURE pixels.
        """
        where = str(self.source if isinstance(self.source, Path) else self.name)
        what = f"more than {LARGEST_PICTURE} pixels are too many"
        try:
            with Image.open(io.BytesIO(self.read()), formats=FORMATS) as image:
                if image.mode == "F":  # Pillow would clip them at 0 and 255
                    what = "floating-point values have no scale: save it with 8 bits a channel"
                elif image.width * image.height <= LARGEST_PICTURE:
                    return to_rgb(image)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            pass
        except Exception as why:  # Pillow raises nearly anything for broken bytes
            raise UndecodableError(self.name, where) from why
        raise UndecodableError(self.name, f"{where} ({what})")


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled pictures; labels[i] belongs to pictures[i]."""

    pictures: tuple[Picture, ...]
    labels: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.pictures)


_NO_SPLITS: Final = {split: Split((), np.empty(0, dtype=np.int64)) for split in SPLITS}


@dataclass(frozen=True, eq=False)
class Survey:
    """A dataset as it was found: the whole where there is no fault, else what could be read.

    class_names: by label, "_" written as a space; distinct, but for two pairs of ImageNet's.
    splits: "train", "val" and "test"; the first two are empty in a set that is a target alone.
        Pictures that a faulty survey holds may be missing or broken.
    faults: why it cannot be used, a line each. unlike: in what it differs from the published set,
        so that accuracies cannot be compared. warnings: what is probably a mistake, though the set
        can be used. notes: what is worth knowing and is no mistake.
    n_seen: classes 0 .. n_seen - 1 are the officially seen ones; None: there is no official split.
    split_version: which official split this is, for people; "" where there is but one.
    fingerprint: where the layout has its own; "": of its content, by_size or not.
    own_split: how one's own folder is split, in words; "": it is a published split.
    folder_names: where a file gives the classes other names than their folders have, those of the
        folders, by label; else empty.
    """

    class_names: tuple[str, ...] = ()
    splits: Mapping[str, Split] = field(default_factory=_NO_SPLITS.copy)
    faults: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    n_seen: int | None = None
    split_version: str = ""
    fingerprint: str = ""
    by_size: bool = False
    warnings: tuple[str, ...] = ()
    own_split: str = ""
    folder_names: tuple[str, ...] = ()

    @property
    def own_labels(self) -> dict[str, int]:
        """The label of each picture by its name, in one's own folder; of a published set, none."""
        parts = self.splits.values() if self.own_split else ()
        return {
            picture.name: label
            for part in parts
            for picture, label in zip(part.pictures, part.labels.tolist(), strict=True)
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class PictureDataset(Survey):
    """A whole dataset, its faults already ruled out.

    name: as given in the configuration, e.g. "caltech101" or "image_folder:birds".
    template: prompt with one {} for a class name.
    fingerprint: hash of class names, template, order, labels and picture bytes (32 hex digits);
        of the ImageNet family, sizes stand for bytes.
    pictures_fingerprint: the same whatever a file calls the classes, so that features stay.
    """

    name: str
    template: str
    pictures_fingerprint: str = ""


@runtime_checkable
class DatasetSpec(Protocol):
    """How one dataset is found and read."""

    @property
    def template(self) -> str:
        """Prompt with one {} for a class name."""

    def survey(self, name: str, data_root: Path | None) -> Survey:
        """Read names, labels and picture references; no picture's content.

        Raises:
            DatasetError: there is nothing to be read.
        """


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode to RGB: transparency over white, 16-bit grey scaled to 8 bits."""
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow would clip at 255 and turn most 16-bit pictures white
        wide = np.asarray(image, dtype=np.int64)
        grey = np.clip(wide >> 8, 0, 255).astype(np.uint8)
        grey[wide == image.info.get("transparency", -1)] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def some(items: Iterable[object], shown: int = 5) -> str:
    """The first few items and how many there are: "a, b, c, d, e and 7 more".

    Items that would break a line, or cannot be printed, are shown as Python writes them.
    """
    everything = [str(item) for item in items]
    head = ", ".join(_shown(text) for text in everything[:shown])
    return head if len(everything) <= shown else f"{head} and {len(everything) - shown} more"


def _shown(text: str, width: int = 200) -> str:
    """A text in one line of bounded length that no terminal takes for a command."""
    printable = text if text.isprintable() else repr(text)
    return printable if len(printable) <= width else f"{printable[: width - 3]}..."


def number(items: Sized, noun: str) -> str:
    """How many: "1 picture", "2 pictures", "1 missing class", "2 pictures of zero bytes"."""
    if len(items) == 1:
        return f"1 {noun}"
    head, separator, tail = noun.partition(" of ")
    ending = "es" if head.endswith("s") else "s"
    return f"{len(items)} {head}{ending}{separator}{tail}"


class Faults(list[str]):
    """What is wrong with a dataset, a line each in the order of finding; readers add to it."""

    def tell(self, where: object, noun: str, items: Iterable[object], what: str = "") -> None:
        """Add "WHERE: 2 NOUNS WHAT: a, b"; nothing where there are no items.

        Args:
            where: the file or the folder that is to be mended, or the dataset.
            noun: one of the items, as number takes it.
            items: which they are.
            what: what is wrong with them; "": the noun says it.
        """
        items = list(items)
        if items:
            self.append(f"{where}: {number(items, noun)}{what and ' '}{what}: {some(items)}")

    @contextmanager
    def reading(self, path: Path) -> Iterator[None]:
        """Add why a file cannot be read, or, of a ValueError's, what is wrong in it.

        Its path may stand at the beginning of a ValueError's text.
        """
        try:
            yield
        except OSError as why:
            self.append(f"{path}: cannot be read: {why.strerror}")
        except UnicodeDecodeError:
            self.append(f"{path}: is not UTF-8 text")
        except ValueError as why:
            self.append(f"{path}: {str(why).removeprefix(f'{path}: ')}")

    def tell_same_names(
        self, where: object, names: Sequence[str], called: Sequence[str] | None = None
    ) -> None:
        """Add class names that are empty, or that have the same token ids for CLIP (see `spoken`).

        Args:
            where: the file that names them.
            names: one for each class.
            called: what messages call each class; None: as it is named.
        """
        alike: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for name, shown in zip(names, called or names, strict=True):
            alike[spoken(name)].append((name, shown))
        for said, found in sorted(alike.items()):
            if len(found) > 1 or not said:
                name = clean_class_name(found[0][0])
                many = f"stands for {number(found, 'class')}: {some(shown for _, shown in found)}"
                self.append(f"{where}: class name {name!r}, as CLIP reads it, {many}")

    def tell_odd_names(self, where: str, names: Sequence[str], template: str) -> None:
        """Add class names that are no text for a prompt, a table and a terminal, or that CLIP cuts.

        It reads no more than CONTEXT_LENGTH tokens. They are those of CLIP's own vocabulary, in
        the dataset's template. For learned contexts and for other backbones, class_prompts of
        ship.clip looks at what is left of each name.

        Args:
            where: the dataset, for messages.
            names: cleaned, by label.
            template: a prompt with one {} for a class name.
        """
        odd = [name for name in names if has_control(name)]
        long = [name for name in names if len(name) > MOST_LETTERS]
        self.tell(where, "class name", odd, "with control characters")
        self.tell(where, "class name", long, "of absurd length")
        if odd or long:
            return
        cut = f"that are the same to CLIP, which cuts a prompt after {CONTEXT_LENGTH} tokens"
        for same in cut_alike(names, [template], CONTEXT_LENGTH, _clips_own):
            self.tell(where, "class name", same, cut)


def _clips_own() -> Any:
    from open_clip.tokenizer import SimpleTokenizer  # takes seconds, and is hardly ever needed

    return SimpleTokenizer()


def cut_alike(
    names: Sequence[str],
    templates: Sequence[str],
    context_length: int,
    tokenizer: Callable[[], Any],
) -> list[list[str]]:
    """Class names that are apart, but whose prompts are the same to a backbone, which cuts them.

    Args:
        names: cleaned, by label.
        templates: prompts with one {} for a class name; alike are names that are so in all.
        context_length: tokens of a prompt that it reads, its start and its end included.
        tokenizer: gives open_clip's tokenizer; asked only where a prompt may be cut.
    """
    room = context_length - 2
    starts = ("".join(template.partition("{}")[0].split()) for template in templates)
    # a token has a byte at least: names that differ within these are told apart
    kept = max(0, room - min(len(start.encode("utf-8", "replace")) for start in starts))
    beginnings: dict[bytes, dict[str, str]] = defaultdict(dict)
    for name in names:
        said = spoken(name)
        beginnings[said.replace(" ", "").encode("utf-8", "replace")[:kept]][said] = name
    alike = [name for found in beginnings.values() if len(found) > 1 for name in found.values()]
    if not alike:
        return []
    encode, prompts = tokenizer().encode, defaultdict[Any, list[str]](list)
    for name in alike:
        prompts[tuple(tuple(encode(sentence(one, name))[:room]) for one in templates)].append(name)
    return [same for same in prompts.values() if len(same) > 1]


def clean_class_name(name: str) -> str:
    """Underscores to spaces, runs of white space to one, composed (NFC) characters."""
    return unicodedata.normalize("NFC", " ".join(name.replace("_", " ").split()))


def spoken(name: str) -> str:
    """The pieces into which CLIP's tokenizer takes a class name apart, with spaces between them.

    Two names have the same token ids if and only if this is the same, whatever the vocabulary: a
    token knows whether it ends a piece, so the ids of a piece say what it was. Case, underscores,
    white space and HTML's names of characters ("&amp;") make no difference, nor does a space
    before a digit or a sign ("dog 2", "dog2").
    """
    plain = html.unescape(html.unescape(ftfy.fix_text(clean_class_name(name))))
    return " ".join(_PIECE.findall(" ".join(plain.split()).lower()))
