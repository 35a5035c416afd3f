"""Ray: a local session or a running cluster, kept quiet.

A Ray that dies or cannot start ends this process, with a line, where nothing else would.
"""

import faulthandler
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import ray

from harness.config import Resources
from harness.errors import ClusterError, RayLost
from harness.machine import environment, scratch
from harness.ray import internals
from harness.resources import Nodes, usable_cpus
from harness.wording import one_line
from reports.contract import error_text, redacted

# How long a study may take to end in order once Ray has died; it does so in 10 s.
PATIENCE_SECONDS, POLL_SECONDS = 30.0, 0.5
# A start takes 2 s, and some minutes on a cluster whose nodes read Python over a slow network.
START_SECONDS = 300.0
# Writes its argument when its input ends before a byte has come.
WITNESS = "import sys; sys.stdin.read(1) or sys.stderr.write(sys.argv[1])"
INCOMPLETE = 3  # the command line's exit code for a study that can go on
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
# Read by the driver's core, which writes of what becomes of actors, past any logger.
CORE_ENVIRONMENT = {"RAY_BACKEND_LOG_LEVEL": "fatal"}
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
        stack.enter_context(internals.quiet_ray(verbose))
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
            with environment({**variables, "RAY_TMPDIR": str(folder)}, over=True):
                start(
                    "local",
                    verbose,
                    num_cpus=usable_cpus(),
                    object_store_memory=STORE_FLOOR + 2 * object_bytes,
                    include_dashboard=False,
                )
            stack.enter_context(leave_a_dead_ray())
        yield True


def start(address: str, verbose: bool, **options: Any) -> None:
    """ray.init, which ends in time, leaves this process its signal handlers, and says nothing.

    Args:
        address: of a running cluster, or "local".
        verbose: let Ray and its workers talk.
        options: further ones of ray.init.

    Raises:
        ClusterError: one line.
    """
    core = nullcontext() if verbose else quiet_core()
    level = logging.INFO if verbose else logging.CRITICAL
    try:
        with bounded_start(), own_handlers(), core, internals.workers_import_as_the_driver():
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


@contextmanager
def left_at_the_end() -> Iterator[None]:
    """Leave Ray at the end of the context.

    Ray's core sets SIGTERM to its default action as it ends, while Python still shows the handler:
    the signal would end the process before the study has its report.
    """
    try:
        yield
    finally:
        with own_handlers():
            internals.leave_ray()


@contextmanager
def leave_a_dead_ray() -> Iterator[None]:
    """End this process if Ray dies inside and the context has not ended some seconds later.

    A call to a dead Ray lasts for up to a minute, in which the thread that waits hears of nothing.
    Then Ray's core ends the process itself, with messages of its own and exit code 1.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            dead = internals.dead_daemon()
            if dead is not None and not over.wait(PATIENCE_SECONDS):
                sys.stderr.write(f"incomplete: {RayLost(dead)}\n")
                sys.stderr.flush()
                os._exit(INCOMPLETE)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def bounded_start() -> Iterator[None]:
    """End this process, with a line and exit code 1, if the context takes START_SECONDS.

    As Ray's core connects, it waits for a first worker, for ever, and lets no thread of Python run.
    Where its raylet dies just then, the core ends the process. So another process has the line to
    say, and the clock is faulthandler's, whose thread needs no turn of Python's.
    """
    line = (
        "Ray did not start: it ended this process, or started no worker in "
        f"{START_SECONDS:g} s. The same command tries again\n"
    )
    with (
        Path(os.devnull).open("w") as nowhere,
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", WITNESS, line],
            stdin=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # an interrupt at the terminal is none of its affair
        ) as witness,
    ):
        faulthandler.dump_traceback_later(START_SECONDS, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            with suppress(BrokenPipeError):
                witness.stdin.write(b".")  # type: ignore[union-attr]


@contextmanager
def own_handlers() -> Iterator[None]:
    """Set this process's signal handlers again at the end.

    ray.init replaces them, and its handler of SIGTERM dumps core. ray.shutdown removes them.
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


@contextmanager
def quiet_core() -> Iterator[None]:
    """Silence the core of a driver that starts inside; it announces even this, past any logger."""
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with environment(CORE_ENVIRONMENT):
            yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def cluster_resources() -> Nodes:
    """What each node of the open session has, in use or not: CPU, GPU, memory (bytes)."""
    return [node["Resources"] for node in internals.alive_nodes()]
