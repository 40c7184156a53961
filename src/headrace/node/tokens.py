"""Service-account tokens for projected volumes: asked for by TokenRequest, kept until 80 % of their life is over."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from headrace.clock import Clock, parse_time
from headrace.cluster.protocol import Cluster
from headrace.errors import EngineFailed
from headrace.node.podspec import PodSpec
from headrace.node.volumes.payload import TokenWanted
from headrace.spec.kind import Json

_REFRESH_AT = 0.8
_RETRY = dt.timedelta(seconds=30)


@dataclass(frozen=True)
class _Token:
    text: str
    renew_at: dt.datetime


class Tokens:
    """The tokens of this node's pods, by pod uid."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock
        self._kept: dict[tuple[str, TokenWanted], _Token] = {}

    async def get(self, pod: PodSpec, wanted: TokenWanted) -> str:
        """Return a token bound to the pod, a new one when the last is in the last fifth of its life."""
        key = (pod.uid, wanted)
        kept = self._kept.get(key)
        if kept is not None and self._clock.now() < kept.renew_at:
            return kept.text
        if kept is not None:  # stays in use while the next one is asked for, and when that fails
            self._kept[key] = _Token(kept.text, self._clock.now() + _RETRY)
        fresh = self._kept[key] = await self._ask(pod, wanted)
        return fresh.text

    def renew_at(self, uid: str) -> dt.datetime | None:
        """Return when the first of the pod's tokens wants renewal; None when it has none."""
        return min((token.renew_at for (owner, _), token in self._kept.items() if owner == uid), default=None)

    def forget(self, uid: str) -> None:
        """Drop the tokens of a pod that is gone. Idempotent."""
        self._kept = {key: token for key, token in self._kept.items() if key[0] != uid}

    async def _ask(self, pod: PodSpec, wanted: TokenWanted) -> _Token:
        account = str(pod.spec.get("serviceAccountName") or "default")
        spec: Json = {
            "audiences": [wanted.audience] if wanted.audience else [],
            "expirationSeconds": wanted.expiration_s,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid},
        }
        answer = await self._cluster.request(
            "POST",
            f"/api/v1/namespaces/{pod.namespace}/serviceaccounts/{account}/token",
            body={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec},
        )
        status: Json = answer.get("status") or {} if isinstance(answer, dict) else {}
        if not status.get("token") or not status.get("expirationTimestamp"):
            raise EngineFailed(f"The API server gave no token for service account {pod.namespace}/{account}.")
        now = self._clock.now()
        life = parse_time(str(status["expirationTimestamp"])) - now
        return _Token(str(status["token"]), now + life * _REFRESH_AT)
