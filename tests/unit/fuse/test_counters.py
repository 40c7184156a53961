"""Counters as real clients show them; what a client does not count is unknown and never 0."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.fuse import counters

# Lines of `juicefs mount` 1.4.2 and `rclone mount` 1.75.2.
_LABELS = 'instance="vm",mp="/a b/\\"x\\"",vol_name="vol"'
_JUICEFS = f"""# HELP juicefs_uptime Total running time in seconds.
juicefs_uptime{{{_LABELS}}} 2.96
juicefs_blockcache_hit_bytes{{{_LABELS}}} 3e+06
juicefs_blockcache_miss_bytes{{{_LABELS}}} 1e+06
juicefs_fuse_read_size_bytes_bucket{{{_LABELS},le="4096"}} 1
juicefs_fuse_read_size_bytes_sum{{{_LABELS}}} 4e+06
juicefs_object_request_data_bytes{{{_LABELS},method="GET",storage_class="STANDARD"}} 1.5e+06
juicefs_object_request_data_bytes{{{_LABELS},method="GET",storage_class=""}} 500000
juicefs_object_request_data_bytes{{{_LABELS},method="PUT",storage_class="STANDARD"}} 7
"""
_RCLONE = "# TYPE rclone_bytes_transferred_total counter\nrclone_bytes_transferred_total 123456\n"


def test_juicefs() -> None:
    seen = counters.of_juicefs(_JUICEFS)
    assert seen is not None
    assert (seen.fetched_bytes, seen.sent_bytes, seen.read_bytes, seen.hit_ratio) == (2_000_000, 7, 4_000_000, 0.75)


def test_a_juicefs_that_fetched_nothing_says_so_and_has_no_hit_ratio() -> None:
    seen = counters.of_juicefs(f"juicefs_uptime{{{_LABELS}}} 1\njuicefs_blockcache_hit_bytes{{{_LABELS}}} 0\n")
    assert seen is not None
    assert (seen.fetched_bytes, seen.read_bytes, seen.hit_ratio) == (0, None, None)


def test_rclone_tells_about_fetching_only_where_nothing_is_sent() -> None:
    reading = counters.of_rclone(_RCLONE, read_only=True)
    writing = counters.of_rclone(_RCLONE, read_only=False)
    assert reading is not None
    assert writing is not None
    assert (reading.fetched_bytes, reading.read_bytes, reading.hit_ratio) == (123456, None, None)
    assert writing.fetched_bytes is None


@pytest.mark.parametrize("text", ["", "<html>", "go_goroutines 5\n"])
def test_other_texts_are_no_counters(text: str) -> None:
    assert counters.of_juicefs(text) is None
    assert counters.of_rclone(text, read_only=True) is None


def test_a_termination_message_gives_them_back() -> None:
    seen = counters.Counters(client="juicefs", fetched_bytes=5, hit_ratio=0.5, at_s=3.0)
    assert counters.parse_message(json.dumps(seen.to_json())) == seen


@pytest.mark.parametrize("message", ["", "Killed", "{}", "[1]", '{"client": "x"}'])
def test_another_message_is_none(message: str) -> None:
    assert counters.parse_message(message) is None


@pytest.fixture
def shown() -> Iterator[str]:
    """Address of a server that shows JuiceFS's metrics."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(_JUICEFS.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_command_looks_now_and_falls_back_to_what_was_seen_last(
    tmp_path: Path, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = str(tmp_path / "kept.json")
    assert counters.main(kept) == 1
    counters.keep(None, counters.Source("juicefs", shown), kept)
    assert counters.main(kept) == 0
    assert json.loads(capsys.readouterr().out)["fetchedBytes"] == 2_000_000
    last = counters.Counters(client="juicefs", fetched_bytes=9)
    counters.keep(last, counters.Source("juicefs", "http://127.0.0.1:1/metrics"), kept)
    assert counters.main(kept) == 0
    assert json.loads(capsys.readouterr().out)["fetchedBytes"] == 9
    counters.keep(None, counters.Source("rclone", f"unix:{tmp_path}/none.sock"), kept)
    assert counters.main(kept) == 1
