"""The node's HTTPS endpoint, with kubelet's paths: logs, exec, ports, pods, healthz.

Its callers are API servers: the façade speaks WebSocket, kube-apiserver SPDY for its clients of either kind. Roles give
it TLS and decide who is let in; nothing here is for anybody else's eyes.
Source: kubernetes `pkg/kubelet/server/server.go`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import anyio
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from headrace.clock import Clock, parse_time
from headrace.errors import HeadraceError, InvalidSpec
from headrace.node import exec as commands
from headrace.node import remote_command
from headrace.node.logs import LogOptions
from headrace.node.port_forward import PortForward
from headrace.node.ports import PodPorts
from headrace.node.remote_command import Session, Wanted, exit_status
from headrace.node.streams import Messages
from headrace.node.upgrades import upgraded
from headrace.spec.kind import Json

LogSink = Callable[[bytes], Awaitable[None]]
LogSource = Callable[[LogSink], Awaitable[None]]

_METHODS = ["GET", "POST"]
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
            Route("/exec/{namespace}/{pod}/{container}", endpoint.exec_by_spdy, methods=_METHODS),
            Route("/exec/{namespace}/{pod}/{uid}/{container}", endpoint.exec_by_spdy, methods=_METHODS),
            WebSocketRoute("/portForward/{namespace}/{pod}", forward.serve),
            WebSocketRoute("/portForward/{namespace}/{pod}/{uid}", forward.serve),
            Route("/portForward/{namespace}/{pod}", forward.serve_by_spdy, methods=_METHODS),
            Route("/portForward/{namespace}/{pod}/{uid}", forward.serve_by_spdy, methods=_METHODS),
            Route("/attach/{rest:path}", endpoint.unsupported, methods=_METHODS),
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
        offered = socket.scope.get("subprotocols", ())
        chosen = next((name for name in remote_command.PROTOCOLS if name in offered), None)
        try:
            if chosen is None:
                raise InvalidSpec(f"exec needs one of the subprotocols {', '.join(remote_command.PROTOCOLS)}.")
            _, _, session = self._exec(socket)
        except HeadraceError as error:
            await socket.send_denial_response(PlainTextResponse(str(error), error.http_status))
            return
        await socket.accept(subprotocol=chosen)
        await remote_command.over_websocket(socket, session)

    async def exec_by_spdy(self, request: Request) -> Response:
        try:
            name, asked, session = self._exec(request)
        except HeadraceError as error:
            return PlainTextResponse(str(error), error.http_status)

        async def serve(messages: Messages, _protocol: str) -> None:
            await remote_command.over_spdy(messages, name, asked, session)

        return upgraded(request, remote_command.PROTOCOLS, serve)

    def _exec(self, request: HTTPConnection) -> tuple[str, Wanted, Session]:
        """Return the name, the streams and what runs the command; raises what the client is to be told."""
        path, query = request.path_params, request.query_params
        where = (path["namespace"], path["pod"], path["container"])
        argv = query.getlist("command")
        if not argv:
            raise InvalidSpec("exec needs a command.")
        asked = remote_command.wanted(query)
        self._node.check_running(*where)

        async def session(channel: commands.Channel) -> Json:
            return exit_status(await self._node.exec(*where, argv, channel, stdin=asked.stdin, tty=asked.tty))

        return "/".join(where), asked, session

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
