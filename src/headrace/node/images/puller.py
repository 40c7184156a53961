"""Pulling one image: resolve its name, read what it is made of, fetch and unpack the layers that are not here yet."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio
import httpx2
from anyio import CapacityLimiter, from_thread, to_thread
from anyio.abc import TaskGroup

from headrace.errors import Denied, HeadraceError, NotFound, Unavailable
from headrace.node.images.credentials import Credential, Keyring, fingerprint
from headrace.node.images.downloads import download
from headrace.node.images.flights import Flights
from headrace.node.images.layers import Layer
from headrace.node.images.manifest import (
    MOST_CONFIG_BYTES,
    Configuration,
    Descriptor,
    Manifest,
    choose,
    parse,
    parse_config,
    this_platform,
)
from headrace.node.images.reference import Reference
from headrace.node.images.registries import Mirror, endpoints
from headrace.node.images.registry import Repository
from headrace.node.images.store import Access, Image, Store

_DOWNLOADS_AT_ONCE = 3  # of one image, as containerd
_MOST_ACCESSES = 64

T = TypeVar("T")


@dataclass(frozen=True)
class Pulled:
    """An image that is here, the digest its name stood for, and how many bytes had to be fetched."""

    image: Image
    digest: str
    fetched_bytes: int


class Puller:
    """Pulls for all pods of a node; what several want at the same time is fetched once.

    Args:
        tasks: where downloads run, which outlive the pod that began them while another waits for them.
        limiter: of threads that unpack and write.
    """

    def __init__(
        self,
        store: Store,
        http: httpx2.AsyncClient,
        mirrors: Sequence[Mirror],
        tasks: TaskGroup,
        limiter: CapacityLimiter,
    ) -> None:
        self._store = store
        self._http = http
        self._mirrors = mirrors
        self._limiter = limiter
        self._layers: Flights[int] = Flights(tasks)
        self._saving = anyio.Lock()

    async def pull(self, reference: Reference, ring: Keyring) -> Pulled:
        """Return the image that a name stands for now. What is here already is not fetched again.

        Places are tried in order, mirrors before the registry, and in each the credentials that are good for it.

        Raises:
            NotFound, Denied, Unavailable, InvalidSpec, Unsupported, QuotaExceeded
            OSError: the disk cannot be written.
        """
        failures: list[HeadraceError] = []
        for endpoint in endpoints(reference, self._mirrors):
            credentials: list[Credential | None] = [*ring.lookup(endpoint.known_as)] or [None]
            for credential in credentials:
                try:
                    return await self._pull(reference, Repository(self._http, endpoint, credential))
                except (NotFound, Denied, Unavailable) as error:
                    failures.append(error)
        raise _worst(failures)

    async def _pull(self, reference: Reference, repository: Repository) -> Pulled:
        digest = await repository.digest_of(reference.version)
        image, fetched = self._store.at(digest), 0
        if image is None:
            image, fetched = await self._fetch(repository, digest)
        with self._pinned(image.layers):
            if digest not in image.manifests:
                image.manifests.append(digest)
            by_digest = f"{reference.repository}@{digest}"
            if by_digest not in image.repo_digests:
                image.repo_digests.append(by_digest)
            if reference.tag and not reference.digest:
                image.names[reference.name] = digest
            image.used_at = time.time()
            await self._grant(image, reference.repository, repository.credential)
            await self._save(image)
        return Pulled(image, digest, fetched)

    async def _fetch(self, repository: Repository, digest: str) -> tuple[Image, int]:
        inner, manifest = await self._manifest(repository, digest)
        body = await repository.small_blob(manifest.config.digest, MOST_CONFIG_BYTES)
        configuration = parse_config(body, manifest, this_platform())
        with self._pinned(configuration.diff_ids):
            fetched = await self._fetch_layers(repository, manifest, configuration)
            await self._in_thread(self._store.sync)
            image = self._store.get(manifest.config.digest) or await self._image(manifest, configuration)
        if inner not in image.manifests:
            image.manifests.append(inner)
        return image, fetched + len(body)

    async def _save(self, image: Image) -> None:
        async with self._saving:
            for changed in self._store.adopt(image):
                await self._in_thread(self._store.write, *self._store.note(changed))

    @contextmanager
    def _pinned(self, layers: Iterable[str]) -> Iterator[None]:
        """Keep layers that no saved image needs yet from being thrown away."""
        pinned = list(layers)
        for digest in pinned:
            self._store.pin(digest)
        try:
            yield
        finally:
            for digest in pinned:
                self._store.unpin(digest)

    async def _manifest(self, repository: Repository, digest: str) -> tuple[str, Manifest]:
        """Return the manifest for this machine, and its digest: that of one that an index names, or the one given."""
        found = parse(*await repository.manifest(digest))
        if isinstance(found, Manifest):
            return digest, found
        inner = choose(found, this_platform()).digest
        manifest = parse(*await repository.manifest(inner))
        if not isinstance(manifest, Manifest):
            raise NotFound(f"{digest} is an index of indexes, which names no image.")
        return inner, manifest

    async def _fetch_layers(self, repository: Repository, manifest: Manifest, configuration: Configuration) -> int:
        wanted = zip(configuration.diff_ids, manifest.layers, strict=True)
        missing = {digest: blob for digest, blob in wanted if self._store.layer(digest) is None}
        at_once = CapacityLimiter(_DOWNLOADS_AT_ONCE)
        fetched: list[int] = []

        async def fetch(digest: str, blob: Descriptor) -> None:
            async with at_once:
                fetched.append(await self._layers.join(digest, partial(self._layer, repository, digest, blob)))

        await _all(partial(fetch, digest, blob) for digest, blob in missing.items())
        return sum(fetched)

    async def _layer(self, repository: Repository, digest: str, blob: Descriptor) -> int:
        """Fetch and unpack one layer, and return the bytes that were fetched."""
        if self._store.layer(digest) is not None:
            return 0
        self._store.pin(digest)
        file = self._store.staged(".blob")
        try:
            try:
                await download(repository, blob, file, self._limiter)
            except OSError as error:
                raise self._store.trouble(error) from error
            layer: Layer = await self._in_thread(self._store.unpack, file, digest, from_thread.check_cancelled)
            self._store.add_layer(digest, layer)
        finally:
            self._store.unpin(digest)
            file.unlink(missing_ok=True)
        return blob.size

    async def _image(self, manifest: Manifest, configuration: Configuration) -> Image:
        digests = list(configuration.diff_ids)
        passwd, group = await self._in_thread(self._store.account_files, digests)
        known = [self._store.layer(digest) for digest in dict.fromkeys(digests)]
        return Image(
            id=manifest.config.digest,
            config=configuration.config,
            layers=digests,
            size_bytes=sum(layer.size_bytes for layer in known if layer is not None),
            passwd=passwd,
            group=group,
        )

    async def _grant(self, image: Image, repository: str, credential: Credential | None) -> None:
        """Take note that whoever has this credential (or everybody) may pull the image."""
        access = image.access.setdefault(repository, Access())
        if credential is None:
            access.everybody = True
            return
        mark = await self._in_thread(fingerprint, credential)
        if mark not in access.fingerprints:
            access.fingerprints = [*access.fingerprints, mark][-_MOST_ACCESSES:]

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await to_thread.run_sync(partial(work, *arguments), limiter=self._limiter)


async def _all(works: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Do everything at once; the first error of any ends the others and is raised as it is."""
    failures: list[HeadraceError | OSError] = []

    async def attempt(work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (HeadraceError, OSError) as error:
            failures.append(error)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for work in works:
            tasks.start_soon(attempt, work)
    if failures:
        raise failures[0]


def _worst(failures: Sequence[HeadraceError]) -> HeadraceError:
    """Return what to tell of several failures: an answer rather than a silence, and the others' words after it."""
    answers = [error for error in failures if not isinstance(error, Unavailable)]
    told = (answers or failures)[0]
    others = list(dict.fromkeys(error.what for error in failures if error.what != told.what))
    return type(told)(" ".join([told.what, *others]), hint=told.hint, code=told.code)
