"""Pretrained tags and checkpoint files: their activation, and broken files."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.pretrained import get_pretrained_cfg
from open_clip.transformer import QuickGELU
from torch import nn

from ship.architectures import BackboneError
from ship.clip import FrozenCLIP, check_backbone_name
from tests.case_files import load_cases
from tests.ship.conftest import backbones

CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"layers": 1, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 2},
}


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A tiny architecture with and without QuickGELU, and one file for both tags."""
    path = tmp_path / "weights.pt"
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", CONFIG)
    quick = {**CONFIG, "quick_gelu": True}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-quickgelu", quick)
    # an entry with a file is not downloaded
    openai = {"file": str(path), "quick_gelu": True}
    monkeypatch.setitem(
        open_clip.pretrained._PRETRAINED, "tiny", {"openai": openai, "laion": {"file": str(path)}}
    )
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-quickgelu", {"openai": openai})
    torch.manual_seed(0)
    torch.save(open_clip.create_model("tiny", load_weights=False).state_dict(), path)
    return path


def activations(clip: FrozenCLIP) -> set[type[nn.Module]]:
    """Return the kinds of activation in both towers."""
    return {type(m) for m in clip._model.modules() if isinstance(m, nn.GELU | QuickGELU)}


def test_activation_of_a_tag_follows_its_weights(weights: Path) -> None:
    """A plain name with QuickGELU weights loads the model of the -quickgelu name."""
    plain, named = FrozenCLIP.load("tiny:openai"), FrozenCLIP.load("tiny-quickgelu:openai")
    other = FrozenCLIP.load("tiny:laion")
    assert activations(plain) == activations(named) == {QuickGELU}
    assert activations(other) == {nn.GELU}
    assert plain.fingerprint == named.fingerprint != other.fingerprint
    model = open_clip.create_model("tiny-quickgelu", pretrained=str(weights)).eval()
    with torch.no_grad():
        expected = model.encode_text(plain.tokenizer(["a cat"]), normalize=True)
    torch.testing.assert_close(plain.encode_texts(["a cat"]), expected)
    assert (other.encode_texts(["a cat"]) - expected).abs().max() > 1e-4


def test_every_tag_has_the_activation_of_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """QuickGELU is built if and only if the weights were trained with it."""
    requests: list[bool] = []

    def record(
        architecture: str, *, pretrained: str, force_quick_gelu: bool, force_preprocess_cfg: Any
    ) -> None:
        named = open_clip.get_model_config(architecture).get("quick_gelu", False)
        requests.append(named or force_quick_gelu)
        raise RuntimeError("not built")

    monkeypatch.setattr(open_clip, "create_model", record)
    monkeypatch.setattr("ship.clip.weights._fetch_hub_weights", lambda *_: None)
    names = [name for name in backbones() if name != "pocket"]
    for name in names:
        with pytest.raises(BackboneError, match="not built"):
            FrozenCLIP.load(name)
    trained = [get_pretrained_cfg(*name.split(":")).get("quick_gelu", False) for name in names]
    assert requests == trained and set(trained) == {True, False}


def test_checkpoint_has_the_activation_of_the_named_architecture(weights: Path) -> None:
    """A local checkpoint does not contain its activation, so the name decides."""
    assert activations(FrozenCLIP.load(f"tiny:{weights}")) == {nn.GELU}
    clip = FrozenCLIP.load(f"tiny-quickgelu:{weights}")
    assert activations(clip) == {QuickGELU}
    for key, value in torch.load(weights).items():
        assert torch.equal(value, clip._model.state_dict()[key]), key


def archive(model: nn.Module, path: Path, *, openai: bool) -> None:
    """Save weights as a TorchScript archive; OpenAI's also contains the model's sizes."""
    sizes = {"input_resolution": 32, "context_length": 12, "vocab_size": 49408}
    for key, value in sizes.items() if openai else ():
        vars(model).pop(key, None)
        model.register_buffer(key, torch.tensor(value))
    model.forward, model.attn_mask = lambda x: x, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(model, torch.ones(1)).save(str(path))


@pytest.mark.parametrize("openai", [True, False])
def test_torchscript_archives_are_loaded(weights: Path, tmp_path: Path, openai: bool) -> None:
    """OpenAI's archive uses QuickGELU; another archive uses the named activation."""
    model = open_clip.create_model("tiny", pretrained=str(weights)).half()
    state = dict(model.state_dict())
    archive(model, tmp_path / "archive.pt", openai=openai)
    clip = FrozenCLIP.load(f"tiny:{tmp_path / 'archive.pt'}")
    assert activations(clip) == {QuickGELU if openai else nn.GELU}
    for key, value in clip._model.state_dict().items():
        assert torch.equal(value, state[key].float()), key


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        *load_cases(__file__, "files.yaml"),
        ("w.pt", pickle.dumps({"a": len}, 4), "is not a checkpoint, or contains pickled"),
        ("w.pt", {"a": len}, "is not a checkpoint, or contains pickled"),
        ("w.pt", {"epoch": 3}, "does not map names to weights"),
        ("w.pt", torch.ones(3), "does not map names to weights"),
        ("w.pt", {"ln_final.weight": torch.ones(3)}, "does not fit tiny: missing weights: "),
    ],
)
def test_wrong_checkpoint_is_one_line_with_advice(
    weights: Path, tmp_path: Path, capfd: Any, name: str, content: object, words: str
) -> None:
    """The message has the file, the fault and a file that would be accepted."""
    path = tmp_path / "broken" / name
    path.parent.mkdir()
    if isinstance(content, str | bytes):
        path.write_bytes(content.encode("latin-1") if isinstance(content, str) else content)
    else:
        torch.save(content, path)
    with pytest.raises(BackboneError, match="could not be loaded: ") as caught:
        FrozenCLIP.load(f"tiny:{path}")
    line = str(caught.value)
    assert f"{path} {words}" in line and "\n" not in line and len(line) < 300 + 2 * len(str(path))
    assert line.endswith(". Use a .pt or .safetensors file with a state_dict of tiny")
    assert capfd.readouterr() == ("", "")


def test_message_has_the_shapes_of_weights_that_do_not_fit(weights: Path, tmp_path: Path) -> None:
    """Shapes are tuples, so that a scalar's shape is visible, too."""
    state = {**torch.load(weights), "x": torch.ones(1), "logit_scale": torch.ones(2)}
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(BackboneError) as caught:
        FrozenCLIP.load(f"tiny:{tmp_path / 'w.pt'}")
    differences = (
        "unknown weights: 1 (e.g. x); wrong shapes: 1 (e.g. logit_scale: expected (), got (2,))"
    )
    assert f"does not fit tiny: {differences}. Use a " in str(caught.value)


def test_weights_of_another_architecture_are_recognized(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message suggests the architecture whose names and shapes match the weights."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "other", {**CONFIG, "embed_dim": 8})
    model = open_clip.create_model("other", load_weights=False)
    torch.save(model.state_dict(), tmp_path / "other.pt")
    archive(model, tmp_path / "archive.pt", openai=True)
    for path in (tmp_path / "other.pt", tmp_path / "archive.pt"):
        with pytest.raises(BackboneError) as caught:
            FrozenCLIP.load(f"tiny:{path}")
        assert str(caught.value).endswith(
            f"{path} has the weights of another architecture. Use other:{path}"
        )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tiny:{}", "{} is a folder; name the checkpoint file in it"),
        ("tiny:{}/none.pt", "no such file: {}/none.pt"),
        ("{}/w.pt", "put the architecture of the file before its path, e.g. ViT-B-16:{}/w.pt"),
    ],
)
def test_backbone_path_without_a_file_is_explained(
    weights: Path, tmp_path: Path, name: str, words: str
) -> None:
    """A folder, a missing file and a file without architecture each get advice."""
    with pytest.raises(BackboneError) as caught:
        check_backbone_name(name.format(tmp_path))
    assert str(caught.value).endswith(f"({words.format(tmp_path)})")


def test_weights_of_custom_text_architectures_are_recognized(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In open_clip's CustomTextCLIP, names of the text tower's weights begin with "text."."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "other", {**CONFIG, "custom_text": True})
    path = tmp_path / "other.pt"
    torch.save(open_clip.create_model("other", load_weights=False).state_dict(), path)
    with pytest.raises(BackboneError, match=f"another architecture. Use other:{path}"):
        FrozenCLIP.load(f"tiny:{path}")
