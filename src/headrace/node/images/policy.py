"""What an imagePullPolicy asks for, given what is here. Pure; the words of refusals are kubelet's.

Source: kubernetes v1.36 `pkg/kubelet/images/image_manager.go` (EnsureImageExists), with KubeletEnsureSecretPulledImages: an
image that was pulled with somebody's secret is not free for a pod that does not have it.
"""

from __future__ import annotations

from typing import Literal

PullPolicy = Literal["Always", "IfNotPresent", "Never"]
Decision = Literal["use", "pull", "refuse"]

FIRST_BACK_OFF_S = 10.0
"""Kubelet's first pause after a failed pull; it doubles up to the same 300 s as a crashing container's."""


def decide(policy: PullPolicy, *, is_present: bool, is_accessible: bool) -> Decision:
    """Return what to do.

    Args:
        is_accessible: whether the image was pulled without a secret, or with one that the pod has too.
    """
    if policy == "Always":
        return "pull"
    if is_present and is_accessible:
        return "use"
    return "refuse" if policy == "Never" else "pull"
