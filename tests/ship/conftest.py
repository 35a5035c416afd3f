"""A tiny random CLIP and its features, so that all tests take milliseconds."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer

from ship.architectures import Precision, list_architectures
from ship.clip import FrozenCLIP
from ship.protocols import Protocol, build_protocol
from ship.subsets import FeatureSet
from ship.tasks import Task
from ship.testing.bench import CLASSES, make_up_features
from ship.trial_config import TrialConfig

WORDS = CLASSES


def build_clip(
    dtype: torch.dtype = torch.float32,
    *,
    feature: int = 16,
    width: int = 24,
    layers: int = 3,
    device: str = "cpu",
    precision: Precision = "fp32",
    bidirectional: bool = False,
) -> FrozenCLIP:
    """A random CLIP; by default text width (24), feature size (16) and image size differ."""
    vision = {"layers": 1, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}
    text = {"context_length": 24, "vocab_size": 49408, "width": width, "heads": 2, "layers": layers}
    text |= {"no_causal_mask": True} if bidirectional else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIP(embed_dim=feature, vision_cfg=vision, text_cfg=text)
        # increase the distances between features of different names, which nearly coincide at init
        torch.nn.init.normal_(model.token_embedding.weight, std=0.5)
    model.visual.preprocess_cfg = {"size": (32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    tokenizer = SimpleTokenizer(context_length=24)
    return FrozenCLIP("tiny", model.to(dtype), tokenizer, device, precision)


@pytest.fixture(scope="session")
def clip() -> FrozenCLIP:
    """The tiny CLIP in single precision."""
    return build_clip()


@pytest.fixture(scope="session")
def clip64() -> FrozenCLIP:
    """The tiny CLIP in double precision."""
    return build_clip(torch.float64)


def build_features(clip: FrozenCLIP, views: int = 2) -> FeatureSet:
    """Make noisy copies of class text features, read-only like cached image features."""
    actual = make_up_features(clip)
    return replace(
        actual, dataset="tiny", dataset_fingerprint="d", train=actual.train[:, : 1 + views]
    )


@pytest.fixture(scope="session")
def features(clip: FrozenCLIP) -> FeatureSet:
    """Features of the tiny dataset."""
    return build_features(clip)


def backbones() -> list[str]:
    """Return every name that FrozenCLIP.load accepts, except for checkpoint files."""
    known = [entry for entry in list_architectures() if entry.refusal is None]
    return ["pocket", *(f"{entry.name}:{tag}" for entry in known for tag in entry.tags)]


def final_task(
    clip: FrozenCLIP, features: FeatureSet, seeds: Sequence[int], shots: int = 2
) -> Task:
    """Return the base-to-new task that is tested: the first half of the classes is seen."""
    return _protocol(clip, features, seeds, shots).tested_models[0][0].task


def selection_task(
    clip: FrozenCLIP, features: FeatureSet, seeds: Sequence[int], shots: int = 2
) -> Task:
    """Return the task of selection, whose seeds differ in their pseudo-new classes."""
    return _protocol(clip, features, seeds, shots).selection.task


def all_seen(task: Task) -> Task:
    """Return the first four classes of a final task, all with images, as in few_shot."""
    return replace(
        task,
        class_names=task.class_names[:4],
        text_features=task.text_features[:4],
        seen=task.seen[:, :4],
        synthesize_seen=True,
    )


def _protocol(clip: FrozenCLIP, features: FeatureSet, seeds: Sequence[int], shots: int) -> Protocol:
    dtype = next(clip._model.parameters()).dtype
    return build_protocol(TrialConfig(shots=shots), seeds, features, {}, clip, dtype)
