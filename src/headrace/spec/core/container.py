"""One container of a pod and what is known of it while it runs (Kubernetes core/v1)."""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.spec.core.volume import ObjectFieldSelector, ResourceFieldSelector, VolumeMount
from headrace.spec.view import IntOrString, Quantity, View


class KeySelector(View, frozen=True, kw_only=True):
    """One key of a Secret or ConfigMap of the pod's namespace."""

    name: str = ""
    key: str = ""
    optional: bool = False


class EnvVarSource(View, frozen=True, kw_only=True):
    """Where a variable's value comes from; exactly one is set."""

    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None


class EnvVar(View, frozen=True, kw_only=True):
    """An environment variable; `$(NAME)` in value refers to an earlier one."""

    name: str
    value: str = ""
    value_from: EnvVarSource | None = None


class EnvSource(View, frozen=True, kw_only=True):
    """A Secret or ConfigMap all of whose keys become variables."""

    name: str = ""
    optional: bool = False


class EnvFromSource(View, frozen=True, kw_only=True):
    """Variables from all keys of one object."""

    prefix: str = ""
    config_map_ref: EnvSource | None = None
    secret_ref: EnvSource | None = None


class ContainerPort(View, frozen=True, kw_only=True):
    """A port a container listens on."""

    container_port: int
    name: str = ""
    protocol: str = "TCP"
    host_port: int | None = None
    host_ip: str = msgspec.field(default="", name="hostIP")


class ResourceRequirements(View, frozen=True, kw_only=True):
    """What a container needs (requests) and may take at most (limits)."""

    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class ExecAction(View, frozen=True, kw_only=True):
    """A command run in the container; exit code 0 is success."""

    command: tuple[str, ...] = ()


class HTTPHeader(View, frozen=True, kw_only=True):
    """One header of an HTTP probe."""

    name: str
    value: str = ""


class HTTPGetAction(View, frozen=True, kw_only=True):
    """An HTTP request; 200 to 399 is success."""

    port: IntOrString
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    http_headers: tuple[HTTPHeader, ...] = ()


class TCPSocketAction(View, frozen=True, kw_only=True):
    """A connection that must be accepted."""

    port: IntOrString
    host: str = ""


class SleepAction(View, frozen=True, kw_only=True):
    """A pause."""

    seconds: int


class Probe(View, frozen=True, kw_only=True):
    """A question asked of a container again and again."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    grpc: dict[str, Any] | None = None
    initial_delay_seconds: int = 0
    timeout_seconds: int = 1
    period_seconds: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class LifecycleHandler(View, frozen=True, kw_only=True):
    """What is done at a moment of a container's life; exactly one is set."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(View, frozen=True, kw_only=True):
    """Hooks after start and before stop."""

    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str = ""


class Capabilities(View, frozen=True, kw_only=True):
    """Linux capabilities added and dropped."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class SeccompProfile(View, frozen=True, kw_only=True):
    """Which system calls are let through: RuntimeDefault, Unconfined or Localhost."""

    type: str = ""
    localhost_profile: str = ""


class SecurityContext(View, frozen=True, kw_only=True):
    """What a container may do."""

    privileged: bool | None = None
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    read_only_root_filesystem: bool | None = None
    allow_privilege_escalation: bool | None = None
    capabilities: Capabilities | None = None
    seccomp_profile: SeccompProfile | None = None


class Container(View, frozen=True, kw_only=True):
    """A container, an init container, or (init with restartPolicy Always) a native sidecar."""

    name: str
    image: str = ""
    image_pull_policy: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    ports: tuple[ContainerPort, ...] = ()
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFromSource, ...] = ()
    resources: ResourceRequirements = ResourceRequirements()
    volume_mounts: tuple[VolumeMount, ...] = ()
    restart_policy: str = ""
    startup_probe: Probe | None = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    security_context: SecurityContext | None = None
    termination_message_path: str = "/dev/termination-log"
    termination_message_policy: str = "File"
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    target_container_name: str = ""
    """Ephemeral containers only: whose namespaces to join."""


class ContainerStateWaiting(View, frozen=True, kw_only=True):
    """Not running yet, or waiting to run again."""

    reason: str = ""
    message: str = ""


class ContainerStateRunning(View, frozen=True, kw_only=True):
    """Running."""

    started_at: str = ""


class ContainerStateTerminated(View, frozen=True, kw_only=True):
    """Ended."""

    exit_code: int = 0
    signal: int | None = None
    reason: str = ""
    message: str = ""
    started_at: str = ""
    finished_at: str = ""
    container_id: str = msgspec.field(default="", name="containerID")


class ContainerState(View, frozen=True, kw_only=True):
    """One of three."""

    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(View, frozen=True, kw_only=True):
    """What the node reports of one container."""

    name: str
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    image: str = ""
    image_id: str = msgspec.field(default="", name="imageID")
    container_id: str = msgspec.field(default="", name="containerID")
