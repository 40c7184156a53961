"""Which servers a storage address names, and how soon a silent one is told."""

from __future__ import annotations

import socket

import pytest

from headrace.fuse.clients.contract import Unusable
from headrace.fuse.clients.reach import addresses_of, require_reachable


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("etcd://a:1,b/prefix", [("a", 1), ("b", 2379)]),
        ("redis://:pw@h:6380/1", [("h", 6380)]),
        ("rediss://user:pw@h/1", [("h", 6379)]),
        ("mysql://u:p@(h:3307)/db", [("h", 3307)]),
        ("postgres://u:p@h/db?sslmode=disable", [("h", 5432)]),
        ("https://s3.example", [("s3.example", 443)]),
        ("http://[::1]:9000/x", [("::1", 9000)]),
        ("sqlite3:///a/b.db", []),
        ("badger:///a", []),
        ("", []),
    ],
)
def test_addresses(url: str, addresses: list[tuple[str, int]]) -> None:
    assert addresses_of(url) == addresses


def test_one_server_that_listens_is_enough_and_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        require_reachable("x", f"etcd://127.0.0.1:1,127.0.0.1:{port}/p", within_s=0)
    for url in (f"etcd://user:pw@127.0.0.1:{port}/p", f"http://127.0.0.1:{port}"):
        with pytest.raises(
            Unusable, match=rf"The store at 127.0.0.1:{port} does not answer: Connection refused"
        ) as said:
            require_reachable("The store", url, within_s=0)
        assert "pw" not in str(said.value)


def test_nothing_is_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy")
    require_reachable("x", "http://127.0.0.1:1", within_s=0)
