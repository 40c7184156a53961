"""Ports forwarded over SPDY (`portforward.k8s.io`), as kubectl does: on a connection, or within a WebSocket.

Each forwarded connection is a pair of streams of one `requestID`: *data* carries it, *error* has the sentence when it
fails.
Source: `k8s.io/cri-streaming/pkg/streaming/portforward/httpstream.go`, `k8s.io/client-go/tools/portforward`.
"""

from __future__ import annotations

import anyio

from headrace.errors import HeadraceError
from headrace.node.ports import PodPorts, carry
from headrace.node.streams import Connection, Inbox, Messages, Stream

_PAIR_WITHIN_S = 30.0


class _Half:
    """One stream of a pair: `ports.Client` where it is a connection's data."""

    def __init__(self, stream: Stream, port: int) -> None:
        self.port = port
        self.inbox = Inbox()
        self._stream = stream

    async def receive(self) -> bytes:
        return await self.inbox.receive()

    async def send(self, data: bytes) -> None:
        await self._stream.send(data)

    async def end(self, last: str = "") -> None:
        await self._stream.end(last.encode())

    async def reset(self) -> None:
        await self._stream.reset()

    def forget(self) -> None:
        self._stream.forget()
        self.inbox.close()


class Tunnel:
    """One client's connection. `run` it once."""

    def __init__(self, messages: Messages, ports: PodPorts) -> None:
        self._ports = ports
        self._connection = Connection(messages, self._open, name=ports.name)
        self._halves: set[_Half] = set()
        self._waiting: dict[str, dict[str, _Half]] = {}

    async def run(self) -> None:
        """Serve until the client leaves, goes silent, or sends what is no SPDY."""
        try:
            async with anyio.create_task_group() as self._tasks:
                await self._connection.run()
                self._tasks.cancel_scope.cancel()
        finally:
            for half in list(self._halves):
                self._forget(half)

    async def say_goodbye(self) -> None:
        """Tell the client that no stream is taken any more."""
        await self._connection.say_goodbye()

    async def _open(self, stream: Stream) -> None:
        kind, port = stream.headers.get("streamtype", ""), stream.headers.get("port", "")
        if kind not in {"data", "error"} or not port.isdecimal() or not 0 < int(port) < 65536:
            await stream.reset()
            stream.forget()
            return
        half = _Half(stream, int(port))
        self._halves.add(half)
        await stream.accept(half.inbox)
        if kind == "error":
            await half.inbox.end()  # nothing is said there by a client
        # Clients of before 2016 send no request id; theirs are neighbours: error first, then data.
        request = stream.headers.get("requestid") or str(stream.number - 2 * (kind == "data"))
        await self._pair(request, kind, half)

    async def _pair(self, request: str, kind: str, half: _Half) -> None:
        is_first = request not in self._waiting
        pair = self._waiting.setdefault(request, {})
        if kind in pair:
            what = f"error processing stream for request {request}: {kind} stream already assigned"
            await (pair["error"].end(what) if "error" in pair else half.reset())
            self._forget(half)
            return
        pair[kind] = half
        if len(pair) == 2:
            del self._waiting[request]
            self._tasks.start_soon(self._connect, pair["data"], pair["error"])
        elif is_first:
            self._tasks.start_soon(self._expire, request, pair)

    async def _expire(self, request: str, pair: dict[str, _Half]) -> None:
        await anyio.sleep(_PAIR_WITHIN_S)
        if self._waiting.get(request) is pair:
            del self._waiting[request]
            for kind, half in pair.items():
                if kind == "error":
                    await half.end(f"(request={request}) timed out waiting for streams")
                self._forget(half)

    async def _connect(self, data: _Half, error: _Half) -> None:
        """Be one connection."""
        try:
            with data.inbox.scope:
                try:
                    async with self._ports.connect(data.port) as pod:
                        await carry(pod, data)
                except HeadraceError as failure:
                    await error.end(self._ports.failure(data.port, failure))
                    await data.reset()
                await data.end()
            await error.end()
        finally:
            self._forget(data)
            self._forget(error)

    def _forget(self, half: _Half) -> None:
        self._halves.discard(half)
        half.forget()
