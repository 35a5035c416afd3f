"""A study on a machine that pretends to have a GPU, as a process of its own: it starts Ray twice.

python -m tests.harness.gpu_driver FOLDER prints one line of JSON.
"""

import json
import os
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ray
from PIL import Image
from rich.console import Console

import harness.resources.machine
import harness.resources.refusals
from harness.config.load import parse_study
from harness.method import Method
from harness.study import run_study
from ship.clip import FrozenCLIP

STUDY = {
    "space": {"generator.n_ctx": [1, 2]},
    "dataset": "image_folder:few",
    "shots": 1,
    "seeds": 1,
    "reference_arms": False,
    "generator": {"name": "vae", "latent_dim": 4, "encoder_hidden": 8, "generator_hidden": 8,
                  "epochs": 1},
    "finetuner": {"name": "clip_adapter", "epochs": 1},
    "resources": {"gpus": 0.5},
}  # fmt: skip


def draw(folder: Path) -> None:
    """Eight classes of eight small pictures, each of one colour."""
    for label, place in product(range(8), repeat=2):
        path = folder / "few" / f"thing {label}" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (30 * label, 8 * place, 100)).save(path)


def main(folder: str) -> None:
    """Run the study; print what came of it, how often Ray was started, and who encoded."""
    log, starts, begin = Path(folder) / "encoded", [], ray.init

    def init(*given: Any, **keys: Any) -> Any:
        starts.append(keys["object_store_memory"])
        return begin(*given, **keys, num_gpus=1)

    def load(name: str, device: str, precision: Any = "fp32") -> Any:
        clip = FrozenCLIP.load(name, "cpu", precision)
        encode = clip.encode_images

        def noted(pictures: Any) -> Any:
            with log.open("a") as file:
                file.write(f"{os.getpid()} {device}\n")
            return encode(pictures)

        clip.encode_images = noted  # type: ignore[method-assign]
        return clip

    draw(Path(folder))
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with (
        patch.object(ray, "init", init),
        patch.object(harness.resources.machine, "usable_gpus", lambda: 1),
        patch.object(harness.resources.refusals, "usable_gpus", lambda: 1),
        patch.object(harness.resources.refusals, "why_no_gpu", lambda: None),
    ):
        outcome = run_study(
            parse_study(STUDY, "small", data_root=Path(folder)),
            data_root=Path(folder),
            tracking_uri=f"sqlite:///{folder}/mlflow.db",
            cache_dir=Path(folder) / "cache",
            method=replace(Method(), load_backbone=load, accelerator="cpu"),
            console=Console(file=sys.stderr),
        )
    lines = set(log.read_text().splitlines())
    said = {"complete": outcome.complete, "starts": len(starts), "larger": starts[-1] > starts[0]}
    print(json.dumps({**said, "driver": any(line.startswith(f"{os.getpid()} ") for line in lines)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
