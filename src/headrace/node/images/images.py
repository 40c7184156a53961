"""The images of one node, as its pods' workers see them: is it here, may this pod have it, pull it, give a root.

The one place that joins names, registries and the disk; it also throws away images that nobody uses when the disk fills.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import anyio
import httpx2
from anyio import CapacityLimiter, from_thread, to_thread
from anyio.abc import TaskGroup

from headrace.node.images import collecting, command, views
from headrace.node.images.credentials import Keyring, fingerprint
from headrace.node.images.puller import Pulled, Puller
from headrace.node.images.reference import Reference
from headrace.node.images.registries import Mirror
from headrace.node.images.registry import http_client
from headrace.node.images.store import Image, Store
from headrace.node.removal import remove
from headrace.spec.kind import Json
from headrace.telemetry import logger

OPENING_FAILED = "image.store_not_opened"
COLLECTING_FAILED = "image.collecting_failed"

_THREADS = 2
_LOOK_EVERY_S = 60.0
_CLOSE_S = 5.0
_OPEN_AGAIN_S = 10.0
_MOST_SHOWN, _MOST_NAMES = 50, 5

_log = logger(component="images")


class Images:
    """See the module.

    Args:
        directory: the store's, on the file system of the pods' roots.
        mirrors: see `registries`.
        in_use: returns the ids of images that pods of this node have.
    """

    def __init__(
        self, directory: Path, mirrors: Sequence[Mirror], *, agent: str, in_use: Callable[[], set[str]]
    ) -> None:
        self.store = Store(directory)
        self.copies = False
        """Whether containers get copies, since the kernel does not lay layers over each other here."""
        self._mirrors = mirrors
        self._agent = agent
        self._in_use = in_use
        self._limiter = CapacityLimiter(_THREADS)
        self._tasks: TaskGroup | None = None
        self._http: httpx2.AsyncClient | None = None
        self._puller: Puller | None = None
        self._opened = anyio.Event()
        self._changed: list[Callable[[], None]] = []

    async def run(self) -> None:
        """Open the store, then collect until cancelled. Whoever asks earlier waits."""
        await self._open()
        try:
            async with anyio.create_task_group() as self._tasks:
                self._opened.set()
                self._tell()
                await self._collect_for_ever()
        finally:
            if self._http is not None:
                with anyio.CancelScope(shield=True, deadline=anyio.current_time() + _CLOSE_S):
                    await self._http.aclose()

    async def _open(self) -> None:
        """Open the store, however long its disk is full or away: pods that need no image go on meanwhile."""
        while True:
            try:
                await to_thread.run_sync(self.store.open, limiter=self._limiter)
            except OSError as error:
                _log.warning(OPENING_FAILED, directory=str(self.store.directory), error=str(error))
                await anyio.sleep(_OPEN_AGAIN_S)
            else:
                return

    async def _collect_for_ever(self) -> None:
        while True:
            try:
                await self.collect()
            except OSError as error:
                _log.warning(COLLECTING_FAILED, error=str(error))
            await anyio.sleep(_LOOK_EVERY_S)

    def subscribe(self, changed: Callable[[], None]) -> None:
        """Have `changed` called when images come or go."""
        self._changed.append(changed)

    # -- what a container needs ------------------------------------------------------------------------------------------

    async def find(self, reference: Reference) -> Image | None:
        """Return what the name stands for on this node, without asking anybody."""
        await self._opened.wait()
        if reference.digest:
            image = self.store.at(reference.digest)
            return image if image and f"{reference.repository}@{reference.digest}" in image.repo_digests else None
        return self.store.named(reference.name)

    async def is_accessible(self, image: Image, reference: Reference, ring: Keyring) -> bool:
        """Whether it was pulled from there without a secret, or with a credential that `ring` has too."""
        access = image.access.get(reference.repository)
        if access is None:
            return False
        if access.everybody:
            return True
        for credential in ring.lookup(reference.repository):
            if await to_thread.run_sync(fingerprint, credential, limiter=self._limiter) in access.fingerprints:
                return True
        return False

    async def pull(self, reference: Reference, ring: Keyring) -> Pulled:
        """Make the image be here, as the registry has it now; raises as `Puller.pull`."""
        await self._opened.wait()
        pulled = await self._ready_puller().pull(reference, ring)
        self._tell()
        return pulled

    def _ready_puller(self) -> Puller:
        """Return the puller, made for the first pull: reading the machine's certificates takes time and memory."""
        if self._puller is None:
            assert self._tasks is not None
            self._http = http_client(self._agent)
            self._puller = Puller(self.store, self._http, self._mirrors, self._tasks, self._limiter)
        return self._puller

    async def root(self, image: Image, directory: Path) -> Json:
        """Make a container's own root of an image in `directory`; return it as the world is told.

        Raises:
            QuotaExceeded: the disk is full.
            OSError: it cannot be written.
        """
        if self.store.touch(image, time.time()):
            await to_thread.run_sync(self.store.write, *self.store.note(image), limiter=self._limiter)
        volumes = command.volumes(image.config)
        known = [(self.store.tree(digest), self.store.layer(digest)) for digest in image.layers]
        layers = [(tree, layer) for tree, layer in known if layer is not None]
        try:
            if not self.copies and layers and all(layer.is_marked for _, layer in layers):
                once = dict.fromkeys(tree for tree, _ in reversed(layers))  # overlayfs takes no directory twice
                return await self._in_thread(views.layered, directory, [*reversed(once)], volumes)
            return await self._in_thread(views.copied, directory, layers, volumes, from_thread.check_cancelled)
        except OSError as error:
            raise self.store.trouble(error) from error

    def shown(self) -> list[Json]:
        """Return `status.images` of the Node: the largest, by the names that people know them by (kubelet's limits)."""
        largest = sorted(self.store.images, key=lambda image: image.size_bytes, reverse=True)[:_MOST_SHOWN]
        return [{"names": image.shown_names[:_MOST_NAMES], "sizeBytes": image.size_bytes} for image in largest]

    # -- throwing away ---------------------------------------------------------------------------------------------------

    async def collect(self) -> None:
        """Throw away images that no pod has, the longest unused first, if the disk is fuller than it should be."""
        if self.store.disk_used() < collecting.HIGH:
            return
        for image in collecting.order(self.store.images, self._in_use(), time.time()):
            self.store.forget(image)
            for place in self.store.unneeded():
                await to_thread.run_sync(remove, place, limiter=self._limiter)
            self._tell()
            if self.store.disk_used() <= collecting.LOW:
                return

    def learn(self, hello: Json) -> None:
        """Take in a world's `hello`: whether its kernel lays layers over each other."""
        self.copies = (hello.get("features") or {}).get("overlay") is False

    def _tell(self) -> None:
        for changed in self._changed:
            changed()

    async def _in_thread(self, work: Callable[..., Json], *arguments: object) -> Json:
        return await to_thread.run_sync(partial(work, *arguments), limiter=self._limiter)
