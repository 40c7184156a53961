"""What others may know of a claim's data: a small value for placement, and nothing of how it is mounted."""

from __future__ import annotations

from dataclasses import dataclass

CLAIM_NOT_SHAREABLE = "ClaimNotShareable"
NATIVE_MODE = "native"


@dataclass(frozen=True, kw_only=True)
class DatasetState:
    """One claim of a job, as scheduling sees it.

    Args:
        claim: `namespace/name`.
        dataset: `namespace/name` of the Dataset behind it; empty for a claim that nobody shares.
        is_shared: it may be used beyond the nodes of its own driver.
        is_ready: a shared claim's Dataset is configured, or an ordinary claim exists.
        reason, message: why it is not shared or not ready; a reason of CamelCase and a sentence with the cure.
        pools: names of the only pools it may go to (annotation `headrace.io/pools`); None says nothing.
        verified_pools: where a probe mount has really listed it.
        failed_pools: where one has failed, and the client's words.
        read_only: nobody may write.
        access_modes: the claim's.
        size_bytes, cached_bytes: None where unknown.
        needs_driver: its volume is mounted by a CSI driver, which serverless nodes do not have.
    """

    claim: str
    dataset: str = ""
    is_shared: bool = False
    is_ready: bool = False
    reason: str = ""
    message: str = ""
    pools: frozenset[str] | None = None
    verified_pools: frozenset[str] = frozenset()
    failed_pools: tuple[tuple[str, str], ...] = ()
    read_only: bool = False
    access_modes: tuple[str, ...] = ()
    size_bytes: int | None = None
    cached_bytes: int | None = None
    needs_driver: bool = True

    def refusal(self, pool: str, mode: str) -> tuple[str, str]:
        """Return why pods of a pool cannot have this claim, as reason and sentence; two empty texts when they can.

        Args:
            mode: the pool's `dataAccess.mode`.
        """
        if self.pools is not None and pool not in self.pools:
            allowed = ", ".join(sorted(self.pools)) or "none"
            return "PoolNotAllowed", f"Claim {self.claim} may only go to these pools: {allowed} (headrace.io/pools)."
        if mode == NATIVE_MODE:
            return ("", "") if self.is_ready or self._is_wrapped else (self.reason, self.message)
        if not self.is_shared:
            is_sent_there = self.pools is not None and self.is_ready and not self.needs_driver
            return ("", "") if is_sent_there else (self.reason, self.message)
        if not self.is_ready:
            return self.reason, self.message
        if pool in self.verified_pools:
            return "", ""
        for failed, words in self.failed_pools:
            if failed == pool:
                return "MountFailed", f"Claim {self.claim} could not be mounted in pool {pool}: {words}"
        return "MountNotVerified", f"Claim {self.claim} has not been listed in pool {pool} yet; a probe is on its way."

    @property
    def _is_wrapped(self) -> bool:
        """A wrapped claim's own driver needs no Dataset, and may have to bind the claim first."""
        return bool(self.dataset) and self.dataset != self.claim
