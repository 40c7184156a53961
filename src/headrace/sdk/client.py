"""`AsyncClient`: everything the command line, the console and programs do with Headrace, over any cluster.

A thin layer: objects are Kubernetes objects, computed answers (waiting, quote, usage) come from the aggregated group
`reads.headrace.io`, and nothing is cached. Errors are those of `headrace.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from headrace.cluster.protocol import Cluster, MergePatch, Scope
from headrace.errors import AlreadyExists, Expired, InvalidSpec, NotFound, Unavailable
from headrace.sdk import apply as applying
from headrace.sdk import code, jobs, manifests
from headrace.sdk.connection import connect
from headrace.spec.kind import Doc, Json, Kind, Ref
from headrace.spec.kinds import PERSISTENT_VOLUME_CLAIM, TRAIN_JOB
from headrace.spec.names import RUNTIME_PROFILE_LABEL

READS = "/apis/reads.headrace.io/v1alpha1"


class AsyncClient:
    """Talks to one cluster, in one namespace unless told otherwise.

    Use `async with AsyncClient.connect() as client:`; or give it any `Cluster`, which the caller then closes.
    """

    def __init__(self, cluster: Cluster, *, namespace: str = "default") -> None:
        self.cluster = cluster
        self.namespace = namespace

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, *, kubeconfig: str | None = None, context: str | None = None, namespace: str = "default"
    ) -> AsyncIterator[AsyncClient]:
        """Connect to the embedded engine of this machine, else to the current kubeconfig's cluster."""
        async with connect(kubeconfig, context) as cluster:
            yield cls(cluster, namespace=namespace)

    # -- objects ---------------------------------------------------------------------------------------------------

    def ref(self, kind: Kind[Any], name: str, namespace: str = "") -> Ref:
        """Name an object of `kind`, in this client's namespace where the kind has one and none is given."""
        return Ref((namespace or self.namespace) if kind.namespaced else "", name)

    async def get(self, kind: Kind[Any], name: str, *, namespace: str = "") -> Doc[Any]:
        """Return one object; raises NotFound."""
        return await self.cluster.get(kind, self.ref(kind, name, namespace))

    async def list(self, kind: Kind[Any], *, namespace: str | None = None, labels: str = "") -> list[Doc[Any]]:
        """Return all objects; `namespace=""` means those of every namespace."""
        where = Scope(namespace=self.namespace if namespace is None else namespace, labels=labels)
        if not kind.namespaced:
            where = Scope(labels=labels)
        found: list[Doc[Any]] = []
        resume = ""
        while True:
            page = await self.cluster.list(kind, where, resume=resume)
            found += page.items
            resume = page.resume
            if not resume:
                return found

    async def apply(self, manifest: Json, *, dry_run: bool = False) -> tuple[str, Doc[Any]]:
        """Make the server's object what `manifest` says. Idempotent.

        Returns:
            `created`, `configured` or `unchanged`, and the object.
        """
        kind = manifests.kind_of(manifest)
        name = (manifest.get("metadata") or {}).get("name")
        if not name:
            raise InvalidSpec(f"{kind.name}: metadata.name is missing.", hint="Give the object a name.")
        ref = self.ref(kind, name, manifest["metadata"].get("namespace", ""))
        try:
            live = await self.cluster.get(kind, ref)
        except NotFound:
            body = applying.annotated(manifest)
            if kind.namespaced:
                body["metadata"]["namespace"] = ref.namespace
            try:
                return "created", await self.cluster.create(kind, body, dry_run=dry_run)
            except AlreadyExists:
                live = await self.cluster.get(kind, ref)
        patch = applying.merge_patch(manifest, live.raw)
        if not patch:
            return "unchanged", live
        return "configured", await self.cluster.patch(kind, ref, MergePatch(patch), dry_run=dry_run)

    async def delete(self, kind: Kind[Any], name: str, *, namespace: str = "", wait_s: float | None = None) -> None:
        """Delete an object, and wait up to `wait_s` for it to be gone when given; raises NotFound, Unavailable."""
        ref = self.ref(kind, name, namespace)
        uid = (await self.cluster.get(kind, ref)).uid
        await self.cluster.delete(kind, ref, uid=uid)
        if wait_s is not None:
            await self.wait(
                kind, name, lambda doc: doc is None or doc.uid != uid, namespace=namespace, timeout_s=wait_s
            )

    async def set_metadata(
        self,
        kind: Kind[Any],
        name: str,
        *,
        labels: Mapping[str, str | None] = {},
        annotations: Mapping[str, str | None] = {},
        namespace: str = "",
    ) -> Doc[Any]:
        """Set labels and annotations; None removes one."""
        body = {"labels": dict(labels), "annotations": dict(annotations)}
        patch = MergePatch({"metadata": {key: value for key, value in body.items() if value}})
        return await self.cluster.patch(kind, self.ref(kind, name, namespace), patch)

    async def wait(
        self,
        kind: Kind[Any],
        name: str,
        until: Callable[[Doc[Any] | None], bool],
        *,
        namespace: str = "",
        timeout_s: float,
    ) -> Doc[Any] | None:
        """Watch one object until `until(object or None)` is true, and return what it then was.

        Raises Unavailable when `timeout_s` passes first; the last state seen is in the message.
        """
        ref = self.ref(kind, name, namespace)
        seen: Doc[Any] | None = None
        with anyio.move_on_after(timeout_s):
            async for seen in self.changes(kind, ref):
                if until(seen):
                    return seen
        raise Unavailable(
            f"{kind.name} {ref} did not get there within {timeout_s:g} s{jobs.last_words(seen)}.",
            hint=f"Look at it with: headrace describe {kind.singular} {name}",
        )

    async def changes(self, kind: Kind[Any], ref: Ref) -> AsyncIterator[Doc[Any] | None]:
        """Yield an object's states from now on, None while it is absent; goes on over cuts until the caller stops."""
        where = Scope(namespace=ref.namespace, fields=f"metadata.name={ref.name}")
        while True:
            page = await self.cluster.list(kind, where)
            yield page.items[0] if page.items else None
            try:
                async with self.cluster.watch(kind, where, since=page.version) as stream:
                    async for change in stream:
                        if change.type != "BOOKMARK":
                            yield None if change.type == "DELETED" else change.doc
            except (Expired, Unavailable):
                await anyio.sleep(0.2)

    # -- jobs ------------------------------------------------------------------------------------------------------

    async def submit(self, job: Json, *, base: Path | None = None, dry_run: bool = False) -> Doc[Any]:
        """Create a TrainJob. Its `spec.code.directory` (relative to `base`) is packed and uploaded first.

        Raises InvalidSpec for what is wrong with the job or the directory, AlreadyExists for a used name.
        """
        body = jobs.prepared(job, self.namespace)
        directory = body["spec"].get("code", {}).get("directory")
        if directory is not None:
            archive = await anyio.to_thread.run_sync(code.pack, (base or Path.cwd()) / directory)
            if not dry_run:
                await self.upload_code(archive, body["metadata"]["namespace"])
            body["spec"]["code"] = {"archive": archive.digest}
        return await self.cluster.create(TRAIN_JOB, body, dry_run=dry_run)

    async def upload_code(self, archive: code.Archive, namespace: str) -> None:
        """Store a code archive unless the cluster has it already. Idempotent."""
        path = f"{READS}/namespaces/{namespace}/code/{archive.digest.removeprefix('sha256:')}"
        known = await self.cluster.request("GET", f"{path}/known")
        if not known["known"]:
            await self.cluster.request("PUT", path, body=archive.content)

    async def stop(self, name: str, *, namespace: str = "") -> Doc[Any]:
        """Ask a job to stop: its pods get their grace period, what it used is billed, the object stays."""
        ref = self.ref(TRAIN_JOB, name, namespace)
        return await self.cluster.patch(TRAIN_JOB, ref, MergePatch({"spec": {"suspend": True}}))

    async def why(self, name: str, *, namespace: str = "") -> Json:
        """Return why a job waits (or does not): place in the queue, blockers, choices with costs, and their sources."""
        return await self._read(f"namespaces/{namespace or self.namespace}/trainjobs/{name}/waiting")

    async def quote(self, job: Json) -> Json:
        """Return what a job that is not submitted yet would cost and when it would start, a choice per pool."""
        body = jobs.prepared(job, self.namespace)
        return await self._read(f"namespaces/{body['metadata']['namespace']}/quote", method="POST", body=body)

    @asynccontextmanager
    async def logs(
        self, name: str, *, namespace: str = "", **options: Any
    ) -> AsyncIterator[AsyncIterator[jobs.LogLine]]:
        """Stream the lines of all workers of a job; see `jobs.log_lines` for `options`."""
        async with jobs.log_lines(self.cluster, self.ref(TRAIN_JOB, name, namespace), **options) as lines:
            yield lines

    # -- data ------------------------------------------------------------------------------------------------------

    async def connect_dataset(self, claim: str, profile: str, *, namespace: str = "") -> Doc[Any]:
        """Label a claim so that its data can be reached from every pool; `profile` names the ThinRuntimeProfile."""
        return await self.set_metadata(
            PERSISTENT_VOLUME_CLAIM, claim, labels={RUNTIME_PROFILE_LABEL: profile}, namespace=namespace
        )

    # -- money -----------------------------------------------------------------------------------------------------

    async def usage(self, **filters: str) -> Json:
        """Return priced spans. Filters: namespace, job, pool, user, since, until (RFC 3339), by."""
        return await self._read("usage", query={key: value for key, value in filters.items() if value})

    async def replay(self, **filters: str) -> Json:
        """Price all metering events again from the beginning and compare with what was billed."""
        return await self._read("usage/replay", query={key: value for key, value in filters.items() if value})

    async def _read(self, path: str, *, method: str = "GET", query: Any = None, body: Any = None) -> Json:
        answer: Json = await self.cluster.request(method, f"{READS}/{path}", query=query, body=body)
        return answer


AsyncProgram = Callable[[AsyncClient], Awaitable[Any]]
