"""Workloads (apps/v1) that we make and nobody else's are read of: their pods say what there is to know."""

from __future__ import annotations

from headrace.spec.core.meta import ObjectMeta
from headrace.spec.view import View


class DaemonSet(View, frozen=True, kw_only=True):
    """One pod of a kind on each of some nodes."""

    metadata: ObjectMeta = ObjectMeta()
