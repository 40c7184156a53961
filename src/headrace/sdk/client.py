"""`AsyncClient`: everything the command line, the console and programs do with Headrace, over any cluster.

A thin layer: objects are Kubernetes objects, computed answers (waiting, quote, usage) come from the aggregated group
`reads.headrace.io`, and nothing is cached. Errors are those of `headrace.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import anyio.to_thread

from headrace.cluster.protocol import Cluster, ExecResult, MergePatch, Scope
from headrace.errors import AlreadyExists, InvalidSpec, NotFound, Unavailable
from headrace.sdk import apply as applying
from headrace.sdk import code, jobs, manifests, watching
from headrace.sdk.connection import connect
from headrace.sdk.datasets import verified_dataset
from headrace.sdk.logs import LogLine, log_lines
from headrace.spec.kind import Doc, Json, Kind, Ref
from headrace.spec.kinds import PERSISTENT_VOLUME_CLAIM, POD, TRAIN_JOB
from headrace.spec.names import (
    FLUID_GROUP,
    HEADRACE_GROUP,
    JOB_LABEL,
    READS_GROUP,
    READS_VERSION,
    RUNTIME_PROFILE_LABEL,
)

READS = f"/apis/{READS_GROUP}/{READS_VERSION}"


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
        cls,
        *,
        kubeconfig: str | None = None,
        context: str | None = None,
        namespace: str = "",
        on_warning: Callable[[str], None] | None = None,
    ) -> AsyncIterator[AsyncClient]:
        """Connect to the embedded engine of this machine, else to the current kubeconfig's cluster.

        Args:
            namespace: where to work; that of the kubeconfig's context by default.
            on_warning: is given each warning of the server, such as a field that is accepted but not carried out.
        """
        async with connect(kubeconfig, context, on_warning=on_warning) as (cluster, usual):
            yield cls(cluster, namespace=namespace or usual)

    # -- objects ---------------------------------------------------------------------------------------------------

    def ref(self, kind: Kind[Any], name: str, namespace: str = "") -> Ref:
        """Name an object of `kind`, in this client's namespace where the kind has one and none is given."""
        return Ref((namespace or self.namespace) if kind.namespaced else "", name)

    async def get(self, kind: Kind[Any], name: str, *, namespace: str = "") -> Doc[Any]:
        """Return one object; raises NotFound."""
        return await self.cluster.get(kind, self.ref(kind, name, namespace))

    async def list(self, kind: Kind[Any], *, namespace: str | None = None, labels: str = "") -> list[Doc[Any]]:
        """Return all objects; `namespace=""` means those of every namespace. Raises NotFound for an unknown kind."""
        inside = self.namespace if namespace is None else namespace
        where = Scope(namespace=inside if kind.namespaced else "", labels=labels)
        try:
            return await watching.every(self.cluster, kind, where)
        except NotFound as error:  # a list is empty where there are no objects, so it is the kind that is not there
            hint = (
                "Install Headrace's CRDs and controllers there." if kind.group in {HEADRACE_GROUP, FLUID_GROUP} else ""
            )
            raise NotFound(f"This cluster knows no {kind.resource}.", hint=hint) from error

    async def apply(self, manifest: Json, *, base: Path | None = None, dry_run: bool = False) -> tuple[str, Doc[Any]]:
        """Make the server's object what `manifest` says. Idempotent.

        Args:
            base: where a TrainJob's `spec.code.directory` starts from; the current directory by default.

        Returns:
            `created`, `configured` or `unchanged`, and the object.
        """
        kind = manifests.kind_of(manifest)
        meta = jobs.section(manifest, "metadata")
        if not meta.get("name"):
            way = "headrace run -f FILE makes a name up." if kind is TRAIN_JOB else "Give the object a name."
            raise InvalidSpec(f"{kind.name}: metadata.name is missing.", hint=way)
        ref = self.ref(kind, meta["name"], meta.get("namespace") or "")
        if kind is TRAIN_JOB:
            manifest = await self._packed(manifest, ref.namespace, base, dry_run)
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
        changed = await self.cluster.patch(kind, ref, MergePatch(patch), dry_run=dry_run)
        # The server may store what was written in other words, so only the version tells whether something changed.
        return "unchanged" if not dry_run and changed.version == live.version else "configured", changed

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
            async with self.changes(kind, ref) as states:
                async for seen in states:
                    if until(seen):
                        return seen
        raise Unavailable(
            f"{kind.name} {ref} did not get there within {timeout_s:g} s{jobs.last_words(seen)}.",
            hint=f"Look at it with: headrace describe {kind.singular} {name}",
        )

    def changes(self, kind: Kind[Any], ref: Ref) -> AbstractAsyncContextManager[AsyncIterator[Doc[Any] | None]]:
        """Stream an object's states from now on, None while it is absent; goes on over cuts until the caller leaves."""
        return watching.states(self.cluster, kind, ref)

    # -- jobs ------------------------------------------------------------------------------------------------------

    async def submit(self, job: Json, *, base: Path | None = None, dry_run: bool = False) -> Doc[Any]:
        """Create a TrainJob. Its `spec.code.directory` (relative to `base`) is packed and uploaded first.

        Raises InvalidSpec for what is wrong with the job or the directory, AlreadyExists for a used name.
        """
        body = jobs.prepared(job, self.namespace)
        body = await self._packed(body, body["metadata"]["namespace"], base, dry_run)
        return await self.cluster.create(TRAIN_JOB, body, dry_run=dry_run)

    async def _packed(self, body: Json, namespace: str, base: Path | None, dry_run: bool) -> Json:
        directory = jobs.code_directory(body)
        if directory is None:
            return body
        archive = await anyio.to_thread.run_sync(code.pack, (base or Path.cwd()) / directory)
        if not dry_run:
            await self.upload_code(archive, namespace)
        return jobs.with_archive(body, archive.digest)

    async def upload_code(self, archive: code.Archive, namespace: str = "") -> None:
        """Store a code archive unless the cluster has it already. Idempotent."""
        path = f"namespaces/{namespace or self.namespace}/code/{archive.digest.removeprefix('sha256:')}"
        if not (await self._read(f"{path}/known"))["known"]:
            await self._read(path, method="PUT", body=archive.content)

    async def stop(self, name: str, *, namespace: str = "") -> Doc[Any]:
        """Ask a job to stop: its pods get their grace period, what it used is billed, the object stays.

        One that has ended already is left as it is. Returns at once; the phase becomes Suspended later.
        """
        job = await self.get(TRAIN_JOB, name, namespace=namespace)
        if jobs.is_finished(job):
            return job
        return await self.cluster.patch(TRAIN_JOB, job.ref, MergePatch({"spec": {"suspend": True}}))

    async def why(self, name: str, *, namespace: str = "") -> Json:
        """Return why a job waits (or does not): place in the queue, blockers, choices with costs, and their sources."""
        return await self._read(f"namespaces/{namespace or self.namespace}/trainjobs/{quote(name, safe='')}/waiting")

    async def quote(self, job: Json) -> Json:
        """Return what a job that is not submitted yet would cost and when it would start, a choice per pool."""
        body = jobs.prepared(job, self.namespace)
        if jobs.code_directory(body) is not None:
            body = jobs.with_archive(body)  # what the code is changes no price, and packing takes time
        return await self._read(f"namespaces/{body['metadata']['namespace']}/quote", method="POST", body=body)

    def logs(
        self,
        name: str,
        *,
        namespace: str = "",
        follow: bool = True,
        container: str = "",
        worker: str = "",
        tail_lines: int | None = None,
        since_s: float | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[LogLine]]:
        """Stream the lines of all workers of a job; see `logs.log_lines`."""
        ref = self.ref(TRAIN_JOB, name, namespace)
        return log_lines(
            self.cluster,
            ref,
            follow=follow,
            container=container,
            worker=worker,
            tail_lines=tail_lines,
            since_s=since_s,
        )

    async def worker_pod(self, name: str, worker: str = "", *, namespace: str = "") -> Doc[Any]:
        """Return the running pod of a worker (`worker-1`; the first by default); raises NotFound when it does not run."""
        job = await self.get(TRAIN_JOB, name, namespace=namespace)
        pods = await self.list(POD, namespace=job.namespace, labels=f"{JOB_LABEL}={name}")
        return jobs.running_worker(pods, name, worker)

    async def exec(
        self,
        name: str,
        command: Sequence[str],
        *,
        worker: str = "",
        container: str = jobs.MAIN_CONTAINER,
        stdin: bytes = b"",
        namespace: str = "",
    ) -> ExecResult:
        """Run a command in a worker and wait for it. Its exit code is a value, not an error."""
        pod = await self.worker_pod(name, worker, namespace=namespace)
        return await self.cluster.exec(pod.ref, command, container=container, stdin=stdin)

    # -- data ------------------------------------------------------------------------------------------------------

    async def connect_dataset(self, claim: str, profile: str, *, namespace: str = "") -> Doc[Any]:
        """Label a claim so that its data can be reached from every pool; `profile` names the ThinRuntimeProfile."""
        return await self.set_metadata(
            PERSISTENT_VOLUME_CLAIM, claim, labels={RUNTIME_PROFILE_LABEL: profile}, namespace=namespace
        )

    async def wait_for_dataset(self, claim: str, *, namespace: str = "", timeout_s: float) -> Doc[Any]:
        """Wait until a claim's Dataset has `MountVerified`: a probe mount has listed it wherever it may go.

        Raises NotFound where there is no such claim, Conflict where it is not connected, and Unavailable with the last
        condition, such as the client's own error, when `timeout_s` passes first.
        """
        return await verified_dataset(self.cluster, self.ref(PERSISTENT_VOLUME_CLAIM, claim, namespace), timeout_s)

    # -- money -----------------------------------------------------------------------------------------------------

    async def usage(self, **filters: str) -> Json:
        """Return priced spans. Filters: namespace, job, pool, user, since, until (RFC 3339), by."""
        return await self._read("usage", query={key: value for key, value in filters.items() if value})

    async def replay(self, **filters: str) -> Json:
        """Price all metering events again from the beginning and compare with what was billed."""
        return await self._read("usage/replay", query={key: value for key, value in filters.items() if value})

    async def _read(self, path: str, *, method: str = "GET", query: Any = None, body: Any = None) -> Json:
        try:
            answer: Json = await self.cluster.request(method, f"{READS}/{path}", query=query, body=body)
        except NotFound as error:
            if await self._answers_reads():
                raise
            raise Unavailable(
                "This cluster does not answer Headrace's computed reads (waiting, quote, usage, code).",
                hint=f"Install Headrace there; the API group {READS_GROUP} is missing.",
            ) from error
        return answer

    async def _answers_reads(self) -> bool:
        try:
            await self.cluster.request("GET", READS)
        except NotFound:
            return False
        return True
