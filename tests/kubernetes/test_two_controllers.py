"""Two controllers on one ledger in PostgreSQL, and the leader dies or stops in the middle of a burst: one gang, one bill.

Each process has a line of its own to the API server, which ends or stops it at a chosen request. Their node is acted.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path

import psutil
import psycopg
import pytest
from tests.kubernetes import objects, roles
from tests.kubernetes.access import Access
from tests.kubernetes.acting_node import ActingNode
from tests.kubernetes.line import Instant, Line
from tests.kubernetes.roles import MERGE, Role, apply, path_of, until
from tests.kubernetes.test_reads import is_available
from tests.postgres import postgres
from tests.storage import free_ports

from headrace.clock import SystemClock
from headrace.install.names import CONTROLLER
from headrace.install.reads import api_service
from headrace.ledger.store import Ledger
from headrace.ledger.usage import bill, replay
from headrace.spec.kind import Json

HOME = "headrace-system"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/headrace-controller"
JOBS, WORKERS, RAN_S = ("first", "second"), 3, 60
PRICE = {"currency": "USD", "startsAt": "Pull", "rates": {"cpu": "0.01/s"}}
COST = Decimal("0.01") * RAN_S * WORKERS * len(JOBS)


class Controllers:
    """Two controllers that are ready, each on its line, and a third one that is starting, for when one dies."""

    def __init__(self, access: Access, kubeconfig: Path, ledger: str, directory: Path) -> None:
        self.access = access
        self.ledger = ledger
        self.directory = directory
        self.spaces: list[str] = []
        self._kubeconfig = kubeconfig
        self._stack = ExitStack()
        self._running: list[tuple[Role, Line]] = []
        self._reads: dict[Role, int] = {}

    def __enter__(self) -> Controllers:
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            self.make_ready()
            for space in self.spaces:
                self.access.call("DELETE", f"/api/v1/namespaces/{space}")
            for space in self.spaces:
                roles.gone(self.access, f"/api/v1/namespaces/{space}")
        finally:
            self._stack.close()

    def make_ready(self) -> None:
        """Bring it to two that are ready, one of which leads."""
        self._running = [(role, line) for role, line in self._running if role.process.poll() is None]
        while len(self._running) < 3:
            self._running.append(self._start())
        until(lambda: self._leaders() and self._ready() > 1, "one leads, and another one is ready")

    def _leaders(self) -> list[tuple[Role, Line]]:
        return [each for each in self._running if each[0].process.poll() is None and each[0].is_leader]

    def _ready(self) -> int:
        return sum(role.ask("/readyz")[0] == 200 for role, _ in self._running)

    def _start(self) -> tuple[Role, Line]:
        line = self._stack.enter_context(Line(self.access))
        mine = line.kubeconfig(self._kubeconfig, self.directory / f"{secrets.token_hex(4)}.kubeconfig")
        (port,) = free_ports(1)
        listen = ("--listen", f"127.0.0.1:{port}")
        role = self._stack.enter_context(roles.controller(self.directory, mine, self.ledger, *listen))
        self._reads[role] = port
        return role, line

    @contextmanager
    def answering(self, role: Role) -> Iterator[None]:
        """Have the API server ask this one what is computed on reading."""
        name = {"name": CONTROLLER, "namespace": HOME}
        # nobody routes to Services on a control plane alone
        spec = {"type": "ExternalName", "externalName": "127.0.0.1"}
        service = api_service(HOME, port=self._reads[role])
        apply(self.access, {"apiVersion": "v1", "kind": "Service", "metadata": name, "spec": spec}, service)
        try:
            until(lambda: is_available(self.access.call("GET", path_of(service))), "the API is available", role.told)
            yield
        finally:
            roles.removed(self.access, [path_of(service)])  # while nobody answers, no namespace can go

    @property
    def leader(self) -> tuple[Role, Line]:
        (found,) = self._leaders()
        return found

    @property
    def successor(self) -> Role:
        """Whoever leads after another one, who may still be there and stopped."""
        return next(role for role, _ in self._leaders())


def program(role: Role) -> psutil.Process:
    """Return the process itself, whose parent bounds its time."""
    (child,) = psutil.Process(role.process.pid).children()
    return child


@pytest.fixture(scope="module")
def controllers(kubernetes: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controllers]:
    directory = tmp_path_factory.mktemp("two")
    with ExitStack() as stack:
        stack.enter_context(roles.installed(kubernetes, HOME))
        kubeconfig = roles.kubeconfig_of(kubernetes, CONTROLLER, HOME, directory)
        ledger = stack.enter_context(stack.enter_context(postgres()).database())
        yield stack.enter_context(Controllers(kubernetes, kubeconfig, ledger, directory))


class Burst:
    """Jobs that only the cloud can take, what became of them, and what they cost."""

    def __init__(self, controllers: Controllers) -> None:
        self.controllers = controllers
        self.access = controllers.access
        self.space = f"burst-{secrets.token_hex(3)}"
        self.pool = f"cloud-{self.space}"
        self._since = ""

    def submit(self) -> None:
        self._since = self._pods()["metadata"]["resourceVersion"]
        apply(
            self.access,
            *(objects.job(self.space, name, workers=WORKERS, pools=[self.pool], queue=self.space) for name in JOBS),
        )

    def phases(self) -> list[str]:
        jobs = self.access.call("GET", f"/apis/headrace.io/v1alpha1/namespaces/{self.space}/trainjobs")["items"]
        return [(job.get("status") or {}).get("phase", "") for job in jobs]

    def await_phase(self, phase: str) -> None:
        until(lambda: self.phases() == [phase] * len(JOBS), f"all are {phase}", lambda: (self.phases(), self._told()))

    def await_metered(self) -> None:
        def kept() -> list[str]:
            return [pod["metadata"]["name"] for pod in self._pods()["items"] if pod["metadata"].get("finalizers")]

        until(lambda: not kept(), "all are metered", lambda: (kept(), self._told()))

    def run(self) -> None:
        """Submit it and bring it to its end, whoever leads meanwhile."""
        self.submit()
        self.finish()

    def finish(self) -> None:
        self.await_phase("Running")
        self.node.finish()
        self.await_end()

    def await_end(self) -> None:
        self.await_phase("Succeeded")
        self.await_metered()

    def check(self) -> None:
        """Check that there was one gang a job, and one bill, exact and proved by its events."""
        expected = sorted(f"{job}-1-worker-{i}" for job in JOBS for i in range(WORKERS))
        made = {uid: name for kind, name, uid in self._history() if kind == "ADDED"}
        assert sorted(made.values()) == expected
        assert not [name for kind, name, _ in self._history() if kind == "DELETED"]
        for job in JOBS:
            path = f"/apis/headrace.io/v1alpha1/namespaces/{self.space}/trainjobs/{job}"
            attempts = self.access.call("GET", path)["status"]["attempts"]
            assert [(a["attempt"], a["outcome"]) for a in attempts] == [(1, "Succeeded")]
        ledger = Ledger(self.controllers.ledger)
        try:
            events, spans = ledger.events(namespace=self.space), ledger.spans(namespace=self.space)
        finally:
            ledger.close()
        assert sorted((made[e.pod_uid], e.edge) for e in events) == sorted(
            (n, e) for n in expected for e in ("start", "end")
        )
        assert sorted((made[span.pod_uid], span.seconds) for span in spans) == [(name, RAN_S) for name in expected]
        found = bill(spans, "job")
        assert (Decimal(found["total"]), found["final"]) == (COST, True)
        assert replay(events, spans, SystemClock().now())["differences"] == []

    def _history(self) -> list[tuple[str, str, str]]:
        """Return `(what happened, name, uid)` of everything that was ever done to the burst's pods."""
        query = f"watch=1&resourceVersion={self._since}&timeoutSeconds=1"
        with self.access.client() as client:
            answer = client.get(f"/api/v1/namespaces/{self.space}/pods?{query}")
        changes = [json.loads(line) for line in answer.text.splitlines()]
        return [(c["type"], c["object"]["metadata"]["name"], c["object"]["metadata"]["uid"]) for c in changes]

    def _pods(self) -> Json:
        return self.access.call("GET", f"/api/v1/namespaces/{self.space}/pods")

    def _told(self) -> list[str]:
        return [log.read_text()[-2000:] for log in self.controllers.directory.glob("controller-*.log")]

    node: ActingNode


@pytest.fixture
def burst(controllers: Controllers) -> Iterator[Burst]:
    controllers.make_ready()
    made = Burst(controllers)
    queue = objects.queue(made.space, burst={"allow": True})
    capacity = {"cpu": 64, "memory": "256Gi"}
    controllers.spaces.append(made.space)
    roles.project(controllers.access, made.space, HOME)
    apply(controllers.access, queue)
    try:
        with ActingNode(
            controllers.access, made.space, made.pool, ran_s=RAN_S, kind="serverless", capacity=capacity, price=PRICE
        ) as made.node:
            yield made
        roles.check_rights(controllers.directory, HOME, made.space)
    finally:
        controllers.access.call("DELETE", path_of(queue))


@contextmanager
def half_written(url: str) -> Iterator[Callable[[], bool]]:
    """Hold up whoever writes to the ledger between its rows; gives what tells whether somebody waits there."""
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as observer:
        holder.execute("LOCK TABLE spans IN ACCESS EXCLUSIVE MODE")
        yield lambda: bool(observer.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone())
        holder.rollback()


def killed(controllers: Controllers, role: Role) -> Callable[[], None]:
    """Return what kills a leader and lets the other one take the lease without waiting for its end."""

    def kill() -> None:
        program(role).send_signal(signal.SIGKILL)
        role.process.wait(10)
        controllers.access.call("PATCH", LEASE, {"spec": {"leaseDurationSeconds": 1}}, MERGE)

    return kill


def stopped(role: Role) -> Callable[[], None]:
    return lambda: program(role).send_signal(signal.SIGSTOP)


@contextmanager
def going_on(role: Role, line: Line) -> Iterator[None]:
    """Let a leader go on in the end; it must find out by itself that it is none any more."""
    try:
        yield
    finally:
        stopped = program(role)
        line.release()
        stopped.send_signal(signal.SIGCONT)
    assert role.process.wait(30) == 1
    assert "was lost" in role.events()[-1]["error"]


JOB, POD = r"/trainjobs/first/status", r"/pods/first-1-worker-\d"
INSTANTS = {
    "after the placement was written": Instant("after", "PATCH", JOB, '"placement"'),
    "after the attempt was begun": Instant("after", "PATCH", JOB, '"Starting"'),
    "after the gang's Service was made": Instant("after", "POST", "/services$", "first-gang"),
    "before any pod is made": Instant("before", "POST", "/pods$", "first-1-worker"),
    "after one of three pods was made": Instant("after", "POST", "/pods$", "first-1-worker"),
    "before it is said that the gang runs": Instant("before", "PATCH", JOB, '"Running"'),
    "after the end of the job was written": Instant("after", "PATCH", JOB, '"Succeeded"'),
    "after a pod's usage was committed, before it is let go": Instant("before", "PATCH", POD),
}


@pytest.mark.parametrize("instant", INSTANTS.values(), ids=INSTANTS)
def test_a_leader_killed(controllers: Controllers, burst: Burst, instant: Instant) -> None:
    leader, line = controllers.leader
    line.arm(instant, killed(controllers, leader))
    burst.run()
    assert not line.is_armed, "the instant never came"
    assert leader.process.poll() is not None
    burst.check()


def test_a_leader_killed_in_the_middle_of_a_write_to_the_ledger(controllers: Controllers, burst: Burst) -> None:
    leader, _ = controllers.leader
    burst.submit()
    burst.await_phase("Running")
    with half_written(controllers.ledger) as somebody_waits:
        burst.node.finish()
        until(somebody_waits, "the leader writes", leader.told)
        killed(controllers, leader)()
    burst.await_end()
    burst.check()
    with controllers.answering(controllers.successor):
        assert Decimal(headrace(controllers, "usage", burst.space)["total"]) == COST
        assert headrace(controllers, "usage", burst.space, "--replay")["equal"] is True


STOPS = {
    "with a pod on its way, which arrives when all is over": Instant("late", "POST", "/pods$", "first-1-worker"),
    "with a placement on its way, which arrives when all is over": Instant("late", "PATCH", JOB, '"placement"'),
}


@pytest.mark.parametrize("instant", STOPS.values(), ids=STOPS)
def test_a_leader_stopped_for_longer_than_its_lease(controllers: Controllers, burst: Burst, instant: Instant) -> None:
    leader, line = controllers.leader
    line.arm(instant, stopped(leader))
    with going_on(leader, line):
        burst.run()
    assert not line.is_armed, "the instant never came"
    assert controllers.successor is not leader
    burst.check()


def test_a_leader_stopped_in_the_middle_of_a_write_to_the_ledger(controllers: Controllers, burst: Burst) -> None:
    leader, line = controllers.leader
    burst.submit()
    burst.await_phase("Running")
    with ExitStack() as stack:
        with half_written(controllers.ledger) as somebody_waits:
            burst.node.finish()
            until(somebody_waits, "the leader writes", leader.told)
            stack.enter_context(going_on(leader, line))
            stopped(leader)()
        burst.await_end()
    burst.check()


def headrace(controllers: Controllers, verb: str, namespace: str, *words: str) -> Json:
    """Run the command line, as somebody on a machine of their own does."""
    program = str(Path(sys.executable).parent / "headrace")
    command = [program, "--kubeconfig", str(controllers.access.kubeconfig), "-n", namespace]
    done = subprocess.run(
        [*command, verb, *words, "-o", "json"], capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}
    )
    assert done.returncode == 0, done.stderr
    answer: Json = json.loads(done.stdout)
    return answer
