"""Opens a study in its store, against other drivers of this machine and of others."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.store.errors import StoreError, again, patient, store_errors
from harness.store.lease import Holder, Lease, Timing, busy, fenced, read_holder
from harness.store.lock import locked
from harness.store.open import Store, open_store
from harness.store.pending import FILE, FOLDER, Pending
from harness.store.study_run import close_dead_runs
from harness.store.study_store import StudyStore, study_store
from reports.contract import Tag


@contextmanager
def own_study(
    uri: str,
    name: str,
    cache_dir: Path,
    timing: Timing,
    fail: Callable[[Exception], None],
    say: Callable[[str], None],
) -> Iterator[StudyStore]:
    """Open the study of a name, and its experiment if need be, and keep others out inside.

    What is given refuses to write once another driver has the study; what it cannot send waits on
    disk.

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
        store = open_store(uri)
        experiment_id = store.create_experiment(name)
    client = patient(store.client, uri)
    with ExitStack() as stack:
        try:
            place = stack.enter_context(locked(f"{uri}\n{name}", wait=False))
        except BlockingIOError as error:
            with store_errors(uri):
                raise busy(name, read_holder(client, experiment_id), here=True) from error
        me = Holder.me(place)
        lease = Lease(store.client, experiment_id, name, me, timing, say)
        stack.callback(lease.release)
        with store_errors(uri):
            again(uri, lease.claim)
            found = client.get_experiment(experiment_id)
        if found.name != name:  # while this process waited for the lease
            raise StoreError(f"{uri}: study {name!r} has just been renamed to {found.name!r}")
        last = str(found.tags.get(Tag.LAST_DRIVER, ""))
        lease.start(fail)
        own = Store(uri, fenced(store.client, lease), store.artifacts)
        path = cache_dir / FOLDER / FILE
        pending = Pending(path, uri, name, experiment_id, me.token, last)
        study = stack.enter_context(study_store(own, pending, say))
        yield study
        close_dead_runs(study, experiment_id)
