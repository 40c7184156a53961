"""The two webhooks: what changes objects, and what only refuses or warns. An ASGI application; errors are answers.

What breaks something of ours is raised, and the server answers it with 500, so that the webhook's failure policy decides:
closed in projects, and nothing else is sent here. There are two paths, so nothing routes: a router and its middleware took
as long as most pods take.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from headrace.admission import codec
from headrace.admission.review import Admitter, Review
from headrace.errors import Denied, HeadraceError, InvalidSpec
from headrace.spec.kind import Json
from headrace.telemetry import logger

MUTATE, VALIDATE = "/mutate", "/validate"
REFUSED = "admission.refused"
MAX_BYTES = 8 * 2**20
"""The API server takes objects of 3 MiB, and an update sends two."""


class Unchanged:
    """Refuses what an admitter would still change: somebody undid it after us."""

    def __init__(self, admitter: Admitter, what: str) -> None:
        self._admitter = admitter
        self._what = what

    async def admit(self, request: Review) -> Json | None:
        """Raise Denied, or what the admitter raises."""
        if await self._admitter.admit(request) is not None:
            raise Denied(self._what, hint="Look for another admission webhook that changes it.")
        return None


class Webhooks:
    """Holds the admitters, first to last, and counts answers by webhook and outcome."""

    def __init__(self, mutating: Sequence[Admitter], validating: Sequence[Admitter]) -> None:
        self._chains = {MUTATE: mutating, VALIDATE: validating}
        self.answers: Counter[tuple[str, str]] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request (ASGI 3)."""
        await (await self._response(HttpRequest(scope, receive)))(scope, receive, send)

    async def _response(self, http: HttpRequest) -> Response:
        path = http.scope["path"]
        if path not in self._chains:
            return Response(f"There is no webhook {path}.", status_code=404, media_type="text/plain")
        if http.method != "POST":
            return Response(f"{path} takes a POST.", 405, {"Allow": "POST"}, media_type="text/plain")
        try:
            request = codec.read(await _body(http))
        except InvalidSpec as error:
            self.answers[path, "malformed"] += 1
            return Response(str(error), status_code=400, media_type="text/plain")
        answer = await self.answer(path, request)
        outcome = "refused" if not answer["response"]["allowed"] else "allowed"
        self.answers[path, "patched" if "patch" in answer["response"] else outcome] += 1
        return Response(msgspec.json.encode(answer), media_type="application/json")

    async def answer(self, path: str, request: codec.Request) -> Json:
        """Return the AdmissionReview that answers a request."""
        original = request.object
        try:
            for admitter in self._chains[path]:
                changed = await admitter.admit(request)
                if changed is not None:
                    request.object = changed
        except HeadraceError as error:
            logger().info(REFUSED, kind=request.kind.name, object=request.name, user=request.user.name, why=str(error))
            return codec.refused(request, error)
        changed, request.object = request.object, original
        return codec.allowed(request, changed)


async def _body(http: HttpRequest) -> bytes:
    content = bytearray()
    async for chunk in http.stream():
        content += chunk
        if len(content) > MAX_BYTES:
            raise InvalidSpec("The review is larger than 8 MiB.", hint="Send the objects of one request only.")
    return bytes(content)
