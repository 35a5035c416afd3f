"""What fine-tuners share that take steps on a TrainingStream: their epochs and what they train."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.finetuners.training_set import TrainingStream
from ship.training import CosineDescent, Part, ReplicaOptimizer


class StreamTrained(ABC):
    """R fused fine-tuners whose parameters are all that they learn.

    choices: the one empty choice, unless a fine-tuner has others.
    """

    choices: tuple[Mapping[str, float], ...] = ({},)

    def __init__(
        self,
        parameters: Mapping[str, Float[Tensor, "replica ..."]],
        optimizer: ReplicaOptimizer,
        stream: TrainingStream,
        epochs: int,
    ) -> None:
        """Be ready for the first epoch.

        Args:
            parameters: that are trained, by name.
            optimizer: of them.
            stream: of batches.
            epochs: passes over its real pictures.
        """
        self._parameters = dict(parameters)
        self._stream = stream
        self._epochs = epochs
        self._descent = CosineDescent(optimizer, epochs, stream.steps)

    @property
    def epochs(self) -> int:
        """Training epochs."""
        return self._epochs

    @abstractmethod
    def loss(
        self,
        features: Float[Tensor, "replica n feature"],
        labels: Int[Tensor, "replica n"],
        weights: Float[Tensor, "replica n"] | None,
    ) -> Float[Tensor, " replica"]:
        """Of a batch, to be minimised.

        Args:
            features: a batch, unit norm.
            labels: of each feature, places among the task's classes.
            weights: of each feature's loss; None: all 1.
        """

    def losses(
        self,
        features: Float[Tensor, "replica n feature"],
        labels: Int[Tensor, "replica n"],
        weights: Float[Tensor, "replica n"] | None,
    ) -> Iterable[Float[Tensor, " replica"]]:
        """The loss in parts that add up to it; several, where one at once takes too much memory.

        Args:
            features, labels, weights: as of loss.
        """
        return [self.loss(features, labels, weights)]

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """One pass over the real features."""
        return {"loss": self._descent.epoch(self._stream.next, self.losses)}

    def state_dict(self) -> dict[str, Tensor]:
        """Detached copies of the parameters."""
        return {name: value.detach().clone() for name, value in self._parameters.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put the parameters back."""
        with torch.no_grad():
            for name, value in self._parameters.items():
                value.copy_(state[name])

    def learned(self) -> Mapping[str, Part]:
        """The parameters."""
        return dict(self._parameters)

    def parts(self) -> Mapping[str, Part]:
        """The parameters and their training."""
        return {**self._parameters, "descent": self._descent, "stream": self._stream}
