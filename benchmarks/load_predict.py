"""Load on ``/predict``: many clients at once on loopback; every answer must be whole, and the tail is stated.

``python benchmarks/load_predict.py --clients 200 --seconds 30`` starts a real service, asks each question once so
that the model is fitted, then lets all clients ask as fast as they are answered, over kept-open connections.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

TICKERS = ("META", "AMZN", "AAPL", "NFLX", "NVDA", "GOOG")


async def client(port: int, number: int, until: float, seconds: list[float], faults: list[str]) -> None:
    """Ask until the time is over; what is not a whole 200 with JSON is a fault."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        ticker = TICKERS[(number + len(seconds)) % len(TICKERS)]
        begun = time.perf_counter()
        writer.write(f"GET /predict?ticker={ticker}&n_days=7 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            body = await asyncio.wait_for(reader.readexactly(length), 30)
            if not head.startswith(b"HTTP/1.1 200") or json.loads(body)["ticker"] != ticker:
                faults.append(head.split(b"\r\n")[0].decode())
        except (TimeoutError, OSError, asyncio.IncompleteReadError, ValueError) as error:
            faults.append(repr(error))
            return
        seconds.append(time.perf_counter() - begun)
    writer.close()


async def load(port: int, clients: int, duration: float) -> tuple[list[float], list[str]]:
    """All clients at once; latencies in seconds, and faults."""
    seconds: list[float] = []
    faults: list[str] = []
    until = time.perf_counter() + duration
    await asyncio.gather(*(client(port, k, until, seconds, faults) for k in range(clients)))
    return seconds, faults


def warm(port: int) -> float:
    """Ask every question once; seconds until the first answer, which fits the model."""
    begun, first = time.perf_counter(), 0.0
    for ticker in TICKERS:
        while True:
            try:
                url = f"http://127.0.0.1:{port}/predict?ticker={ticker}&n_days=7"
                urllib.request.urlopen(url, timeout=300).read()
                break
            except OSError:
                time.sleep(0.5)
        first = first or time.perf_counter() - begun
    return first


def main() -> None:
    """Start, warm, load, print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--clients", type=int, default=200)
    arguments.add_argument("--seconds", type=float, default=30.0)
    chosen = arguments.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "foliocast", "serve", "--port", str(port), "--rate", "0"]
        environment = {**os.environ, "FOLIOCAST_HOME": folder, "OMP_NUM_THREADS": "1"}
        server = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            first = warm(port)
            seconds, faults = asyncio.run(load(port, chosen.clients, chosen.seconds))
        finally:
            server.terminate()
            server.wait()
    seconds.sort()
    p50, p99 = (seconds[int(q * (len(seconds) - 1))] * 1000 for q in (0.5, 0.99))
    print(f"first answer, model fitted: {first:.1f} s")
    print(f"{chosen.clients} clients, {chosen.seconds:g} s: {len(seconds)} answers, {len(faults)} errors")
    print(
        f"{len(seconds) / chosen.seconds:.0f} a second; p50 {p50:.0f} ms, p99 {p99:.0f} ms, worst {seconds[-1]:.2f} s"
    )
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
