"""A backbone without weights: its text tower is counted, and what it says means nothing."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ship.architectures import (
    Precision,
    feature_dim,
    find_config,
    load_tokenizer,
    text_settings,
)
from ship.clip import DTYPES, FrozenCLIP, TextTower
from ship.cost.counter import Counter

# Token ids share so many embeddings.
EMBEDDINGS = 997


class BlankCLIP(FrozenCLIP):
    """What a trial needs of a FrozenCLIP on a CPU, made from the architecture's sizes alone.

    Args:
        name: "pocket" or an open_clip NAME[:PRETRAINED].
        precision: of the text blocks.
        tokenizer: the backbone's, where it is loaded already.

    Attributes:
        text_flops: operations of encode_texts since begin(), of each list of sentences once.

    Raises:
        BackboneError: open_clip has no such architecture.
    """

    def __init__(self, name: str, precision: Precision = "fp32", tokenizer: Any = None) -> None:
        self.name, self.precision = name, precision
        self.fingerprint = f"{name} without weights"
        self.device = torch.device("cpu")
        self.tokenizer = tokenizer or load_tokenizer(name)
        self.feature_dim = feature_dim(name)
        self.logit_scale = 100.0
        self.tower = BlankTower(name, precision)
        self.text = self.tower
        self.text_flops = 0.0
        self._encoded: dict[tuple[str, ...], Tensor] = {}
        self._tokens_at_start = 0

    def begin(self, counter: Counter) -> None:
        """What is encoded from now on is told to a counter that has been entered."""
        self.tower.counter = counter
        self.text_flops = 0.0
        self._encoded = {}

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "n feature"]:
        """Features of whole sentences, which are alike for all replicas; see text_flops."""
        counter, key = self.tower.counter, tuple(texts)
        if key not in self._encoded:
            before = counter.flops
            self._encoded[key] = super().encode_texts(texts)
            self.text_flops += counter.flops - before
            counter.flops = before
        return self._encoded[key].clone()


@dataclass(frozen=True)
class Pass:
    """What the layers take for one sequence.

    forward, backward: operations.
    kept: bytes that are held for the backward pass.
    most, most_backward: bytes beyond those that are alive at once on either way.
    """

    forward: float
    backward: float
    kept: int
    most: int
    most_backward: int

    def __add__(self, other: "Pass") -> "Pass":
        return Pass(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: "Pass") -> "Pass":
        return self + other.times(-1)

    def times(self, n: int) -> "Pass":
        """Of n sequences, or of n layers."""
        return Pass(*(n * value for value in astuple(self)))


class BlankTower(TextTower):
    """A text tower whose layers are counted once for each length, on tensors without numbers.

    In their place stands a mean over what comes before a place, so that features differ between
    texts, and gradients reach the prompts.

    Attributes:
        counter: what is told of each pass; whoever counts sets it.
    """

    def __init__(self, name: str, precision: Precision) -> None:
        from open_clip.transformer import QuickGELU, TextTransformer

        text = text_settings(name)
        config = find_config(name.partition(":")[0]) or {}
        with torch.device("meta"):
            tower = TextTransformer(
                context_length=text.context_length,
                vocab_size=text.vocab_size,
                width=text.width,
                heads=text.heads,
                layers=text.layers,
                mlp_ratio=text.mlp_ratio,
                ls_init_value=text.ls_init_value,
                output_dim=feature_dim(name),
                act_layer=QuickGELU if config.get("quick_gelu") else nn.GELU,
            )
        dtype = self._dtype = DTYPES[precision]
        self._real = TextTower(nn.ModuleDict({"text": tower.requires_grad_(False)}), dtype)
        self._layers = _Ends(text, feature_dim(name), dtype, self._real._layers.blocks)  # type: ignore[assignment]
        self.width, self.context_length = text.width, text.context_length
        self._packings, self._places = {}, {}
        self.depth, self._passed = self._real.depth, 0
        self.counter = Counter()
        self._passes: dict[tuple[Any, ...], Pass] = {}

    def _run(
        self, blocks: Sequence[Any], hidden: Tensor, places: Tensor, mask: Tensor | None
    ) -> Tensor:
        ends = self._before(hidden).gather(1, places.unsqueeze(-1).expand(-1, -1, self.width))
        return self._taken(len(blocks), hidden, places.shape[1], mask, ends)

    def _through(self, blocks: Sequence[Any], hidden: Tensor, mask: Tensor | None) -> Tensor:
        return self._taken(len(blocks), hidden, None, mask, self._before(hidden))

    def _before(self, hidden: Tensor) -> Tensor:
        return hidden.cumsum(1) / hidden.shape[1]

    def _taken(
        self, layers: int, hidden: Tensor, k: int | None, mask: Tensor | None, made: Tensor
    ) -> Tensor:
        """What stands for the layers' output, their cost told.

        Args:
            layers: how many.
            hidden: what goes into them, (n, t, width).
            k: places that the last one finishes; None: all.
            mask: None: causal.
            made: what stands for their output.
        """
        n, t, _ = hidden.shape
        self._passed += n * t * layers
        key = (layers, t, k, mask is None, torch.is_grad_enabled() and hidden.requires_grad)
        if key not in self._passes:
            with self.counter.paused():
                self._passes[key] = self._count(*key)
        taken = self._passes[key].times(n)
        found: Tensor = _Taken.apply(made, taken, self.counter)  # type: ignore[no-untyped-call]
        return found

    def _count(self, layers: int, t: int, k: int | None, causal: bool, gradient: bool) -> Pass:
        """One sequence of t tokens, of which k are finished."""
        one, two = (self._count_layers(n, t, k, causal, gradient) for n in (1, 2))
        all_kept = one + (two - one).times(layers - 1)
        # what else is alive in a layer is gone in the next
        return replace(all_kept, most=two.most, most_backward=two.most_backward)

    def _count_layers(
        self, layers: int, t: int, k: int | None, causal: bool, gradient: bool
    ) -> Pass:
        blocks = self._layers.blocks[:layers]
        hidden = torch.empty(1, t, self.width, dtype=self._dtype, device="meta")
        hidden.requires_grad_(gradient)
        mask = None if causal else torch.empty(1, 1, t, t, dtype=self._dtype, device="meta")
        with Counter() as counter, torch.set_grad_enabled(gradient):
            if k is None:
                found = self._real._through(blocks, hidden, mask)
            else:
                places = torch.empty(1, k, dtype=torch.long, device="meta")
                found = self._real._run(blocks, hidden, places, mask)
            forward, kept, most = counter.flops, counter.alive, counter.peak
            counter.peak = counter.alive
            if gradient:
                found.backward(torch.empty_like(found))
        return Pass(forward, counter.flops - forward, kept, most - kept, counter.peak - kept)


class _Ends:
    """What stands before and behind the layers: the face of ship.clip.text_layers.TextLayers."""

    def __init__(
        self, text: Any, feature: int, dtype: torch.dtype | None, blocks: list[Any]
    ) -> None:
        self.blocks, width = blocks, text.width
        numbers = torch.Generator().manual_seed(0)

        def drawn(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=numbers)

        self._embeddings = drawn(EMBEDDINGS, width)
        self.positions = drawn(text.context_length, width)
        self._projection, self._dtype = drawn(width, feature), dtype

    def embed(self, ids: Tensor) -> Tensor:
        return self._embeddings[ids % EMBEDDINGS]

    def enter(self, hidden: Tensor) -> Tensor:
        return hidden if self._dtype is None else hidden.to(self._dtype)

    def features(self, hidden: Tensor) -> Tensor:
        return F.normalize(hidden.float() @ self._projection, dim=-1)


class _Taken(torch.autograd.Function):
    """Nothing happens to the numbers; a pass's operations and bytes are counted on the way."""

    @staticmethod
    def forward(ctx: Any, ends: Tensor, taken: Pass, counter: Counter) -> Tensor:
        ctx.taken, ctx.counter = taken, counter
        _alive(taken.kept + taken.most)
        ctx.kept = _alive(taken.kept) if ends.requires_grad else None
        counter.flops += taken.forward
        return ends.view_as(ends)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        _alive(ctx.taken.most_backward)
        ctx.kept = None
        ctx.counter.flops += ctx.taken.backward
        return gradients[0], None, None


def _alive(n_bytes: int) -> Tensor:
    """So many bytes, which are held for as long as the tensor is, and take no room."""
    return torch.empty(n_bytes, dtype=torch.uint8, device="meta")
