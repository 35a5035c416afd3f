"""Which study a name means in a store, and what --fresh makes of it."""

import pytest

from harness.errors import ConfigError, UserError
from harness.store.errors import StoreError
from harness.store.numbering import choose
from harness.store.open import Store
from reports.read.runs import locate
from tests.harness.fakes import make_study


def fresh(store: Store, name: str = "small", runs: bool = True) -> str:
    """Begin a fresh study, with a run in it; its experiment's name."""
    chosen = choose(store, name, fresh=True)
    experiment = chosen.create(store)
    if runs:
        store.client.create_run(experiment)
    return chosen.found.experiment


def test_without_a_store_a_study_is_the_first() -> None:
    """Fresh or not; there is nothing to say."""
    for asked in (False, True):
        chosen = choose(None, "small", fresh=asked)
        assert (chosen.found.experiment, chosen.exists, chosen.line) == ("small", False, "")


def test_fresh_studies_are_counted_and_the_newest_goes_on(store: Store) -> None:
    """Reports find them by the same names."""
    assert [fresh(store) for _ in range(3)] == ["small", "small.2", "small.3"]
    newest = choose(store, "small")
    assert newest.found.experiment == "small.3"
    assert newest.exists
    assert newest.line == (
        "study small.3, the newest; beside it: small.1, small.2 "
        "(--set name=small.2 goes on with that one)"
    )
    first = choose(store, "small.1")
    assert first.create(store) == store.experiment("small")
    assert locate("small", store.uri).experiment == "small.3"
    assert locate("small.1", store.uri).experiment == "small"


def test_a_fresh_study_says_so_before_it_is_there(store: Store) -> None:
    """A dry run makes nothing."""
    fresh(store)
    assert choose(store, "small", fresh=True).line == (
        "study small.2, a fresh one; beside it: small.1"
    )
    assert store.experiment("small.2") is None


def test_a_fresh_study_without_runs_is_still_fresh(store: Store) -> None:
    """A command that came to nothing leaves no empty study behind each time."""
    fresh(store)
    assert fresh(store, runs=False) == fresh(store, runs=False) == "small.2"


def test_names_that_are_taken_are_passed_over(store: Store) -> None:
    """By somebody else's experiment, which is no study, or by a deleted one."""
    fresh(store)
    store.client.create_experiment("small.2")
    deleted = store.client.create_experiment("small.3")
    store.client.delete_experiment(deleted)
    assert choose(store, "small").found.experiment == "small"
    assert fresh(store) == "small.4"
    assert choose(store, "small").found.experiment == "small.4"


def test_a_deleted_study_is_in_nobodys_way(store: Store) -> None:
    """A fresh one begins beside it; without --fresh the error says how to bring it back."""
    store.client.delete_experiment(store.create_experiment("small"))
    with pytest.raises(StoreError, match="restore --experiment-id"):
        choose(store, "small").create(store)
    assert fresh(store) == "small.2"
    assert choose(store, "small").found.exact == "small.2"


def test_a_users_own_name_collides_with_none(store: Store) -> None:
    """NAME-2 is another study; NAME.2 is no name that a new study can have."""
    store.create_experiment("small-2")
    fresh(store)
    assert fresh(store) == "small.2"
    with pytest.raises(ConfigError, match="name must consist of a-z"):
        make_study(name="small.x")
    with pytest.raises(UserError, match=r"small.7 names the study number 7 .* small.1, small.2;"):
        choose(store, make_study(name="small.7").name)
    with pytest.raises(UserError, match="--fresh begins a new study of the name small, and not"):
        choose(store, "small.2", fresh=True)
