"""TrainJob: a command, what it needs, and what it reads. Only `command` is required."""

from __future__ import annotations

from typing import Literal

from headrace.spec.core.meta import Condition, ObjectMeta
from headrace.spec.view import Quantity, View

Framework = Literal["pytorch", "tensorflow", "paddle", "deepspeed", "mpi", "jax", "none"]
Priority = Literal["guaranteed", "preferred", "best-effort"]
RetryReason = Literal["NodeLost", "Preempted", "Failed"]
Phase = Literal["", "Queued", "Warming", "Starting", "Running", "Succeeded", "Failed", "Suspended"]
Outcome = Literal["", "Succeeded", "Failed", "NodeLost", "Preempted", "StartTimeout", "Stopped"]

TERMINAL_PHASES: tuple[Phase, ...] = ("Succeeded", "Failed")


class Code(View, frozen=True, kw_only=True):
    """Where the program is: one of directory, git, archive."""

    directory: str = ""
    """A directory of the submitter's machine; CLI and SDK pack it and put archive in its place."""
    git: str = ""
    """A git repository's URL."""
    revision: str = ""
    """Branch, tag or commit of git."""
    archive: str = ""
    """sha256:<hex> of an uploaded archive; what is stored."""


class PythonEnvironment(View, frozen=True, kw_only=True):
    """A Python to run with instead of an image."""

    version: str = ""
    """Such as 3.12."""
    requirements: str = ""
    """Path of a requirements file in the code."""


class WorkerResources(View, frozen=True, kw_only=True):
    """What one worker needs; requests and limits alike."""

    cpu: Quantity | None = None
    """Cores, such as 2 or 500m; 1 by default."""
    memory: Quantity | None = None
    """Memory, such as 4Gi; 1Gi by default."""
    gpu: Quantity | None = None
    """GPUs: a number of any model, or MODEL:number such as A100:1."""
    shm: Quantity | None = None
    """Size of /dev/shm, such as 8Gi; counts as memory."""


class SecretKey(View, frozen=True, kw_only=True):
    """A value from a Secret of the job's namespace."""

    secret: str
    """The Secret's name."""
    key: str
    """The key in it."""


class Role(View, frozen=True, kw_only=True):
    """One kind of worker. What is not said here is the job's."""

    replicas: int = 1
    """How many."""
    command: tuple[str, ...] = ()
    """Its command, where it differs."""
    resources: WorkerResources | None = None
    """What one needs, where it differs."""
    env: dict[str, str | int | float | SecretKey] = {}
    """Additional environment; wins over the job's."""
    image: str = ""
    """Its image, where it differs."""


class JobMount(View, frozen=True, kw_only=True):
    """Something to read or write: a claim, or a source."""

    path: str
    """Where the workers see it; absolute."""
    claim: str = ""
    """A PersistentVolumeClaim of the job's namespace."""
    source: str = ""
    """A storage URL such as s3://bucket/path; a shared Dataset is made for it."""
    secret: str = ""
    """The Secret with the source's credentials."""
    profile: str = ""
    """The ThinRuntimeProfile for the source; picked by the URL's scheme by default."""
    sub_path: str = ""
    """The part of it that is mounted."""
    read_only: bool = False
    """Refuse writes."""


class Output(View, frozen=True, kw_only=True):
    """A result others can refer to by name."""

    path: str
    """Where it is, beneath one of the mounts."""


class Retry(View, frozen=True, kw_only=True):
    """When to try again by itself."""

    limit: int = 3
    """How many times at most."""
    on: tuple[RetryReason, ...] = ("NodeLost", "Preempted")
    """After what: NodeLost, Preempted, Failed."""


class Checkpoint(View, frozen=True, kw_only=True):
    """How the program is asked to save its state."""

    signal: Literal["SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGHUP"] = "SIGTERM"
    """The signal that makes it save and end."""
    grace_seconds: int = 30
    """How long it may take."""


class TrainJobSpec(View, frozen=True, kw_only=True):
    """What to run."""

    command: tuple[str, ...]
    """The program and its arguments."""
    framework: Framework = "none"
    """Whose rendezvous variables libraries shall find: pytorch tensorflow paddle deepspeed mpi jax none."""
    code: Code | None = None
    """Where the program is; in the image by default."""
    workers: int | None = None
    """How many workers; 1 by default. Not together with roles."""
    roles: dict[str, Role] = {}
    """Workers of several kinds, such as chief, worker, ps."""
    resources: WorkerResources = WorkerResources()
    """What one worker needs."""
    env: dict[str, str | int | float | SecretKey] = {}
    """Environment: a text, or {secret, key}."""
    mounts: tuple[JobMount, ...] = ()
    """What is read and written."""
    outputs: dict[str, Output] = {}
    """Results, by name."""
    image: str = ""
    """Container image; `host`, or nothing, is this machine where the engine is embedded."""
    python: PythonEnvironment | None = None
    """A Python instead of an image."""
    queue: str = "default"
    """The queue to wait in."""
    priority: Priority = "preferred"
    """guaranteed, preferred or best-effort."""
    pools: tuple[str, ...] = ()
    """Where it may run; may narrow what queue and data allow. Everywhere by default."""
    expected_duration: str = ""
    """How long it will run; by default the median of earlier runs of this name, else the queue's."""
    retry: Retry = Retry()
    """When to try again."""
    checkpoint: Checkpoint = Checkpoint()
    """How it is asked to save its state."""
    max_duration: str = ""
    """It is ended after this time; never by default."""
    suspend: bool = False
    """Hold it back, or stop it with its state saved. Set to false to go on."""


class PodShape(View, frozen=True, kw_only=True):
    """What the pods of one role take, sidecars included."""

    role: str
    """The role."""
    replicas: int
    """How many pods."""
    resources: dict[str, Quantity] = {}
    """What one pod takes: cpu, memory, gpu/MODEL."""


class Placement(View, frozen=True, kw_only=True):
    """The decision where the current attempt runs."""

    pool: str
    """The Pool."""
    attempt: int
    """The attempt, from 1."""
    shape: tuple[PodShape, ...] = ()
    """What it takes."""
    nodes: dict[str, str] = {}
    """Pod to node, where the pool is packed by node."""
    decided_at: str = ""
    """When it was decided."""
    reason: str = ""
    """Why there, in one word."""
    message: str = ""
    """Why there, in a sentence with the prices of all choices."""


class Attempt(View, frozen=True, kw_only=True):
    """One try at running the job."""

    attempt: int
    """Its number, from 1."""
    pool: str
    """Where it ran."""
    started_at: str = ""
    """When its workers were all running."""
    ended_at: str = ""
    """When it ended."""
    outcome: Outcome = ""
    """Succeeded, Failed, NodeLost, Preempted, StartTimeout, Stopped; empty while it runs."""
    reason: str = ""
    """Why it ended, in one word."""
    message: str = ""
    """Why it ended, in a sentence."""
    exit_code: int | None = None
    """Exit code of the worker that ended it."""


class WorkerCounts(View, frozen=True, kw_only=True):
    """How the current attempt's workers are."""

    total: int = 0
    """How many there are to be."""
    running: int = 0
    """How many run."""
    succeeded: int = 0
    """How many ended well."""
    failed: int = 0
    """How many ended badly."""


class TrainJobStatus(View, frozen=True, kw_only=True):
    """What is known of a job. Position, earliest start and running cost are computed on read."""

    phase: Phase = ""
    """Queued, Warming, Starting, Running, Succeeded, Failed or Suspended."""
    reason: str = ""
    """Why it is so, in one word."""
    message: str = ""
    """Why it is so, in a sentence."""
    conditions: tuple[Condition, ...] = ()
    """Admitted, Running, Complete, Failed, ClaimNotShareable, PathsRelocated, Unsupported and others."""
    placement: Placement | None = None
    """Where the current attempt runs."""
    attempts: tuple[Attempt, ...] = ()
    """All tries, oldest first."""
    workers: WorkerCounts = WorkerCounts()
    """How the current attempt's workers are."""
    exit_code: int | None = None
    """The job's exit code, once it has ended: 0, or that of the first worker that failed."""
    queued_at: str = ""
    """When it last began to wait."""
    started_at: str = ""
    """When it first ran."""
    finished_at: str = ""
    """When it ended for good."""
    observed_generation: int | None = None
    """The metadata.generation the status is about."""


class TrainJob(View, frozen=True, kw_only=True):
    """A training job: a gang of workers that starts whole or not at all."""

    metadata: ObjectMeta = ObjectMeta()
    spec: TrainJobSpec
    status: TrainJobStatus = TrainJobStatus()
