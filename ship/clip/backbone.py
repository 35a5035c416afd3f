"""FrozenCLIP, the packaged pocket backbone or any open_clip model, and prompts for it."""

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
        text_width, context_length: the text tower's.
        preprocess: test-time transform, PIL picture -> (3, size, size).
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
        from open_clip.transform import PreprocessCfg, image_transform_v2

        self._model: Any = model.to(device).eval().requires_grad_(False)
        self.fingerprint = fingerprint(self._model, find_config(name.partition(":")[0]))
        # fp32, tf32: as the weights are
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
        """Load "pocket", or an open_clip "NAME:PRETRAINED" (a tag, or a local checkpoint's path).

        Weights that were trained with QuickGELU get it under the plain name too (ViT-B-16:openai
        is ViT-B-16-quickgelu:openai); a checkpoint's activation is the one its architecture is
        named for, but for OpenAI's own archives, whose activation is known.

        Args:
            name: what to load.
            device: where it runs.
            precision: of the text blocks. fp16 is meant for GPUs: CPUs compute it, slowly.

        Raises:
            BackboneError: no such model or tag, a tower that prompts cannot drive, or the weights
                cannot be had.
        """
        check_backbone_name(name)
        previous = logging.root.manager.disable
        logging.disable(logging.ERROR)  # open_clip narrates through the root logger
        try:
            with warnings.catch_warnings(action="ignore"):  # torch warns of odd pickles
                model, tokenizer = load_model(name)
        finally:
            logging.disable(previous)
        return cls(name, model, tokenizer, device, precision)

    @property
    def preprocess_id(self) -> str:
        """Describes what is done to a picture before and in the image tower, beside its weights."""
        reduced = {} if self.image_precision == "fp32" else {"precision": self.image_precision}
        return json.dumps({**self._settings, **reduced}, sort_keys=True, default=str)

    @property
    def text_tokens(self) -> int:
        """Token positions that went through the text layers so far."""
        return self.text.passed // self.text.depth

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Inside, products on CUDA are in TensorFloat-32 where the precision is tf32, else float32.

        Training on this backbone runs in it. torch's setting is one for the whole process, and is
        put back behind each step of a trial; on other devices nothing is changed.
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
        """Unit-norm features of preprocessed pictures."""
        kind, reduced = self.device.type, self.image_precision == "bf16"
        with torch.autocast(kind, torch.bfloat16) if reduced else nullcontext():
            features: Tensor = self._model.encode_image(pictures.to(self.device))
        return F.normalize(features.float(), dim=-1)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "n feature"]:
        """Unit-norm features of whole sentences."""
        ids = self.tokenizer(list(texts)).to(self.device)
        eot = (ids == self.tokenizer.eot_token_id).int().argmax(dim=1)
        return self.text.encode(self.text.embed(ids), eot)


@dataclass(frozen=True)
class ClassPrompts:
    """[SOT] context [class name] . [EOT], as embeddings; the name may stand elsewhere.

    The parts of a prompt that are not learned, tokenised and embedded once per list of classes.

    sot: embedded start token, (width,).
    names: embedded "class name . EOT" of every class, padded behind EOT, (n_cls, s, width).
    lengths: tokens of each row of names, EOT included, (n_cls,).
    host_lengths: the same where nothing has to wait for them.
    name_lengths: those that are the class name's, without "." and EOT, (n_cls,).
    order: which of (SOT, context, name . EOT) stands at each place, (n_cls, 1 + n_ctx + s); None:
        as they come (the name at the end).
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
        """Whole prompts and the index of their EOT, one row for each context and class id.

        Args:
            ctx: the context vectors of n prompts; there may be none in each.
            class_ids: of the prompts.
            on_names: what is added to every token of a prompt's class name.
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
        """[SOT] + context, the part that all classes share where the name stands at the end."""
        return torch.cat([self.sot.expand(len(ctx), 1, -1), ctx], dim=1)


def class_prompts(
    clip: FrozenCLIP, class_names: Sequence[str], n_ctx: int, position: NamePosition = "end"
) -> ClassPrompts:
    """Tokenise and embed class names for prompts with n_ctx context vectors.

    A name too long for the context is cut so that EOT still fits, as CLIP's tokenizer does. In the
    middle, the first floor(n_ctx / 2) vectors stand before the name; "." and EOT always come last.

    Args:
        clip: its tokenizer and token embeddings are used.
        class_names: n_cls names.
        n_ctx: context vectors, in tokens.
        position: of the name among them.

    Raises:
        ValueError: n_ctx leaves no room for a name, or makes one of two different names.
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
    else:  # apart: of "dog (puppy)." the tokenizer makes one token of ")."
        tokens = [[*encode(name), *encode(".")] for name in class_names]
    rows = [[*own[: room - 1], eot] for own in tokens]
    if same := _same_when_cut(clip, class_names, rows, room):
        raise ValueError(
            f"class names that are the same to backbone {clip.name!r}, as n_ctx {n_ctx} leaves "
            f"{room - 1} tokens for a name: {'; '.join(same)}"
        )
    lengths = tuple(map(len, rows))
    longest = max(lengths)
    ids = [row + [0] * (longest - len(row)) for row in rows]
    # "(puppy)." ends in one token, which counts as the name's; one that was cut has lost its "."
    named = [min(len(encode(name)), room - 1) for name in class_names]
    orders = [_order(n_ctx, n_name, longest, position) for n_name in named]

    def there(values: Any) -> Tensor:
        return torch.tensor(values, device=clip.device)

    return ClassPrompts(
        sot=clip.text.embed(there(clip.tokenizer.sot_token_id)),
        names=clip.text.embed(there(ids)),
        lengths=there(lengths),
        host_lengths=lengths,
        name_lengths=there(named),
        order=None if position == "end" else there(orders),
    )


def _same_when_cut(
    clip: FrozenCLIP, class_names: Sequence[str], rows: Sequence[Sequence[int]], room: int
) -> list[str]:
    """Names with different tokens whose rows are the same: "sea horse, sea lion"; the first five.

    Names with the same tokens from the start are a matter of the dataset, which refuses them or,
    as ImageNet, has two classes of one name.
    """
    found: dict[tuple[int, ...], dict[tuple[int, ...], str]] = {}
    for name, row in zip(class_names, rows, strict=True):
        if len(row) == room:
            found.setdefault(tuple(row), {})[tuple(clip.tokenizer.encode(name))] = name
    return [", ".join(names.values()) for names in found.values() if len(names) > 1][:5]


def _order(n_ctx: int, n_name: int, longest: int, position: NamePosition) -> list[int]:
    """Places of (SOT, context, name . EOT, padding) with the name in the middle or at the front."""
    places = list(range(1 + n_ctx + longest))
    before = 1 + (n_ctx // 2 if position == "middle" else 0)
    name, rest = 1 + n_ctx, 1 + n_ctx + n_name
    return [*places[:before], *places[name:rest], *places[before:name], *places[rest:]]
