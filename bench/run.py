#!/usr/bin/python3
"""Mail servers side by side on this machine: `bench/run.py [TABLE...]`, as root.

Prints Markdown: the tables named, or all. Every server of a table runs at the same time as the others,
each on a fresh ext4 of its own; they are measured in turns, as many rounds as --rounds says, and a cell
is the median of its rounds with the least and the most in brackets. `bare` is bench/bare.c. A server
that cannot take part is left out by name, with the reason. docs/PERFORMANCE.md says how to read it."""

import argparse
import contextlib
import os
import pathlib
import platform
import re
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import time

import servers
from servers import Disk, Missing, WORK

import pytest

import certs
import harness
from handshakes import tree_cpu
from smtpclient import Client

SINK_STEP = 50      # a sink reports after so many messages
RUN_MESSAGES = 20000
RUN_BYTES = 200 << 20
PATIENCE = 300      # seconds for a run to come through
SLOW_FLUSH_US = 5000
FLUSHES = "fsync,fdatasync,syncfs,sync,sync_file_range,msync"

# Why a server is left out: pytest's is what the tests' machinery says of a host that lacks something.
FAILURES = (Missing, AssertionError, OSError, subprocess.TimeoutExpired, pytest.skip.Exception)

BARE = [n for n in servers.ALL if n.startswith("bare")]
REAL = [n for n in servers.ALL if n not in BARE]


class Load:
    """How a run goes: sessions, size of a message, whether each has a connection of its own."""

    def __init__(self, text, sessions, length=1024, one_each=False):
        self.text, self.sessions, self.length, self.one_each = text, sessions, length, one_each


ACCEPT = [Load("100 sessions kept", 100), Load("10 sessions kept", 10), Load("1 session", 1),
          Load("10 sessions, one message a connection", 10, one_each=True),
          Load("100 KB, 10 sessions", 10, 100 << 10), Load("5 MB, 10 sessions", 10, 5 << 20)]
PASS = [Load("1 KB, 10 sessions kept", 10), Load("100 KB, 10 sessions kept", 10, 100 << 10)]


# ---- processes ------------------------------------------------------------------------------------


def tree(root):
    """The process and all below it, without unshare(1), which only waits."""
    parents = {}
    for p in pathlib.Path("/proc").iterdir():
        if p.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(p.name)] = int((p / "stat").read_text().rsplit(")", 1)[1].split()[1])
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        with contextlib.suppress(OSError):
            if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() != "unshare":
                found.append(pid)
        todo += [child for child, parent in parents.items() if parent == pid]
    return found


def tree_pss_mb(root):
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError, AssertionError):
            total += harness.pss_kb(pid)
    return total / 1024


# ---- one run --------------------------------------------------------------------------------------


class Sink:
    """bare, which takes what is relayed and tells when."""

    def __init__(self, disk, address="127.0.0.2"):
        self.address, self.port = address, harness.free_port(address)
        self.process = disk.process([WORK / "bare", "none", disk.path, address, self.port, SINK_STEP],
                                    "sink")
        harness.wait_for(lambda: harness.can_connect(address, self.port), 10, "the sink to listen")
        self.sent = 0

    def last(self):
        """(messages, connections, time) of the last report."""
        lines = self.process.log().splitlines()
        return tuple(map(float, lines[-1].split())) if lines else (0, 0, 0)


class Contestant:
    """A started server with what is measured of it."""

    def __init__(self, server, sink, pin):
        self.server, self.sink, self.pin = server, sink, pin
        self.name, self.samples, self.count = server.name, [], 0
        self.delivered = 0

    def load(self, load, count):
        s = self.server
        argv = [*self.pin, str(WORK / "load"), "-s", str(load.sessions), "-m", str(count),
                "-l", str(load.length), *(["-1"] if load.one_each else []), "-t", s.to, s.address,
                str(s.port)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE)
        if done.returncode != 0:
            raise Missing(f"the load failed: {done.stderr.strip()}")
        return [float(x) for x in done.stdout.split()]

    def in_maildir(self):
        new = self.server.new
        return len(os.listdir(new)) if new.exists() else 0

    def finished(self, load_ended):
        """When the last message of all runs so far had come through."""
        if self.sink:
            harness.wait_for(lambda: self.sink.last()[0] >= self.delivered, PATIENCE,
                             lambda: f"{self.name}: {self.sink.last()[0]:.0f} of {self.delivered} relayed")
            return self.sink.last()[2]
        if self.server.new:
            harness.wait_for(lambda: self.in_maildir() >= self.delivered, PATIENCE,
                             lambda: f"{self.name}: {self.in_maildir()} of {self.delivered} in the Maildir")
            return time.monotonic()
        return load_ended

    def measure(self, load, count):
        os.sync()
        connections = self.sink.last()[1] if self.sink else 0
        cpu = tree_cpu(self.server.pid)
        self.delivered += count
        messages, seconds, p50, p99, refused, _, start = self.load(load, count)
        seconds = self.finished(start + seconds) - start
        cpu = tree_cpu(self.server.pid) - cpu
        connections = self.sink.last()[1] - connections if self.sink else 0
        return {"rate": messages / seconds, "cpu": 1000 * cpu / messages, "p50": p50, "p99": p99,
                "refused": refused, "connections": connections / messages}

    def calibrate(self, load, seconds):
        """Sets how many messages a run has, so that it takes about so long."""
        most = max(SINK_STEP, min(RUN_MESSAGES, RUN_BYTES // load.length))
        first = max(SINK_STEP, 2 * load.sessions) if load.length < 1 << 20 else SINK_STEP
        rate = self.measure(load, first)["rate"]
        self.count = max(SINK_STEP, int(min(most, rate * seconds)) // SINK_STEP * SINK_STEP)


# ---- the field ------------------------------------------------------------------------------------


class Bench:
    """What the command line chose, and what was left out."""

    def __init__(self, options):
        self.options = options
        self.names = options.servers or list(servers.ALL)
        self.left_out = {}
        self.pin_server, self.pin_load = [], []

    def leave_out(self, table, name, reason):
        text = str(reason) or type(reason).__name__
        self.left_out.setdefault(f"{name}, {table}", text.splitlines()[-1])
        print(f"({name} left out of {table}: {reason})", file=sys.stderr, flush=True)

    def start(self, stack, name, job, cert=None, wrap=(), dead=False):
        disk = Disk(name.replace(" ", "-"))
        stack.callback(disk.stop)
        sink = Sink(disk) if job == "relay" and not dead else None
        to = (sink.address, sink.port) if sink else ("127.0.0.2", 9) if job == "relay" else None
        disk.wrap = [*self.pin_server, *wrap]
        more = {"program": self.options.chasq} if name == "chasq" else {}
        server = servers.ALL[name](disk, job, to=to, cert=cert, **more)
        disk.wrap = []
        return Contestant(server, sink, self.pin_load)

    @contextlib.contextmanager
    def field(self, table, job, names, **kwargs):
        """All that can take part, started."""
        with contextlib.ExitStack() as stack:
            found = []
            for name in names:
                if name in self.names:
                    try:
                        found.append(self.start(stack, name, job, **kwargs))
                    except FAILURES as e:
                        self.leave_out(table, name, e)
            yield found

    def each(self, table, job, names, function, **kwargs):
        """{name: function(contestant)}, one server after the other, each alone."""
        found = {}
        for name in names:
            with self.field(table, job, [name], **kwargs) as field:
                for c in field:
                    try:
                        found[name] = function(c)
                    except FAILURES as e:
                        self.leave_out(table, name, e)
        return found

    def race(self, table, job, load, names, **kwargs):
        """{name: samples} of interleaved rounds."""
        print(f"{table}, {load.text} ...", file=sys.stderr, flush=True)
        with self.field(f"{table}, {load.text}", job, names, **kwargs) as field:
            for turn in range(self.options.rounds + 1):
                for c in list(field):
                    try:
                        if turn == 0:
                            c.calibrate(load, self.options.seconds)
                        else:
                            c.samples.append(c.measure(load, c.count))
                    except FAILURES as e:
                        self.leave_out(f"{table}, {load.text}", c.name, e)
                        field.remove(c)
            return {c.name: c.samples for c in field}


# ---- Markdown -------------------------------------------------------------------------------------


def figure(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.3g}"


def cell(samples, key, key2=None):
    if not samples:
        return "-"
    values = sorted(s[key] for s in samples)
    text = figure(statistics.median(values))
    if key2:
        return f"{text} / {figure(statistics.median(s[key2] for s in samples))}"
    return f"{text} ({figure(values[0])}..{figure(values[-1])})" if len(values) > 1 else text


def print_table(title, names, rows):
    """rows: (text, {name: cell})."""
    names = [n for n in names if any(n in cells for _, cells in rows)]
    print(f"\n### {title}\n\n| | " + " | ".join(names) + " |\n|---" + "|---" * len(names) + "|")
    for text, cells in rows:
        print(f"| {text} | " + " | ".join(cells.get(n, "-") for n in names) + " |")
    sys.stdout.flush()


def print_races(races, names, columns):
    """columns: (title, key, second key)."""
    for title, *keys in columns:
        print_table(title, names, [(text, {n: cell(s, *keys) for n, s in found.items()})
                                   for text, found in races])


# ---- the tables -----------------------------------------------------------------------------------


def accept(b, title="Durable accept", loads=None, **kwargs):
    races = [(load.text, b.race("accept", "accept", load, list(servers.ALL), **kwargs))
             for load in loads or ACCEPT]
    print_races(races, list(servers.ALL), [
        (title + ", messages a second", "rate"), (title + ", CPU seconds per 1000 messages", "cpu"),
        (title + ", ms from the final dot to 250, p50 / p99", "p50", "p99"),
        (title + ", refused for now, per run", "refused")])


def relay(b, title="Relay, end to end"):
    races = [(load.text, b.race("relay", "relay", load, REAL)) for load in PASS]
    print_races(races, REAL, [
        (title + ", messages a second", "rate"), (title + ", CPU seconds per 1000 messages", "cpu"),
        (title + ", outgoing connections a message", "connections")])


def maildir(b):
    races = [(load.text, b.race("maildir", "maildir", load, REAL)) for load in PASS]
    print_races(races, REAL, [("Maildir, delivered messages a second", "rate"),
                              ("Maildir, CPU seconds per 1000 messages", "cpu")])


def onecore(b):
    if os.cpu_count() < 2:
        b.leave_out("onecore", "all", "one core is all there is")
        return
    b.pin_server, b.pin_load = ["taskset", "-c", "0"], ["taskset", "-c", "1"]
    accept(b, "Durable accept, server and load on a core each", ACCEPT[:3])
    relay(b, "Relay, server on one core")
    b.pin_server, b.pin_load = [], []


def slow_flush(b):
    # The sandbox of a server must not mind being traced, and the filter must spare what is not delayed.
    wrap = [harness.shutil.which("strace"), "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null",
            "-e", f"trace={FLUSHES}", "-e", f"inject={FLUSHES}:delay_enter={SLOW_FLUSH_US}"]
    found = [(load.text, b.race("slow-flush", "accept", load, list(servers.ALL), wrap=wrap))
             for load in ACCEPT[:2]]
    print_races(found, list(servers.ALL), [
        (f"Each flush takes {SLOW_FLUSH_US / 1000:.0f} ms more, messages a second", "rate"),
        ("The same, ms from the final dot to 250, p50 / p99", "p50", "p99")])


def count_calls(c, load, count):
    """(system calls, flushes) a message."""
    out = c.server.disk.base / "strace"
    c.measure(load, SINK_STEP)
    argv = ["strace", "-f", "-c", "-o", out]
    for pid in tree(c.server.pid):
        argv += ["-p", pid]
    tracer = c.server.disk.process(argv, "strace")
    harness.wait_for(lambda: "attached" in tracer.log(), 20, "strace to attach")
    c.measure(load, count)
    # strace ends with the last it traces; to let go of many threads can take it for ever.
    c.server.process.end()
    tracer.wait(60)
    line = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", re.M)
    calls = {m[2]: int(m[1]) for m in line.finditer(out.read_text())}
    calls.pop("total", None)
    return sum(calls.values()) / count, sum(calls.get(n, 0) for n in FLUSHES.split(",")) / count


def syscalls(b):
    rows = []
    for text, job, load in (("accept, 100 sessions", "accept", ACCEPT[0]),
                            ("accept, 10 sessions", "accept", ACCEPT[1]),
                            ("relay, 10 sessions", "relay", PASS[0]),
                            ("Maildir, 10 sessions", "maildir", PASS[0])):
        found = b.each("syscalls", job, list(servers.ALL) if job == "accept" else REAL,
                       lambda c, load=load: count_calls(c, load, 500))
        rows.append((text, {n: f"{figure(calls)}, {figure(flushes)}"
                            for n, (calls, flushes) in found.items()}))
    print_table("System calls a message, flushes a message", list(servers.ALL), rows)


def connect(c, number):
    client = Client(c.server.port, address=c.server.address, timeout=120,
                    source=f"127.0.1.{number % 20 + 1}")
    client.send("EHLO bench.test\r\n")
    client.read()
    return client


def starttls(client):
    client.cmd("STARTTLS", 220)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client.sock = context.wrap_socket(client.sock)
    client.buffer = b""
    client.send("EHLO bench.test\r\n")
    client.read()


def sessions_pss(c, prepare):
    """PSS in MB while 100 sessions are where prepare(client) brings them."""
    with contextlib.ExitStack() as stack:
        for i in range(100):
            client = connect(c, i)
            stack.callback(client.close)
            prepare(client)
        time.sleep(1)
        return tree_pss_mb(c.server.pid)


def into_data(client, to):
    client.cmd("MAIL FROM:<load@client.test>", 250)
    client.cmd(f"RCPT TO:<{to}>", 250)
    client.cmd("DATA", 354)
    line = b"X" * 72 + b"\r\n"
    for _ in range(10):
        client.sock.sendall(line * ((1 << 20) // len(line)))


def memory(b):
    def plain(c):
        c.measure(ACCEPT[1], SINK_STEP)
        return [tree_pss_mb(c.server.pid), sessions_pss(c, lambda client: None),
                sessions_pss(c, lambda client: into_data(client, c.server.to))]

    found = b.each("memory", "accept", list(servers.ALL), plain)
    with harness.tempfile.TemporaryDirectory() as d:
        os.chmod(d, 0o755)
        cert = certs.make_cert(pathlib.Path(d), ["mx.test"], key="ec")
        for p in pathlib.Path(d).iterdir():
            p.chmod(0o644)
        tls = b.each("memory with TLS", "maildir", REAL,
                     lambda c: [tree_pss_mb(c.server.pid), sessions_pss(c, starttls)], cert=cert)
    rows = [(text, {n: figure(v[i]) for n, v in found.items()})
            for i, text in enumerate(("idle", "100 idle sessions", "100 sessions, 10 MB into DATA"))]
    rows += [(text, {n: figure(v[i]) for n, v in tls.items()})
             for i, text in enumerate(("idle, with a certificate", "100 idle TLS sessions"))]
    print_table("Memory: PSS of all processes, MB", list(servers.ALL), rows)


def banner_seconds(c):
    start = time.monotonic()
    c.server.restart()
    while True:
        with contextlib.suppress(OSError):
            with socket.create_connection((c.server.address, c.server.port), timeout=PATIENCE) as s:
                if s.recv(3) == b"220":
                    return time.monotonic() - start
        if time.monotonic() - start > PATIENCE:
            raise Missing(f"no banner within {PATIENCE} s")
        time.sleep(0.002)


def full_queue(b, c):
    """With many messages that wait for a host which refuses connections."""
    if c.name == "chasquid":
        raise Missing("its queue has 200 places")
    load, rounds, count = ACCEPT[1], range(b.options.rounds), 2000

    def rate():
        return statistics.median(c.measure(load, count)["rate"] for _ in rounds)

    empty = rate()
    c.load(load, b.options.queued)
    banner = banner_seconds(c)
    time.sleep(b.options.settle)
    cpu = tree_cpu(c.server.pid)
    time.sleep(10)
    cpu = (tree_cpu(c.server.pid) - cpu) / 10
    return {"s to the banner after kill -9": figure(banner), "PSS, MB": figure(tree_pss_mb(c.server.pid)),
            "CPU at idle, %": figure(100 * cpu),
            "new mail's rate, of the empty queue's": figure(rate() / empty)}


def queue(b):
    found = b.each("queue", "relay", REAL, lambda c: full_queue(b, c), dead=True)
    texts = list(next(iter(found.values()), {}))
    print_table(f"{b.options.queued} messages waiting for a host that refuses connections", REAL,
                [(t, {n: v[t] for n, v in found.items()}) for t in texts])


def flash(b):
    load, count = Load("4 KB", 10, 4096), 1000

    def written(c):
        c.measure(load, SINK_STEP)
        before = c.server.disk.written()
        c.measure(load, count)
        return (c.server.disk.written() - before) / count / 1024

    found = b.each("flash", "relay", REAL, written)
    print_table("KB written to the device for a relayed message of 4 KB", REAL,
                [("10 sessions", {n: figure(v) for n, v in found.items()})])


def tls(_):
    print("\n### Full TLS handshakes (bench/handshakes.py)\n")
    done = subprocess.run([sys.executable, servers.TREE / "bench/handshakes.py"], capture_output=True,
                          text=True, check=False)
    print("\n".join("    " + line for line in (done.stdout or done.stderr).splitlines()), flush=True)


TABLES = {"accept": accept, "relay": relay, "maildir": maildir, "onecore": onecore, "slow-flush": slow_flush,
          "syscalls": syscalls, "memory": memory, "queue": queue, "flash": flash, "tls": tls}


# ---- the command ----------------------------------------------------------------------------------


def print_head(options):
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    print("    " + " ".join(["bench/run.py", *sys.argv[1:]]))
    print(f"\n{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, Linux {platform.release()}, "
          f"{os.cpu_count()} x {cpu[1] if cpu else platform.machine()}; load average at the start "
          f"{os.getloadavg()[0]:.1f}; {options.rounds} rounds of about {options.seconds:g} s.\n")
    for name, text in servers.versions(options.chasq).items():
        print(f"- {name} {text}")
    sys.stdout.flush()


def main():
    p = argparse.ArgumentParser(description="Mail servers side by side.",
                                epilog="Tables: " + ", ".join(TABLES))
    p.add_argument("tables", nargs="*", metavar="TABLE", help="all by default")
    p.add_argument("--chasq", type=pathlib.Path, default=servers.TREE / "build/main/chasq",
                   help="the program")
    p.add_argument("--servers", nargs="+", choices=list(servers.ALL), help="only these")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=3, help="about what a run takes")
    p.add_argument("--queued", type=int, default=100000, help="messages of the table queue")
    p.add_argument("--settle", type=float, default=30, help="seconds before it counts as idle")
    options = p.parse_args()
    unknown = [t for t in options.tables if t not in TABLES]
    if unknown:
        p.error(f"no such table: {', '.join(unknown)}; there are {', '.join(TABLES)}")
    if os.getuid() != 0:
        sys.exit("must be root: loop devices, Postfix's master, Exim's user")
    if not options.chasq.exists():
        sys.exit(f"{options.chasq} is missing: make BUILD=build/main build/main/chasq")
    # Ended from outside, it still puts everything away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    servers.build()
    print_head(options)
    b = Bench(options)
    for name in options.tables or TABLES:
        TABLES[name](b)
    if b.left_out:
        print("\nLeft out: " + "; ".join(f"{k}: {v}" for k, v in b.left_out.items()) + ".")


if __name__ == "__main__":
    main()
