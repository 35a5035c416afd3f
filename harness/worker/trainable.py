"""A worker as Ray Tune has it: the class that Tune makes in each of its processes."""

import os
from collections.abc import Mapping
from typing import Any

from ray import tune

from harness.worker.worker import Worker


class ShipTrainable(tune.Trainable):
    """Tune's calls, handed to a Worker.

    What becomes of a trial whose process dies is for harness.tuning.retry_policy to say.
    """

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], *, features: Mapping[str, Any], **arguments: Any
    ) -> None:
        """Prepare the process, then its first trial.

        Args:
            config: what trial_spec returned.
            features, arguments: as of Worker.
        """
        self._worker = Worker(features, **arguments)
        self._worker.begin(config)

    def step(self) -> dict[str, Any]:
        """See Worker.step."""
        return self._worker.step()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another trial in the same process, unless the last one has broken its GPU."""
        if self._worker.broken:
            os._exit(1)  # the trial is tried again, on another worker
        self._worker.begin(new_config)
        return True

    def cleanup(self) -> None:
        """Let go of a half-run trial."""
        self._worker.let_go()
