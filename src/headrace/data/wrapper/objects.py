"""The Dataset and ThinRuntime behind a claim: their names, and how to tell that they are this claim's."""

from __future__ import annotations

from typing import Any

from headrace.ids import dns_1035_name
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import DATASET, THIN_RUNTIME
from headrace.spec.names import DATASET_FINALIZER, RUNTIME_PROFILE_LABEL, THIN_RUNTIME_FINALIZER, WRAPPER_LABEL


def dataset_name(claim: str) -> str:
    """Return the name of the Dataset behind a claim: a DNS-1035 label that no claim's own name can be mistaken for.

    Fluid gives a Dataset a claim of its own name, so the two must differ.
    """
    return dns_1035_name(claim, "claim")


def dataset_ref(claim: Ref) -> Ref:
    """Return where the Dataset, and the ThinRuntime of the same name, of a claim are."""
    return Ref(claim.namespace, dataset_name(claim.name))


def wanted_profile(claim: Doc[Any]) -> str | None:
    """Return the profile the user asks for by label; None when the claim is not to be wrapped."""
    return claim.labels.get(RUNTIME_PROFILE_LABEL)


def belongs_to(doc: Doc[Any], claim: Doc[Any]) -> bool:
    """Tell whether we made `doc` for this very claim and not for an earlier one of the same name."""
    return doc.labels.get(WRAPPER_LABEL) == claim.uid


def is_ours(doc: Doc[Any]) -> bool:
    """Tell whether the wrapper made `doc`, for whatever claim."""
    return WRAPPER_LABEL in doc.labels


def dataset_body(claim: Doc[Any]) -> Json:
    """Return the Dataset behind a claim; the claim owns it and its access modes are the claim's."""
    return {
        "apiVersion": DATASET.api_version,
        "kind": DATASET.name,
        "metadata": _metadata(claim, DATASET_FINALIZER),
        "spec": dataset_spec(claim),
    }


def dataset_spec(claim: Doc[Any]) -> Json:
    """Return the fields of the Dataset's spec that the wrapper keeps as they are."""
    mount = {"mountPoint": f"pvc://{claim.name}", "name": claim.name, "path": "/"}
    return {"mounts": [mount], "accessModes": list(claim.spec.get("accessModes") or [])}


def runtime_body(claim: Doc[Any], profile: str) -> Json:
    """Return the ThinRuntime behind a claim. Only its profile is the wrapper's; the rest is the user's to override."""
    return {
        "apiVersion": THIN_RUNTIME.api_version,
        "kind": THIN_RUNTIME.name,
        "metadata": _metadata(claim, THIN_RUNTIME_FINALIZER),
        "spec": {"profileName": profile},
    }


def _metadata(claim: Doc[Any], finalizer: str) -> Json:
    """Return metadata with what their own controller would add at once: a write less for each."""
    return {
        "name": dataset_name(claim.name),
        "namespace": claim.namespace,
        "labels": {WRAPPER_LABEL: claim.uid},
        "ownerReferences": [claim.owner_reference(block_deletion=False)],
        "finalizers": [finalizer],
    }
