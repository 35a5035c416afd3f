"""The estimate of the paper's grid rests on counts that other counts confirm."""

import pytest
import torch

from ship.architectures import load_tokenizer
from ship.cost import BlankCLIP, Counter
from tests.bench.grid_estimate import grouped, makespan, together
from tests.bench.paper_grid import ELEVEN, TOKENS, configs, data_shape, names_like, stages
from tests.bench.roofline import Passes


@pytest.fixture(scope="module")
def passes() -> Passes:
    """Of the packaged tower."""
    return Passes("pocket")


@pytest.mark.parametrize("gradient", [True, False])
def test_operations_of_kernels_are_those_of_the_cost_model(passes: Passes, gradient: bool) -> None:
    """Of one prompt, its projection apart: one product of 30 tokens."""
    clip, counter = BlankCLIP("pocket"), Counter()
    clip.begin(counter)
    prompt = torch.randn(1, 30, clip.text_width, requires_grad=gradient)
    with counter:
        found = clip.text.encode(prompt, torch.tensor([29]))
        if gradient:
            found.sum().backward()
    known = sum(kernel.flops for kernel in passes._few(1, 30, gradient))
    assert known == pytest.approx(counter.flops, rel=0.01)


def test_passes_of_any_size_are_told_by_two_small_ones(passes: Passes) -> None:
    """Operations and bytes, kernel by kernel."""
    told, made = passes.plain(200, 9, True), passes._plain(200, 9, True)
    assert [(k.flops, k.n_bytes) for k in told] == [(k.flops, k.n_bytes) for k in made]


def test_a_trial_of_a_hundred_classes_has_the_steps_of_the_authors_settings() -> None:
    """50 and 200 epochs of 400 and of 800 pictures in batches of 256, and a look at each epoch."""
    config = next(configs("caltech101"))
    selected, tested = stages(config, data_shape("caltech101"))
    assert (selected.generator_steps, tested.generator_steps) == (100, 200)
    assert (selected.coop_steps, tested.coop_steps) == (400, 800)
    assert (selected.evaluations, tested.evaluations) == (201, 1)


def test_imagenet_has_settings_of_its_own() -> None:
    """Fewer epochs, a larger encoder, and the pictures that are used of each class."""
    config, data = next(configs("imagenet")), data_shape("imagenet")
    assert (config.generator.epochs, config.finetuner.epochs) == (10, 20)
    assert (sum(data.train), sum(data.val), sum(data.test)) == (64_000, 10_000, 50_000)


@pytest.mark.parametrize("dataset", TOKENS)
def test_names_have_the_tokens_that_they_stand_for(dataset: str) -> None:
    """As many names as classes, each as long as the table says."""
    encode = load_tokenizer("ViT-B-16").encode
    found = [len(encode(name)) for name in names_like(dataset)]
    assert len(found) == len(data_shape(dataset).class_names)
    assert [found.count(n + 1) for n in range(max(found))] == list(TOKENS[dataset])


def test_the_grid_is_the_papers() -> None:
    """Eleven datasets and five lengths."""
    trials = [config for dataset in ELEVEN for config in configs(dataset)]
    assert len(trials) == len({(c.dataset, c.generator.n_ctx) for c in trials}) == 55


def test_names_are_packed_and_were_padded() -> None:
    """One long name makes no other longer, but for prompts that are drawn."""
    counts = {3: 2.0, 4: 1.0, 12: 1.0}
    assert grouped(counts, "as run") == [(4, 12)]
    assert together(counts, "padded") == [(12, 12, 12, 12)]
    assert together(counts, "as run") == together(counts, "recorded") == [(3, 3, 4, 12)]
    assert grouped({}, "as run") == together({}, "as run") == together({}, "padded") == []


def test_a_grid_ends_no_sooner_than_its_longest_trial() -> None:
    """Nor than all trials shared out evenly."""
    assert makespan([5.0, 1.0, 1.0, 1.0], 2) == 5.0
    assert makespan([2.0, 2.0, 2.0, 2.0], 2) == 4.0
    assert makespan([3.0, 1.0], 8) == 3.0
