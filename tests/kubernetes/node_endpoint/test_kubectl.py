"""A node of ours behind a real API server: kubectl and headrace reach into its pods.

In three ways: see `Pods`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import socket
import struct
import termios
import time
from pathlib import Path
from typing import IO

import pytest
from tests.kubernetes import objects
from tests.kubernetes.access import Access
from tests.kubernetes.fixtures import wait
from tests.kubernetes.node_endpoint.pods import HEADRACE, WITHIN_S, Pods
from tests.kubernetes.roles import apply

from headrace.spec.names import JOB_LABEL

TRANSLATED, PASSED_ON = "apiserver_stream_translator_requests_total", "apiserver_websocket_streaming_requests_total"


def test_a_command_with_input_output_and_exit_code(pods: Pods) -> None:
    done = pods.run("exec", "main", "--", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert done.stdout == b"out\n"
    assert done.stderr.startswith(b"err\n")
    block = bytes(range(256)) * 20_000
    assert pods.run("exec", "-i", "main", "--", "cat", stdin=block).stdout == block
    assert pods.run("exec", "-i", "main", "--", "head", "-c", "3", stdin=block).stdout == block[:3]
    assert b"no-such-program" in pods.run("exec", "main", "--", "no-such-program", code=1).stderr


def test_nothing_is_translated_but_for_a_node_that_does_not_say_that_it_need_not_be(pods: Pods) -> None:
    pods.be_reached()
    before = counts(pods.access)
    pods.run("exec", "main", "--", "true")
    after = counts(pods.access)
    counted = {line.partition("{")[0] for line in after if after[line] != before.get(line)}
    assert counted == ({TRANSLATED} if pods.way == "websocket-translated" else {PASSED_ON})


def counts(access: Access) -> dict[str, str]:
    """Return how often the API server has translated a WebSocket, and passed on a stream of either kind."""
    wanted = (TRANSLATED, f'{PASSED_ON}{{proxy_type="proxied_to_kubelet"')
    with access.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if line.startswith(wanted))


def test_much_output_arrives_whole(pods: Pods) -> None:
    done = pods.run("exec", "main", "--", "sh", "-c", "head -c 50000000 /dev/zero; echo done >&2")
    assert (len(done.stdout), done.stderr) == (50_000_000, b"done\n")


def test_a_terminal(pods: Pods) -> None:
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 43, 132, 0, 0))
        with pods.running("exec", "-it", "main", "--", "sh", stdin=theirs, stdout=theirs, stderr=theirs) as process:
            os.write(ours, b"until [ \"$(stty size)\" = '43 132' ]; do sleep 0.05; done; stty size; exit 5\n")
            assert _read_until(ours, b"43 132\r\n")  # behind a prompt or not
            assert process.wait(WITHIN_S) == 5
    finally:
        os.close(ours)
        os.close(theirs)


def _read_until(fd: int, text: bytes) -> bytes:
    seen = b""
    end = time.monotonic() + WITHIN_S
    while text not in seen:
        assert select.select([fd], [], [], max(0.0, end - time.monotonic()))[0], seen
        seen += os.read(fd, 4096)
    return seen


def test_a_command_of_a_client_that_is_killed_ends(pods: Pods) -> None:
    with pods.running("exec", "-i", "main", "--", "sleep", "4323"):
        wait(lambda: "sleep 4323" in pods.processes(), "the command runs")
    wait(lambda: "sleep 4323" not in pods.processes(), "the command has ended with its client")


def test_files_are_copied(pods: Pods, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(bytes(range(256)) * 4000)
    pods.run("cp", str(tmp_path / "there"), "main:/tmp/copied")
    pods.run("cp", "main:/tmp/copied", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "there").read_bytes()


def test_ports_are_forwarded(pods: Pods) -> None:
    port = int(pods.run("logs", "echo").stdout.split()[1])
    with pods.running("port-forward", "pod/echo", f":{port}") as process:
        assert process.stdout is not None
        found = re.search(rb"127.0.0.1:(\d+) ->", process.stdout.readline())
        assert found
        block = bytes(range(256)) * 8000
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", int(found[1])), timeout=WITHIN_S) as connection:
                connection.sendall(block)
                connection.shutdown(socket.SHUT_WR)
                assert b"".join(iter(lambda: connection.recv(65536), b"")) == block + b"bye"
    with pods.running("port-forward", "pod/echo", ":9") as process:
        assert process.stdout is not None
        found = re.search(rb"127.0.0.1:(\d+) ->", process.stdout.readline())
        assert found
        with socket.create_connection(("127.0.0.1", int(found[1])), timeout=WITHIN_S) as connection:
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(10) == b""
        said = b"".join(iter(process.stdout.readline, b"") if process.wait(WITHIN_S) is not None else ())
        assert b"connection refused" in said


def test_logs(pods: Pods) -> None:
    assert pods.run("logs", "main").stdout == b"first line\noops\n"
    assert pods.run("logs", "main", "--tail=1").stdout == b"oops\n"
    said = pods.run("logs", "main", "--previous", code=1).stderr
    assert b'previous terminated container "app" in pod "main" not found' in said
    assert b"container none is not valid" in pods.run("logs", "main", "-c", "none", code=1).stderr


def test_a_log_is_followed_to_its_end(pods: Pods) -> None:
    name = f"ending-{pods.way}"
    pods.make(name, "sh", "-c", "echo begun; until [ -e /tmp/go-on ]; do sleep 0.05; done; echo ended")
    with pods.running("logs", "-f", name) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        pods.run("exec", name, "--", "touch", "/tmp/go-on")
        assert process.stdout.read() == b"ended\n"
        assert process.wait(WITHIN_S) == 0


def test_attaching_shows_what_a_container_says(pods: Pods) -> None:
    name = f"talking-{pods.way}"
    talk = "echo begun; until [ -e /tmp/go-on ]; do echo tick; sleep 0.05; done; echo ended; echo err >&2"
    pods.make(name, "sh", "-c", talk)
    with pods.running("attach", name) as process:
        assert process.stdout is not None
        said_before = until_line(process.stdout, b"tick\n")
        pods.run("exec", name, "--", "touch", "/tmp/go-on")
        said = process.stdout.read().split()
        assert process.wait(WITHIN_S) == 0
    assert {*said} == {b"tick", b"ended", b"err"}
    assert b"begun\n" not in said_before
    assert b"standard input is empty on this node" in pods.run("attach", "-i", "main", stdin=b"x", code=1).stderr


def until_line(output: IO[bytes], line: bytes) -> list[bytes]:
    """Read until a line has come, and return those before it, such as kubectl's own warnings."""
    seen: list[bytes] = []
    for each in iter(output.readline, b""):
        if each == line:
            return seen
        seen.append(each)
    raise AssertionError(f"{line!r} never came: {seen}")


@pytest.mark.parametrize("pods", ["websocket"], indirect=True)
def test_headrace_reaches_a_jobs_workers(pods: Pods, kubernetes: Access) -> None:
    name = f"job-{pods.way}"
    apply(kubernetes, objects.job(pods.namespace, name))
    talk = "echo begun; until [ -e /tmp/go-on ]; do sleep 0.05; done; echo ended"
    pods.make(name, "sh", "-c", talk, container="main", labels={JOB_LABEL: name})
    with pods.running("logs", "-f", name, program=HEADRACE) as process:
        assert process.stdout is not None
        assert b"begun" in process.stdout.readline()
        done = pods.run("exec", "-i", name, "--", "sh", "-c", "cat; exit 4", stdin=b"in", code=4, program=HEADRACE)
        assert done.stdout == b"in"
        pods.run("exec", name, "-c", "main", "--", "touch", "/tmp/go-on")
        assert b"ended" in process.stdout.readline()
