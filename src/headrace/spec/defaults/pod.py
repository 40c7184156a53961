"""What Kubernetes fills into a pod (`pkg/apis/core/v1/defaults.go`); pods of other servers come filled in already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from headrace.spec.kind import Json

_FILE_MODE = 0o644
_TOKEN_S = 3600


def default_pod(pod: Json) -> None:
    """Fill in a pod, in place."""
    spec = pod.setdefault("spec", {})
    if isinstance(spec, dict):
        default_pod_spec(spec)


def default_pod_spec(spec: Json) -> None:
    """Fill in a pod spec, in place."""
    for key, value in (
        ("restartPolicy", "Always"),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
        ("terminationGracePeriodSeconds", 30),
        ("serviceAccountName", "default"),
        ("enableServiceLinks", True),
    ):
        spec.setdefault(key, value)
    spec.setdefault("serviceAccount", spec["serviceAccountName"])  # its name before v1, which some still read
    spec.setdefault("securityContext", {})
    if spec["terminationGracePeriodSeconds"] in range(-(2**31), 0):
        spec["terminationGracePeriodSeconds"] = 1
    for container in (*_dicts(spec.get("containers")), *_dicts(spec.get("initContainers"))):
        _container(container)
        for port in _dicts(container.get("ports")) if spec.get("hostNetwork") is True else ():
            if "containerPort" in port:
                port.setdefault("hostPort", port["containerPort"])
    for volume in _dicts(spec.get("volumes")):
        _volume(volume)


def _container(container: Json) -> None:
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("imagePullPolicy", pull_policy(container.get("image")))
    resources = container.setdefault("resources", {})
    limits = resources.get("limits") if isinstance(resources, dict) else None
    if isinstance(limits, dict) and limits:
        resources["requests"] = {**limits, **(resources.get("requests") or {})}
    for port in _dicts(container.get("ports")):
        port.setdefault("protocol", "TCP")
    for variable in _dicts(container.get("env")):
        source = variable.get("valueFrom")
        if isinstance(source, dict) and isinstance(source.get("fieldRef"), dict):
            source["fieldRef"].setdefault("apiVersion", "v1")
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        if isinstance(container.get(name), dict):
            _probe(container[name])
    lifecycle = container.get("lifecycle")
    for hook in _dicts(list(lifecycle.values()) if isinstance(lifecycle, dict) else None):
        _handler(hook)


def pull_policy(image: Any) -> Literal["Always", "IfNotPresent"]:
    """`:latest`, said or implied, is pulled again; everything else only when it is missing."""
    name = str(image or "").rpartition("/")[2]
    if "@" in name or image == "host":
        return "IfNotPresent"
    tag = name.partition(":")[2]
    return "Always" if tag in {"", "latest"} else "IfNotPresent"


def _probe(probe: Json) -> None:
    for key, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
        probe.setdefault(key, value)
    _handler(probe)


def _handler(handler: Json) -> None:
    request = handler.get("httpGet")
    if isinstance(request, dict):
        request.setdefault("path", "/")
        request.setdefault("scheme", "HTTP")


def _volume(volume: Json) -> None:
    for source in ("secret", "configMap", "downwardAPI", "projected"):
        if isinstance(volume.get(source), dict):
            volume[source].setdefault("defaultMode", _FILE_MODE)
    if isinstance(volume.get("hostPath"), dict):
        volume["hostPath"].setdefault("type", "")
    _downward_items(volume.get("downwardAPI"))
    projected = volume.get("projected")
    for part in _dicts(projected.get("sources")) if isinstance(projected, dict) else ():
        _downward_items(part.get("downwardAPI"))
        if isinstance(part.get("serviceAccountToken"), dict):
            part["serviceAccountToken"].setdefault("expirationSeconds", _TOKEN_S)
    ephemeral = volume.get("ephemeral")
    template = ephemeral.get("volumeClaimTemplate") if isinstance(ephemeral, dict) else None
    if isinstance(template, dict) and isinstance(template.get("spec"), dict):
        template["spec"].setdefault("volumeMode", "Filesystem")
    if not volume.keys() - {"name"}:
        volume["emptyDir"] = {}


def _downward_items(source: Any) -> None:
    for item in _dicts(source.get("items")) if isinstance(source, dict) else ():
        if isinstance(item.get("fieldRef"), dict):
            item["fieldRef"].setdefault("apiVersion", "v1")


def _dicts(items: Any) -> Iterator[Json]:
    return (item for item in items if isinstance(item, dict)) if isinstance(items, list) else iter(())
