"""The one tree of errors, ordered by what the caller can do about it (docs/design.md, section 8).

Every error carries a stable `code` for programs and one sentence for people: what happened, why, and what to try.
Errors of libraries are translated at the seam with `raise … from`; nothing above a seam catches a library's error.
"""

from __future__ import annotations


class HeadraceError(Exception):
    """Root of the tree. Never raised itself.

    Args:
        what: one sentence that says what happened and why.
        hint: what to try, as an imperative sentence; empty where nothing sensible can be tried.
        code: stable identifier in CamelCase, a Kubernetes `reason` wherever one exists.
    """

    code = "Error"
    http_status = 500
    about: tuple[str, str, str] | None = None
    """API group, resource and name of what the error is about, where that is not what was asked for."""

    def __init__(self, what: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(f"{what} {hint}".strip())
        self.what = what
        self.hint = hint
        if code:
            self.code = code


class InvalidSpec(HeadraceError):
    """What the user wrote cannot be right. Mend the input and send it again.

    Args:
        causes: `(field path, sentence)` for each finding, such as `("spec.workers", "must be 1 or more")`.
    """

    code = "Invalid"
    http_status = 422

    def __init__(self, what: str, *, hint: str = "", code: str = "", causes: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(what, hint=hint, code=code)
        self.causes = causes


class NotFound(HeadraceError):
    """The thing named is not there. Check the name and the namespace, or make it first."""

    code = "NotFound"
    http_status = 404


class Conflict(HeadraceError):
    """Somebody else changed the object first, or it exists already. Read it again, then decide again.

    Codes: `Conflict` (changed since it was read), `AlreadyExists`.
    """

    code = "Conflict"
    http_status = 409


class AlreadyExists(Conflict):
    """An object of this name exists. Use another name, or patch the one there is."""

    code = "AlreadyExists"


class Denied(HeadraceError):
    """Who asks may not do this. Another credential or a grant is needed; asking again will not help.

    Codes: `Forbidden`, `Unauthorized` (no valid credential at all).
    """

    code = "Forbidden"
    http_status = 403


class QuotaExceeded(HeadraceError):
    """It is allowed, but not so much of it. Wait, ask for less, or have the quota raised."""

    code = "QuotaExceeded"
    http_status = 403


class Unavailable(HeadraceError):
    """The other side cannot answer now. Try the same call again later; it is nobody's input that is wrong.

    Args:
        retry_after_s: seconds after which trying again is sensible, when the other side said so.
    """

    code = "ServiceUnavailable"
    http_status = 503

    def __init__(self, what: str, *, hint: str = "", code: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(what, hint=hint, code=code)
        self.retry_after_s = retry_after_s


class Expired(HeadraceError):
    """A resourceVersion or continue token is too old (HTTP 410). List again from the beginning."""

    code = "Expired"
    http_status = 410


class Unsupported(HeadraceError):
    """A real Kubernetes does this and Headrace, here, does not. The sentence names the field or verb."""

    code = "Unsupported"
    http_status = 501


class EngineFailed(HeadraceError):
    """A part of Headrace, or something it runs, failed in a way that needs a person. Never the caller's fault."""

    code = "InternalError"
    http_status = 500
