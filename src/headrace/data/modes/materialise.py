"""Mode `materialise`: where nothing can mount, the client's copy command fills a directory before the app starts.

The copy is the pod's own, complete before any other container starts, and read-only for the app: what an app wrote
would never reach the storage. A node that shares copies between pods gives its own volume source
(`Capabilities.copy_source`).
"""

from __future__ import annotations

from headrace.data.client import ResolvedDataset, require_image
from headrace.data.modes.mode import Capabilities, Parts
from headrace.data.runtime.render import client_container, client_volumes
from headrace.errors import InvalidSpec
from headrace.spec.names import MATERIALISE_ANNOTATION, MATERIALISE_PREFIX


class Materialise:
    """An init container that copies and ends."""

    prefix = MATERIALISE_PREFIX

    def check(self, dataset: ResolvedDataset, *, read_only: bool, capabilities: Capabilities) -> None:  # noqa: ARG002
        """Refuse profiles without a copy command, and pods that want to write."""
        client = dataset.client
        require_image(dataset)
        if not client.materialise:
            raise InvalidSpec(
                f"Dataset {dataset} cannot be copied: its profile {client.profile} has no copy command, and nothing "
                "can be mounted here.",
                hint=f"Set the annotation {MATERIALISE_ANNOTATION} of ThinRuntimeProfile {client.profile} to a JSON "
                "list, the command that copies everything into targetPath.",
            )
        if not read_only and not dataset.read_only:
            raise InvalidSpec(
                f"Dataset {dataset} is a copy here, because nothing can be mounted, and what is written to a copy "
                "would be lost.",
                hint="Mount it with readOnly: true, and write elsewhere.",
            )

    def parts(self, dataset: ResolvedDataset, index: int, *, read_only: bool, capabilities: Capabilities) -> Parts:  # noqa: ARG002
        """Return the copying container and its volumes."""
        name = f"{self.prefix}{index}"
        container = client_container(dataset, name=name, read_only=True, tools=capabilities.tools, stand_in=False)
        container["command"] = list(dataset.client.materialise)
        container.pop("args", None)
        data = f"{name}-data"
        container["volumeMounts"] = [{"name": data, "mountPath": dataset.data_directory}, *container["volumeMounts"]]
        return Parts(
            container=container,
            volumes=({"name": data, **capabilities.copy_source}, *client_volumes(dataset, name=name)),
            data_volume=data,
            pull_secrets=dataset.client.image_pull_secrets,
        )
