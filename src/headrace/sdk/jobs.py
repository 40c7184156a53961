"""What a client knows about TrainJobs: preparing one, telling how far it is, and finding its workers."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from headrace.errors import InvalidSpec, NotFound
from headrace.ids import name_suffix
from headrace.spec.headrace.trainjob import TERMINAL_PHASES
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import TRAIN_JOB
from headrace.spec.names import INDEX_LABEL, JOB_LABEL, ROLE_LABEL

MAIN_CONTAINER = "main"
SUSPENDED = "Suspended"
_NO_DIGEST = f"sha256:{'0' * 64}"


def prepared(job: Json, namespace: str) -> Json:
    """Return a copy of a TrainJob as it can be created: kind, namespace and a name where they were left out.

    Raises InvalidSpec for what is no TrainJob at all; its fields are the server's to judge.
    """
    body = copy.deepcopy(job)
    if body.get("apiVersion", TRAIN_JOB.api_version) != TRAIN_JOB.api_version or body.get("kind", "TrainJob") != (
        TRAIN_JOB.name
    ):
        raise InvalidSpec(
            f"A {body.get('kind')} of {body.get('apiVersion')} cannot be run.",
            hint="Give a TrainJob of headrace.io/v1alpha1, or use: headrace apply -f FILE",
        )
    body |= {"apiVersion": TRAIN_JOB.api_version, "kind": TRAIN_JOB.name}
    meta, _spec = section(body, "metadata"), section(body, "spec")
    if not meta.get("namespace"):
        meta["namespace"] = namespace
    if not meta.get("name"):
        meta["name"] = f"{meta.pop('generateName', None) or 'job-'}{name_suffix()}"
    return body


def section(body: Json, field: str) -> Json:
    """Return a mapping of a manifest, made where it is missing or empty; raises InvalidSpec where it is no mapping."""
    value = body.get(field)
    if value is None:
        value = body[field] = {}
    if not isinstance(value, dict):
        raise InvalidSpec(f"{field} must be a mapping, not {value!r}.", hint="See docs/reference/trainjob.md")
    return value


def code_directory(body: Json) -> str | None:
    """Return the directory that a TrainJob's manifest names to be packed; None where there is none."""
    spec = body.get("spec")
    code = spec.get("code") if isinstance(spec, dict) else None
    directory = code.get("directory") if isinstance(code, dict) else None
    return str(directory) if directory else None


def with_archive(body: Json, digest: str = _NO_DIGEST) -> Json:
    """Return a manifest with the packed archive in the place of its code directory."""
    code = {field: value for field, value in body["spec"]["code"].items() if field != "directory"}
    return {**body, "spec": {**body["spec"], "code": {**code, "archive": digest}}}


def phase(job: Doc[Any]) -> str:
    """Return the job's phase; one that no controller has seen yet is queued."""
    return str(job.status.get("phase") or "Queued")


def is_finished(job: Doc[Any]) -> bool:
    """Tell whether the job has ended for good."""
    return phase(job) in TERMINAL_PHASES


def has_stopped(job: Doc[Any] | None) -> bool:
    """Tell whether nothing of the job runs and nothing will unless somebody acts: it has ended or is suspended."""
    return job is not None and (is_finished(job) or phase(job) == SUSPENDED)


def exit_code(job: Doc[Any]) -> int:
    """Return the code a shell should see: the job's own when it failed with one, 0 for success, else 1."""
    if phase(job) == "Succeeded":
        return 0
    code = job.status.get("exitCode")
    return code if isinstance(code, int) and 0 < code < 256 else 1


def worker_count(job: Doc[Any]) -> int:
    """Return how many workers the job has, over all its roles."""
    roles = job.spec.get("roles") or {}
    if roles:
        return sum(int((role or {}).get("replicas") or 1) for role in roles.values())
    return int(job.spec.get("workers") or 1)


def last_words(doc: Doc[Any] | None) -> str:
    """Return the message of the condition that matters most, as a clause for an error; empty when there is none."""
    if doc is None:
        return "; it does not exist"
    if doc.status.get("message"):
        return f"; last: {doc.status['message']}".rstrip(".")
    conditions = doc.status.get("conditions") or []
    bad = [c for c in conditions if c.get("status") != "True" and c.get("message")]
    chosen = bad[-1:] or conditions[-1:]
    return f"; last: {chosen[0].get('message') or chosen[0].get('reason')}".rstrip(".") if chosen else ""


def worker_name(pod: Doc[Any]) -> str:
    """Return `worker-0`: role and index of a pod of a job."""
    return f"{pod.labels.get(ROLE_LABEL, 'worker')}-{pod.labels.get(INDEX_LABEL, '0')}"


def running_worker(pods: Iterable[Doc[Any]], job: str, worker: str) -> Doc[Any]:
    """Return the running pod of a worker, of the newest attempt; without a name, of the first worker.

    Raises NotFound that names the workers which do run.
    """
    running = [pod for pod in pods if pod.labels.get(JOB_LABEL) == job and pod.status.get("phase") == "Running"]
    running.sort(key=lambda pod: (pod.meta.get("creationTimestamp", ""), pod.name))
    names = sorted({worker_name(pod) for pod in running})
    wanted = worker or next((name for name in names if name.endswith("-0")), "")
    found = [pod for pod in running if worker_name(pod) == wanted]
    if found:
        return found[-1]
    if names:
        raise NotFound(f"{job} has no running worker {worker!r}.", hint=f"These run: {', '.join(names)}.")
    raise NotFound(f"{job} has no running worker.", hint=f"See how it is with: headrace show {job}")
