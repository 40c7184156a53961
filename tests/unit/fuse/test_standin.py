"""The stand-in reads fusermount's command line as libfuse, go-fuse and bazil write it, and speaks to its broker."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.fuse import standin
from headrace.fuse.install import NAMES, install_standin

_MOUNTINFO = """1 0 254:0 / / rw - ext4 /dev/vda rw
2 1 0:30 / /runtime-mnt/thin/ns/d/thin-fuse rw - tmpfs tmpfs rw
3 2 0:31 / /runtime-mnt/thin/ns/d/thin-fuse/ds rw - fuse.x x rw
4 1 0:32 /data /bound rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("arguments", "action", "options", "mountpoint"),
    [
        (["-o", "rw,fsname=a", "--", "/m"], "mount", "rw,fsname=a", "/m"),
        (["--", "/m"], "mount", "", "/m"),
        (["/m", "-orw"], "mount", "rw", "/m"),
        (["-o", "ro", "-o", "nosuid", "/m"], "mount", "ro,nosuid", "/m"),
        (["-u", "-q", "-z", "--", "/m"], "unmount", "", "/m"),
        (["-uqz", "/m"], "unmount", "", "/m"),
        (["--unmount", "--lazy", "/m"], "unmount", "", "/m"),
        (["--", "-u"], "mount", "", "-u"),
        (["-V"], "version", "", ""),
        (["--version"], "version", "", ""),
    ],
)
def test_command_lines(arguments: list[str], action: str, options: str, mountpoint: str) -> None:
    assert standin.read_arguments(arguments) == {"action": action, "options": options, "mountpoint": mountpoint}


@pytest.mark.parametrize("arguments", [[], ["-u"], ["/a", "/b"], ["-o"]])
def test_command_lines_that_fusermount_refuses(arguments: list[str]) -> None:
    with pytest.raises(standin.Refused):
        standin.read_arguments(arguments)


@pytest.mark.parametrize(
    ("mountpoint", "place"),
    [
        ("/runtime-mnt/thin/ns/d/thin-fuse/ds", "ds"),
        ("/runtime-mnt/thin/ns/d/thin-fuse/ds/", "ds"),
        ("/runtime-mnt/thin/ns/d/thin-fuse/other/sub", "other/sub"),
        ("/bound/ds", "data/ds"),
        ("/nowhere/ds", "nowhere/ds"),
    ],
)
def test_a_place_is_named_from_the_volume_around_it(mountpoint: str, place: str) -> None:
    assert standin.place_of(mountpoint, _MOUNTINFO) == place


class _Broker:
    """Answers every request with what `reply` makes of it, and a descriptor where that is given."""

    def __init__(self, path: Path, reply: Callable[[dict[str, str]], tuple[dict[str, object], list[int]]]) -> None:
        self.requests: list[dict[str, str]] = []
        self._reply = reply
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            peer, _ = self._listener.accept()
            with peer:
                data = peer.recv(65536)
                if not data:
                    return
                request = json.loads(data)
                self.requests.append(request)
                answer, fds = self._reply(request)
                socket.send_fds(peer, [json.dumps(answer).encode()], fds)

    def close(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as last:
            last.connect(str(path))
        self._thread.join(5)
        self._listener.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


def test_the_descriptor_reaches_the_client_with_nothing_else_in_the_environment(
    tmp_path: Path, pipe: tuple[int, int]
) -> None:
    address = tmp_path / "broker.sock"
    install_standin(str(tmp_path / "bin"), seen_at=str(tmp_path / "bin"), socket=str(address))
    broker = _Broker(address, lambda _request: ({"ok": True}, [pipe[1]]))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.run(
            [str(tmp_path / "bin" / "fusermount3"), "-o", "ro", "--", str(tmp_path / "ds")],
            env={"_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert (done.returncode, done.stderr) == (0, "")
        data, fds, _, _ = socket.recv_fds(ours, 16, 1)
    broker.close(address)
    assert data == b"\0"
    os.write(fds[0], b"through")
    os.close(fds[0])
    assert os.read(pipe[0], 16) == b"through"
    [request] = broker.requests
    assert (request["op"], request["options"]) == ("mount", "ro")
    assert request["place"].endswith("ds")


def test_a_refusal_is_shown_to_the_client_unless_it_asked_for_quiet(tmp_path: Path) -> None:
    address = tmp_path / "broker.sock"
    install_standin(str(tmp_path / "bin"), seen_at=str(tmp_path / "bin"), socket=str(address))
    broker = _Broker(address, lambda _request: ({"ok": False, "error": "not here"}, []))
    for flags, shown in (("-u", "fusermount3: not here\n"), ("-uq", "")):
        done = subprocess.run(
            [str(tmp_path / "bin" / "fusermount"), flags, "/m"], env={}, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (1, shown)
    broker.close(address)


def test_it_waits_for_a_broker_that_restarts_and_not_for_ever(tmp_path: Path) -> None:
    address = tmp_path / "broker.sock"
    begun = time.monotonic()
    with pytest.raises(standin.Refused, match="no broker"):
        standin.ask(str(address), {"op": "unmount", "place": "ds"}, wait_s=0.3)
    assert time.monotonic() - begun >= 0.3
    brokers = []
    timer = threading.Timer(0.3, lambda: brokers.append(_Broker(address, lambda _request: ({"ok": True}, []))))
    timer.start()
    assert standin.ask(str(address), {"op": "unmount", "place": "ds"}, wait_s=10) is None
    timer.join()
    brokers[0].close(address)


def test_installing_again_replaces_and_both_names_are_there(tmp_path: Path) -> None:
    for socket_path in ("/old.sock", "/new.sock"):
        install_standin(str(tmp_path), seen_at="/run/bin", socket=socket_path, python="/usr/bin/python3")
    for name in NAMES:
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o755
        assert (tmp_path / name).read_text().endswith('/usr/bin/python3 -I -S /run/bin/standin.py /new.sock "$@"\n')
