"""What Ray does not promise is named in one file, and a study runs without it."""

import importlib
import operator
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import ray
from ray._private import worker
from ray.exceptions import OutOfMemoryError, RayActorError

from harness.cluster import ray_internals
from harness.cluster.loopback import MODE, TOKEN, private_token
from harness.cluster.quiet import quiet_ray
from harness.tuning.endings import Deaths
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study
from tests.told import told

ROOT = Path(__file__).parents[3]
ONLY_THERE = "harness/cluster/ray_internals.py"
NAMES = told(__file__, "ray_names.yaml")
PRIVATE = (
    r"\bray(?:\.\w+)*\._[a-z]\w*"  # a module or an attribute of Ray's own
    r"|\bfrom ray[\w.]* import (?:.*\W)?_[a-z]\w*"
    f"|{'|'.join(map(re.escape, NAMES['undocumented'] + NAMES['messages']))}"
)
HIDDEN = r"(?<!\bself)(?<!\bcls)(?<!\bos)\._[a-z]\w*"  # of an object that Ray may have made


def private_names(source: str) -> list[str]:
    """Names in a source that Ray does not promise: by import, by attribute or as a text."""
    uses_ray = re.search(r"^\s*(import|from) ray\b", source, re.M)
    return re.findall(f"{PRIVATE}|{HIDDEN}" if uses_ray else PRIVATE, source)


def test_no_other_file_names_what_ray_does_not_promise() -> None:
    """A new release of Ray can break one file alone."""
    files = sorted((ROOT / "harness").rglob("*.py"))
    assert len(files) > 50
    found = {
        path.relative_to(ROOT).as_posix(): names
        for path in files
        if (names := private_names(path.read_text("utf-8")))
    }
    assert {"ray._raylet", "ray._private", "temporary_state", NAMES["messages"][0]} <= set(
        found.pop(ONLY_THERE)
    )
    assert not found
    for source in (
        "from ray import _raylet",
        "import ray\ntrial._state",
        "import ray.tune._internal",
    ):
        assert private_names(source)
    assert not private_names("import ray\nself._own") and not private_names("array._x")


def test_a_study_runs_where_ray_has_none_of_the_names(
    ray_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every import from inside Ray fails, and neither a result nor the driver has an address."""

    def absent(module: str) -> Any:
        raise ImportError(module)

    monkeypatch.setattr(ray_internals, "importlib", SimpleNamespace(import_module=absent))
    monkeypatch.delattr(ray.util, "get_node_ip_address")
    monkeypatch.setattr(ray_internals, "_NODE_IP", "no such key")
    outcome = ray_bench.run(make_study(space={"generator.n_ctx": [1, 2]}, seeds=1))
    assert outcome.complete
    assert ray_bench.states() == ["COMPLETE"] * 2
    ray_bench.check_invariants()


def test_without_rereading_rays_own_authentication_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token is set that the core of this process would not know."""
    for name in (MODE, TOKEN):
        monkeypatch.delenv(name, raising=False)
    without_configuration = SimpleNamespace(AuthenticationTokenLoader=mock.MagicMock())
    there = SimpleNamespace(import_module=lambda _: without_configuration)
    monkeypatch.setattr(ray_internals, "importlib", there)
    assert not ray_internals.reread_authentication()
    without_configuration.AuthenticationTokenLoader.instance().reset_cache.assert_not_called()
    with private_token():
        assert not {MODE, TOKEN} & set(os.environ)


@pytest.mark.parametrize(("module", "name"), NAMES["today"])
def test_ray_has_every_name_today(module: str, name: str) -> None:
    """The installed Ray is one that nothing has to be done without."""
    operator.attrgetter(name)(importlib.import_module(module))


DEATH = "A worker died or was killed while executing a task by an unexpected system error."
RETRY = "Task x failed. There are infinite retries remaining, so the task will be retried."
ELSE = "No available node types can fulfill resource request {'GPU': 9.0}"


@pytest.mark.parametrize("verbose", [False, True])
def test_deaths_of_workers_are_not_printed(monkeypatch: pytest.MonkeyPatch, verbose: bool) -> None:
    """Unless everything is; all else is, however Ray hands it over, and afterwards all again."""
    printed: list[Any] = []
    monkeypatch.setattr(worker, "print_to_stdstream", lambda *given, **_: printed.append(given))
    deaths = [({"lines": [DEATH]},), ({"lines": [RETRY]},)]
    others = [({"lines": [ELSE]},), (), ([DEATH],), ({"lines": None},)]
    with quiet_ray(verbose):
        for given in deaths + others:
            worker.print_to_stdstream(*given, **({"ignore_prefix": False} if given else {}))
    assert printed == deaths * verbose + others
    worker.print_to_stdstream(*deaths[0])
    assert printed[-1] == deaths[0]


def test_a_memory_kill_is_told_in_whatever_place_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another order or number of arguments of Tune's does not keep it from being a death."""
    from ray.air.execution._internal.actor_manager import RayActorManager

    seen: list[Any] = []
    monkeypatch.setattr(
        RayActorManager, "_actor_task_failed", lambda *given, **keys: seen.append((given, keys))
    )
    manager: Any = object()
    with ray_internals.memory_kills_as_worker_deaths():
        failed: Any = RayActorManager._actor_task_failed
        failed(manager, OutOfMemoryError("x"))
        failed(manager, error=OutOfMemoryError("y"))
    assert isinstance(seen[0][0][1], RayActorError)
    assert isinstance(seen[1][1]["error"], RayActorError)


def test_a_trial_that_tells_nothing_is_neither_killed_nor_read(tmp_path: Path) -> None:
    """Tune's trial may lose its attributes, or have others behind their names.

    A text of an error is read whatever bytes are in it; a file that is gone is as none.
    """
    (tmp_path / "error").write_bytes(b"died \xff\n")
    for actor, file, text in (
        ("none", 7, ""), (None, None, ""), (None, tmp_path / "none", ""),
        (None, tmp_path / "error", "died \ufffd\n"),
    ):  # fmt: skip
        state = SimpleNamespace(ray_actor=actor)
        trial = SimpleNamespace(temporary_state=state, error_file=file)
        assert (ray_internals.kill_worker(trial), ray_internals.error_text(trial)) == (False, text)
    assert not ray_internals.kill_worker(object()) and ray_internals.error_text(object()) == ""
    assert ray_internals.address_of_result({}) is None


def test_nodes_in_other_words_are_none_and_then_no_node_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker's death then has the reason that is always true."""
    for nodes in ([{"Alive": True}], [{}], None):
        monkeypatch.setattr(ray, "nodes", lambda nodes=nodes: nodes)
        assert ray_internals.living_nodes() == frozenset()
    monkeypatch.delattr(ray, "nodes")
    assert ray_internals.living_nodes() == frozenset()
    monkeypatch.delattr(ray.util, "get_node_ip_address")
    assert ray_internals.driver_address() is None
    deaths = Deaths()
    deaths.began("trial")
    deaths.saw("trial", "The actor is temporarily unavailable")
    assert deaths.of("trial").reason == "its worker process died before its first epoch"
