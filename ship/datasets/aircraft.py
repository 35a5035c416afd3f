"""FGVC-Aircraft as its authors publish it: lists of picture ids with variant names."""

from dataclasses import dataclass
from pathlib import Path

from ship.datasets.base import SPLITS, clean_class_name, picture_faults, some
from ship.datasets.faults import leak_faults, root_faults, same_name_faults
from ship.datasets.survey import Survey, counted, make_splits, other_counts, read_lines

Rows = dict[str, list[tuple[str, int]]]


@dataclass(frozen=True)
class AircraftDataset:
    """data_root/fgvc_aircraft, or the official archive's data/ folder below it.

    images_variant_{train,val,test}.txt hold "<id> <variant>" lines, images/<id>.jpg the pictures;
    labels are the lines of variants.txt in order, as in CoOp.
    """

    folder: str = "fgvc_aircraft"
    images: str = "images"
    counts: tuple[int, int, int] = (3334, 3333, 3333)
    classes: int = 100
    template: str = "a photo of a {}, a type of aircraft."

    def survey(self, name: str, data_root: Path | None) -> Survey:
        """Read the lists and look at every picture's size."""
        below = self.folder
        if data_root is not None and (data_root / below / "data" / "variants.txt").is_file():
            below = f"{below}/data"
        lists = [_list_name(split) for split in SPLITS]
        faults = root_faults(
            name,
            data_root,
            (f"{below}/{self.images}", "folder of pictures"),
            *((f"{below}/{file}", "list") for file in ("variants.txt", *lists)),
        )
        if data_root is None or not data_root.is_dir():
            return Survey(faults=tuple(faults))
        folder = data_root / below
        variants, more = _variants(folder / "variants.txt")
        rows, wrong = _rows(folder, {variant: label for label, variant in enumerate(variants)})
        faults += more + wrong + [f"{folder}: {fault}" for fault in leak_faults(rows)]
        images = folder / self.images
        if images.is_dir():
            paths = [path for pairs in rows.values() for path, _ in pairs]
            faults += [f"{images}: {fault}" for fault in picture_faults(images, paths)]
        splits = make_splits(images, rows)
        found, what = counted(splits), f"dataset {name}: {folder}"
        unlike = other_counts(what, found, len(variants), self.counts, self.classes)
        class_names = tuple(clean_class_name(variant) for variant in variants)
        return Survey(class_names, splits, tuple(faults), unlike)


def _list_name(split: str) -> str:
    return f"images_variant_{split}.txt"


def _variants(path: Path) -> tuple[list[str], list[str]]:
    """Variant names by label, and faults; a file that is not there is another's fault."""
    if not path.is_file():
        return [], []
    variants, faults = read_lines(path)
    faults += [f"{path}: {fault}" for fault in same_name_faults(variants)]
    if not faults and len(variants) < 2:
        faults.append(f"{path}: must name at least 2 variants, names {len(variants)}")
    return variants, faults


def _rows(folder: Path, label_of: dict[str, int]) -> tuple[Rows, list[str]]:
    """(path, label) by split, and faults of the lists."""
    rows: Rows = {split: [] for split in SPLITS}
    faults = []
    for split in SPLITS:
        path = folder / _list_name(split)
        if not path.is_file():
            continue
        lines, wrong = read_lines(path)
        bad = []
        for line in lines:
            picture, _, variant = line.partition(" ")
            label = label_of.get(variant.strip())
            if label is None:
                bad.append(repr(line))
            else:
                rows[split].append((f"{picture}.jpg", label))
        if bad and label_of:
            wrong.append(f"{path}: must be '<id> <variant of variants.txt>' lines: {some(bad)}")
        if not lines and not wrong:
            wrong.append(f"{path}: is empty")
        faults += wrong
    return rows, faults
