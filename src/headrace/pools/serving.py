"""Approves serving certificates of pools' nodes, and denies what is not theirs with a sentence (`serving_plan`)."""

from __future__ import annotations

from headrace.cluster.cache import Cache
from headrace.cluster.controller import Controller, Result
from headrace.cluster.protocol import Cluster
from headrace.cluster.signing import CERTIFICATE_SIGNING_REQUEST, decide
from headrace.pools.serving_plan import Approve, Deny, LookAgain, asked_nodes, judge
from headrace.spec.kind import Ref
from headrace.spec.kinds import NODE
from headrace.telemetry import logger

DECIDED = "certificate.decided"
_REASON = "HeadraceNode"


class ServingCertificates:
    """Reconciles CertificateSigningRequests."""

    def __init__(self, cluster: Cluster, cache: Cache) -> None:
        self._cluster = cluster
        self._requests = cache.reader(CERTIFICATE_SIGNING_REQUEST)
        self._nodes = cache.reader(NODE)
        self._cache = cache

    def controller(self) -> Controller:
        """Return the controller, which belongs into a group with the same cache."""
        return Controller("serving-certificates", self._cache, self.reconcile, workers=1).watches(
            CERTIFICATE_SIGNING_REQUEST
        )

    async def reconcile(self, ref: Ref) -> Result:
        """Decide about a request that nobody has decided about yet."""
        request = self._requests.get(ref)
        if request is None:
            return Result()
        names = asked_nodes(request)
        match judge(request, {name: self._nodes.get(Ref("", name)) for name in names}):
            case Approve(message):
                await decide(self._cluster, request, "Approved", reason=_REASON, message=message)
                logger().info(DECIDED, request=ref.name, decision="Approved", why=message)
            case Deny(message):
                await decide(self._cluster, request, "Denied", reason=_REASON, message=message)
                logger().warning(DECIDED, request=ref.name, decision="Denied", why=message)
            case LookAgain(after_s):
                return Result(again_after_s=after_s)
            case None:
                pass
        return Result()
