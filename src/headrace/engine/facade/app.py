"""Puts the façade together: one Starlette application over a pipeline.

app = build_app(pipeline, static=StaticTokens(…), accounts=AccountTokens(…), clock=SystemClock(), node_proxy=…)
uvicorn.Config(app, ssl_certfile=…, ssl_keyfile=…, **options.UVICORN_OPTIONS)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from headrace.clock import Clock
from headrace.engine.facade import answers
from headrace.engine.facade.authentication import Authenticator
from headrace.engine.facade.discovery import Discovery
from headrace.engine.facade.documents import DocumentRoutes
from headrace.engine.facade.guard import Guard
from headrace.engine.facade.metrics import ROWS, Metrics
from headrace.engine.facade.node_proxy import NodeProxy
from headrace.engine.facade.pods import CONNECTED, PodStreams
from headrace.engine.facade.relay import refuse_socket
from headrace.engine.facade.resources import Resources
from headrace.engine.facade.reviews import Reviews
from headrace.engine.facade.target import parse
from headrace.engine.openapi.document import Documents
from headrace.engine.pipeline import Pipeline
from headrace.engine.pipeline.request import SYSTEM, Request
from headrace.engine.tokens import AccountTokens, StaticTokens
from headrace.errors import EngineFailed, HeadraceError, NotFound, Unsupported
from headrace.spec.kind import Json, Kind, Ref
from headrace.spec.kinds import NODE, POD

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


def build_app(
    pipeline: Pipeline,
    *,
    static: StaticTokens,
    accounts: AccountTokens | None,
    clock: Clock,
    node_proxy: NodeProxy | None = None,
    extensions: Sequence[Route] = (),
    ready: Callable[[], str] = lambda: "",
) -> Starlette:
    """Return the application.

    Args:
        static: bearer tokens of people and nodes.
        accounts: service accounts' tokens; None where none are honoured.
        node_proxy: the way to pods' logs, commands and ports, which are answered with 501 where it is None, and to
            what nodes use; there is no `metrics.k8s.io` without.
        extensions: further routes at or below `/apis/<group>/<version>`; `request.user` is the pipeline's `User`.
            Their callers are authorised by the group, resource and namespace of the path like all others. The group
            is listed in discovery; a route at its very root answers what resources it has.
        ready: tells what keeps the server from being ready; an empty text when nothing does.
    """

    async def uid_of(kind: Kind[Any], ref: Ref) -> str:
        found = await read(pipeline, kind, ref)
        return str(found["metadata"].get("uid", "")) if found else ""

    authenticator = Authenticator(
        static=static, accounts=accounts, uid_of=uid_of, authoriser=pipeline.authoriser, clock=clock
    )
    resources = Resources(pipeline, clock)
    reviews = Reviews(authenticator, pipeline.authoriser, clock)
    streams = PodStreams(pipeline, node_proxy)
    metrics = Metrics(pipeline, node_proxy.usage).routes() if node_proxy is not None else []
    extensions = [*extensions, *metrics]
    places = dict.fromkeys(_group_and_version(route) for route in extensions)
    discovery = Discovery(pipeline.registry, tuple(places), further=ROWS if metrics else ())
    documents = DocumentRoutes(discovery, Documents(pipeline.registry), ready)

    async def serve(http: HttpRequest) -> Response:
        target = parse(http.scope["path"])
        if Reviews.serves(target):
            return await reviews.serve(http, target, http.user)
        if target.subresource in CONNECTED and (target.group, target.plural) == (POD.group, POD.plural):
            return await streams.serve(http, target, http.user)
        return await resources.serve(http, target, http.user)

    async def serve_socket(socket: WebSocket) -> None:
        target = parse(socket.scope["path"])
        if target.subresource in CONNECTED and (target.group, target.plural) == (POD.group, POD.plural):
            await streams.serve_socket(socket, target, socket.user)
        else:
            await refuse_socket(socket, Unsupported("This is not served over WebSocket.", hint="Use plain HTTPS."))

    guard = Middleware(
        Guard,
        authenticator=authenticator,
        authoriser=pipeline.authoriser,
        extensions=[f"/apis/{group}/{version}/" for group, version in places],
    )
    return Starlette(
        routes=[
            *extensions,
            *documents.routes(),
            WebSocketRoute("/{path:path}", serve_socket),
            Route("/{path:path}", serve, methods=_METHODS),
        ],
        middleware=[guard],
        exception_handlers={HeadraceError: answers.on_error, Exception: _on_fault},
    )


async def read(pipeline: Pipeline, kind: Kind[Any], ref: Ref) -> Json | None:
    """Return an object as the engine itself sees it, None when it is not there."""
    try:
        answer = await pipeline.handle(SYSTEM, Request(verb="get", kind=kind, namespace=ref.namespace, name=ref.name))
    except NotFound:
        return None
    return answer.body


async def find_node(pipeline: Pipeline, name: str) -> Json:
    """Return a Node, for `NodeProxy`; raises NotFound."""
    return (await pipeline.handle(SYSTEM, Request(verb="get", kind=NODE, name=name))).body


async def _on_fault(http: HttpRequest, error: Exception) -> Response:
    """Answer a fault of ours as a Status; Starlette raises it again for the server's log."""
    what = f"{http.method} {http.url.path} failed inside the server: {type(error).__name__}."
    return answers.refuse(EngineFailed(what, hint="See the log of the control process."))


def _group_and_version(route: Route) -> tuple[str, str]:
    parts = route.path.split("/")
    if len(parts) < 4 or parts[1] != "apis":
        raise ValueError(f"extension route {route.path} is not below /apis/<group>/<version>")
    return parts[2], parts[3]
