"""Bytes that are told of trials against those that torch holds."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ship.clip.prompts import class_prompts
from ship.cost import BlankCLIP, Counter, count_memory
from ship.trial import run_trial
from ship.trial_config import TrialConfig
from tests.ship.cost import counting

NAMES = ("cat", "red fire truck", "hot air balloon", "ice", "sea lion", "bicycle") * 12


def held_by(work: Callable[[], Tensor], frozen: set[int]) -> int:
    """Bytes that a forward pass keeps for its backward pass, frozen weights aside."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in frozen:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = work()
    assert out.requires_grad
    return sum(kept.values())


def encoded(clip: counting.FrozenCLIP, contexts: Tensor) -> Tensor:
    """Names behind each replica's contexts."""
    prompts = class_prompts(clip, NAMES, contexts.shape[1])
    return clip.text.encode_shared(prompts.prefix(contexts), prompts.names, prompts.host_lengths)


@pytest.mark.parametrize("n_ctx", [1, 4, 16])
def test_a_pass_keeps_what_is_told(n_ctx: int) -> None:
    """Within a factor: attention's scores, which the fused kernel does not keep, are counted."""
    bench = counting.pocket()
    contexts = torch.randn(3, n_ctx, bench.clip.text_width, requires_grad=True)
    frozen = {p.untyped_storage().data_ptr() for p in bench.clip._model.parameters()}
    kept = held_by(lambda: encoded(bench.clip, contexts), frozen)
    counter = Counter()
    bench.blank.begin(counter)
    with counter:
        features = encoded(bench.blank, contexts)
        alive = counter.alive
        features.sum().backward()
    assert 1.0 < alive / kept < 2.5
    del features
    assert counter.alive < 0.1 * alive
    assert counter.peak >= alive


@pytest.mark.slow
def test_replicas_take_as_many_times_more_at_most() -> None:
    """What one replica holds is told, and what it is multiplied to is enough."""
    setting = TrialConfig(max_classes=12, shots=2, generator=counting.VAE, quality=False)  # type: ignore[arg-type]
    bench = counting.pocket()
    told = count_memory(setting, bench.features, {}, bench.blank)
    counter = Counter()
    bench.blank.begin(counter)
    with counter:
        for _ in run_trial(setting, range(6), bench.features, bench.blank):
            pass
    assert 0.5 * 6 * told < counter.peak < 1.05 * 6 * told


def test_views_and_what_is_given_back_are_not_counted_twice() -> None:
    """Memory is alive once, and until nobody holds it."""
    with Counter() as counter:
        x = torch.ones(1000)
        views = x.view(10, 100), x[:5], x.add_(1)
        assert counter.alive == 4000
        y = x + 1
        assert counter.alive == counter.peak == 8000
        del x, views
        assert counter.alive == 4000
        del y
    assert (counter.alive, counter.peak) == (0, 8000)


def test_half_precision_halves_the_towers_bytes() -> None:
    """Blocks in bf16 keep numbers of two bytes."""

    def alive(clip: BlankCLIP) -> int:
        clip.begin(counter := Counter())
        prompts = torch.randn(64, 12, clip.text_width, requires_grad=True)
        with counter:
            features = clip.text.encode(prompts, torch.full((64,), 11))
            found = counter.alive
        assert features.requires_grad
        return found

    assert alive(counting.pocket().blank) > 1.5 * alive(BlankCLIP("pocket", "bf16"))


def test_a_backbone_without_weights_has_the_real_ones_sizes() -> None:
    """By name it is as large as the loaded model."""
    blank, clip = counting.pocket().blank, counting.pocket().clip
    assert (blank.text_width, blank.context_length) == (clip.text_width, clip.context_length)
    assert blank.feature_dim == clip.feature_dim
    large = BlankCLIP("ViT-B-16-quickgelu:openai", "fp16")
    assert (large.text_width, large.context_length, large.feature_dim) == (512, 77, 512)
    assert large.encode_texts(["a cat"]).shape == (1, 512)
