"""Dataset, ThinRuntime, profile and bound volumes become one `ResolvedDataset` and its `config.json`.

The only place where the four meet, so that reconcilers, injection, probes and the CSI driver cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.data.client import ResolvedDataset
from headrace.data.runtime.config import ClaimVolume, ClientConfig, claims_of, is_read_only, render_config
from headrace.data.runtime.deputy import refuse_forbidden_use
from headrace.data.runtime.merge import merge_client
from headrace.spec.kind import Json
from headrace.spec.kinds import THIN_RUNTIME_PROFILE
from headrace.spec.names import FUSE_CONFIG_MAP_SUFFIX, WRAPPER_LABEL
from headrace.spec.normalise import normalise


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What one Dataset is made of, as whole raw objects. `volumes` are by claim, for `pvc://` mounts."""

    dataset: Json
    runtime: Json
    profile: Json
    volumes: Mapping[str, ClaimVolume] = field(default_factory=dict)


def assemble(sources: Sources) -> tuple[ResolvedDataset, ClientConfig]:
    """Return the dataset as pods can use it, and its rendered configuration.

    Raises:
        InvalidSpec, Unsupported: something in the objects cannot be carried out.
        Denied: the profile is not for this namespace or volume.
    """
    dataset = sources.dataset
    profile, _ = normalise(THIN_RUNTIME_PROFILE, sources.profile)
    refuse_forbidden_use(profile, dataset, sources.volumes.values())
    client = merge_client(profile, sources.runtime)
    config = render_config(
        dataset,
        runtime_options=_fuse(sources.runtime).get("options") or {},
        volumes=sources.volumes,
        secret_policy=str((profile.get("spec") or {}).get("nodePublishSecretPolicy", "")),
    )
    meta = dataset["metadata"]
    resolved = ResolvedDataset(
        namespace=meta["namespace"],
        name=meta["name"],
        claim=claim_that_pods_name(dataset),
        client=client,
        config_map=config_map_name(meta["name"]),
        secrets=config.secrets,
        read_only=is_read_only(dataset, sources.volumes),
    )
    return resolved, config


def config_map_name(dataset: str) -> str:
    """Return the name of the ConfigMap with a Dataset's `config.json`."""
    return f"{dataset}{FUSE_CONFIG_MAP_SUFFIX}"


def is_wrapped(dataset: Json) -> bool:
    """Tell whether the PVC wrapper made this Dataset: it then has no volume and claim of its own."""
    return WRAPPER_LABEL in (dataset["metadata"].get("labels") or {})


def claim_that_pods_name(dataset: Json) -> str:
    """Return the claim by which pods use a Dataset: the wrapped one, or its own of the same name."""
    claims = claims_of(dataset)
    return claims[0] if claims and is_wrapped(dataset) else str(dataset["metadata"]["name"])


def _fuse(runtime: Json) -> Mapping[str, Any]:
    return (runtime.get("spec") or {}).get("fuse") or {}
