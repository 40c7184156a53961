"""uvicorn's protocol, whose application may take the connection of a request with `Upgrade: SPDY/3.1`.

`node.upgrades` says what the application is offered. asyncio ends here: what is given away is a stream of AnyIO's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import anyio
import httptools
from anyio.abc import ByteStream
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headrace.node import upgrades

_HELD_BYTES = 256 * 1024
"""How much of what has come waits for a reader before the client has to."""
_CLOSE_WITHIN_S = 10.0
"""How long a client that is closed upon may take to read the rest."""


class UpgradingProtocol(HttpToolsProtocol):
    """One connection. Requests that are not upgraded, and WebSockets, are served as ever."""

    _is_upgrading = False
    _early = b""
    """What came behind the request's head while the application was making up its mind."""

    def on_headers_complete(self) -> None:
        self._is_upgrading = self.parser.should_upgrade() and self._get_upgrade() == upgrades.PROTOCOL.lower().encode()
        if self._is_upgrading:
            self.scope["extensions"] = {upgrades.EXTENSION: {upgrades.TAKE: self._take}}
        super().on_headers_complete()
        if self._is_upgrading:
            self.cycle.keep_alive = False  # where it is refused: what follows is no request

    def data_received(self, data: bytes) -> None:
        if self._is_upgrading:
            self._early += data  # at most what was on its way when reading was paused
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        except httptools.HttpParserUpgrade as upgrade:
            if self._is_upgrading:
                self.transport.pause_reading()
                self._early = data[upgrade.args[0] :]
            elif self._should_upgrade():
                self.handle_websocket_upgrade()

    async def _take(self, headers: Mapping[str, str]) -> ByteStream:
        """Answer 101 and give the connection away; this object has nothing to do with it any more."""
        head = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self.transport.write("\r\n".join(head).encode("latin-1"))
        self.cycle.response_started = self.cycle.response_complete = True  # as uvicorn sees it
        taken = Taken(self.transport, self._early, self._lost)
        self.transport.set_protocol(taken)
        if self.transport.is_closing():  # the client has gone meanwhile, and nobody would tell
            taken.connection_lost(None)
        else:
            self.transport.resume_reading()
        return taken

    def _lost(self) -> None:
        self.connections.discard(self)

    @property
    def is_taken(self) -> bool:
        """Whether the connection was given away."""
        return self.transport.get_protocol() is not self

    def shutdown(self) -> None:
        """End a connection that was given away, too, when the server stops."""
        if self.is_taken:
            self.transport.abort()
        else:
            super().shutdown()


class Taken(asyncio.Protocol, ByteStream):
    """An asyncio transport as a stream of AnyIO's. Closing it sends what is left, but waits for nobody."""

    def __init__(self, transport: asyncio.Transport, early: bytes, lost: Callable[[], None]) -> None:
        self._transport = transport
        self._lost = lost
        self._held = bytearray(early)
        self._has_ended = self._is_paused = False
        self._news = anyio.Event()
        self._writable = anyio.Event()
        self._writable.set()
        self._deadline: asyncio.TimerHandle | None = None

    # -- asyncio's side --------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > _HELD_BYTES and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._news.set()

    def eof_received(self) -> bool:
        self._end()
        # A client that will send nothing more may still read, but TLS has no such clients.
        return self._transport.get_extra_info("ssl_object") is None

    def connection_lost(self, _error: Exception | None) -> None:
        self._lost()
        if self._deadline is not None:
            self._deadline.cancel()
        self._end()
        self._writable.set()

    def pause_writing(self) -> None:
        if self._writable.is_set():
            self._writable = anyio.Event()

    def resume_writing(self) -> None:
        self._writable.set()

    def _end(self) -> None:
        self._has_ended = True
        self._news.set()

    # -- AnyIO's side ----------------------------------------------------------------------------------------------

    async def receive(self, max_bytes: int = 65536) -> bytes:
        while not self._held:
            if self._has_ended:
                raise anyio.EndOfStream
            self._news = anyio.Event()
            await self._news.wait()
        data = bytes(self._held[:max_bytes])
        del self._held[:max_bytes]
        if self._is_paused and len(self._held) <= _HELD_BYTES // 2 and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()
        return data

    async def send(self, item: bytes) -> None:
        await self._writable.wait()
        if self._transport.is_closing():
            raise anyio.BrokenResourceError
        self._transport.write(item)

    async def send_eof(self) -> None:
        raise NotImplementedError("TLS has no half-closed connections")

    async def aclose(self) -> None:
        if not self._transport.is_closing():
            self._transport.close()
            self._deadline = asyncio.get_running_loop().call_later(_CLOSE_WITHIN_S, self._transport.abort)
