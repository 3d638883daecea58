#!/usr/bin/env python3
"""Runs an image's root file system as the platform does: run.py BUNDLE, whose folder `rootfs` is the image's.

As user 12000, without capabilities, with a root that is read-only; the environment is this process's. Where that names a
`secret_mount_path`, its files are copied to where OpenFaaS mounts secrets, readable to all, and follow changes a little
later, as they do in a pod. Stays in the foreground and hands SIGTERM on.
"""

import json
import os
import signal
import subprocess
import sys

bundle = os.path.abspath(sys.argv[1])
environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "PATH", "PWD", "TMPDIR", "SHLVL", "_")}
mounts = [{"destination": "/proc", "type": "proc", "source": "proc"}]
for name in ("hosts", "resolv.conf"):
    open(f"{bundle}/rootfs/etc/{name}", "a").close()
    source = f"{bundle}/{name}" if os.path.exists(f"{bundle}/{name}") else f"/etc/{name}"
    mounts.append({"destination": f"/etc/{name}", "type": "bind", "source": source, "options": ["bind", "ro"]})
secrets, copies = environment.pop("secret_mount_path", None), f"{bundle}/secrets"
if secrets:
    place = "/var/openfaas/secrets"
    os.makedirs(f"{bundle}/rootfs{place}", exist_ok=True)
    os.makedirs(copies, exist_ok=True)
    mounts.append({"destination": place, "type": "bind", "source": copies, "options": ["bind", "ro"]})


def project():
    """Copies the secrets that have changed, each whole or not at all."""
    for name in os.listdir(secrets) if secrets else ():
        with open(f"{secrets}/{name}", "rb") as file:
            new = file.read()
        old = None
        if os.path.exists(f"{copies}/{name}"):
            with open(f"{copies}/{name}", "rb") as file:
                old = file.read()
        if new != old:
            with open(f"{bundle}/new", "wb") as file:
                file.write(new)
            os.chmod(f"{bundle}/new", 0o644)
            os.rename(f"{bundle}/new", f"{copies}/{name}")


config = {
    "ociVersion": "1.0.2",
    "process": {
        "user": {"uid": 12000, "gid": 12000},
        "args": ["/function"],
        "env": [f"{name}={value}" for name, value in environment.items()],
        "cwd": "/",
        "noNewPrivileges": True,
    },
    "root": {"path": "rootfs", "readonly": True},
    "mounts": mounts,
    "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
}
with open(f"{bundle}/config.json", "w") as file:
    json.dump(config, file)
project()
container = subprocess.Popen(["runc", "--root", f"{bundle}/state", "run", "--bundle", bundle, f"function-{os.getpid()}"])
signal.signal(signal.SIGTERM, lambda *_: container.send_signal(signal.SIGTERM))
while True:
    try:
        sys.exit(container.wait(timeout=0.2))
    except subprocess.TimeoutExpired:
        project()
