"""Drives an upstream directly, through a proxy of hyper alone and through the function, in turn; writes a Markdown table."""

import argparse
import contextlib
import os
import pathlib
import platform
import re
import signal
import statistics
import subprocess
import tempfile
import time

from measure import CONNECTIONS, RATE, free_port, group_memory, healthy, wait_for

WORD = "a word that is long enough to be none that is guessed"
STARTS = 30


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", required=True)
    parser.add_argument("--function", required=True)
    parser.add_argument("--results", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    return parser.parse_args()


@contextlib.contextmanager
def running(command, variables, log):
    """A server that answers by then, its port and how long that took."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | variables | {"port": str(port), "TMPDIR": folder}
        started = time.perf_counter()
        process = subprocess.Popen([command], env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(healthy, port, process)
            yield process, port, time.perf_counter() - started
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def function(folder, provider, upstream):
    """The function's variables, with its secrets in `folder`: a token that never ends, and one path opened to one caller."""
    secrets = {
        "api-token": "the token of the API",
        "etl-oauth-invoke": WORD,
        "etl-oauth-operator": "password",
        "etl-oauth-seal-keys": "1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    }
    for name, value in secrets.items():
        (folder / name).write_text(value)
    return {
        "provider": provider,
        "grant": "static",
        "job": "none",
        "api_url": f"http://127.0.0.1:{upstream}",
        "invoke_auth": "secret",
        "proxy_allow": "GET /v2/*",
        "store": "file",
        "store_path": str(folder / "store"),
        "allow_ephemeral_store": "true",
        "secret_mount_path": str(folder),
        "metrics_port": "0",
        "healthcheck_interval": "1s",
    }


def measure(process, port, path, options):
    url, header = f"http://127.0.0.1:{port}{path}", f"Authorization: Bearer {WORD}"
    wrk = ["wrk", "-t2", f"-c{CONNECTIONS}", "-H", header]
    subprocess.run(wrk + ["-d1", url], check=True, capture_output=True)
    run = subprocess.run(wrk + [f"-d{options.seconds}", url], check=True, capture_output=True, text=True)
    if "Non-2xx" in run.stdout:
        raise SystemExit(f"bench: answers other than 200 at {path}")
    load = [f"{options.tools}/load", str(port), str(CONNECTIONS), str(RATE), str(options.seconds), path, WORD]
    latency = subprocess.run(load, check=True, capture_output=True, text=True).stdout.split()
    return {
        "throughput": float(re.search(r"Requests/sec:\s+([\d.]+)", run.stdout)[1]),
        "p50": float(latency[0]),
        "p99": float(latency[1]),
        "memory": group_memory(process.pid) / (1 << 20),
    }


def main():
    options = arguments()
    rounds = {"direct": [], "plain hyper proxy": [], "/proxy": []}
    starts = {"gumroad": [], "custom": []}
    with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        with running(f"{options.tools}/bare", {}, log) as (upstream, there, _):
            variables = function(folder, "custom", there)
            for number in range(options.rounds):
                rounds["direct"].append(measure(upstream, there, "/v2/sales", options))
                with running(f"{options.tools}/proxy", {"upstream": str(there)}, log) as (process, port, _):
                    rounds["plain hyper proxy"].append(measure(process, port, "/v2/sales", options))
                with running(options.function, variables, log) as (process, port, _):
                    rounds["/proxy"].append(measure(process, port, "/proxy/v2/sales", options))
                for name, values in rounds.items():
                    print(f"round {number + 1}: {name}: {values[-1]}", flush=True)
            for _ in range(STARTS):
                for provider, values in starts.items():
                    with running(options.function, variables | {"provider": provider}, log) as (_, _, start):
                        values.append(start * 1000)
    medians = {
        name: {key: statistics.median(values[key] for values in measured) for key in measured[0]}
        for name, measured in rounds.items()
    }
    text = table(medians, {name: statistics.median(values) for name, values in starts.items()}, options)
    results = pathlib.Path(options.results)
    results.mkdir(exist_ok=True)
    (results / "proxy.md").write_text(text)
    print(text)


def table(medians, starts, options):
    direct, plain, ours = medians["direct"], medians["plain hyper proxy"], medians["/proxy"]
    lines = [
        "# The proxy for other functions",
        "",
        f"`bench/proxy.sh`: medians of {options.rounds} interleaved rounds of {options.seconds} s on one machine,"
        f" {os.cpu_count()} cores ({platform.machine()}), upstream and load on the same cores; the function built as its"
        f" image is, its log written to a file. Throughput: `wrk -t2 -c{CONNECTIONS}`. Latency: {RATE} requests/s over {CONNECTIONS}"
        " connections. Memory: resident, after the load.",
        "",
        "| way | requests/s | of the plain proxy | p50 | over direct | p99 | memory |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, values in medians.items():
        lines.append(
            f"| {name} | {values['throughput']:,.0f} | {values['throughput'] / plain['throughput']:.2f}"
            f" | {values['p50']:.0f} µs | {values['p50'] - direct['p50']:.0f} µs | {values['p99']:.0f} µs"
            f" | {values['memory']:.1f} MiB |"
        )
    added = ours["p50"] - direct["p50"]
    lines += [
        "",
        f"The proxy adds {added:.0f} µs at the median (at most 100) and has {ours['throughput'] / plain['throughput']:.2f} of the"
        " plain proxy's throughput (at least 0.5).",
        "",
        f"From exec to the first 200 on `/_/health`, medians of {STARTS}: {starts['gumroad']:.1f} ms with a built-in definition,"
        f" {starts['custom']:.1f} ms with none (`provider=custom`): {starts['gumroad'] - starts['custom']:+.1f} ms (at most 2)."
        " `cargo bench -p token-keeper --bench definitions` has what reading a definition takes by itself.",
    ]
    return "\n".join(lines) + "\n"


main()
