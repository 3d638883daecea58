"""Drives each target in turn, several rounds, and writes medians as a Markdown table and an SVG plot."""

import argparse
import http.client
import os
import pathlib
import platform
import re
import signal
import socket
import statistics
import subprocess
import tempfile
import time

CONNECTIONS = 16
RATE = 2000


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--load", required=True)
    parser.add_argument("--results", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--target", action="append", default=[])
    return parser.parse_args()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def healthy(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        # A bare server answers this, too.
        connection.request("GET", "/_/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def answers(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        return response.status == 200 and response.read() == b"hello\n"
    except OSError:
        return False
    finally:
        connection.close()


def group_memory(leader):
    """Resident bytes of a process group."""
    total = 0
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.getpgid(int(entry.name)) == leader:
                match = re.search(r"VmRSS:\s+(\d+) kB", (entry / "status").read_text())
                total += int(match[1]) * 1024 if match else 0
        except (OSError, ProcessLookupError):
            pass
    return total


def wait_for(check, port, process):
    started = time.perf_counter()
    while not check(port):
        if process.poll() is not None or time.perf_counter() - started > 20:
            raise SystemExit("bench: a target does not come up")
        time.sleep(0.0005)


def measure(command, load, seconds, log):
    port = free_port()
    environment = os.environ | {"port": str(port), "metrics_port": "0", "healthcheck_interval": "1s"}
    with tempfile.TemporaryDirectory() as folder:
        environment["TMPDIR"] = folder
        started = time.perf_counter()
        process = subprocess.Popen(
            "exec " + command, shell=True, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait_for(healthy, port, process)
            start = time.perf_counter() - started
            wait_for(answers, port, process)
            # Every thread and connection of the start has come to rest.
            time.sleep(0.5)
            memory = group_memory(process.pid)
            wrk = ["wrk", "-t2", f"-c{CONNECTIONS}"]
            subprocess.run(wrk + ["-d1", f"http://127.0.0.1:{port}/"], check=True, capture_output=True)
            run = subprocess.run(
                wrk + [f"-d{seconds}", f"http://127.0.0.1:{port}/"], check=True, capture_output=True, text=True
            )
            if "Non-2xx" in run.stdout:
                raise SystemExit("bench: answers other than 200")
            throughput = float(re.search(r"Requests/sec:\s+([\d.]+)", run.stdout)[1])
            steady = [load, str(port), str(CONNECTIONS), str(RATE), str(seconds)]
            latency = subprocess.run(steady, check=True, capture_output=True, text=True).stdout.split()
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return {
        "throughput": throughput,
        "p50": float(latency[0]),
        "p99": float(latency[1]),
        "start": start * 1000,
        "memory": memory / (1 << 20),
    }


def table(medians, options):
    base = medians["bare hyper"]
    lines = [
        "# Side by side",
        "",
        f"Medians of {options.rounds} interleaved rounds of {options.seconds} s on one machine, {os.cpu_count()} cores"
        f" ({platform.machine()}), the load on the same cores; logs on, written to a file. Throughput: `wrk -t2"
        f" -c{CONNECTIONS}`. Latency: {RATE} requests/s over {CONNECTIONS} connections. Memory: resident, all processes,"
        " before the load. Start: from exec to the first 200 on `/_/health`, as seen from outside.",
        "",
        "| target | requests/s | of bare hyper | p50 | p99 | idle memory | cold start |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, values in medians.items():
        lines.append(
            f"| {name} | {values['throughput']:,.0f} | {values['throughput'] / base['throughput']:.2f}"
            f" | {values['p50']:.0f} µs | {values['p99']:.0f} µs | {values['memory']:.1f} MiB | {values['start']:.1f} ms |"
        )
    return "\n".join(lines) + "\n"


def plot(medians):
    width, row, left = 720, 30, 190
    most = max(values["throughput"] for values in medians.values())
    bars = []
    for number, (name, values) in enumerate(medians.items()):
        y, length = 40 + number * row, (width - left - 90) * values["throughput"] / most
        fill = "#b7410e" if number == 0 else "#8a99a8"
        bars.append(
            f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{name}</text>'
            f'<rect x="{left}" y="{y}" width="{length:.0f}" height="20" fill="{fill}"/>'
            f'<text x="{left + length + 6:.0f}" y="{y + 15}">{values["throughput"]:,.0f}</text>'
        )
    height = 50 + row * len(medians)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">'
        f'<rect width="{width}" height="{height}" fill="white"/><text x="{left}" y="24" font-weight="bold">requests/s,'
        f" {CONNECTIONS} connections</text>{''.join(bars)}</svg>\n"
    )


def main():
    options = arguments()
    targets = dict(target.split("=", 1) for target in options.target)
    # The starter first.
    targets = {name: targets[name] for name in sorted(targets, key=lambda name: name != "rust-hyper")}
    rounds = {name: [] for name in targets}
    with tempfile.TemporaryFile() as log:
        for number in range(options.rounds):
            for name, command in targets.items():
                rounds[name].append(measure(command, options.load, options.seconds, log))
                print(f"round {number + 1}: {name}: {rounds[name][-1]}", flush=True)
    medians = {
        name: {key: statistics.median(values[key] for values in measured) for key in measured[0]}
        for name, measured in rounds.items()
    }
    results = pathlib.Path(options.results)
    results.mkdir(exist_ok=True)
    (results / "README.md").write_text(table(medians, options) + "\n![requests per second](throughput.svg)\n")
    (results / "throughput.svg").write_text(plot(medians))
    print(table(medians, options))


if __name__ == "__main__":
    main()
