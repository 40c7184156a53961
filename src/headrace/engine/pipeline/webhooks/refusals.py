"""Errors that webhooks cause, as the Status objects of a real API server."""

from __future__ import annotations

from headrace.errors import Denied, EngineFailed
from headrace.spec.kind import Json


class WebhookDenied(Denied):
    """A webhook refuses the request; the sentence, the reason and the code are its own. Ask whoever runs it."""

    def __init__(self, status: Json) -> None:
        super().__init__(str(status["message"]))
        self.code = str(status.get("reason") or "")
        self.http_status = int(status["code"])
        self.details: Json = status.get("details") or {}


class WebhookFailed(EngineFailed):
    """A webhook that must be asked cannot be, or answers nonsense. Mend it, or delete its configuration."""

    def __init__(self, why: str) -> None:
        super().__init__(f"Internal error occurred: {why}")
        self.details: Json = {"causes": [{"message": why}]}
