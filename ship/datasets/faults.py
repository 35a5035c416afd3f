"""Faults that any dataset may have: nothing there, class names or pictures that are not sound."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ship.datasets.base import clean_class_name, number, plain_path, some, spoken
from ship.datasets.survey import Rows


def root_faults(name: str, data_root: Path | None, *needed: tuple[str, str]) -> list[str]:
    """What is not there of (path below the data root, what it is: "folder of pictures")."""
    if data_root is None:
        places = " and ".join(f"{path}/" for path in dict.fromkeys(_top(p) for p, _ in needed))
        return [f"dataset {name} needs a data root: the folder that holds {places}"]
    if not data_root.is_dir():
        return [f"dataset {name}: no such data root: {data_root}"]
    faults = []
    for path, what in needed:
        found = data_root / path
        if not (found.is_dir() if what.startswith("folder") else found.is_file()):
            faults.append(f"dataset {name}: no such {what}: {found}")
    return faults


def _top(path: str) -> str:
    return path.partition("/")[0]


def same_name_faults(raw_names: Iterable[str], called: Iterable[str] | None = None) -> list[str]:
    """Class names that are empty, or that have the same token ids for CLIP (see `spoken`).

    Args:
        raw_names: one for each class, as it is written on the disk.
        called: what messages call each class; None: as it is written.
    """
    raw_names = list(raw_names)
    classes: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for raw, shown in zip(raw_names, raw_names if called is None else called, strict=True):
        classes[spoken(raw)].append((raw, shown))
    return [
        f"class name {clean_class_name(found[0][0])!r}, as CLIP reads it, stands for "
        f"{number(found, 'class')}: {some(shown for _, shown in found)}"
        for name, found in sorted(classes.items())
        if len(found) > 1 or not name
    ]


CONTEXT_LENGTH: Final = 77
"""Tokens of a prompt, its start and its end included, that CLIP reads; it cuts what follows."""
_SHARED: Final = 56
"""Bytes. Names that differ sooner stay apart: a token has a byte at least, and some 20 tokens are
what a template says before the name, the start and the end."""


def cut_name_faults(class_names: Iterable[str], template: str) -> list[str]:
    """Class names that are the same to CLIP because it reads no more than CONTEXT_LENGTH tokens.

    The tokens are those of CLIP's own vocabulary, in the dataset's template. For learned contexts
    and for other backbones, ship.clip.class_prompts looks at what is left of each name.

    Args:
        class_names: cleaned, by label.
        template: a prompt with one {} for a class name.
    """
    beginnings: dict[bytes, dict[str, str]] = defaultdict(dict)
    for name in class_names:
        said = spoken(name)
        beginnings[said.replace(" ", "").encode("utf-8", "replace")[:_SHARED]][said] = name
    alike = [name for names in beginnings.values() if len(names) > 1 for name in names.values()]
    if not alike:
        return []
    from open_clip.tokenizer import SimpleTokenizer  # takes seconds, and is hardly ever needed

    encode = SimpleTokenizer().encode
    prompts: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for name in alike:
        prompts[tuple(encode(template.format(name))[: CONTEXT_LENGTH - 2])].append(name)
    return [
        f"class names that are the same to CLIP, which cuts a prompt after {CONTEXT_LENGTH} "
        f"tokens: {some(found)}"
        for found in prompts.values()
        if len(found) > 1
    ]


_NO_TEXT: Final = frozenset({"Cc", "Cs"})  # commands to a terminal, and halves of characters
MOST_LETTERS: Final = 1000
"""Of a class name; the longest published one has some 60, and no prompt has room for as many."""


def name_faults(class_names: Iterable[str]) -> list[str]:
    """Class names that are no text for a prompt, a table and a terminal."""
    names = list(class_names)
    odd = [name for name in names if any(unicodedata.category(c) in _NO_TEXT for c in name)]
    long = [name for name in names if len(name) > MOST_LETTERS]
    wording = {"with control characters": odd, "of absurd length": long}
    return [f"class names {fault}: {some(bad)}" for fault, bad in wording.items() if bad]


def leak_faults(rows: Rows) -> list[str]:
    """Pictures that stand in two splits, or under two labels."""
    splits: dict[str, set[str]] = defaultdict(set)
    labels: dict[str, set[int]] = defaultdict(set)
    for split, pairs in rows.items():
        for path, label in pairs:
            splits[plain_path(path)].add(split)
            labels[plain_path(path)].add(label)
    leaked = sorted(path for path, held in splits.items() if len(held) > 1)
    torn = sorted(path for path, held in labels.items() if len(held) > 1)
    wording = {"pictures in more than one split": leaked, "pictures under two labels": torn}
    return [f"{fault}: {some(paths)}" for fault, paths in wording.items() if paths]
