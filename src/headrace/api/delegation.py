"""Lets through whom the cluster lets through: callers are those the front proxy names, and its own RBAC decides."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.api.front_proxy import FrontProxy, attributes, caller
from headrace.api.reads import status_of
from headrace.clock import Clock
from headrace.cluster.access import AccessReviews
from headrace.cluster.protocol import Cluster
from headrace.errors import Denied, HeadraceError

_ALLOWED_FOR_S, _DENIED_FOR_S = 10.0, 5.0
"""A right that was taken away holds for so long, as in Kubernetes' own webhook authoriser, which says minutes."""


class Delegated:
    """ASGI middleware: answers 401 and 403 as Statuses, and passes everything else on.

    Args:
        proxy: returns who may speak for others, by the latest that is known.
        cluster: is asked by SubjectAccessReview.
    """

    def __init__(self, app: ASGIApp, *, proxy: Callable[[], FrontProxy], cluster: Cluster, clock: Clock) -> None:
        self._app = app
        self._proxy = proxy
        self._access = AccessReviews(cluster, clock, allowed_for_s=_ALLOWED_FOR_S, denied_for_s=_DENIED_FOR_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                await self._check(Headers(scope=scope), scope["method"], scope["path"])
            except HeadraceError as error:
                status = 401 if error.code == "Unauthorized" else error.http_status
                body = {**status_of(error), "code": status}
                response = Response(msgspec.json.encode(body), status_code=status, media_type="application/json")
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _check(self, headers: Headers, method: str, path: str) -> None:
        who = caller(headers.items(), self._proxy())
        if who is None:
            raise Denied(
                "The request does not say for whom it is made.", hint="Ask the API server.", code="Unauthorized"
            )
        why_not = await self._access.refusal(who, attributes(method, path))
        if why_not:
            raise Denied(f"{who.name} cannot {method} {path}: {why_not}.", hint="Ask for a role that allows it.")
