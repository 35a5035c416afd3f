"""Opens a study in its store and holds it, against other drivers of this machine and of others."""

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
from harness.store.outbox.journal import Drivers
from reports.contract import Tag


@dataclass(frozen=True)
class Held:
    """A study that this process may write.

    store: refuses to write once another driver has the study.
    drivers: this one, and those whose writes may still wait.
    become_last_driver: to be called before the first write that changes a run: from then on what
        others left unsent is out of date.
    """

    store: Store
    experiment_id: str
    drivers: Drivers
    become_last_driver: Callable[[], None]


@dataclass(frozen=True)
class Hold:
    """How a study is held.

    uri: of the store. directory: what a relative one starts from.
    fail: called from the thread that keeps the lease when another driver has taken it.
    say: told what is waited for.
    """

    uri: str
    directory: Path
    timing: Timing
    fail: Callable[[Exception], None]
    say: Callable[[str], None]

    @contextmanager
    def study(self, name: str) -> Iterator[Held]:
        """Open the study of a name, and its experiment if need be, and hold it inside.

        Raises:
            StudyBusy: another driver holds it.
            StoreError: the store cannot be used.
        """
        with gate(self.uri):
            store = open_store(self.uri, self.directory)
            if store is None:
                raise RuntimeError("open_store made no store")
            experiment_id = store.create_experiment(name)
        with (
            study_lock(self.uri, name) as place,
            self._leased(store, experiment_id, name, place) as (own, drivers),
        ):

            def become_last_driver() -> None:
                with store_errors(self.uri):
                    client = patient(own.client, self.uri)
                    client.set_experiment_tag(experiment_id, Tag.LAST_DRIVER, drivers.own)

            yield Held(own, experiment_id, drivers, become_last_driver)

    @contextmanager
    def _leased(
        self, store: Store, experiment_id: str, name: str, place: str
    ) -> Iterator[tuple[Store, Drivers]]:
        me = Holder.me(place)
        lease = Lease(store.client, experiment_id, name, me, self.timing, self.say)
        client = patient(store.client, store.uri)
        try:
            with store_errors(store.uri):
                lease.claim(client)
                last = read_tag(client, experiment_id, Tag.LAST_DRIVER)
                before = tuple(last.split())[:EARLIER_DRIVERS_KEPT]
                chain = " ".join((me.token, *before))
                client.set_experiment_tag(experiment_id, Tag.LAST_DRIVER, chain)
            lease.start(self.fail)
            own = replace(store, client=fenced(store.client, lease.check))
            yield own, Drivers(me.token, before)
        finally:
            lease.release()
