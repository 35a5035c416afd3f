"""Open the store of a study so that requests wait until it answers, and lock the study."""

import math
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import tenacity

from harness.machine import hold_lock, set_environment
from harness.store.errors import (
    FIRST_PAUSE,
    NoAnswer,
    StoreUnavailable,
    retry_requests,
    wrap_errors,
)
from harness.store.lease import Lease, LeaseOwner, StudyBusy, Timing, fence_client, read_owner
from harness.store.open import CLIENT_ENVIRONMENT, Store, open_store
from harness.store.run_update import DRIVER_DIED, close_dead_runs
from harness.wording import format_duration

STORE_TIMEOUT = 1800.0  # default time to wait for the store, in seconds
MAX_PAUSE = 1.0  # maximum seconds between two tries; a signal is noticed only at a try
LEFT_OPEN = "still open when the study ended"  # reason written to a run that nothing has closed

T = TypeVar("T")


@dataclass(eq=False)
class StudyStore(Store):
    """Store of a running study. Requests wait while the store does not answer.

    Attributes:
        experiment_id: MLflow's ID of the study's experiment.
        timeout: Maximum seconds to wait for the store.
        is_stopped: Function that returns True once the study has to end, which also ends a wait.
        print_line: Function that prints one line.
    """

    experiment_id: str
    timeout: float
    is_stopped: Callable[[], bool]
    print_line: Callable[[str], None]
    # Time of the first try without an answer (time.monotonic); infinity while the store answers.
    # All calls share it: once one has waited for the timeout, later ones do not wait again.
    _away_since: float = field(default=math.inf, init=False)

    def call(self, request: Callable[[], T]) -> T:
        """Return the result of `request`. Repeat the call while the store does not answer.

        Args:
            request: Function that makes idempotent requests to the store.

        Raises:
            StoreUnavailable: The store did not answer for `timeout` seconds, or until the study was
                stopped.
            StoreError: The store refuses a request.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(NoAnswer),
            wait=tenacity.wait_exponential(FIRST_PAUSE, MAX_PAUSE),
            after=self._note_lack_of_answer,
            stop=self._should_give_up,
            before_sleep=self._announce_wait,
            reraise=True,
        )
        try:
            answer: T = retrying(super().call, request)
        except NoAnswer as error:
            wait = format_duration(time.monotonic() - self._away_since)
            raise StoreUnavailable(
                f"{error}: gave up after {wait}. Run the same command to resume"
            ) from error
        if retrying.statistics["attempt_number"] > 1:
            self.print_line("the MLflow store answers again")
        self._away_since = math.inf
        return answer

    def close_dead_runs(self, reason: str = DRIVER_DIED) -> int:
        """Close the study's runs that are still RUNNING, and return their number.

        See `harness.store.run_update.close_dead_runs`. `reason` is written to trials' runs.

        Raises:
            StoreError: See `call`.
        """
        return self.call(lambda: close_dead_runs(self.client, self.experiment_id, reason))

    def _note_lack_of_answer(self, attempt: tenacity.RetryCallState) -> None:
        """Set `_away_since` after the first try without an answer."""
        self._away_since = min(self._away_since, time.monotonic())

    def _should_give_up(self, attempt: tenacity.RetryCallState) -> bool:
        """Return True after `timeout` seconds without an answer, or if the study has to end."""
        return self.is_stopped() or time.monotonic() - self._away_since >= self.timeout

    def _announce_wait(self, attempt: tenacity.RetryCallState) -> None:
        """Print a line after the first failed attempt."""
        if attempt.attempt_number == 1 and attempt.outcome is not None:
            self.print_line(
                f"{attempt.outcome.exception()}: retrying for up to "
                f"{format_duration(self.timeout)}; running trials pause when they next report "
                "results"
            )


@contextmanager
def open_and_lock_study(
    uri: str,
    name: str,
    timing: Timing,
    timeout: float,
    *,
    fail: Callable[[Exception], None],
    is_stopped: Callable[[], bool],
    print_line: Callable[[str], None],
) -> Iterator[StudyStore]:
    """Open the store of a study, and lock the study for this driver inside the context.

    The study's experiment is created if needed. If the store does not answer while it is opened, an
    error is raised within seconds; later requests wait. After another driver has taken the study
    over, every write raises StudyLost. If the context ends without an error, runs that are still
    RUNNING are closed with the reason LEFT_OPEN.

    Args:
        uri: Address of the store.
        name: Name of the study.
        timing: Timing of the lease.
        timeout: Maximum seconds to wait for the store.
        fail: Function that the lease's thread calls with the error if another driver has taken the
            study over.
        is_stopped: Function that returns True once the study has to end, which also ends a wait.
        print_line: Function that prints one line.

    Yields:
        The open store.

    Raises:
        StudyBusy: Another driver runs the study.
        StoreUnavailable: The store did not answer for `timeout` seconds when the runs were closed.
        StoreError: The store cannot be opened.
    """
    with set_environment(CLIENT_ENVIRONMENT), ExitStack() as stack:
        with hold_lock(uri, wait=True):
            store = open_store(uri)
            experiment_id = store.get_or_create_experiment(name)
        try:
            lock_id = stack.enter_context(hold_lock(f"{uri}\n{name}", wait=False))
        except BlockingIOError as error:
            owner = store.read(lambda client: read_owner(client, experiment_id))
            is_local = owner is not None and owner.host == socket.gethostname()
            raise StudyBusy(
                name, owner if is_local else "another process on this machine"
            ) from error
        me = LeaseOwner(uuid.uuid4().hex, socket.gethostname(), os.getpid(), lock_id)
        lease = Lease(store.client, experiment_id, name, me, timing, print_line)
        stack.callback(lease.release)
        with wrap_errors(uri):
            retry_requests(uri, lease.claim)
        lease.start(fail)
        client = fence_client(store.client, lease)
        study = StudyStore(uri, client, experiment_id, timeout, is_stopped, print_line)
        yield study
        study.close_dead_runs(LEFT_OPEN)
