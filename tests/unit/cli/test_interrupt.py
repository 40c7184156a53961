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
from headrace.cli.main import cli, main

fake = FakeCluster()
fake.script_request("POST", client.READS + "/namespaces/vision/quote", {"choices": []})

@asynccontextmanager
async def connect(*_, **__):
    yield fake, "default"

client.connect = connect
sys.argv = ["headrace", *sys.argv[1:]]
main()
"""

ENDED_BY_AN_ERROR = """
import anyio, click
from headrace.cli import session
from headrace.errors import Unavailable

async def ask(_client):
    click.echo("asked")
    try:
        await anyio.sleep_forever()
    except BaseException as error:
        raise Unavailable("There was no answer.") from error

@click.command()
def asking():
    session.run(ask)

cli.get_command = lambda *_: asking
main()
"""


def interrupt(*words: str, after: str, program: str = "") -> tuple[int, str, str]:
    """Run a command, press Ctrl-C once the line `after` is there, and return exit code, output and errors."""
    # Who runs the tests in a shell's background has SIGINT ignored, and so would the command.
    command = [
        "env",
        "--default-signal=INT",
        sys.executable,
        "-u",
        "-c",
        PROGRAM.replace("main()\n", program or "main()\n"),
        *words,
    ]
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


def test_what_an_interrupted_step_says_of_it_is_no_error() -> None:
    assert interrupt("apply", after="asked", program=ENDED_BY_AN_ERROR) == (130, "asked\n", "\n")
