"""The image tower's linear projection, fitted together with one free vector per concept.

The vectors ("prototypes") are what the text tower later learns to say. Emoji are classified
against emoji and pseudo-photographs against ImageNet's classes; where both name the same thing
their prototypes are drawn together, so that one text can mean both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, normalize

from ship.pocket.scripts.image_tower import FEATURE_DIM, ImageNetPrior


@dataclass(frozen=True)
class ProjectionConfig:
    """How the projection is fitted."""

    embed_dim: int = 256
    steps: int = 2000
    emoji_batch: int = 256
    photo_batch: int = 128
    lr: float = 3e-3
    weight_decay: float = 0.3
    dropout: float = 0.3
    scale: float = 20.0
    max_scale: float = 60.0
    label_smoothing: float = 0.05
    teacher_weight: float = 1.0
    link_weight: float = 0.3


@dataclass(frozen=True)
class Projection:
    """The fitted layer and unit-norm prototypes."""

    layer: nn.Linear
    """1280 -> embed_dim, frozen."""
    emoji: Tensor
    """(emoji, embed_dim)."""
    photo: Tensor
    """(1000, embed_dim)."""

    def save(self, path: Path) -> None:
        """Write layer and prototypes, for a look at them apart from the text tower."""
        state = {"weight": self.layer.weight, "bias": self.layer.bias}
        save_file({**state, "emoji": self.emoji, "photo": self.photo}, path)

    def __call__(self, features: Tensor) -> Tensor:
        """Unit-norm image features: (..., embed_dim)."""
        return normalize(self.layer(features.float()), dim=-1)


def fit_projection(
    views: Tensor,
    labels: Tensor,
    links: Tensor,
    prior: ImageNetPrior,
    config: ProjectionConfig,
    generator: torch.Generator,
    report: Callable[[str], None],
) -> Projection:
    """Minimise cross-entropy on emoji and pseudo-photographs, and KL to the ImageNet classifier.

    Args:
        views: trunk features of the emoji, (views, icons, 1280).
        labels: emoji index of each icon, (icons,).
        links: pairs (emoji index, ImageNet index) that name the same thing, (links, 2).
        prior: source of pseudo-photographs, and the classifier whose opinion is kept.
        config: sizes and weights.
        generator: source of all randomness.
        report: called with a line of progress now and then.
    """
    concepts = int(labels.max()) + 1

    def parameter(*shape: int, std: float) -> nn.Parameter:
        return nn.Parameter(std * torch.randn(*shape, generator=generator))

    weight = parameter(config.embed_dim, FEATURE_DIM, std=FEATURE_DIM**-0.5)
    centre = views.float().mean((0, 1))
    bias = nn.Parameter((-weight @ centre).detach())
    emoji = parameter(concepts, config.embed_dim, std=0.05)
    photo = parameter(len(prior.weight), config.embed_dim, std=0.05)
    log_scale = nn.Parameter(torch.tensor(config.scale).log())
    optimizer = torch.optim.AdamW(
        [
            {"params": [weight], "weight_decay": config.weight_decay},
            {"params": [bias, emoji, photo, log_scale], "weight_decay": 0.0},
        ],
        lr=config.lr,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, config.steps)
    for step in range(config.steps):
        icon = torch.randint(len(labels), (config.emoji_batch,), generator=generator)
        view = torch.randint(len(views), (config.emoji_batch,), generator=generator)
        wanted = torch.randint(len(photo), (config.photo_batch,), generator=generator)
        features = torch.cat([views[view, icon].float(), prior.sample(wanted, generator)])
        kept = torch.rand(features.shape, generator=generator) >= config.dropout
        dropped = features * kept / (1 - config.dropout)
        image = normalize(dropped @ weight.T + bias, dim=-1)
        scale = log_scale.exp().clamp(max=config.max_scale)
        emoji_unit, photo_unit = normalize(emoji, dim=-1), normalize(photo, dim=-1)
        photo_logits = scale * image @ photo_unit.T
        drawn, seen = image[: len(icon)], photo_logits[len(icon) :]
        smoothing = config.label_smoothing
        emoji_loss = cross_entropy(
            scale * drawn @ emoji_unit.T, labels[icon], label_smoothing=smoothing
        )
        photo_loss = cross_entropy(seen, wanted)
        teacher = prior.logits(features).softmax(-1)
        opinion = kl_div(photo_logits.log_softmax(-1), teacher, reduction="batchmean")
        gap = (emoji_unit[links[:, 0]] - photo_unit[links[:, 1]]).square().sum(1).mean()
        loss = emoji_loss + photo_loss + config.teacher_weight * opinion + config.link_weight * gap
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 500 == 0 or step == config.steps - 1:
            report(
                f"projection {step}: emoji {emoji_loss.item():.2f} photo {photo_loss.item():.2f} "
                f"teacher {opinion.item():.2f} gap {gap.item():.2f} scale {scale.item():.1f}"
            )
    layer = nn.Linear(FEATURE_DIM, config.embed_dim)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return Projection(
        layer.requires_grad_(False),
        normalize(emoji.detach(), dim=-1),
        normalize(photo.detach(), dim=-1),
    )
