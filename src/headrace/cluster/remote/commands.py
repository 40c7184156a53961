"""Commands in containers over WebSocket: `v5.channel.k8s.io` and `v4.channel.k8s.io`.

Each message begins with its channel: stdin 0, stdout 1, stderr 2, the final Status 3, terminal size 4; in v5, 255
closes the channel named next. The WebSocket is httpx2's own, so it shares TLS, credentials and connection settings.

Source: apimachinery `remotecommand` and KEP-4006.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import httpx2
import msgspec
import wsproto.utilities
from anyio.abc import ByteReceiveStream, ByteSendStream
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from httpx2.websockets import AsyncWebSocketSession, HTTPXWSException, WebSocketUpgradeError

from headrace.cluster.protocol import ExecResult
from headrace.cluster.remote.answers import error_of, refusal
from headrace.cluster.remote.transport import TIMEOUT_S, Transport
from headrace.errors import HeadraceError, Unavailable, Unsupported
from headrace.spec.kind import Json

OUTPUT_LIMIT_BYTES = 1024 * 1024
"""What `run_command` keeps of each stream."""

_V5 = "v5.channel.k8s.io"
_PROTOCOLS = [_V5, "v4.channel.k8s.io"]
_STDIN, _STDOUT, _STDERR, _STATUS, _RESIZE, _CLOSE = 0, 1, 2, 3, 4, 255
_CHUNK_BYTES = 32 * 1024
_MESSAGE_LIMIT_BYTES = 4 * 1024 * 1024
_BUFFERED_MESSAGES = 64


class Session:
    """One running command; implements `ExecStream`. Read both outputs: an unread one holds the command up."""

    def __init__(self, socket: AsyncWebSocketSession) -> None:
        self._socket = socket
        self._outputs: dict[int, MemoryObjectSendStream[bytes]] = {}
        self._unread: list[MemoryObjectReceiveStream[bytes]] = []
        self._ended = anyio.Event()
        self._outcome: int | HeadraceError = Unavailable(
            "The connection was lost before the command ended.", hint="See whether its container still runs."
        )
        self.stdin: ByteSendStream = _Stdin(socket)
        self.stdout: ByteReceiveStream = self._output(_STDOUT)
        self.stderr: ByteReceiveStream = self._output(_STDERR)

    def _output(self, channel: int) -> ByteReceiveStream:
        send, receive = anyio.create_memory_object_stream[bytes](_BUFFERED_MESSAGES)
        self._outputs[channel] = send
        self._unread.append(receive)
        return BufferedByteReceiveStream(receive)

    @property
    def can_end_stdin(self) -> bool:
        """Whether the server can be told that a command's input is over; v4 has no word for it."""
        return self._socket.subprotocol == _V5

    async def resize(self, columns: int, rows: int) -> None:
        await _send(self._socket, _RESIZE, msgspec.json.encode({"Width": columns, "Height": rows}))

    async def wait(self) -> int:
        await self._ended.wait()
        if isinstance(self._outcome, HeadraceError):
            raise self._outcome
        return self._outcome

    async def pump(self) -> None:
        """Pass on what comes until the command has ended."""
        try:
            while not self._ended.is_set():
                message = await self._socket.receive_bytes()
                await self._take(message[0], message[1:])
        except (HTTPXWSException, IndexError):
            pass  # the outcome says that the connection was lost
        finally:
            self._ended.set()
            for output in self._outputs.values():
                output.close()

    async def _take(self, channel: int, content: bytes) -> None:
        output = self._outputs.get(channel)
        if output is not None and content:
            try:
                await output.send(content)
            except anyio.BrokenResourceError:  # nobody reads it any more
                self._outputs.pop(channel).close()
        elif channel == _STATUS and content:
            self._outcome = _outcome(content)
            self._ended.set()

    def close(self) -> None:
        """Let go of what has not been read."""
        for source in self._unread:
            source.close()


class _Stdin(ByteSendStream):
    def __init__(self, socket: AsyncWebSocketSession) -> None:
        self._socket = socket
        self._is_closed = False

    async def send(self, item: bytes) -> None:
        if self._is_closed:
            raise anyio.ClosedResourceError
        for start in range(0, len(item), _CHUNK_BYTES):
            await _send(self._socket, _STDIN, item[start : start + _CHUNK_BYTES])

    async def aclose(self) -> None:
        """End the command's input. The older protocol cannot say that, so there the command goes on waiting."""
        if not self._is_closed and self._socket.subprotocol == _V5:
            self._is_closed = True
            await _send(self._socket, _CLOSE, bytes([_STDIN]))
        self._is_closed = True


async def _send(socket: AsyncWebSocketSession, channel: int, content: bytes) -> None:
    try:
        await socket.send_bytes(bytes([channel]) + content)
    except (HTTPXWSException, wsproto.utilities.LocalProtocolError) as error:
        raise anyio.BrokenResourceError from error


def _outcome(content: bytes) -> int | HeadraceError:
    try:
        status: Json = msgspec.json.decode(content, type=Json)
    except msgspec.DecodeError:
        return Unavailable(f"The server ended the command with {content[:200]!r}.", hint="Try again.")
    if status.get("status") == "Success":
        return 0
    if status.get("reason") == "NonZeroExitCode":
        for cause in (status.get("details") or {}).get("causes") or ():
            if cause.get("reason") == "ExitCode":
                return int(cause["message"])
    return error_of(status)


@asynccontextmanager
async def attached(
    http: Transport, path: str, command: Sequence[str], *, container: str, stdin: bool, tty: bool
) -> AsyncIterator[Session]:
    """Start a command and give its streams; it is cut off when the context ends before it does."""
    query: list[tuple[str, Any]] = [("command", word) for word in command]
    query += [("stdin", stdin), ("stdout", True), ("stderr", not tty), ("tty", tty)]
    if container:
        query.append(("container", container))
    opening = http.client.websocket(
        path,
        params=query,
        subprotocols=_PROTOCOLS,
        max_message_size_bytes=_MESSAGE_LIMIT_BYTES,
        keepalive_ping_timeout_seconds=None,  # a reader may pause for longer; TCP notices a peer that is gone
        timeout=httpx2.Timeout(TIMEOUT_S),
    )
    try:
        async with AsyncExitStack() as stack:
            with http.translating(f"GET {path}", TIMEOUT_S):
                session = Session(await stack.enter_async_context(opening))
            stack.callback(session.close)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.pump)
                yield session
                tasks.cancel_scope.cancel()
    except WebSocketUpgradeError as error:
        raise refusal(error.response) from error
    except BaseExceptionGroup as group:
        raise _only(group) from None


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what was raised inside: the task groups of a session are nobody's business outside."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, wsproto.utilities.ProtocolError):
        return Unavailable(f"The server broke the rules of WebSocket: {error}.", hint="Check what is in between.")
    return error


async def run_command(http: Transport, path: str, command: Sequence[str], container: str, stdin: bytes) -> ExecResult:
    """Run a command to its end; see `Cluster.exec`."""
    stdout, stderr = bytearray(), bytearray()

    async def collect(source: ByteReceiveStream, content: bytearray) -> None:
        async for chunk in source:
            content += chunk[: OUTPUT_LIMIT_BYTES - len(content)]

    async with attached(http, path, command, container=container, stdin=bool(stdin), tty=False) as session:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect, session.stdout, stdout)
            tasks.start_soon(collect, session.stderr, stderr)
            if stdin:
                await _feed(session, stdin)
        exit_code = await session.wait()
    return ExecResult(exit_code, bytes(stdout), bytes(stderr))


async def _feed(session: Session, stdin: bytes) -> None:
    if not session.can_end_stdin:
        raise Unsupported(
            "This server cannot be told where a command's input ends (it speaks v4.channel.k8s.io only).",
            hint="Put the input into the command.",
        )
    try:
        await session.stdin.send(stdin)
        await session.stdin.aclose()
    except anyio.BrokenResourceError:
        pass  # it ended without reading all; its exit code tells
