"""Refusals that belong to HTTP rather than to an object: wrong method, media type, size or parameter."""

from __future__ import annotations

from headrace.errors import HeadraceError


class BadRequest(HeadraceError):
    """The request cannot be understood: a parameter, a body or a path is malformed. Mend it and send it again."""

    code = "BadRequest"
    http_status = 400


class Unauthorised(HeadraceError):
    """There is no valid credential. Asking again needs another one."""

    code = "Unauthorized"
    http_status = 401


class MethodNotAllowed(HeadraceError):
    """The resource has no such operation."""

    code = "MethodNotAllowed"
    http_status = 405


class NotAcceptable(HeadraceError):
    """None of the media types that the client accepts can be made."""

    code = "NotAcceptable"
    http_status = 406


class TooLarge(HeadraceError):
    """The body is larger than the server reads."""

    code = "RequestEntityTooLarge"
    http_status = 413


class UnsupportedMediaType(HeadraceError):
    """The body is of a media type that the server does not read."""

    code = "UnsupportedMediaType"
    http_status = 415


class AgentRefused(HeadraceError):
    """A node's agent answered with an HTTP error, such as for a container that has not started; passed on as it is."""

    code = "InternalError"

    def __init__(self, status: int, body: bytes) -> None:
        text = body.decode(errors="replace").strip()
        super().__init__(text or f"The node's agent answered {status}.", code=_REASONS.get(status, ""))
        self.http_status = status


_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    501: "Unsupported",
    503: "ServiceUnavailable",
}
