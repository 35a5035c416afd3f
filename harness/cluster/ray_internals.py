"""Every name of Ray's that Ray does not promise to keep, each behind a function with a fallback.

No other file of harness uses such a name (tests/harness/cluster/test_ray_internals.py). Where the
installed Ray lacks a name, or its signature is another, the function here says so by what it
returns, or changes nothing. A study then runs as before, only less quietly, or with less exact
reasons for a worker's death. Two fallbacks cost more: without kill_worker a time limit ends no
trial, and without memory_kills_as_worker_deaths a worker that Ray kills for want of memory ends the
run. Ray's process on each node is called a raylet.
"""

import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import ray
from ray.exceptions import OutOfMemoryError, RayActorError

# Settings that Ray's core takes from the environment alone, and that Ray does not document.
UNDOCUMENTED_ENVIRONMENT: Final = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a FutureWarning on every start of Ray 2.52
}

# (address, port) of each node's raylet
Nodes = frozenset[tuple[str, int]]

_NAME_IS_ABSENT: Final = (ImportError, AttributeError)
# Words in what Ray prints about a dead worker (a dozen lines), and about each retry of Ray Data.
_WORKER_DEATHS: Final = (
    "A worker died or was killed",
    "so the task will be retried",
    "Raylet is terminated",
)
# In what Ray says of a worker that it killed as memory ran low, e.g. "2.39GB used / 23.54GB".
LOW_MEMORY: Final = "running low on memory"
MEMORY_USED: Final = re.compile(r"was (\S+ used / \S+) limit")
# What Ray says when a connection broke and it has not heard of the worker's death. Ray gives up a
# connection sooner than a node: a link cut for 20 s broke a connection, and Ray kept the node.
CONNECTION_BROKE: Final = "is temporarily unavailable"
# What Ray says when a worker's own code raised before the worker could take up anything.
RAISED_IN_SETUP: Final = "raised in its creation task"
_DAEMONS: Final = ("raylet", "gcs_server")
_NODE_IP: Final = "node_ip"


def reread_authentication() -> bool:
    """Let Ray's core in this process read the mode and token of authentication again.

    By itself the core reads them once, from the environment, when Ray is imported.

    Returns:
        Whether it read them again; if not, the core keeps what it read first.
    """
    try:
        core: Any = importlib.import_module("ray._raylet")
        # in this order: a core that still asks for a token must find one
        loader = core.AuthenticationTokenLoader.instance()
        reset = loader.reset_cache
        core.Config.initialize("")
        reset()
    except (*_NAME_IS_ABSENT, TypeError):
        return False
    return True


@contextmanager
def loopback_addresses() -> Iterator[None]:
    """Give a node that is started in this context the address 127.0.0.1, to bind its services to.

    Ray does so by itself on macOS and Windows, and has no argument that asks for it elsewhere: it
    turns _node_ip_address="127.0.0.1" into the address of a network interface. Where the installed
    Ray lacks the constant that is replaced here, its services bind to such an interface, and still
    ask for the session's token.
    """
    with _replaced("ray._private.ray_constants", "ENABLE_RAY_CLUSTER", lambda original: False):
        yield


@contextmanager
def workers_import_as_the_driver() -> Iterator[None]:
    """Keep a Ray that is joined in this context from importing from where the driver does not.

    Ray puts the driver's working directory first on the sys.path of every worker, whether the
    driver has it there or not: a folder in it hides an installed package of the same name. Where
    the installed Ray lacks the method that is replaced here, it does so still.
    """

    def replacement(original: Callable[..., Any]) -> Callable[..., Any]:
        def serialized(job: Any) -> Any:
            there = {Path(folder).resolve() for folder in sys.path}  # "" is the working directory
            paths = getattr(job, "_py_driver_sys_path", [])
            paths[:] = [path for path in paths if Path(path).resolve() in there]
            return original(job)

        return serialized

    with _replaced("ray.job_config", "JobConfig._serialize", replacement):
        yield


@contextmanager
def worker_deaths_unprinted() -> Iterator[None]:
    """Keep Ray from printing, in the driver, the errors that raylets send about dead workers.

    Ray prints them whatever its loggers are set to. Other lines, such as an autoscaler's, are still
    printed. Where the installed Ray prints in another way, all lines are.
    """

    def replacement(original: Callable[..., Any]) -> Callable[..., Any]:
        def printed(*given: Any, **keys: Any) -> Any:
            if not any(words in _printed_text(*given, **keys) for words in _WORKER_DEATHS):
                return original(*given, **keys)
            return None

        return printed

    with _replaced("ray._private.worker", "print_to_stdstream", replacement):
        yield


@contextmanager
def memory_kills_as_worker_deaths() -> Iterator[None]:
    """Make Tune take a worker that Ray killed for want of memory for one that died.

    Such a worker's OutOfMemoryError is no RayActorError, and Tune 2.60 gives up the whole run when
    it meets one ("Caught unexpected exception"). It still does where the installed Tune handles its
    workers' errors in another way, as this then changes nothing.
    """

    def replacement(original: Callable[..., Any]) -> Callable[..., Any]:
        def failed(*given: Any, **keys: Any) -> Any:
            known = {name: _as_worker_death(value) for name, value in keys.items()}
            return original(*map(_as_worker_death, given), **known)

        return failed

    manager = "ray.air.execution._internal.actor_manager"
    with _replaced(manager, "RayActorManager._actor_task_failed", replacement):
        yield


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
    try:
        ray.kill(actor)
    except (TypeError, ValueError):  # what Tune holds is not an actor's handle
        return False
    return True


def error_text(trial: Any) -> str:
    """The text of the file in which Tune keeps a trial's error; "" if there is no such file.

    Args:
        trial: as Tune hands it to callbacks and schedulers.
    """
    file = getattr(trial, "error_file", None)
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace") if file else ""
    except (OSError, TypeError):
        return ""


def address_of_result(result: Mapping[str, Any]) -> str | None:
    """The address of the node that a Tune result comes from; None where the result lacks it."""
    address = result.get(_NODE_IP)
    return address if isinstance(address, str) else None


def living_nodes() -> Nodes:
    """The nodes that Ray takes to be alive; an empty set where Ray describes nodes otherwise."""
    try:
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        return frozenset(
            (node["NodeManagerAddress"], node["NodeManagerPort"]) for node in nodes if node["Alive"]
        )
    except (AttributeError, KeyError, TypeError):
        return frozenset()


def driver_address() -> str | None:
    """The address of the node that the driver is on; None where Ray does not say it."""
    try:
        return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
    except (AttributeError, TypeError):
        return None


def dead_daemon() -> str | None:
    """The process that a private Ray cannot do without and that has died, as a line names it.

    Returns:
        E.g. "raylet, signal 9"; None while both are alive, where this process has started none,
        and where Ray does not show them.
    """
    try:
        node = importlib.import_module("ray._private.worker")._global_node
        dead = {kind: process.returncode for kind, process in node.dead_processes()}
    except (*_NAME_IS_ABSENT, TypeError, ValueError):
        return None
    for name in _DAEMONS:
        if (code := dead.get(name)) is not None:
            return f"{name}, {f'signal {-code}' if code < 0 else f'exit code {code}'}"
    return None


@contextmanager
def _replaced(module: str, name: str, replacement: Callable[[Any], Any]) -> Iterator[None]:
    """Replace what a name in a module stands for, while the context lasts.

    Where the module or the name does not exist, nothing is changed.

    Args:
        module: full name of the module.
        name: dotted name in the module, e.g. "Class.method".
        replacement: given the original object, returns the one that replaces it.
    """
    *path, last = name.split(".")
    try:
        holder: Any = importlib.import_module(module)
        for part in path:
            holder = getattr(holder, part)
        original = getattr(holder, last)
    except _NAME_IS_ABSENT:
        yield
        return
    setattr(holder, last, replacement(original))
    try:
        yield
    finally:
        setattr(holder, last, original)


def _printed_text(data: Any = None, *given: Any, **keys: Any) -> str:
    """The text that Ray is about to print; "" where the arguments are not those of Ray 2.60."""
    lines = data.get("lines", ()) if isinstance(data, Mapping) else ()
    return "\n".join(map(str, lines)) if isinstance(lines, list | tuple) else ""


def _as_worker_death(value: Any) -> Any:
    """Turn an OutOfMemoryError into a RayActorError; anything else is returned as it is."""
    return RayActorError(error_msg=str(value)) if isinstance(value, OutOfMemoryError) else value
