"""Mode `native`: the claim's own CSI driver mounts it, so the pod stays as it is and only has to land beside one.

Without the pin a scheduler could place the pod on a serverless node, where its claim would never be mounted.
"""

from __future__ import annotations

import copy
from collections.abc import Collection

from headrace.data.injection.uses import mounts_of
from headrace.data.modes.mode import Capabilities
from headrace.spec.kind import Json

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def pin(pod: Json, capabilities: Capabilities) -> Json:
    """Return a copy of `pod` that requires a node with the driver; `pod` itself where it does already.

    The requirement is added to every term of the node affinity there is, because terms are alternatives. A pod that
    names its node is past choosing.
    """
    spec = pod.get("spec") or {}
    if not capabilities.native_nodes or spec.get("nodeName"):
        return pod
    affinity = copy.deepcopy(spec.get("affinity") or {})
    node = affinity.get("nodeAffinity") or {}
    required = node.get(_REQUIRED) or {}
    terms = required.get("nodeSelectorTerms") or [{}]
    unpinned = [(term, missing) for term in terms if (missing := _missing(term, capabilities.native_nodes))]
    if not unpinned:
        return pod
    for term, missing in unpinned:
        term["matchExpressions"] = [*(term.get("matchExpressions") or []), *missing]
    node[_REQUIRED] = {**required, "nodeSelectorTerms": terms}
    affinity["nodeAffinity"] = node
    return {**copy.deepcopy(pod), "spec": {**copy.deepcopy(spec), "affinity": affinity}}


def follow(pod: Json, claims: Collection[str]) -> Json:
    """Return a copy of `pod` whose containers see the mount of a client that was started again; `pod` itself where all do.

    Args:
        claims: those of plain Datasets, which our own driver mounts. Whatever a mount says about propagation stays.
    """
    spec = pod.get("spec") or {}
    sources = {str(v.get("name")): v.get("persistentVolumeClaim") or {} for v in spec.get("volumes") or []}
    volumes = {name: False for name, source in sources.items() if source.get("claimName") in claims}
    if not any("mountPropagation" not in mount for _, mount in mounts_of(spec, volumes)):
        return pod
    result = {**pod, "spec": copy.deepcopy(spec)}
    for _, mount in mounts_of(result["spec"], volumes):
        mount.setdefault("mountPropagation", "HostToContainer")
    return result


def _missing(term: Json, wanted: tuple[Json, ...]) -> list[Json]:
    expressions = term.get("matchExpressions") or []
    return [dict(want) for want in wanted if not any(_same(have, want) for have in expressions)]


def _same(have: Json, want: Json) -> bool:
    return (
        have.get("key") == want.get("key")
        and have.get("operator") == want.get("operator")
        and set(have.get("values") or []) == set(want.get("values") or [])
    )
