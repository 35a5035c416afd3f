"""`max_failures`: settings that fail one after the other say that it is not the settings."""

from collections import Counter

MOST_REASONS = 5


class TooManyFailures(Exception):  # noqa: N818  # no error: the study says when it gives up
    """So many settings failed in a row that the study stops; str() says why they did."""


class Streak:
    """The settings that have failed since one went well."""

    def __init__(self, max_failures: int | None) -> None:
        """Count.

        Args:
            max_failures: settings in a row that are too many; None: never.
        """
        self._max_failures = max_failures
        self._failed: dict[str, str] = {}

    def went_well(self) -> None:
        """A setting ended without a failure."""
        self._failed.clear()

    def failed(self, key: str, reason: str) -> TooManyFailures | None:
        """A setting failed; what to raise if it is one too many.

        Args:
            key: of the setting, which counts once, whichever of its seeds fail.
            reason: as the store has it.
        """
        self._failed[key] = reason
        if self._max_failures is None or len(self._failed) < self._max_failures:
            return None
        return TooManyFailures(self._summary())

    def _summary(self) -> str:
        counts = Counter(self._failed.values()).most_common()
        lines = [f"  {count} x {reason}" for reason, count in counts[:MOST_REASONS]]
        rest = sum(count for _, count in counts[MOST_REASONS:])
        if rest:
            lines.append(f"  {rest} x for other reasons, which are in the store")
        n = len(self._failed)
        settings = "setting" if n == 1 else "settings"
        head = f"stopped: {n} {settings} failed in a row (max_failures: {self._max_failures})"
        return "\n".join([head, *lines])
