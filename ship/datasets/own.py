"""One's own pictures: a folder for each class, how it is split, and what its classes are called."""

import os
import posixpath
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final

from ship.datasets.base import SPLITS, DatasetError, Faults, Survey, clean_class_name, some
from ship.datasets.folders import SUFFIXES, directories_in, ends_in
from ship.datasets.layouts import PHOTO, Found, by_hash, is_inside, root_of
from ship.datasets.lists import SEPARATORS, read_class_names, read_split, repeated

PREFIX: Final = "image_folder:"
"""A dataset called image_folder:NAME is the folder data_root/NAME."""
SMALLEST_CLASS: Final = 3
"""Pictures that a class needs for one each in train, val and test."""
_CALLED: Final = " or ".join(f"class_names{ending}" for ending in SEPARATORS)
_UNREAD: Final = (".heic", ".heif", ".hif")
"""Endings of pictures that Pillow reads with a plugin alone."""
_ASIDE: Final = {
    "class folder": "with pictures in several folders below it, all taken for one class",
    "folder": "next to train, val and test, not read (move it elsewhere, or into these three)",
    "file": "left out, which Pillow cannot read (save as JPEG or PNG)",
    "class": "without a picture in val, left out of selection (selection: none needs no val)",
    "link": "not followed, to the dataset's own folder or one that holds it",
    "path": "passed over, which are hidden, met again, or no picture by their ending",
}
"""What is not taken as it stands in one's own folder, by a noun; all but the last are warnings."""


@dataclass(frozen=True)
class ImageFolder:
    """data_root/NAME with one directory a class, pictures at any depth below it.

    Links are followed, each directory once for a class, but none that leads to the folder itself
    or to one that holds it. What is passed over, and directories of pictures below a class's own,
    are told as notes and warnings.

    With the sub-folders train/, val/ and test/, each holds the class directories and is taken as
    it stands. Without, every class is split 50/20/30 per cent (val and test rounded to the nearest
    picture, at least one; train gets the rest) by a hash of its pictures' paths: the split is the
    same on every machine. Labels follow the sorted directories.

    class_names: a file of what the classes are called; None: class_names.csv or class_names.txt in
        the folder, else they are called as their directories.
    split: a file in CoOp's form, which says of pictures in the folder what they are of, and in
        which split; directories say nothing then. None: there is none.
    split_seed: of another draw of the 50/20/30; 0: by the paths alone.
    """

    class_names: str | None = None
    split: str | None = None
    split_seed: int = 0
    template: ClassVar[str] = PHOTO

    def survey(self, name: str, data_root: Path | None) -> Survey:
        """List the directories and look at every picture's size."""
        relative = name.removeprefix(PREFIX)
        if not is_inside(relative):
            must = f"NAME of {PREFIX}NAME must be a folder inside the data root"
            raise DatasetError(f"dataset {name!r}: {must}")
        folder = root_of(name, data_root, relative) / relative
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder")
        if self.split is not None:
            return self._as_listed(folder, Path(self.split))
        reader = _Reader(folder, self.split_seed)
        listed, faults = reader.listed(), reader.faults
        called = {own: clean_class_name(own) for _, _, own in listed}
        directories = sorted(called, key=lambda own: (called[own], own))
        plain = tuple(called[own] for own in directories)
        given = _name_files(folder) if self.class_names is None else [Path(self.class_names)]
        both = [path.name for path in given if len(given) > 1]
        faults.tell(folder, "list", both, "of class names, where one is enough")
        if given and reader.directories:
            called |= read_class_names(given[0], reader.directories, faults)
        names = tuple(called[own] for own in directories)
        faults.tell_same_names(given[0] if given else folder, names, directories)
        label_of = {own: label for label, own in enumerate(directories)}
        rows = [(split, path, label_of[own]) for split, path, own in listed]
        rows.sort(key=lambda row: (row[2], row[1]))
        odd, notes = Faults(), Faults()
        if self.class_names is None:
            near = _nearly_name_files(folder)
            odd.tell(folder, "file", near, f"not read as class names (call it {_CALLED})")
        for noun, what in _ASIDE.items():
            told = notes if noun == "path" else odd
            told.tell(folder, noun, sorted(reader.aside[noun]), what)
        survey = Survey(
            names,
            warnings=(*odd,),
            notes=(*notes,),
            split_version=f"split_seed {self.split_seed}" if self.split_seed else "",
            own_split=reader.split,
            folder_names=plain if names != plain else (),
        )
        return Found(survey, folder, folder, rows).checked(faults)

    def _as_listed(self, folder: Path, path: Path) -> Survey:
        """What a split file says."""
        faults, odd = Faults(), Faults()
        rows, names = read_split(path, faults)
        sound = not faults  # else a name's place may not be its label
        for split in SPLITS:
            own = [row for row in rows if row[0] == split]
            twice = repeated(posixpath.normpath(picture) for _, picture, _ in own)
            faults.tell(path, "picture", twice, f"more than once in {split}")
            shown = {label for _, _, label in own}
            lacking = [name for label, name in enumerate(names) if label not in shown]
            if split == "val":
                odd.tell(path, "class", lacking if sound else (), _ASIDE["class"])
                continue
            faults.tell(path, "class", lacking if sound else (), f"without a picture in {split}")
        unread = [file.name for file in _name_files(folder)]
        odd.tell(folder, "list", unread, f"of class names not read: {path} has its own")
        where = f"as in {path}"
        survey = Survey(names, warnings=(*odd,), split_version=path.name, own_split=where)
        found = Found(survey, folder, path, rows).checked(faults)
        head = f"{path}: "  # what it names may be missing in the folder: the list is to be mended
        return replace(found, faults=tuple(head + line.removeprefix(head) for line in found.faults))


PLAIN_FOLDER: Final = ImageFolder()
"""A folder that is read as it stands."""


def _name_files(folder: Path) -> list[Path]:
    """The files of class names that lie in a folder."""
    found = [folder / f"class_names{ending}" for ending in SEPARATORS]
    return [path for path in found if os.path.lexists(path)]  # a link to nothing is a fault to tell


def _nearly_name_files(folder: Path) -> list[str]:
    """Files that were probably meant to be one: "classnames.txt", "Class-Names.CSV"."""
    alike = re.compile(r"class[ _-]?names?\.\w+", re.IGNORECASE)
    near = {path for path in folder.iterdir() if alike.fullmatch(path.name)}
    return sorted(path.name for path in near - {*_name_files(folder)} if not path.is_dir())


class _Reader:
    """Lists one's own folder.

    directories: every class's, once it is listed. split: how it is split, in words. aside: paths by
    their nouns in _ASIDE.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        """List nothing yet; the seed is of the split of a folder that has none."""
        self.folder, self.seed, self.faults = folder, seed, Faults()
        by = f" and split_seed {seed}" if seed else ""
        self.split = f"50/20/30 per cent of each class, by a hash of the paths{by}"
        self.directories: list[str] = []
        self.aside: dict[str, list[str]] = defaultdict(list)

    def listed(self) -> list[tuple[str, str, str]]:
        """Split, path relative to the folder, and class directory of each picture."""
        own = directories_in(self.folder)
        given = set(SPLITS) <= set(own)
        others = [name for name in own if name not in SPLITS]
        alike: list[str] = []
        if not given:
            # some of train, val and test and nothing else: meant as splits, whatever they hold
            alike = self._misnamed_splits(own) if others else own
        if alike:
            must = "there must be three, called train, val (which may be empty) and test"
            self.faults.append(f"{self.folder}: {some(alike)} look like splits: {must}")
            return []
        pictures = {
            (split, directory): self._pictures(f"{split}/{directory}".lstrip("/"))
            for split in (SPLITS if given else ("",))
            for directory in directories_in(self.folder / split)
        }
        self.directories = sorted({directory for _, directory in pictures})
        if given:
            self.split = "as in the folders train, val and test"
            if self.seed:
                self.faults.append(f"{self.folder}: is split by its folders, not by a split_seed")
            self.aside["folder"] += others
            for split in SPLITS:
                lacking = [one for one in self.directories if not pictures.get((split, one))]
                if split == "val":  # what a trial needs of it, ship.requirements says
                    self.aside["class"] += lacking
                    continue
                self.faults.tell(self.folder, "class", lacking, f"without a picture in {split}")
        else:
            sizes = {name: len(paths) for (_, name), paths in pictures.items()}
            small = [f"{name} ({n})" for name, n in sizes.items() if n < SMALLEST_CLASS]
            what = f"with fewer than {SMALLEST_CLASS} pictures"
            self.faults.tell(self.folder, "class", small, what)
        return [
            (split, path, directory)
            for (where, directory), paths in pictures.items()
            for split, part in ({where: paths} if given else fixed_split(paths, self.seed)).items()
            for path in part
        ]

    def _misnamed_splits(self, directories: list[str]) -> list[str]:
        """A directory "train", whatever its case, and those that share two folders with it."""
        train = next((name for name in directories if name.lower() == "train"), None)
        inside = set(directories_in(self.folder / train)) if train else set()
        if len(inside) < 2:  # what the others hold may be millions of pictures
            return []
        shared = {own: inside & {*directories_in(self.folder / own)} for own in directories}
        alike = [own for own, found in shared.items() if len(found) > 1]
        return alike if len(alike) > 1 else []

    def _pictures(self, directory: str) -> list[str]:
        """The pictures below a class directory, sorted."""
        found: list[str] = []
        holding = (self.folder, *self.folder.absolute().parents, *self.folder.resolve().parents)
        above = {_identity(path) for path in holding}
        seen: set[tuple[int, int]] = set()
        root = self.folder / directory
        n_below = 0
        for parent, below, names in os.walk(root, followlinks=True):
            here = Path(parent).relative_to(self.folder)
            identity = _identity(Path(parent))
            if identity in above or identity in seen:
                self.aside["link" if identity in above else "path"].append(here.as_posix())
                below.clear()
                continue
            seen.add(identity)
            hidden = [name for name in below if name.startswith(".")]
            below[:] = [name for name in below if not name.startswith(".")]
            pictures = {name for name in names if ends_in(SUFFIXES, name)}
            unread = {name for name in names if ends_in(_UNREAD, name)}
            others = {*hidden, *names} - pictures - unread
            found += [(here / name).as_posix() for name in pictures]
            self.aside["file"] += [(here / name).as_posix() for name in unread]
            self.aside["path"] += [(here / name).as_posix() for name in others]
            if pictures and Path(parent) != root:
                n_below += 1
        if n_below > 1:
            self.aside["class folder"].append(f"{directory} ({n_below} folders)")
        return sorted(found)


def fixed_split(paths: list[str], seed: int = 0) -> dict[str, list[str]]:
    """Split one class's picture paths 50/20/30 by the hash of each path (see ImageFolder)."""
    shuffled = by_hash(paths, f"{seed} " if seed else "")
    n_val, n_test = (max(1, round(share * len(paths))) for share in (0.2, 0.3))
    return {
        "val": shuffled[:n_val],
        "test": shuffled[n_val : n_val + n_test],
        "train": shuffled[n_val + n_test :],
    }


def _identity(folder: Path) -> tuple[int, int]:
    """What tells a directory from all others, whichever links lead to it."""
    status = folder.stat()
    return status.st_dev, status.st_ino
