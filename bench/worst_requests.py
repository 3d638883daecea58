#!/usr/bin/env python3
"""Sends the worst request that a stranger can make to every route of etl-oauth, and prints what each costs the function.

    cargo run -- build etl-oauth                # prints the path of the program
    bench/worst_requests.py PROGRAM [--requests 200] [--json FILE]

The function runs alone on loopback, over a file store, once for each way of letting callers in. For every request it prints
CPU milliseconds, growth of resident memory in KiB, and how often the store's files were opened, each per request. It ends
with 1 where one of them is above the limit: 1 ms, 64 KiB, one store read. Needs Linux (/proc and inotify) and no package.
"""

import argparse
import ctypes
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMITS = {"cpu_ms": 1.0, "memory_kib": 64.0, "store_reads": 1.0}
OPERATOR = "operator-secret-of-the-bench"
FORM = "application/x-www-form-urlencoded"
# The kernel joins equal events that follow one another, so that the closing of a file has to come between.
IN_OPEN, IN_CLOSE, IN_ISDIR = 0x20, 0x18, 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def request(method, path, headers=(), body=b""):
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def form(path, fields, headers=()):
    return request("POST", path, [("Content-Type", FORM), *headers], fields)


def everywhere():
    """The worst of each route, whatever lets callers in. A function makes the request with that number."""
    large = b"csrf=" + b"a" * (2 << 20)
    cookies = "; ".join(f"a{index}=b" for index in range(2000))
    session = "etl-oauth-session=" + "A" * 4000
    address = ", ".join(f"10.0.{index % 256}.1:1" for index in range(2000))
    html = [("Accept", "text/html")]
    yield "GET /", lambda n: request("GET", "/", [("Authorization", f"Bearer {n}"), ("X-Forwarded-For", address)])
    yield "POST / (2 MiB)", lambda n: request("POST", "/", (), large)
    yield "GET /enable?account=", lambda n: request("GET", f"/enable?account=a{n}&wait=1", html)
    yield "GET /enable", lambda n: request("GET", "/enable", [*html, ("Cookie", cookies)])
    yield "POST /enable (2 MiB)", lambda n: form("/enable", large)
    yield "POST /enable (many fields)", lambda n: form("/enable", b"a&" * 8000)
    yield "GET /oauth2/callback", lambda n: request("GET", f"/oauth2/callback?code=x&state={'A' * 8000}{n}")
    yield "POST /oauth2/confirm", lambda n: form("/oauth2/confirm", b"grant=" + b"A" * 16000)
    yield "GET /done", lambda n: request("GET", "/done", [*html, ("Cookie", "etl-oauth-done=" + "A" * 4000)])
    yield "GET /login", lambda n: request("GET", "/login?next=" + "%2F" * 3000, html)
    yield "POST /login", lambda n: form("/login", b"password=" + b"x" * 16000, html)
    yield "POST /logout", lambda n: form("/logout", large, [("Cookie", session)])
    yield "GET /status", lambda n: request("GET", "/status", [*html, ("Cookie", session)])
    yield "GET /status (Basic)", lambda n: request("GET", "/status", [("Authorization", "Basic " + "QUFB" * 4000)])
    for path in ("/refresh", "/revoke", "/reseal"):
        yield f"POST {path}", lambda n, path=path: form(path, large, [("Authorization", f"Bearer {n}")])
    yield "GET /token?account=", lambda n: request("GET", f"/token?account=a{n}", [("X-Api-Key", "x" * 8000)])
    yield "POST /proxy (2 MiB)", lambda n: request("POST", "/proxy/v2/" + "%41" * 2000, [("X-Etl-Oauth-Account", f"a{n}")], large)
    yield "GET /openapi.json", lambda n: request("GET", "/openapi.json")
    yield "GET /nowhere", lambda n: request("GET", "/" + "%2e" * 2000, html)


def webhooks():
    """An id, a time that is good, and as many signatures as fit into the headers."""
    entries = " ".join(["v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="] * 1300)
    headers = lambda n: [("webhook-id", f"m{n}"), ("webhook-timestamp", int(time.time())), ("webhook-signature", entries)]
    for size in (64 << 10, 1 << 20):
        yield f"POST / (v1, × 1300, {size >> 10} KiB)", lambda n, size=size: request("POST", "/", headers(n), b"x" * size)
    yield "GET /token (v1, × 1300)", lambda n: request("GET", f"/token?account=a{n}", headers(n))


def messages():
    """As many components as fit, and as many signatures."""
    at = int(time.time())
    wide = " ".join(f'"x-{index}"' for index in range(5000))
    least = f'("@method" "@target-uri");created={at};alg="ed25519"'
    many = lambda n: ", ".join(f's{i}={least};nonce="{n}"' for i in range(60))
    signature = "A" * 86 + "=="
    yield "GET / (5000 components)", lambda n: request(
        "GET", "/", [("Signature-Input", f's=("@method" "@target-uri" {wide});created={at}'), ("Signature", f"s=:{signature}:")]
    )
    yield "GET / (60 signatures)", lambda n: request(
        "GET", "/", [("Signature-Input", many(n)), ("Signature", ", ".join(f"s{i}=:{signature}:" for i in range(60)))]
    )
    yield "POST / (3 signatures, 1 MiB)", lambda n: request(
        "POST",
        "/",
        [
            ("Signature-Input", ", ".join(f's{i}={least};nonce="{n}"' for i in range(3))),
            ("Signature", ", ".join(f"s{i}=:{signature}:" for i in range(3))),
        ],
        b"x" * (1 << 20),
    )


ED25519 = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=\n-----END PUBLIC KEY-----\n"
WAYS = {
    "first_visit": ({"enable_auth": "first_visit"}, {}, None),
    # With a record that does not open, so that every read of the store is one of a file, and none ends the reading.
    "stored": ({"enable_auth": "first_visit"}, {}, None),
    "operator": ({}, {"etl-oauth-operator": OPERATOR}, None),
    "machine": ({"grant": "client_credentials", "scope": "view_sales"}, {"etl-oauth-operator": OPERATOR}, None),
    "secret": ({"invoke_auth": "secret"}, {"etl-oauth-operator": OPERATOR, "etl-oauth-invoke": "words of callers, long enough"}, None),
    "hmac": ({"invoke_auth": "hmac"}, {"etl-oauth-operator": OPERATOR, "etl-oauth-invoke": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n" * 8}, webhooks),
    "public_key": ({"invoke_auth": "public_key"}, {"etl-oauth-operator": OPERATOR, "etl-oauth-invoke": ED25519 * 2}, messages),
}


class Function:
    """The program over a store of its own, and what it has used so far."""

    def __init__(self, program, folder, variables, secrets, record):
        self.store, mounted = folder / "store", folder / "secrets"
        mounted.mkdir()
        self.store.mkdir(0o700)
        if record:
            (self.store / "default.json").write_text(record)
        shared = {"oauth2-client-id": "bench", "oauth2-client-secret": "the secret of the bench", "etl-oauth-seal-keys": "1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}
        for name, value in {**shared, **secrets}.items():
            (mounted / name).write_text(value)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        # Port 1 refuses connections: calls to the provider fail at once.
        environment = {
            "provider": "gumroad", "job": "none", "store": "file", "store_path": self.store, "allow_ephemeral_store": "true",
            "authorize_url": "http://127.0.0.1:1/a", "token_url": "http://127.0.0.1:1/t", "api_url": "http://127.0.0.1:1",
            "public_url": f"http://127.0.0.1:{self.port}", "secret_mount_path": mounted, "port": self.port, "metrics_port": 0,
            "proxy_allow": "token, POST /v2/*", "suppress_lock": "true", "healthcheck_interval": "10ms", **variables,
        }
        environment = {name: str(value) for name, value in environment.items()} | {"TMPDIR": str(folder)}
        self.log = (folder / "log").open("w+")
        self.process = subprocess.Popen([program], env=environment, stdout=self.log, stderr=self.log)
        for _ in range(200):
            try:
                self.send(request("GET", "/_/health"))
                break
            except OSError:
                time.sleep(0.05)
        else:
            self.log.seek(0)
            sys.exit(f"the function does not start:\n{self.log.read()}")
        self.watch = LIBC.inotify_init1(os.O_NONBLOCK)
        LIBC.inotify_add_watch(self.watch, os.fsencode(self.store), IN_OPEN | IN_CLOSE)

    def send(self, data):
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as stream:
            try:
                stream.sendall(data)
            except OSError:
                pass  # refused before all of it was sent
            answer = b""
            try:
                while chunk := stream.recv(65536):
                    answer = answer or chunk[:64]
            except OSError:
                pass
        return answer.split(b" ")[1].decode() if b" " in answer else "-"

    def cpu_ms(self):
        """Of all threads, from the scheduler: nanoseconds, where utime has ticks of 10 ms."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e6

    def memory_kib(self):
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])

    def store_reads(self):
        """How many records were opened since the last call; the lock files of a lease count as well."""
        count = 0
        try:
            while data := os.read(self.watch, 1 << 16):
                at = 0
                while at < len(data):
                    _, mask, _, length = struct.unpack_from("iIII", data, at)
                    count += bool(mask & IN_OPEN and not mask & IN_ISDIR)
                    at += 16 + length
        except BlockingIOError:
            pass
        return count

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--way", choices=WAYS, action="append", help="only this way of letting callers in")
    parser.add_argument("--json", type=Path, help="writes the results there, too")
    arguments = parser.parse_args()
    results, over = [], 0
    print(f"{'way':12} {'request':36} {'status':>6} {'CPU ms':>8} {'KiB':>8} {'reads':>6}")
    for way in arguments.way or WAYS:
        variables, secrets, more = WAYS[way]
        with tempfile.TemporaryDirectory() as folder:
            function = Function(arguments.program, Path(folder), variables, secrets, "{}" if way == "stored" else None)
            for name, make in [*everywhere(), *(more() if more else ())]:
                function.send(make(-1))
                function.store_reads()
                cpu, memory = function.cpu_ms(), function.memory_kib()
                statuses, reads = set(), 0
                for number in range(arguments.requests):
                    statuses.add(function.send(make(number)))
                    reads += function.store_reads()
                row = {
                    "way": way,
                    "request": name,
                    "status": "/".join(sorted(statuses)),
                    "cpu_ms": round((function.cpu_ms() - cpu) / arguments.requests, 3),
                    "memory_kib": round(max(0, function.memory_kib() - memory) / arguments.requests, 2),
                    "store_reads": round(reads / arguments.requests, 2),
                }
                above = [key for key, limit in LIMITS.items() if row[key] > limit]
                over += bool(above)
                results.append(row)
                print(f"{way:12} {name:36} {row['status']:>6} {row['cpu_ms']:8.3f} {row['memory_kib']:8.2f} {row['store_reads']:6.2f} {' '.join(above)}", flush=True)
            function.stop()
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    if over:
        sys.exit(f"{over} requests are above the limits {LIMITS}")


if __name__ == "__main__":
    main()
