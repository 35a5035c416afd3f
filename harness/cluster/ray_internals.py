"""Every name of Ray's that Ray does not promise to keep, each behind a function with a fallback.

No other file of harness names one (tests/harness/cluster/test_ray_internals.py). Where the Ray that
is installed has no such name, or another signature, a function says so by what it returns, or
changes nothing: a study then runs as before, only less quietly, or with less exact reasons for a
worker's death. Two fallbacks cost more: without kill_worker a time limit ends no trial, and without
memory_kills_as_worker_deaths a worker that Ray kills for want of memory ends the run.
"""

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import ray
from ray.exceptions import OutOfMemoryError, RayActorError

# Ray's core reads neither from an argument, nor are they in its documentation.
UNDOCUMENTED_ENVIRONMENT: Final = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a FutureWarning on every start of Ray 2.52
}

# (address, port) of raylets
Nodes = frozenset[tuple[str, int]]

_ABSENT: Final = (ImportError, AttributeError)
# What Ray prints of a dead worker, a dozen lines, and of each new try of Ray Data's.
_WORKER_DEATHS: Final = ("A worker died or was killed", "so the task will be retried")
_LOW_MEMORY: Final = "running low on memory"
_MEMORY_USED: Final = re.compile(r"was (\S+ used / \S+) limit")
# What Ray says when a connection broke and it has not heard of the worker's death. It gives up a
# connection sooner than a node: one broke when a link was cut for 20 s, and the node was kept.
_CUT_OFF: Final = "is temporarily unavailable"
_NODE_IP: Final = "node_ip"


def reread_authentication() -> bool:
    """Let Ray's core in this process read mode and token again, which it does but once.

    Returns:
        Whether it did; if not, the core keeps to what the environment said when Ray was imported.
    """
    try:
        core: Any = importlib.import_module("ray._raylet")
        # in this order: a core that still asks for a token must find one
        loader = core.AuthenticationTokenLoader.instance()
        reset = loader.reset_cache
        core.Config.initialize("")
        reset()
    except (*_ABSENT, TypeError):
        return False
    return True


@contextmanager
def loopback_addresses() -> Iterator[None]:
    """The address of a node that is started inside is 127.0.0.1, so that its services bind to it.

    Ray does so by itself on macOS and Windows, and has no argument that asks for it elsewhere:
    _node_ip_address="127.0.0.1" is turned into the address of an interface. Where Ray has no such
    switch, its services bind to an interface, and ask for the session's token all the same.
    """
    with _replaced("ray._private.ray_constants", "ENABLE_RAY_CLUSTER", lambda original: False):
        yield


@contextmanager
def worker_deaths_unprinted() -> Iterator[None]:
    """Errors that raylets push to a driver about dead workers are not printed.

    Ray prints them whatever its loggers are set to. Other lines, an autoscaler's say, are printed
    as ever; where Ray prints in another way, all lines are.
    """

    def replacement(original: Callable[..., Any]) -> Callable[..., Any]:
        def printed(*given: Any, **keys: Any) -> Any:
            if not any(words in _lines(*given, **keys) for words in _WORKER_DEATHS):
                return original(*given, **keys)
            return None

        return printed

    with _replaced("ray._private.worker", "print_to_stdstream", replacement):
        yield


@contextmanager
def memory_kills_as_worker_deaths() -> Iterator[None]:
    """Make Tune take a worker that Ray killed for want of memory for one that died.

    Such a worker's OutOfMemoryError is no RayActorError, and Tune 2.60 gives up the whole run at
    it ("Caught unexpected exception"). So it does again where this changes nothing, because Tune
    handles the errors of its workers in another way.
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
        Whether there was a process to kill that Tune lets us know of.
    """
    actor = getattr(getattr(trial, "temporary_state", None), "ray_actor", None)
    if actor is None:
        return False
    try:
        ray.kill(actor)
    except (TypeError, ValueError):  # no handle of an actor
        return False
    return True


def error_text(trial: Any) -> str:
    """What Tune has written of a trial's error into its file, "" if there is no such file.

    Args:
        trial: as Tune hands it to callbacks and schedulers.
    """
    file = getattr(trial, "error_file", None)
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace") if file else ""
    except (OSError, TypeError):
        return ""


def address_of_result(result: Mapping[str, Any]) -> str | None:
    """The address of the node that a Tune result comes from; None where Tune does not add it."""
    address = result.get(_NODE_IP)
    return address if isinstance(address, str) else None


def living_nodes() -> Nodes:
    """The nodes that Ray holds for alive; none where Ray describes its nodes in other words."""
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


def was_killed_for_memory(message: str) -> bool:
    """Whether Ray's message about a dead worker says that Ray killed it as memory ran low."""
    return _LOW_MEMORY in message


def memory_used(message: str) -> str:
    """Used and whole memory, e.g. "2.39GB used / 23.54GB", in Ray's message; "" if it has none."""
    used = _MEMORY_USED.search(message)
    return used[1] if used else ""


def was_cut_off(message: str) -> bool:
    """Whether Ray's message about a worker says that the connection to it broke, and no more."""
    return _CUT_OFF in message


@contextmanager
def _replaced(module: str, name: str, replacement: Callable[[Any], Any]) -> Iterator[None]:
    """Put something in the place of a module's name for a while, if the module has that name.

    Args:
        module: full name of the module.
        name: dotted name in it, e.g. "Class.method".
        replacement: given what stands there, returns what is to stand there.
    """
    *path, last = name.split(".")
    try:
        holder: Any = importlib.import_module(module)
        for part in path:
            holder = getattr(holder, part)
        original = getattr(holder, last)
    except _ABSENT:
        yield
        return
    setattr(holder, last, replacement(original))
    try:
        yield
    finally:
        setattr(holder, last, original)


def _lines(data: Any = None, *given: Any, **keys: Any) -> str:
    """The text in what Ray is about to print; "" if it is not given as Ray 2.60 gives it."""
    lines = data.get("lines", ()) if isinstance(data, Mapping) else ()
    return "\n".join(map(str, lines)) if isinstance(lines, list | tuple) else ""


def _as_worker_death(value: Any) -> Any:
    """An OutOfMemoryError as a RayActorError; anything else as it is."""
    return RayActorError(error_msg=str(value)) if isinstance(value, OutOfMemoryError) else value
