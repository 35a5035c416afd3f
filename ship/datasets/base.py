"""Types that all datasets share, lists of faults, and class names as CLIP's tokenizer reads them.

A fault is a reason why a dataset cannot be used.
"""

import html
import io
import unicodedata
from collections import Counter, defaultdict
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

from ship.templates import fill_template, has_control_characters

SPLITS: Final = ("train", "val", "test")
"""Names of a dataset's splits, in the order in which their features are extracted."""
FORMATS: Final = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Image formats to decode, recognized by content instead of suffix. Others are excluded, because
Pillow starts external programs for some of them, e.g. EPS."""
MAX_PIXELS: Final = 89_478_485
"""Maximum number of pixels of an image: a quarter of a GiB when decoded as RGB. Above this number,
Pillow warns of a decompression bomb."""
CONTEXT_LENGTH: Final = 77
"""Maximum number of tokens of a prompt, including start and end. CLIP drops all further tokens."""
MAX_NAME_CHARS: Final = 1000
"""Maximum length of a class name. The longest published one has about 60 characters."""
# Pieces of a text that CLIP's tokenizer encodes separately (open_clip's SimpleTokenizer.pat).
_PIECE: Final = regex.compile(
    r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)


class DatasetError(ValueError):
    """A dataset cannot be used. Each argument is the message of one fault, in one line."""

    @property
    def faults(self) -> tuple[str, ...]:
        """Messages of all faults, one line each."""
        return self.args

    def __str__(self) -> str:
        return "\n".join(self.args)


class UndecodableError(Exception):
    """An image cannot be decoded, or is too large.

    The message is the path of the file, or the name of an image in memory. If the image is too
    large or has floating-point values, the message also has this reason, in parentheses.

    Attributes:
        image: Name of the image.
    """

    def __init__(self, image: str, message: str) -> None:
        super().__init__(message)
        self.image = image


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An encoded image: a file, or bytes in memory.

    Attributes:
        name: Name of the image in messages and lists, e.g. its path relative to the dataset.
        source: Path of the file, or the encoded bytes.

    Example:
        >>> buffer = io.BytesIO()
        >>> Image.new("L", (32, 16)).save(buffer, "PNG")
        >>> image = ImageFile("gray.png", buffer.getvalue()).open()
        >>> image.mode, image.size
        ('RGB', (32, 16))
    """

    name: str
    source: Path | bytes

    def read(self) -> bytes:
        """Return the encoded bytes of the image.

        Raises:
            OSError: The file is missing or unreadable.
        """
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()

    def open(self) -> Image.Image:
        """Decode the image and return it as RGB, with transparent pixels blended over white.

        The EXIF orientation is ignored, as in CoOp.

        Raises:
            UndecodableError: The image cannot be read or decoded, its format is not one of FORMATS,
                it has floating-point values, or it has more than MAX_PIXELS pixels.
        """
        where = str(self.source if isinstance(self.source, Path) else self.name)
        reason = f"more than the maximum of {MAX_PIXELS} pixels"
        try:
            with Image.open(io.BytesIO(self.read()), formats=FORMATS) as image:
                if image.mode == "F":  # Pillow would clip the values at 0 and 255
                    reason = (
                        "the range of floating-point pixels is unknown; save the image with 8 bits "
                        "per channel"
                    )
                elif image.width * image.height <= MAX_PIXELS:
                    return to_rgb(image)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            pass
        except Exception as error:  # Pillow raises many types for damaged files
            raise UndecodableError(self.name, where) from error
        raise UndecodableError(self.name, f"{where} ({reason})")


@dataclass(frozen=True, eq=False)
class Split:
    """Labeled images.

    Attributes:
        images: The images.
        labels: Label of each image, an index into the dataset's class names.

    Example:
        >>> images = (ImageFile("a.png", Path("a.png")), ImageFile("b.png", Path("b.png")))
        >>> len(Split(images, labels=np.array([0, 1])))
        2
    """

    images: tuple[ImageFile, ...]
    labels: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.images)


_NO_SPLITS: Final = {split: Split((), np.empty(0, dtype=np.int64)) for split in SPLITS}


@dataclass(frozen=True, eq=False)
class DatasetScan:
    """The content of a dataset on disk, or its readable part if there are faults.

    Attributes:
        class_names: Class names by label, with spaces in place of "_". They are distinct, except
            for two pairs of equal names in ImageNet.
        splits: "train", "val" and "test". "train" and "val" are empty in test-only datasets, which
            only the protocol cross_dataset can use. If there are faults, images may be missing.
        faults: Reasons why the dataset cannot be used, one line each.
        differences: Differences from the published dataset, one line each. If there are any,
            accuracies are not comparable with published ones.
        notes: Information that needs no action, one line each.
        n_seen: Number of seen classes, which have the labels 0 to n_seen - 1. None if no official
            list assigns classes to seen and unseen.
        split_version: Name or description of the split, which is recorded with each run. "" if the
            dataset has only one split.
        fingerprint: Hash of the content, if the scan has computed it. "" lets `load_dataset`
            compute it.
        by_size: Whether the fingerprint uses the sizes of image files instead of their bytes.
        warnings: Probable mistakes, one line each. The dataset can still be used.
        custom_split: Description of the split of a custom image folder. "" for all other datasets.
        folder_names: Names of the class folders by label, if a file gives the classes other names.
            Otherwise empty.
        few_shot: Seed -> names of its training images, at least one per class. If it is empty, each
            seed draws its images at random.

    Example:
        >>> image = ImageFile("cat/1.png", Path("cat/1.png"))
        >>> splits = {name: Split((image,), labels=np.array([0])) for name in SPLITS}
        >>> scan = DatasetScan(class_names=("cat", "dog"), splits=splits)
        >>> scan.faults
        ()
    """

    class_names: tuple[str, ...] = ()
    splits: Mapping[str, Split] = field(default_factory=_NO_SPLITS.copy)
    faults: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    n_seen: int | None = None
    split_version: str = ""
    fingerprint: str = ""
    by_size: bool = False
    warnings: tuple[str, ...] = ()
    custom_split: str = ""
    folder_names: tuple[str, ...] = ()
    few_shot: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def custom_labels(self) -> dict[str, int]:
        """Image name -> label, for a custom image folder. Empty for all other datasets."""
        parts = self.splits.values() if self.custom_split else ()
        return {
            image.name: label
            for part in parts
            for image, label in zip(part.images, part.labels.tolist(), strict=True)
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageDataset(DatasetScan):
    """A dataset without faults, which is ready to use.

    Attributes:
        name: Name in the configuration, e.g. "caltech101" or "image_folder:birds".
        template: Prompt with one {} for a class name.
        fingerprint: Hash of images_fingerprint, class names from a file and few-shot lists. Equal
            to images_fingerprint if there are no such names and lists.
        images_fingerprint: Fingerprint that the scan has computed, or the hash of the content (see
            hash_dataset) if the scan has computed none. Cached features are valid while this does
            not change.
    """

    name: str
    template: str
    images_fingerprint: str = ""


@runtime_checkable
class DatasetSpec(Protocol):
    """Specification of a dataset: its prompt, and how its files are read.

    There is a class for each layout of files, such as split files or image folders.
    """

    @property
    def template(self) -> str:
        """Prompt with one {} for a class name."""

    def scan(self, name: str, data_root: Path | None) -> DatasetScan:
        """Read class names, labels and the paths of images, but not the images themselves.

        Args:
            name: Name of the dataset.
            data_root: Folder that contains the datasets' folders. None if none is configured.

        Raises:
            DatasetError: The dataset cannot be read at all.
        """


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB.

    Transparent pixels are blended over white. 16-bit gray values keep their high 8 bits.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow would clip at 255, which makes most 16-bit images white.
        pixels = np.asarray(image, dtype=np.int64)
        gray = np.clip(pixels >> 8, 0, 255).astype(np.uint8)
        gray[pixels == image.info.get("transparency", -1)] = 255
        return Image.fromarray(gray).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def shorten_list(items: Iterable[object], n_shown: int = 5) -> str:
    """Join the first items, and count the rest: "a, b, c, d, e and 7 more".

    Items with line breaks or other unprintable characters are replaced by their repr. Items with
    more than 200 characters are truncated.

    Args:
        items: Items to list.
        n_shown: Maximum number of items to show.
    """
    texts = [str(item) for item in items]
    shown = ", ".join(_escape(text) for text in texts[:n_shown])
    return shown if len(texts) <= n_shown else f"{shown} and {len(texts) - n_shown} more"


def _escape(text: str, width: int = 200) -> str:
    """Return a text, or its repr if it is not printable, truncated to `width` characters."""
    printable = text if text.isprintable() else repr(text)
    return printable if len(printable) <= width else f"{printable[: width - 3]}..."


def count_noun(items: Sized, noun: str) -> str:
    """Return a count with a noun: "1 image", "2 missing classes", "2 images of zero bytes"."""
    if len(items) == 1:
        return f"1 {noun}"
    head, separator, tail = noun.partition(" of ")
    ending = "es" if head.endswith("s") else "s"
    return f"{len(items)} {head}{ending}{separator}{tail}"


class Faults(list[str]):
    """A list of a dataset's faults, one line each. Functions that read the dataset append to it."""

    def add(self, where: object, noun: str, items: Iterable[object], what: str = "") -> None:
        """Add "WHERE: 2 NOUNS WHAT: a, b" if there are items.

        Args:
            where: File, folder or dataset that has the fault.
            noun: Singular noun for the items (see count_noun).
            items: Affected items.
            what: Description of the fault. "" if the noun already describes it.
        """
        items = list(items)
        if items:
            self.append(
                f"{where}: {count_noun(items, noun)}{what and ' '}{what}: {shorten_list(items)}"
            )

    @contextmanager
    def add_errors(self, path: Path) -> Iterator[None]:
        """Return a context that suppresses an OSError or ValueError, and adds it as a file's fault.

        Args:
            path: Path of the file, with which the fault begins. It is not repeated if the error's
                message begins with it, too.
        """
        try:
            yield
        except OSError as error:
            self.append(f"{path}: cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            self.append(f"{path}: is not UTF-8 text")
        except ValueError as error:
            self.append(f"{path}: {str(error).removeprefix(f'{path}: ')}")

    def add_few_shot(self, where: object, scan: "DatasetScan") -> None:
        """Check each seed's few-shot list, and add its faults.

        Faults are images that are listed twice, images that are not in train, and classes without
        an image in the list.

        Args:
            where: Dataset, or file of the lists, for messages.
            scan: Scan with the lists and the train split.
        """
        train = scan.splits["train"]
        names = [image.name for image in train.images]
        label_of = dict(zip(names, train.labels.tolist(), strict=True))
        for seed, listed in sorted(scan.few_shot.items()):
            few_shot_list = f"the few_shot list of seed {seed}"
            repeated = sorted(name for name, n in Counter(listed).items() if n > 1)
            self.add(where, "image", repeated, f"more than once in {few_shot_list}")
            unknown = sorted({*listed} - label_of.keys())
            self.add(where, "image", unknown, f"in {few_shot_list}, but not in train")
            labels = {label_of[name] for name in listed if name in label_of}
            without_images = [
                name for label, name in enumerate(scan.class_names) if label not in labels
            ]
            self.add(where, "class", without_images, f"without an image in {few_shot_list}")

    def add_same_names(
        self, where: object, names: Sequence[str], descriptions: Sequence[str] | None = None
    ) -> None:
        """Add faults for class names that CLIP reads as empty or as equal (see split_pieces).

        Args:
            where: File or folder that contains the names, for messages.
            names: Name of each class.
            descriptions: Description of each class in messages. Defaults to its name.
        """
        by_pieces: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for name, description in zip(names, descriptions or names, strict=True):
            by_pieces[split_pieces(name)].append((name, description))
        for pieces, group in sorted(by_pieces.items()):
            if len(group) > 1 or not pieces:
                name = clean_class_name(group[0][0])
                described = shorten_list(description for _, description in group)
                classes = f"{count_noun(group, 'class')}: {described}"
                self.append(f"{where}: class name {name!r} (as CLIP reads it) belongs to {classes}")

    def add_odd_names(self, where: str, names: Sequence[str], template: str) -> None:
        """Add faults for class names with control characters, and for names that are too long.

        CLIP truncates prompts to CONTEXT_LENGTH tokens, so different long names may result in equal
        prompts. Such names are faults, too.

        This function checks only prompts of the dataset's template, with CLIP's vocabulary.
        ship.clip.make_class_prompts checks prompts with learned contexts, with the backbone's
        vocabulary.

        Args:
            where: Dataset, for messages.
            names: Cleaned class names by label.
            template: Prompt with one {} for a class name.
        """
        bad_names = [name for name in names if has_control_characters(name)]
        long_names = [name for name in names if len(name) > MAX_NAME_CHARS]
        self.add(where, "class name", bad_names, "with control characters")
        self.add(where, "class name", long_names, f"longer than {MAX_NAME_CHARS} characters")
        if bad_names or long_names:
            return
        rule = f"equal for CLIP, which truncates prompts to {CONTEXT_LENGTH} tokens"
        for group in group_truncated(names, [template], CONTEXT_LENGTH, _load_clip_tokenizer):
            self.add(where, "class name", group, rule)


def _load_clip_tokenizer() -> Any:
    from open_clip.tokenizer import SimpleTokenizer  # takes seconds, and is rarely needed

    return SimpleTokenizer()


def group_truncated(
    names: Sequence[str],
    templates: Sequence[str],
    context_length: int,
    tokenizer: Callable[[], Any],
) -> list[list[str]]:
    """Return groups of different class names whose prompts are equal after truncation.

    Args:
        names: Cleaned class names by label.
        templates: Prompts with one {} for a class name. The names of a group have equal prompts in
            every template.
        context_length: Maximum number of tokens of a prompt, including start and end.
        tokenizer: Function that returns open_clip's tokenizer. It is called only if names might be
            equal after truncation.
    """
    max_tokens = context_length - 2
    starts = ("".join(template.partition("{}")[0].split()) for template in templates)
    # Each token covers at least one byte, so the tokens that remain after truncation cover at least
    # max_tokens bytes. They begin with the template's text before the name. With the shortest such
    # text, at least n_bytes of each name remain. Names that differ in these bytes therefore have
    # different prompts, and need no tokenizer.
    n_bytes = max(0, max_tokens - min(len(start.encode("utf-8", "replace")) for start in starts))
    by_beginning: dict[bytes, dict[str, str]] = defaultdict(dict)
    for name in names:
        pieces = split_pieces(name)
        beginning = pieces.replace(" ", "").encode("utf-8", "replace")[:n_bytes]
        by_beginning[beginning][pieces] = name
    candidates = [
        name for group in by_beginning.values() if len(group) > 1 for name in group.values()
    ]
    if not candidates:
        return []
    encode, by_tokens = tokenizer().encode, defaultdict[Any, list[str]](list)
    for name in candidates:
        tokens = tuple(tuple(encode(fill_template(text, name))[:max_tokens]) for text in templates)
        by_tokens[tokens].append(name)
    return [equal_names for equal_names in by_tokens.values() if len(equal_names) > 1]


def clean_class_name(name: str) -> str:
    """Replace underscores by spaces, collapse white space, and compose characters (NFC)."""
    return unicodedata.normalize("NFC", " ".join(name.replace("_", " ").split()))


def split_pieces(name: str) -> str:
    """Split a class name into the pieces of CLIP's tokenizer, joined by spaces.

    Two names have the same token IDs if and only if the results are equal. This holds for every
    vocabulary, because the last token of a piece is marked as such ("</w>"): its ID differs from
    that of the same text inside a piece.

    Names that differ only in case, underscores, white space or HTML entities ("&amp;") have equal
    results. So do names that differ in a space before a digit or a sign ("dog 2" and "dog2").
    """
    cleaned = html.unescape(html.unescape(ftfy.fix_text(clean_class_name(name))))
    return " ".join(_PIECE.findall(" ".join(cleaned.split()).lower()))
