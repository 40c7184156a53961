"""The side of a Unix socket that takes orders: connections, who may talk, answers and events. Nothing a client does hurts it.

A client that sends garbage, sends half a frame, reads nothing or goes away loses its connection, no more.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from headrace.sandbox import wire
from headrace.sandbox.loop import Callback, Loop

_READ_BYTES = 65536
_MOST_UNSENT_BYTES = 16 * 1024 * 1024  # a journal replay fits; a client that never reads does not


class Peer(NamedTuple):
    """Who is at the other end, as seen from this process's namespaces: pid 0 is a process outside of our PID namespace."""

    pid: int
    uid: int
    gid: int


class Call:
    """One request. Answer it once, now or later; the answer is dropped when the client has gone meanwhile."""

    def __init__(self, connection: Connection, request: wire.Message) -> None:
        self.connection = connection
        self.request = request

    def ok(self, **fields: object) -> None:
        self.connection.send({"id": self.request.get("id"), "ok": True, **fields})

    def fail(self, refusal: wire.Refusal) -> None:
        self.connection.send({"id": self.request.get("id"), "ok": False, "error": refusal.to_json()})


Handler = Callable[[Call], None]


class Connection:
    """One client."""

    def __init__(self, server: Server, client: socket.socket) -> None:
        self._server = server
        self._socket = client
        self._decoder = wire.Decoder()
        self._unsent = bytearray()
        self._fds: deque[int] = deque()
        self._is_open = True
        self.on_close: list[Callback] = []
        server.loop.on_readable(client.fileno(), self._receive)

    def send(self, message: wire.Message) -> None:
        """Send a message, or as much of it as the client takes now and the rest later."""
        if not self._is_open:
            return
        was_idle = not self._unsent
        self._unsent += wire.encode(message)
        if was_idle:
            self._flush()
        elif len(self._unsent) > _MOST_UNSENT_BYTES:
            self.close()

    def take_fds(self, count: int) -> list[int]:
        """Return the next `count` descriptors that the client passed; the caller closes them. Raises wire.Refusal."""
        if len(self._fds) < count:
            raise wire.Refusal("Invalid", f"this order needs {count} descriptors; {len(self._fds)} came with it")
        return [self._fds.popleft() for _ in range(count)]

    def close(self) -> None:
        """Hang up; idempotent."""
        if not self._is_open:
            return
        self._is_open = False
        self._server.loop.forget(self._socket.fileno())
        self._server.connections.discard(self)
        self._socket.close()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        for call in self.on_close:
            call()

    def _receive(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, _READ_BYTES, wire.MAX_FDS, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._fds += fds
        try:
            if not data or len(self._fds) > wire.MAX_FDS:
                raise wire.BrokenFrame("end of stream")
            requests = self._decoder.feed(data)
        except wire.BrokenFrame:
            self.close()
            return
        for request in requests:
            self._server.dispatch(Call(self, request))

    def _flush(self) -> None:
        try:
            sent = self._socket.send(self._unsent, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        del self._unsent[:sent]
        if self._is_open:
            self._server.loop.on_writable(self._socket.fileno(), self._flush if self._unsent else None)


class Server:
    """Accepts clients on `listener` and hands their requests to `handlers` by the name of the op.

    Args:
        refuse_peer: returns "" for a peer that may talk, else the sentence it gets before it is hung up on.
    """

    def __init__(
        self, loop: Loop, listener: socket.socket, handlers: Mapping[str, Handler], refuse_peer: Callable[[Peer], str]
    ) -> None:
        self.loop = loop
        self.connections: set[Connection] = set()
        self._listener = listener
        self._handlers = handlers
        self._refuse_peer = refuse_peer
        loop.on_readable(listener.fileno(), self._accept)

    def dispatch(self, call: Call) -> None:
        """Carry out one request; whatever goes wrong becomes its answer."""
        op = call.request.get("op")
        handler = self._handlers.get(op) if isinstance(op, str) else None
        try:
            if handler is None:
                known = ", ".join(sorted(self._handlers))
                raise wire.Refusal("Unsupported", f"there is no op {op!r}; there are {known}")
            handler(call)
        except wire.Refusal as refusal:
            call.fail(refusal)
        except OSError as error:
            call.fail(wire.Refusal("Failed", f"{op} failed: {error.strerror or error}"))
        except Exception as error:  # noqa: BLE001 - a bug must not take pid 1 with it
            traceback.print_exc(file=sys.stderr)
            call.fail(wire.Refusal("Failed", f"{op} failed unexpectedly: {error!r}; its log has the details"))

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # the client went away first, or descriptors are short: the next one tries again
        client.setblocking(False)
        raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        sentence = self._refuse_peer(Peer(*struct.unpack("3i", raw)))
        connection = Connection(self, client)
        self.connections.add(connection)
        if sentence:
            connection.send({"id": None, "ok": False, "error": {"code": "Forbidden", "message": sentence}})
            connection.close()
