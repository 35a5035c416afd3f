"""Every name of Ray's that Ray does not promise to keep, and what its words on a death mean.

No other file of harness uses such a name (tests/harness/ray/test_internals.py). What replaces
something of Ray's changes nothing if the installed Ray lacks it, and each says what is lost then.
harness.ray.session explains the paths into Ray's code. Ray's process on each node is called a
raylet.
"""

import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Final
from unittest.mock import patch

import psutil
import ray
from ray.exceptions import OutOfMemoryError, RayActorError

from harness.machine import environment
from harness.store import Failure

# A setting that Ray's core takes from the environment alone, and that Ray does not document.
UNDOCUMENTED_ENVIRONMENT: Final = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a FutureWarning on every start of Ray 2.52
}
# The core of a driver waits for a first worker, forever, and no thread of Python runs meanwhile
# (src/ray/raylet/worker_pool.cc, ExecuteOnPrestartWorkersStarted). Read by the raylet.
NO_WAIT_FOR_A_WORKER: Final = {"RAY_prestart_worker_first_driver": "0"}
MODE: Final = "RAY_AUTH_MODE"
TOKEN: Final = "RAY_AUTH_TOKEN"
TOKEN_PATH: Final = "RAY_AUTH_TOKEN_PATH"
TOKEN_FILE: Final = Path("~/.ray/auth_token")

# What Ray says of a worker: that it killed it as memory ran low, e.g. "2.39GB used / 23.54GB";
LOW_MEMORY: Final = "running low on memory"
MEMORY_USED: Final = re.compile(r"was (\S+ used / \S+) limit")
# that the node of a worker has gone;
NODE_DIED: Final = "its node has died"
# that a connection broke, where it has not heard of the worker's death. Ray gives up a connection
# sooner than a node: a link cut for 20 s broke a connection, and Ray kept the node.
CONNECTION_BROKE: Final = "is temporarily unavailable"
# In the file in which Tune keeps a trial's errors: the head of each, and the line that names one.
_FAILURE = re.compile(r"^Failure # .*$", re.MULTILINE)
_IS_ERROR = re.compile(r"\S+(Error|Exception)\b.*: ")
_DAEMONS: Final = ("raylet", "gcs_server")


def _of_ray(name: str) -> Any | None:
    """What a full dotted name stands for; None where the installed Ray lacks it."""
    try:
        return resolve_name(name)
    except (ImportError, AttributeError):
        return None


def _replaced(name: str, replacement: Any) -> AbstractContextManager[Any]:
    """Replace what a full dotted name stands for, where Ray has it, while the context lasts."""
    return nullcontext() if _of_ray(name) is None else patch(name, replacement)


def _wrapped(name: str, wrapper: Callable[..., Any]) -> AbstractContextManager[Any]:
    """The same of a function or a method: wrapper gets the original one, then its arguments."""
    original = _of_ray(name)
    return _replaced(name, lambda *given, **keys: wrapper(original, *given, **keys))


@contextmanager
def private_ray() -> Iterator[None]:
    """A Ray that is started inside listens on loopback alone, and asks for a token of its own.

    By itself Ray listens on every interface of the machine, and keeps its token in the user's home,
    where its file is as readable as the umask leaves it (python/ray/_private/services.py,
    get_node_ip_address, and python/ray/_private/authentication/authentication_token_setup.py,
    generate_and_save_token). Ray has no argument for either. Its environment variables work only if
    they are set before Ray is imported, which a notebook may have done already:
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 makes the constant that is replaced here.

    The token, 256 random bits, stands in the environment, which other users cannot read, and in no
    file. Whatever the user has set of Ray's authentication stays: a token of his, or
    RAY_AUTH_MODE=disabled. So does all of it where Ray's core cannot be made to read the
    environment again: a core that does not know the token could not talk to processes that ask for
    it.
    """
    own: dict[str, str] = {}
    reread = _authentication_reader()
    if reread is not None and os.environ.get(MODE, "token").lower() == "token":
        own[MODE] = "token"
        if not os.environ.get(TOKEN) and not os.environ.get(TOKEN_PATH):
            own[TOKEN] = secrets.token_hex(32)
    with ExitStack() as stack:
        if reread is not None:
            stack.enter_context(_authentication(own, reread))
        # Ray does so by itself on macOS and Windows. It turns _node_ip_address="127.0.0.1" into the
        # address of a network interface.
        stack.enter_context(_replaced("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False))
        yield


@contextmanager
def send_token() -> Iterator[None]:
    """Send the user's token to a cluster that is joined while the context lasts.

    From Ray 2.59 on, `ray start` asks for the token in ~/.ray/auth_token by itself, but ray.init
    with HOST:PORT sends it under RAY_AUTH_MODE=token only. A cluster that asks for no token lets a
    driver join that sends one (Ray 2.60). A mode that the user has set stays.
    """
    reread = _authentication_reader()
    if reread is None or os.environ.get(MODE) or not _has_token():
        yield
        return
    with _authentication({MODE: "token"}, reread):
        yield


@contextmanager
def _authentication(variables: Mapping[str, str], reread: Callable[[], None]) -> Iterator[None]:
    """Set variables of Ray's authentication while the context lasts, and have its core read them.

    Args:
        variables: Environment variables, which replace those that are set.
        reread: As _authentication_reader returns it.
    """
    with ExitStack() as stack:
        stack.callback(reread)
        stack.enter_context(environment(variables, over=True))
        reread()
        yield


def _has_token() -> bool:
    """Return True if the user has a token of Ray's, in the environment or in a file."""
    named = os.environ.get(TOKEN) or os.environ.get(TOKEN_PATH)
    return bool(named) or TOKEN_FILE.expanduser().is_file()


def token_hint() -> str:
    """Return what to try if a cluster does not answer and the user's token was not sent.

    A cluster that asks for the token does not answer a driver that sends none.
    """
    if os.environ.get(MODE) or not TOKEN_FILE.expanduser().is_file():
        return ""
    return f". If the cluster asks for the token in {TOKEN_FILE}, set {MODE}=token"


def _authentication_reader() -> Callable[[], None] | None:
    """What lets Ray's core in this process read the mode and token of authentication again.

    By itself the core reads them once, from the environment, when Ray is imported.
    """
    initialize: Any = _of_ray("ray._raylet.Config.initialize")
    loader: Any = _of_ray("ray._raylet.AuthenticationTokenLoader.instance")
    if initialize is None or loader is None:
        return None

    def reread() -> None:
        # in this order: a core that still asks for a token must find one
        reset = loader().reset_cache
        initialize("")
        reset()

    return reread


def everything_killed_at_once() -> AbstractContextManager[None]:
    """Make ray.shutdown send SIGKILL to Ray's processes and to those that they have started.

    By itself it sends SIGTERM, which they do not get (harness.ray.session.sigterm_blocked), then
    waits a second for each of them. The raylet's agents notice its death only after a minute
    (python/ray/_private/node.py, kill_all_processes).
    """

    def killed(original: Callable[..., Any], node: Any, **_: Any) -> None:
        roots = [process.pid for _, process in node.live_processes()]
        started: list[psutil.Process] = []
        for pid in roots:
            with suppress(psutil.NoSuchProcess):
                started += psutil.Process(pid).children(recursive=True)
        original(node, check_alive=False, allow_graceful=False)
        for process in started:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    return _wrapped("ray._private.node.Node.kill_all_processes", killed)


def workers_import_as_the_driver() -> AbstractContextManager[None]:
    """Keep a Ray that is joined in this context from importing from where the driver does not.

    Ray puts the driver's working directory first on the sys.path of every worker, whether the
    driver has it there or not: a folder in it hides an installed package of the same name
    (python/ray/_private/worker.py, connect).
    """

    def serialized(original: Callable[..., Any], job: Any) -> Any:
        there = {Path(folder).resolve() for folder in sys.path}  # "" is the working directory
        paths = getattr(job, "_py_driver_sys_path", [])
        paths[:] = [path for path in paths if Path(path).resolve() in there]
        return original(job)

    return _wrapped("ray.job_config.JobConfig._serialize", serialized)


def memory_kills_as_worker_deaths() -> AbstractContextManager[None]:
    """Make Tune take a worker that Ray killed for want of memory for one that died.

    Such a worker's OutOfMemoryError is no RayActorError, and Tune gives up the whole run when it
    gets one: "Caught unexpected exception"
    (python/ray/air/execution/_internal/actor_manager.py, _actor_task_failed).
    """

    def as_death(value: Any) -> Any:
        killed = isinstance(value, OutOfMemoryError)
        return RayActorError(error_msg=str(value)) if killed else value

    def failed(original: Callable[..., Any], *given: Any, **keys: Any) -> Any:
        known = {name: as_death(value) for name, value in keys.items()}
        return original(*map(as_death, given), **known)

    manager = "ray.air.execution._internal.actor_manager.RayActorManager"
    return _wrapped(f"{manager}._actor_task_failed", failed)


def kill_worker(trial: Any) -> bool:
    """Kill the process of a running Ray trial, from outside, whatever it is doing.

    Args:
        trial: as Tune hands it to callbacks.

    Returns:
        Whether Ray was told to kill it; False where Tune shows no process of the trial.
    """
    actor = getattr(getattr(trial, "temporary_state", None), "ray_actor", None)
    if actor is None or not ray.is_initialized():  # ray.kill would start a Ray of its own
        return False
    ray.kill(actor)
    return True


@dataclass(frozen=True)
class Death:
    """What a worker died of: the kind of failure, and the reason in words for people."""

    failure: Failure
    reason: str


def death_of(told: str) -> Death:
    """What a worker died of, by Ray's text about its death.

    Where a connection breaks before Ray knows why, there is a link that can have broken as soon as
    Ray has known a second node. On a single node Ray is only slow to hear of a worker's death.
    """
    if LOW_MEMORY in told:
        used = MEMORY_USED.search(told)
        of = f" ({used[1]})" if used else ""
        return Death(Failure.OUT_OF_MEMORY, f"killed by Ray as memory ran low{of}")
    if NODE_DIED in told:
        return Death(Failure.NODE_LOST, "its node was lost")
    if CONNECTION_BROKE in told and len(ray.nodes()) > 1:  # type: ignore[no-untyped-call]
        return Death(Failure.NODE_LOST, "the connection to its worker was lost")
    return Death(Failure.WORKER_DIED, "its worker process died")


def last_error(text: str) -> str:
    """What went wrong last, in one line, by the text that Tune or Ray has of it.

    That is an exception from the line that names it on. What Ray says of a worker that died has up
    to three lines, beside indented ones with ids and the stack.
    """
    last = _FAILURE.split(text)[-1]
    lines = [line.rstrip() for line in last.splitlines() if line.strip() and not line[0].isspace()]
    told = [line for line in lines if not line.startswith("Traceback ")]
    named = [place for place, line in enumerate(told) if _IS_ERROR.match(line)]
    return " ".join(told[named[-1] if named else -3 :]) or "its process ended without a word"


def error_text(trial: Any) -> str:
    """The text of the file in which Tune keeps a trial's error; "" if there is no such file.

    Trial.get_error looks in the storage, where the file is only later.

    Args:
        trial: as Tune hands it to callbacks and schedulers.
    """
    file = getattr(trial, "error_file", None)
    if file is None or not Path(file).is_file():
        return ""
    return Path(file).read_text(encoding="utf-8", errors="replace")


def alive_nodes() -> list[dict[str, Any]]:
    """The nodes that Ray takes to be alive, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def dead_daemon() -> str | None:
    """The process that a private Ray cannot do without and that has died, as a line names it.

    Returns:
        E.g. "raylet, signal 9"; None while both are alive, where this process has started none,
        and where Ray does not show them.
    """
    node: Any = _of_ray("ray._private.worker._global_node")
    dead = dict(node.dead_processes()) if hasattr(node, "dead_processes") else {}
    for name in _DAEMONS:
        if name in dead:
            code = dead[name].returncode
            return f"{name}, {f'signal {-code}' if code < 0 else f'exit code {code}'}"
    return None
