"""Lets through whom the cluster lets through: callers are those the front proxy names, and its own RBAC decides."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.api.front_proxy import Caller, FrontProxy, access_review, caller
from headrace.api.reads import status_of
from headrace.clock import Clock
from headrace.cluster.protocol import Cluster
from headrace.errors import Denied, HeadraceError
from headrace.spec.kind import Json

REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_ALLOWED_FOR_S, _DENIED_FOR_S = 10.0, 5.0
"""A right that was taken away holds for so long, as in Kubernetes' own webhook authoriser, which says minutes."""
_REMEMBERED = 2048


class Delegated:
    """ASGI middleware: answers 401 and 403 as Statuses, and passes everything else on.

    Args:
        proxy: returns who may speak for others, by the latest that is known.
        cluster: is asked by SubjectAccessReview.
    """

    def __init__(self, app: ASGIApp, *, proxy: Callable[[], FrontProxy], cluster: Cluster, clock: Clock) -> None:
        self._app = app
        self._proxy = proxy
        self._cluster = cluster
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[float, str]] = OrderedDict()

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
        why_not = await self._refusal(who, method, path)
        if why_not:
            raise Denied(f"{who.name} cannot {method} {path}: {why_not}.", hint="Ask for a role that allows it.")

    async def _refusal(self, who: Caller, method: str, path: str) -> str:
        """Return why not; empty when it is allowed. Answers are remembered for a few seconds."""
        review = access_review(who, method, path)
        key = msgspec.json.encode(review)
        until_s, why_not = self._known.get(key, (0.0, ""))
        if self._clock.monotonic_s() < until_s:
            return why_not
        answer: Json = await self._cluster.request("POST", REVIEWS, body=review)
        status: dict[str, Any] = answer.get("status") or {}
        is_allowed = status.get("allowed") is True and not status.get("denied")
        why_not = "" if is_allowed else str(status.get("reason") or "no role allows it").rstrip(".")
        lasts_s = _ALLOWED_FOR_S if is_allowed else _DENIED_FOR_S
        self._known[key] = (self._clock.monotonic_s() + lasts_s, why_not)
        self._known.move_to_end(key)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return why_not
