"""Lists of pictures in CoOp's folders: split_zhou_*.json, and FGVC-Aircraft's lists of variants."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ship.datasets.base import SPLITS, Faults, some
from ship.datasets.layout import Found, Published, json_kind, read_lines, read_object
from ship.datasets.names import clean_class_name, spoken, tell_same_names
from ship.datasets.survey import Survey

_ROW: Final = "[path, label, class name]"
_MOST_CLASSES: Final = 2**31


@dataclass(frozen=True)
class CoOp(Published):
    """data_root/folder with a file {"train"|"val"|"test": [[path, label, class name], ...]}.

    split: the file is called split_zhou_SPLIT.json.
    """

    split: str = ""

    @property
    def split_file(self) -> str:
        """In data_root/folder; torchvision has none."""
        return f"split_zhou_{self.split}.json"

    def read(self, data_root: Path, faults: Faults) -> Found:
        """Read the split file."""
        path, images = data_root / self.folder / self.split_file, data_root / self.pictures
        document = read_object(path, ", ".join(SPLITS), faults)
        if document is None:
            return Found(Survey(), (), images, path)
        rows, named = [], []
        for split in SPLITS:
            listed = document.get(split)
            if not isinstance(listed, list) or not listed:
                state = f"is {json_kind(listed)}" if split in document else "is missing"
                faults.append(f"{path}: {split} must be a list of {_ROW}, {state}")
                continue
            wrong = [f"{split}[{i}]" for i, row in enumerate(listed) if not _well_formed(row)]
            faults.tell(path, "row", wrong, f"must be {_ROW}, label an int >= 0")
            for picture, label, name in filter(_well_formed, listed):
                rows.append((split, picture, label))
                named.append((label, name))
        return Found(Survey(_class_names(path, named, faults)), rows, images, path)


def _well_formed(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 3
        and isinstance(row[0], str)
        and type(row[1]) is int  # a bool is an int to isinstance
        and 0 <= row[1] < _MOST_CLASSES
        and isinstance(row[2], str)
        and bool(clean_class_name(row[2]))
    )


def _class_names(path: Path, named: Sequence[tuple[int, str]], faults: Faults) -> tuple[str, ...]:
    """Class names by label, which must pair one to one."""
    names: dict[int, set[str]] = defaultdict(set)
    for label, name in named:
        names[label].add(name)
    gaps = sorted(set(range(len(names))) - set(names))
    if gaps:
        faults.append(
            f"{path}: labels must be 0 to {len(names) - 1} without gaps, "
            f"but {some(gaps)} is absent and the highest is {max(names)}"
        )
    for label, found in sorted(names.items()):
        if len(found) > 1:
            what = f"label {label} has more than one class name"
            faults.append(f"{path}: {what}: {some(sorted(found))}")
    pairs = {(label, spoken(name)): name for label, name in sorted(set(named))}
    called = [f"{name} (label {label})" for (label, _), name in pairs.items()]
    tell_same_names(faults, path, pairs.values(), called)
    return tuple(clean_class_name(min(names[label])) for label in sorted(names))


@dataclass(frozen=True)
class Aircraft(Published):
    """FGVC-Aircraft's own lists in data_root/folder, or in its archive's data/ below that.

    images_variant_{train,val,test}.txt hold "<id> <variant>" lines, images/<id>.jpg the pictures;
    labels are the lines of variants.txt in order, as in CoOp.
    """

    def read(self, data_root: Path, faults: Faults) -> Found:
        """Read the lists."""
        folder = data_root / self.folder
        if (folder / "data" / "variants.txt").is_file():
            folder = folder / "data"
        variants = read_lines(folder / "variants.txt", faults)
        tell_same_names(faults, folder / "variants.txt", variants)
        label_of = {variant: label for label, variant in enumerate(variants)}
        rows = []
        for split in SPLITS:
            path, bad = folder / f"images_variant_{split}.txt", []
            for line in read_lines(path, faults):
                picture, _, variant = line.partition(" ")
                label = label_of.get(variant.strip())
                if label is None:
                    bad.append(repr(line))
                else:
                    rows.append((split, f"{picture}.jpg", label))
            must = "must be '<id> <variant of variants.txt>'"
            faults.tell(path, "line", bad if variants else (), must)
        survey = Survey(tuple(clean_class_name(variant) for variant in variants))
        return Found(survey, rows, folder / self.images, folder)
