"""Predicted bytes against what autograd really keeps."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ship.clip.prompts import class_prompts
from ship.clip.text_tower import by_length as real_groups
from ship.cost import Cost, DataShape, Memory, TowerShape, trial_cost
from ship.cost.text import by_length, counted, plain_pass, shared_pass
from ship.trial_config import TrialConfig
from tests.ship.cost import counting

NAMES = ("cat", "red fire truck", "hot air balloon", "ice", "sea lion", "bicycle") * 12


def kept_bytes(bench: counting.Bench, work: Callable[[], Tensor]) -> int:
    """Bytes that a forward pass keeps for its backward pass, frozen weights aside."""
    frozen = {p.untyped_storage().data_ptr() for p in bench.clip._model.parameters()}
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


@pytest.mark.parametrize("n_ctx", [1, 4, 16])
def test_a_pass_keeps_what_is_predicted(n_ctx: int) -> None:
    """Within a factor: the model counts QuickGELU, pocket's GELU keeps less."""
    bench, replicas = counting.pocket(), 3
    prompts = class_prompts(bench.clip, NAMES, n_ctx)
    lengths = bench.tower.name_lengths(NAMES, n_ctx)
    assert lengths == prompts.lengths.tolist()
    shared = torch.randn(replicas, n_ctx, bench.clip.text_width, requires_grad=True)
    kept = kept_bytes(
        bench,
        lambda: bench.clip.text.encode_shared(
            prompts.prefix(shared), prompts.names, prompts.host_lengths
        ),
    )
    cost = shared_pass(bench.tower, replicas, 1 + n_ctx, counted(lengths), True, replicas)
    assert 1.0 < cost.memory.bytes(replicas) / kept < 1.6
    own = torch.randn(len(NAMES), n_ctx, bench.clip.text_width, requires_grad=True)
    ids = torch.arange(len(NAMES))
    kept = kept_bytes(bench, lambda: bench.clip.text.encode(*prompts.assemble(own, ids)))
    whole = counted([n_ctx + length for length in lengths])
    cost = plain_pass(bench.tower, whole, True, 1)
    assert 1.0 < cost.memory.bytes(1) / kept < 1.6


def test_memory_grows_with_replicas_as_it_is_said_to() -> None:
    """A trial of 8 seeds needs what one of 1 seed says of 8 replicas, within rounding."""
    setting = TrialConfig(max_classes=40, shots=2, generator=counting.VAE)
    bench = counting.pocket()
    data = DataShape.of(counting.studied_classes(setting, bench.features))
    one, eight = (trial_cost(setting, n, bench.tower, data).memory for n in (1, 8))
    assert one.bytes(8) == pytest.approx(eight.bytes(8), rel=0.05)
    assert one.bytes(8) > 7 * one.bytes(1)


def test_a_piece_of_cocoop_is_as_large_whatever_the_replicas() -> None:
    """It takes a bounded number of prompts at once."""
    setting = TrialConfig(max_classes=40, finetuner="cocoop", generator="none", quality=False)
    bench = counting.pocket()
    data = DataShape.of(counting.studied_classes(setting, bench.features))
    memory = trial_cost(setting, 4, bench.tower, data).memory
    assert memory.fixed > 10 * memory.per_replica


def test_costs_add_up_and_memories_do_not() -> None:
    """Works in turn share memory; works at once do not."""
    small, large = Memory(1, 5), Memory(3, 2)
    total = Cost(text_flops=1, memory=small) + Cost(network_flops=2, memory=large).times(3)
    assert (total.flops, total.memory) == (7, Memory(3, 5))
    assert total.beside(Memory(1, 1)).memory == Memory(4, 6)
    assert Memory(4, 6).bytes(10) == 64


def test_half_precision_halves_the_towers_bytes() -> None:
    """Blocks in bf16 keep numbers of two bytes."""
    tower = TowerShape.of_name("pocket", "bf16")
    half = plain_pass(tower, {5: 40}, True, 1).memory.bytes(1)
    assert plain_pass(counting.pocket().tower, {5: 40}, True, 1).memory.bytes(1) == 2 * half


@pytest.mark.parametrize("lengths", [[3] * 40, [2] * 10 + [5] * 30, [2] * 40 + [5] * 31 + [9]])
def test_groups_are_those_of_the_tower(lengths: list[int]) -> None:
    """Padding within groups is part of the count."""
    eot = torch.tensor(lengths)
    real = [(len(rows), int(eot[rows].max())) for rows in real_groups(eot)]
    assert by_length(counted(lengths)) == real


def test_the_shape_of_a_tower_needs_no_weights() -> None:
    """By name it is what the loaded model has."""
    tower, clip = TowerShape.of_name("pocket"), counting.pocket().clip
    assert (tower.width, tower.context_length) == (clip.text_width, clip.context_length)
    assert (tower.layers, tower.feature_dim) == (len(clip.text._layers.blocks), clip.feature_dim)
    assert clip.text._layers.blocks[0].mlp[0].out_features == tower.mlp_width
    large = TowerShape.of_name("ViT-B-16-quickgelu:openai", "fp16")
    assert (large.width, large.layers, large.mlp_width) == (512, 12, 2048)
    assert (large.feature_dim, large.element_bytes) == (512, 2)
