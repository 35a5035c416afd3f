"""Which of the studies of a name is meant: the newest, one by its number, or a fresh one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.store.errors import store_errors
from harness.store.open import Store

if TYPE_CHECKING:
    from reports.contract import Found


@dataclass(frozen=True)
class Chosen:
    """The study that a command is about.

    found: it and those beside it. exists: whether it has an experiment yet.
    """

    found: Found
    exists: bool

    @property
    def line(self) -> str:
        """Which study it is, in one line; "" where there is but one of its name."""
        found = self.found
        if not found.beside:
            return ""
        if not self.exists:
            return f"study {found.exact}, a fresh one; beside it: {', '.join(found.beside)}"
        return f"{found.line} (--set name={found.beside[-1]} goes on with that one)"

    def create(self, store: Store) -> str:
        """Id of the study's experiment, which is made if need be."""
        from reports.contract import TAG_FRESH_OF

        fresh_of = self.found.name if self.found.number > 1 else ""
        return store.create_experiment(
            self.found.experiment, {TAG_FRESH_OF: fresh_of} if fresh_of else {}
        )


def choose(store: Store | None, name: str, *, fresh: bool = False) -> Chosen:
    """Find the study that `name` means in the store; changes nothing.

    Args:
        store: None: there is none yet.
        name: NAME means the newest study of that name, NAME.1 the first one.
        fresh: a new study beside those that there are. The newest is taken where it holds no runs:
            it was meant to be fresh, and nothing came of it.

    Raises:
        UserError: a number that no study has, or that stands in the way of a fresh one.
        StoreError: the store cannot be read.
    """
    from reports.contract import Found, experiment_name, find_study, split_name

    base, number = split_name(name)
    if fresh and number is not None:
        raise UserError(f"--fresh begins a new study of the name {base}, and not {name}")
    experiments, taken = _experiments(store) if store else ({}, set())
    found = find_study(name, experiments)
    if found is None and number is not None:
        newest = find_study(base, experiments)
        others = [newest.exact, *newest.beside] if newest else []
        known = ", ".join(sorted(others)) or "none"
        raise UserError(
            f"name: {name} names the study number {number} of the name {base}, and there is no "
            f"such study (there are: {known}; a new one has no full stop in its name)"
        )
    if found is None and not (fresh and base in taken):  # a deleted one is told when it is opened
        return Chosen(Found(base, 1, (1,)), exists=False)
    if found and not (fresh and store and not _is_empty(store, found.experiment)):
        return Chosen(found, exists=True)
    numbers = found.numbers if found else ()
    after = max(numbers, default=1) + 1
    while experiment_name(base, after) in taken:
        after += 1
    return Chosen(Found(base, after, (*numbers, after)), exists=False)


def _experiments(store: Store) -> tuple[dict[str, str], set[str]]:
    """Active experiments, name -> TAG_FRESH_OF; and every name that is taken, deleted ones' too."""
    from mlflow.entities import ViewType

    from reports.contract import TAG_FRESH_OF

    active: dict[str, str] = {}
    taken: set[str] = set()
    token: str | None = None
    with store_errors(store.uri):
        while True:
            page = store.client.search_experiments(
                view_type=ViewType.ALL, max_results=1000, page_token=token
            )
            for one in page:
                taken.add(one.name)
                if one.lifecycle_stage == "active":
                    active[one.name] = one.tags.get(TAG_FRESH_OF, "")
            token = page.token
            if not token:
                return active, taken


def _is_empty(store: Store, experiment: str) -> bool:
    known = store.experiment(experiment)
    with store_errors(store.uri):
        return known is None or not store.client.search_runs([known], max_results=1)
