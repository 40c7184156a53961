"""How strategic merge patches merge each list of the core kinds, from the published OpenAPI.

Source: https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md
and the `x-kubernetes-patch-strategy` and `x-kubernetes-patch-merge-key` extensions. Kinds that are custom resources
have none; a real API server refuses strategic merge patches for them with 415.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from headrace.engine.openapi.schemas import child_type, root_type
from headrace.spec.kind import Kind


class MergeStrategy(NamedTuple):
    """What a patch does at one path.

    Args:
        merges: the patch's list is merged with the object's list; otherwise it replaces it whole.
        key: the field by which the list's items are told apart; empty means plain values, merged as a set.
        retains_keys: `$retainKeys` in an item removes that item's keys which it does not name.
    """

    merges: bool = False
    key: str = ""
    retains_keys: bool = False


REPLACE = MergeStrategy()


def supports_strategic_merge(kind: Kind[Any]) -> bool:
    """Tell whether `kind` is one that Kubernetes publishes; custom resources are not patched strategically."""
    return root_type(kind) is not None


def merge_strategy(kind: Kind[Any], path: Sequence[str]) -> MergeStrategy:
    """Return how a list at `path` merges; `REPLACE` for everything that is not a merging list.

    Args:
        path: field names from the object's root and keys of maps, without list positions:
            `("spec", "containers", "env")` is every container's environment.
    """
    field = root_type(kind)
    for name in path:
        if field is None:
            return REPLACE
        field = child_type(field, name)
    if field is None or "merge" not in field.strategy:
        return REPLACE
    return MergeStrategy(merges=True, key=field.merge_key, retains_keys="retainKeys" in field.strategy)
