"""One client's SPDY/3.1 connection: it opens streams, and each stream is somebody's, who takes what arrives on it.

As between any of Kubernetes' clients and a kubelet there is no flow control but that of the transport: windows are
neither kept nor granted (spdystream does neither). What a stream's receiver does not take makes the other streams of
its client wait in the end, and what the client does not read makes the senders wait; nothing piles up here.

A client that has gone while nothing of it is read is found by pings: they cannot be delivered.
Source: SPDY Protocol Draft 3.1; `github.com/moby/spdystream`, `k8s.io/streaming/pkg/httpstream/spdy`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio

from headrace.node import spdy
from headrace.telemetry import logger

CONNECTION_BROKEN = "spdy.connection_broken"

IDLE_S = 4 * 3600.0
"""Kubelet's streamingConnectionIdleTimeout."""
PING_EVERY_S = 15.0
CHUNK_BYTES = 64 * 1024
_CHUNKS = 16
_MOST_STREAMS = 4096
"""Of one client at a time. kubectl opens two for each forwarded connection."""

_log = logger(component="spdy")


class Messages(Protocol):
    """What carries the frames: messages of a WebSocket, or pieces of a connection."""

    async def receive(self) -> bytes | str:
        """Return what came next; raises EndOfStream when the client has gone."""
        ...

    async def send(self, message: bytes | str) -> bool:
        """Send, and tell whether the client is still there; what cannot be delivered any more is dropped."""
        ...


class Receiver(Protocol):
    """Who takes what arrives on one stream."""

    async def put(self, data: bytes) -> None:
        """Take at most `CHUNK_BYTES`; waiting holds up the whole connection."""
        ...

    async def end(self) -> None:
        """The client will send nothing more."""
        ...

    def reset(self) -> None:
        """The client wants nothing more of the stream, in either direction."""
        ...


class Ignored:
    """A receiver for streams that only go one way."""

    async def put(self, data: bytes) -> None:
        """Drop it."""

    async def end(self) -> None:
        """Drop it."""

    def reset(self) -> None:
        """Drop it."""


class Inbox:
    """A receiver that keeps a megabyte for somebody who reads."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        """Cancelled when the client resets the stream."""
        self._arriving, self._arrived = anyio.create_memory_object_stream[bytes](_CHUNKS)

    async def put(self, data: bytes) -> None:
        try:
            await self._arriving.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # nobody wants it any more, or the client sends after its own end

    async def end(self) -> None:
        self._arriving.close()

    def reset(self) -> None:
        self.scope.cancel()

    async def receive(self) -> bytes:
        """Return the next bytes, empty at their end."""
        try:
            return await self._arrived.receive()
        except anyio.EndOfStream:
            return b""

    def close(self) -> None:
        """Nothing that comes is wanted any more."""
        self._arriving.close()
        self._arrived.close()


class Stream:
    """One stream that the client has opened, seen from here."""

    def __init__(self, connection: Connection, opened: spdy.SynStream) -> None:
        self.number = opened.stream
        self.headers = opened.headers
        self.receiver: Receiver = Ignored()
        self._connection = connection
        self._is_half_closed = opened.is_last
        self._has_ended = False

    async def accept(self, receiver: Receiver) -> None:
        """Answer the client that the stream is taken."""
        self.receiver = receiver
        await self._connection.send(spdy.SynReply(self.number))
        if self._is_half_closed:
            await receiver.end()

    async def send(self, data: bytes) -> bool:
        """Send data, and tell whether it is wanted: not after `end`, `reset`, or the client's reset."""
        return not self._has_ended and await self._connection.send(spdy.Data(self.number, data))

    async def end(self, last: bytes = b"") -> None:
        """Send nothing more. Idempotent."""
        if not self._has_ended:
            self._has_ended = True
            await self._connection.send(spdy.Data(self.number, last, is_last=True))

    async def reset(self, status: int = spdy.CANCEL) -> None:
        """Refuse the stream, or end it both ways. Idempotent."""
        if not self._has_ended:
            self._has_ended = True
            await self._connection.send(spdy.Reset(self.number, status))

    def was_reset(self) -> None:
        """Learn that the client has reset it."""
        self._has_ended = True
        self.receiver.reset()

    def forget(self) -> None:
        """Nothing that comes for it is wanted any more."""
        self._connection.forget(self)


class Connection:
    """One client's connection. `run` it once.

    Args:
        opened: accepts or resets a stream that the client has opened; waiting holds up the whole connection.
        name: what it is about, for the log.
    """

    def __init__(self, messages: Messages, opened: Callable[[Stream], Awaitable[None]], *, name: str) -> None:
        self._messages = messages
        self._opened = opened
        self._name = name
        self._reader, self._writer = spdy.Reader(), spdy.Writer()
        self._sending = anyio.Lock()
        self._streams: dict[int, Stream] = {}
        self._last = 0
        self._active_at = anyio.current_time()

    async def run(self) -> None:
        """Serve until the client leaves, goes silent, or sends what is no SPDY; raises none of it."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._ping, tasks.cancel_scope)
            try:
                await self._read()
            except spdy.BrokenFrame as error:
                _log.warning(CONNECTION_BROKEN, about=self._name, error=str(error))
                await self.send(spdy.GoAway(self._last, 1))
            except anyio.EndOfStream:
                pass
            tasks.cancel_scope.cancel()

    async def say_goodbye(self) -> None:
        """Tell the client that no stream is taken any more."""
        await self.send(spdy.GoAway(self._last))

    async def send(self, frame: spdy.Frame) -> bool:
        """Send a frame, and tell whether the client is there; frames keep the order in which they were encoded."""
        if isinstance(frame, spdy.Data):
            self._active_at = anyio.current_time()
        async with self._sending:
            return await self._messages.send(self._writer.encode(frame))

    def forget(self, stream: Stream) -> None:
        """What comes for a stream is passed over from now on."""
        self._streams.pop(stream.number, None)

    async def linger(self) -> None:
        """Pass over what the client still sends, until it has gone.

        A connection that is closed with unread bytes is reset, and what was sent last may never arrive.
        """
        self._streams.clear()
        try:
            while True:
                await self._messages.receive()
        except anyio.EndOfStream:
            return

    async def _ping(self, scope: anyio.CancelScope) -> None:
        number = 0
        while anyio.current_time() - self._active_at < IDLE_S:
            await anyio.sleep(PING_EVERY_S)
            number = number % 0x7FFFFFFE + 2
            if not await self.send(spdy.Ping(number)):
                break
        scope.cancel()

    async def _read(self) -> None:
        while True:
            message = await self._messages.receive()
            if isinstance(message, str):
                raise spdy.BrokenFrame("a message of text")
            for frame in self._reader.feed(message):
                if isinstance(frame, spdy.GoAway):
                    return
                if not _is_answer(frame):
                    self._active_at = anyio.current_time()
                await self._take(frame)

    async def _take(self, frame: spdy.Frame) -> None:
        match frame:
            case spdy.SynStream():
                await self._open(frame)
            case spdy.Data() if frame.stream in self._streams:
                receiver = self._streams[frame.stream].receiver
                for at in range(0, len(frame.data), CHUNK_BYTES):
                    await receiver.put(frame.data[at : at + CHUNK_BYTES])
                if frame.is_last:
                    await receiver.end()
            case spdy.Reset() if frame.stream in self._streams:
                self._streams.pop(frame.stream).was_reset()
            case spdy.Ping() if not _is_answer(frame):
                await self.send(frame)
            case _:
                return  # windows, settings, further headers, and what came too late for its stream

    async def _open(self, frame: spdy.SynStream) -> None:
        if frame.stream % 2 == 0 or frame.stream <= self._last:
            await self.send(spdy.Reset(frame.stream, spdy.PROTOCOL_ERROR))
            return
        self._last = frame.stream
        if len(self._streams) >= _MOST_STREAMS:
            await self.send(spdy.Reset(frame.stream, spdy.REFUSED_STREAM))
            return
        stream = self._streams[frame.stream] = Stream(self, frame)
        await self._opened(stream)


def _is_answer(frame: spdy.Frame) -> bool:
    """Tell whether a frame answers a ping of ours; the client's have odd numbers."""
    return isinstance(frame, spdy.Ping) and frame.id % 2 == 0
