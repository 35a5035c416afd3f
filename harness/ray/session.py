"""Ray: a session of this machine or of a running cluster.

What protects a study from Ray's own behavior gives its reason, and the place in Ray 2.60.0, as a
path below https://github.com/ray-project/ray/blob/ray-2.60.0/. A test in
tests/harness/ray/test_by_ray_alone.py shows what Ray does without it, and fails once Ray does
better.
"""

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import ray

from harness.config import Resources
from harness.errors import ClusterError
from harness.machine import environment, quiet, scratch
from harness.ray import internals
from harness.resources import Nodes, usable_cpus
from harness.wording import error_text, one_line, redacted

# A start takes 2 s, and some minutes where Python is read over a slow network.
START_SECONDS = 300.0
STORE_FLOOR = 200 * 2**20
# How the path of a socket of Ray's goes on after RAY_TMPDIR; in all it may have so many bytes.
SOCKET = "/ray/session_2026-01-31_23-59-59_123456_4194304/sockets/plasma_store"
LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
# Ray and Tune read these from the driver's environment.
DRIVER_ENVIRONMENT = {
    **internals.UNDOCUMENTED_ENVIRONMENT,
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # harness.study.interrupts has it
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # most results carry no objective, on purpose
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own snapshot is never read
    "TUNE_MAX_PENDING_TRIALS_PG": "10000",  # how many there are is the searcher's to say
    "TUNE_WARN_THRESHOLD_S": "10",
}
# What torch's allocator of GPU memory reads: the name that every release knows, and the later one.
ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


@contextmanager
def ray_session(
    resources: Resources, address: str | None, object_bytes: int, verbose: bool
) -> Iterator[bool]:
    """Start Ray on this machine, or join the cluster at `address`; a session already open is used.

    Gives whether this process has started or joined it, and leaves it at the end. What is started
    here is this machine's own affair: see harness.ray.internals.private_ray.

    Args:
        resources: of a trial.
        address: of a running cluster; None for this machine alone.
        object_bytes: what the object store has to hold.
        verbose: let Ray and its workers talk.

    Raises:
        ClusterError: no cluster there, or Ray cannot start.
    """
    with ExitStack() as stack:
        stack.enter_context(environment(DRIVER_ENVIRONMENT))
        if not verbose:
            stack.enter_context(quiet("ray", "ray.tune", "ray.train"))
        if ray.is_initialized():
            yield False
            return
        variables = worker_environment(resources)
        if address is not None:
            stack.enter_context(internals.send_token())
            stack.enter_context(left_at_the_end())
            start(address, verbose, runtime_env={"env_vars": variables})
        else:
            stack.enter_context(internals.private_ray())
            # Ray lets every user of the machine into its own folder, but not into this one around
            # it, which is for its sockets, logs and spilled objects
            folder = stack.enter_context(scratch(LONGEST_SOCKET - len(SOCKET)))
            stack.enter_context(left_at_the_end())
            # Workers of a Ray that is started here inherit its environment. With a runtime_env none
            # could be a process that Ray has started ahead, and all would wait for an agent besides
            session = {"RAY_TMPDIR": str(folder), **internals.NO_WAIT_FOR_A_WORKER}
            with environment({**variables, **session}, over=True):
                start(
                    "local",
                    verbose,
                    num_cpus=usable_cpus(),
                    object_store_memory=STORE_FLOOR + 2 * object_bytes,
                    include_dashboard=False,
                )
            require_worker()
        yield True


def start(address: str, verbose: bool, **options: Any) -> None:
    """Call ray.init so that this process keeps its signal handlers.

    Args:
        address: of a running cluster, or "local".
        verbose: let Ray and its workers talk.
        options: further ones of ray.init.

    Raises:
        ClusterError: one line.
    """
    level = logging.INFO if verbose else logging.CRITICAL
    try:
        with sigterm_blocked(), own_handlers(), internals.workers_import_as_the_driver():
            ray.init(address, log_to_driver=verbose, logging_level=level, **options)
    except Exception as error:  # a Ray that cannot start raises just that
        local = "Ray did not start, the same command tries again"
        what = local if address == "local" else f"no Ray cluster at {address}"
        hint = "" if address == "local" else internals.token_hint()
        raise ClusterError(f"{what}: {_start_fault(error)}{hint}") from error


def _start_fault(error: Exception) -> str:
    """Return why Ray did not start or was not joined, in one line.

    Ray lists the differing versions of Ray and Python below its first line.
    """
    text = error_text(error)
    if text.startswith("Version mismatch"):
        return redacted(" ".join(text.split()))
    return one_line(error)


def require_worker() -> None:
    """Wait until Ray has started a worker.

    Where no worker can start, Ray goes on trying, and trials would wait forever.

    Raises:
        ClusterError: No worker has started in START_SECONDS, or Ray has died.
    """
    try:
        ray.get(ray.remote(lambda: None).options(num_cpus=0).remote(), timeout=START_SECONDS)
    except ray.exceptions.RayError as error:
        fault = one_line(error).rstrip(".")
        raise ClusterError(
            f"Ray started no worker process (limit {START_SECONDS:g} s): {fault}. "
            "Run the same command to try again"
        ) from error


@contextmanager
def left_at_the_end() -> Iterator[None]:
    """Leave Ray at the end of the context.

    Tune leaves references to Ray's objects in cycles. If one of them is collected while Ray's core
    shuts down, the core ends the process with exit code 1 (python/ray/includes/object_ref.pxi,
    __dealloc__).
    """
    try:
        yield
    finally:
        gc.collect()
        with own_handlers(), internals.everything_killed_at_once():
            ray.shutdown()


@contextmanager
def sigterm_blocked() -> Iterator[None]:
    """Start processes that SIGTERM does not reach. This process gets it at the end of the context.

    `scancel`, systemd and `kill -- -GROUP` send SIGTERM to every process of a study. Ray protects
    its raylet from SIGINT (python/ray/_private/services.py, preexec_fn), but not from SIGTERM. A
    raylet that SIGTERM ends reports its node dead, whereupon the core of the driver writes to the
    raylet's closed socket and ends the process within 0.1 s, with runs left RUNNING
    (src/ray/object_manager/plasma/connection.cc, ExitIfErrorStatus).
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def own_handlers() -> Iterator[None]:
    """Set this process's signal handlers again at the end.

    ray.init replaces them, and its handler of SIGTERM exits. ray.shutdown sets SIGTERM to its
    default action while Python still shows the handler: the signal would end the process before the
    study has its report (src/ray/util/logging.cc, UninstallSignalAction).
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def worker_environment(resources: Resources) -> dict[str, str]:
    """Environment variables of every worker; what the driver has for torch's allocator stays."""
    allocator = {name: os.environ[name] for name in ALLOCATOR if name in os.environ}
    return {
        "OMP_NUM_THREADS": str(resources.threads),
        # idle threads of one trial must not spin on the cores of another
        "OMP_WAIT_POLICY": "PASSIVE",
        # torch's blocks grow in place: what trials of different sizes leave is not split for ever
        **(allocator or {ALLOCATOR[0]: "expandable_segments:True"}),
    }


def cluster_resources() -> Nodes:
    """What each node of the open session has, in use or not: CPU, GPU, memory (bytes)."""
    return [node["Resources"] for node in internals.alive_nodes()]
