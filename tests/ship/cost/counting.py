"""Real trials on the packaged pictures' names and labels, with their arithmetic counted."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ship.clip.frozen_clip import FrozenCLIP
from ship.cost import BlankCLIP, count_trial
from ship.datasets import load_dataset
from ship.features.feature_set import FeatureSet
from ship.trial.run import run_trial
from ship.trial_config import TrialConfig

VAE = {
    "name": "vae",
    "latent_dim": 16,
    "encoder_hidden": 64,
    "generator_hidden": 96,
    "epochs": 1,
    "batch_size": 16,
}
GENERATORS: Mapping[str, list[dict[str, Any]]] = {
    "vae": [
        VAE,
        {**VAE, "prompt": "instance_tokens", "early_stopping": 3, "name_position": "middle"},
        {**VAE, "prompt": "noise", "early_stopping": 3},
        {**VAE, "prompt": "global"},
        {**VAE, "prompt": "fixed"},
    ],
    "mlp_vae": [{**VAE, "name": "mlp_vae"}],
    "wgan": [
        {
            "name": "wgan",
            "latent_dim": 16,
            "generator_hidden": 96,
            "critic_hidden": 256,
            "n_critic": 2,
            "classification_weight": 1.0,
            "epochs": 1,
            "batch_size": 16,
        }
    ],
    "gaussian_text": [{"name": "gaussian_text"}],
    "gaussian_base": [{"name": "gaussian_base"}],
    "knn_gaussian": [{"name": "knn_gaussian"}],
    "real": [{"name": "real"}],
    "none": [{"name": "none"}],
}
_TWO = {"epochs": 2, "batch_size": 16}
FINETUNERS: Mapping[str, list[dict[str, Any]]] = {
    "zero_shot": [{"name": "zero_shot", "templates": "ensemble"}],
    "coop": [
        {"name": "coop", **_TWO},
        {"name": "coop", "class_specific": True, **_TWO},
        {"name": "coop", "name_position": "front", **_TWO},
    ],
    "cocoop": [{"name": "cocoop", "epochs": 1, "batch_size": 4}],
    "kgcoop": [{"name": "kgcoop", **_TWO}],
    "coop_dept": [{"name": "coop_dept", **_TWO}],
    "kgcoop_dept": [{"name": "kgcoop_dept", **_TWO}],
    "tcp": [{"name": "tcp", **_TWO}],
    "clip_adapter": [{"name": "clip_adapter", **_TWO}],
    "linear_adapter": [{"name": "linear_adapter", **_TWO}],
    "tip_adapter": [{"name": "tip_adapter"}],
    "tip_adapter_f": [{"name": "tip_adapter_f", **_TWO}],
    "linear_probe": [{"name": "linear_probe", **_TWO}],
    "zs_lp": [{"name": "zs_lp", **_TWO}],
    "clap": [{"name": "clap", **_TWO}],
    "lp_plus_plus": [{"name": "lp_plus_plus", "epochs": 2}],
    "gda": [
        {"name": "gda"},
        {"name": "gda", "precision": "pinv", "new_classes": "zero_shot"},
        {"name": "gda", "precision": "ks"},
    ],
}


class FlopCounter(TorchDispatchMode):
    """Counts operations by torch's own formulas.

    torch's FlopCounterMode cannot follow a gradient with respect to a leaf (WGAN's penalty).
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


@dataclass(frozen=True)
class Bench:
    """A backbone, the same without weights, and random features of the packaged pictures."""

    clip: FrozenCLIP
    blank: BlankCLIP
    features: FeatureSet

    def compare(
        self, config: TrialConfig, seeds: int = 2, targets: Mapping[str, FeatureSet] | None = None
    ) -> tuple[float, int]:
        """The operations that are told of the epochs that ran; those that they took."""
        targets = targets or {}
        # fused attention kernels have no formula: the plain one is two matrix products
        with FlopCounter() as counter, sdpa_kernel(SDPBackend.MATH):
            items = run_trial(config, range(seeds), self.features, self.clip, targets)
            ran = Counter(item.stage for item in items)
        found = count_trial(config, self.features, targets, self.blank, seeds)
        return found.flops(config, seeds, ran), counter.total


@cache
def pocket() -> Bench:
    """The packaged backbone: nearly all of the arithmetic is its text tower's."""
    clip = FrozenCLIP.load("pocket")
    return Bench(clip, BlankCLIP("pocket"), random_features(clip))


def random_features(clip: FrozenCLIP, views: int = 2) -> FeatureSet:
    """Names and labels of the packaged pictures; features have the shape and no meaning."""
    dataset = load_dataset("emoji")
    rng = np.random.default_rng(0)

    def features(split: str, *more: int) -> np.ndarray:
        x = rng.standard_normal((len(dataset.splits[split]), *more, clip.feature_dim))
        return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)

    labels = {name: split.labels for name, split in dataset.splits.items()}
    return FeatureSet(
        dataset.class_names,
        dataset.template,
        "emoji",
        "",
        clip.fingerprint,
        features("train", 1 + views),
        labels["train"],
        features("val"),
        labels["val"],
        features("test"),
        labels["test"],
    )


def target(features: FeatureSet, first: int, last: int) -> FeatureSet:
    """Some of the classes as a data set of their own."""
    shown = (features.test_labels >= first) & (features.test_labels < last)
    return replace(
        features,
        class_names=features.class_names[first:last],
        test=features.test[shown],
        test_labels=features.test_labels[shown] - first,
    )
