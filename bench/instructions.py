"""Counts the instructions of one call, the kernel's left out: `bench/instructions.py [--profile] NAME=COMMAND...`.

What a clock shows on a busy machine says nothing about a change of a hundredth; this does. Needs valgrind. A target gets the
port to listen on as the variable `port`, as in run.sh, and is to end on SIGTERM. `--profile` prints the costliest functions, too:
a program built with BACKTRACE=true has their names.
"""

import collections
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

WARM_UP, CALLS = 500, 5000
FUNCTIONS = 80


def connect(port):
    for _ in range(600):
        try:
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        except OSError:
            time.sleep(0.05)
    raise SystemExit("instructions: a target does not come up")


def ask(connection, calls):
    # What wrk sends.
    request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % connection.getpeername()[1]
    for _ in range(calls):
        connection.sendall(request)
        answer = b""
        while not answer.endswith(b"hello\n"):
            piece = connection.recv(4096)
            if not piece:
                raise SystemExit(f"instructions: an answer broke off: {answer!r}")
            answer += piece


def count(command, profile):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"port": str(port), "metrics_port": "0", "healthcheck_interval": "0s", "TMPDIR": folder}
        out, log = pathlib.Path(folder, "out"), pathlib.Path(folder, "log")
        valgrind = f"exec valgrind --tool=callgrind --callgrind-out-file={out} --log-file={log} {command}"
        process = subprocess.Popen(valgrind, shell=True, env=environment, stderr=subprocess.DEVNULL)

        def control(action):
            # By the same TMPDIR, where the two find each other.
            command = ["callgrind_control", action, str(process.pid)]
            subprocess.run(command, check=True, env=environment, capture_output=True)

        try:
            with connect(port) as connection:
                ask(connection, WARM_UP)
                # The start and the end do not count: they differ from run to run.
                control("--zero")
                ask(connection, CALLS)
                control("--dump")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        counts = out.with_name("out.1")
        if profile:
            functions(counts)
        return int(re.search(r"^(?:summary|totals): (\d+)", counts.read_text(), re.MULTILINE)[1])


def functions(counts):
    """Prints what the functions cost themselves, by call."""
    annotate = ["callgrind_annotate", "--threshold=100", "--auto=no", str(counts)]
    lines = subprocess.run(annotate, check=True, capture_output=True, text=True).stdout.splitlines()
    costs = collections.Counter()
    for line in lines:
        if match := re.match(r"\s*([\d,]+) \([\s\d.]+%\)\s+\S+?:(.*?)(?:::h[0-9a-f]{16})?(?: \[.*)?$", line):
            costs[match[2]] += int(match[1].replace(",", ""))
    for function, cost in costs.most_common(FUNCTIONS):
        print(f"{cost / CALLS:10,.0f}  {function}")


targets = [argument for argument in sys.argv[1:] if argument != "--profile"]
for target in targets:
    name, command = target.split("=", 1)
    print(f"{name}: {count(command, len(targets) < len(sys.argv) - 1) / CALLS:,.0f} instructions a call", flush=True)
