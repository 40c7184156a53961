"""Connections that a request turns into SPDY/3.1 ones (`Upgrade: SPDY/3.1`), as an API server asks a kubelet.

ASGI knows no such upgrade: whoever serves the application offers it in the scope's extensions, as a function that
answers 101 and gives the connection. An application that does not call it answers as always.
Source: `k8s.io/streaming/pkg/httpstream` (`Handshake`), `httpstream/spdy/upgrade.go`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import anyio
from anyio.abc import ByteStream
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from headrace.node.streams import Messages

EXTENSION, TAKE = "headrace.upgrade", "take"
PROTOCOL = "SPDY/3.1"
Take = Callable[[Mapping[str, str]], Awaitable[ByteStream]]
"""Answers 101 with these headers and gives the connection, which its taker closes."""
Serve = Callable[[Messages, str], Awaitable[None]]
"""Given the connection's messages and the subprotocol."""

_VERSION = "X-Stream-Protocol-Version"
_ACCEPTED = "X-Accepted-Stream-Protocol-Versions"
_READ_BYTES = 64 * 1024


class StreamMessages:
    """`streams.Messages` over a connection of bytes."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    async def receive(self) -> bytes | str:
        try:
            return await self._stream.receive(_READ_BYTES)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise anyio.EndOfStream from error

    async def send(self, message: bytes | str) -> bool:
        try:
            await self._stream.send(message.encode() if isinstance(message, str) else message)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return False
        return True


def upgraded(request: Request, supported: Sequence[str], serve: Serve) -> Response:
    """Return the response that turns the connection over to `serve`, or says why not.

    The subprotocol is the first of the client's that is supported.
    """
    if EXTENSION not in request.scope.get("extensions", {}):
        what = request.url.path.split("/")[1]
        return PlainTextResponse(f"{what} needs a WebSocket or an upgrade to {PROTOCOL}", 400)
    offered = [
        name for value in request.headers.getlist(_VERSION) for part in value.split(",") if (name := part.strip())
    ]
    if not offered:
        return PlainTextResponse(f"unable to upgrade: the request has no header {_VERSION}", 400)
    chosen = next((name for name in offered if name in supported), "")
    if not chosen:
        sentence = f"unable to upgrade: client supports {', '.join(offered)}; this node accepts {', '.join(supported)}"
        return PlainTextResponse(sentence, 403, headers={_ACCEPTED: ", ".join(supported)})
    return _Upgraded(chosen, serve)


class _Upgraded(Response):
    def __init__(self, chosen: str, serve: Serve) -> None:
        super().__init__()
        self._chosen = chosen
        self._serve = serve

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        take: Take = scope["extensions"][EXTENSION][TAKE]
        headers = {"Connection": "Upgrade", "Upgrade": PROTOCOL, _VERSION: self._chosen}
        async with await take(headers) as connection:
            await self._serve(StreamMessages(connection), self._chosen)
