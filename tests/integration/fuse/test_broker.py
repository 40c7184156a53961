"""The broker with real clients that have no privilege: mounting, healing, hanging, and leaving nothing behind."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest
from tests.integration.fuse.conftest import wait_until
from tests.integration.fuse.pods import format_juicefs

if TYPE_CHECKING:
    from tests.integration.fuse.conftest import Container, Node

pytestmark = pytest.mark.fuse

_MOUNT = ("rclone", "mount", "--config", "/dev/null", "--allow-non-empty")

# Takes its mount as every client does and then never serves it.
_SILENT = """
import os, socket, subprocess, sys, time
ours, theirs = socket.socketpair()
subprocess.run(["fusermount3", "-o", "rw,suid,dev", "--", sys.argv[1]], env={"_FUSE_COMMFD": str(theirs.fileno()),
               "PATH": os.environ["PATH"]}, pass_fds=[theirs.fileno()], check=True)
fds = socket.recv_fds(ours, 1, 1)[1]
print("mounted", flush=True)
time.sleep(600)
"""

# Runs a command with the numbers that FUSE knows it by, as the client's entry point does.
_AS_OUTSIDE = """
import os, sys
from headrace.fuse.clients.identity import be_as_outside, is_other_outside
if is_other_outside():
    be_as_outside()
os.execvp(sys.argv[1], sys.argv[1:])
"""

# Begins to serve its mount, then waits in it itself: a thread's request is taken and never answered.
_SELFISH_BEGINS = (
    _SILENT.rpartition("print")[0]
    + """
import struct, threading
unique = struct.unpack_from("=IIQ", os.read(fds[0], 1 << 17))[2]
init = struct.pack("=IIIIHHIIHHI28x", 7, 31, 65536, 0, 12, 9, 131072, 1, 32, 0, 0)
os.write(fds[0], struct.pack("=IiQ", 16 + len(init), 0, unique) + init)
def read():
    while True:
        os.read(fds[0], 1 << 18)
        print("stuck", flush=True)
"""
)
_SELFISH = {
    "another thread": "threading.Thread(target=lambda: os.listdir(sys.argv[1])).start()\nread()",
    "the first thread": "threading.Thread(target=read).start()\nos.listdir(sys.argv[1])",
}

# Opens a file again and again and writes each new outcome with the moment it was seen first.
_READER = """
import time
last, end = None, time.monotonic() + 60
while time.monotonic() < end:
    try:
        with open("/run/app/file") as file:
            seen = file.read()
    except OSError as error:
        seen = f"errno {error.errno}"
    if seen != last:
        print(seen, flush=True)
        last = seen
    time.sleep(0.02)
"""


@pytest.fixture
def storage(node: Node) -> str:
    """A directory of files that clients serve."""
    path = node.directory / "storage"
    path.mkdir()
    path.chmod(0o777)
    (path / "file").write_text("content")
    return str(path)


def _serve(node: Node, name: str, storage: str, *more: str) -> Container:
    client = node.container(name, *_MOUNT, storage, "/run/volume/ds", *more)
    node.served(name)
    return client


def _outcomes(app: Container) -> list[str]:
    return app.output().splitlines()


def _until(app: Container, outcome: str) -> None:
    end = time.monotonic() + 30
    while outcome not in _outcomes(app)[-1:]:
        assert time.monotonic() < end, _outcomes(app)
        time.sleep(0.02)


def test_a_client_without_privilege_is_served_its_mount(node: Node, storage: str) -> None:
    node.volume("v")
    client = _serve(node, "v", storage)
    app = node.container("v", sys.executable, "-c", _READER, is_app=True)
    _until(app, "content")
    [mount] = node.mounts("v")
    assert mount.type == "fuse.rclone"
    assert {"nosuid", "nodev"} <= set(mount.options.split(","))
    assert {"default_permissions", "allow_other"} <= set(mount.super_options.split(","))
    [pid] = client.pids()
    with open(f"/proc/{pid}/status") as file:
        status = file.read()
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert node.order("unregister", id="v")["ok"]
    assert node.mounts("v") == []


def test_read_only_and_names_are_the_registrations(node: Node, storage: str) -> None:
    node.volume("v", read_only=True, source="the-volume", file_system_type="own,suid")
    _serve(node, "v", storage)
    [mount] = node.mounts("v")
    assert (mount.source, mount.type, mount.is_read_only) == ("the-volume", "fuse.own_suid", True)
    written = node.run("sh", "-c", f"echo x > {node.directory}/v/data/ds/new")
    assert "Read-only file system" in written.stderr


def test_a_killed_client_gives_errors_only_until_the_next_one_serves(node: Node, storage: str) -> None:
    node.volume("v")
    first = _serve(node, "v", storage)
    app = node.container("v", sys.executable, "-c", _READER, is_app=True)
    _until(app, "content")
    for times in (1, 2):
        first.signal(signal.SIGKILL)
        first.wait()
        _until(app, f"errno {errno.ENOTCONN}")
        assert len(node.mounts("v")) == times
        first = _serve(node, "v", storage)
        _until(app, "content")
        assert len(node.mounts("v")) == times + 1
    errors = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)  # the last where a page was being read
    assert set(_outcomes(app)) <= {"content", *(f"errno {number}" for number in errors)}
    app.signal(signal.SIGKILL)
    node.order("unregister", id="v")
    assert node.mounts("v") == []


def _juicefs(node: Node) -> Container:
    meta = f"sqlite3://{node.directory}/meta.db"
    if not (node.directory / "meta.db").exists():
        format_juicefs(meta, "--storage", "file", "--bucket", f"{node.directory}/objects/")
        for path in (
            *node.directory.glob("meta.db*"),
            node.directory / "objects",
            *node.directory.glob("objects/**/*"),
        ):
            path.chmod(0o777)
        node.directory.chmod(0o777)
    words = ["juicefs", "--no-agent", "mount", "--no-usage-report", "--hide-internal", "--cache-dir", "/tmp/c"]
    words += ["--metrics", "127.0.0.1:0"]
    client = node.container("v", sys.executable, "-c", _AS_OUTSIDE, *words, meta, "/run/volume/ds", program="juicefs")
    node.served("v")
    return client


def test_juicefs_whose_worker_is_killed_gives_no_error_at_all(node: Node) -> None:
    node.volume("v")
    client = _juicefs(node)
    assert node.run("sh", "-c", f"echo -n content > {node.directory}/v/data/ds/file").returncode == 0
    app = node.container("v", sys.executable, "-c", _READER, is_app=True)
    _until(app, "content")
    supervisor, worker = client.pids()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: client.pids()[0] == supervisor and len(client.pids()) == 2, "juicefs starts another worker")
    assert node.run("cat", f"{node.directory}/v/data/ds/file").stdout == "content"
    assert _outcomes(app) == ["content"]
    assert len(node.mounts("v")) == 1


def test_juicefs_killed_whole_heals_like_every_client(node: Node) -> None:
    node.volume("v")
    client = _juicefs(node)
    assert node.run("sh", "-c", f"echo -n content > {node.directory}/v/data/ds/file").returncode == 0
    app = node.container("v", sys.executable, "-c", _READER, is_app=True)
    _until(app, "content")
    client.signal(signal.SIGKILL)
    client.wait()
    _until(app, f"errno {errno.ENOTCONN}")
    again = _juicefs(node)
    _until(app, "content")
    assert len(node.mounts("v")) == 2
    again.signal(signal.SIGTERM)
    assert again.wait() == 0
    assert node.state("v") == "dead"


def test_a_client_that_ends_gives_back_its_mount_by_abort_and_not_by_unmounting(node: Node, storage: str) -> None:
    node.volume("v")
    client = _serve(node, "v", storage)
    client.signal(signal.SIGTERM)
    assert client.wait() in (0, 128 + signal.SIGTERM)
    [mount] = node.mounts("v")
    assert node.state("v") == "dead"
    listed = node.run("ls", mount.point)
    assert "Transport endpoint is not connected" in listed.stderr


def test_nobody_can_start_on_or_hang_in_a_mount_that_is_never_served(node: Node) -> None:
    node.volume("v", start_deadline_s=1.0)
    client = node.container("v", sys.executable, "-c", _SILENT, "/run/volume/ds")
    begun = time.monotonic()
    app = node.container("v", sys.executable, "-c", _READER, is_app=True)
    _until(client, "mounted")
    answer = node.order("wait", id="v", timeout_s=20)
    assert answer["state"] == "dead"
    assert "did not serve" in answer["message"]
    assert time.monotonic() - begun < 15
    # Where the app stood on the directory before the mount came it sees that; what it must never do is wait for ever.
    assert _outcomes(app) != ["content"]
    assert node.run("stat", f"{node.directory}/v/data/ds").returncode == 1
    [mount] = node.mounts("v")
    assert "suid" not in mount.options.split(",")
    node.order("unregister", id="v")
    assert node.mounts("v") == []


def test_clients_that_die_before_they_serve_do_not_pile_up_mounts(node: Node, storage: str) -> None:
    node.volume("v")
    for _ in range(4):
        client = node.container("v", sys.executable, "-c", _SILENT, "/run/volume/ds")
        _until(client, "mounted")
        client.signal(signal.SIGKILL)
        client.wait()
    assert len(node.mounts("v")) == 2
    _serve(node, "v", storage)
    assert len(node.mounts("v")) == 2


@pytest.mark.parametrize("who", _SELFISH)
def test_a_client_killed_while_it_waits_in_its_own_mount_ends_all_the_same(node: Node, who: str) -> None:
    node.volume("v")
    client = node.container("v", sys.executable, "-c", _SELFISH_BEGINS + _SELFISH[who], "/run/volume/ds")
    _until(client, "stuck")
    client.signal(signal.SIGKILL)
    client.wait(10)
    assert node.state("v") == "dead"


def test_a_stopped_client_is_found_and_everything_can_be_removed(node: Node, storage: str) -> None:
    node.volume("v", stall_deadline_s=2.0)
    client = _serve(node, "v", storage)
    client.signal(signal.SIGSTOP)
    code = "import os; print('listing', flush=True); os.listdir('/run/app')"
    hanging = node.container("v", sys.executable, "-c", code, is_app=True)
    _until(hanging, "listing")
    begun = time.monotonic()
    assert node.order("unregister", id="v")["ok"]
    assert time.monotonic() - begun < 5
    assert hanging.wait(10) == 1
    assert node.mounts("v") == []


def test_a_client_that_stops_answering_is_ended_after_its_deadline(node: Node, storage: str) -> None:
    node.volume("v", stall_deadline_s=0.5)
    client = _serve(node, "v", storage)
    client.signal(signal.SIGSTOP)
    answer = node.order("wait", id="v", timeout_s=25, until=["dead"])
    assert answer["state"] == "dead", answer


def test_a_client_is_dead_when_its_connection_has_ended_and_not_while_it_hangs(node: Node, storage: str) -> None:
    point = str(node.volume("v") / "data" / "ds")
    nothing = node.probe(point)
    assert (nothing.returncode, nothing.stderr) == (1, f"No FUSE file system is mounted at {point}.\n")
    client = _serve(node, "v", storage)
    assert (node.probe(point).returncode, node.probe("--alive", f"{point}/").returncode) == (0, 0)
    client.signal(signal.SIGSTOP)
    hangs = node.probe(point, "0.5")
    assert (hangs.returncode, hangs.stderr) == (1, f"{point} is mounted but nobody answered for 0.5 s.\n")
    assert node.probe("--alive", point, "0.5").returncode == 0
    assert node.order("abort", id="v")["ok"]
    for words in ((point, "5"), ("--alive", point)):
        dead = node.probe(*words)
        assert dead.returncode == 1
        assert dead.stderr.startswith(f"The client of {point} has ended (")
    assert node.probe().returncode == node.probe("--alive").returncode == 2


def test_a_killed_broker_disturbs_no_reader_and_a_new_client_waits_for_its_return(node: Node, storage: str) -> None:
    node.volume("v")
    first = _serve(node, "v", storage)
    app = node.container("v", sys.executable, "-c", _READER, is_app=True)
    _until(app, "content")
    node.kill_broker()
    assert _outcomes(app) == ["content"]
    first.signal(signal.SIGKILL)
    first.wait()
    _until(app, f"errno {errno.ENOTCONN}")
    node.container("v", *_MOUNT, storage, "/run/volume/ds")
    time.sleep(0.5)  # the stand-in is waiting by now
    node.start_broker()
    _until(app, "content")
    node.served("v")
    assert len(node.mounts("v")) == 2


def test_a_restarted_broker_knows_what_is_served(node: Node, storage: str) -> None:
    node.volume("v")
    _serve(node, "v", storage)
    node.kill_broker()
    node.start_broker()
    node.served("v")
    assert [volume["id"] for volume in node.order("list")["volumes"]] == ["v"]


def test_a_client_that_ends_at_once_leaves_nothing(node: Node) -> None:
    node.volume("v")
    client = node.container("v", "rclone", "mount", "--config", "/dev/null", "nosuchremote:", "/run/volume/ds")
    assert client.wait() != 0
    assert node.state("v") == "empty"
    assert node.mounts("v") == []


@pytest.mark.parametrize("place", ["other", "ds/../other", "ds/link/sub", "/etc", "ds/none"])
def test_no_other_place_is_mounted_on(node: Node, place: str) -> None:
    volume = node.volume("v")
    made = node.run("sh", "-ec", f"cd {volume}/data; mkdir other real real/sub; ln -s ../real ds/link")
    assert made.returncode == 0, made.stderr
    code = f"""
import sys
from headrace.fuse import standin
try:
    standin.ask("/run/headrace/fuse/broker.sock", {{"op": "mount", "place": {place!r}, "options": ""}})
except standin.Refused as error:
    sys.exit(f"refused: {{error}}")
"""
    client = node.container("v", sys.executable, "-c", code)
    assert client.wait() == 1
    assert "refused: " in client.output()
    text = node.run("cat", "/proc/self/mountinfo").stdout
    assert " fuse" not in "".join(line for line in text.splitlines() if str(volume) in line)


def test_a_planted_link_in_the_place_of_ds_is_not_followed(node: Node) -> None:
    volume = node.volume("v")
    made = node.run("sh", "-ec", f"cd {volume}/data; rmdir ds; mkdir real; ln -s real ds")
    assert made.returncode == 0, made.stderr
    client = node.container("v", "fusermount3", "-u", "/run/volume/ds")
    assert client.wait() == 0
    silent = node.container("v", sys.executable, "-c", _SILENT, "/run/volume/ds")
    assert silent.wait() == 1
    assert "Too many levels of symbolic links" in silent.output()


def test_a_pod_cannot_give_the_broker_orders(node: Node) -> None:
    if node.kind == "root":
        pytest.skip("there the control socket is in no container")
    node.volume("v")
    code = f"""
import socket
control = socket.socket(socket.AF_UNIX)
control.connect({str(node.broker_directory / "control.sock")!r})
control.sendall(b'{{"op": "list"}}\\n')
print(control.recv(100))
"""
    client = node.container("v", sys.executable, "-c", code)
    client.wait()
    assert "b''" in client.output() or "Broken pipe" in client.output() or "reset" in client.output()


def test_a_client_may_mount_beneath_instead(node: Node, storage: str) -> None:
    volume = node.volume("v")
    made = node.run("mkdir", "-m", "777", f"{volume}/data/ds/first")
    assert made.returncode == 0, made.stderr
    node.container("v", *_MOUNT, storage, "/run/volume/ds/first")
    node.served("v")
    assert node.run("cat", f"{volume}/data/ds/first/file").stdout == "content"
    probe = node.probe(str(volume / "data" / "ds"))
    assert (probe.returncode, probe.stderr) == (0, "")
