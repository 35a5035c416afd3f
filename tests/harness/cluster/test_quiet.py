"""What Ray prints of its own accord: not what a study says itself, but all else."""

import pytest
from ray._private import worker

from harness.cluster.quiet import quiet_ray

DEATH = "A worker died or was killed while executing a task by an unexpected system error."
RETRY = "Task x failed. There are infinite retries remaining, so the task will be retried."
ELSE = "No available node types can fulfill resource request {'GPU': 9.0}"


@pytest.mark.parametrize(("verbose", "shown"), [(False, [ELSE]), (True, [DEATH, RETRY, ELSE])])
def test_deaths_of_workers_are_not_printed(
    monkeypatch: pytest.MonkeyPatch, verbose: bool, shown: list[str]
) -> None:
    """Unless everything is; and afterwards Ray prints as before."""
    printed: list[str] = []

    def note(data: dict[str, list[str]], ignore_prefix: bool) -> None:
        printed.extend(data["lines"])

    monkeypatch.setattr(worker, "print_to_stdstream", note)
    with quiet_ray(verbose):
        for line in (DEATH, RETRY, ELSE):
            worker.print_to_stdstream({"lines": [line]}, ignore_prefix=False)
    assert printed == shown
    worker.print_to_stdstream({"lines": [DEATH]}, ignore_prefix=False)
    assert printed == [*shown, DEATH]
