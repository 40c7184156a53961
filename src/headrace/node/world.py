"""The agent's side of a world's socket: requests answered out of order, events, descriptors, and coming back.

One connection at a time carries everything. When it breaks, requests in flight fail with Unavailable (every order a
world takes is idempotent, so they are sent again), and `attach` connects anew with growing pauses for as long as it
runs. The frames are `headrace.sandbox.wire`'s.
"""

from __future__ import annotations

import math
import socket
from array import array
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any, Protocol

import anyio
from anyio import to_thread

from headrace.errors import HeadraceError, Unavailable
from headrace.sandbox import wire
from headrace.spec.kind import Json
from headrace.telemetry import logger

WORLD_ATTACHED = "world.attached"
WORLD_LOST = "world.lost"
WORLD_UNREACHABLE = "world.unreachable"

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
_CONNECT_S = 5.0
_ANSWER_S = 30.0
_READ_BYTES = 65536

_log = logger(component="world-client")


class WorldRefused(HeadraceError):
    """The world understood an order and does not carry it out; `code` is the wire's (`NotFound`, `StartFailed`, …)."""

    http_status = 409


class Attachment(Protocol):
    """One connection, for as long as it holds."""

    hello: Json
    """The world's answer to `hello`: world, pid, boot_id, started_wall_ns, features, journal_seq."""

    def follow(self, after: int) -> AsyncGenerator[Json, None]:
        """Yield journal entries with a number above `after`, then new ones as they are written.

        Ends by Unavailable when the connection breaks. One at a time on one attachment.
        """
        ...


class World(Protocol):
    """A world as the agent uses it."""

    async def attach(self, serve: Callable[[Attachment], Coroutine[Any, Any, None]]) -> None:
        """Stay connected for ever, calling `serve` on each connection and cancelling it when the connection breaks."""
        ...

    async def request(self, op: str, *, fds: Sequence[int] = (), timeout_s: float = _ANSWER_S, **fields: Any) -> Json:
        """Order something and return the answer.

        Raises:
            WorldRefused: the world says why not.
            Unavailable: no world, no answer in `timeout_s`, or the connection broke; the order may have been carried out.
        """
        ...

    async def exec(self, *, fds: Sequence[int], timeout_s: float = _ANSWER_S, **fields: Any) -> Exec:
        """Start a command in a running container. The caller keeps and closes its own descriptors."""
        ...


class Exec:
    """A command that runs in a container."""

    def __init__(self, world: World, exec_id: str) -> None:
        self.id = exec_id
        self._world = world
        self._ended = anyio.Event()
        self._exit_code: int | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more, or nobody will ever know."""
        return self._ended.is_set()

    async def wait(self) -> int:
        """Return the command's exit code; raises Unavailable when the world was lost meanwhile."""
        await self._ended.wait()
        if self._exit_code is None:
            raise Unavailable("The connection to the node's world broke while a command ran in it.")
        return self._exit_code

    async def signal(self, number: int) -> None:
        """Send the command a signal; one that has ended is left in peace."""
        try:
            await self._world.request("exec.signal", exec=self.id, signal=number)
        except WorldRefused as refusal:
            if refusal.code != "NotFound":
                raise

    def ended(self, exit_code: int | None) -> None:
        """Note the end; None when it will never be known. For implementations of `World`."""
        self._exit_code = exit_code
        self._ended.set()


class WorldClient:
    """`World` over the Unix socket at `path`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._session: _Session | None = None
        self._connected = anyio.Event()

    async def attach(self, serve: Callable[[Attachment], Coroutine[Any, Any, None]]) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                connection = await to_thread.run_sync(wire.connect, self._path, _CONNECT_S)
            except OSError as error:
                _log.debug(WORLD_UNREACHABLE, path=self._path, error=str(error))
            else:
                with connection:
                    connection.setblocking(False)
                    if await self._serve(connection, serve):
                        pause_s = _FIRST_PAUSE_S
            await anyio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _serve(self, connection: socket.socket, serve: Callable[[Attachment], Coroutine[Any, Any, None]]) -> bool:
        """Serve one connection until it breaks; tell whether the world answered on it."""
        session = _Session(connection)
        greeted = False
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.read, tasks.cancel_scope)
            try:
                session.hello = await session.request("hello", (), _CONNECT_S, {})
                greeted = True
                self._session = session
                self._connected.set()
                _log.info(WORLD_ATTACHED, path=self._path, world=session.hello.get("world"))
                await serve(session)
                await anyio.sleep(math.inf)
            except HeadraceError as error:
                _log.warning(WORLD_LOST, path=self._path, error=str(error))
                tasks.cancel_scope.cancel()
            finally:
                if self._session is session:
                    self._session, self._connected = None, anyio.Event()
                session.broken()
        return greeted

    async def request(self, op: str, *, fds: Sequence[int] = (), timeout_s: float = _ANSWER_S, **fields: Any) -> Json:
        session = await self._current(timeout_s)
        return await session.request(op, fds, timeout_s, fields)

    async def exec(self, *, fds: Sequence[int], timeout_s: float = _ANSWER_S, **fields: Any) -> Exec:
        session = await self._current(timeout_s)
        answer = await session.request("container.exec", fds, timeout_s, fields)
        return session.exec_of(self, str(answer["exec"]))

    async def _current(self, timeout_s: float) -> _Session:
        with anyio.move_on_after(timeout_s):
            await self._connected.wait()
        if self._session is None:
            raise Unavailable(f"The node's world does not answer on {self._path}.", hint="Is it running? See its log.")
        return self._session


class _Session:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.hello: Json = {}
        self._socket = connection
        self._sending = anyio.Lock()
        self._next_id = 0
        self._answers: dict[int, Json] = {}
        self._waiting: dict[int, anyio.Event] = {}
        self._execs: dict[str, Exec] = {}
        self._early_ends: dict[str, int] = {}
        self._entries: deque[Json] = deque()
        self._news = anyio.Event()
        self._is_broken = False

    async def read(self, scope: anyio.CancelScope) -> None:
        """Take in frames until the connection ends, then cancel `scope`."""
        decoder = wire.Decoder()
        try:
            while data := await self._receive():
                for message in decoder.feed(data):
                    self._take(message)
        except (OSError, wire.BrokenFrame) as error:
            _log.warning(WORLD_LOST, error=repr(error))
        scope.cancel()

    async def _receive(self) -> bytes:
        while True:
            try:
                return self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                await anyio.wait_readable(self._socket)

    def _take(self, message: Json) -> None:
        if "event" not in message:
            number = message.get("id", 0)
            if number in self._waiting:
                self._answers[number] = message
                self._waiting.pop(number).set()
        elif message["event"] == "exec.exited":
            found = self._execs.pop(str(message["exec"]), None)
            if found is None:
                self._early_ends[str(message["exec"])] = int(message["exit_code"])
            else:
                found.ended(int(message["exit_code"]))
        elif message["event"] == "journal":
            self._entries.append(message)
            self._news.set()

    async def request(self, op: str, fds: Sequence[int], timeout_s: float, fields: Json) -> Json:
        self._next_id += 1
        number = self._next_id
        frame = wire.encode({"id": number, "op": op, **fields})
        answered = self._waiting[number] = anyio.Event()
        try:
            with anyio.fail_after(timeout_s):
                async with self._sending:
                    await self._send(frame, fds)
                await answered.wait()
        except TimeoutError as error:
            raise Unavailable(f"The node's world did not answer {op} within {timeout_s:.0f} s.") from error
        except OSError as error:
            raise Unavailable(f"The connection to the node's world broke at {op}.") from error
        finally:
            self._waiting.pop(number, None)
        answer = self._answers.pop(number, None)
        if answer is None:
            raise Unavailable(f"The connection to the node's world broke at {op}.")
        if not answer.get("ok"):
            error_body = answer.get("error") or {}
            raise WorldRefused(str(error_body.get("message", "refused")), code=str(error_body.get("code", "Failed")))
        return answer

    async def _send(self, frame: bytes, fds: Sequence[int]) -> None:
        """Send a whole frame or end the connection: half a frame would make the rest unreadable."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
        view = memoryview(frame)
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + _CONNECT_S):
            while view:
                try:
                    view = view[self._socket.sendmsg([view], rights) :]
                    rights = []  # descriptors go with the first bytes
                except BlockingIOError:
                    await anyio.wait_writable(self._socket)
        if view:
            self._socket.shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError

    async def follow(self, after: int) -> AsyncGenerator[Json, None]:
        await self.request("follow", (), _ANSWER_S, {"after": after})
        while True:
            while self._entries:
                yield self._entries.popleft()
            if self._is_broken:
                raise Unavailable("The connection to the node's world broke.")
            await self._news.wait()
            self._news = anyio.Event()

    def exec_of(self, world: World, exec_id: str) -> Exec:
        command = Exec(world, exec_id)
        if exec_id in self._early_ends:
            command.ended(self._early_ends.pop(exec_id))
        elif self._is_broken:
            command.ended(None)
        else:
            self._execs[exec_id] = command
        return command

    def broken(self) -> None:
        """Wake everybody who waits for this connection."""
        self._is_broken = True
        for event in self._waiting.values():
            event.set()
        self._waiting.clear()
        for command in self._execs.values():
            command.ended(None)
        self._execs.clear()
        self._news.set()
