"""Servers at work: started side by side, loaded, and measured in turns."""

import contextlib
import os
import pathlib
import subprocess
import sys
import time

import servers
from servers import Disk, Missing, WORK

import pytest

import harness
import report

SINK_STEP = 50      # a sink reports after so many messages
RUN_MESSAGES = 20000
RUN_BYTES = 200 << 20
PATIENCE = 120      # seconds for a run to come through
TICK = os.sysconf("SC_CLK_TCK")

# Why a server is left out: pytest's is what the tests' machinery says of a host that lacks something.
FAILURES = (Missing, AssertionError, OSError, subprocess.TimeoutExpired, pytest.skip.Exception)

BARE = [n for n in servers.ALL if n.startswith("bare")]
REAL = [n for n in servers.ALL if n not in BARE]


class Load:
    """How a run goes: sessions, size of a message, whether each has a connection of its own, and
    how many messages; 0: as many as a server takes in about --seconds."""

    def __init__(self, text, sessions, length=1024, one_each=False, count=0):
        self.text, self.sessions, self.length, self.one_each = text, sessions, length, one_each
        self.count = count


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
        step = SINK_STEP if self.sink else 10
        most = max(step, min(RUN_MESSAGES, RUN_BYTES // load.length))
        first = max(step, 2 * load.sessions // step * step) if load.length < 1 << 20 else step
        rate = self.measure(load, first)["rate"]
        self.count = load.count or max(step, int(min(most, rate * seconds)) // step * step)


# ---- the field ------------------------------------------------------------------------------------


class Bench:
    """What the command line chose, and what was left out."""

    def __init__(self, options):
        self.options = options
        self.names = options.servers or [*servers.ALL, *servers.TLS]
        self.left_out, self.races, self.goals = {}, {}, report.Goals()
        self.ends = time.monotonic() + options.budget if options.budget else None
        self.pin_server, self.pin_load = [], []

    def is_over(self):
        return self.ends is not None and time.monotonic() > self.ends

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
        server = {**servers.ALL, **servers.TLS}[name](disk, job, to=to, cert=cert, **more)
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
                        if self.is_over():
                            raise Missing("the time that was given is over")
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
        if not any(text in load.text for text in self.options.rows):
            return {}
        print(f"{table}, {load.text} ...", file=sys.stderr, flush=True)
        with self.field(f"{table}, {load.text}", job, names, **kwargs) as field:
            for turn in range(self.options.rounds + 1):
                for c in list(field):
                    if turn > 1 and self.is_over():
                        break
                    try:
                        if turn == 0:
                            c.calibrate(load, self.options.seconds)
                        else:
                            c.samples.append(c.measure(load, c.count))
                    except FAILURES as e:
                        self.leave_out(f"{table}, {load.text}", c.name, e)
                        field.remove(c)
            found = {c.name: c.samples for c in field}
            self.races[f"{table}, {load.text}"] = found
            return found


