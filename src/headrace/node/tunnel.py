"""Ports forwarded over SPDY in WebSocket messages (`SPDY/3.1+portforward.k8s.io`), as kubectl does.

Each connection is a pair of streams of one `requestID`: *data* carries it, *error* has the sentence when it fails. As
between kubectl and a kubelet there is no flow control but that of the WebSocket: windows are neither kept nor granted
(spdystream does neither), and a pod that does not read makes the other connections of its client wait in the end.
Source: `k8s.io/cri-streaming/pkg/streaming/portforward/httpstream.go`, `k8s.io/client-go/tools/portforward`.
"""

from __future__ import annotations

from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from headrace.errors import HeadraceError
from headrace.node import spdy
from headrace.node.ports import PodPorts, carry
from headrace.telemetry import logger

TUNNEL_BROKEN = "portforward.tunnel_broken"

_PAIR_WITHIN_S = 30.0
IDLE_S = 4 * 3600.0
"""Kubelet's streamingConnectionIdleTimeout. kubectl pings every 10 s, so silence means that it is not there."""
_CHUNK_BYTES = 64 * 1024
_CHUNKS = 16
_MOST_STREAMS = 4096
"""Of one client at a time. kubectl opens two for each connection."""

_log = logger(component="port-forward")


class Messages(Protocol):
    """The WebSocket."""

    async def receive(self) -> bytes | str:
        """Return the next message; raises EndOfStream when the client has gone."""
        ...

    async def send(self, message: bytes | str) -> None:
        """Send a message; what cannot be delivered any more is dropped."""
        ...


class _Stream:
    """One stream, seen from here: `ports.Client` where it is a connection's data."""

    def __init__(self, tunnel: Tunnel, number: int, port: int, *, is_half_closed: bool) -> None:
        self.number = number
        self.port = port
        self.scope = anyio.CancelScope()
        self._tunnel = tunnel
        self._arriving, self._arrived = anyio.create_memory_object_stream[bytes](_CHUNKS)
        self._has_ended = False
        if is_half_closed:
            self._arriving.close()

    async def put(self, frame: spdy.Data) -> None:
        """Take in what the client sent; waits while too much of it waits for the pod."""
        try:
            for at in range(0, len(frame.data), _CHUNK_BYTES):
                await self._arriving.send(frame.data[at : at + _CHUNK_BYTES])
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # nobody wants it any more, or the client sends after its own end
        if frame.is_last:
            self._arriving.close()

    async def receive(self) -> bytes:
        try:
            return await self._arrived.receive()
        except anyio.EndOfStream:
            return b""

    async def send(self, data: bytes) -> None:
        await self._tunnel.send(spdy.Data(self.number, data))

    async def end(self, last: str = "") -> None:
        if not self._has_ended:
            self._has_ended = True
            await self._tunnel.send(spdy.Data(self.number, last.encode(), is_last=True))

    async def reset(self, status: int = spdy.CANCEL) -> None:
        self._has_ended = True
        await self._tunnel.send(spdy.Reset(self.number, status))

    def forget(self) -> None:
        """Nothing that comes for it is wanted any more."""
        self._arriving.close()
        self._arrived.close()


class Tunnel:
    """One client's connection. `run` it once."""

    def __init__(self, messages: Messages, ports: PodPorts) -> None:
        self._messages = messages
        self._ports = ports
        self._reader, self._writer = spdy.Reader(), spdy.Writer()
        self._sending = anyio.Lock()
        self._streams: dict[int, _Stream] = {}
        self._last = 0
        self._waiting: dict[str, dict[str, _Stream]] = {}

    async def run(self) -> None:
        """Serve until the client leaves, goes silent, or sends what is no SPDY."""
        try:
            async with anyio.create_task_group() as tasks:
                try:
                    await self._read(tasks)
                except spdy.BrokenFrame as error:
                    _log.warning(TUNNEL_BROKEN, pod=self._ports.name, error=str(error))
                    await self.send(spdy.GoAway(self._last, 1))
                except (anyio.EndOfStream, TimeoutError):
                    pass
                tasks.cancel_scope.cancel()
        finally:
            for stream in list(self._streams.values()):
                self._forget(stream)

    async def say_goodbye(self) -> None:
        """Tell the client that no stream is taken any more."""
        await self.send(spdy.GoAway(self._last))

    async def send(self, frame: spdy.Frame) -> None:
        """Send a frame; frames of several tasks keep the order in which they were encoded."""
        async with self._sending:
            await self._messages.send(self._writer.encode(frame))

    async def _read(self, tasks: TaskGroup) -> None:
        while True:
            with anyio.fail_after(IDLE_S):
                message = await self._messages.receive()
                if isinstance(message, str):
                    raise spdy.BrokenFrame("a message of text")
                for frame in self._reader.feed(message):
                    if isinstance(frame, spdy.GoAway):
                        return
                    await self._take(frame, tasks)

    async def _take(self, frame: spdy.Frame, tasks: TaskGroup) -> None:
        match frame:
            case spdy.SynStream():
                await self._open(frame, tasks)
            case spdy.Data() if frame.stream in self._streams:
                await self._streams[frame.stream].put(frame)
            case spdy.Reset() if frame.stream in self._streams:
                self._streams[frame.stream].scope.cancel()
            case spdy.Ping() if frame.id % 2:  # one of the client's
                await self.send(frame)
            case _:
                return  # windows, settings, further headers, and what came too late for its stream

    async def _open(self, frame: spdy.SynStream, tasks: TaskGroup) -> None:
        if frame.stream % 2 == 0 or frame.stream <= self._last:
            await self.send(spdy.Reset(frame.stream, spdy.PROTOCOL_ERROR))
            return
        self._last = frame.stream
        kind, port = frame.headers.get("streamtype", ""), frame.headers.get("port", "")
        if kind not in {"data", "error"} or not port.isdecimal() or not 0 < int(port) < 65536:
            await self.send(spdy.Reset(frame.stream, spdy.CANCEL))
            return
        if len(self._streams) >= _MOST_STREAMS:
            await self.send(spdy.Reset(frame.stream, spdy.REFUSED_STREAM))
            return
        stream = _Stream(self, frame.stream, int(port), is_half_closed=frame.is_last or kind == "error")
        self._streams[frame.stream] = stream
        await self.send(spdy.SynReply(frame.stream))
        # Clients of before 2016 send no request id; theirs are neighbours: error first, then data.
        request = frame.headers.get("requestid") or str(frame.stream - 2 * (kind == "data"))
        await self._pair(request, kind, stream, tasks)

    async def _pair(self, request: str, kind: str, stream: _Stream, tasks: TaskGroup) -> None:
        is_first = request not in self._waiting
        pair = self._waiting.setdefault(request, {})
        if kind in pair:
            what = f"error processing stream for request {request}: {kind} stream already assigned"
            await (pair["error"].end(what) if "error" in pair else stream.reset())
            self._forget(stream)
            return
        pair[kind] = stream
        if len(pair) == 2:
            del self._waiting[request]
            tasks.start_soon(self._connect, pair["data"], pair["error"])
        elif is_first:
            tasks.start_soon(self._expire, request, pair)

    async def _expire(self, request: str, pair: dict[str, _Stream]) -> None:
        await anyio.sleep(_PAIR_WITHIN_S)
        if self._waiting.get(request) is pair:
            del self._waiting[request]
            for kind, stream in pair.items():
                if kind == "error":
                    await stream.end(f"(request={request}) timed out waiting for streams")
                self._forget(stream)

    async def _connect(self, data: _Stream, error: _Stream) -> None:
        """Be one connection."""
        try:
            with data.scope:
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

    def _forget(self, stream: _Stream) -> None:
        self._streams.pop(stream.number, None)
        stream.forget()
