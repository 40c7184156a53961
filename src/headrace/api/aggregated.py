"""The aggregated API as an application of its own, behind a cluster's API server."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace.api.delegation import Delegated
from headrace.api.front_proxy import FrontProxy
from headrace.api.reads import Reads, status_of
from headrace.clock import Clock
from headrace.cluster.protocol import Cluster
from headrace.errors import HeadraceError, NotFound
from headrace.spec.kind import Json
from headrace.spec.names import READS_GROUP, READS_VERSION

_VERSION = {"groupVersion": f"{READS_GROUP}/{READS_VERSION}", "version": READS_VERSION}
_GROUP: Json = {"name": READS_GROUP, "versions": [_VERSION], "preferredVersion": _VERSION}
_INFO = {"title": "Headrace's computed reads", "version": READS_VERSION}
_DOCUMENTS: dict[str, Json] = {
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_GROUP]},
    f"/apis/{READS_GROUP}": {"kind": "APIGroup", "apiVersion": "v1", **_GROUP},
    # The API server merges these into its own; there is nothing to merge, and without them it complains for ever.
    "/openapi/v2": {"swagger": "2.0", "info": _INFO, "paths": {}},
    "/openapi/v3": {"paths": {}},
}


def aggregated_app(reads: Reads, *, proxy: Callable[[], FrontProxy], cluster: Cluster, clock: Clock) -> Starlette:
    """Return the application; its server must have checked the client's certificate against the front proxy's CA."""
    return Starlette(
        routes=[*reads.routes(), *(_document(path, body) for path, body in _DOCUMENTS.items())],
        middleware=[Middleware(Delegated, proxy=proxy, cluster=cluster, clock=clock)],
        exception_handlers={404: _not_found},
    )


def _document(path: str, body: Json) -> Route:
    content = msgspec.json.encode(body)

    async def answer(_request: Request) -> Response:
        return Response(content, media_type="application/json")

    return Route(path, answer)


async def _not_found(request: Request, _error: Exception) -> Response:
    missing: HeadraceError = NotFound(f"{READS_GROUP} has nothing at {request.url.path}.")
    return Response(msgspec.json.encode(status_of(missing)), status_code=404, media_type="application/json")
