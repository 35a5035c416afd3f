"""Opens a study in its store, against other drivers of this machine and of others."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.store.errors import StoreError, patient, store_errors
from harness.store.lease import Holder, Lease, Timing, busy, fenced, read_tag
from harness.store.lock import locked
from harness.store.open import Store, open_store
from harness.store.pending import FILE, FOLDER, Pending
from harness.store.study_run import close_dead_runs
from harness.store.study_store import StudyStore, study_store
from reports.contract import Tag


@dataclass(frozen=True)
class OwnStudy:
    """A study that this process alone may write.

    store: refuses to write once another driver has the study; what it cannot send waits on disk.
    become_last_driver: to be called before the first write that changes a run: from then on what
        others left unsent is out of date.
    """

    store: StudyStore
    experiment_id: str
    become_last_driver: Callable[[], None]


@contextmanager
def own_study(
    uri: str,
    name: str,
    cache_dir: Path,
    timing: Timing,
    fail: Callable[[Exception], None],
    say: Callable[[str], None],
) -> Iterator[OwnStudy]:
    """Open the study of a name, and its experiment if need be, and keep others out inside.

    Args:
        uri: of the store.
        name: of the study.
        cache_dir: where writes wait while the store is away.
        timing: of the lease.
        fail: called from the thread that keeps the lease when another driver has taken it.
        say: told what is waited for.

    Raises:
        StudyBusy: another driver runs it.
        StoreAway: writes are left on disk, of this run or an earlier one.
        StoreError: the store cannot be used, or the study was renamed while it was waited for.
    """
    with locked(uri, wait=True):
        store = open_store(uri, Path.cwd())
        if store is None:
            raise RuntimeError("open_store made no store")
        experiment_id = store.create_experiment(name)
    client = patient(store.client, uri)
    with ExitStack() as stack:
        try:
            place = stack.enter_context(locked(f"{uri}\n{name}", wait=False))
        except BlockingIOError as error:
            with store_errors(uri):
                raise busy(name, read_tag(client, experiment_id), here=True) from error
        me = Holder.me(place)
        lease = Lease(client, experiment_id, name, me, timing, say)
        stack.callback(lease.release)
        with store_errors(uri):
            lease.claim()
            found = client.get_experiment(experiment_id)
        if found.name != name:  # while this process waited for the lease
            raise StoreError(f"{uri}: study {name!r} has just been renamed to {found.name!r}")
        last = str(found.tags.get(Tag.LAST_DRIVER, ""))
        lease.client = store.client  # whose beats do not hold the study up
        lease.start(fail)
        own = Store(uri, fenced(store.client, lease), store.artifacts)

        def become_last_driver() -> None:
            with store_errors(uri):
                patient(own.client, uri).set_experiment_tag(
                    experiment_id, Tag.LAST_DRIVER, me.token
                )

        path = cache_dir / FOLDER / FILE
        pending = Pending(path, uri, name, experiment_id, me.token, last)
        buffered = stack.enter_context(study_store(own, pending, say))
        yield OwnStudy(buffered, experiment_id, become_last_driver)
        buffered.read(lambda client: close_dead_runs(client, experiment_id))
