"""What a server's refusals and a connection's failures mean, as errors of `headrace.errors`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import msgspec

from headrace.errors import (
    AlreadyExists,
    Conflict,
    Denied,
    EngineFailed,
    Expired,
    HeadraceError,
    InvalidSpec,
    NotFound,
    QuotaExceeded,
    Unavailable,
    Unsupported,
)
from headrace.spec.kind import Json

_BY_STATUS: dict[int, tuple[type[HeadraceError], str]] = {
    400: (InvalidSpec, "Mend the request."),
    401: (Denied, "Check the credential in the kubeconfig; it may have ended."),
    403: (Denied, "Ask for a role that allows it."),
    404: (NotFound, "Check the name and the namespace."),
    405: (Unsupported, ""),
    406: (Unsupported, ""),
    409: (Conflict, "Read it again and decide again."),
    410: (Expired, "List again from the beginning."),
    413: (InvalidSpec, "Make it smaller."),
    415: (Unsupported, ""),
    422: (InvalidSpec, "Mend the object."),
    501: (Unsupported, ""),
}


def refusal(response: httpx2.Response) -> HeadraceError:
    """Return the error that a response of 400 and above stands for. Its content must have been read."""
    try:
        status = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        text = response.text.strip()[:200] or response.reason_phrase
        status = {"message": f"{response.request.method} {response.request.url.path} was answered: {text}"}
    after = response.headers.get("retry-after", "")
    return error_of({"code": response.status_code, **status}, retry_after_s=float(after) if after.isdecimal() else None)


def error_of(status: Json, *, retry_after_s: float | None = None) -> HeadraceError:
    """Return the error that a Kubernetes Status stands for (Kubernetes API conventions, "Error codes")."""
    http_status = int(status.get("code") or 500)
    code = str(status.get("reason") or "")
    details: Json = status.get("details") or {}
    message = str(status.get("message") or f"The server answered {http_status}.")
    if retry_after_s is None and details.get("retryAfterSeconds"):
        retry_after_s = float(details["retryAfterSeconds"])
    known, hint = _BY_STATUS.get(http_status, (None, ""))
    told = str(details.get("hint") or "")
    if told and message.endswith(told):  # our own server says what to try
        message, hint = message.removesuffix(told).rstrip(), told
    if message.endswith("."):  # a whole sentence of our own server has its hint in it
        hint = told
    else:
        message += "."
    if known is InvalidSpec:
        causes = tuple((str(c.get("field", "")), str(c.get("message", ""))) for c in details.get("causes") or ())
        return InvalidSpec(message, hint=hint, code=code, causes=causes)
    if any(cause.get("reason") == "FieldManagerConflict" for cause in details.get("causes") or ()):
        hint = "Leave these fields out, take their values over, or force."
    if http_status == 409 and code == "AlreadyExists":
        return AlreadyExists(message, hint=told or (hint and "Use another name, or patch the one there is."))
    if http_status == 403 and (code == QuotaExceeded.code or "exceeded quota" in message):
        return QuotaExceeded(message, hint=told or (hint and "Wait, ask for less, or have the quota raised."))
    if known is not None:
        return known(message, hint=hint, code=code)
    if http_status == 500 and retry_after_s is None:
        return EngineFailed(message, hint=told, code=code)
    return Unavailable(message, hint=told or "Try again later.", code=code, retry_after_s=retry_after_s)


@contextmanager
def failures_translated(server: str, what: str, timeout_s: float) -> Iterator[None]:
    """Raise what goes wrong with a connection as Unavailable. `what` names the call, such as `GET /api/v1/pods`."""
    try:
        yield
    except (TimeoutError, httpx2.TimeoutException) as error:
        raise Unavailable(f"{server} said nothing to {what} for {timeout_s:g} s.", hint="Try again later.") from error
    except httpx2.ConnectError as error:
        raise Unavailable(
            f"{server} cannot be reached: {_reason(error)}.", hint="Check that it runs and that its address is right."
        ) from error
    except httpx2.RequestError as error:
        raise Unavailable(
            f"The connection to {server} was lost during {what}: {_reason(error)}.", hint="Try again."
        ) from error
    except msgspec.DecodeError as error:
        raise Unavailable(
            f"{server} answered {what} with something that is not what a Kubernetes API sends: {error}.",
            hint="Check that the address is that of a Kubernetes API, and what proxies are in between.",
        ) from error


def _reason(error: BaseException) -> str:
    """Return the first words in the chain of causes; the outer errors of the HTTP library often have none."""
    cause = error.__cause__ or error.__context__
    if not str(error) and cause is not None:
        return _reason(cause)
    return str(error).rstrip(".") or type(error).__name__
