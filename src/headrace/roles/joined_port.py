"""The port of a joined node's endpoint: bound first, then told.

A port that was found free and bound later is another's by then, when two nodes of one machine start at the same moment.
"""

from __future__ import annotations

from pathlib import Path
from socket import socket

from headrace.errors import Conflict
from headrace.roles.joined_file import JoinedNode
from headrace.roles.serving import bind_for
from headrace.settings import Home

KUBELET_PORT = 10250


def listen(home: Home, node: JoinedNode) -> socket:
    """Return a listening socket at the port that was asked for, else at the last one, kubelet's, or any that is free.

    What was bound is kept for `bound`.

    Raises:
        Conflict: the port that was asked for is taken, or the address has none that can be used.
    """
    last = bound(home) or KUBELET_PORT
    taken: Conflict | None = None
    for port in [node.port] if node.port else dict.fromkeys((last, KUBELET_PORT, 0)):
        try:
            listener = bind_for(port, node.address)
        except Conflict as error:
            taken = error
            continue
        _keep(home, int(listener.getsockname()[1]))
        return listener
    if node.port:
        why = f"Port {node.port}, which was asked for, cannot be used at {node.address}: {_reason(taken)}."
        raise Conflict(why, hint="Free it, or choose another: headrace node --port PORT") from taken
    raise Conflict(f"No port of {node.address} can be used: {_reason(taken)}.", hint="Name an address: --address IP")


def bound(home: Home) -> int:
    """Return the port that the node has now, or had when it last ran; 0 where it never ran."""
    try:
        return int(_file(home).read_text())
    except (OSError, ValueError):
        return 0


def _keep(home: Home, port: int) -> None:
    _file(home).parent.mkdir(parents=True, exist_ok=True)
    _file(home).write_text(f"{port}\n")


def _file(home: Home) -> Path:
    return home.root / "run" / "port"


def _reason(error: Conflict | None) -> str:
    return str(getattr(error and error.__cause__, "strerror", "") or error)
