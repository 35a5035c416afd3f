"""python -m tests.emulated.shared_gpu FOLDER: a study whose trials share one emulated GPU.

It runs the same study on the CPU ("plain") and with Ray and half of an emulated GPU per trial
("shared"), in a store in the folder. For each trial of the second study, a line with process ID,
device type of the weights and number of kernel launches is appended to the file `processes`. This
is a separate program, because Ray's workers import this module, and Ray is started with a fake GPU.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray

import harness.resources
from harness.method import MethodFunctions, load_backbone, run_trial
from harness.study import run_study
from ship.clip import FrozenCLIP
from ship.features import extract_features
from tests.emulated import emulated_device
from tests.emulated.execution import NAME
from tests.gpu.conftest import load_few_photos
from tests.gpu.test_determinism import CONFIG
from tests.harness.fakes import load_fake_images, make_study


def load_on_device(*arguments: Any) -> Any:
    """Load a backbone in a process with the emulated device."""
    with emulated_device():
        return load_backbone(*arguments)


def run_on_device(log: Path, config: Any, seeds: Any, *rest: Any) -> Iterator[Any]:
    """Run a trial on the emulated device, and log it."""
    clip = rest[1]
    with emulated_device() as device, device.counting() as counts:
        yield from run_trial(config, seeds, *rest)
    with log.open("a") as file:
        file.write(f"{os.getpid()} {clip.device.type} {counts.n_launches}\n")


def main(folder: Path) -> None:
    """Run both studies."""
    harness.resources.count_visible_gpus = lambda: 1  # type: ignore[attr-defined]
    harness.resources.find_gpu_fault = lambda: None  # type: ignore[attr-defined]
    features = extract_features(FrozenCLIP.load("pocket"), load_few_photos(), 1, folder)
    plain = replace(MethodFunctions(), extract=lambda *_: features, load_dataset=load_fake_images)
    shared = replace(
        plain,
        accelerator=NAME,
        load_backbone=load_on_device,
        run_trial=partial(run_on_device, folder / "processes"),
    )
    ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    for name, method, share in (("plain", plain, 0), ("shared", shared, 0.5)):
        study = make_study(
            name=name,
            augmentations=1,
            **CONFIG,
            space={"generator.kl_weight": [0.001, 0.1]},
            max_concurrent_trials=2,
            resources={"gpus": share},
        )
        outcome = run_study(
            study,
            tracking_uri=f"sqlite:///{folder}/mlflow.db",
            cache_dir=folder,
            method=method,
            in_process=not share,
            reuse=False,
        )
        if not outcome.complete:
            raise SystemExit(f"study {name} is not complete: {outcome}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
