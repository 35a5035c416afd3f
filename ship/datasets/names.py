"""Class names: how they are cleaned, said in a prompt, and told apart by CLIP's tokenizer."""

import html
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import ftfy
import regex

from ship.datasets.base import Faults, number, some

CONTEXT_LENGTH: Final = 77
"""Tokens of a prompt, its start and its end included, that CLIP reads; it cuts what follows."""
MOST_LETTERS: Final = 1000
"""Of a class name; the longest published one has some 60, and no prompt has room for as many."""
_NO_TEXT: Final = frozenset({"Cc", "Cs"})  # commands to a terminal, and halves of characters
_SHARED: Final = 56
"""Bytes. Names that differ sooner stay apart: a token has a byte at least, and some 20 tokens are
what a template says before the name, the start and the end."""
# The pieces that CLIP's tokenizer looks up, each by itself (open_clip's SimpleTokenizer.pat).
_PIECE: Final = regex.compile(
    r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)


def clean_class_name(name: str) -> str:
    """Underscores to spaces, runs of white space to one, composed (NFC) characters."""
    return unicodedata.normalize("NFC", " ".join(name.replace("_", " ").split()))


def sentence(template: str, class_name: str) -> str:
    """A template with a class name in the place of its {}; other braces stay as they are."""
    return template.replace("{}", class_name)


def spoken(name: str) -> str:
    """The pieces into which CLIP's tokenizer takes a class name apart, with spaces between them.

    Two names have the same token ids if and only if this is the same, whatever the vocabulary: a
    token knows whether it ends a piece, so the ids of a piece say what it was. Case, underscores,
    white space and HTML's names of characters ("&amp;") make no difference, nor does a space
    before a digit or a sign ("dog 2", "dog2").
    """
    plain = html.unescape(html.unescape(ftfy.fix_text(clean_class_name(name))))
    return " ".join(_PIECE.findall(" ".join(plain.split()).lower()))


def tell_same_names(
    faults: Faults, where: object, written: Iterable[str], called: Iterable[str] | None = None
) -> None:
    """Class names that are empty, or that have the same token ids for CLIP (see `spoken`).

    Args:
        where: the file that names them.
        written: the names, one for each class.
        called: what messages call each class; None: as it is written.
    """
    written = list(written)
    classes: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, shown in zip(written, written if called is None else called, strict=True):
        classes[spoken(name)].append((name, shown))
    for said, found in sorted(classes.items()):
        if len(found) > 1 or not said:
            faults.append(
                f"{where}: class name {clean_class_name(found[0][0])!r}, as CLIP reads it, stands "
                f"for {number(found, 'class')}: {some(shown for _, shown in found)}"
            )


def tell_odd_names(faults: Faults, where: str, names: Sequence[str], template: str) -> None:
    """Class names that are no text for a prompt, a table and a terminal, or that CLIP cuts.

    Args:
        where: the dataset, for messages.
        names: cleaned, by label.
        template: a prompt with one {} for a class name.
    """
    odd = [name for name in names if any(unicodedata.category(c) in _NO_TEXT for c in name)]
    long = [name for name in names if len(name) > MOST_LETTERS]
    faults.tell(where, "class name", odd, "with control characters")
    faults.tell(where, "class name", long, "of absurd length")
    cut = f"that are the same to CLIP, which cuts a prompt after {CONTEXT_LENGTH} tokens"
    for alike in () if odd or long else cut_names(names, template):
        faults.tell(where, "class name", alike, cut)


def cut_names(names: Iterable[str], template: str) -> list[list[str]]:
    """Groups of names that are the same to CLIP: it reads no more than CONTEXT_LENGTH tokens.

    The tokens are those of CLIP's own vocabulary, in the dataset's template. For learned contexts
    and for other backbones, ship.clip.class_prompts looks at what is left of each name.
    """
    beginnings: dict[bytes, dict[str, str]] = defaultdict(dict)
    for name in names:
        said = spoken(name)
        beginnings[said.replace(" ", "").encode("utf-8", "replace")[:_SHARED]][said] = name
    alike = [name for found in beginnings.values() if len(found) > 1 for name in found.values()]
    if not alike:
        return []
    from open_clip.tokenizer import SimpleTokenizer  # takes seconds, and is hardly ever needed

    encode = SimpleTokenizer().encode
    prompts: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for name in alike:
        tokens = encode(sentence(template, name))
        prompts[tuple(tokens[: CONTEXT_LENGTH - 2])].append(name)
    return [found for found in prompts.values() if len(found) > 1]
