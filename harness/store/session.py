"""Opens a study in its store and holds it, against other drivers of this machine and of others."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness.store.errors import store_errors
from harness.store.lock.fenced_client import fenced
from harness.store.lock.file_lock import gate, study_lock
from harness.store.lock.lease import Lease, Timing
from harness.store.lock.lease_tag import LAST, LOOKERS, Holder, read_tag
from harness.store.numbering import Chosen, choose
from harness.store.open import Store, open_store
from harness.store.outbox.journal import Drivers


@dataclass(frozen=True)
class Held:
    """A study that this process may write.

    store: refuses to write once another driver has the study.
    name: of its experiment. called: what a report finds it by.
    drivers: this one, and those whose writes may still wait.
    settle: to be called before the first write that changes a run: from then on what others left
        unsent is out of date.
    """

    store: Store
    experiment_id: str
    name: str
    called: str
    drivers: Drivers
    settle: Callable[[], None]


@dataclass(frozen=True)
class Hold:
    """How a study is held.

    uri: of the store. directory: what a relative one starts from. fresh: a new study of its name.
    fail: called from the thread that keeps the lease when another driver has taken it.
    say: told which study it is, and what is waited for.
    """

    uri: str
    directory: Path
    fresh: bool
    timing: Timing
    fail: Callable[[Exception], None]
    say: Callable[[str], None]

    @contextmanager
    def study(self, name: str) -> Iterator[Held]:
        """Open the study of a name, and its experiment if need be, and hold it inside.

        Raises:
            StudyBusy: another driver holds it.
            StoreError: the store cannot be used.
            UserError: the store has no study of that number.
        """
        with gate(self.uri):
            store, chosen = self._open(name)
            experiment_id = chosen.create(store)
        if chosen.line:
            self.say(chosen.line)
        experiment = chosen.found.experiment
        with (
            study_lock(self.uri, experiment) as place,
            self._leased(store, experiment_id, experiment, place) as (own, drivers),
        ):

            def settle() -> None:
                with store_errors(self.uri):
                    own.client.set_experiment_tag(experiment_id, LAST, drivers.own)

            yield Held(own, experiment_id, experiment, chosen.found.exact, drivers, settle)

    def _open(self, name: str) -> tuple[Store, Chosen]:
        store = open_store(self.uri, self.directory)
        if store is None:
            raise RuntimeError("open_store made no store")
        return store, choose(store, name, fresh=self.fresh)

    @contextmanager
    def _leased(
        self, store: Store, experiment_id: str, name: str, place: str
    ) -> Iterator[tuple[Store, Drivers]]:
        me = Holder.me(place)
        lease = Lease(store.client, experiment_id, name, me, self.timing, self.say)
        try:
            with store_errors(store.uri):
                lease.claim()
                before = tuple(read_tag(store.client, experiment_id, LAST).split())[:LOOKERS]
                chain = " ".join((me.token, *before))
                store.client.set_experiment_tag(experiment_id, LAST, chain)
            lease.start(self.fail)
            own = replace(store, client=fenced(store.client, lease.check))
            yield own, Drivers(me.token, before)
        finally:
            lease.release()
