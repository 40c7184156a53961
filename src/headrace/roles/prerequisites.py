"""What must be there before controllers can work on a cluster: the kinds they read, and somebody to be.

A missing kind is told once, in one sentence, and waited for: whoever installs may do so in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import anyio

from headrace.cluster.protocol import Cluster
from headrace.errors import Denied, NotFound, Unavailable
from headrace.spec.kind import Json, Kind
from headrace.telemetry import logger

KINDS_MISSING = "kinds.missing"
KINDS_THERE = "kinds.there"
SERVER_AWAY = "server.away"

_LOOK_EVERY_S = 2.0

Say = Callable[[str], None]
"""Is told what is waited for; an empty text when nothing is any more."""


async def await_kinds(cluster: Cluster, kinds: Iterable[Kind[Any]], say: Say) -> None:
    """Return when the server knows every kind. Raises Denied at once where the credential is not taken."""
    wanted, log, told = list(kinds), logger(), ""
    while True:
        try:
            missing = await missing_kinds(cluster, wanted)
            sentence = _sentence(missing) if missing else ""
            event = KINDS_MISSING
        except Unavailable as error:
            sentence, event = str(error), SERVER_AWAY
        say(sentence)
        if not sentence:
            if told:
                log.info(KINDS_THERE)
            return
        if sentence != told:
            log.warning(event, why=sentence)
            told = sentence
        await anyio.sleep(_LOOK_EVERY_S)


async def missing_kinds(cluster: Cluster, kinds: Sequence[Kind[Any]]) -> list[Kind[Any]]:
    """Return the kinds that the server does not serve, as its discovery has them."""
    served: dict[str, set[str]] = {}
    for kind in kinds:
        if kind.api_version not in served:
            served[kind.api_version] = await _resources(cluster, kind)
    return [kind for kind in kinds if kind.plural not in served[kind.api_version]]


async def _resources(cluster: Cluster, kind: Kind[Any]) -> set[str]:
    try:
        answer: Json = await cluster.request("GET", kind.path().rpartition("/")[0])
    except NotFound:
        return set()
    return {str(entry.get("name")) for entry in answer.get("resources") or []}


def _sentence(missing: Sequence[Kind[Any]]) -> str:
    names = ", ".join(kind.resource for kind in missing)
    return f"The cluster does not know {names}, so nothing is done until it does. Install Headrace's CRDs there."


async def own_name(cluster: Cluster) -> str:
    """Return the user name that the server knows this process by (authentication.k8s.io/v1 SelfSubjectReview)."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer: Json = await cluster.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=body)
    name = str(((answer.get("status") or {}).get("userInfo") or {}).get("username") or "")
    if not name:
        raise Denied("The server does not say who this process is.", hint="Check its credential.", code="Unauthorized")
    return name
