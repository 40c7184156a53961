"""The node's HTTPS endpoint, with kubelet's paths: logs, exec, ports, pods, usage, healthz.

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
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from headrace.clock import Clock, parse_time
from headrace.errors import HeadraceError, InvalidSpec
from headrace.node import exec as commands
from headrace.node.attach import attaching
from headrace.node.logs import LogOptions
from headrace.node.port_forward import PortForward
from headrace.node.ports import PodPorts
from headrace.node.remote_command import RemoteCommand, Session, Wanted, exit_status
from headrace.node.usage import TEXT, NodeUsage, metrics, summary
from headrace.spec.kind import Json
from headrace.telemetry import logger

LogSink = Callable[[bytes], Awaitable[None]]
LogSource = Callable[[LogSink], Awaitable[None]]

USAGE_UNKNOWN = "node.usage_unknown"

_log = logger(component="endpoint")

_YES = frozenset({"1", "true", "True"})


class NodeView(Protocol):
    """What the endpoint shows of the agent. Refusals are `headrace.errors` with the sentence for the user."""

    def pods(self) -> list[Json]:
        """Return this node's pods with their newest status."""
        ...

    async def usage(self) -> NodeUsage:
        """Measure what the node and its pods use; raises HeadraceError when that cannot be done now."""
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

    def check_running(self, namespace: str, pod: str, container: str, *, uid: str = "") -> None:
        """Raise NotFound or Conflict unless the container runs, in the pod of that uid where one is given."""
        ...


def app(node: NodeView, clock: Clock) -> Starlette:
    """Return the ASGI application of one node."""
    endpoint = _Endpoint(node, clock)
    return Starlette(
        routes=[
            Route("/healthz", endpoint.healthz),
            Route("/pods", endpoint.pods),
            Route("/metrics/resource", endpoint.metrics),
            Route("/stats/summary", endpoint.summary),
            Route("/containerLogs/{namespace}/{pod}/{container}", endpoint.logs),
            *_streaming("/exec/{namespace}/{pod}/{container}", RemoteCommand("exec", endpoint.exec)),
            *_streaming("/exec/{namespace}/{pod}/{uid}/{container}", RemoteCommand("exec", endpoint.exec)),
            *_streaming("/attach/{namespace}/{pod}/{container}", RemoteCommand("attach", endpoint.attach)),
            *_streaming("/attach/{namespace}/{pod}/{uid}/{container}", RemoteCommand("attach", endpoint.attach)),
            *_streaming("/portForward/{namespace}/{pod}", PortForward(node.ports)),
            *_streaming("/portForward/{namespace}/{pod}/{uid}", PortForward(node.ports)),
        ]
    )


class _Streams(Protocol):
    async def serve(self, socket: WebSocket) -> None: ...

    async def serve_by_spdy(self, request: Request) -> Response: ...


def _streaming(path: str, streams: _Streams) -> list[BaseRoute]:
    return [WebSocketRoute(path, streams.serve), Route(path, streams.serve_by_spdy, methods=["GET", "POST"])]


class _Endpoint:
    def __init__(self, node: NodeView, clock: Clock) -> None:
        self._node = node
        self._clock = clock

    async def healthz(self, _request: Request) -> Response:
        return PlainTextResponse("ok")

    async def pods(self, _request: Request) -> Response:
        return JSONResponse({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": self._node.pods()})

    async def metrics(self, _request: Request) -> Response:
        try:
            usage = await self._node.usage()
        except HeadraceError as error:
            _log.warning(USAGE_UNKNOWN, error=str(error))
            return Response(metrics(None), media_type=TEXT)
        return Response(metrics(usage), media_type=TEXT)

    async def summary(self, _request: Request) -> Response:
        try:
            return JSONResponse(summary(await self._node.usage()))
        except HeadraceError as error:
            return PlainTextResponse(str(error), error.http_status)

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

    def exec(self, request: HTTPConnection, asked: Wanted) -> Session:
        """Prepare a command."""
        where, argv = self._running(request), request.query_params.getlist("command")
        if not argv:
            raise InvalidSpec("exec needs a command.")

        async def session(channel: commands.Channel) -> Json:
            return exit_status(await self._node.exec(*where, argv, channel, stdin=asked.stdin, tty=asked.tty))

        return session

    def attach(self, request: HTTPConnection, asked: Wanted) -> Session:
        """Prepare to show what a container says."""
        where = self._running(request)

        async def follow(options: LogOptions, sink: LogSink) -> None:
            await self._node.log(*where, options, previous=False)(sink)

        return attaching(asked, follow)

    def _running(self, request: HTTPConnection) -> tuple[str, str, str]:
        """Return namespace, pod and container of the path; raises NotFound or Conflict unless it runs."""
        path = request.path_params
        where = (path["namespace"], path["pod"], path["container"])
        self._node.check_running(*where, uid=path.get("uid", ""))
        return where


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
