"""Asks whether a storage server listens before its client is started.

Clients are silent or wait for minutes when nobody answers (JuiceFS on etcd says nothing at all); one sentence that
names the address helps whoever reads the pod's events.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Mapping, Sequence

from headrace.fuse.clients.contract import Unusable

_WITHIN_S = 10.0
_CONNECT_S = 3.0
_PAUSE_S = 0.5
_PORTS: Mapping[str, int] = {
    "etcd": 2379,
    "tikv": 2379,
    "redis": 6379,
    "rediss": 6379,
    "mysql": 3306,
    "postgres": 5432,
    "http": 80,
    "https": 443,
}
_ADDRESS = re.compile(r"(?P<scheme>[a-z0-9]+)://(?:[^@/]*@)?\(?(?P<hosts>[^/?)]+)\)?")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


def addresses_of(url: str) -> list[tuple[str, int]]:
    """Return host and port of every server in a URL; none where it names no server, or one we cannot tell."""
    found = _ADDRESS.match(url)
    if found is None or found["scheme"] not in _PORTS:
        return []
    result = []
    for server in found["hosts"].split(","):
        host, _, port = server.rpartition(":") if re.search(r":\d+$", server) else (server, "", "")
        result.append((host.strip("[]"), int(port) if port else _PORTS[found["scheme"]]))
    return result


def require_reachable(what: str, url: str, *, within_s: float = _WITHIN_S) -> None:
    """Return once one server of `url` accepts a connection; raises Unusable after `within_s`.

    Nothing is asked where a proxy stands between.
    """
    addresses = addresses_of(url)
    if not addresses or (url.startswith("http") and any(os.environ.get(name) for name in _PROXIES)):
        return
    end = time.monotonic() + within_s
    while True:
        reason = _first_reason(addresses)
        if not reason:
            return
        if time.monotonic() >= end:
            where = ", ".join(f"{host}:{port}" for host, port in addresses)
            raise Unusable(
                f"{what} at {where} does not answer: {reason}. Check that it runs and that this node may reach it."
            )
        time.sleep(_PAUSE_S)


def _first_reason(addresses: Sequence[tuple[str, int]]) -> str:
    reason = ""
    for address in addresses:
        try:
            socket.create_connection(address, timeout=_CONNECT_S).close()
        except OSError as error:
            reason = reason or error.strerror or str(error)
        else:
            return ""
    return reason
