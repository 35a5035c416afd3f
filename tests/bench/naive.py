"""The plain loop that people run today, to be measured against: one seed, nothing saved.

Written from what the paper and its published code do at each step (arXiv:2307.07397): pictures go
through the image tower again, class names are tokenised again, every prompt runs all 77 tokens, and
CoOp encodes the prompts of all classes. Weights are frozen, as they are there.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ship.clip.frozen_clip import FrozenCLIP


def encode_whole(model: nn.Module, prompts: Tensor, eot: Tensor) -> Tensor:
    """open_clip's forward pass over prompts of the context's length; unit-norm features."""
    hidden = prompts + model.positional_embedding
    hidden = model.ln_final(model.transformer(hidden, attn_mask=model.attn_mask))
    pooled = hidden[torch.arange(len(eot)), eot] @ model.text_projection
    return F.normalize(pooled, dim=-1)


class NaiveTrial:
    """A generator and a CoOp context in front of a frozen CLIP, one seed.

    Args:
        clip: where model and tokenizer come from; nothing else of it is used.
        names: of all classes; the first half has pictures.
        n_ctx: context vectors, of the generator and of CoOp.
        latent: size of z.
        hidden: hidden units of the encoder and of the generator.
    """

    def __init__(
        self,
        clip: FrozenCLIP,
        names: Sequence[str],
        n_ctx: int,
        latent: int,
        hidden: tuple[int, int],
    ) -> None:
        self.model = clip._model
        self.tokenizer = clip.tokenizer
        self.names = list(names)
        feature, width = clip.feature_dim, clip.text_width
        self.encoder = nn.Sequential(nn.Linear(feature, hidden[0]), nn.ReLU())
        self.mean, self.log_var = nn.Linear(hidden[0], latent), nn.Linear(hidden[0], latent)
        self.bias = nn.Sequential(
            nn.Linear(latent, hidden[1]), nn.ReLU(), nn.Linear(hidden[1], width)
        )
        self.n_ctx, self.latent = n_ctx, latent
        self.contexts = nn.Parameter(0.02 * torch.randn(n_ctx, width))
        self.coop = nn.Parameter(0.02 * torch.randn(n_ctx, width))
        networks = (self.encoder, self.mean, self.log_var, self.bias)
        trained = [self.contexts, *(p for network in networks for p in network.parameters())]
        self.adam = torch.optim.AdamW(trained, lr=1e-3)
        self.sgd = torch.optim.SGD([self.coop], lr=2e-3)

    def encode_images(self, pictures: Tensor) -> Tensor:
        """Unit-norm features."""
        with torch.no_grad():
            return F.normalize(self.model.encode_image(pictures), dim=-1)

    def encode_prompts(self, contexts: Tensor, labels: Sequence[int]) -> Tensor:
        """Features of one prompt a row, all of the context's length."""
        filler = " ".join(["X"] * self.n_ctx)
        ids = self.tokenizer([f"{filler} {self.names[label]}." for label in labels])
        embedded = self.model.token_embedding(ids)
        prompts = torch.cat([embedded[:, :1], contexts, embedded[:, 1 + self.n_ctx :]], dim=1)
        return encode_whole(self.model, prompts, ids.argmax(1))

    def synthesize(self, z: Tensor, labels: Sequence[int]) -> Tensor:
        """Features of classes, from noise."""
        return self.encode_prompts(self.contexts + self.bias(z).unsqueeze(1), labels)

    def generator_step(self, features: Tensor, labels: Sequence[int]) -> None:
        """One step of the VAE."""
        hidden = self.encoder(features)
        mean, log_var = self.mean(hidden), self.log_var(hidden)
        z = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
        error = (self.synthesize(z, labels) - features).square().sum(1).mean()
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1).mean()
        self.adam.zero_grad()
        (error + kl).backward()
        self.adam.step()

    def coop_step(self, features: Tensor, labels: Sequence[int]) -> None:
        """One step of CoOp, with as many synthetic features of the classes without pictures."""
        half = (len(self.names) + 1) // 2
        new = torch.randint(half, len(self.names), (len(features),)).tolist()
        with torch.no_grad():
            made = self.synthesize(torch.randn(len(features), self.latent), new)
        everything = range(len(self.names))
        classes = self.encode_prompts(self.coop.expand(len(self.names), -1, -1), everything)
        logits = 100 * torch.cat([features, made]) @ classes.T
        loss = F.cross_entropy(logits, torch.tensor([*labels, *new]))
        self.sgd.zero_grad()
        loss.backward()
        self.sgd.step()
