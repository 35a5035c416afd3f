"""A whole trial against the plain loop: the same epochs of the same two stages, one seed."""

import math
from collections.abc import Callable

import torch

from ship.clip.frozen_clip import FrozenCLIP
from ship.trial.run import run_trial
from ship.trial_config import TrialConfig
from tests.bench.bench_steps import CHECKED, TESTED, VIEWS, Sizes, class_names, feature_set
from tests.bench.naive import NaiveTrial
from tests.bench.timing import Comparison, compare, seconds

PAPER_EPOCHS = (50, 200)  # generator, CoOp


def whole_trial(clip: FrozenCLIP, sizes: Sizes, epochs: int, repeats: int) -> Comparison:
    """Generator and CoOp, trained to select and trained to be tested.

    The plain loop encodes the pictures of each step; ours encodes every picture in all its views
    once, before it trains. Both are evaluated on the same pictures: at every epoch of selection on
    validation pictures, once on the test pictures. Pictures are random, so decoding is left out.
    """
    names = class_names(sizes.n_classes)
    base = (sizes.n_classes + 1) // 2
    edge = clip.image_size
    n_train = sizes.n_classes * sizes.shots
    train = torch.randn(n_train, 3, edge, edge)
    val, test = (torch.randn(sizes.n_classes * n, 3, edge, edge) for n in (CHECKED, TESTED))
    labels = torch.arange(sizes.n_classes).repeat_interleave(sizes.shots)

    def stage(seen: int, checked: torch.Tensor, every_epoch: bool) -> None:
        naive = NaiveTrial(clip, names, sizes.n_ctx, sizes.latent, sizes.hidden)
        rows = torch.arange(seen * sizes.shots)

        def epoch(step: Callable[[torch.Tensor, list[int]], None], batch: int) -> None:
            for part in rows[torch.randperm(len(rows))].split(batch):
                step(naive.encode_images(train[part]), labels[part].tolist())

        for _ in range(epochs):
            epoch(naive.generator_step, sizes.batch)
        for done in range(1, epochs + 1):
            epoch(naive.coop_step, sizes.coop_batch)
            if every_epoch or done == epochs:
                naive.predict(checked)

    def plain() -> None:
        stage((base + 1) // 2, val[: base * CHECKED], every_epoch=True)
        stage(base, test, every_epoch=False)

    def ours() -> None:
        views = [_encode(clip, train) for _ in range(1 + VIEWS)]
        splits = []
        for n, pictures in ((CHECKED, val), (TESTED, test)):
            ids = torch.arange(sizes.n_classes).repeat_interleave(n)
            splits += [_encode(clip, pictures).numpy(), ids.numpy()]
        trained = (torch.stack(views, dim=1).numpy(), labels.numpy())
        features = feature_set(clip, sizes, *trained, *splits)
        list(run_trial(_config(sizes, epochs), [0], features, clip))

    where = (
        f"{clip.name}, {sizes.n_classes} classes, {sizes.shots} shots, {epochs} + {epochs} epochs"
    )
    return compare(f"whole trial ({where})", plain, ours, repeats, warm_up=False)


def trial_of_steps(
    clip: FrozenCLIP, sizes: Sizes, generator: Comparison, coop: Comparison
) -> Comparison:
    """A trial of the paper's length, which would take the plain loop days: counted, not run.

    Steps times their measured seconds, on the base classes and again on half of them to select
    (taken as half the steps for both). Ours adds every picture in all its views, encoded once;
    the plain loop's pictures are in its steps. Evaluation is left out of both.

    Args:
        generator: a step with its pictures.
        coop: a step with its pictures.
    """
    n_base = sizes.shots * ((sizes.n_classes + 1) // 2)
    steps = [
        1.5 * epochs * math.ceil(n_base / batch)
        for epochs, batch in zip(PAPER_EPOCHS, (sizes.batch, sizes.coop_batch), strict=True)
    ]
    edge = clip.image_size
    some = torch.randn(64, 3, edge, edge)
    n_pictures = sizes.n_classes * (sizes.shots * (1 + VIEWS) + CHECKED + TESTED)
    encoding = seconds(lambda: clip.encode_images(some)) / len(some) * n_pictures
    plain = steps[0] * generator.plain_s + steps[1] * coop.plain_s
    ours = steps[0] * generator.fast_s + steps[1] * coop.fast_s + encoding
    where = f"{clip.name}, {sizes.n_classes} classes, n_ctx {sizes.n_ctx}"
    epochs = " + ".join(map(str, PAPER_EPOCHS))
    name = f"trial of {epochs} epochs, counted from its steps ({where})"
    return Comparison(name, plain, ours, plain / ours, target=20.0)


def _encode(clip: FrozenCLIP, pictures: torch.Tensor) -> torch.Tensor:
    return torch.cat([clip.encode_images(part) for part in pictures.split(64)])


def _config(sizes: Sizes, epochs: int) -> TrialConfig:
    return TrialConfig(
        shots=sizes.shots,
        quality=False,
        generator={"name": "vae", **sizes.generator(), "epochs": epochs},
        finetuner={"name": "coop", "epochs": epochs, "batch_size": sizes.coop_batch},
    )
