"""Builders of pods, profiles and datasets, as raw JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace.data.client import Client, ClientTools, ResolvedDataset
from headrace.data.modes.mode import Capabilities
from headrace.spec.kind import Json


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
