"""How a command of ship-sweep ends: its exit code, and user errors as lines on stderr."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from harness.command import INCOMPLETE, INTERRUPTED, USER_MISTAKE
from harness.errors import ConfigError, Fault, RayLost, UserError
from harness.store import StoreUnavailable, StudyLost
from harness.wording import mask_secrets
from ship.architectures import BackboneError
from ship.datasets import DatasetError
from ship.plugins import PluginError, find_plugin_fault
from ship.registry import PROPAGATED_EXCEPTIONS

RESUME_ADVICE = "run the same command to resume"


@contextmanager
def print_user_errors() -> Iterator[None]:
    """Print user errors raised in the context to stderr, without a traceback, and exit.

    The exit code is

    - 130 after an interrupt;
    - 3 if a running study has stopped and can be resumed: its store did not respond within the
      timeout, Ray died, or another driver took over the study;
    - 2 after any other error of the user or of a plugin, including a store that does not respond
      at the start, or that refuses a read or write.

    Other exceptions are bugs, and are raised again.

    Raises:
        typer.Exit: The context raised a user error or was interrupted.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported
    # Read when Ray is imported. If unset, Ray assumes that the driver's parent process is the
    # raylet. In a container the parent is often process 1, and then Ray ends the driver when the
    # raylet dies (Ray 2.60.0, src/ray/raylet_ipc_client/raylet_ipc_client.cc,
    # ShutdownIfLocalRayletDisconnected).
    os.environ.setdefault("RAY_RAYLET_PID", str(os.getpid()))
    try:
        yield
    except KeyboardInterrupt:
        exit_with(INTERRUPTED, f"interrupted: {RESUME_ADVICE}")
    except (StudyLost, StoreUnavailable, RayLost) as error:
        exit_with(INCOMPLETE, f"incomplete: {error}")
    except (UserError, BackboneError, DatasetError, PluginError) as error:
        exit_with(USER_MISTAKE, str(error))
    except BaseException as error:
        if isinstance(error, PROPAGATED_EXCEPTIONS) or not (fault := find_plugin_fault(error)):
            raise
        exit_with(USER_MISTAKE, fault)


def exit_with(code: int, message: str) -> NoReturn:
    """Print a message to stderr, and exit."""
    typer.echo(mask_secrets(message), err=True)
    raise typer.Exit(code)


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Check that the value of an argument is one of its choices.

    Raises:
        ConfigError: The value is not one of the choices.
    """
    if value not in choices:
        raise ConfigError([Fault(name, "must be one of the choices", value, choices).text])
