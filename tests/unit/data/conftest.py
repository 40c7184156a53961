"""Builders of pods, profiles and datasets, as raw JSON."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from headrace.data.client import Client, ClientTools, ResolvedDataset
from headrace.data.modes.mode import Capabilities
from headrace.data.wrapper.objects import dataset_body, runtime_body
from headrace.spec.kind import Doc, Json, Kind
from headrace.spec.kinds import (
    DATASET,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POOL,
    THIN_RUNTIME,
    THIN_RUNTIME_PROFILE,
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def client() -> Client:
    return Client(
        profile="juicefs",
        file_system_type="juicefs",
        image="juicefs:1.4",
        command=("mount.sh",),
        env=({"name": "LEVEL", "value": "info"},),
        resources={"requests": {"cpu": "500m", "memory": "1Gi"}},
        image_pull_secrets=("registry",),
        materialise=("copy.sh", "--all"),
    )


@pytest.fixture
def dataset(client: Client) -> ResolvedDataset:
    return make_dataset(client)


def make_dataset(client: Client, claim: str = "starfs", **changes: Any) -> ResolvedDataset:
    defaults: Json = {
        "namespace": "vision",
        "name": f"{claim}-ds",
        "claim": claim,
        "client": client,
        "config_map": f"{claim}-ds-fuse-conf",
        "secrets": ("credentials",),
    }
    return ResolvedDataset(**{**defaults, **changes})


@pytest.fixture
def datasets(client: Client) -> dict[str, ResolvedDataset]:
    """Two datasets: `starfs` may be written, `images` is read-only."""
    return {
        "starfs": make_dataset(client),
        "images": make_dataset(client, "images", read_only=True, secrets=()),
    }


@pytest.fixture
def dataset_of(client: Client) -> Callable[..., ResolvedDataset]:
    def build(claim: str = "starfs", **changes: Any) -> ResolvedDataset:
        return make_dataset(client, claim, **changes)

    return build


@pytest.fixture
def capabilities() -> Capabilities:
    return Capabilities(tools=ClientTools(served=("served",), start_deadline_s=60, flush_s=15))


@pytest.fixture
def pod() -> Json:
    """One container that reads claim `starfs` at /data."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "train", "namespace": "vision", "labels": {"app": "train"}},
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "image": "train:1",
                    "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
                }
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "starfs"}}],
        },
    }


# -- objects -----------------------------------------------------------------------------------------------------------

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def obj(kind: Kind[Any], name: str, namespace: str = "vision", **fields: Any) -> Json:
    """A stored object: `metadata` in the fields is merged into the usual one."""
    meta = {"name": name, "uid": f"{kind.singular}-{name}", "resourceVersion": "7", "generation": 1}
    meta |= {"creationTimestamp": "2026-01-01T00:00:00Z"}
    if kind.namespaced:
        meta["namespace"] = namespace
    meta |= fields.pop("metadata", {})
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": meta, **fields}


class Builder:
    """Objects of one small world, each with sensible contents and whatever a test changes."""

    now = NOW

    def doc(self, kind: Kind[Any], name: str, **fields: Any) -> Doc[Any]:
        return Doc(kind, obj(kind, name, **fields))

    def claim(self, name: str = "starfs", profile: str | None = "juicefs", **fields: Any) -> Doc[Any]:
        labels = {} if profile is None else {"fluid.io/runtime-profile": profile}
        meta = {"labels": labels, **fields.pop("metadata", {})}
        spec = {"accessModes": ["ReadWriteMany"], "volumeName": f"pv-{name}", **fields.pop("spec", {})}
        status = {"phase": "Bound", **fields.pop("status", {})}
        return self.doc(PERSISTENT_VOLUME_CLAIM, name, metadata=meta, spec=spec, status=status, **fields)

    def volume(self, claim: str = "starfs", **spec: Any) -> Doc[Any]:
        attributes = {"profile": "juicefs", "mountPoint": f"juicefs://{claim}"}
        csi = {"driver": "fuse.headrace.io", "volumeHandle": claim, "volumeAttributes": attributes}
        reference = {"namespace": "vision", "name": claim}
        return self.doc(PERSISTENT_VOLUME, f"pv-{claim}", spec={"csi": csi, "claimRef": reference, **spec})

    def profile(self, name: str = "juicefs", **spec: Any) -> Doc[Any]:
        fuse = {"image": "host", "command": ["mount.sh"]}
        return self.doc(THIN_RUNTIME_PROFILE, name, spec={"fileSystemType": "juicefs", "fuse": fuse, **spec})

    def dataset(self, name: str = "demo", **fields: Any) -> Doc[Any]:
        spec = {"mounts": [{"mountPoint": "s3://bucket", "name": "b"}], **fields.pop("spec", {})}
        return self.doc(DATASET, name, spec=spec, **fields)

    def runtime(self, name: str = "demo", profile: str = "juicefs", **fields: Any) -> Doc[Any]:
        spec = {"profileName": profile, **fields.pop("spec", {})}
        return self.doc(THIN_RUNTIME, name, spec=spec, **fields)

    def wrapped(self, claim: str = "starfs", **fields: Any) -> Doc[Any]:
        """The Dataset behind a claim, as the wrapper makes it."""
        body = dataset_body(self.claim(claim))
        meta = {**body["metadata"], **fields.pop("metadata", {})}
        return self.doc(DATASET, meta["name"], metadata=meta, spec=body["spec"], **fields)

    def wrapped_runtime(self, claim: str = "starfs", profile: str = "juicefs", **fields: Any) -> Doc[Any]:
        body = runtime_body(self.claim(claim), profile)
        meta = {**body["metadata"], **fields.pop("metadata", {})}
        return self.doc(THIN_RUNTIME, meta["name"], metadata=meta, spec=body["spec"], **fields)

    def pool(self, name: str, mode: str = "broker", **fields: Any) -> Doc[Any]:
        status = fields.pop("status", {"conditions": [{"type": "Ready", "status": "True"}]})
        return self.doc(POOL, name, spec={"kind": "serverless", "dataAccess": {"mode": mode}}, status=status, **fields)


@pytest.fixture
def make() -> Builder:
    return Builder()
