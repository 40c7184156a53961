"""Leader election over a coordination.k8s.io/v1 Lease: at most one process works at a time.

How a lease is kept apart from its holder's clock: a candidate measures, on its own clock, how long it has seen the
lease unchanged. The holder stops work `lease_s - renew_deadline_s` before anybody may take the lease, counted from the
moment its last successful renewal was *sent*; the cancel scope around its work carries that deadline, so work stops
even if the renewal hangs. Writes are compare-and-swap, so two candidates cannot both win. A process that was stopped
itself (SIGSTOP, a frozen machine) goes on where it was before its event loop looks at any deadline: whoever writes asks
`is_held` first (`cluster.fenced`).

Source: client-go tools/leaderelection; the same timings.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from headrace.clock import Clock, SystemClock, format_micro_time
from headrace.cluster.backoff import Backoff
from headrace.cluster.protocol import Cluster, MergePatch
from headrace.errors import AlreadyExists, Conflict, HeadraceError, NotFound, Unavailable
from headrace.spec.core.coordination import Lease as LeaseView
from headrace.spec.kind import Doc, Json, Ref
from headrace.spec.kinds import LEASE
from headrace.telemetry import logger

LEADING = "lease.leading"
LOST = "lease.lost"
RENEW_FAILED = "lease.renew_failed"

_RELEASE_TIMEOUT_S = 3.0


class Lease:
    """One candidate for one lease.

    Args:
        ref: the Lease object; made when it is not there.
        identity: unique to this process, such as `<host>_<uuid>`; two candidates of one identity both lead.
        lease_s: an unrenewed lease may be taken after so long.
        renew_deadline_s: the holder stops after so long without a renewal; less than `lease_s`.
        retry_s: pause between tries to take or renew.
        is_final: losing the lease ends `lead` with Unavailable, instead of another campaign.
    """

    def __init__(
        self,
        cluster: Cluster,
        ref: Ref,
        identity: str,
        *,
        lease_s: float = 15.0,
        renew_deadline_s: float = 10.0,
        retry_s: float = 2.0,
        is_final: bool = False,
        clock: Clock | None = None,
    ) -> None:
        assert retry_s < renew_deadline_s < lease_s
        self._cluster = cluster
        self._ref = ref
        self._identity = identity
        self._lease_s = lease_s
        self._renew_deadline_s = renew_deadline_s
        self._is_final = is_final
        self._pause = Backoff(first_s=retry_s, cap_s=retry_s, jitter=0.2)
        self._clock = clock or SystemClock()
        self._log = logger(lease=str(ref), identity=identity)
        self._held: Doc[LeaseView] | None = None
        self._safe_until_s = 0.0
        self._seen: tuple[str, float] = ("", 0.0)  # version of another's lease, and when we first saw it

    @property
    def is_leader(self) -> bool:
        """Whether the lease is held now, as far as this process may know."""
        return self._held is not None

    @property
    def is_held(self) -> bool:
        """Whether nobody else can have the lease at this very moment, however long this process was stopped."""
        return self._held is not None and self._clock.monotonic_s() < self._safe_until_s

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lease, run `work` while it is held, and again after it was lost; returns when `work` does.

        Losing the lease cancels `work`, and raises Unavailable where that is final. The lease is given back at the end, so that the next one need not wait.
        """
        while True:
            fence = anyio.CancelScope()
            fence.deadline = await self._acquire() + self._renew_deadline_s
            self._log.info(LEADING)
            try:
                with fence:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._renew, fence)
                        await work()
                        tasks.cancel_scope.cancel()
            finally:
                await self._release()
            if not fence.cancelled_caught:
                return
            self._log.warning(LOST)
            if self._is_final:
                raise Unavailable(
                    f"The lease {self._ref} was lost, so another one leads now.", hint="Start this process again."
                )

    async def _acquire(self) -> float:
        """Wait until the lease is ours; return when the request that took it was sent."""
        while True:
            sent_at_s, safe_until_s = anyio.current_time(), self._clock.monotonic_s() + self._renew_deadline_s
            try:
                with anyio.fail_after(self._renew_deadline_s):
                    if await self._try_to_take():
                        self._safe_until_s = safe_until_s
                        return sent_at_s
            except (HeadraceError, TimeoutError) as error:
                self._log.info(RENEW_FAILED, error=str(error) or "no answer in time")
            await anyio.sleep(self._pause.delay_s(1))

    async def _try_to_take(self) -> bool:
        try:
            lease = await self._cluster.get(LEASE, self._ref)
        except NotFound:
            return await self._make()
        holder = lease.spec.get("holderIdentity") or ""
        if lease.version != self._seen[0]:
            self._seen = (lease.version, anyio.current_time())
        duration_s = lease.spec.get("leaseDurationSeconds") or self._lease_s
        if holder not in {"", self._identity} and anyio.current_time() < self._seen[1] + duration_s:
            return False
        transitions = (lease.spec.get("leaseTransitions") or 0) + (holder != self._identity)
        now = self._now()
        fields = {**self._fields(now), "acquireTime": now, "leaseTransitions": transitions}
        try:
            self._held = await self._write(lease, fields)
        except (Conflict, NotFound):
            return False
        return True

    async def _make(self) -> bool:
        now = self._now()
        fields = {**self._fields(now), "acquireTime": now, "leaseTransitions": 0}
        body = {"metadata": {"name": self._ref.name, "namespace": self._ref.namespace}, "spec": fields}
        try:
            self._held = await self._cluster.create(LEASE, body)
        except AlreadyExists:
            return False
        return True

    async def _renew(self, fence: anyio.CancelScope) -> None:
        """Move the fence with every renewal; end the work at once when the lease is another's."""
        while True:
            await anyio.sleep(self._pause.delay_s(1))
            sent_at_s, safe_until_s = anyio.current_time(), self._clock.monotonic_s() + self._renew_deadline_s
            assert self._held is not None
            try:
                self._held = await self._write(self._held, self._fields(self._now()))
            except (Conflict, NotFound):
                if not await self._is_still_ours():
                    fence.cancel()
            except HeadraceError as error:
                self._log.info(RENEW_FAILED, error=str(error))
            else:
                fence.deadline, self._safe_until_s = sent_at_s + self._renew_deadline_s, safe_until_s

    async def _is_still_ours(self) -> bool:
        """Look again after a conflict: somebody may only have labelled the lease, or our own answer was lost."""
        try:
            lease = await self._cluster.get(LEASE, self._ref)
        except NotFound:
            return False
        except HeadraceError:
            return True  # not known; the fence decides
        self._held = lease
        return lease.spec.get("holderIdentity") == self._identity

    async def _release(self) -> None:
        held, self._held = self._held, None
        if held is None or held.spec.get("holderIdentity") != self._identity:
            return
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + _RELEASE_TIMEOUT_S):
            try:
                await self._write(held, {"holderIdentity": "", "leaseDurationSeconds": 1})
            except HeadraceError as error:
                self._log.info(RENEW_FAILED, error=str(error))

    async def _write(self, lease: Doc[LeaseView], fields: Json) -> Doc[LeaseView]:
        body = {"metadata": {"resourceVersion": lease.version}, "spec": fields}
        return await self._cluster.patch(LEASE, self._ref, MergePatch(body))

    def _fields(self, now: str) -> Json:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(self._lease_s),
            "renewTime": now,
        }

    def _now(self) -> str:
        return format_micro_time(self._clock.now())
