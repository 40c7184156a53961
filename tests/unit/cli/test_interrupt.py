"""Ctrl-C, really: a process that follows a job is interrupted and says how to come back, once, without a traceback."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from contextlib import asynccontextmanager
import headrace.sdk.client as client
from headrace.cluster.fake import FakeCluster
from headrace.cli.main import main

fake = FakeCluster()
fake.script_request("POST", client.READS + "/namespaces/vision/quote", {"choices": []})

@asynccontextmanager
async def connect(*_, **__):
    yield fake, "default"

client.connect = connect
sys.argv = ["headrace", *sys.argv[1:]]
main()
"""


def interrupt(*words: str, after: str) -> tuple[int, str, str]:
    """Run a command, press Ctrl-C once the line `after` is there, and return exit code, output and errors."""
    # Who runs the tests in a shell's background has SIGINT ignored, and so would the command.
    command = ["env", "--default-signal=INT", sys.executable, "-u", "-c", PROGRAM, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        before = ""
        for line in process.stdout:
            before += line
            if after in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        return process.returncode, before + out, err


@pytest.mark.parametrize("more", [[], ["-o", "table"]])
def test_run_detaches(more: list[str]) -> None:
    code, out, err = interrupt("run", "-n", "vision", *more, "--name", "digits", "--", "sleep", "9", after="· queued")
    assert code == 130
    assert out.splitlines()[-1] == "· queued"
    come_back, stop = "headrace -n vision logs -f digits", "headrace -n vision stop digits"
    assert err == f"\nDetached; digits goes on. Come back with: {come_back}   Stop it: {stop}\n"
