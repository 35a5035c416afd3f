"""Where synthetic features come from: generators of all seeds, and what stands in their place."""

from collections.abc import Mapping

from jaxtyping import Float, Int
from torch import Tensor

from ship.training import Part, ReplicaRng


class FeatureSource:
    """Class ids -> unit-norm features, of all seeds; by itself it is not fitted.

    epochs: passes over the real features that train_epoch should be called for (0: nothing to fit).
    """

    epochs: int = 0

    @property
    def finished(self) -> bool:
        """Whether there is nothing to fit, or every seed has stopped early."""
        return self.epochs == 0

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """Train one epoch; mean losses (and what else is worth a curve) by name.

        A seed that has stopped early keeps its best parameters, whatever the others still do.
        """
        return {}

    def sample(
        self, class_ids: Int[Tensor, "replica n"], rng: ReplicaRng
    ) -> Float[Tensor, "replica n feature"]:
        """One unit-norm feature for every class id; no gradient."""
        raise NotImplementedError

    def parts(self) -> Mapping[str, Part]:
        """What fitting changes (ship.training.state); {}: nothing is fitted by epochs."""
        return {}

    def learned(self) -> Mapping[str, Part] | None:
        """What sample() reads beside the backbone and the classes, (replica, ...) each.

        One that is built again with this put back draws the same features. None: it draws
        pictures, which no state stands for.
        """
        return None
