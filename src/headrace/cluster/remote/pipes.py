"""`Pipes`: HTTP/1.1 over kept connections, for a client that asks one server thousands of small questions.

A transport of httpx2's like its own, which costs 1.2 ms of CPU a request more: h11 parses in Python, and the pool goes
through locks and traces that nobody reads. Here httptools (llhttp) parses, AnyIO carries, and a request is one write, so
that the server is woken once. What is no plain request (WebSockets, HEAD) is left to httpx2's own transport.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress

import anyio
import anyio.abc
import httptools
import httpx2
from anyio.streams.tls import TLSStream

_READ_BYTES = 64 * 1024
_KEPT, _KEPT_FOR_S = 32, 60.0  # a controller's workers; a new connection costs both sides a handshake

WHOLE = "headrace.whole"
"""An extension of a request whose answer is wanted whole: it is then read before the transport returns."""

Origin = tuple[str, str, int]


class Pipes(httpx2.AsyncBaseTransport):
    """Keeps up to 32 idle connections a server, for a minute.

    Args:
        tls: of https servers.
        options: set on every socket.
        other: carries what is no plain request.
    """

    def __init__(
        self, tls: ssl.SSLContext, options: Sequence[tuple[int, int, int]], other: httpx2.AsyncBaseTransport
    ) -> None:
        self._tls = tls
        self._options = options
        self._other = other
        self._idle: defaultdict[Origin, deque[_Pipe]] = defaultdict(deque)
        self._open: set[_Pipe] = set()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method in {"HEAD", "CONNECT"} or "upgrade" in request.headers:
            return await self._other.handle_async_request(request)
        written = _written(request, await request.aread())
        pipe = await self._taken(request)
        try:
            answer = await pipe.ask(written, request)
        except BaseException:
            await self._drop(pipe)
            raise
        if not answer.is_complete:
            stream = _Rest(self, pipe, answer, request)
            return httpx2.Response(answer.status, headers=answer.headers, stream=stream)
        await self._release(pipe, answer)
        return httpx2.Response(answer.status, headers=answer.headers, content=b"".join(answer.parts))

    async def aclose(self) -> None:
        """Close all connections, those in use too. Idempotent."""
        self._idle.clear()
        for pipe in list(self._open):
            await self._drop(pipe)
        await self._other.aclose()

    async def _taken(self, request: httpx2.Request) -> _Pipe:
        url = request.url
        origin = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        idle = self._idle[origin]
        while idle:
            pipe = idle.pop()
            if pipe.is_usable():
                return pipe
            await self._drop(pipe)
        stream = await _connected(origin, self._tls, self._options, request)
        pipe = _Pipe(origin, stream)
        self._open.add(pipe)
        return pipe

    async def _release(self, pipe: _Pipe, answer: _Answer) -> None:
        idle = self._idle[pipe.origin]
        if not answer.is_complete or not answer.keeps_alive or pipe not in self._open:
            await self._drop(pipe)
            return
        pipe.idle_since_s = time.monotonic()
        idle.append(pipe)
        if len(idle) > _KEPT or not idle[0].is_fresh():
            await self._drop(idle.popleft())

    async def _drop(self, pipe: _Pipe) -> None:
        self._open.discard(pipe)
        await anyio.aclose_forcefully(pipe.stream)


class _Pipe:
    """One connection, which carries one request at a time."""

    def __init__(self, origin: Origin, stream: anyio.abc.ByteStream) -> None:
        self.origin = origin
        self.stream = stream
        self.idle_since_s = 0.0
        self._poll = select.poll()
        self._poll.register(_socket(stream), select.POLLIN)

    def is_fresh(self) -> bool:
        return time.monotonic() - self.idle_since_s < _KEPT_FOR_S

    def is_usable(self) -> bool:
        """Tell whether the server has said nothing since the last answer; all it can have said is that it closes."""
        return self.is_fresh() and not self._poll.poll(0)

    async def ask(self, written: bytes, request: httpx2.Request) -> _Answer:
        """Send a request and return its answer, of which the head is there; all of it where it is wanted whole."""
        with _failures(request):
            with suppress(anyio.BrokenResourceError):  # it may have refused a large body, and closed then
                await self.stream.send(written)
        answer = _Answer()
        is_wanted_whole = request.extensions.get(WHOLE)
        while not answer.has_head or (is_wanted_whole and not answer.is_complete):
            await self.read(answer, request)
        return answer

    async def read(self, answer: _Answer, request: httpx2.Request) -> None:
        """Read more of an answer."""
        timeout_s = (request.extensions.get("timeout") or {}).get("read")
        with _failures(request):
            try:
                if timeout_s is None:
                    data = await self.stream.receive(_READ_BYTES)
                else:
                    with anyio.fail_after(timeout_s):
                        data = await self.stream.receive(_READ_BYTES)
            except anyio.EndOfStream:
                answer.end()
                return
            answer.parser.feed_data(data)


class _Answer:
    """What has come of one answer. Its `on_` methods are httptools' callbacks."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self.has_head = self.is_complete = self.keeps_alive = False
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()
        self.has_head = self.status >= 200

    def on_body(self, body: bytes) -> None:
        self.parts.append(body)

    def on_message_complete(self) -> None:
        if not self.has_head:  # "100 Continue" and kin: the answer is still to come
            self.headers = []
            return
        self.is_complete, self.keeps_alive = True, self.parser.should_keep_alive()

    def end(self) -> None:
        """Take the end of the connection, which is an answer's own where it has not said how long it is."""
        if not self.has_head:
            raise httpx2.RemoteProtocolError("Server disconnected without sending a response.")
        names = {name.lower() for name, _ in self.headers}
        if names & {b"content-length", b"transfer-encoding"}:
            raise httpx2.RemoteProtocolError("peer closed connection without sending complete message body")
        self.is_complete = True


class _Rest(httpx2.AsyncByteStream):
    """The body of an answer as it comes."""

    def __init__(self, pipes: Pipes, pipe: _Pipe, answer: _Answer, request: httpx2.Request) -> None:
        self._pipes, self._pipe, self._answer, self._request = pipes, pipe, answer, request
        self._is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        answer = self._answer
        while True:
            parts, answer.parts = answer.parts, []
            if parts:
                yield b"".join(parts)
            elif answer.is_complete:
                return
            else:
                await self._pipe.read(answer, self._request)

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            await self._pipes._release(self._pipe, self._answer)


def _written(request: httpx2.Request, body: bytes) -> bytes:
    target = request.url.raw_path
    lines = [b"%s %s HTTP/1.1" % (request.method.encode(), target)]
    lines += [b"%s: %s" % field for field in request.headers.raw]
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1 or b"\0" in head:
        raise httpx2.LocalProtocolError("A header, such as a token, has a line break in it", request=request)
    return b"%s\r\n\r\n%s" % (head, body)


async def _connected(
    origin: Origin, tls: ssl.SSLContext, options: Sequence[tuple[int, int, int]], request: httpx2.Request
) -> anyio.abc.ByteStream:
    scheme, host, port = origin
    timeout_s = (request.extensions.get("timeout") or {}).get("connect")
    try:
        with anyio.fail_after(timeout_s):
            stream = await anyio.connect_tcp(host, port)
            for option in options:
                _socket(stream).setsockopt(*option)
            if scheme != "https":
                return stream
            try:
                return await TLSStream.wrap(
                    stream, ssl_context=tls, hostname=host, server_side=False, standard_compatible=False
                )
            except BaseException:
                await anyio.aclose_forcefully(stream)
                raise
    except TimeoutError as error:
        raise httpx2.ConnectTimeout("", request=request) from error
    except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
        raise httpx2.ConnectError(str(error), request=request) from error


def _socket(stream: anyio.abc.ByteStream) -> socket.socket:
    found: socket.socket = stream.extra(anyio.abc.SocketAttribute.raw_socket)  # noqa: S610 - AnyIO's, not Django's
    return found


@contextmanager
def _failures(request: httpx2.Request) -> Iterator[None]:
    """Raise what happens to a connection as httpx2's transports do."""
    try:
        yield
    except TimeoutError as error:
        raise httpx2.ReadTimeout("", request=request) from error
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
        raise httpx2.ReadError(str(error), request=request) from error
    except httptools.HttpParserError as error:
        raise httpx2.RemoteProtocolError(str(error), request=request) from error
