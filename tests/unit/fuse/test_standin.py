"""The stand-in reads fusermount's command line as libfuse, go-fuse and bazil write it, and speaks to its broker.

There are two of it, in Python and as a static program; what a client or the broker can see of them is the same.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.native import compiled, text

from headrace.fuse import standin
from headrace.fuse.install import NAMES, install_native, install_standin
from headrace.fuse.native import CompilerFailed, build

_MOUNTINFO = """1 0 254:0 / / rw - ext4 /dev/vda rw
2 1 0:30 / /runtime-mnt/thin/ns/d/thin-fuse rw - tmpfs tmpfs rw
3 2 0:31 / /runtime-mnt/thin/ns/d/thin-fuse/ds rw - fuse.x x rw
4 1 0:32 /data /bound rw - tmpfs tmpfs rw
5 1 0:33 /with\\040space /a\\040b rw - tmpfs tmpfs rw
this is none
"""
_COMMAND_LINES = [
    (["-o", "rw,fsname=a", "--", "/m"], "mount", "rw,fsname=a", "/m"),
    (["--", "/m"], "mount", "", "/m"),
    (["/m", "-orw"], "mount", "rw", "/m"),
    (["-o", "ro", "-o", "nosuid", "/m"], "mount", "ro,nosuid", "/m"),
    (["-qo", 'fsname=a"\\b\tü,', "/m"], "mount", 'fsname=a"\\b\tü,', "/m"),
    (["-u", "-q", "-z", "--", "/m"], "unmount", "", "/m"),
    (["-uqz", "/m"], "unmount", "", "/m"),
    (["--unmount", "--lazy", "/m"], "unmount", "", "/m"),
    (["--", "-u"], "mount", "", "-u"),
    (["-V"], "version", "", ""),
    (["--version"], "version", "", ""),
]
_REFUSED_LINES = [[], ["-u"], ["/a", "/b"], ["-o"]]
_PLACES = [
    ("/runtime-mnt/thin/ns/d/thin-fuse/ds", "ds"),
    ("/runtime-mnt/thin/ns/d/thin-fuse/ds/", "ds"),
    ("/runtime-mnt//thin/x/../ns/./d/thin-fuse/ds", "ds"),
    ("/runtime-mnt/thin/ns/d/thin-fuse/other/sub", "other/sub"),
    ("/bound/ds", "data/ds"),
    ("/a b/ds", "with space/ds"),
    ("/nowhere/ds", "nowhere/ds"),
]


@pytest.mark.parametrize(("arguments", "action", "options", "mountpoint"), _COMMAND_LINES)
def test_command_lines(arguments: list[str], action: str, options: str, mountpoint: str) -> None:
    assert standin.read_arguments(arguments) == {"action": action, "options": options, "mountpoint": mountpoint}


@pytest.mark.parametrize("arguments", _REFUSED_LINES)
def test_command_lines_that_fusermount_refuses(arguments: list[str]) -> None:
    with pytest.raises(standin.Refused):
        standin.read_arguments(arguments)


@pytest.mark.parametrize(("mountpoint", "place"), _PLACES)
def test_a_place_is_named_from_the_volume_around_it(mountpoint: str, place: str) -> None:
    assert standin.place_of(mountpoint, _MOUNTINFO) == place


class _Broker:
    """Answers every request with what `reply` makes of it, and a descriptor where that is given."""

    def __init__(self, path: Path, reply: Callable[[dict[str, str]], tuple[dict[str, object], list[int]]]) -> None:
        self.requests: list[dict[str, str]] = []
        self._reply = reply
        self._path = path
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

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as last:
            last.connect(str(self._path))
        self._thread.join(5)
        self._listener.close()


class _StandIn:
    """One of the two, in a directory of its own, calling at `address`.

    Args:
        programs: where the static one is, compiled to call at `broker.sock` of its working directory.
    """

    def __init__(self, kind: str, place: Path, programs: Path) -> None:
        self.kind = kind
        self.address = place / "broker.sock"
        self.directory = place / "bin"
        self._place = place
        self._programs = programs

    def install(self) -> None:
        if self.kind == "python":
            install_standin(str(self.directory), seen_at=str(self.directory), socket=str(self.address))
        else:
            install_native(str(self.directory), programs=str(self._programs))

    def call(
        self, *arguments: str | bytes, name: str = "fusermount3", environment: dict[str, str] | None = None, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        argv = [str(self.directory / name), *arguments]
        return subprocess.run(
            argv, env=environment or {}, cwd=self._place, capture_output=True, text=True, timeout=20, **more
        )


_COMPILED_ONCE: dict[tuple[str, ...], Path] = {}


@pytest.fixture
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Returns a directory of static programs that find all they need in their working directory."""

    def compile_once(**defines: str) -> Path:
        given = {"BROKER_SOCKET": text("broker.sock"), **defines}
        key = tuple(sorted(given.values()))
        if key not in _COMPILED_ONCE:
            _COMPILED_ONCE[key] = compiled(tmp_path_factory.mktemp("native"), given)
        return _COMPILED_ONCE[key]

    return compile_once


@pytest.fixture(params=["python", "native"])
def stand_in(request: pytest.FixtureRequest, tmp_path: Path, programs: Callable[..., Path]) -> _StandIn:
    return _StandIn(request.param, tmp_path, programs() if request.param == "native" else tmp_path)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


def test_both_read_command_lines_alike(stand_in: _StandIn, pipe: tuple[int, int]) -> None:
    stand_in.install()
    broker = _Broker(stand_in.address, lambda request: ({"ok": True}, [pipe[1]] if request["op"] == "mount" else []))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        environment = {"_FUSE_COMMFD": str(theirs.fileno())}
        for arguments, action, options, mountpoint in _COMMAND_LINES:
            done = stand_in.call(*arguments, environment=environment, pass_fds=[theirs.fileno()])
            assert (done.returncode, done.stderr) == (0, ""), arguments
            if action == "version":
                assert done.stdout == f"{standin.VERSION}\n"
                continue
            request = broker.requests.pop()
            assert (request["op"], request["options"]) == (action, options)
            assert request["place"].endswith(mountpoint.lstrip("/")), (arguments, request)
        for arguments in _REFUSED_LINES:
            assert stand_in.call(*arguments, environment=environment).returncode == 1
    broker.close()
    assert broker.requests == []


def test_the_static_one_names_places_alike(tmp_path: Path, programs: Callable[..., Path]) -> None:
    native = _StandIn("native", tmp_path, programs(MOUNTINFO=text("mountinfo")))
    native.install()
    (tmp_path / "mountinfo").write_text(_MOUNTINFO)
    broker = _Broker(native.address, lambda _request: ({"ok": True}, []))
    for mountpoint, place in _PLACES:
        assert native.call("-u", mountpoint).returncode == 0
        assert broker.requests.pop()["place"] == place
    broker.close()


def test_a_mount_point_behind_a_symbolic_link_is_named_by_where_it_leads(stand_in: _StandIn, tmp_path: Path) -> None:
    stand_in.install()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    broker = _Broker(stand_in.address, lambda _request: ({"ok": True}, []))
    assert stand_in.call("-u", str(tmp_path / "link" / "none" / "ds")).returncode == 0
    assert stand_in.call("-u", "link/ds").returncode == 0
    broker.close()
    assert broker.requests[0]["place"].endswith("/real/none/ds")
    assert broker.requests[1]["place"].endswith("/real/ds")


def test_a_name_that_is_no_utf_8_is_sent_as_python_sends_it(stand_in: _StandIn) -> None:
    stand_in.install()
    broker = _Broker(stand_in.address, lambda _request: ({"ok": True}, []))
    for name in (b"/\xff\xc3", "/€𝄞".encode(), b"/\xed\xa0\x80"):
        assert stand_in.call("-u", name, environment={"LC_ALL": "C.UTF-8"}).returncode == 0
        assert broker.requests.pop()["place"] == name.decode("utf-8", "surrogateescape")[1:]
    broker.close()


def test_the_descriptor_reaches_the_client_with_nothing_else_in_the_environment(
    stand_in: _StandIn, tmp_path: Path, pipe: tuple[int, int]
) -> None:
    stand_in.install()
    broker = _Broker(stand_in.address, lambda _request: ({"ok": True}, [pipe[1]]))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = stand_in.call(
            "-o", "ro", "--", str(tmp_path / "ds"),
            environment={"_FUSE_COMMFD": str(theirs.fileno())}, pass_fds=[theirs.fileno()],
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        data, fds, _, _ = socket.recv_fds(ours, 16, 1)
    broker.close()
    assert data == b"\0"
    os.write(fds[0], b"through")
    os.close(fds[0])
    assert os.read(pipe[0], 16) == b"through"
    [request] = broker.requests
    assert (request["op"], request["options"]) == ("mount", "ro")
    assert request["place"].endswith("ds")


@pytest.mark.parametrize("said", ["not here", 'say "ok": true, said\n\tü 𝄞 \\'])
def test_a_refusal_is_shown_to_the_client_unless_it_asked_for_quiet(stand_in: _StandIn, said: str) -> None:
    stand_in.install()
    broker = _Broker(stand_in.address, lambda _request: ({"ok": False, "error": said}, []))
    for flags, shown in (("-u", f"fusermount3: {said}\n"), ("-uq", "")):
        done = stand_in.call(flags, "/m", name="fusermount", environment={"LC_ALL": "C.UTF-8"})
        assert (done.returncode, done.stderr) == (1, shown)
    broker.close()


def test_an_answer_that_cannot_be_used_is_a_refusal(stand_in: _StandIn, tmp_path: Path) -> None:
    stand_in.install()
    broker = _Broker(stand_in.address, lambda _request: ({"ok": True}, []))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        environment = {"_FUSE_COMMFD": str(theirs.fileno())}
        without = stand_in.call(str(tmp_path), environment=environment, pass_fds=[theirs.fileno()])
    broker.close()
    assert (without.returncode, without.stderr) == (1, "fusermount3: the broker sent no descriptor\n")
    for wrong in ({}, {"_FUSE_COMMFD": "x"}):
        old = stand_in.call(str(tmp_path), environment=wrong)
        assert (old.returncode, old.stderr.startswith("fusermount3: old style mounting")) == (1, True)
    assert len(broker.requests) == 1, "who cannot take a mount asks for none"


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
    brokers[0].close()


def test_the_static_one_waits_too(tmp_path: Path, programs: Callable[..., Path]) -> None:
    native = _StandIn("native", tmp_path, programs(WAIT_FOR_BROKER_S="0.3"))
    native.install()
    begun = time.monotonic()
    done = native.call("-u", "/m")
    assert time.monotonic() - begun >= 0.3
    assert (done.returncode, done.stderr.startswith("fusermount3: no broker at broker.sock within 0.3 s")) == (1, True)
    native = _StandIn("native", tmp_path, programs())
    native.install()
    brokers = []
    timer = threading.Timer(0.3, lambda: brokers.append(_Broker(native.address, lambda _request: ({"ok": True}, []))))
    timer.start()
    assert native.call("-u", "/m").returncode == 0
    timer.join()
    brokers[0].close()


def test_installing_again_replaces_and_both_names_are_there(tmp_path: Path) -> None:
    for socket_path in ("/old.sock", "/new.sock"):
        install_standin(str(tmp_path), seen_at="/run/bin", socket=socket_path, python="/usr/bin/python3")
    for name in NAMES:
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o755
        assert (tmp_path / name).read_text().endswith('/usr/bin/python3 -I -S /run/bin/standin.py /new.sock "$@"\n')


def test_the_probe_is_beside_the_stand_in_in_python_too(tmp_path: Path) -> None:
    install_standin(str(tmp_path), seen_at="/run/bin", socket="/s")
    done = subprocess.run([tmp_path / "served", tmp_path], capture_output=True, text=True)
    assert (done.returncode, "No FUSE file system is mounted at" in done.stdout + done.stderr) == (1, True)


def test_the_static_ones_are_held_once_and_replaced_whole(tmp_path: Path) -> None:
    built = compiled(tmp_path / "built")
    for pod in ("a", "b", "a"):
        install_native(str(tmp_path / pod), programs=str(built))
    for pod in ("a", "b"):
        assert sorted(os.listdir(tmp_path / pod)) == ["fusermount", "fusermount3", "served"]
        assert (tmp_path / pod / "served").samefile(built / "served")
        assert (tmp_path / pod / "fusermount").stat().st_mode & 0o777 == 0o755
    build(str(built))
    install_native(str(tmp_path / "b"), programs=str(built))
    assert not (tmp_path / "a" / "served").samefile(tmp_path / "b" / "served")
    with pytest.raises(FileNotFoundError):
        install_native(str(tmp_path / "c"), programs=str(tmp_path / "none"))


def test_no_compiler_is_said(tmp_path: Path) -> None:
    with pytest.raises(CompilerFailed, match="There is no C compiler nocc"):
        build(str(tmp_path), compiler="nocc")
    closed = tmp_path / "not-a-program"
    closed.touch(mode=0o644)  # as a directory of PATH that cannot be searched
    with pytest.raises(CompilerFailed, match="There is no C compiler"):
        build(str(tmp_path), compiler=str(closed))
    with pytest.raises(CompilerFailed, match=r"fusermount3\.c could not be compiled"):
        build(str(tmp_path), compiler="false")
