"""Start a private Ray on this machine, or join a running cluster.

Each workaround for Ray states its reason and the source file in Ray 2.60.0, relative to
https://github.com/ray-project/ray/blob/ray-2.60.0/. The tests in
tests/harness/ray/test_without_workarounds.py show what Ray does without them, and fail once a
workaround is no longer needed.
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
from harness.machine import scratch_folder, set_environment, silence_loggers
from harness.ray import patches
from harness.resources import Nodes, count_usable_cpus
from harness.wording import describe_error, format_error_text, mask_secrets

# Ray starts in 2 s, or in minutes if Python is read over a slow network.
START_SECONDS = 300.0
MIN_OBJECT_STORE_BYTES = 200 * 2**20
# Longest path of a Ray socket, relative to RAY_TMPDIR. Its absolute path may have at most
# MAX_SOCKET_PATH bytes.
RAY_SOCKET_PATH = "/ray/session_2026-01-31_23-59-59_123456_4194304/sockets/plasma_store"
MAX_SOCKET_PATH = 103 if sys.platform == "darwin" else 107
# Variables that Ray and Tune read in the driver.
DRIVER_ENVIRONMENT = {
    **patches.UNDOCUMENTED_ENVIRONMENT,
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # see harness.study.interrupts
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # most results intentionally lack the objective
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own snapshot is never read
    "TUNE_MAX_PENDING_TRIALS_PG": "10000",  # the searcher limits pending trials
    "TUNE_WARN_THRESHOLD_S": "10",
}
# Environment variables of torch's GPU memory allocator. All releases of torch read the first one.
ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


@contextmanager
def ray_session(
    resources: Resources, address: str | None, object_bytes: int, verbose: bool
) -> Iterator[bool]:
    """Open a Ray session for the context: start Ray on this machine, or join a cluster.

    At the end of the context, Ray is shut down, or this process leaves the cluster. If this process
    already has an open session, that session is used unchanged and stays open. A Ray that is
    started here is private (see harness.ray.patches.private_ray).

    Args:
        resources: Resources of a trial.
        address: Address of a running cluster. None starts Ray on this machine.
        object_bytes: Size of the objects that the object store has to hold.
        verbose: Whether Ray and its workers print their messages.

    Yields:
        True if the session was opened here, False if it was already open.

    Raises:
        ClusterError: There is no cluster at the address, or Ray cannot start.
    """
    with ExitStack() as stack:
        stack.enter_context(set_environment(DRIVER_ENVIRONMENT))
        if not verbose:
            stack.enter_context(silence_loggers("ray", "ray.tune", "ray.train"))
        if ray.is_initialized():
            yield False
            return
        variables = make_worker_environment(resources)
        if address is not None:
            stack.enter_context(patches.send_token())
            stack.enter_context(shut_ray_down_at_exit())
            start_ray(address, verbose, runtime_env={"env_vars": variables})
        else:
            stack.enter_context(patches.private_ray())
            # All users of the machine can read Ray's folder with its sockets, logs and spilled
            # objects, so it is put into a private folder.
            folder = stack.enter_context(scratch_folder(MAX_SOCKET_PATH - len(RAY_SOCKET_PATH)))
            stack.enter_context(shut_ray_down_at_exit())
            # Workers of a Ray that is started here inherit its environment. With a runtime_env,
            # they could not use prestarted processes, and would have to wait for an agent.
            session = {"RAY_TMPDIR": str(folder), **patches.NO_WAIT_FOR_A_WORKER}
            with set_environment({**variables, **session}, override=True):
                start_ray(
                    "local",
                    verbose,
                    num_cpus=count_usable_cpus(),
                    object_store_memory=MIN_OBJECT_STORE_BYTES + 2 * object_bytes,
                    include_dashboard=False,
                )
            require_worker()
        yield True


def start_ray(address: str, verbose: bool, **options: Any) -> None:
    """Call ray.init without changing this process's signal handlers.

    Args:
        address: Address of a running cluster, or "local".
        verbose: Whether Ray and its workers print their messages.
        options: Further options of ray.init.

    Raises:
        ClusterError: Ray cannot start, or the cluster cannot be joined.
    """
    level = logging.INFO if verbose else logging.CRITICAL
    try:
        with block_sigterm(), restore_signal_handlers(), patches.filter_worker_sys_path():
            ray.init(address, log_to_driver=verbose, logging_level=level, **options)
    except Exception as error:  # Ray raises a plain Exception if it cannot start
        fault = _describe_start_fault(error)
        if address == "local":
            advice = "Run the same command to try again"
            line = f"Ray did not start: {fault.rstrip('.')}. {advice}"
        else:
            line = f"no Ray cluster at {address}: {fault}{patches.make_token_hint()}"
        raise ClusterError(line) from error


def _describe_start_fault(error: Exception) -> str:
    """Return in one line why Ray did not start, or why the cluster could not be joined.

    Only the first line of an error is used, except on a version mismatch: the versions of Ray and
    Python are on the other lines.
    """
    text = format_error_text(error)
    if text.startswith("Version mismatch"):
        return mask_secrets(" ".join(text.split()))
    return describe_error(error)


def require_worker() -> None:
    """Wait until Ray has started a worker.

    If no worker can start, Ray keeps trying, and trials would wait forever.

    Raises:
        ClusterError: No worker has started in START_SECONDS, or Ray has died.
    """
    try:
        ray.get(ray.remote(lambda: None).options(num_cpus=0).remote(), timeout=START_SECONDS)
    except ray.exceptions.RayError as error:
        fault = describe_error(error).rstrip(".")
        raise ClusterError(
            f"Ray started no worker process within {START_SECONDS:g} s: {fault}. "
            "Run the same command to try again"
        ) from error


@contextmanager
def shut_ray_down_at_exit() -> Iterator[None]:
    """Shut Ray down, or leave the cluster, at the end of the context.

    Garbage is collected first: Tune leaves reference cycles that contain Ray's object references.
    If Python frees one while Ray's core shuts down, the core ends the process with exit code 1
    (python/ray/includes/object_ref.pxi, __dealloc__).
    """
    try:
        yield
    finally:
        gc.collect()
        with restore_signal_handlers(), patches.kill_all_at_shutdown():
            ray.shutdown()


@contextmanager
def block_sigterm() -> Iterator[None]:
    """Block SIGTERM in this process during the context, and for good in processes started in it.

    `scancel`, systemd and `kill -- -GROUP` send SIGTERM to every process of a study. Ray protects
    its raylet from SIGINT (python/ray/_private/services.py, preexec_fn), but not from SIGTERM. If
    the raylet ended, the driver's core would write to its closed socket and end the driver within
    0.1 s, with runs left RUNNING (src/ray/object_manager/plasma/connection.cc, ExitIfErrorStatus).
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def restore_signal_handlers() -> Iterator[None]:
    """Restore this process's signal handlers at the end of the context.

    ray.init replaces them, and its handler of SIGTERM exits. ray.shutdown sets SIGTERM to its
    default action (src/ray/util/logging.cc, UninstallSignalAction), although signal.getsignal still
    returns the old handler. A SIGTERM would then end the process before the report is written.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def make_worker_environment(resources: Resources) -> dict[str, str]:
    """Return the environment variables of workers.

    If the driver's environment has options of torch's allocator, workers get these options.

    Args:
        resources: Resources of a trial, with its number of threads.
    """
    allocator = {name: os.environ[name] for name in ALLOCATOR if name in os.environ}
    return {
        "OMP_NUM_THREADS": str(resources.threads),
        # idle threads of one trial must not spin on the cores of another
        "OMP_WAIT_POLICY": "PASSIVE",
        # blocks grow in place, so that trials of different sizes do not fragment the memory
        **(allocator or {ALLOCATOR[0]: "expandable_segments:True"}),
    }


def get_cluster_resources() -> Nodes:
    """Return the total resources of each alive node of the session: CPU, GPU, memory in bytes."""
    return [node["Resources"] for node in patches.list_alive_nodes()]
