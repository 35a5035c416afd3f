"""FrozenCLIP: the packaged pocket backbone or any open_clip model, with its weights fixed."""

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ship.architectures import (
    BackboneError,
    ImagePrecision,
    Precision,
    drivable,
    find_config,
    load_tokenizer,
)
from ship.clip.arithmetic import products
from ship.clip.hub import preprocessing, weights_on_hub
from ship.clip.identity import fingerprint
from ship.clip.text_layers import UndrivableTower
from ship.clip.text_tower import TextTower
from ship.clip.weights_file import archive_weights, is_torchscript, loading_fault, quiet_torch
from ship.pocket import MODEL_DIR

# Weights drawn at random with a fixed seed: for benchmarks and tests of shapes, never for results.
RANDOM = "random"
_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")


# fp32, tf32: as the weights are. Otherwise the text blocks are cast, once, when they are loaded.
DTYPES: dict[Precision, torch.dtype | None] = {
    "fp32": None,
    "tf32": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


class FrozenCLIP:
    """A CLIP whose weights never change; images and prompt embeddings in, unit-norm features out.

    Attributes:
        name: "pocket" or NAME:PRETRAINED as given.
        precision: of the text blocks' arithmetic. Prompts, features and gradients are float32
            whatever it is. Under tf32 all products of a trial on CUDA round their factors to
            TensorFloat-32 (ten bits of mantissa); on a CPU it is fp32.
        fingerprint: hash of architecture and weights before any cast; part of every cache and
            ledger key.
        text: the text tower, which takes prompt embeddings.
        tokenizer: open_clip's BPE tokenizer.
        feature_dim: size of image and text features (text width may differ).
        logit_scale: the learned factor on cosines, as a plain number.
        preprocess: test-time transform, PIL picture -> (3, image_size, image_size).
        mean, std: the normalisation that preprocess ends with, per channel.
        image_precision: of the image tower's products; may be set at any time. Features are float32
            whatever it is.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Any,
        device: str = "cpu",
        precision: Precision = "fp32",
    ) -> None:
        from open_clip.tokenizer import SimpleTokenizer
        from open_clip.transform import PreprocessCfg, image_transform_v2

        if not isinstance(tokenizer, SimpleTokenizer):
            raise BackboneError(
                f"backbone {name!r}: its tokenizer is {type(tokenizer).__name__}, not CLIP's BPE"
            )
        self._model: Any = model.to(device).eval().requires_grad_(False)
        self.fingerprint = fingerprint(self._model, find_config(name.partition(":")[0]))
        self.precision: Precision = precision
        try:
            self.text = TextTower(self._model, DTYPES[precision])
        except UndrivableTower as why:
            raise BackboneError(f"backbone {name!r} cannot be driven by prompts: {why}") from why
        self.name = name
        self.device = torch.device(device)
        self.tokenizer = tokenizer
        settings = dict(self._model.visual.preprocess_cfg)
        self.preprocess: Callable[[Image.Image], Tensor] = image_transform_v2(
            PreprocessCfg(**settings), is_train=False
        )
        self._settings = settings
        self.image_precision: ImagePrecision = "fp32"
        size = settings["size"]
        self.image_size: int = size if isinstance(size, int) else int(size[0])
        self.mean: tuple[float, ...] = tuple(settings["mean"])
        self.std: tuple[float, ...] = tuple(settings["std"])
        self.logit_scale = float(self._model.logit_scale.detach().exp())
        self.feature_dim: int = self.encode_texts(["a"]).shape[1]
        self._tokens_at_start = self.text.tokens

    @classmethod
    def load(
        cls, name: str = "pocket", device: str = "cpu", precision: Precision = "fp32"
    ) -> "FrozenCLIP":
        """Load "pocket", or an open_clip "NAME:PRETRAINED" (a tag, or a local checkpoint's path).

        Weights that were trained with QuickGELU get it under the plain name too (ViT-B-16:openai
        is ViT-B-16-quickgelu:openai); a checkpoint's activation is the one its architecture is
        named for, but for OpenAI's own archives, whose activation is known.

        Args:
            name: what to load.
            device: where it runs.
            precision: of the text blocks. fp16 is meant for GPUs: CPUs compute it, slowly.

        Raises:
            BackboneError: no such model or tag, the weights cannot be had, or an undrivable tower.
        """
        check_backbone_name(name)
        previous = logging.root.manager.disable
        logging.disable(logging.ERROR)  # open_clip narrates through the root logger
        try:
            model, tokenizer = _create(name)
        except Exception as why:  # a broken checkpoint may raise anything
            reason = loading_fault(name, why)
            raise BackboneError(f"backbone {name!r} could not be loaded: {reason}") from why
        finally:
            logging.disable(previous)
        return cls(name, model, tokenizer, device, precision)

    @property
    def text_width(self) -> int:
        """Size of a token embedding."""
        return self.text.width

    @property
    def context_length(self) -> int:
        """Most tokens in a prompt, SOT and EOT included."""
        return self.text.context_length

    @property
    def preprocess_id(self) -> str:
        """Describes what is done to a picture before and in the image tower, beside its weights."""
        reduced = {} if self.image_precision == "fp32" else {"precision": self.image_precision}
        return json.dumps({**self._settings, **reduced}, sort_keys=True, default=str)

    @property
    def text_tokens(self) -> int:
        """Token positions that went through the text layers so far."""
        return self.text.tokens - self._tokens_at_start

    def arithmetic(self) -> AbstractContextManager[None]:
        """What training on this backbone runs in; it is put back behind each step of a trial."""
        return products(self.device, self.precision)

    @torch.inference_mode()
    def encode_images(
        self, pictures: Float[Tensor, "n 3 height width"]
    ) -> Float[Tensor, "n feature"]:
        """Unit-norm features of preprocessed pictures."""
        kind, reduced = self.device.type, self.image_precision == "bf16"
        with torch.autocast(kind, torch.bfloat16) if reduced else nullcontext():
            features: Tensor = self._model.encode_image(pictures.to(self.device))
        return F.normalize(features.float(), dim=-1)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "n feature"]:
        """Unit-norm features of whole sentences, trimmed at the longest EOT."""
        ids = self.tokenizer(list(texts)).to(self.device)
        eot = (ids == self.tokenizer.eot_token_id).int().argmax(dim=1)
        return self.text.encode(self.text.embed(ids), eot)


def _create(name: str) -> tuple[nn.Module, Any]:
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    if name == "pocket":
        source = f"local-dir:{MODEL_DIR}"
        model, _, _ = open_clip.create_model_and_transforms(source)
        return model, load_tokenizer(name)
    architecture, _, pretrained = name.partition(":")
    if pretrained == RANDOM:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = open_clip.create_model(architecture, load_weights=False)
    elif pretrained not in open_clip.list_pretrained_tags_by_model(architecture) and (
        is_torchscript(pretrained)
    ):
        model = _from_archive(architecture, pretrained)
    else:
        # open_clip only warns where the weights' activation is not the architecture's
        own = bool(get_pretrained_cfg(architecture, pretrained).get("quick_gelu", False))
        file = weights_on_hub(architecture, pretrained)
        with quiet_torch():
            model = open_clip.create_model(
                architecture,
                pretrained=file or pretrained,
                force_quick_gelu=own,
                force_preprocess_cfg=preprocessing(architecture, pretrained),
            )
    return model, load_tokenizer(name)


def _from_archive(architecture: str, path: str) -> nn.Module:
    """A model with the weights of a TorchScript archive, the form that OpenAI's files have."""
    import open_clip

    weights = archive_weights(path)
    sizes = [weights.pop(key, None) for key in ("input_resolution", "context_length", "vocab_size")]
    # OpenAI's archives alone keep these beside the weights, and all of them have QuickGELU
    openai = all(size is not None for size in sizes)
    model: nn.Module = open_clip.create_model(
        architecture, load_weights=False, force_quick_gelu=openai
    )
    model.load_state_dict(weights)
    return model


def check_backbone_name(name: str) -> None:
    """Check a backbone's name, and that prompts can drive it, without loading its weights.

    Raises:
        BackboneError: one line with the name and the nearest choices, or what stands in the way.
    """
    if name == "pocket":
        return
    import open_clip

    architecture, _, pretrained = name.partition(":")
    known = open_clip.list_models()
    if architecture not in known:
        near = get_close_matches(architecture, ["pocket", *known], n=3)
        hint = f"nearest: {', '.join(near)}" if near else "see ship-sweep --list-backbones"
        if not pretrained and _is_path(name):
            hint = f"a file needs the architecture whose weights it has: ViT-B-16:{name}"
        raise BackboneError(
            f"must be pocket or an open_clip NAME:PRETRAINED, got {name!r} ({hint})"
        )
    why = drivable(architecture)
    if why is not None:
        raise BackboneError(f"must be a backbone that prompts can drive, got {name!r} ({why})")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if pretrained == RANDOM or pretrained in tags:
        return
    plain = architecture.removesuffix("-quickgelu")
    if plain != architecture and pretrained in open_clip.list_pretrained_tags_by_model(plain):
        raise BackboneError(
            f"must be {plain}:{pretrained}, whose weights were trained without QuickGELU, "
            f"got {name!r}"
        )
    if not Path(pretrained).is_file() or not pretrained:
        hint = "choices: " + ", ".join([*tags, "a checkpoint file"])
        if pretrained and Path(pretrained).is_dir():
            hint = f"{pretrained} is a folder: name the checkpoint file in it"
        elif _is_path(pretrained):
            hint = f"no such file: {pretrained}"
        must = f"must name pretrained weights as {architecture}:PRETRAINED"
        raise BackboneError(f"{must}, got {name!r} ({hint})")


def _is_path(name: str) -> bool:
    """Whether somebody means a file by this, be it there or not."""
    return "/" in name or name.lower().endswith(_ENDINGS)
