"""What a program in a container sees, may do, and leaves behind."""

import os
import time
from pathlib import Path

import pytest

from headrace.sandbox.testing import RunningWorld, family, missing_features, read_log, running_world, wait_until
from headrace.sandbox.wire import Refusal


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_output_goes_to_the_log_and_the_exit_code_to_the_journal(world: RunningWorld) -> None:
    ended = world.run("p", shell("echo out; echo err >&2; printf unfinished; exit 7"))
    assert (ended.stdout, ended.stderr) == ("out\nunfinished\n", "err\n")
    assert (ended.entry["exit_code"], ended.entry["signal"]) == (7, 0)


def test_the_program_has_no_privilege_at_all(world: RunningWorld) -> None:
    for uid in (0, 1000, 65534):
        status = world.run("p", ["cat", "/proc/self/status"], container=f"as-{uid}", uid=uid, gid=uid).stdout
        fields = dict(line.split(":\t", 1) for line in status.splitlines())
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(fields[name], 16) == 0, name
        assert fields["NoNewPrivs"] == "1"
        assert fields["Uid"].split() == [str(uid)] * 4
        assert fields["Gid"].split() == [str(uid)] * 4


def test_it_sees_its_own_processes_only(world: RunningWorld) -> None:
    world.start("p", "neighbour", ["sleep", "1000"])
    seen = world.run("p", shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' '; kill -9 1; kill -9 -1; echo alive"))
    assert "sleep 1000" not in seen.stdout
    state = {c["container"]: c["state"] for c in world.client.call("state")["pods"][0]["containers"]}
    assert state == {"neighbour": "running", "main": "exited"}


def test_it_cannot_look_into_its_pid_1(world: RunningWorld) -> None:
    ended = world.run("p", shell("cat /proc/1/environ; ls /proc/1/root/; cat /proc/1/fd/0"))
    assert ended.stderr.count("Permission denied") == 3


def test_hostname_environment_directory_and_terminal_are_its_own(world: RunningWorld) -> None:
    ended = world.run("p", shell("hostname; pwd; env | sort; ps -o tty= -p $$"), env={"A": "b c"}, cwd="/tmp")
    assert ended.stdout.split("\n") == ["host-of-p", "/tmp", "A=b c", ended.stdout.split("\n")[3], "PWD=/tmp", "?", ""]
    assert ended.stdout.split("\n")[3].startswith("PATH=")


def test_the_host_root_is_read_only_and_tmp_private(world: RunningWorld, tmp_path: Path) -> None:
    ended = world.run(
        "p",
        shell("touch /x; touch /etc/x; touch /dev/x && rm /dev/x; ls -A /tmp /dev/shm; echo 1 > /tmp/x && cat /tmp/x"),
    )
    assert ended.stderr.count("Read-only file system") == 2
    assert ended.stdout == "/dev/shm:\n\n/tmp:\n1\n"


def test_a_minimal_dev_works(world: RunningWorld) -> None:
    script = (
        "echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo y | tee /dev/full;"
        "ls /dev | tr '\\n' ' '; echo z > /dev/stderr; test -c /dev/ptmx && echo ptmx"
    )
    ended = world.run("p", shell(script))
    words = "3 3 y fd full null ptmx pts random shm stderr stdin stdout tty urandom zero ptmx"
    assert " ".join(ended.stdout.split()) == words
    assert "No space left" in ended.stderr
    assert ended.stderr.endswith("z\n")


def test_a_pseudo_terminal_can_be_opened(world: RunningWorld) -> None:
    ended = world.run("p", ["python3", "-c", "import os; m, s = os.openpty(); print(os.ttyname(s))"])
    assert ended.stdout == "/dev/pts/0\n"


def test_files_of_root_stay_closed(world: RunningWorld) -> None:
    """Also where the tests run as root: the world then is nobody's."""
    ended = world.run("p", shell("cat /etc/shadow; cat /etc/gshadow"), uid=0)
    assert ended.stderr.count("Permission denied") == 2
    assert ended.stdout == ""


def test_a_0600_file_of_root_stays_closed(world: RunningWorld, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a file of root's")
    secret = Path(world.directory) / "of-root"
    secret.write_text("secret")
    secret.chmod(0o600)
    mounts = [{"source": str(secret), "target": "/of-root"}]
    ended = world.run("p", ["cat", "/of-root"], uid=0, mounts=mounts)
    assert (ended.exit_code, ended.stdout) == (1, "")


def test_the_worlds_own_directory_is_hidden_and_its_socket_unusable(world: RunningWorld) -> None:
    """Wherever it is: /tmp is private anyway, so a copy of it elsewhere is looked at as well."""
    script = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect('/there/world.sock'); s.settimeout(5)\n"
        "print(s.recv(4096).decode('latin-1')[4:])"
    )
    mounts = [{"source": world.directory, "target": "/there", "read_only": True}]
    ended = world.run("p", ["python3", "-c", script], mounts=mounts)
    assert "a world takes no orders from the processes it runs" in ended.stdout
    ended = world.run("p", ["ls", "-A", "/there"], container="hidden", mounts=mounts, masks=["/there"])
    assert "journal.jsonl" in ended.stdout, "masks are laid under mounts"
    assert world.run("p", ["ls", "-A", "/usr"], container="masked", masks=["/usr/share"]).exit_code == 0


def test_masks_hide_directories_and_files(world: RunningWorld) -> None:
    ended = world.run(
        "p",
        shell("ls -A /usr/share; cat /etc/passwd; touch /usr/share/x"),
        masks=["/usr/share", "/etc/passwd", "/no/such"],
    )
    assert ended.stdout == ""
    assert "Read-only file system" in ended.stderr


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["juicefs"], "command not found in the container: 'juicefs'"),
        (["/no/such/program"], "command not found in the container: '/no/such/program'"),
        (["/etc/passwd"], "may not be executed"),
    ],
)
def test_a_program_that_cannot_start_is_a_failed_start(world: RunningWorld, argv: list[str], sentence: str) -> None:
    with pytest.raises(Refusal, match=sentence) as refused:
        world.start("p", "main", argv)
    assert refused.value.code == "StartFailed"
    assert [entry["type"] for entry in world.journal()] == ["world-started", "pod-created"]
    assert world.run("p", ["true"]).exit_code == 0, "the same attempt may be tried again"


def test_a_missing_directory_or_volume_is_a_failed_start(world: RunningWorld) -> None:
    with pytest.raises(Refusal, match="working directory '/no/dir' cannot be entered"):
        world.start("p", "main", ["true"], cwd="/no/dir")
    with pytest.raises(Refusal, match="volume source /no/source: No such file"):
        world.start("p", "main", ["true"], mounts=[{"source": "/no/source", "target": "/x"}])


def test_a_start_is_answered_once_and_for_all(world: RunningWorld) -> None:
    first = world.start("p", "main", ["sleep", "1000"])
    again = world.start("p", "main", ["sleep", "1000"])
    assert (first["pid"], first["started"]) == (again["pid"], again["started"])
    with pytest.raises(Refusal, match="attempt 0 of container main has not ended"):
        world.start("p", "main", ["true"], attempt=1)
    assert sum(entry["type"] == "container-started" for entry in world.journal()) == 1


def test_what_the_program_leaves_running_ends_with_it(world: RunningWorld) -> None:
    ended = world.run("p", shell("(trap '' TERM HUP; sleep 1000) & setsid sleep 1000 & echo $!"))
    assert ended.exit_code == 0
    pod_pid = next(iter(world.client.call("state")["pods"]))["pod"]
    assert pod_pid == "p"
    assert len(family(world.process.pid)) == 3, "outer, world, pod"


def test_signals_reach_the_program(world: RunningWorld) -> None:
    world.start("p", "main", ["sleep", "1000"])
    follower = world.follow()
    assert world.client.call("container.signal", pod="p", container="main", signal=15)["running"]
    entry = next(event for event in follower.events(10) if event["type"] == "container-exited")
    follower.close()
    assert (entry["exit_code"], entry["signal"]) == (143, 15)
    assert not world.client.call("container.signal", pod="p", container="main", signal=15)["running"]


def test_a_termination_message_is_reported(world: RunningWorld) -> None:
    ended = world.run(
        "p", shell("printf 'last words' > /dev/termination-log"), termination_message_path="/dev/termination-log"
    )
    assert ended.entry["termination_message"] == "last words"


def test_hosts_and_resolver_are_the_containers_own(world: RunningWorld) -> None:
    ended = world.run(
        "p",
        shell("cat /etc/hosts /etc/resolv.conf"),
        etc_hosts="127.64.0.9 gang-0\n",
        resolv_conf="nameserver 127.0.0.1\n",
    )
    assert ended.stdout == "127.64.0.9 gang-0\nnameserver 127.0.0.1\n"


def test_limits_hold(world: RunningWorld) -> None:
    ended = world.run("p", shell("ulimit -n; ulimit -c; ulimit -d"), limits={"nofile": 64, "data_bytes": 1 << 30})
    assert ended.stdout.split() == ["64", "0", str((1 << 30) // 1024)]


def test_too_much_memory_kills_the_container(world: RunningWorld) -> None:
    grow = "import time\nkept = []\nwhile True:\n    kept.append(bytearray(8 << 20)); time.sleep(0.005)"
    ended = world.run("p", ["python3", "-c", grow], limits={"memory_bytes": 96 << 20})
    assert (ended.entry["exit_code"], ended.entry["reason"]) == (137, "OOMKilled")
    assert world.client.call("state")["pods"][0]["containers"][0]["oom"]


MASKED_PROC = """
import os, runpy
from headrace.sandbox import process, syscalls

uid, gid = os.geteuid(), os.getegid()
syscalls.unshare(syscalls.CLONE_NEWNS | (syscalls.CLONE_NEWUSER if uid else 0))
if uid:
    process.map_ids(uid, gid, outside_uid=uid, outside_gid=gid)
syscalls.mount("none", "/", flags=syscalls.MS_PRIVATE | syscalls.MS_REC)
syscalls.mount("/dev/null", "/proc/version", flags=syscalls.MS_BIND)
runpy.run_module("headrace.sandbox.world", run_name="__main__")
"""


def test_a_limit_is_the_containers_own_where_proc_shows_the_machine(tmp_path: Path) -> None:
    if why := missing_features().get("userns"):
        pytest.skip(f"NO USER NAMESPACE: {why}")
    with running_world(tmp_path, main=MASKED_PROC) as masked:
        assert "hides parts of /proc" in masked.client.call("hello")["reasons"]["proc"]
        masked.client.call("pod.create", pod="p")
        machine = shell("ls -d /proc/[0-9]* | wc -l; sleep 0.5")
        seen = masked.run("p", machine, container="small", limits={"memory_bytes": 32 << 20})
        assert (seen.exit_code, int(seen.stdout) > 10) == (0, True)
        grow = shell("head -c 200M /dev/zero | tail -c 190M | sleep 1000")
        ended = masked.run("p", grow, container="big", limits={"memory_bytes": 96 << 20})
        assert ended.entry["reason"] == "OOMKilled"


def test_files_in_memory_count_as_memory(world: RunningWorld) -> None:
    ended = world.run("p", shell("head -c 80M /dev/zero > /tmp/x; sleep 1000"), limits={"memory_bytes": 48 << 20})
    assert ended.entry["reason"] == "OOMKilled"


def test_shared_pages_count_once(world: RunningWorld) -> None:
    fork = (
        "import os, time\nkept = bytearray(os.urandom(1 << 20)) * 40\n"
        "for _ in range(4):\n    if os.fork() == 0: break\ntime.sleep(1.5)"
    )
    ended = world.run("p", ["python3", "-c", fork], limits={"memory_bytes": 110 << 20})
    assert ended.exit_code == 0, "5 × 40 MiB resident, 40 MiB used"


def test_files_in_memory_count_once_when_they_are_mapped(world: RunningWorld) -> None:
    share = (
        "import mmap, os, time\nfd = os.open('/dev/shm/x', os.O_RDWR | os.O_CREAT)\nos.ftruncate(fd, 48 << 20)\n"
        "shown = mmap.mmap(fd, 48 << 20)\nshown[:] = bytes([1]) * (48 << 20)\ntime.sleep(1.5)"
    )
    ended = world.run("p", ["python3", "-c", share], limits={"memory_bytes": 84 << 20})
    assert ended.exit_code == 0, "48 MiB in the file, 48 MiB mapped, 48 MiB used"


def test_logs_rotate(world: RunningWorld) -> None:
    path = world.log_path("p", "main")
    world.run("p", ["seq", "-w", "1", "5000"], log={"path": path, "max_bytes": 20_000, "max_files": 3})
    assert sorted(os.listdir(os.path.dirname(path))) == ["p-main.log", "p-main.log.1", "p-main.log.2"]
    last = [text for part in (f"{path}.1", path) for _, text in read_log(part)]
    assert last[-1] == "5000\n"
    assert [int(text) for text in last] == list(range(int(last[0]), 5001)), "no line is lost at a turn"


def test_the_smallest_pod_is_quick_and_small(world: RunningWorld) -> None:
    """Not a measurement: a bound that only a broken design would pass."""
    began = time.monotonic()
    world.run("p", ["true"])
    assert time.monotonic() - began < 5
    for member in family(world.process.pid):
        with open(f"/proc/{member['pid']}/smaps_rollup") as file:
            assert next(int(line.split()[1]) for line in file if line.startswith("Pss:")) < 10 * 1024
    wait_until(lambda: len(family(world.process.pid)) == 3)
