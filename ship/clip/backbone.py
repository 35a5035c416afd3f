"""FrozenCLIP (the packaged pocket backbone or any open_clip model) and its prompts."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from ship.architectures import ImagePrecision, Precision, find_config
from ship.clip.text import TextTower
from ship.clip.weights import check_backbone_name, fingerprint, load_model
from ship.settings import NamePosition


class FrozenCLIP:
    """A CLIP with frozen weights that maps images and prompt embeddings to unit-norm features.

    Attributes:
        name: "pocket" or NAME:PRETRAINED as configured.
        device: Device of the weights.
        precision: Precision of the text blocks. Prompts, features and gradients are always float32.
            With tf32, all products of a trial on CUDA round their factors to TensorFloat-32 (ten
            bits of mantissa); on a CPU it equals fp32.
        fingerprint: Hash of architecture and weights before any cast, part of the keys of caches
            and configurations.
        text: Text tower, which accepts prompt embeddings.
        tokenizer: open_clip's BPE tokenizer.
        feature_dim: Size of image and text features (the text width may differ).
        logit_scale: Learned factor on cosines, as a plain number.
        text_width: Size of a token embedding.
        context_length: Maximum number of tokens in a prompt, including SOT and EOT.
        preprocess: Test-time transform, PIL image -> (3, size, size).
        mean: Mean per channel of the normalization at the end of preprocess.
        std: Standard deviation per channel of the same normalization.
        image_precision: Precision of the image tower's products; may be changed at any time.
            Features are always float32.
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

        self._model: Any = model.to(device).eval().requires_grad_(False)
        self.fingerprint = fingerprint(self._model, find_config(name.partition(":")[0]))
        # fp32 and tf32 leave the weights unchanged
        reduced = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        self.text = TextTower(self._model, tokenizer.sot_token_id, reduced)
        self.text_width, self.context_length = self.text.width, self.text.context_length
        self.name = name
        self.device = torch.device(device)
        self.precision: Precision = precision
        self.image_precision: ImagePrecision = "fp32"
        self.tokenizer = tokenizer
        self._settings = dict(self._model.visual.preprocess_cfg)
        wanted = PreprocessCfg(**self._settings)
        self.preprocess: Callable[[Image.Image], Tensor] = image_transform_v2(
            wanted, is_train=False
        )
        self.mean: tuple[float, ...] = tuple(self._settings["mean"])
        self.std: tuple[float, ...] = tuple(self._settings["std"])
        self.logit_scale = float(self._model.logit_scale.detach().exp())
        self.feature_dim: int = self.encode_texts(["a"]).shape[1]

    @classmethod
    def load(
        cls, name: str = "pocket", device: str = "cpu", precision: Precision = "fp32"
    ) -> "FrozenCLIP":
        """Load "pocket" or an open_clip "NAME:PRETRAINED" (a tag, or the path of a checkpoint).

        Weights trained with QuickGELU use it under the plain name, too (ViT-B-16:openai equals
        ViT-B-16-quickgelu:openai). A local checkpoint has the activation of the named architecture,
        except for OpenAI's own archives, whose activation is known.

        Args:
            name: Name of the backbone.
            device: Device of the weights.
            precision: Precision of the text blocks. fp16 is meant for GPUs and slow on CPUs.

        Raises:
            BackboneError: The model or tag does not exist, its text tower does not accept prompt
                embeddings, or the weights cannot be loaded.
        """
        check_backbone_name(name)
        previous = logging.root.manager.disable
        logging.disable(logging.ERROR)  # open_clip logs its progress to the root logger
        try:
            with warnings.catch_warnings(action="ignore"):  # torch warns about unusual pickles
                model, tokenizer = load_model(name)
        finally:
            logging.disable(previous)
        return cls(name, model, tokenizer, device, precision)

    @property
    def preprocess_id(self) -> str:
        """Description of the preprocessing and precision of images, for cache keys."""
        reduced = {} if self.image_precision == "fp32" else {"precision": self.image_precision}
        return json.dumps({**self._settings, **reduced}, sort_keys=True, default=str)

    @property
    def text_tokens(self) -> int:
        """Number of token positions that have passed through the text layers so far."""
        return self.text.passed // self.text.depth

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Compute products on CUDA in TensorFloat-32 if the precision is tf32, else in float32.

        Training on this backbone runs in this context. torch's setting is global to the process and
        restored on exit. Nothing changes on other devices.
        """
        before = torch.get_float32_matmul_precision()
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high" if self.precision == "tf32" else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    @torch.inference_mode()
    def encode_images(
        self, pictures: Float[Tensor, "n 3 height width"]
    ) -> Float[Tensor, "n feature"]:
        """Return unit-norm features of preprocessed images."""
        kind, reduced = self.device.type, self.image_precision == "bf16"
        with torch.autocast(kind, torch.bfloat16) if reduced else nullcontext():
            features: Tensor = self._model.encode_image(pictures.to(self.device))
        return F.normalize(features.float(), dim=-1)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "n feature"]:
        """Return unit-norm features of complete sentences."""
        ids = self.tokenizer(list(texts)).to(self.device)
        eot = (ids == self.tokenizer.eot_token_id).int().argmax(dim=1)
        return self.text.encode(self.text.embed(ids), eot)


@dataclass(frozen=True)
class ClassPrompts:
    """The fixed parts of the prompts "[SOT] context [class name] . [EOT]", as embeddings.

    They are tokenized and embedded once per list of classes. The name may be in another position.

    Attributes:
        sot: Embedded start token, (width,).
        names: Embedded "class name . EOT" of every class, padded after EOT, (n_cls, s, width).
        lengths: Number of tokens in each row of names, including EOT, (n_cls,).
        host_lengths: The same on the host, available without synchronization.
        name_lengths: Number of tokens of the class name, without "." and EOT, (n_cls,).
        order: Index into (SOT, context, name . EOT) for each position, (n_cls, 1 + n_ctx + s).
            None: unchanged order (the name at the end).
    """

    sot: Float[Tensor, " width"]
    names: Float[Tensor, "n_cls s width"]
    lengths: Int[Tensor, " n_cls"]
    host_lengths: tuple[int, ...]
    name_lengths: Int[Tensor, " n_cls"]
    order: Int[Tensor, "n_cls t"] | None = None

    def assemble(
        self,
        ctx: Float[Tensor, "n n_ctx width"],
        class_ids: Int[Tensor, " n"],
        on_names: Float[Tensor, "n width"] | None = None,
    ) -> tuple[Float[Tensor, "n t width"], Int[Tensor, " n"]]:
        """Return complete prompts and the index of their EOT, one row per context and class ID.

        Args:
            ctx: Context vectors of n prompts; n_ctx may be 0.
            class_ids: Class of each prompt.
            on_names: Vector to add to every token of each prompt's class name.
        """
        sot, names = self.sot.expand(len(ctx), 1, -1), self.names[class_ids]
        if on_names is not None:
            places = torch.arange(names.shape[1], device=names.device)
            named = (places < self.name_lengths[class_ids].unsqueeze(1)).unsqueeze(-1)
            names = names + named * on_names.unsqueeze(1)
        prompts = torch.cat([sot, ctx, names], dim=1)
        if self.order is not None:
            order = self.order[class_ids].unsqueeze(-1).expand_as(prompts)
            prompts = prompts.gather(1, order)
        return prompts, ctx.shape[1] + self.lengths[class_ids]

    def prefix(self, ctx: Float[Tensor, "n n_ctx width"]) -> Float[Tensor, "n p width"]:
        """Return [SOT] + context, the part that all classes share if the name is at the end."""
        return torch.cat([self.sot.expand(len(ctx), 1, -1), ctx], dim=1)


def class_prompts(
    clip: FrozenCLIP, class_names: Sequence[str], n_ctx: int, position: NamePosition = "end"
) -> ClassPrompts:
    """Tokenize and embed class names for prompts with n_ctx context vectors.

    A name that is too long is truncated so that EOT still fits, like CLIP's tokenizer does. With
    position "middle", the first floor(n_ctx / 2) vectors precede the name. "." and EOT always come
    last.

    Args:
        clip: Backbone with the tokenizer and token embeddings.
        class_names: Names of the classes.
        n_ctx: Number of context vectors.
        position: Position of the name among them.

    Raises:
        ValueError: n_ctx leaves no room for a name, or truncation makes two different names equal.
    """
    room = clip.context_length - 1 - n_ctx
    if room < 2:
        raise ValueError(
            f"n_ctx must be at most {clip.context_length - 3} for backbone {clip.name!r} "
            f"(context length {clip.context_length}), got {n_ctx}"
        )
    eot, encode = clip.tokenizer.eot_token_id, clip.tokenizer.encode
    if position == "end":
        tokens = [encode(f"{name}.") for name in class_names]
    else:  # encoded separately: in "dog (puppy)." the tokenizer merges ")." into one token
        tokens = [[*encode(name), *encode(".")] for name in class_names]
    rows = [[*name_tokens[: room - 1], eot] for name_tokens in tokens]
    if same := _same_when_cut(clip, class_names, rows, room):
        raise ValueError(
            f"class names that are the same to backbone {clip.name!r}, as n_ctx {n_ctx} leaves "
            f"{room - 1} tokens for a name: {'; '.join(same)}"
        )
    lengths = tuple(map(len, rows))
    longest = max(lengths)
    ids = [row + [0] * (longest - len(row)) for row in rows]
    # a merged token such as ")." counts as part of the name; a truncated name has lost its "."
    named = [min(len(encode(name)), room - 1) for name in class_names]
    orders = [_order(n_ctx, n_name, longest, position) for n_name in named]

    def on_device(values: Any) -> Tensor:
        return torch.tensor(values, device=clip.device)

    return ClassPrompts(
        sot=clip.text.embed(on_device(clip.tokenizer.sot_token_id)),
        names=clip.text.embed(on_device(ids)),
        lengths=on_device(lengths),
        host_lengths=lengths,
        name_lengths=on_device(named),
        order=None if position == "end" else on_device(orders),
    )


def _same_when_cut(
    clip: FrozenCLIP, class_names: Sequence[str], rows: Sequence[Sequence[int]], room: int
) -> list[str]:
    """Return the first five groups of different names with equal rows: "sea horse, sea lion".

    Names with equal tokens before truncation are checked by the dataset, which rejects them unless
    it is ImageNet, where two pairs of classes share a name.
    """
    by_row: dict[tuple[int, ...], dict[tuple[int, ...], str]] = {}
    for name, row in zip(class_names, rows, strict=True):
        if len(row) == room:
            by_row.setdefault(tuple(row), {})[tuple(clip.tokenizer.encode(name))] = name
    return [", ".join(names.values()) for names in by_row.values() if len(names) > 1][:5]


def _order(n_ctx: int, n_name: int, longest: int, position: NamePosition) -> list[int]:
    """Return the order of (SOT, context, name . EOT, padding) for a name in front or middle."""
    places = list(range(1 + n_ctx + longest))
    before = 1 + (n_ctx // 2 if position == "middle" else 0)
    name, rest = 1 + n_ctx, 1 + n_ctx + n_name
    return [*places[:before], *places[name:rest], *places[before:name], *places[rest:]]
