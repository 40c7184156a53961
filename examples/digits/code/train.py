"""Train a digit classifier on one worker or on many, with numpy and nothing else.

Every worker reads its share of the images under --data, and after each batch averages the gradients with the others:
worker 0 listens on MASTER_PORT at MASTER_ADDR, the others connect. Worker 0 prints one SHA-256 over all files that
they read together, so that runs in different places can be compared, and writes the model.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

RANK = int(os.environ.get("RANK") or os.environ.get("HEADRACE_RANK") or 0)
WORLD_SIZE = int(os.environ.get("WORLD_SIZE") or os.environ.get("HEADRACE_WORLD_SIZE") or 1)


class Ring:
    """Joins all workers through worker 0; a lost worker ends the run with an error."""

    def __init__(self) -> None:
        self.peers: list[socket.socket] = []
        if WORLD_SIZE == 1:
            return
        address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
        if RANK == 0:
            with socket.create_server(address, backlog=WORLD_SIZE) as server:
                server.settimeout(60)
                self.peers = [server.accept()[0] for _ in range(WORLD_SIZE - 1)]
        else:
            self.peers = [self._connect(address)]
        for peer in self.peers:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print(f"worker {RANK} of {WORLD_SIZE} joined at {address[0]}:{address[1]}", flush=True)

    @staticmethod
    def _connect(address: tuple[str, int]) -> socket.socket:
        deadline = time.monotonic() + 60
        while True:
            try:
                return socket.create_connection(address, timeout=60)
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def gather(self, payload: bytes) -> list[bytes]:
        """Return every worker's payload on worker 0, nothing on the others."""
        if RANK == 0:
            return [payload, *map(_receive, self.peers)]
        _send(self.peers[0], payload)
        return []

    def mean(self, array: np.ndarray) -> np.ndarray:
        """Return the mean of every worker's array, on all of them."""
        parts = [np.frombuffer(part, dtype=array.dtype) for part in self.gather(array.tobytes())]
        if RANK == 0:
            total = (sum(parts) / WORLD_SIZE).reshape(array.shape)
            for peer in self.peers:
                _send(peer, total.tobytes())
            return total
        return np.frombuffer(_receive(self.peers[0]), dtype=array.dtype).reshape(array.shape)


def _send(peer: socket.socket, payload: bytes) -> None:
    peer.sendall(struct.pack("!I", len(payload)) + payload)


def _receive(peer: socket.socket) -> bytes:
    (size,) = struct.unpack("!I", _exactly(peer, 4))
    return _exactly(peer, size)


def _exactly(peer: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        chunk = peer.recv(size - len(parts))
        if not chunk:
            raise ConnectionError("another worker has gone")
        parts += chunk
    return bytes(parts)


def read(data: Path) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """Read this worker's share: pixels (rows x 64, 0..1), labels, and the SHA-256 of every file it read."""
    started = time.monotonic()
    labels_file = data / "labels.csv"
    contents = {"labels.csv": labels_file.read_bytes()}
    rows = list(csv.DictReader(io.StringIO(contents["labels.csv"].decode())))[RANK::WORLD_SIZE]
    with ThreadPoolExecutor(16) as pool:
        images = list(pool.map(lambda row: (data / row["file"]).read_bytes(), rows))
    contents |= {row["file"]: image for row, image in zip(rows, images, strict=True)}
    size = sum(map(len, contents.values()))
    print(f"read {len(contents)} files, {size} bytes in {time.monotonic() - started:.1f} s", flush=True)
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(image)), dtype=np.float64).ravel() for image in images]) / 255
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    return pixels, np.array([int(row["label"]) for row in rows]), digests


def digest_of_all(ring: Ring, digests: dict[str, str]) -> None:
    """Print one SHA-256 over all files that the workers read together, on worker 0."""
    merged = {
        name: digest for part in ring.gather(json.dumps(digests).encode()) for name, digest in json.loads(part).items()
    }
    if RANK == 0:
        listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(merged.items()))
        print(f"sha256 {hashlib.sha256(listing.encode()).hexdigest()} over {len(merged)} files", flush=True)


def train(pixels: np.ndarray, labels: np.ndarray, epochs: int, ring: Ring) -> list[np.ndarray]:
    """Fit a network with one hidden layer by stochastic gradient descent on this worker's rows."""
    start = np.random.default_rng(7)  # the same on every worker: they begin equal and stay equal
    weights = [start.normal(0, 0.2, (64, 64)), np.zeros(64), start.normal(0, 0.2, (64, 10)), np.zeros(10)]
    order = np.random.default_rng(100 + RANK)
    for epoch in range(epochs):
        loss = 0.0
        for batch in np.array_split(order.permutation(len(labels)), 24):
            x, y = pixels[batch], labels[batch]
            hidden = np.tanh(x @ weights[0] + weights[1])
            scores = hidden @ weights[2] + weights[3]
            chances = np.exp(scores - scores.max(axis=1, keepdims=True))
            chances /= chances.sum(axis=1, keepdims=True)
            loss -= float(np.log(chances[np.arange(len(y)), y] + 1e-12).mean()) / 24
            chances[np.arange(len(y)), y] -= 1
            chances /= len(y)
            back = (chances @ weights[2].T) * (1 - hidden**2)
            gradients = [x.T @ back, back.sum(axis=0), hidden.T @ chances, chances.sum(axis=0)]
            flat = ring.mean(np.concatenate([g.ravel() for g in gradients]))
            for weight in weights:
                weight -= 0.5 * flat[: weight.size].reshape(weight.shape)
                flat = flat[weight.size :]
        if epoch % 20 == 19 or epoch == epochs - 1:
            print(f"epoch {epoch + 1}/{epochs} loss {loss:.4f}", flush=True)
    return weights


def accuracy(weights: list[np.ndarray], pixels: np.ndarray, labels: np.ndarray) -> float:
    hidden = np.tanh(pixels @ weights[0] + weights[1])
    return float(((hidden @ weights[2] + weights[3]).argmax(axis=1) == labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=int(os.environ.get("EPOCHS", "40")))
    options = parser.parse_args()
    capabilities = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff")
    )
    print(
        f"worker {RANK} of {WORLD_SIZE} on {socket.gethostname()}, {capabilities.split()[0]} {capabilities.split()[1]}"
    )
    pixels, labels, digests = read(options.data)
    ring = Ring()
    digest_of_all(ring, digests)
    held_out = np.arange(len(labels)) % 5 == 0
    weights = train(pixels[~held_out], labels[~held_out], options.epochs, ring)
    score = float(ring.mean(np.array([accuracy(weights, pixels[held_out], labels[held_out])]))[0])
    if RANK == 0:
        options.out.mkdir(parents=True, exist_ok=True)
        np.savez(options.out / "model.npz", *weights)
        (options.out / "metrics.json").write_text(json.dumps({"accuracy": score, "workers": WORLD_SIZE}) + "\n")
        print(f"accuracy {score:.4f} on held-out images; model in {options.out}", flush=True)


if __name__ == "__main__":
    main()
