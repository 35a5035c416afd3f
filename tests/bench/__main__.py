"""python -m tests.bench [--smoke] [--json FILE]: ratios measured side by side on this machine."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ship.backbone import FrozenCLIP
from ship.features import FeatureSet
from tests.bench.bench_fused import fused
from tests.bench.bench_text_tower import comparisons
from tests.bench.timing import Comparison


def random_features(clip: FrozenCLIP, n_classes: int) -> FeatureSet:
    """Random unit-norm features: benchmarks need shapes, not meaning."""
    rng = np.random.default_rng(0)

    def split(n: int, *views: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(n_classes), n)
        x = rng.standard_normal((len(labels), *views, clip.feature_dim)).astype(np.float32)
        return x / np.linalg.norm(x, axis=-1, keepdims=True), labels

    train, val, test = split(2, 3), split(1), split(2)
    names = tuple(f"thing {i}" for i in range(n_classes))
    return FeatureSet(
        names, "a photo of a {}.", "random", "", clip.fingerprint, *train, *val, *test
    )


def run(smoke: bool) -> list[Comparison]:
    """All comparisons; tiny ones for a smoke run."""
    pocket = FrozenCLIP.load("pocket")
    repeats, n_classes = (1, 8) if smoke else (5, 100)
    made = []
    for clip in [pocket] if smoke else [pocket, FrozenCLIP.load("ViT-B-16-quickgelu:random")]:
        for n_ctx in (4, 16):
            made += comparisons(clip, n_classes, n_ctx, repeats if clip is pocket else 2)
    seeds = 2 if smoke else 5
    made.append(fused(pocket, random_features(pocket, n_classes), seeds, repeats=1))
    return made


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    table = Table("what", "plain s", "fast s", "ratio", title=f"{torch.get_num_threads()} threads")
    made = run(options.smoke)
    for row in made:
        table.add_row(row.name, f"{row.plain_s:.3f}", f"{row.fast_s:.3f}", f"{row.ratio:.1f}x")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in made], indent=1))


if __name__ == "__main__":
    main()
