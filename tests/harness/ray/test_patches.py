"""harness.ray.patches: private names of Ray, workers killed for memory, and tokens."""

import os
import re
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest.mock import Mock

import pytest
from ray.exceptions import OutOfMemoryError, RayActorError

from harness.ray import patches
from harness.ray.patches import MODE, TOKEN, TOKEN_PATH, private_ray
from tests.case_files import load_cases
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study

ROOT = Path(__file__).parents[3]
NAMES = load_cases(__file__, "ray_names.yaml")
# A private module or attribute of Ray, a private name imported from Ray, or a listed text.
PRIVATE_NAME = re.compile(
    r"\bray(?:\.\w+)*\._[a-z]\w*"
    r"|\bfrom ray[\w.]* import .*\b_[a-z]\w*"
    rf"|\b(?:{'|'.join(map(re.escape, NAMES['undocumented'] + NAMES['messages']))})\b"
)


def test_only_one_file_uses_private_names_of_ray() -> None:
    """A new release of Ray can therefore break only this file."""
    sources = {path: path.read_text("utf-8") for path in (ROOT / "harness").rglob("*.py")}
    assert len(sources) > 50
    patches_source = sources.pop(Path(patches.__file__))
    assert all(text in patches_source for text in NAMES["undocumented"] + NAMES["messages"])
    assert PRIVATE_NAME.search(patches_source)
    uses = {str(path): PRIVATE_NAME.findall(source) for path, source in sources.items()}
    assert not {path: names for path, names in uses.items() if names}


@pytest.mark.weekly
def test_study_runs_without_rays_private_names(
    ray_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No token is set without them, because Ray's core could not read it."""
    for name in (MODE, TOKEN):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(patches, "resolve_name", Mock(side_effect=AttributeError))
    with private_ray():
        assert not {MODE, TOKEN} & set(os.environ)
    outcome = ray_bench.run(make_study(space={"generator.n_ctx": [1, 2]}, seeds=1))
    assert outcome.complete
    assert ray_bench.list_states() == ["COMPLETE"] * 2
    ray_bench.check_invariants()


@pytest.mark.parametrize("name", NAMES["expected"])
def test_installed_ray_has_every_private_name(name: str) -> None:
    """All workarounds are therefore active."""
    resolve_name(name)


def test_token_is_not_reread_if_ray_cannot_forget_the_old_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Ray without one of the names keeps its default behavior."""

    def resolve(name: str) -> Any:
        if name.endswith("reset_cache"):
            raise AttributeError(name)
        return Mock(spec=["__call__"], return_value=Mock(spec=[]))

    monkeypatch.setattr(patches, "resolve_name", resolve)
    monkeypatch.delenv(MODE, raising=False)
    with private_ray():
        assert MODE not in os.environ


def test_all_processes_are_killed_however_ray_passes_its_arguments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By position or by name."""
    from ray._private.node import Node

    seen: list[dict[str, bool]] = []
    monkeypatch.setattr(Node, "kill_all_processes", lambda node, **keys: seen.append(keys))
    node: Any = Mock(live_processes=list)
    with patches.kill_all_at_shutdown():
        kill_all: Any = Node.kill_all_processes
        kill_all(node, check_alive=True, allow_graceful=True)
        kill_all(node, True, True)
    assert seen == [{"check_alive": False, "allow_graceful": False}] * 2


def test_memory_kill_is_converted_in_any_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tune gets a worker death instead, in any argument. Other errors are unchanged."""
    from ray.air.execution._internal.actor_manager import RayActorManager

    calls: list[Any] = []
    monkeypatch.setattr(
        RayActorManager, "_actor_task_failed", lambda *args, **keys: calls.append((args, keys))
    )
    manager: Any = object()
    with patches.report_memory_kills_as_deaths():
        failed: Any = RayActorManager._actor_task_failed
        failed(manager, OutOfMemoryError("x"))
        failed(manager, error=OutOfMemoryError("y"))
        failed(manager, None, ValueError("z"))
    positional, named = calls[0][0][1], calls[1][1]["error"]
    assert isinstance(positional, RayActorError) and isinstance(named, RayActorError)
    assert (str(positional), str(named), type(calls[2][0][2])) == ("x", "y", ValueError)


def test_hint_names_a_token_that_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no hint if the user has no token or has set a mode."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(MODE, raising=False)
    assert patches.make_token_hint() == ""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("x", "utf-8")
    assert patches.make_token_hint().endswith("~/.ray/auth_token, set RAY_AUTH_MODE=token")
    monkeypatch.setenv(MODE, "disabled")
    assert patches.make_token_hint() == ""


@pytest.mark.parametrize(
    ("variables", "file", "mode"),
    [
        ({}, True, "token"),
        ({TOKEN: "x"}, False, "token"),
        ({}, False, None),
        ({MODE: "disabled"}, True, "disabled"),
    ],
    ids=str,
)
def test_users_token_is_sent_to_a_cluster(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    file: bool,
    mode: str | None,
) -> None:
    """Ray's core reads the mode at the start and at the end. The user's mode is not changed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (MODE, TOKEN, TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if file:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("x", "utf-8")
    modes = list[str | None]()
    monkeypatch.setattr(
        patches, "_make_authentication_reader", lambda: lambda: modes.append(os.environ.get(MODE))
    )
    with patches.send_token():
        assert os.environ.get(MODE) == mode
    assert os.environ.get(MODE) == variables.get(MODE)
    assert modes == (["token", None] if mode == "token" else [])
