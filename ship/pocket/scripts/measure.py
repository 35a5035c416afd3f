"""Zero-shot accuracy of the pocket CLIP: python -m ship.pocket.scripts.measure [--caltech DIR]

Loads the packaged files as any user would, through open_clip, and classifies with the one prompt
"a photo of a {}.". NOTICE holds the figures that this printed.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import open_clip
import polars as pl
import torch
import typer
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from ship.pocket import BPE_PATH, EMOJI_PARQUET, MODEL_DIR, PHOTOS_PARQUET
from ship.pocket.scripts.build_photos import FOLDER, SPLIT_FILE
from ship.pocket.scripts.captions import PROMPT
from ship.pocket.scripts.render import decode


class PocketCLIP:
    """The packaged model with its preprocessing and tokenizer."""

    def __init__(self, folder: Path = MODEL_DIR) -> None:
        model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        self.model = model.eval()
        self.preprocess = preprocess
        bpe = str(folder / BPE_PATH.name)
        self.tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}", bpe_path=bpe)

    @torch.inference_mode()
    def encode_names(self, names: Sequence[str]) -> Tensor:
        """Unit-norm text features of the names in the prompt: (names, embed_dim)."""
        tokens = self.tokenizer([PROMPT.format(name) for name in names])
        return normalize(self.model.encode_text(tokens), dim=-1)

    @torch.inference_mode()
    def encode_pictures(self, pictures: Iterable[Image.Image], batch_size: int = 64) -> Tensor:
        """Unit-norm image features: (pictures, embed_dim)."""
        features, batch = [], []
        for picture in pictures:
            batch.append(self.preprocess(picture))
            if len(batch) == batch_size:
                features.append(self.model.encode_image(torch.stack(batch)))
                batch = []
        if batch:
            features.append(self.model.encode_image(torch.stack(batch)))
        return normalize(torch.cat(features), dim=-1)


def accuracy(image: Tensor, text: Tensor, labels: Tensor) -> float:
    """Percent of pictures whose nearest text is their label's."""
    return 100 * (image @ text.T).argmax(1).eq(labels).double().mean().item()


def half_accuracies(image: Tensor, text: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy among the first ceil(n/2) classes and among the rest, as CoOp halves them."""
    half = (len(text) + 1) // 2
    base = labels < half
    return (
        accuracy(image[base], text[:half], labels[base]),
        accuracy(image[~base], text[half:], labels[~base] - half),
    )


def measure_emoji(clip: PocketCLIP, parquet: Path) -> list[str]:
    """Lines on the packaged pictures: overall, halves of the classes, each split and style."""
    frame = pl.read_parquet(parquet)
    names = frame["class_name"].unique().sort().to_list()
    index = {name: i for i, name in enumerate(names)}
    labels = torch.tensor([index[name] for name in frame["class_name"]])
    image = clip.encode_pictures(decode(picture) for picture in frame["image"])
    text = clip.encode_names(names)
    base, new = half_accuracies(image, text, labels)
    lines = [
        f"emoji: {accuracy(image, text, labels):.1f} over {len(names)} classes, "
        f"{len(frame)} pictures; {halves(base, new)}"
    ]
    for column in ("split", "style"):
        for value in frame[column].unique().sort().to_list():
            rows = torch.tensor((frame[column] == value).to_list())
            percent = accuracy(image[rows], text, labels[rows])
            lines.append(f"  {value}: {percent:.1f} ({int(rows.sum())} pictures)")
    return lines


def measure_caltech(clip: PocketCLIP, root: Path) -> list[str]:
    """A line on the test split of CoOp's Caltech-101."""
    split = json.loads((root / SPLIT_FILE).read_text("utf-8"))["test"]
    by_label = {label: name.replace("_", " ") for _, label, name in split}
    names = [by_label[label] for label in sorted(by_label)]
    labels = torch.tensor([label for _, label, _ in split])
    folder = root / FOLDER
    image = clip.encode_pictures(Image.open(folder / path).convert("RGB") for path, _, _ in split)
    text = clip.encode_names(names)
    base, new = half_accuracies(image, text, labels)
    return [
        f"Caltech-101 test: {accuracy(image, text, labels):.1f} over {len(names)} classes, "
        f"{len(split)} pictures; {halves(base, new)}"
    ]


def measure_photos(clip: PocketCLIP, parquet: Path, caltech: Path | None) -> list[str]:
    """Lines on the packaged photographs: each split, and test pictures against their originals.

    Args:
        clip: the model.
        parquet: the packaged pictures.
        caltech: folder of Caltech-101 with the originals; None leaves the comparison out.
    """
    frame = pl.read_parquet(parquet)
    names = frame["class_name"].unique().sort().to_list()
    index = {name: i for i, name in enumerate(names)}
    text = clip.encode_names(names)
    lines = [f"photos: {len(names)} classes"]
    for split in ("train", "val", "test"):
        rows = frame.filter(split=split)
        labels = torch.tensor([index[name] for name in rows["class_name"]])
        image = clip.encode_pictures(decode(picture) for picture in rows["image"])
        base, new = half_accuracies(image, text, labels)
        percent = accuracy(image, text, labels)
        lines.append(f"  {split}: {percent:.1f} ({len(rows)} pictures); {halves(base, new)}")
        if split == "test" and caltech is not None:
            paths = [caltech / FOLDER / path for path in rows["picture"]]
            original = clip.encode_pictures(Image.open(path).convert("RGB") for path in paths)
            lines.append(f"  {compare(image, original, text, labels)}")
    return lines


def halves(base: float, new: float) -> str:
    """Both accuracies in words."""
    return f"halves {base:.1f} and {new:.1f}"


def compare(packaged: Tensor, original: Tensor, text: Tensor, labels: Tensor) -> str:
    """How the same pictures do as they were, and what packaging changed."""
    before, after = ((image @ text.T).argmax(1) for image in (original, packaged))
    lost = int(((before == labels) & (after != labels)).sum())
    won = int(((before != labels) & (after == labels)).sum())
    cosine = (packaged * original).sum(1).mean().item()
    return (
        f"their originals: {accuracy(original, text, labels):.1f}; packaging lost {lost} right "
        f"answers and won {won}, mean cosine of features {cosine:.3f}"
    )


def measure(
    model: Annotated[Path, typer.Option(help="Folder of the model.")] = MODEL_DIR,
    emoji: Annotated[Path, typer.Option(help="The drawings.")] = EMOJI_PARQUET,
    photos: Annotated[Path, typer.Option(help="The photographs.")] = PHOTOS_PARQUET,
    caltech: Annotated[
        Path | None, typer.Option(help="Folder of Caltech-101 in CoOp's layout.")
    ] = None,
) -> None:
    """Print the zero-shot accuracy of the pocket CLIP."""
    clip = PocketCLIP(model)
    lines = measure_emoji(clip, emoji)
    lines += measure_photos(clip, photos, caltech)
    if caltech is not None:
        lines += measure_caltech(clip, caltech)
    typer.echo("\n".join(lines))


if __name__ == "__main__":
    typer.run(measure)
