"""The node's HTTPS endpoint, with kubelet's paths: logs, exec, ports, pods, healthz. The façade is its only caller.

Roles give it TLS and ask for the façade's client certificate; nothing here is for anybody else's eyes.
Source: kubernetes `pkg/kubelet/server/server.go`; `k8s.io/kubelet/pkg/cri/streaming/remotecommand` (WebSocket
protocols `v4.channel.k8s.io` and `v5.channel.k8s.io`: the first byte of a message is its channel).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from headrace.clock import Clock, parse_time
from headrace.errors import HeadraceError, InvalidSpec
from headrace.node import exec as commands
from headrace.node.logs import LogOptions
from headrace.node.port_forward import PortForward
from headrace.node.ports import PodPorts
from headrace.spec.kind import Json

LogSink = Callable[[bytes], Awaitable[None]]
LogSource = Callable[[LogSink], Awaitable[None]]

_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDIN, _ERROR, _RESIZE, _CLOSE = 0, 3, 4, 255
_YES = frozenset({"1", "true", "True"})


class NodeView(Protocol):
    """What the endpoint shows of the agent. Refusals are `headrace.errors` with the sentence for the user."""

    def pods(self) -> list[Json]:
        """Return this node's pods with their newest status."""
        ...

    def log(self, namespace: str, pod: str, container: str, options: LogOptions, *, previous: bool) -> LogSource:
        """Find a container's log; the function returned sends it."""
        ...

    async def exec(
        self,
        namespace: str,
        pod: str,
        container: str,
        argv: list[str],
        channel: commands.Channel,
        *,
        stdin: bool,
        tty: bool,
    ) -> int:
        """Run a command in a running container and return its exit code."""
        ...

    def ports(self, namespace: str, pod: str, uid: str = "") -> PodPorts:
        """Return the ports of a running pod."""
        ...

    def check_running(self, namespace: str, pod: str, container: str) -> None:
        """Raise NotFound or Conflict unless the container runs."""
        ...


def app(node: NodeView, clock: Clock) -> Starlette:
    """Return the ASGI application of one node."""
    endpoint = _Endpoint(node, clock)
    forward = PortForward(node.ports)
    return Starlette(
        routes=[
            Route("/healthz", endpoint.healthz),
            Route("/pods", endpoint.pods),
            Route("/containerLogs/{namespace}/{pod}/{container}", endpoint.logs),
            WebSocketRoute("/exec/{namespace}/{pod}/{container}", endpoint.exec),
            WebSocketRoute("/exec/{namespace}/{pod}/{uid}/{container}", endpoint.exec),
            WebSocketRoute("/portForward/{namespace}/{pod}", forward.serve),
            WebSocketRoute("/portForward/{namespace}/{pod}/{uid}", forward.serve),
            Route("/exec/{rest:path}", endpoint.not_by_spdy, methods=["GET", "POST"]),
            Route("/attach/{rest:path}", endpoint.unsupported, methods=["GET", "POST"]),
            Route("/portForward/{rest:path}", endpoint.not_by_spdy, methods=["GET", "POST"]),
        ]
    )


class _Endpoint:
    def __init__(self, node: NodeView, clock: Clock) -> None:
        self._node = node
        self._clock = clock

    async def healthz(self, _request: Request) -> Response:
        return PlainTextResponse("ok")

    async def pods(self, _request: Request) -> Response:
        return JSONResponse({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": self._node.pods()})

    async def logs(self, request: Request) -> Response:
        path, query = request.path_params, request.query_params
        try:
            options = _log_options(query, self._clock.now())
            source = self._node.log(
                path["namespace"], path["pod"], path["container"], options, previous=query.get("previous") in _YES
            )
        except HeadraceError as error:
            return PlainTextResponse(str(error), error.http_status)
        return _Streamed(source)

    async def exec(self, socket: WebSocket) -> None:
        path, query = socket.path_params, socket.query_params
        where = (path["namespace"], path["pod"], path["container"])
        offered = socket.scope.get("subprotocols", ())
        chosen = next((name for name in _PROTOCOLS if name in offered), None)
        try:
            argv = query.getlist("command")
            if chosen is None or not argv:
                raise InvalidSpec(f"exec needs a command and one of the subprotocols {', '.join(_PROTOCOLS)}.")
            self._node.check_running(*where)
        except HeadraceError as error:
            await socket.send_denial_response(PlainTextResponse(str(error), error.http_status))
            return
        await socket.accept(subprotocol=chosen)
        channel = _SocketChannel(socket)
        try:
            stdin, tty = query.get("input") in _YES, query.get("tty") in _YES
            code = await self._node.exec(*where, argv, channel, stdin=stdin, tty=tty)
            status = _exit_status(code)
        except HeadraceError as error:
            status = {
                "metadata": {},
                "status": "Failure",
                "reason": "InternalError",
                "message": str(error),
                "code": 500,
            }
        await channel.finish(status)

    async def not_by_spdy(self, request: Request) -> Response:
        return PlainTextResponse(f"{request.url.path.split('/')[1]} is served by WebSocket only", 400)

    async def unsupported(self, request: Request) -> Response:
        return PlainTextResponse(
            f"{request.url.path.split('/')[1]} is not supported by this node; use logs -f or exec", 501
        )


def _log_options(query: Mapping[str, str], now: dt.datetime) -> LogOptions:
    try:
        since = now - dt.timedelta(seconds=float(query["sinceSeconds"])) if query.get("sinceSeconds") else None
        since = parse_time(query["sinceTime"]) if query.get("sinceTime") else since
        return LogOptions(
            follow=query.get("follow") in _YES,
            tail_lines=int(query["tailLines"]) if query.get("tailLines") else None,
            since=since.strftime("%Y-%m-%dT%H:%M:%S.%f000Z") if since else "",
            timestamps=query.get("timestamps") in _YES,
            limit_bytes=int(query["limitBytes"]) if query.get("limitBytes") else None,
            stream=query.get("stream", "All").lower(),
        )
    except ValueError as error:
        raise InvalidSpec(f"The log options cannot be read: {error}.") from error


def _exit_status(code: int) -> Json:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


class _Streamed(Response):
    """A body that is sent as it comes, and no longer than the client listens."""

    media_type = "text/plain"

    def __init__(self, source: LogSource) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._source = source

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        async def sink(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        async def until_gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                continue
            tasks.cancel_scope.cancel()

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(until_gone)
            await self._source(sink)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            tasks.cancel_scope.cancel()


class _SocketChannel:
    """`commands.Channel` over a WebSocket."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._sending = anyio.Lock()

    async def send(self, stream: int, data: bytes) -> None:
        async with self._sending:
            if self._socket.application_state is not WebSocketState.CONNECTED:
                return
            try:
                await self._socket.send_bytes(bytes([stream]) + data)
            except (WebSocketDisconnect, RuntimeError):
                return  # gone; `receive` says so

    async def receive(self) -> bytes | commands.Resize | None:
        while True:
            try:
                message = await self._socket.receive_bytes()
            except (WebSocketDisconnect, KeyError, RuntimeError) as error:
                raise anyio.EndOfStream from error
            channel, data = (message[0], message[1:]) if message else (_STDIN, b"")
            if channel == _STDIN and data:
                return data
            if channel == _CLOSE and data[:1] == bytes([_STDIN]):
                return None
            if channel == _RESIZE:
                size = json.loads(data)
                return commands.Resize(int(size["Width"]), int(size["Height"]))

    async def finish(self, status: Json) -> None:
        """Send the status on the error channel and close."""
        await self.send(_ERROR, json.dumps(status).encode())
        if self._socket.application_state is WebSocketState.CONNECTED:
            try:
                await self._socket.close(1000)
            except (WebSocketDisconnect, RuntimeError):
                return  # the client hung up first
