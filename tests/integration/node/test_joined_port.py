"""The port of a joined node's endpoint, on sockets: two that start at once, and one that was asked for and is taken."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import Conflict
from headrace.roles import joined_port
from headrace.roles.joined_file import JoinedNode
from headrace.roles.serving import bind
from headrace.settings import Home

HERE = "127.0.0.1"


def node(name: str, *, port: int = 0) -> JoinedNode:
    return JoinedNode(name=name, pool="cloud", server="https://10.0.0.1:6443", address=HERE, port=port)


def test_each_of_two_that_start_at_once_tells_the_port_that_it_has(tmp_path: Path) -> None:
    homes = [Home(tmp_path / name) for name in ("one", "two")]
    with (
        closing(joined_port.listen(homes[0], node("one"))) as one,
        closing(joined_port.listen(homes[1], node("two"))) as two,
    ):
        ports = [listener.getsockname()[1] for listener in (one, two)]
        assert ports[0] != ports[1]
        assert [joined_port.bound(home) for home in homes] == ports


def test_started_again_it_has_its_last_port_while_that_is_free(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with closing(bind(0, HERE)) as other, closing(joined_port.listen(home, node("n"))) as first:
        last = first.getsockname()[1]
        assert last != other.getsockname()[1]
    with closing(joined_port.listen(home, node("n"))) as second:
        assert second.getsockname()[1] == last
    with closing(bind(last, HERE)), closing(joined_port.listen(home, node("n"))) as third:
        assert third.getsockname()[1] != last
        assert joined_port.bound(home) == third.getsockname()[1]


def test_a_port_that_was_asked_for_and_is_taken_is_named(tmp_path: Path) -> None:
    with closing(bind(0, HERE)) as other:
        port = other.getsockname()[1]
        with pytest.raises(Conflict, match=f"Port {port}, which was asked for, .*: Address already in use") as refused:
            joined_port.listen(Home(tmp_path), node("n", port=port))
    assert "headrace node --port PORT" in refused.value.hint
    assert joined_port.bound(Home(tmp_path)) == 0


def test_a_port_that_another_begins_to_listen_at_meanwhile_is_taken_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two may bind the same port as long as neither listens; the slower one's error is the same."""
    with closing(socket.socket()) as faster:
        faster.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        faster.bind((HERE, 0))
        port = faster.getsockname()[1]

        class Slower(socket.socket):
            def listen(self, *backlog: Any) -> None:
                faster.listen()
                super().listen(*backlog)

        monkeypatch.setattr(socket, "socket", Slower)
        with pytest.raises(Conflict, match=f"Port {port} cannot be used"):
            bind(port, HERE)
