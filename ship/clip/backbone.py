"""FrozenCLIP: the packaged pocket backbone or any open_clip model."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ship.architectures import ImagePrecision, Precision, find_config, get_padding_id, split_name
from ship.clip.bidirectional import BidirectionalTower
from ship.clip.causal import CausalTower
from ship.clip.text import TextTower, get_text_module
from ship.clip.weights import check_backbone_name, hash_model, load_model


class FrozenCLIP:
    """A CLIP with frozen weights that maps images and prompt embeddings to unit-norm features.

    Attributes:
        name: Name in the configuration: "pocket", NAME:PRETRAINED or hf-hub:ORG/MODEL.
        device: Device of the weights.
        precision: Precision of the text blocks. Prompts, features and gradients are always float32.
            With tf32, all matrix products of a trial on CUDA use TensorFloat-32 (10-bit mantissa);
            on a CPU tf32 equals fp32.
        fingerprint: Hash of the architecture and of the uncast weights, used in the keys of caches
            and configurations. It includes the tokenizer if that is not CLIP's, and the padding
            token if the text tower reads padding.
        text: Text tower, which accepts prompt embeddings.
        tokenizer: open_clip's BPE tokenizer, or ship.hub_tokenizer.HubTokenizer.
        feature_dim: Size of image and text features (the text width may differ).
        logit_scale: Learned factor that turns cosines into logits.
        text_width: Size of a token embedding.
        context_length: Maximum number of tokens in a prompt, including SOT and EOT.
        preprocess: Test-time transform, PIL image -> (3, size, size).
        mean: Mean per channel of the normalization at the end of `preprocess`.
        std: Standard deviation per channel of the same normalization.
        image_precision: Precision in which the image tower computes; may be changed at any time.
            Features are always float32.
        image_device: Type of the device that encodes the images, "cpu" or "cuda", for
            `preprocess_id`. It does not move anything. Defaults to the type of `device`. Set it if
            other processes encode the images on another type of device.

    Example:
        >>> clip = FrozenCLIP.load("pocket")
        >>> features = clip.encode_texts(["a photo of a cat.", "a photo of a dog."])
        >>> features.shape == (2, clip.feature_dim)
        True
    """

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Any,
        device: str = "cpu",
        precision: Precision = "fp32",
    ) -> None:
        from open_clip.transform import PreprocessCfg, image_transform_v2

        model = model.eval().requires_grad_(False)
        config, tokenizer_id = find_config(split_name(name)[0]), _get_tokenizer_id(model, tokenizer)
        # before the move to the device: the hash is computed on the CPU
        self.fingerprint = hash_model(model, config, tokenizer_id)
        self._model: Any = model.to(device)
        # fp32 and tf32 leave the weights unchanged
        text_dtype = torch.bfloat16 if precision == "bf16" else None
        self.text = build_text_tower(self._model, tokenizer, text_dtype)
        self.text_width, self.context_length = self.text.width, self.text.context_length
        self.name = name
        self.device = torch.device(device)
        self.precision: Precision = precision
        self.image_precision: ImagePrecision = "fp32"
        self.image_device = self.device.type
        self.tokenizer = tokenizer
        self._preprocess_config = dict(self._model.visual.preprocess_cfg)
        self.preprocess: Callable[[Image.Image], Tensor] = image_transform_v2(
            PreprocessCfg(**self._preprocess_config), is_train=False
        )
        self.mean: tuple[float, ...] = tuple(self._preprocess_config["mean"])
        self.std: tuple[float, ...] = tuple(self._preprocess_config["std"])
        self.logit_scale = float(self._model.logit_scale.detach().exp())
        self.feature_dim: int = self.encode_texts(["a"]).shape[1]

    @classmethod
    def load(
        cls, name: str = "pocket", device: str = "cpu", precision: Precision = "fp32"
    ) -> "FrozenCLIP":
        """Load a backbone: "pocket", an open_clip "NAME:PRETRAINED", or "hf-hub:ORG/MODEL".

        PRETRAINED is a tag or the path of a checkpoint. ORG/MODEL is a repository on the Hugging
        Face Hub with a configuration and weights for open_clip.

        The weights of a tag get the activation that they were trained with: ViT-B-16:openai equals
        ViT-B-16-quickgelu:openai. A local checkpoint gets the activation of the named architecture,
        or QuickGELU if it is one of OpenAI's own archives.

        Args:
            name: Name of the backbone.
            device: Device of the weights.
            precision: Precision of the text blocks. fp16 is not supported, because its gradients
                would need loss scaling.

        Returns:
            The backbone.

        Raises:
            BackboneError: The model or tag does not exist, its text tower does not accept prompt
                embeddings, or its weights or tokenizer cannot be loaded.
        """
        check_backbone_name(name)
        previous_level = logging.root.manager.disable
        logging.disable(logging.ERROR)  # open_clip logs its progress to the root logger
        try:
            with warnings.catch_warnings(action="ignore"):  # torch warns about unusual pickles
                model, tokenizer = load_model(name)
        finally:
            logging.disable(previous_level)
        return cls(name, model, tokenizer, device, precision)

    @property
    def preprocess_id(self) -> str:
        """JSON with the settings that image features depend on besides the weights, for cache keys.

        These are the preprocessing, `image_precision` unless it is fp32, and `image_device` unless
        it is "cpu": features computed on a CPU and on a GPU differ slightly.
        """
        options: dict[str, str] = {}
        if self.image_precision != "fp32":
            options["precision"] = self.image_precision
        if self.image_device != "cpu":
            options["device"] = self.image_device
        return json.dumps({**self._preprocess_config, **options}, sort_keys=True, default=str)

    @property
    def n_processed_tokens(self) -> int:
        """Number of token positions that have passed through the text tower so far."""
        return self.text.n_tokens // self.text.depth

    @contextmanager
    def use_precision(self) -> Iterator[None]:
        """Compute CUDA matrix products in TensorFloat-32 if `precision` is tf32, else in float32.

        Trials train inside this context. It sets torch's global precision of matrix products, which
        is restored on exit. On other devices it has no effect.
        """
        if self.device.type != "cuda":
            yield
            return
        with _matmul_precision("high" if self.precision == "tf32" else "highest"):
            yield

    @torch.inference_mode()
    def encode_images(
        self, images: Float[Tensor, "n 3 height width"]
    ) -> Float[Tensor, "n feature"]:
        """Return unit-norm features of preprocessed images, float32, on the backbone's device.

        If `image_precision` is fp32, TensorFloat-32 is disabled on CUDA for matrix products and
        convolutions. By default torch uses it for convolutions.

        Args:
            images: Results of `preprocess`, stacked, on any device.
        """
        device_type, is_bf16 = self.device.type, self.image_precision == "bf16"
        with torch.autocast(device_type, torch.bfloat16) if is_bf16 else without_tf32():
            features: Tensor = self._model.encode_image(images.to(self.device))
        return F.normalize(features.float(), dim=-1)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "n feature"]:
        """Return unit-norm features of complete sentences, on the backbone's device.

        Args:
            texts: Sentences. Long ones are truncated to `context_length` tokens.
        """
        ids = torch.as_tensor(self.tokenizer(list(texts))).to(self.device)
        eot = (ids == self.tokenizer.eot_token_id).int().argmax(dim=1)
        return self.text.encode(self.text.embed(ids), eot)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute matrix products and convolutions on CUDA in float32 inside the context.

    It changes torch's global settings, which are restored on exit.
    """
    previous = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with _matmul_precision("highest"):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = previous


@contextmanager
def _matmul_precision(precision: str) -> Iterator[None]:
    """Set torch's precision of float32 matrix products inside the context."""
    previous = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(previous)


def build_text_tower(
    model: nn.Module, tokenizer: Any, dtype: torch.dtype | None = None
) -> TextTower:
    """Build the text tower of a model: causal if it has an attention mask, else bidirectional.

    Args:
        model: See TextTower.
        tokenizer: Tokenizer of the model.
        dtype: See TextTower.
    """
    if get_text_module(model).attn_mask is None:
        return BidirectionalTower(model, get_padding_id(tokenizer), dtype)
    return CausalTower(model, tokenizer.sot_token_id, dtype)


def _get_tokenizer_id(model: nn.Module, tokenizer: Any) -> dict[str, Any]:
    """Return the properties of a tokenizer that are part of a fingerprint.

    CLIP's own tokenizer has no `identity`, because it never changes. The padding token is added for
    bidirectional towers only, because causal ones do not read padding.
    """
    identity: dict[str, Any] = dict(getattr(tokenizer, "identity", {}))
    if get_text_module(model).attn_mask is None:
        identity["pad"] = get_padding_id(tokenizer)
    return identity
