"""Waits until the data of a claim can really be reached: the Dataset made for it, and its verified mount."""

from __future__ import annotations

from typing import Any

import anyio

from headrace.cluster.protocol import Cluster, Scope
from headrace.errors import Conflict, Unavailable
from headrace.sdk import jobs, watching
from headrace.spec.conditions import is_true
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import DATASET, PERSISTENT_VOLUME_CLAIM
from headrace.spec.names import RUNTIME_PROFILE_LABEL, WRAPPER_LABEL

VERIFIED = "MountVerified"


async def verified_dataset(cluster: Cluster, claim: Ref, timeout_s: float) -> Doc[Any]:
    """Return the Dataset of a claim once it has the condition `MountVerified`; see `AsyncClient.wait_for_dataset`."""
    owner = await cluster.get(PERSISTENT_VOLUME_CLAIM, claim)
    if RUNTIME_PROFILE_LABEL not in owner.labels:
        raise Conflict(
            f"Claim {claim} is not connected to a profile.",
            hint=f"Connect it: headrace datasets connect {claim.name} --profile PROFILE",
        )
    seen: Doc[Any] | None = None
    where = Scope(namespace=claim.namespace, labels=f"{WRAPPER_LABEL}={owner.uid}")
    with anyio.move_on_after(timeout_s):
        async with watching.documents(cluster, DATASET, where) as datasets:
            async for seen in datasets:
                if is_true(seen, VERIFIED):
                    return seen
    if seen is None:
        owner = await cluster.get(PERSISTENT_VOLUME_CLAIM, claim)
        raise Unavailable(
            f"Claim {claim} got no Dataset within {timeout_s:g} s{jobs.last_words(owner)}.",
            hint=f"Look at it with: headrace describe pvc {claim.name}",
        )
    raise Unavailable(
        f"Dataset {seen.ref} was not verified within {timeout_s:g} s{jobs.last_words(seen)}.",
        hint=f"Look at it with: headrace describe dataset {seen.name}",
    )
