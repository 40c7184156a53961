"""Security contexts (Kubernetes `core/validation`): numbers that no user has, and demands that contradict each other."""

from __future__ import annotations

from headrace.spec.core.container import SecurityContext
from headrace.spec.core.pod import PodSecurityContext
from headrace.spec.validation.problem import Problem, Problems

_MAX_ID = 2**31 - 1


def check_pod_security(path: str, context: PodSecurityContext | None) -> Problems:
    """Report what is wrong with what all containers of a pod may do."""
    if context is None:
        return
    yield from _id(f"{path}.runAsUser", context.run_as_user)
    yield from _id(f"{path}.runAsGroup", context.run_as_group)
    yield from _id(f"{path}.fsGroup", context.fs_group)
    for index, group in enumerate(context.supplemental_groups):
        yield from _id(f"{path}.supplementalGroups[{index}]", group)


def check_security(path: str, context: SecurityContext | None) -> Problems:
    """Report what is wrong with what one container may do."""
    if context is None:
        return
    yield from _id(f"{path}.runAsUser", context.run_as_user)
    yield from _id(f"{path}.runAsGroup", context.run_as_group)
    if context.allow_privilege_escalation is False:
        added = context.capabilities.add if context.capabilities else ()
        if context.privileged:
            yield Problem(f"{path}.allowPrivilegeEscalation", "cannot be false where privileged is true")
        if "SYS_ADMIN" in added or "CAP_SYS_ADMIN" in added:
            yield Problem(f"{path}.allowPrivilegeEscalation", "cannot be false where capabilities.add has SYS_ADMIN")


def _id(path: str, number: int | None) -> Problems:
    if number is not None and not 0 <= number <= _MAX_ID:
        yield Problem(path, f"is {number}; it must be 0 to {_MAX_ID}")
