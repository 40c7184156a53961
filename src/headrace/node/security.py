"""What a container may do, and the one table of fields that have no effect on this node or are refused.

A container here never has a capability, never gains privilege and runs in a user namespace in which its uid stands
for the user who started Headrace. A field that asks for more is refused with its path; one that asks for another
confinement than that is named in the pod's condition `Unsupported`. Nothing accepted is ignored in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from headrace.errors import InvalidSpec
from headrace.node.images.accounts import Account, account
from headrace.node.images.store import Image
from headrace.node.podspec import Container, PodSpec
from headrace.spec.kind import Json


@dataclass(frozen=True)
class _Rule:
    field: str
    means: Literal["refused", "no effect"]
    why: str
    applies: Callable[[Any], bool] = bool


def _unless(*harmless: object) -> Callable[[Any], bool]:
    return lambda value: value not in harmless


_POD_RULES = (
    _Rule("hostPID", "refused", "every container has a PID namespace of its own"),
    _Rule("hostIPC", "refused", "every container has an IPC namespace of its own"),
    _Rule("resourceClaims", "refused", "dynamic resource allocation is not supported"),
    _Rule("shareProcessNamespace", "no effect", "containers never share a PID namespace"),
    _Rule("ephemeralContainers", "no effect", "use exec"),
    _Rule("runtimeClassName", "no effect", "there is one runtime"),
    _Rule("hostUsers", "no effect", "pods always have a user namespace", lambda v: v is True),
    _Rule(
        "securityContext.supplementalGroups", "no effect", "a user namespace of an ordinary user has no other groups"
    ),
    _Rule("securityContext.sysctls", "no effect", "the machine's settings are shared"),
)
_CONFINEMENT = (
    _Rule(
        "securityContext.seccompProfile.type", "no effect", "no seccomp filter is loaded", _unless(None, "Unconfined")
    ),
    _Rule("securityContext.appArmorProfile.type", "no effect", "no profile is loaded", _unless(None, "Unconfined")),
    _Rule("securityContext.seLinuxOptions", "no effect", "no label is set"),
    _Rule("securityContext.windowsOptions", "no effect", "this is Linux"),
)
_CONTAINER_RULES = (
    _Rule("securityContext.privileged", "refused", "a pod never gets privilege on this machine"),
    _Rule("securityContext.capabilities.add", "refused", "a container never has a capability"),
    _Rule("volumeDevices", "refused", "block volumes are not supported"),
    _Rule("resources.claims", "refused", "dynamic resource allocation is not supported"),
    _Rule("restartPolicyRules", "refused", "container restart rules are not supported"),
    _Rule("securityContext.allowPrivilegeEscalation", "no effect", "it is never allowed"),
    _Rule("securityContext.procMount", "no effect", "proc is always masked", _unless(None, "Default")),
    _Rule("stdin", "no effect", "a container's standard input is empty; use exec"),
    _Rule("livenessProbe.grpc", "no effect", "gRPC probes are not supported; the container counts as alive"),
    _Rule("readinessProbe.grpc", "no effect", "gRPC probes are not supported; the container counts as ready"),
    _Rule("startupProbe.grpc", "no effect", "gRPC probes are not supported; the container counts as started"),
    _Rule("resources.limits.ephemeral-storage", "no effect", "the disk is shared and not limited"),
    _Rule("tty", "no effect", "a container has no terminal; use exec"),
)


def refusal(pod: PodSpec) -> str:
    """Return the sentence why this node cannot run the pod at all; empty when it can."""
    for path, rule in _findings(pod):
        if rule.means == "refused":
            return f"{path} is refused on this node: {rule.why}. Remove the field, or run the pod on another node."
    return ""


def unsupported(pod: PodSpec) -> str:
    """Return the sentence naming every field that has no effect here; empty when there is none."""
    found = [f"{path} ({rule.why})" for path, rule in _findings(pod) if rule.means == "no effect"]
    return f"Without effect on this node: {'; '.join(found)}." if found else ""


def identity(pod: PodSpec, container: Container, image: Image | None) -> Account:
    """Return who the container's processes are: its own securityContext, else the pod's, else the image's USER, else 0.

    Raises:
        InvalidSpec: the image does not have the user that it names, or runAsNonRoot is set and the user is, or may be,
            root (kubelet: CreateContainerConfigError).
    """
    merged = {**pod.security_context, **container.security_context}
    wanted, group = merged.get("runAsUser"), merged.get("runAsGroup")
    user = str(wanted) if wanted is not None else image.config.user if image else ""
    found = account(user, image.passwd if image else "", image.group if image else "")
    if merged.get("runAsNonRoot"):
        name = container.raw.get("image") or "host"
        if found.is_named and wanted is None:
            raise InvalidSpec(
                f"container {container.name} has runAsNonRoot and image {name} has non-numeric user ({user}), "
                "so that no node can verify that it is not root.",
                hint=f"Set securityContext.runAsUser, here {found.uid}.",
            )
        if found.uid == 0:
            raise InvalidSpec(
                f"container {container.name} has runAsNonRoot and image {name} runs as root.",
                hint="Set securityContext.runAsUser to a number above 0.",
            )
    return found if group is None else replace(found, gid=int(group))


def _findings(pod: PodSpec) -> Iterator[tuple[str, _Rule]]:
    for rule in (*_POD_RULES, *_CONFINEMENT):
        if rule.applies(_field(pod.spec, rule.field)):
            yield f"spec.{rule.field}", rule
    for container in pod.containers:
        for rule in (*_CONTAINER_RULES, *_CONFINEMENT):
            if rule.applies(_field(container.raw, rule.field)):
                yield f"{container.path}.{rule.field}", rule
        for index, port in enumerate(container.raw.get("ports") or []):
            if port.get("hostPort") and port.get("hostPort") != port.get("containerPort"):
                yield f"{container.path}.ports[{index}].hostPort", _HOST_PORT


_HOST_PORT = _Rule("hostPort", "no effect", "pods listen on the machine's own ports; nothing is forwarded")


def _field(raw: Json, path: str) -> Any:
    value: Any = raw
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
