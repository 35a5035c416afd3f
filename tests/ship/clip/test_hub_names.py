"""Backbones hf-hub:ORG/MODEL equal open_clip's.

A fake hub has repositories as folders, and copies their files into the hub's cache.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import huggingface_hub
import open_clip
import pytest
import torch
from huggingface_hub import errors
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from PIL import Image
from safetensors.torch import save_file

from harness.planning.fingerprints import _make_cache_key
from ship.architectures import BackboneError, truncate_texts
from ship.clip import FrozenCLIP, check_backbone_name
from ship.trial.model import _may_load
from tests.ship.clip.test_weights import CONFIG
from tests.ship.hub_tokenizers import write_tokenizer

# Older releases have no separate class for missing files.
MissingFile: Any = getattr(errors, "RemoteEntryNotFoundError", errors.EntryNotFoundError)

NAME = "hf-hub:org/tiny-clip"
PREPROCESSING = {"mean": [0.1, 0.2, 0.3], "std": [0.3, 0.2, 0.1], "interpolation": "bilinear"}


class Hub:
    """A stand-in of the hub.

    Attributes:
        folder: Folder of the repositories, ORG/MODEL/FILE.
        cache: Folder of the hub's cache.
        requests: Requested files, in order.
        error: Error of every request, if there is one.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache
        self.requests: list[str] = []
        self.error: Exception | None = None

    def metadata(self, url: str, *, timeout: float) -> None:
        """Fail as the hub does."""
        repository, name = url.removeprefix("https://huggingface.co/").split("/resolve/main/")
        self.requests.append(name)
        if self.error is not None:
            raise self.error
        if not (self.folder / repository / name).is_file():
            raise MissingFile(f"404 Client Error: {name}", response=Mock())

    def download(self, repo_id: str, filename: str, **_: Any) -> str:
        """Copy a file into the cache and return its path."""
        source = self.folder / repo_id / filename
        if not source.is_file():
            raise MissingFile(f"404 Client Error: {filename}", response=Mock())
        repository = self.cache / f"models--{repo_id.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text("c0ffee")
        path = repository / "snapshots" / "c0ffee" / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, path)
        return str(path)

    def add(self, name: str, config: Any, weights: str | None) -> None:
        """Add a repository of the tiny architecture. `weights` is the name of their file."""
        folder = self.folder / name.removeprefix("hf-hub:")
        folder.mkdir(parents=True)
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        if weights is None:
            return
        torch.manual_seed(0)
        state = open_clip.create_model("tiny", load_weights=False).state_dict()
        if weights.endswith(".safetensors"):
            save_file(state, folder / weights)
        else:
            torch.save(state, folder / weights)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """A stand-in of the hub with the repository NAME, and an empty cache."""
    actual = Hub(tmp_path / "hub", tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(actual.cache))
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", actual.metadata)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", actual.download)
    monkeypatch.setattr(open_clip.pretrained, "hf_hub_download", actual.download)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", CONFIG)
    config = {"model_cfg": {**CONFIG, "quick_gelu": True}, "preprocess_cfg": PREPROCESSING}
    actual.add(NAME, config, "open_clip_model.safetensors")
    return actual


def test_repository_equals_open_clips_model(hub: Hub) -> None:
    """Features, activation and preprocessing equal those of open_clip's model."""
    model, _, preprocess = open_clip.create_model_and_transforms(NAME)
    tokenizer, texts = open_clip.get_tokenizer(NAME), ["a photo of a cat.", "dog"]
    image = Image.effect_noise((40, 50), 90).convert("RGB")
    clip = FrozenCLIP.load(NAME)
    assert torch.equal(clip.preprocess(image), preprocess(image))
    assert (clip.mean, clip.std) == (tuple(PREPROCESSING["mean"]), tuple(PREPROCESSING["std"]))
    model.eval()
    with torch.no_grad():
        expected = model.encode_text(tokenizer(texts), normalize=True)
        pixels = preprocess(image)[None]
        seen = model.encode_image(pixels, normalize=True)
    torch.testing.assert_close(clip.encode_texts(texts), expected)
    torch.testing.assert_close(clip.encode_images(pixels), seen)
    assert truncate_texts(NAME, ["A  Cat."]) == ["a cat ."]


def test_repository_with_a_hugging_face_tokenizer(hub: Hub) -> None:
    """The tokenizer is read from its own repository and cached, too."""
    text = {**CONFIG["text_cfg"], "hf_tokenizer_name": "org/tokens", "no_causal_mask": True}
    text |= {"pool_type": "last", "tokenizer_kwargs": {"clean": "canonicalize"}}
    config = {**CONFIG, "text_cfg": text, "custom_text": True, "init_logit_bias": -10}
    open_clip.factory._MODEL_CONFIGS["tiny"] = config
    hub.add("hf-hub:org/siglip", {"model_cfg": config}, "open_clip_model.safetensors")
    write_tokenizer(hub.folder / "org/tokens", "siglip")
    clip, texts = FrozenCLIP.load("hf-hub:org/siglip"), ["A photo of a dog.", "dog"]
    rows = torch.as_tensor(clip.tokenizer(texts))
    assert rows[1].tolist() == [6, *[1] * 11]
    with torch.no_grad():
        expected = clip._model.encode_text(rows, normalize=True)
    torch.testing.assert_close(clip.encode_texts(texts), expected)
    hub.error = OSError("no route")
    assert FrozenCLIP.load("hf-hub:org/siglip").fingerprint == clip.fingerprint
    assert truncate_texts("hf-hub:org/siglip", texts) == ["a photo of a dog", "dog"]


def test_weights_are_downloaded_once(hub: Hub) -> None:
    """A cached repository needs no request; older file names work, too."""
    FrozenCLIP.load(NAME)
    assert hub.requests == ["open_clip_config.json", "open_clip_model.safetensors"]
    hub.error = OSError("Name or service not known")
    FrozenCLIP.load(NAME)
    assert len(hub.requests) == 2
    hub.error = None
    hub.add("hf-hub:org/older", {"model_cfg": CONFIG}, "open_clip_pytorch_model.bin")
    FrozenCLIP.load("hf-hub:org/older")
    assert hub.requests[3:] == ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]


def test_fingerprint_depends_on_weights_not_on_their_location(hub: Hub) -> None:
    """Equal weights from the hub and from a file have one fingerprint."""
    path = hub.folder / "org/tiny-clip/open_clip_model.safetensors"
    before = _make_cache_key(NAME)
    clip = FrozenCLIP.load(NAME)
    assert clip.fingerprint != FrozenCLIP.load(f"tiny:{path}").fingerprint  # QuickGELU
    hub.add("hf-hub:org/plain", {"model_cfg": CONFIG}, "open_clip_model.safetensors")
    assert (
        FrozenCLIP.load("hf-hub:org/plain").fingerprint
        == FrozenCLIP.load(f"tiny:{path}").fingerprint
    )
    assert _make_cache_key(NAME) == _make_cache_key(NAME) != before


def test_trained_models_load_only_cached_repositories(hub: Hub) -> None:
    """A file of a trained model is untrusted input and cannot start a download."""
    assert not _may_load(NAME)
    FrozenCLIP.load(NAME)
    assert _may_load(NAME) and not _may_load("hf-hub:../../etc/x")


def no_weights(hub: Hub) -> str:
    """Create a repository that has only a configuration."""
    hub.add("hf-hub:org/empty", {"model_cfg": CONFIG}, None)
    return "hf-hub:org/empty"


def configured(config: Any) -> Callable[[Hub], str]:
    """Create a repository with a configuration."""

    def add(hub: Hub) -> str:
        hub.add("hf-hub:org/other", config, None)
        return "hf-hub:org/other"

    return add


def failing(error: Exception) -> Callable[[Hub], str]:
    """Let all requests fail with an error."""

    def fail(hub: Hub) -> str:
        hub.error = error
        return NAME

    return fail


COCA = {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "embed_cls": True}}
NEWER = {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "rotary": True}}


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda _: "hf-hub:tiny", "must be hf-hub:ORG/MODEL, got 'hf-hub:tiny'"),
        (lambda _: f"{NAME}:openai", "must be hf-hub:ORG/MODEL, got"),
        (lambda _: "hf-hub:org/absent", "org/absent .* has no open_clip_config.json"),
        (no_weights, "org/empty .* has no open_clip_model.safetensors or open_clip_pytorch_model"),
        (configured({"model_cfg": COCA}), r"accepts prompt embeddings, got .* \(.*class embedding"),
        (configured({"model_cfg": NEWER}), "rejects its text_cfg: .*rotary"),
        (configured([1]), "has no model_cfg"),
        (failing(OSError("no route\nhere")), r"its configuration is not in .* \(no route\)\."),
        (failing(GatedRepoError("401", response=Mock())), "org/tiny-clip is gated"),
        (failing(RepositoryNotFoundError("404", response=Mock())), "no public model org/tiny-clip"),
    ],
)
def test_unusable_repository_is_one_line(
    hub: Hub, prepare: Callable[[Hub], str], message: str
) -> None:
    """The message has the name or the repository, and the reason."""
    name = prepare(hub)
    with pytest.raises(BackboneError, match=message) as caught:
        FrozenCLIP.load(name)
    assert "\n" not in str(caught.value)
    if "weights" not in message and "safetensors" not in message:
        with pytest.raises(BackboneError, match=message):
            check_backbone_name(name)
