"""Counts the instructions of one call, the kernel's left out: `bench/instructions.py NAME=COMMAND...`.

What a clock shows on a busy machine says nothing about a change of a hundredth; this does. Needs valgrind. A target gets the
port to listen on as the variable `port`, as in run.sh, and is to end on SIGTERM.
"""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

FEW, MANY = 500, 5500


def ask(port, calls):
    for _ in range(600):
        try:
            connection = socket.create_connection(("127.0.0.1", port))
            break
        except OSError:
            time.sleep(0.05)
    else:
        raise SystemExit("instructions: a target does not come up")
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # What wrk sends.
        request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % port
        for _ in range(calls):
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"hello\n"):
                piece = connection.recv(4096)
                if not piece:
                    raise SystemExit(f"instructions: an answer broke off: {answer!r}")
                answer += piece


def count(command, calls):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"port": str(port), "metrics_port": "0", "healthcheck_interval": "0s", "TMPDIR": folder}
        out, log = pathlib.Path(folder, "out"), pathlib.Path(folder, "log")
        valgrind = f"exec valgrind --tool=callgrind --callgrind-out-file={out} --log-file={log} {command}"
        process = subprocess.Popen(valgrind, shell=True, env=environment, stderr=subprocess.DEVNULL)
        try:
            ask(port, calls)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        return int(re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)[1])


for target in sys.argv[1:]:
    name, command = target.split("=", 1)
    # The start and the end are in both.
    print(f"{name}: {(count(command, MANY) - count(command, FEW)) / (MANY - FEW):,.0f} instructions a call", flush=True)
