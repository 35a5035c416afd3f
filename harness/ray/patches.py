"""Everything that depends on Ray's internals: changes of its behavior, and parsers of its messages.

Only this file of harness uses private names of Ray, as tests/harness/ray/test_patches.py checks. If
the installed Ray lacks a private name, Ray keeps its default behavior, which each docstring
describes. Paths such as python/ray/_private/node.py are in Ray's repository at the version that
harness.ray.session names. A raylet is Ray's process on each node.
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

from harness.machine import set_environment
from harness.store import Failure

# Undocumented option that Ray's core reads only from the environment.
UNDOCUMENTED_ENVIRONMENT: Final = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # avoids a FutureWarning at each start of Ray 2.52
}
# By default ray.init waits in C++ for a first worker, possibly forever, and blocks all Python
# threads (src/ray/raylet/worker_pool.cc, ExecuteOnPrestartWorkersStarted). Read by the raylet.
NO_WAIT_FOR_A_WORKER: Final = {"RAY_prestart_worker_first_driver": "0"}
# Variables of Ray's authentication, and the default file of the user's token.
MODE: Final = "RAY_AUTH_MODE"
TOKEN: Final = "RAY_AUTH_TOKEN"
TOKEN_PATH: Final = "RAY_AUTH_TOKEN_PATH"
TOKEN_FILE: Final = Path("~/.ray/auth_token")

# Parts of Ray's messages about a dead worker:
# Ray killed it because the node's memory was low.
LOW_MEMORY: Final = "running low on memory"
MEMORY_USED: Final = re.compile(r"was (\S+ used / \S+) limit")  # "2.39GB used / 23.54GB"
# Its node was lost.
NODE_DIED: Final = "its node has died"
# The connection was lost, and Ray does not know whether the worker died. Ray gives up on a
# connection before it gives up on the node: after a link had been cut for 20 s, the connection was
# lost, but Ray still counted the node as alive.
CONNECTION_BROKE: Final = "is temporarily unavailable"
# Lines of the file in which Tune collects a trial's errors: the heading of each error, and the line
# with the error's type.
_ERROR_HEADING = re.compile(r"^Failure # .*$", re.MULTILINE)
_ERROR_LINE = re.compile(r"\S+(Error|Exception)\b.*: ")
# Processes without which Ray cannot run: that of each node, and that of the cluster.
_DAEMONS: Final = ("raylet", "gcs_server")


def _find_in_ray(name: str) -> Any | None:
    """Return the object with a full dotted name, or None if the installed Ray lacks it."""
    try:
        return resolve_name(name)
    except (ImportError, AttributeError):
        return None


def _replace(name: str, replacement: Any) -> AbstractContextManager[Any]:
    """Return a context that replaces the object with a full dotted name, if Ray has it."""
    return nullcontext() if _find_in_ray(name) is None else patch(name, replacement)


def _wrap(name: str, wrapper: Callable[..., Any]) -> AbstractContextManager[Any]:
    """Return a context that wraps a function or method, if Ray has it.

    Args:
        name: Full dotted name of the function.
        wrapper: Function that is called with the original function, then with its arguments.
    """
    original = _find_in_ray(name)
    return _replace(name, lambda *args, **keys: wrapper(original, *args, **keys))


@contextmanager
def private_ray() -> Iterator[None]:
    """Return a context in which Ray starts on loopback only, and requires a token of its own.

    By default Ray listens on every network interface (python/ray/_private/services.py,
    get_node_ip_address). It keeps its token in the user's home, in a file with the permissions of
    the umask (python/ray/_private/authentication/authentication_token_setup.py,
    generate_and_save_token). Ray has environment variables for both, but no arguments. The
    variables work only if they are set before Ray is imported, and a notebook may have imported it.
    Therefore this function patches the constant ENABLE_RAY_CLUSTER, which Ray computes from
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER, and makes Ray's core read the variables of the token again.

    The token has 256 random bits. It is only in the environment, which other users cannot read, and
    in no file. A token or RAY_AUTH_MODE=disabled that the user has set is kept. No token is set if
    Ray's core cannot be made to read the environment again: a core without the token could not
    communicate with processes that require it.
    """
    variables: dict[str, str] = {}
    reread = _make_authentication_reader()
    if reread is not None and os.environ.get(MODE, "token").lower() == "token":
        variables[MODE] = "token"
        if not os.environ.get(TOKEN) and not os.environ.get(TOKEN_PATH):
            variables[TOKEN] = secrets.token_hex(32)
    with ExitStack() as stack:
        if reread is not None:
            stack.enter_context(_set_authentication(variables, reread))
        # False is the default on macOS and Windows. The argument _node_ip_address="127.0.0.1" has
        # no effect: Ray replaces it by the address of a network interface.
        stack.enter_context(_replace("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False))
        yield


@contextmanager
def send_token() -> Iterator[None]:
    """Return a context in which the user's token is sent to a cluster that is joined.

    From Ray 2.59 on, `ray start` requires the token in ~/.ray/auth_token by default, but ray.init
    with HOST:PORT sends it only with RAY_AUTH_MODE=token. A cluster without a token accepts a
    driver that sends one (Ray 2.60). A mode that the user has set is kept.
    """
    reread = _make_authentication_reader()
    if reread is None or os.environ.get(MODE) or not _has_token():
        yield
        return
    with _set_authentication({MODE: "token"}, reread):
        yield


@contextmanager
def _set_authentication(variables: Mapping[str, str], reread: Callable[[], None]) -> Iterator[None]:
    """Return a context with variables of Ray's authentication, and make Ray's core read them.

    Args:
        variables: Environment variables. They replace existing ones.
        reread: Result of _make_authentication_reader.
    """
    with ExitStack() as stack:
        stack.callback(reread)  # after the variables are restored
        stack.enter_context(set_environment(variables, override=True))
        reread()
        yield


def _has_token() -> bool:
    """Return True if the user has a Ray token, in the environment or in a file."""
    variable = os.environ.get(TOKEN) or os.environ.get(TOKEN_PATH)
    return bool(variable) or TOKEN_FILE.expanduser().is_file()


def make_token_hint() -> str:
    """Return advice to set RAY_AUTH_MODE, if its absence may be why the driver could not join.

    Returns:
        Text to append to a message. "" if the user has no token file or has set RAY_AUTH_MODE.
    """
    if os.environ.get(MODE) or not TOKEN_FILE.expanduser().is_file():
        return ""
    return f". If the cluster requires the token in {TOKEN_FILE}, set {MODE}=token"


def _make_authentication_reader() -> Callable[[], None] | None:
    """Return a function that makes Ray's core in this process read mode and token again.

    By default the core reads them from the environment only once, when Ray is imported.

    Returns:
        The function. None if the installed Ray has no means of reading them again.
    """
    initialize: Any = _find_in_ray("ray._raylet.Config.initialize")
    loader: Any = _find_in_ray("ray._raylet.AuthenticationTokenLoader.instance")
    reset: Any = _find_in_ray("ray._raylet.AuthenticationTokenLoader.reset_cache")
    if initialize is None or loader is None or reset is None:
        return None

    def reread() -> None:
        # The mode is read before the cached token is dropped. If a thread of Ray's core asked for
        # the token while the old mode requires one and the variables have none, the core would
        # abort this process (python/ray/_private/authentication_test_utils.py,
        # reset_auth_token_state).
        initialize("")
        reset(loader())

    return reread


def kill_all_at_shutdown() -> AbstractContextManager[None]:
    """Return a context in which ray.shutdown sends SIGKILL to Ray's processes and their children.

    By default it sends SIGTERM, which is blocked in them (harness.ray.session.block_sigterm), and
    waits a second for each. The children have to be killed as well: they would notice the death of
    their raylet only after a minute (python/ray/_private/node.py, kill_all_processes).
    """

    def kill_all(original: Callable[..., Any], node: Any, *_: Any, **__: Any) -> None:
        roots = [process.pid for _, process in node.live_processes()]
        processes: list[psutil.Process] = []
        for pid in roots:
            with suppress(psutil.NoSuchProcess):
                processes += psutil.Process(pid).children(recursive=True)
        original(node, check_alive=False, allow_graceful=False)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    return _wrap("ray._private.node.Node.kill_all_processes", kill_all)


def filter_worker_sys_path() -> AbstractContextManager[None]:
    """Return a context in which Ray's workers import only from the driver's sys.path.

    It affects a Ray that is started or joined in the context. By default Ray puts the driver's
    working directory first on the sys.path of every worker. A folder in it then hides an installed
    package of the same name (python/ray/_private/worker.py, connect).
    """

    def serialize(original: Callable[..., Any], job: Any) -> Any:
        folders = {Path(folder).resolve() for folder in sys.path}  # "" is the working directory
        paths = getattr(job, "_py_driver_sys_path", [])
        paths[:] = [path for path in paths if Path(path).resolve() in folders]
        return original(job)

    return _wrap("ray.job_config.JobConfig._serialize", serialize)


def report_memory_kills_as_deaths() -> AbstractContextManager[None]:
    """Return a context in which Tune treats a worker that Ray killed for memory as one that died.

    By default Ray reports such a worker by an OutOfMemoryError, which is not a RayActorError. Tune
    then ends the whole run: "Caught unexpected exception"
    (python/ray/air/execution/_internal/actor_manager.py, _actor_task_failed).
    """

    def convert_memory_kill(value: Any) -> Any:
        is_memory_kill = isinstance(value, OutOfMemoryError)
        return RayActorError(error_msg=str(value)) if is_memory_kill else value

    def report_failure(original: Callable[..., Any], *args: Any, **keys: Any) -> Any:
        converted = {name: convert_memory_kill(value) for name, value in keys.items()}
        return original(*map(convert_memory_kill, args), **converted)

    manager = "ray.air.execution._internal.actor_manager.RayActorManager"
    return _wrap(f"{manager}._actor_task_failed", report_failure)


def kill_worker(trial: Any) -> bool:
    """Kill the process of a running Ray trial, even if it hangs.

    Args:
        trial: Tune's trial, as passed to callbacks.

    Returns:
        True if Ray was asked to kill it. False if Tune does not expose the trial's process.
    """
    actor = getattr(getattr(trial, "temporary_state", None), "ray_actor", None)
    if actor is None or not ray.is_initialized():  # ray.kill would start a new Ray
        return False
    ray.kill(actor)
    return True


@dataclass(frozen=True)
class Death:
    """Cause of a worker's death.

    Attributes:
        failure: Kind of failure.
        reason: Reason as text for messages.
    """

    failure: Failure
    reason: str


def parse_death(message: str) -> Death:
    """Return the cause of a worker's death from Ray's message.

    A lost connection counts as a lost node if Ray has ever known a second node, because the network
    between them may have failed. With a single node, it counts as a worker's death that Ray has not
    noticed yet.

    Args:
        message: Ray's message about the death. "" if there is none.
    """
    if LOW_MEMORY in message:
        match = MEMORY_USED.search(message)
        amount = f" ({match[1]})" if match else ""
        return Death(Failure.OUT_OF_MEMORY, f"killed by Ray because memory was low{amount}")
    if NODE_DIED in message:
        return Death(Failure.NODE_LOST, "its node was lost")
    if CONNECTION_BROKE in message and len(ray.nodes()) > 1:  # type: ignore[no-untyped-call]
        return Death(Failure.NODE_LOST, "the connection to its worker was lost")
    return Death(Failure.WORKER_DIED, "its worker process died")


def find_last_error(text: str) -> str:
    """Return the last error in a text of Tune or Ray, in one line.

    If the text has an exception, this is the exception without its traceback. Otherwise it is Ray's
    message about a dead worker: the last three unindented lines, which contain neither IDs nor the
    stack.
    """
    last_error = _ERROR_HEADING.split(text)[-1]
    lines = [line.rstrip() for line in last_error.splitlines() if line.strip()]
    messages = [line for line in lines if not line[0].isspace()]
    messages = [line for line in messages if not line.startswith("Traceback ")]
    error_lines = [index for index, line in enumerate(messages) if _ERROR_LINE.match(line)]
    start = error_lines[-1] if error_lines else -3
    return " ".join(messages[start:]) or "its process ended without an error message"


def read_error_file(trial: Any) -> str:
    """Return the text of Tune's error file of a trial, or "" if there is no such file.

    Tune's Trial.get_error is not used: it reads a copy in the storage, which is written later.

    Args:
        trial: Tune's trial, as passed to callbacks and schedulers.
    """
    file = getattr(trial, "error_file", None)
    if file is None or not Path(file).is_file():
        return ""
    return Path(file).read_text(encoding="utf-8", errors="replace")


def list_alive_nodes() -> list[dict[str, Any]]:
    """Return Ray's descriptions of the nodes that are alive."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def find_dead_daemon() -> str | None:
    """Return a description of a dead process without which the Ray of this process cannot work.

    Returns:
        Text such as "raylet, signal 9". None if raylet and gcs_server are alive, if this process
        has not started Ray, or if Ray does not expose its processes.
    """
    node: Any = _find_in_ray("ray._private.worker._global_node")
    dead = dict(node.dead_processes()) if hasattr(node, "dead_processes") else {}
    for name in _DAEMONS:
        if name in dead:
            code = dead[name].returncode
            return f"{name}, {f'signal {-code}' if code < 0 else f'exit code {code}'}"
    return None
