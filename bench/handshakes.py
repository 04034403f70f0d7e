#!/usr/bin/python3
"""Full TLS handshakes a second and server CPU for each, chasq beside Postfix, in one run.

Needs root (Postfix's master does) and build/main/chasq; run `make check` once for the peers. openssl
s_time is the client: implicit TLS, TLS 1.2, no resumption, one connection after another."""

import os
import pathlib
import re
import statistics
import subprocess
import sys

TREE = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TREE / "tests/e2e"))

import certs  # noqa: E402
import harness  # noqa: E402
import peers  # noqa: E402

SECONDS, ROUNDS = 3, 3
TICK = os.sysconf("SC_CLK_TCK")


def tree_cpu(root):
    """CPU seconds of a process, its children, and those that have ended."""
    total, children = 0, {}
    for p in pathlib.Path("/proc").iterdir():
        if p.name.isdigit():
            try:
                fields = (p / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(p.name))
            children[-int(p.name)] = sum(int(x) for x in fields[11:15])
    todo = [root]
    while todo:
        pid = todo.pop()
        total += children.get(-pid, 0)
        todo += children.get(pid, [])
    return total / TICK


def handshakes(address, port, pid, kind):
    cipher = "ECDHE-ECDSA-AES128-GCM-SHA256" if kind == "ec" else "ECDHE-RSA-AES128-GCM-SHA256"
    before = tree_cpu(pid)
    out = subprocess.run(["openssl", "s_time", "-connect", f"{address}:{port}", "-new", "-tls1_2", "-cipher",
                          cipher, "-time", str(SECONDS)], capture_output=True, text=True).stdout
    count = int(re.search(r"(\d+) connections in \d+ real seconds", out).group(1))
    return count / SECONDS, 1000 * (tree_cpu(pid) - before) / count


def main():
    box = harness.Sandbox("bench")
    try:
        for kind in ("rsa", "ec"):
            cert = certs.make_cert(box.path / kind, ["mx.test"], key=kind)
            chasq = start_chasq(box, kind, cert)
            postfix = peers.Postfix(box, cert=cert)
            rows = {"chasq": [], "Postfix": []}
            for _ in range(ROUNDS):
                rows["chasq"].append(handshakes(*chasq, kind))
                rows["Postfix"].append(handshakes(postfix.address, postfix.tls_port, postfix.process.pid, kind))
            for name, values in rows.items():
                rate = statistics.median(v[0] for v in values)
                cpu = statistics.median(v[1] for v in values)
                print(f"{kind:4} {name:8} {rate:6.0f} handshakes/s, {cpu:.2f} ms of server CPU each")
    finally:
        box.stop()


def start_chasq(box, kind, cert):
    port = harness.free_port()
    c = harness.Chasq(box, "chasq-" + kind, program=TREE / "build/main/chasq",
                      conf={"submission_over_tls_address": f"127.0.0.1:{port}"})
    cert.install(c.dir / "certs", "mx.test")
    c.start()
    return "127.0.0.1", port, c.pid


if __name__ == "__main__":
    main()
