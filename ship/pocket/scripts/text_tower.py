"""Training of the text tower against the frozen image side.

Each caption is drawn to the prototype of what it names, among all prototypes; emoji captions also
have to find their own view in the batch, which teaches colours, grounds and sizes.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from ship.pocket.scripts.captions import concept_caption, emoji_caption
from ship.pocket.scripts.icons import Emoji
from ship.pocket.scripts.projection import Projection
from ship.pocket.scripts.view_cache import ViewCache
from ship.pocket.scripts.wordnet import Concept

CONTEXT_LENGTH = 32


@dataclass(frozen=True)
class TextTowerConfig:
    """Size and training of the text tower."""

    width: int = 192
    layers: int = 4
    heads: int = 4
    steps: int = 2400
    emoji_batch: int = 80
    """Emoji in a step; each is there with two views."""
    photo_batch: int = 160
    class_share: float = 0.6
    """Share of photographs' captions that name an ImageNet class rather than a relative."""
    concrete_weight: int = 2
    """How much more often the concrete emoji come than faces, people and symbols."""
    lr: float = 1.2e-3
    weight_decay: float = 0.1
    warmup: int = 80
    final_lr: float = 0.01
    """The cosine's end as a fraction of lr."""
    scale: float = 20.0
    max_prototype_scale: float = 60.0
    max_scale: float = 100.0
    label_smoothing: float = 0.05
    clip_norm: float = 1.0


@dataclass(frozen=True)
class Corpus:
    """What captions are written about, in the order of the projection's prototypes."""

    emojis: Sequence[Emoji]
    views: ViewCache
    icons_of: Sequence[Sequence[int]]
    """[emoji] -> its icons in the view cache."""
    classes: Sequence[Concept]
    """The 1,000 ImageNet classes."""
    relatives: Sequence[Concept]


@dataclass(frozen=True)
class Batch:
    """Captions of one step, emoji first, and what they name."""

    captions: list[str]
    emoji: Tensor
    """(emoji captions,)."""
    views: Tensor
    """View and icon of each emoji caption, (emoji captions, 2)."""
    photo: Tensor
    """Distribution over ImageNet's classes of each other caption, (photo captions, 1000)."""


def trimmed_text_features(model: CLIP, tokens: Tensor) -> Tensor:
    """CLIP.encode_text, unit norm, without the padding behind each caption's end.

    The tower is causal, so what stands behind the end cannot change it. Captions of like length
    run together.

    Args:
        model: open_clip's CLIP with a causal text tower that pools at the end token.
        tokens: (batch, context_length); the end token has the highest id.
    Returns:
        (batch, embed_dim).
    """
    end = tokens.argmax(-1)
    order = end.argsort()
    pooled = []
    for rows in order.chunk(4):
        length = int(end[rows].max()) + 1
        x = model.token_embedding(tokens[rows, :length]) + model.positional_embedding[:length]
        x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
        pooled.append(model.ln_final(x[torch.arange(len(rows)), end[rows]]))
    features = torch.cat(pooled) @ model.text_projection
    return normalize(features[order.argsort()], dim=-1)


def draw_batch(corpus: Corpus, config: TextTowerConfig, rng: random.Random) -> Batch:
    """A random batch: distinct emoji, each with captions for two of its views, and nouns."""
    weights = [
        config.concrete_weight if emoji.group in (3, 4, 5, 6, 7) else 1 for emoji in corpus.emojis
    ]
    # The largest of u^(1/w): a weighted draw without replacement (Efraimidis and Spirakis).
    keys = [rng.random() ** (1 / weight) for weight in weights]
    drawn = sorted(range(len(keys)), key=keys.__getitem__)[-config.emoji_batch :]
    captions, emoji, views = [], [], []
    for index in drawn:
        icons = corpus.icons_of[index]
        pair = rng.sample(icons, 2) if len(icons) > 1 else [icons[0], icons[0]]
        for icon in pair:
            view = rng.randrange(len(corpus.views.looks))
            looks = corpus.views.looks[view][icon]
            captions.append(emoji_caption(corpus.emojis[index], looks, rng))
            emoji.append(index)
            views.append((view, icon))
    photo = torch.zeros(config.photo_batch, len(corpus.classes))
    for row in range(config.photo_batch):
        named = corpus.classes if rng.random() < config.class_share else corpus.relatives
        concept = rng.choice(named)
        captions.append(concept_caption(concept, rng))
        photo[row, list(concept.members)] = 1 / len(concept.members)
    return Batch(captions, torch.tensor(emoji), torch.tensor(views), photo)


def train_text_tower(
    model: CLIP,
    tokenizer: SimpleTokenizer,
    projection: Projection,
    corpus: Corpus,
    config: TextTowerConfig,
    rng: random.Random,
    report: Callable[[int, str], None],
) -> None:
    """Train the model's text tower and logit scale in place; its image tower is left alone.

    `report` is called with the step and a line of progress every 100 steps and at the end.
    """
    trained = {k: p for k, p in model.named_parameters() if not k.startswith("visual.")}
    log_scale = nn.Parameter(torch.tensor(config.scale).log())
    model.logit_scale.data.fill_(math.log(config.scale))
    matrices = [p for p in trained.values() if p.ndim >= 2]
    vectors = [p for p in trained.values() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": [*vectors, log_scale], "weight_decay": 0.0},
        ],
        lr=config.lr,
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, config))
    image_features = torch.stack([projection(view) for view in corpus.views.features])
    for step in range(config.steps):
        batch = draw_batch(corpus, config, rng)
        text = trimmed_text_features(model, tokenizer(batch.captions))
        image = image_features[batch.views[:, 0], batch.views[:, 1]]
        scale = log_scale.exp().clamp(max=config.max_prototype_scale)
        naming, distance = _prototype_losses(text, batch, projection, scale, config)
        matching = _matching_loss(text[: len(image)], image, model.logit_scale.exp())
        optimizer.zero_grad()
        (naming + distance + matching).backward()
        nn.utils.clip_grad_norm_(trained.values(), config.clip_norm)
        optimizer.step()
        schedule.step()
        model.logit_scale.data.clamp_(max=math.log(config.max_scale))
        if (step + 1) % 100 == 0 or step + 1 == config.steps:
            report(
                step + 1,
                f"text {step + 1}/{config.steps}: naming {naming.item():.2f} "
                f"distance {distance.item():.2f} matching {matching.item():.2f}",
            )


def lr_factor(step: int, config: TextTowerConfig) -> float:
    """Linear warm-up, then half a cosine down to final_lr at the last step."""
    progress = min(1.0, step / config.steps)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    decay = config.final_lr + (1 - config.final_lr) * cosine
    return min(1.0, (step + 1) / config.warmup) * decay


def _prototype_losses(
    text: Tensor, batch: Batch, projection: Projection, scale: Tensor, config: TextTowerConfig
) -> tuple[Tensor, Tensor]:
    """Cross-entropy against all prototypes, and squared distance to the right one."""
    emoji_text, photo_text = text.split([len(batch.emoji), len(batch.photo)])
    smoothing = config.label_smoothing
    naming = cross_entropy(
        scale * emoji_text @ projection.emoji.T, batch.emoji, label_smoothing=smoothing
    ) + cross_entropy(
        scale * photo_text @ projection.photo.T, batch.photo, label_smoothing=smoothing
    )
    target = normalize(batch.photo @ projection.photo, dim=-1)
    distance = (emoji_text - projection.emoji[batch.emoji]).square().sum(1).mean()
    return naming, distance + (photo_text - target).square().sum(1).mean()


def _matching_loss(text: Tensor, image: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric contrastive loss over the emoji captions of the batch."""
    logits = scale * text @ image.T
    own = torch.arange(len(text))
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
