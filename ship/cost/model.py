"""Costs that add up: text-tower tokens, floating-point operations, bytes."""

from dataclasses import dataclass, field, replace

FLOAT_BYTES = 4


class UnknownCostError(ValueError):
    """What a method computes is not known: a plugin has no model of its cost."""


@dataclass(frozen=True)
class Memory:
    """Bytes that are alive at once beside the backbone: some whatever runs, some for each replica.

    Tensors that a step keeps, without the allocator's slack.
    """

    fixed: float = 0.0
    per_replica: float = 0.0

    def bytes(self, replicas: int) -> float:
        """Peak bytes where so many replicas (seeds times settings) are trained fused."""
        return self.fixed + replicas * self.per_replica

    def __or__(self, other: "Memory") -> "Memory":
        """Room for either of two steps that come one after the other."""
        return Memory(
            max(self.fixed, other.fixed),
            max(self.per_replica, other.per_replica),
        )

    def __add__(self, other: "Memory") -> "Memory":
        """Room for both at once."""
        return Memory(self.fixed + other.fixed, self.per_replica + other.per_replica)


@dataclass(frozen=True)
class Cost:
    """What some work takes, all its replicas together; costs of works in turn add up.

    A multiplication and an addition count as two operations; elementwise ones are left out.

    text_tokens: positions that go through the text layers, as FrozenCLIP.text_tokens counts them.
    text_tokens_backward: how many of them a gradient goes back through.
    text_flops: of the text tower, attention included, backward included.
    network_flops: of the trained small networks and classifiers, backward included.
    evaluation_flops: of logits and quality metrics, without gradients.
    memory: of the largest step.
    """

    text_tokens: float = 0.0
    text_tokens_backward: float = 0.0
    text_flops: float = 0.0
    network_flops: float = 0.0
    evaluation_flops: float = 0.0
    memory: Memory = field(default_factory=Memory)

    @property
    def flops(self) -> float:
        """Floating-point operations in all."""
        return self.text_flops + self.network_flops + self.evaluation_flops

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.text_tokens + other.text_tokens,
            self.text_tokens_backward + other.text_tokens_backward,
            self.text_flops + other.text_flops,
            self.network_flops + other.network_flops,
            self.evaluation_flops + other.evaluation_flops,
            self.memory | other.memory,
        )

    def times(self, n: float) -> "Cost":
        """The same work n times, one after the other."""
        return replace(
            self,
            text_tokens=n * self.text_tokens,
            text_tokens_backward=n * self.text_tokens_backward,
            text_flops=n * self.text_flops,
            network_flops=n * self.network_flops,
            evaluation_flops=n * self.evaluation_flops,
        )

    def beside(self, memory: Memory) -> "Cost":
        """The same work while so much else is held in memory."""
        return replace(self, memory=self.memory + memory)


def product(rows: float, n_in: float, n_out: float, backward: int = 0) -> float:
    """Operations of rows times a matrix, (rows, n_in) @ (n_in, n_out).

    Args:
        backward: how many of its two factors get a gradient; each costs as much as the product.
    """
    return 2.0 * rows * n_in * n_out * (1 + backward)


def split(n: int, most: int) -> list[int]:
    """n in parts of `most`, the last one smaller."""
    return [min(most, n - start) for start in range(0, n, most)]
