"""Weights of pretrained tags are read from the hub's cache, or the error is one line."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import pytest
import torch
from open_clip.pretrained import get_pretrained_cfg
from safetensors.torch import save_file

from ship.architectures import BackboneError
from ship.clip import FrozenCLIP
from tests.ship.clip.test_weights import CONFIG
from tests.ship.conftest import backbones

OPENAI = {"mean": (0.48, 0.46, 0.41), "std": (0.27, 0.26, 0.28), "quick_gelu": True}


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of the hub, and a tiny architecture with tags whose weights are on it."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", CONFIG)
    tags = {
        "openai": {**OPENAI, "hf_hub": "someone/tiny/"},
        "named": {"hf_hub": "someone/named/epoch_9.pth"},
    }
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", tags)
    return folder


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Requests to the hub, which is not reached."""
    urls: list[str] = []

    def ask(url: str, *, timeout: float) -> None:
        urls.append(url.partition("/someone/")[2])
        raise OSError("Name or service not known\nand a traceback")

    def download(entry: Any) -> str:
        raise AssertionError("a download was tried")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", ask)
    monkeypatch.setattr(open_clip.pretrained, "download_pretrained", download)
    return urls


def model() -> torch.nn.Module:
    """Create a model of the tiny architecture, always the same."""
    torch.manual_seed(0)
    actual: torch.nn.Module = open_clip.create_model(
        "tiny", load_weights=False, force_quick_gelu=True
    )
    return actual


def keep(cache: Path, repository: str, name: str) -> Path:
    """Write weights into the cache as the hub's library does."""
    below = cache / f"models--{repository.replace('/', '--')}"
    (below / "refs").mkdir(parents=True, exist_ok=True)
    (below / "refs" / "main").write_text("c0ffee")
    path = below / "snapshots" / "c0ffee" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".safetensors"):
        save_file(model().state_dict(), path)
    else:
        torch.save(model().state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("tag", "repository", "name"),
    [
        ("openai", "someone/tiny", "open_clip_model.safetensors"),
        ("openai", "someone/tiny", "open_clip_pytorch_model.bin"),
        ("named", "someone/named", "epoch_9.safetensors"),
        ("named", "someone/named", "epoch_9.pth"),
    ],
)
def test_cached_weights_are_loaded_without_requests(
    cache: Path, requests: list[str], tag: str, repository: str, name: str
) -> None:
    """Weights in any of the hub's files are loaded from the cache without a request."""
    keep(cache, repository, name)
    clip = FrozenCLIP.load(f"tiny:{tag}")
    assert requests == []
    for key, value in model().state_dict().items():
        assert torch.equal(clip._model.state_dict()[key], value)


def test_unreachable_hub_is_one_line_with_advice(cache: Path, requests: list[str]) -> None:
    """The hub is asked once, no download is tried, and the message says what to do."""
    with pytest.raises(BackboneError) as caught:
        FrozenCLIP.load("tiny:openai")
    assert str(caught.value) == (
        f"backbone 'tiny:openai' could not be loaded: its weights are not in {cache}, and the hub "
        "does not respond (Name or service not known). On a machine with a network, run ship-sweep "
        "prefetch downloads --space FILE, with HF_HOME set to a folder that this machine can read. "
        "Or use a checkpoint file instead of the tag: tiny:FILE"
    )
    assert requests == ["tiny/resolve/main/open_clip_model.safetensors"]


def test_preprocessing_equals_open_clips_for_every_tag(cache: Path, requests: list[str]) -> None:
    """Each kind of preprocessing of a pretrained tag is set as by open_clip."""
    path = keep(cache, "someone/tiny", "open_clip_model.safetensors")
    entries = [get_pretrained_cfg(*name.split(":")) for name in backbones()[1:]]
    places = ("url", "hf_hub")
    kinds = {json.dumps({k: v for k, v in e.items() if k not in places}) for e in entries}
    assert len(kinds) > 3
    result = set()
    for kind in kinds:
        entry = {**json.loads(kind), "file": str(path)}
        open_clip.pretrained._PRETRAINED["tiny"]["there"] = entry
        quick = bool(entry.get("quick_gelu"))
        built = open_clip.create_model("tiny", pretrained="there", force_quick_gelu=quick)
        expected = built.visual.preprocess_cfg
        del entry["file"]
        open_clip.pretrained._PRETRAINED["tiny"]["there"] = {**entry, "hf_hub": "someone/tiny/"}
        clip = FrozenCLIP.load("tiny:there")
        assert json.loads(clip.preprocess_id) == json.loads(json.dumps(expected, default=str))
        result.add(clip.preprocess_id)
    assert len(result) > 1 and requests == []


# Run in a separate process: the hub's library reads HF_HUB_OFFLINE when it is imported.
OFFLINE = """
import sys
import open_clip
from ship.architectures import BackboneError
from ship.clip import FrozenCLIP
from tests.ship.clip.test_weights import CONFIG

open_clip.factory._MODEL_CONFIGS["tiny"] = CONFIG
tags = {name: {"hf_hub": f"someone/{name}/"} for name in ("cached", "absent")}
open_clip.pretrained._PRETRAINED["tiny"] = tags
FrozenCLIP.load("tiny:cached")
try:
    FrozenCLIP.load("tiny:absent")
except BackboneError as error:
    sys.exit(str(error))
"""


@pytest.mark.slow
def test_offline_mode_loads_cached_files_and_names_missing_ones(cache: Path) -> None:
    """With HF_HUB_OFFLINE=1 no request is sent; missing files are named."""
    keep(cache, "someone/cached", "open_clip_model.safetensors")
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(cache.parent),
        "HF_ENDPOINT": "http://127.0.0.1:9",  # where no server listens
    }
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        environment.pop(name, None)
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE],
        env=environment,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert time.monotonic() - begin < 60
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "backbone 'tiny:absent' could not be loaded: its weights are not in" in done.stderr
    assert "offline mode is enabled" in done.stderr and "prefetch downloads" in done.stderr
