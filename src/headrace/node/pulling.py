"""Getting the image of a container that is about to start: by a task, since it may take minutes in which the pod lives on.

What is said to people, and in which order, is kubelet's (`pkg/kubelet/images/image_manager.go`); when it is tried again,
too. An image found ready is good for one start: with `imagePullPolicy: Always` the next one asks the registry again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from headrace.errors import HeadraceError, InvalidSpec
from headrace.node.env import Reference as ObjectReference
from headrace.node.images import command, policy, reference
from headrace.node.images.credentials import Keyring, keyring
from headrace.node.images.reference import Reference
from headrace.node.images.store import Image
from headrace.node.podspec import Container, PodSpec
from headrace.node.record import ERR_IMAGE_PULL, PodRecord, UsedImage
from headrace.node.shared import Shared
from headrace.spec.defaults.pod import pull_policy
from headrace.spec.kind import Json

NEVER_PULL = "ErrImageNeverPull"
INVALID_NAME = "InvalidImageName"


@dataclass(frozen=True)
class Ready:
    """An image, and the root that was made of it for one attempt."""

    image: Image
    root: Json


class Pulling:
    """The images of one pod's containers.

    Args:
        tasks: where they are pulled; cancelled with the pod's worker.
        changed: called after the record was changed.
    """

    def __init__(self, shared: Shared, record: PodRecord, tasks: TaskGroup, changed: Callable[[], None]) -> None:
        self._shared = shared
        self._record = record
        self._tasks = tasks
        self._changed = changed
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._ready: dict[tuple[str, int], Ready] = {}

    def is_running(self, container: str) -> bool:
        """Whether the container's image is being got."""
        return container in self._scopes

    @property
    def is_any_running(self) -> bool:
        return bool(self._scopes)

    def begin(self, pod: PodSpec, container: Container, attempt: int) -> None:
        """Begin, unless that is being done; `changed` is called when the image is ready or trouble is noted."""
        if container.name not in self._scopes:
            scope = self._scopes[container.name] = anyio.CancelScope()
            self._tasks.start_soon(self._run, pod, container, attempt, scope)

    def cancel(self) -> None:
        """Nobody wants the pod's images any more."""
        for scope in self._scopes.values():
            scope.cancel()

    def take(self, container: str, attempt: int) -> Ready | None:
        """Return what is ready for an attempt, once."""
        return self._ready.pop((container, attempt), None)

    async def _run(self, pod: PodSpec, container: Container, attempt: int, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                await self._get(pod, container, attempt)
        finally:
            del self._scopes[container.name]
            self._changed()

    async def _get(self, pod: PodSpec, container: Container, attempt: int) -> None:
        name, mine = container.image, self._record.of(container.name)
        if self._shared.surroundings.relocates:
            self._trouble(pod, container, ERR_IMAGE_PULL, _needs_namespaces(name, self._shared.surroundings.relocates))
            return
        try:
            wanted = reference.parse(name)
        except InvalidSpec as error:
            self._shared.events.warning(pod, "InspectFailed", f'Failed to apply default image tag "{name}": {error}')
            self._trouble(pod, container, INVALID_NAME, str(error))
            return
        try:
            image, digest = await self._image(pod, container, wanted)
            place = self._shared.place(pod.uid).container_root(container.name, attempt, image.id)
            root = await self._shared.images.root(image, place)
        except _NeverPull as refusal:
            self._shared.events.warning(pod, NEVER_PULL, str(refusal))
            self._trouble(pod, container, NEVER_PULL, str(refusal))
        except (HeadraceError, OSError) as error:
            self._shared.events.warning(pod, "Failed", f'Failed to pull image "{name}": {error}')
            self._shared.events.warning(pod, "Failed", f"Error: {ERR_IMAGE_PULL}")
            mine.note_pull_failed(str(error), self._shared.now())
        else:
            ref = f"{wanted.repository}@{digest}"
            signal = command.stop_signal(image.config.stop_signal)
            mine.image = UsedImage(id=image.id, name=wanted.name, ref=ref, stop_signal=signal)
            self._ready[container.name, attempt] = Ready(image, root)

    async def _image(self, pod: PodSpec, container: Container, wanted: Reference) -> tuple[Image, str]:
        """Return the image that the pod may have, pulled if its policy says so, and the digest it is known by."""
        images, name = self._shared.images, container.image
        ring = await self._keyring(pod)
        image = await images.find(wanted)
        is_accessible = image is not None and await images.is_accessible(image, wanted, ring)
        chosen: policy.PullPolicy = container.raw.get("imagePullPolicy") or pull_policy(name)
        decision = policy.decide(chosen, is_present=image is not None, is_accessible=is_accessible)
        if decision == "refuse":
            raise _NeverPull(f'Container image "{name}" is not present with pull policy of Never')
        if decision == "use" and image is not None:
            text = f'Container image "{name}" already present on machine and can be accessed by the pod'
            self._shared.events.normal(pod, "Pulled", text)
            return image, wanted.digest or image.names[wanted.name]
        self._shared.events.normal(pod, "Pulling", f'Pulling image "{name}"')
        began = anyio.current_time()
        pulled = await images.pull(wanted, ring)
        took = _duration(anyio.current_time() - began)
        size = f"Image size: {pulled.image.size_bytes} bytes."
        text = f'Successfully pulled image "{name}" in {took} ({took} including waiting). {size}'
        self._shared.events.normal(pod, "Pulled", text)
        return pulled.image, pulled.digest

    async def _keyring(self, pod: PodSpec) -> Keyring:
        names = [str(entry.get("name")) for entry in pod.spec.get("imagePullSecrets") or [] if entry.get("name")]
        found = {
            name: await self._shared.objects.get(ObjectReference("Secret", name), pod.namespace, pod.uid)
            for name in dict.fromkeys(names)
        }
        missing = [name for name, secret in found.items() if secret is None]
        if missing:
            text = f"Unable to retrieve some image pull secrets ({', '.join(missing)}); attempting to pull the image may not succeed."
            self._shared.events.warning(pod, "FailedToRetrieveImagePullSecret", text)
        ring, wrong = keyring(secret for secret in found.values() if secret is not None)
        for sentence in wrong:
            self._shared.events.warning(pod, "FailedToRetrieveImagePullSecret", sentence)
        return ring

    def _trouble(self, pod: PodSpec, container: Container, reason: str, message: str) -> None:
        self._record.of(container.name).note_trouble(reason, message, self._shared.now())
        self._shared.events.warning(pod, "Failed", f"Error: {reason}")


class _NeverPull(Exception):
    """The policy is Never, and the image is not here for this pod."""


def _needs_namespaces(image: str, why: str) -> str:
    return (
        f"image {image!r} needs user namespaces, since a container of it has a root of its own: {why}. Enable them "
        "(headrace doctor says how), or use image host, which is this machine's file system."
    )


def _duration(seconds: float) -> str:
    """As Go writes durations in events: `85ms`, `1.234s`, `2m3.5s`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}m{rest:.3g}s" if minutes else f"{rest:.4g}s"
