"""Who somebody is, and whether he may do something: asked of the cluster, and remembered for a while.

Servers beside the API server delegate both decisions to it, so that one set of users and roles holds for all.
Source: Kubernetes `k8s.io/apiserver/plugin/pkg/authenticator/token/webhook`, `…/authorizer/webhook`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from headrace.clock import Clock
from headrace.cluster.protocol import Cluster
from headrace.spec.kind import Json

ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
T = TypeVar("T")
_REMEMBERED = 2048


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, as the cluster knows him."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = {}


def access_review(who: Caller, attributes: Json) -> Json:
    """Return the SubjectAccessReview that asks whether somebody may.

    Args:
        attributes: `{"resourceAttributes": …}` or `{"nonResourceAttributes": …}`.
    """
    spec: Json = {"user": who.name, "groups": list(who.groups), **attributes}
    if who.uid:
        spec["uid"] = who.uid
    if who.extra:
        spec["extra"] = {key: list(values) for key, values in who.extra.items()}
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}


class AccessReviews:
    """Asks whether somebody may. A right that is given or taken away counts when its answer is forgotten."""

    def __init__(self, cluster: Cluster, clock: Clock, *, allowed_for_s: float, denied_for_s: float) -> None:
        self._cluster = cluster
        self._allowed_for_s, self._denied_for_s = allowed_for_s, denied_for_s
        self._known: _Remembered[str] = _Remembered(clock)

    async def refusal(self, who: Caller, attributes: Json) -> str:
        """Return why not, empty when it is allowed; raises what the cluster raises when it cannot be asked."""
        review = access_review(who, attributes)
        key = msgspec.json.encode(review)
        known = self._known.get(key)
        if known is not None:
            return known
        answer: Json = await self._cluster.request("POST", ACCESS_REVIEWS, body=review)
        status: dict[str, Any] = answer.get("status") or {}
        is_allowed = status.get("allowed") is True and not status.get("denied")
        why_not = "" if is_allowed else str(status.get("reason") or "no role allows it").rstrip(".")
        self._known.put(key, why_not, self._allowed_for_s if is_allowed else self._denied_for_s)
        return why_not


class TokenReviews:
    """Asks whose a token is. A token that is taken back is good until its answer is forgotten."""

    def __init__(self, cluster: Cluster, clock: Clock, *, remembered_for_s: float) -> None:
        self._cluster = cluster
        self._remembered_for_s = remembered_for_s
        self._known: _Remembered[Caller] = _Remembered(clock)

    async def caller(self, token: str) -> Caller | None:
        """Return whose it is, None when nobody's; raises what the cluster raises when it cannot be asked."""
        key = hashlib.sha256(token.encode()).digest()
        known = self._known.get(key)
        if known is not None:
            return known
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        answer: Json = await self._cluster.request("POST", TOKEN_REVIEWS, body=body)
        status: dict[str, Any] = answer.get("status") or {}
        user: dict[str, Any] = status.get("user") or {}
        if status.get("authenticated") is not True or not user.get("username"):
            return None  # not remembered: it may be somebody's in a moment, and guesses would push out what is known
        extra = {str(key): tuple(map(str, values)) for key, values in (user.get("extra") or {}).items()}
        found = Caller(
            name=str(user["username"]),
            groups=tuple(map(str, user.get("groups") or ())),
            uid=str(user.get("uid") or ""),
            extra=extra,
        )
        self._known.put(key, found, self._remembered_for_s)
        return found


class _Remembered(Generic[T]):
    """Answers by question, each for its time; those asked for longest ago go first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answers: OrderedDict[bytes, tuple[float, T]] = OrderedDict()

    def get(self, key: bytes) -> T | None:
        until_s, answer = self._answers.get(key, (0.0, None))
        return answer if self._clock.monotonic_s() < until_s else None

    def put(self, key: bytes, answer: T, for_s: float) -> None:
        self._answers[key] = (self._clock.monotonic_s() + for_s, answer)
        self._answers.move_to_end(key)
        if len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)
