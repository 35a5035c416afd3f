"""Settings whose networks cannot fit into any trial's memory, whatever else a trial holds."""

from collections.abc import Iterator, Sequence

from harness.config.checks.settings import Setting
from harness.errors import Fault
from ship.architectures import feature_dim
from ship.settings import NamedSettings

# A trained weight, its gradient and AdamW's two moments, in float32.
BYTES_A_WEIGHT = 16
BYTES_A_NUMBER = 4
GIB = 2**30


def memory_faults(
    settings: Sequence[Setting], memory: int | None
) -> Iterator[tuple[Setting, Fault]]:
    """Sizes that one seed's networks, or its synthetic features, would need more memory for.

    Args:
        settings: whose backbones are there.
        memory: bytes of the machine; None: not known, and nothing is looked at.
    """
    if memory is None:
        return
    for setting in settings:
        trial, size = setting.trial, feature_dim(setting.trial.backbone)
        for group in ("generator", "finetuner"):
            given: NamedSettings = getattr(trial, group)
            taken = BYTES_A_WEIGHT * given.n_weights(size)
            if taken > memory:
                key = _largest(given, size)
                yield setting, _fault(f"{group}.{key}", getattr(given, key), taken, memory)
        features = trial.synthetic.per_class or 0
        key, taken = "synthetic.per_class", BYTES_A_NUMBER * features * size
        if taken > memory and not trial.unread_reason(key):
            yield setting, _fault(key, features, taken, memory)


def _largest(given: NamedSettings, size: int) -> str:
    """The setting without which the fewest weights would be left."""
    numbers = [key for key, value in given if type(value) is int]
    return min(numbers, key=lambda key: given.model_copy(update={key: 1}).n_weights(size))


def _fault(key: str, value: int, taken: int, memory: int) -> Fault:
    needed, has = (f"{n_bytes / GIB:,.0f} GiB" for n_bytes in (taken, memory))
    must = f"must fit into this machine's memory of {has}: one seed needs {needed} or more"
    return Fault(key, must, value)
