"""R fused variational autoencoders of features, whatever decodes them, fitted by the ELBO."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.generators.autoencoder import Autoencoder, Encoder, active_units, real_rows
from ship.generators.early_stopping import EarlyStopping
from ship.generators.held_out import HeldOut
from ship.generators.losses import vae_loss
from ship.tasks import Task
from ship.training import (
    BatchStream,
    Counter,
    Part,
    ReplicaOptimizer,
    ReplicaRng,
    steps_per_epoch,
)


@runtime_checkable
class VAESettings(Protocol):
    """What a VAE's settings say about its training."""

    @property
    def kl_weight(self) -> float:
        """Weight of the KL term."""

    @property
    def kl_warmup(self) -> int:
        """Epochs in which the weight grows from 0."""

    @property
    def free_bits(self) -> float:
        """Nats a latent dimension."""

    @property
    def early_stopping(self) -> int | None:
        """Patience in epochs."""

    @property
    def lr(self) -> float:
        """AdamW's learning rate."""

    @property
    def weight_decay(self) -> float:
        """AdamW's weight decay."""

    @property
    def epochs(self) -> int:
        """Passes over the features."""

    @property
    def batch_size(self) -> int:
        """Features a step."""


class VAE:
    """R fused VAEs on the seen classes of a task; keeps the contract of a generator.

    A network without trainable parameters has nothing to fit: 0 epochs.

    Attributes:
        network: encoder and decoder.

    Raises:
        ValueError: early stopping without validation pictures.
    """

    def __init__(
        self,
        config: VAESettings,
        task: Task,
        network: Autoencoder,
        seeds: Sequence[int],
    ) -> None:
        """Build them.

        Args:
            config: of all replicas.
            task: whose seen classes they are fitted on.
            network: encoder and decoder of all replicas.
            seeds: of each replica.
        """
        device, dtype = task.features.device, task.features.dtype
        self.config = config
        self.network = network
        self._task = task
        # named alike in every VAE, so that they see the same batches and noise in a comparison
        self._noise = ReplicaRng(seeds, "vae/noise", device, dtype)
        self._views = ReplicaRng(seeds, "vae/views", device)
        self._batches = BatchStream(task.counts, ReplicaRng(seeds, "vae/batches"))
        self._batch_size = min(config.batch_size, task.n_nominal)
        self._steps = steps_per_epoch(task.n_nominal, self._batch_size)
        self._real = real_rows(task.counts, task.features.shape[1], device)
        self._done = Counter()
        self._stopping: EarlyStopping | None = None
        parameters = [value for value in network.parameters() if value.requires_grad]
        self.epochs = config.epochs if parameters else 0
        if not parameters:
            return
        self._optimizer = ReplicaOptimizer(
            torch.optim.AdamW, parameters, config.lr, weight_decay=config.weight_decay
        )
        if config.early_stopping is not None:
            self._held_out = HeldOut(task, network, seeds)
            self._stopping = EarlyStopping(
                config.early_stopping, config.kl_warmup, task.n_replicas, device
            )

    @property
    def finished(self) -> bool:
        """Whether there is nothing to fit, or every replica has stopped early."""
        if self._stopping is not None:
            return bool(self._stopping.stopped.all())
        return self.epochs == 0

    def kl_weight(self, epoch: int) -> float:
        """Weight of the KL term in an epoch (from 1): 0 in the first of the warm-up's epochs."""
        warmup = self.config.kl_warmup
        return self.config.kl_weight * (min(1.0, (epoch - 1) / warmup) if warmup else 1.0)

    def terms(
        self,
        features: Float[Tensor, "replica n feature"],
        class_ids: Int[Tensor, "replica n"],
        noise: Float[Tensor, "replica n latent"] | None,
    ) -> tuple[Float[Tensor, " replica"], Float[Tensor, " replica"], Float[Tensor, " replica"]]:
        """Squared error, KL and penalised KL of a batch (see vae_loss), for the given noise.

        Args:
            features: of pictures, unit norm.
            class_ids: of each feature, places among the task's classes.
            noise: standard normal; None where the decoder takes no z.
        """
        reconstruction, mean, log_var = self.network(features, class_ids, noise)
        return vae_loss(reconstruction, features, mean, log_var, self.config.free_bits)

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """One pass over the seen classes' features, a random view of each.

        Returns:
            loss (as minimised in this epoch), reconstruction and, of a posterior, kl (the true one)
            and active_units at the epoch's end; with early stopping also held_out_loss. A replica
            that has stopped, and each one after the last epoch, reports its best epoch's.
        """
        if self.epochs == 0:
            return {}
        self._done.value += 1
        sums = self._task.features.new_zeros(3, self._task.n_replicas)
        weight = self.kl_weight(self._done.value)
        for _ in range(self._steps):
            sums += self._step(*self._batch(), weight)
        squared_error, kl, penalised = sums / self._steps
        metrics = {"loss": squared_error + weight * penalised, "reconstruction": squared_error}
        if self.network.encoder is not None:
            metrics |= {"kl": kl, "active_units": self._active_units(self.network.encoder)}
        if self._stopping is not None:
            metrics = self._keep_best(self._stopping, metrics)
        return metrics

    def _batch(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """The next step's features, their class ids, and noise."""
        rows = self._batches.next(self._batch_size)
        size = self.network.latent_dim
        noise = self._noise.normal(len(rows[0]), size) if size else None
        return *self._task.batch(rows, self._views), noise

    def _step(
        self,
        features: Float[Tensor, "replica n feature"],
        class_ids: Int[Tensor, "replica n"],
        noise: Float[Tensor, "replica n latent"] | None,
        kl_weight: float | Float[Tensor, " replica"],
    ) -> Float[Tensor, "term replica"]:
        """One step; squared error, KL and penalised KL of its batch."""
        squared_error, kl, penalised = self.terms(features, class_ids, noise)
        self._optimizer.zero_grad()
        # summed over replicas, so that each one's gradient is that of its own mean loss
        (squared_error + kl_weight * penalised).sum().backward()
        self._optimizer.step()
        return torch.stack([squared_error, kl, penalised]).detach()

    def _active_units(self, encoder: Encoder) -> Float[Tensor, " replica"]:
        return active_units(encoder, self._task.features[:, :, 0], self._real, self._batch_size)

    def _keep_best(
        self, stopping: EarlyStopping, metrics: dict[str, Tensor]
    ) -> dict[str, Float[Tensor, " replica"]]:
        """Note the epoch; where training is over, put the best parameters into the network."""
        held_out = self._held_out.loss(
            self.network, self.config.kl_weight, self.config.free_bits, self._batch_size
        )
        metrics = {**metrics, "held_out_loss": held_out}
        epoch = self._done.value
        stopping.update(epoch, held_out, self.network, metrics)
        over = torch.ones_like(stopping.stopped) if epoch == self.epochs else stopping.stopped
        stopping.load(self.network, over)
        return stopping.reported(metrics, over)

    @torch.no_grad()
    def sample(
        self, class_ids: Int[Tensor, "replica n"], rng: ReplicaRng
    ) -> Float[Tensor, "replica n feature"]:
        """Synthetic features: z ~ N(0, I) through the decoder of the given classes.

        A decoder without z gives one feature a class, whatever the noise.
        """
        size = self.network.latent_dim
        z = rng.normal(class_ids.shape[1], size) if size else None
        made: Tensor = self.network.decoder(z, class_ids)
        return made

    def learned(self) -> Mapping[str, Part]:
        """The decoder; what is sampled needs no encoder."""
        return dict(self.network.decoder.named_parameters())

    def parts(self) -> Mapping[str, Part]:
        """The trained parameters, what moves them, and where the streams are."""
        if self.epochs == 0:
            return {}
        named = self.network.named_parameters()
        return {
            "done": self._done,
            "parameters": {name: value for name, value in named if value.requires_grad},
            "optimizer": self._optimizer,
            "stopping": self._stopping or {},
            "noise": self._noise,
            "views": self._views,
            "batches": self._batches,
        }
