"""What jobs ask of the data plane: may these claims be used in that pool, what would it take, and the injected pod."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.data.injection import inject
from headrace.data.modes.mode import Capabilities
from headrace.data.resolve import Resolver
from headrace.data.state import NATIVE_MODE, DatasetState
from headrace.data.verify.pod import mode_of
from headrace.errors import HeadraceError
from headrace.scheduling.model import Access, DataNeed
from headrace.spec import amounts
from headrace.spec.amounts import Amounts
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.resources import pod_requests

_PASSING = {"MountNotVerified", "MountFailed", "DatasetNotReady", "ProfileNotFound", "RuntimeNotFound", "ClaimPending"}
"""Reasons that end by themselves or by somebody's repair: the job waits for its data instead of being refused."""


class DataPlane:
    """Claims seen from pools. Answers from caches; never waits."""

    def __init__(self, resolver: Resolver, capabilities: Capabilities) -> None:
        self._resolver = resolver
        self._capabilities = capabilities

    def access(self, namespace: str, claims: Mapping[str, bool], pool: Doc[Any]) -> Access:
        """Return whether pods with these claims (name → only read) may and can run in `pool`, and what that takes."""
        mode = mode_of(pool)
        needs = []
        for name, only_read in claims.items():
            state = self._resolver.state(Ref(namespace, name))
            refusal, need = _judge(state, pool.name, mode, only_read)
            if refusal is not None:
                return refusal
            needs += [need] if need is not None else []
        return Access(sidecars=self._sidecars(namespace, tuple(claims), pool, mode), data=tuple(needs))

    def inject(self, pod: Json, pool: Doc[Any]) -> Json:
        """Return the pod as it runs in `pool`. Raises InvalidSpec, Denied or Unavailable with a sentence; never half done."""
        mode = mode_of(pool)
        if mode == NATIVE_MODE:
            return pod
        return inject(pod, self._resolver.datasets_of(pod), mode, self._capabilities)

    def _sidecars(self, namespace: str, claims: tuple[str, ...], pool: Doc[Any], mode: str) -> Amounts:
        """Return what injection adds to one pod's requests; nothing where it cannot be told yet."""
        if mode == NATIVE_MODE or not claims:
            return {}
        volumes = [{"name": f"c{i}", "persistentVolumeClaim": {"claimName": name}} for i, name in enumerate(claims)]
        mounts = [{"name": f"c{i}", "mountPath": f"/c{i}"} for i in range(len(claims))]
        pod = {
            "metadata": {"name": "shape", "namespace": namespace},
            "spec": {"containers": [{"name": "main", "volumeMounts": mounts}], "volumes": volumes},
        }
        try:
            injected = self.inject(pod, pool)
        except HeadraceError:
            return {}  # not ready yet: it cannot start there now, so its shape does not matter yet
        return amounts.subtract(amounts.parse(pod_requests(injected)), amounts.parse(pod_requests(pod)))


def _judge(state: DatasetState, pool: str, mode: str, only_read: bool) -> tuple[Access | None, DataNeed | None]:
    """Return `(refusal, need)`: a refusal for ever, or what the data side still needs."""
    if mode == NATIVE_MODE:
        is_elsewhere = state.pools is not None and pool not in state.pools
        if state.reason == "ClaimNotFound" or is_elsewhere:
            reason, sentence = state.refusal(pool, mode) if is_elsewhere else (state.reason, state.message)
            return Access(refusal=sentence, code=reason), None
        return None, None
    if state.is_shared and state.read_only and not only_read and state.is_ready:
        sentence = f"claim {state.claim} is read-only, and the job writes to it; mount it with readOnly: true"
        return Access(refusal=sentence, code="ClaimReadOnly"), None
    if state.access_modes and not any(access.endswith("Many") for access in state.access_modes):
        sentence = f"claim {state.claim} is {', '.join(state.access_modes)}: one node only, so it stays on own pools"
        return Access(refusal=sentence, code="ClaimOneNodeOnly"), None
    reason, sentence = state.refusal(pool, mode)
    if reason and reason not in _PASSING:
        return Access(refusal=sentence, code=reason), None
    missing = None if state.size_bytes is None else max(0, state.size_bytes - (state.cached_bytes or 0))
    return None, DataNeed(state.dataset or state.claim, missing, not reason, sentence)
