"""What a person can mend: the command line prints it as lines and exits with 2, or 3."""

from collections.abc import Sequence


class UserError(ValueError):
    """What a person can mend: the command line prints it without a traceback and exits with 2.

    A store that is away (StoreAway) and a study that was lost (StudyLost) exit with 3.
    """


class ConfigError(UserError):
    """A study that cannot run; `faults` holds every fault, str() one line each."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = list(faults)


class ClusterError(UserError):
    """Ray cannot give the study what it asks for."""
