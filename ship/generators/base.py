"""The contract of a generator: fit on base features, then class ids -> unit-norm features."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from ship.training import Part, ReplicaRng


@runtime_checkable
class Generator(Protocol):
    """R fused generators of image features for classes that have no pictures.

    epochs: passes over the real features that train_epoch should be called for (0: nothing to fit).
    finished: every replica has stopped early; train_epoch need not be called again.
    """

    @property
    def epochs(self) -> int:
        """Training epochs."""

    @property
    def finished(self) -> bool:
        """Whether further epochs would change nothing."""

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """Train one epoch; mean losses (and what else is worth a curve) by name.

        A replica that has stopped early keeps its best parameters, whatever the others still do.
        """

    def sample(
        self, class_ids: Int[Tensor, "replica n"], rng: ReplicaRng
    ) -> Float[Tensor, "replica n feature"]:
        """One unit-norm synthetic feature for every class id; no gradient."""

    def parts(self) -> Mapping[str, Part]:
        """What fitting changes (ship.training.state); {}: nothing is fitted by epochs."""

    def learned(self) -> Mapping[str, Part] | None:
        """What sample() reads beside the backbone and the classes, (replica, ...) each.

        One that is built again with this put back draws the same features. None: it draws
        pictures, which no state stands for.
        """
