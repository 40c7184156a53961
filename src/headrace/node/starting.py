"""Starting one attempt of one container: everything that can be wrong before the world is asked, and what it answers.

Outcomes are put into the record as facts. Configuration that is missing and images that cannot be used are *trouble*:
the container waits and is tried again. A program that cannot be executed is a *run* that failed at once (exit code
128, reason StartError), as container runtimes report it, so that a restart policy of Never ends the pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from headrace.errors import InvalidSpec, NotFound, Unsupported
from headrace.node import env, lifecycle, network, security
from headrace.node.addressing import with_addresses
from headrace.node.images import command, local
from headrace.node.images.local import ImageTrouble
from headrace.node.order import Prepared, start_order
from headrace.node.podspec import Container, PodSpec
from headrace.node.pulling import Ready
from headrace.node.record import PodRecord
from headrace.node.shared import Shared
from headrace.node.volumes.pod_volumes import Source
from headrace.node.world import WorldRefused
from headrace.sandbox.layered import NO_OVERLAY
from headrace.spec.kind import Json

_START_S = 75.0
_START_ERROR_CODE = 128
_RESOLV_CONF = Path("/etc/resolv.conf")


async def start(
    shared: Shared,
    pod: PodSpec,
    record: PodRecord,
    container: Container,
    attempt: int,
    volumes: Mapping[str, Source],
    ready: Ready | None,
) -> None:
    """Start an attempt and note in `record` what came of it. Idempotent: the world starts an attempt once.

    Args:
        ready: what the container's root is made of; None for a local image.

    Raises:
        Unavailable: the world or the API server cannot be asked now; nothing is noted.
    """
    mine = record.of(container.name)
    try:
        order = await _order(shared, pod, record, container, attempt, volumes, ready)
        answer = await shared.world.request("container.start", timeout_s=_START_S, **order)
    except ImageTrouble as trouble:
        mine.note_trouble(trouble.reason, trouble.message, shared.now())
        shared.events.warning(pod, "Failed", f"Error: {trouble.reason}: {trouble.message}")
    except WorldRefused as refusal:
        _refused(shared, pod, record, container, attempt, refusal)
    except (InvalidSpec, NotFound, Unsupported) as error:
        mine.note_trouble("CreateContainerConfigError", str(error), shared.now())
        shared.events.warning(pod, "Failed", f"Error: {error}")
    else:
        # The journal may have said so first.
        lifecycle.note_started(pod, record, container.name, attempt, int(answer["started"]["wall_ns"]))
        if ready is None:
            shared.events.normal(pod, "Pulled", f'Container image "{container.image}" already present on machine')
        shared.events.normal(pod, "Created", f"Created container: {container.name}")
        shared.events.normal(pod, "Started", f"Started container {container.name}")


def _refused(
    shared: Shared, pod: PodSpec, record: PodRecord, container: Container, attempt: int, refusal: WorldRefused
) -> None:
    shared.events.warning(pod, "Failed", f"Error: {refusal}")
    if refusal.code == "StartFailed":
        at = shared.clock.now().timestamp()
        lifecycle.note_started(pod, record, container.name, attempt, int(at * 1e9))
        record.of(container.name).note_exited(
            attempt, int(at * 1e9), exit_code=_START_ERROR_CODE, reason="StartError", message=str(refusal)
        )
    elif refusal.code == "NotFound":
        record.prepared = False  # the pod is not in this world any more: it is made again
    elif refusal.code == NO_OVERLAY and not shared.images.copies:
        shared.images.copies = True  # the next try gets a copy
        record.of(container.name).note_trouble("CreateContainerError", str(refusal), shared.now(), first_s=0.0)
    else:
        record.of(container.name).note_trouble("CreateContainerError", str(refusal), shared.now())


async def _order(
    shared: Shared,
    pod: PodSpec,
    record: PodRecord,
    container: Container,
    attempt: int,
    volumes: Mapping[str, Source],
    ready: Ready | None,
) -> Json:
    image = ready.image if ready else None
    root = ready.root if ready else local.root_of(container.image)
    who = security.identity(pod, container, image)
    ill = await shared.published.trouble(pod.uid, frozenset(str(mount["name"]) for mount in container.mounts))
    if ill:
        raise WorldRefused(f"{ill} The container is not started over it.", code="VolumeUnhealthy")
    around = env.Around(
        base=command.environment(image.config, who.home) if image else shared.base_environment,
        services=network.service_variables(pod, shared.names.services(pod.namespace)),
        pod=shared.facts(record.address),
        allocatable=shared.allocatable,
        objects={r: await shared.objects.get(r, pod.namespace, pod.uid) for r in env.references(container)},
    )
    environment = env.build(pod, container, around)
    if environment.skipped:
        names = ", ".join(environment.skipped)
        shared.events.warning(pod, "InvalidEnvironmentVariableNames", f"Keys [{names}] from envFrom were skipped.")
    place = shared.place(pod.uid)
    variables = environment.variables
    if shared.surroundings.relocates:
        variables = await with_addresses(variables, str(pod.spec.get("subdomain") or ""), place.hosts)
    prepared = Prepared(
        env=variables,
        volumes=volumes,
        hosts=place.hosts,
        log=place.log(container.name, attempt),
        resolv_conf=network.resolv_conf(pod, _machine_resolv_conf()),
        closed=shared.closed,
        root=root,
        image=image,
        who=who,
    )
    return start_order(pod, container, attempt, prepared)


def _machine_resolv_conf() -> str:
    try:
        return _RESOLV_CONF.read_text()
    except OSError:
        return ""  # a machine without name servers is a machine without name servers
