"""Opens a study in its store, against other drivers of this machine and of others."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness.store.errors import store_errors
from harness.store.lock.fenced_client import fenced
from harness.store.lock.file_lock import gate, study_lock
from harness.store.lock.lease import Lease, Timing
from harness.store.lock.lease_tag import EARLIER_DRIVERS_KEPT, Holder, read_tag
from harness.store.open import Store, open_store
from harness.store.outbox.again import patient
from harness.store.outbox.client import outbox
from harness.store.outbox.journal import Drivers
from reports.contract import Tag


@dataclass(frozen=True)
class OwnStudy:
    """A study that this process alone may write.

    store: refuses to write once another driver has the study; what it cannot send waits on disk.
    become_last_driver: to be called before the first write that changes a run: from then on what
        others left unsent is out of date.
    """

    store: Store
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
        StoreError: the store cannot be used.
    """
    with gate(uri):
        store = open_store(uri, Path.cwd())
        if store is None:
            raise RuntimeError("open_store made no store")
        experiment_id = store.create_experiment(name)
    with study_lock(uri, name) as place:
        me = Holder.me(place)
        lease = Lease(store.client, experiment_id, name, me, timing, say)
        plain = patient(store.client, uri)
        fenced_client = fenced(store.client, lease.check)

        def become_last_driver() -> None:
            with store_errors(uri):
                client = patient(fenced_client, uri)
                client.set_experiment_tag(experiment_id, Tag.LAST_DRIVER, me.token)

        try:
            with store_errors(uri):
                lease.claim(plain)
                last = read_tag(plain, experiment_id, Tag.LAST_DRIVER)
                earlier = tuple(last.split())[:EARLIER_DRIVERS_KEPT]
                chain = " ".join((me.token, *earlier))
                plain.set_experiment_tag(experiment_id, Tag.LAST_DRIVER, chain)
            lease.start(fail)
            drivers, own = Drivers(me.token, earlier), replace(store, client=fenced_client)
            with outbox(own, name, experiment_id, cache_dir, say, drivers) as buffered:
                yield OwnStudy(buffered, experiment_id, become_last_driver)
        finally:
            lease.release()
