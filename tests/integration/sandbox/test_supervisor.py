"""The supervisor as a daemon: order, readiness, restarts, adoption, a second one, and the end."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.sandbox.client import Client
from headrace.sandbox.supervised import is_alive
from headrace.sandbox.testing import family, missing_features, wait_until
from headrace.sandbox.wire import Refusal

Table = dict[str, Any]


class Command:
    """The command line of a supervisor, on one table."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "table.json"
        self.socket = str(home / "own" / "supervisor.sock")
        self.processes: list[Table] = []

    def add(self, name: str, script: str, **more: Any) -> None:
        argv = ["sh", "-c", script]
        self.processes.append({"name": name, "argv": argv, "log": str(self.home / "own" / f"{name}.log"), **more})

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        own = self.home / "own"
        table = {
            "directory": str(own / "run"),
            "lock": str(own / "lock"),
            "socket": self.socket,
            "unprivileged": {"own": [str(own)]},
            "processes": self.processes,
        }
        self.path.write_text(json.dumps(table))
        command = [sys.executable, "-m", "headrace.sandbox.supervisor", "--table", str(self.path), *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def up(self) -> int:
        done = self.run()
        assert done.returncode == 0, done.stderr
        return int(json.loads(done.stdout)["pid"])

    def call(self, op: str, **fields: Any) -> Table:
        with Client(self.socket, timeout_s=30) as client:
            return client.call(op, **fields)

    def process(self, name: str) -> Table:
        return next(process for process in self.call("status")["processes"] if process["name"] == name)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    made = Command(tmp_path)
    yield made
    done = made.run("--down")
    assert done.returncode == 0, done.stderr
    assert not [line for line in processes_with(str(tmp_path)) if "pytest" not in line]


def processes_with(text: str) -> list[str]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{name}/cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if text in line and int(name) != os.getpid():
            found.append(line)
    return found


def alive(pid: int) -> Callable[[], bool]:
    record = family(pid)[0]
    return lambda: is_alive(record)


def test_processes_start_in_order_when_others_are_ready(command: Command) -> None:
    own = command.home / "own"
    command.add(
        "first",
        f"sleep 0.2; echo first >> {own}/order; touch {own}/ready; exec sleep 1000",
        ready={"file": f"{own}/ready"},
    )
    command.add("second", f"echo second >> {own}/order; exec sleep 1000", after=["first"])
    pid = command.up()
    command.call("wait", timeout_s=20)
    status = command.call("status")
    assert (status["pid"], status["ready"]) == (pid, True)
    wait_until(lambda: (own / "order").read_text() == "first\nsecond\n")
    assert os.stat(f"/proc/{pid}").st_uid == (65534 if os.geteuid() == 0 else os.geteuid())


def test_one_beside_another_starts_before_that_is_ready_and_ends_before_it(command: Command) -> None:
    own = command.home / "own"
    lasting = "while :; do sleep 0.01; done"
    command.add(
        "first",
        f"trap 'echo first >> {own}/ends; exit' TERM; until test -e {own}/begun; do sleep 0.01; done; "
        f"touch {own}/ready; {lasting}",
        ready={"file": f"{own}/ready"},
    )
    command.add(
        "second", f"trap 'echo second >> {own}/ends; exit' TERM; touch {own}/begun; {lasting}", beside=["first"]
    )
    command.up()
    command.call("wait", timeout_s=20)
    command.call("stop")
    assert (own / "ends").read_text() == "second\nfirst\n"


def test_it_is_a_daemon(command: Command) -> None:
    command.add("one", "exec sleep 1000")
    pid = command.up()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    parent, group, session, terminal = (int(field) for field in fields[1:5])
    assert parent == 1 or Path(f"/proc/{parent}/comm").read_text() != "python\n"
    assert session == group != os.getsid(0)
    assert terminal == 0
    assert os.readlink(f"/proc/{pid}/cwd") == "/"


def test_a_second_one_is_told_the_pid_of_the_first(command: Command) -> None:
    command.add("one", "exec sleep 1000")
    pid = command.up()
    again = command.run()
    assert json.loads(again.stdout) == {"pid": pid, "already": True}
    assert again.returncode == 0


def test_what_ends_is_started_again_with_growing_pauses(command: Command) -> None:
    command.add("fails", "date +%s%N >> $0.times; exit 3".replace("$0", str(command.home / "own" / "fails")))
    command.up()
    times = command.home / "own" / "fails.times"
    wait_until(lambda: times.exists() and len(times.read_text().split()) >= 4)
    moments = [int(line) for line in times.read_text().split()]
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert gaps[2] > gaps[0]
    process = command.process("fails")
    assert process["restarts"] >= 3
    assert process["last_exit"]["exit_code"] == 3


def test_what_does_not_become_ready_is_named(command: Command) -> None:
    command.add("late", "exec sleep 1000", ready={"file": "/no/such/file"}, ready_within_s=0.3)
    command.add("next", "exec sleep 1000", after=["late"])
    command.up()
    with pytest.raises(Refusal, match=r"late is (starting|backing-off), see .*late\.log; next is waiting"):
        command.call("wait", timeout_s=0.2)
    wait_until(lambda: command.process("late")["restarts"] > 0)
    assert command.process("late")["last_exit"]["reason"] == "not ready within 0.3 s"


def test_a_command_that_is_not_there_is_in_the_log(command: Command) -> None:
    command.processes.append(
        {"name": "none", "argv": ["/no/such/thing"], "log": str(command.home / "own" / "none.log")}
    )
    command.up()
    log = command.home / "own" / "none.log"
    wait_until(
        lambda: log.exists() and "/no/such/thing cannot be started: No such file or directory" in log.read_text()
    )


def test_processes_outlive_it_and_are_adopted(command: Command) -> None:
    command.add("one", "exec sleep 1000")
    first = command.up()
    command.call("wait")
    pid = command.process("one")["pid"]
    gone = alive(first)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not gone())
    second = command.up()
    assert second != first
    command.call("wait")
    assert command.process("one")["pid"] == pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: command.process("one")["pid"] not in (0, pid))
    assert command.process("one")["restarts"] == 1


def test_one_whose_command_has_changed_is_replaced(command: Command) -> None:
    command.add("one", "exec sleep 1000")
    first = command.up()
    command.call("wait")
    pid = command.process("one")["pid"]
    old, gone = alive(pid), alive(first)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not gone())
    command.processes[0]["argv"] = ["sleep", "1001"]
    command.up()
    command.call("wait")
    assert not old()
    assert command.process("one")["pid"] != pid


def test_a_recycled_pid_is_nobody_of_ours(command: Command) -> None:
    command.add("one", "exec sleep 1000")
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        run = command.home / "own" / "run"
        run.mkdir(parents=True)
        record = {"pid": stranger.pid, "start_ticks": 1, "boot_id": "another", "argv": ["sleep", "1000"]}
        (run / "one.json").write_text(json.dumps(record))
        if os.geteuid() == 0:
            os.chown(run, 65534, 65534)
        command.up()
        command.call("wait")
        assert command.process("one")["pid"] != stranger.pid
        command.call("stop")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_stop_ends_dependents_first_and_kills_the_stubborn(command: Command) -> None:
    order = command.home / "own" / "order"
    command.add("base", f"trap 'echo base >> {order}; exit' TERM; while :; do sleep 0.01; done")
    stubborn = f"trap 'echo stubborn >> {order}' TERM; echo up > {order}.up; while :; do sleep 0.01; done"
    command.add("stubborn", stubborn, after=["base"], stop_within_s=0.3)
    pid = command.up()
    command.call("wait")
    wait_until(lambda: os.path.exists(f"{order}.up"))
    supervisor = alive(pid)
    command.call("stop")
    assert order.read_text() == "stubborn\nbase\n"
    wait_until(lambda: not supervisor())
    assert not os.path.exists(command.socket)
    assert os.listdir(command.home / "own" / "run") == ["supervisor.log"]


def test_stop_may_keep_some_for_the_next_one(command: Command) -> None:
    command.add("kept", "exec sleep 1000")
    command.add("ended", "exec sleep 1000", beside=["kept"])
    supervisor = alive(command.up())
    command.call("wait")
    pid, ended = command.process("kept")["pid"], alive(command.process("ended")["pid"])
    command.call("stop", keep=["kept"])
    wait_until(lambda: not supervisor())
    assert not ended()
    assert alive(pid)()
    command.up()
    command.call("wait")
    assert command.process("kept")["pid"] == pid


def test_sigterm_is_down_and_down_works_without_it(command: Command) -> None:
    command.add("one", "exec sleep 1000")
    pid = command.up()
    command.call("wait")
    supervisor, child = alive(pid), alive(command.process("one")["pid"])
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not supervisor())
    assert not child()
    pid = command.up()
    command.call("wait")
    supervisor, child = alive(pid), alive(command.process("one")["pid"])
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not supervisor())
    assert child()
    assert command.run("--down").returncode == 0
    assert not child()


def test_restart_by_name(command: Command) -> None:
    command.add("one", "exec sleep 1000")
    command.up()
    command.call("wait")
    pid = command.process("one")["pid"]
    command.call("restart", name="one")
    wait_until(lambda: command.process("one")["pid"] not in (0, pid))
    with pytest.raises(Refusal, match="there is no process two; there are one"):
        command.call("restart", name="two")


def test_a_table_with_a_mistake(command: Command) -> None:
    command.add("one", "true", after=["two"])
    done = command.run()
    assert done.returncode == 1
    assert "one comes after 'two', which is not listed before it" in done.stderr
    command.processes.clear()


def test_a_world_under_a_supervisor(command: Command) -> None:
    if why := missing_features().get("userns"):
        pytest.skip(f"NO USER NAMESPACES: {why}")
    own = command.home / "own"
    place, sock = str(own / "world"), str(own / "world" / "s")
    argv = [sys.executable, "-m", "headrace.sandbox.world", "--name", "w", "--directory", place, "--socket", sock]
    command.processes.append({"name": "world", "argv": argv, "log": str(own / "world.log"), "ready": {"socket": sock}})
    command.up()
    command.call("wait")
    with Client(sock) as client:
        client.call("pod.create", pod="p")
        log = {"path": str(own / "world" / "c.log")}
        client.call("container.start", pod="p", container="c", argv=["sleep", "1000"], log=log)
    members = family(command.process("world")["pid"])
    assert len(members) == 5
    began = time.monotonic()
    command.call("stop")
    assert time.monotonic() - began < 5
    assert not any(is_alive(member) for member in members)
