"""Refusals that only the wire knows: no credential, no form that can be made, too large, what a node's agent said."""

from __future__ import annotations

from headrace.errors import HeadraceError


class Unauthorised(HeadraceError):
    """There is no valid credential. Asking again needs another one."""

    code = "Unauthorized"
    http_status = 401


class NotAcceptable(HeadraceError):
    """None of the media types that the client accepts can be made."""

    code = "NotAcceptable"
    http_status = 406


class TooLarge(HeadraceError):
    """The body is larger than the server reads."""

    code = "RequestEntityTooLarge"
    http_status = 413


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
