"""What Ray does not promise is named in one file, and a study runs without it."""

import ast
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import OutOfMemoryError, RayActorError

from harness.cluster import ray_internals
from harness.cluster.loopback import MODE, TOKEN, loopback, private_token
from harness.cluster.quiet import quiet_ray
from harness.tuning.worker_deaths import Deaths
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study

ROOT = Path(__file__).parents[3]
ONLY_THERE = "harness/cluster/ray_internals.py"
# Names of Ray's that do not begin with an underscore, and are in no part of its documentation.
UNDOCUMENTED = {
    "temporary_state", "ray_actor", "error_file", "print_to_stdstream", "ENABLE_RAY_CLUSTER",
    "AuthenticationTokenLoader", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "NodeManagerAddress",
    "NodeManagerPort", "get_node_ip_address", "_py_driver_sys_path", "JobConfig._serialize",
    "dead_processes",
}  # fmt: skip
MESSAGES = ("A worker died or was killed", "running low on memory", "temporarily unavailable")
# (module, dotted name in it) of all that a study takes from inside Ray
INSIDE = [
    ("ray._private.ray_constants", "ENABLE_RAY_CLUSTER"),
    ("ray._private.worker", "print_to_stdstream"),
    ("ray.air.execution._internal.actor_manager", "RayActorManager._actor_task_failed"),
    ("ray.job_config", "JobConfig._serialize"),
    ("ray.util", "get_node_ip_address"),
    ("ray._private.worker", "_global_node"),
]


def without(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> None:
    """Make ray_internals find a module that lacks a name; Ray itself still has it."""
    holder, _, last = name.rpartition(".")

    class Lacking:
        def __getattr__(self, asked: str) -> Any:
            if asked in (holder, last):
                raise AttributeError(asked)
            return getattr(importlib.import_module(module), asked)

    real = importlib.import_module

    def found(asked: str) -> Any:
        return Lacking() if asked == module else real(asked)

    monkeypatch.setattr(ray_internals, "importlib", SimpleNamespace(import_module=found))


def private_names(source: str) -> Iterator[str]:
    """Names in a source that Ray does not promise: by import, by attribute or as a text."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and isinstance(node.body[0], ast.Expr)
    }
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = [
        f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
        for node in imports
        for alias in node.names
    ]
    yield from (name for name in modules if is_private(name))
    others = {name for name in modules if name.partition(".")[0] != "ray"}
    uses_ray = any(name.partition(".")[0] == "ray" for name in modules)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            hidden = node.attr.startswith("_") and not node.attr.endswith("__")
            own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls", *others}
            if node.attr in UNDOCUMENTED or (uses_ray and hidden and not own):
                yield node.attr
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings
            and (
                node.value in UNDOCUMENTED
                or is_private(node.value)
                or any(words in node.value for words in MESSAGES)
            )
        ):
            yield node.value


def is_private(name: str) -> bool:
    """Whether a dotted name leads into Ray past a leading underscore."""
    first, *rest = name.split(".")
    return first == "ray" and any(part.startswith("_") for part in rest)


def test_no_other_file_names_what_ray_does_not_promise() -> None:
    """A new release of Ray can break one file alone."""
    files = sorted((ROOT / "harness").rglob("*.py"))
    assert len(files) > 50
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        if path.relative_to(ROOT).as_posix() != ONLY_THERE
        for name in private_names(path.read_text("utf-8"))
    ]
    assert not found
    assert set(private_names((ROOT / ONLY_THERE).read_text("utf-8"))) >= {"ray._raylet"}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("from ray._private import worker", "ray._private.worker"),
        ("from ray import _raylet", "ray._raylet"),
        ("import ray.tune._internal", "ray.tune._internal"),
        ("import ray\ndef f(trial): return trial._state", "_state"),
        ("def f(trial): return trial.temporary_state", "temporary_state"),
        ("import_module('ray._raylet')", "ray._raylet"),
        ("def f(text): return 'running low on memory' in text", "running low on memory"),
    ],
)
def test_a_private_name_is_noticed(source: str, name: str) -> None:
    """The test above can fail."""
    assert list(private_names(source)) == [name]
    assert not list(private_names("import ray\nclass A:\n  def f(self): return self._own"))


@pytest.mark.parametrize(("module", "name"), INSIDE)
def test_ray_has_every_name_today(module: str, name: str) -> None:
    """The installed Ray is one that nothing has to be done without."""
    held: Any = importlib.import_module(module)
    for part in name.split("."):
        held = getattr(held, part)


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


@pytest.mark.parametrize("missing", ["AuthenticationTokenLoader", "Config"])
def test_without_rereading_rays_own_authentication_stays(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """No token is set that the core of this process would not know."""
    for name in (MODE, TOKEN):
        monkeypatch.delenv(name, raising=False)
    without(monkeypatch, "ray._raylet", missing)
    assert not ray_internals.reread_authentication()
    with private_token():
        assert MODE not in os.environ
        assert TOKEN not in os.environ


@pytest.mark.parametrize(
    ("module", "name", "inside"),
    [
        (*INSIDE[0], loopback),
        (*INSIDE[1], lambda: quiet_ray(verbose=False)),
        (*INSIDE[2], ray_internals.memory_kills_as_worker_deaths),
        (*INSIDE[3], ray_internals.workers_import_as_the_driver),
    ],
)
def test_a_name_that_is_gone_is_not_made(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str, inside: Callable[[], Any]
) -> None:
    """What runs inside runs, and Ray is left as it is."""
    path, _, last = name.rpartition(".")
    holder: Any = importlib.import_module(module)
    holder = getattr(holder, path) if path else holder
    monkeypatch.delattr(holder, last)
    ran = []
    with inside():
        ran.append(hasattr(holder, last))
    assert ran == [False]
    assert not hasattr(holder, last)


def test_lines_that_ray_hands_over_otherwise_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another signature of Ray's printer loses no line and raises nothing."""
    from ray._private import worker

    printed: list[Any] = []
    monkeypatch.setattr(worker, "print_to_stdstream", lambda *given, **keys: printed.append(given))
    death = ["A worker died or was killed while executing a task"]
    with quiet_ray(verbose=False):
        print_line: Any = worker.print_to_stdstream
        print_line()
        print_line(death)
        print_line({"lines": None})
        print_line({"lines": death})
    assert printed == [(), (death,), ({"lines": None},)]


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


def test_a_trial_that_tells_nothing_is_neither_killed_nor_read() -> None:
    """Tune's trial may lose its attributes, or have others behind their names."""
    strange = SimpleNamespace(temporary_state=SimpleNamespace(ray_actor="none"), error_file=7)
    for trial in (object(), strange, SimpleNamespace(temporary_state=None, error_file=None)):
        assert not ray_internals.kill_worker(trial)
        assert ray_internals.error_text(trial) == ""
    assert ray_internals.address_of_result({}) is None
    assert ray_internals.address_of_result({"node_ip": "10.0.0.1"}) == "10.0.0.1"


def test_a_text_of_an_error_is_read(tmp_path: Path) -> None:
    """Whatever bytes are in it; a file that is gone is as none."""
    (tmp_path / "error").write_bytes(b"died \xff\n")
    told = [
        ray_internals.error_text(SimpleNamespace(error_file=tmp_path / n)) for n in ("error", "b")
    ]
    assert told == ["died \ufffd\n", ""]


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
