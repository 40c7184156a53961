"""Mode `native`: the claim's own CSI driver mounts it, so the pod stays as it is and only has to land beside one.

Without the pin a scheduler could place the pod on a serverless node, where its claim would never be mounted.
"""

from __future__ import annotations

import copy

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


def _missing(term: Json, wanted: tuple[Json, ...]) -> list[Json]:
    expressions = term.get("matchExpressions") or []
    return [dict(want) for want in wanted if not any(_same(have, want) for have in expressions)]


def _same(have: Json, want: Json) -> bool:
    return (
        have.get("key") == want.get("key")
        and have.get("operator") == want.get("operator")
        and set(have.get("values") or []) == set(want.get("values") or [])
    )
