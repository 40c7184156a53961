"""The gate in front of every route: who asks, and whether they may ask there at all.

Resources are authorised again, with all their attributes, by the pipeline; documents and extensions only here.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.engine.facade import answers
from headrace.engine.facade.authentication import ANONYMOUS, Authenticator
from headrace.engine.facade.refusals import Unauthorised
from headrace.engine.facade.target import parse
from headrace.engine.pipeline.request import Attributes, Authoriser, User
from headrace.errors import Denied, HeadraceError

_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Guard:
    """ASGI middleware; puts the pipeline's `User` into the scope, where Starlette's `request.user` finds it.

    Args:
        extensions: prefixes of extensions' paths, such as `/apis/reads.headrace.io/v1alpha1/`.
    """

    def __init__(
        self, app: ASGIApp, *, authenticator: Authenticator, authoriser: Authoriser, extensions: Sequence[str]
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._authoriser = authoriser
        self._extensions = tuple(extensions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer 401 or 403 with a Status (before the handshake of a WebSocket)."""
        if scope["type"] in {"http", "websocket"}:
            connection = HTTPConnection(scope)
            try:
                scope["user"] = await self._admitted(connection, scope["path"], scope.get("method", "GET"))
            except HeadraceError as error:
                await answers.refuse(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _admitted(self, connection: HTTPConnection, path: str, method: str) -> User:
        is_extension = path.startswith(self._extensions) if self._extensions else False
        user = await self._authenticator.user(connection)
        if is_extension:
            attributes = _of_extension(path, method)
        elif _is_resource(path):
            attributes = None
        else:
            attributes = Attributes(verb=_VERBS.get(method, method.lower()), path=path)
        if user is ANONYMOUS and (attributes is None or is_extension or self._authoriser.refusal(user, attributes)):
            raise Unauthorised("There is no credential in the request.", hint="Send a bearer token.")
        refusal = self._authoriser.refusal(user, attributes) if attributes is not None else ""
        if refusal:
            raise Denied(f"{user.name} cannot {method} {path}: {refusal}.")
        return user


def _is_resource(path: str) -> bool:
    parts = [*path.split("/", 5), ""]  # "*" has no second part
    return (parts[1] == "api" and len(parts) > 3 and bool(parts[3])) or (
        parts[1] == "apis" and len(parts) > 4 and bool(parts[4])
    )


def _of_extension(path: str, method: str) -> Attributes:
    target = parse(path)
    verb = _VERBS.get(method, method.lower())
    return Attributes(
        verb="list" if verb == "get" and not target.name else verb,
        group=target.group,
        resource=target.plural,
        subresource=target.subresource,
        namespace=target.namespace,
        name=target.name,
    )
