"""Pod (Kubernetes `core/validation/validation.go`, the parts a server must not let pass)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from headrace.ids import is_dns_label
from headrace.spec.core.container import Container, EnvVar, Probe, ResourceRequirements
from headrace.spec.core.pod import Pod, PodSpec
from headrace.spec.validation.metadata import check_label, check_labels
from headrace.spec.validation.problem import (
    Problem,
    Problems,
    check_one_of,
    check_quantity,
    check_unique,
    member,
)
from headrace.spec.validation.security import check_pod_security, check_security
from headrace.spec.validation.volumes import check_volume_mounts, check_volumes
from headrace.units import parse_quantity

_ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")
_RESOURCE_NAME = re.compile(r"([a-z0-9.-]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_PULL_POLICIES = ("", "Always", "IfNotPresent", "Never")
_DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_FIELD = re.compile(
    r"metadata\.(name|namespace|uid)|metadata\.(labels|annotations)\['[^']+'\]"
    r"|spec\.(nodeName|serviceAccountName)|status\.(hostIPs?|podIPs?)"
)
_HANDLERS = ("exec", "http_get", "tcp_socket", "sleep")


def check_pod(pod: Pod) -> Problems:
    """Report what is wrong with a pod."""
    yield from check_pod_spec("spec", pod.spec)


def check_pod_spec(path: str, spec: PodSpec) -> Problems:
    """Report what is wrong with the pod spec at `path`."""
    yield from check_one_of(f"{path}.restartPolicy", spec.restart_policy, ("Always", "OnFailure", "Never"))
    yield from check_one_of(f"{path}.dnsPolicy", spec.dns_policy, _DNS_POLICIES)
    yield from check_volumes(f"{path}.volumes", spec.volumes)
    if not spec.containers:
        yield Problem(f"{path}.containers", "is required: a pod has at least one container")
    yield from _names(path, spec)
    for field, containers in (("containers", spec.containers), ("initContainers", spec.init_containers)):
        for index, container in enumerate(containers):
            where = f"{path}.{field}[{index}]"
            yield from _container(where, container, is_init=field == "initContainers")
            yield from check_volume_mounts(f"{where}.volumeMounts", container, spec.volumes)
    yield from check_labels(f"{path}.nodeSelector", spec.node_selector)
    yield from _tolerations(path, spec)
    yield from _node(path, spec)
    yield from check_pod_security(f"{path}.securityContext", spec.security_context)
    if spec.active_deadline_seconds is not None and spec.active_deadline_seconds < 1:
        yield Problem(f"{path}.activeDeadlineSeconds", "must be 1 or more")
    for field, name in (("hostname", spec.hostname), ("subdomain", spec.subdomain)):
        if name and not is_dns_label(name):
            yield Problem(f"{path}.{field}", f"is {name!r}; it must be a DNS label such as web-1")


def _names(path: str, spec: PodSpec) -> Problems:
    seen: set[str] = set()
    lists = (
        ("initContainers", spec.init_containers),
        ("containers", spec.containers),
        ("ephemeralContainers", spec.ephemeral_containers),
    )
    for field, containers in lists:
        for index, container in enumerate(containers):
            where = f"{path}.{field}[{index}].name"
            yield from check_label(where, container.name)
            if container.name in seen:
                yield Problem(where, f"is {container.name!r} a second time; every container of a pod has its own name")
            seen.add(container.name)


def _container(path: str, container: Container, *, is_init: bool) -> Problems:
    if not container.image:
        yield Problem(f"{path}.image", "is required")
    if container.image != container.image.strip():
        yield Problem(f"{path}.image", f"is {container.image!r}; it must not begin or end with a space")
    yield from check_one_of(f"{path}.imagePullPolicy", container.image_pull_policy, _PULL_POLICIES)
    yield from check_one_of(
        f"{path}.terminationMessagePolicy", container.termination_message_policy, ("File", "FallbackToLogsOnError")
    )
    yield from check_env(f"{path}.env", container.env)
    yield from _ports(path, container)
    for index, source in enumerate(container.env_from):
        if (source.config_map_ref is None) == (source.secret_ref is None):
            yield Problem(f"{path}.envFrom[{index}]", "must have exactly one of configMapRef and secretRef")
    yield from check_resources(f"{path}.resources", container.resources)
    yield from check_security(f"{path}.securityContext", container.security_context)
    is_sidecar = is_init and container.restart_policy == "Always"
    if is_init:
        yield from check_one_of(f"{path}.restartPolicy", container.restart_policy, ("", "Always", "OnFailure", "Never"))
    may_probe = not is_init or is_sidecar
    probes = (
        ("startupProbe", container.startup_probe),
        ("livenessProbe", container.liveness_probe),
        ("readinessProbe", container.readiness_probe),
    )
    for field, probe in probes:
        if probe is not None and not may_probe:
            yield Problem(f"{path}.{field}", "may not be set on an init container, unless its restartPolicy is Always")
        elif probe is not None:
            yield from _probe(f"{path}.{field}", probe, must_succeed_once=field != "readinessProbe")
    if container.lifecycle is not None:
        if not may_probe:
            yield Problem(
                f"{path}.lifecycle", "may not be set on an init container, unless its restartPolicy is Always"
            )
        hooks = (("postStart", container.lifecycle.post_start), ("preStop", container.lifecycle.pre_stop))
        for field, hook in hooks:
            if hook is not None and sum(getattr(hook, handler) is not None for handler in _HANDLERS) != 1:
                yield Problem(
                    f"{path}.lifecycle.{field}", "must have exactly one of exec, httpGet, tcpSocket and sleep"
                )


def check_env(path: str, env: Sequence[EnvVar]) -> Problems:
    """Report variables without a good name, or with a value and a source, or with several sources."""
    for index, variable in enumerate(env):
        where = f"{path}[{index}]"
        if not _ENV_NAME.fullmatch(variable.name):
            yield Problem(
                f"{where}.name",
                f"is {variable.name!r}; it must be letters, digits, '_', '-' and '.', not beginning with a digit",
            )
        source = variable.value_from
        if source is None:
            continue
        if variable.value:
            yield Problem(f"{where}.valueFrom", "may not be given together with value")
        sources = (source.field_ref, source.resource_field_ref, source.config_map_key_ref, source.secret_key_ref)
        if sum(s is not None for s in sources) != 1:
            yield Problem(
                f"{where}.valueFrom",
                "must have exactly one of fieldRef, resourceFieldRef, configMapKeyRef and secretKeyRef",
            )
        if source.field_ref is not None and not _FIELD.fullmatch(source.field_ref.field_path):
            yield Problem(
                f"{where}.valueFrom.fieldRef.fieldPath",
                f"is {source.field_ref.field_path!r}; it must be a field that a variable can hold, such as metadata.name, "
                "metadata.labels['app'], spec.nodeName or status.podIP",
            )


def _ports(path: str, container: Container) -> Problems:
    yield from check_unique(f"{path}.ports", (port.name for port in container.ports), "name")
    for index, port in enumerate(container.ports):
        where = f"{path}.ports[{index}]"
        if not 1 <= port.container_port <= 65535:
            yield Problem(f"{where}.containerPort", f"is {port.container_port}; it must be 1 to 65535")
        if port.host_port is not None and not 0 <= port.host_port <= 65535:
            yield Problem(f"{where}.hostPort", f"is {port.host_port}; it must be 0 to 65535")
        if port.name and not _PORT_NAME.fullmatch(port.name):
            yield Problem(
                f"{where}.name",
                f"is {port.name!r}; it must be at most 15 small letters, digits and dashes, with a letter",
            )
        yield from check_one_of(f"{where}.protocol", port.protocol, ("TCP", "UDP", "SCTP"))


def check_resources(path: str, resources: ResourceRequirements) -> Problems:
    """Report amounts that are none, and requests above their limits."""
    for field, amounts in (("requests", resources.requests), ("limits", resources.limits)):
        for name, amount in amounts.items():
            where = member(f"{path}.{field}", name)
            if not _RESOURCE_NAME.fullmatch(name):
                yield Problem(where, f"{name!r} is no resource; write cpu, memory or one like nvidia.com/gpu")
            yield from check_quantity(where, amount)
    for name in resources.requests.keys() & resources.limits.keys():
        try:
            request, limit = parse_quantity(resources.requests[name]), parse_quantity(resources.limits[name])
        except ValueError:
            continue
        where = member(f"{path}.requests", name)
        if request > limit:
            yield Problem(where, f"is {resources.requests[name]}, more than the limit of {resources.limits[name]}")
        elif "/" in name and request != limit:
            yield Problem(where, f"must equal the limit of {resources.limits[name]}: {name} cannot be overcommitted")


def _probe(path: str, probe: Probe, *, must_succeed_once: bool) -> Problems:
    for field, value, least in (
        ("initialDelaySeconds", probe.initial_delay_seconds, 0),
        ("timeoutSeconds", probe.timeout_seconds, 1),
        ("periodSeconds", probe.period_seconds, 1),
        ("successThreshold", probe.success_threshold, 1),
        ("failureThreshold", probe.failure_threshold, 1),
    ):
        if value < least:
            yield Problem(f"{path}.{field}", f"is {value}; it must be {least} or more")
    if must_succeed_once and probe.success_threshold != 1:
        yield Problem(f"{path}.successThreshold", "must be 1 for startup and liveness probes")
    if sum(handler is not None for handler in (probe.exec, probe.http_get, probe.tcp_socket, probe.grpc)) != 1:
        yield Problem(path, "must have exactly one of exec, httpGet, tcpSocket and grpc")
    if probe.exec is not None and not probe.exec.command:
        yield Problem(f"{path}.exec.command", "is required")


def _node(path: str, spec: PodSpec) -> Problems:
    """Report what would never be scheduled."""
    if spec.scheduling_gates and spec.node_name:
        yield Problem(f"{path}.nodeName", "cannot be set until all schedulingGates have been cleared")
    if spec.affinity is not None and spec.affinity.node_affinity is not None:
        required = spec.affinity.node_affinity.required_during_scheduling_ignored_during_execution
        if required is not None and not required.node_selector_terms:
            yield Problem(
                f"{path}.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms",
                "is required: at least one term",
            )


def _tolerations(path: str, spec: PodSpec) -> Problems:
    for index, toleration in enumerate(spec.tolerations):
        where = f"{path}.tolerations[{index}]"
        yield from check_one_of(f"{where}.operator", toleration.operator, ("", "Equal", "Exists"))
        if not toleration.key and toleration.operator != "Exists":
            yield Problem(f"{where}.operator", "must be Exists where key is empty")
        if toleration.operator == "Exists" and toleration.value:
            yield Problem(f"{where}.value", "must be empty where operator is Exists")
        yield from check_one_of(
            f"{where}.effect", toleration.effect, ("", "NoSchedule", "PreferNoSchedule", "NoExecute")
        )
