"""The Ray of a study on one machine is reachable only for that machine's user."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.ray.patches import MODE, TOKEN, TOKEN_PATH, _make_authentication_reader, private_ray
from tests.harness.conftest import Bench
from tests.harness.processes import (
    find_listening_sockets,
    get_environment,
    get_program,
    is_loopback,
    list_descendants,
)
from tests.harness.study.drivers import Driver


@pytest.fixture(autouse=True)
def no_authentication() -> Iterator[None]:
    """Unset all authentication variables, and make Ray's core read them again at the end.

    If Ray's core required a token later, the session of the other tests would reject its cluster.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in (MODE, TOKEN, TOKEN_PATH):
            patch.delenv(name, raising=False)
        yield
    reread = _make_authentication_reader()
    assert reread is not None
    reread()


def test_each_session_has_its_own_token() -> None:
    """A token has 256 random bits, is required, and is removed afterwards."""
    from ray._raylet import AuthenticationMode, AuthenticationTokenLoader, get_authentication_mode

    tokens = []
    for _ in range(2):
        with private_ray():
            assert get_authentication_mode() == AuthenticationMode.TOKEN
            tokens.append(AuthenticationTokenLoader.instance().get_raw_token())
            assert os.environ[TOKEN] == tokens[-1]
            assert len(bytes.fromhex(tokens[-1])) == 32
        assert get_authentication_mode() == AuthenticationMode.DISABLED
        assert MODE not in os.environ
        assert TOKEN not in os.environ
    assert tokens[0] != tokens[1]


@pytest.mark.parametrize(
    "theirs",
    [
        {MODE: "disabled"},
        {MODE: "Disabled", TOKEN: "theirs"},
        {TOKEN: "theirs"},
        {TOKEN_PATH: "/somewhere/token"},
        {MODE: "token", TOKEN: "theirs"},
        {MODE: "token"},
    ],
    ids=str,
)
def test_users_token_and_mode_are_kept(
    theirs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is overridden, inside or afterwards."""
    for name, value in theirs.items():
        monkeypatch.setenv(name, value)
    with private_ray():
        assert {name: os.environ.get(name) for name in theirs} == theirs
        assert os.environ.get(MODE, "") == theirs.get(MODE, "token")
        # made for the session where there is none, and no file in the home
        assert (TOKEN in os.environ) == (TOKEN in theirs or theirs == {MODE: "token"})
    assert {name: os.environ.get(name) for name in theirs} == theirs
    assert {MODE, TOKEN} & set(os.environ) == {MODE, TOKEN} & set(theirs)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").is_file(), reason="reads /proc")
def test_study_listens_only_on_loopback(bench: Bench, tmp_path: Path) -> None:
    """No process accepts connections of other hosts, and no token file remains."""
    home = tmp_path / "home"
    home.mkdir()
    driver = Driver(bench, 0.5, HOME=str(home))
    sockets: dict[tuple[str, int], str] = {}
    tokens = set()
    while driver.process.poll() is None:
        pids = list_descendants(driver.process.pid)
        # the first command line counts: it is empty once the process has ended
        sockets = find_listening_sockets(pids) | sockets
        tokens |= {
            get_environment(pid).get(TOKEN, "") for pid in pids if "gcs_server" in get_program(pid)
        }
        time.sleep(0.2)
    code, output = driver.end()
    assert code == 0, output
    for service in ("gcs_server", "raylet", "ray::"):
        assert any(service in line for line in sockets.values()), (service, sockets)
    exposed = {place: line for place, line in sockets.items() if not is_loopback(place[0])}
    assert not exposed
    assert [len(token) for token in tokens] == [64]
    assert not (home / ".ray").exists()
