"""Ends the daemon at, or fails, the n-th call that changes a file: what the scenarios share.

A run: a daemon with the shim (tests/tools/crashshim.c) goes through a scenario; after the end a daemon
without it must bring all that was left to an end; then all is counted.
"""

import concurrent.futures
import errno
import os
import pathlib
import signal
import threading
import time

import pytest

import harness
import sink as sink_module
from peers import Dnsmasq
from smtpclient import Client, Closed, stuff

WORKERS = 6

# How a run meets the n-th call, and of how many calls one is tried where not all are, by whether messages are
# in the journal first. "lost": the end, and part of what was not flushed is gone.
STEPS = {
    False: {"end": 4, "torn": 11, "ENOSPC": 13, "EIO": 13},
    True: {"end": 5, "torn": 11, "lost": 5, "ENOSPC": 11, "EIO": 11},
}
MODES = [pytest.param(journal, mode, id=("journal-" if journal else "files-") + mode)
         for journal, modes in STEPS.items() for mode in modes]


def message(name):
    return f"Subject: {name}\r\nFrom: s\r\n\r\n{name} begins\r\n.\r\n{'x' * 70}\r\n{name} ends\r\n".encode()


class World:
    """What the runs share: a name server. Each run has its own daemon, sink, and directories."""

    def __init__(self, box, shim, kind, program=None, journal=False):
        self.box = box
        self.program = program or harness.fast_binary()
        self.journal = journal
        self.kind = kind
        self.shim = shim
        self.lock = threading.Lock()
        self.next_address = 10
        self.dns = Dnsmasq(box, mx={f"far{i}.test": [(10, f"mx{i}.test")] for i in range(10, 200)},
                           hosts={f"mx{i}.test": [f"127.0.3.{i}"] for i in range(10, 200)})

    def run(self, n, mode):
        with self.lock:
            address = self.next_address
            self.next_address = 10 + (self.next_address - 9) % 190
        return self.kind(self, n, mode, address)


class Run:
    """One run of a scenario. A kind of its own gives scenario() and check(); what was answered 250 is
    noted in `acknowledged`."""

    def __init__(self, world, n, mode, address):
        self.world = world
        self.n = n
        self.far = f"far{address}.test"
        self.name = f"{mode}-{n}"
        self.sandbox = harness.Sandbox("crash-" + self.name)
        self.dir = self.sandbox.path
        self.sink = self.make_sink(f"127.0.3.{address}")
        self.chasq = harness.Chasq(
            # An address of its own: a port that was free can be another run's a moment later.
            self.sandbox, program=world.program, address=f"127.0.4.{address}", journal=world.journal,
            conf={"dns_servers": world.dns.server, "remote_smtp_port": self.sink.port,
                  "trusted_network": "127.0.0.0/8"},
            domains={"here.test": {"users": ["user", "sender"], "aliases": self.aliases()}})
        self.env = {"LD_PRELOAD": str(world.shim), "CRASHSHIM_AT": str(n),
                    "CRASHSHIM_TRACE": str(self.dir / "trace")}
        if mode in ("torn", "lost"):
            self.env["CRASHSHIM_" + mode.upper()] = "1"
        elif mode != "end":
            self.env["CRASHSHIM_ERRNO"] = str(getattr(errno, mode))
            # A full disk stays full for a while.
            self.env["CRASHSHIM_UNTIL"] = str(n + (8 if mode == "ENOSPC" else 0))
        self.mode = mode
        self.acknowledged = set()

    def make_sink(self, address):
        return sink_module.Sink(address=address, script={"RCPT": self.answer_rcpt})

    def answer_rcpt(self, _session, _arg):
        return None

    def aliases(self):
        return ""

    def ending(self):
        """Whether the n-th call is the daemon's end; otherwise it fails."""
        return self.mode in ("end", "torn", "lost")

    def most_notes(self):
        """How often one notification may come: a power cut can bring back both the message that it is about
        and itself after it was delivered."""
        return 3 if self.mode == "lost" else 2

    def send(self, name, recipients, together=None):
        """Sends message(name), its content at the same time as others that wait at the barrier. That the
        daemon may end meanwhile is what this is about."""
        c = self.chasq
        try:
            with Client(c.port, c.address, timeout=10) as client:
                client.hello()
                client.cmd("MAIL FROM:<sender@here.test>", 250)
                for r in recipients:
                    client.cmd(f"RCPT TO:<{r.replace('far.test', self.far)}>", 250)
                client.cmd("DATA", 354)
                if together:
                    together.wait(10)
                client.send(stuff(message(name)))
                if client.read().code == 250:
                    self.acknowledged.add(name)
        except (OSError, Closed, AssertionError, threading.BrokenBarrierError) as e:
            if together:
                together.abort()
            if not self.ending() and not c.process.running():
                raise AssertionError("the daemon ended: " + c.log()[-2000:]) from e

    def wait(self, condition, seconds):
        """Until it is true, or the daemon is gone, or so many seconds are over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.chasq.process.running() and not condition():
            time.sleep(0.01)

    def reached(self):
        """Whether the n-th call was made at all."""
        trace = self.dir / "trace"
        return trace.exists() and len(trace.read_text().splitlines()) >= self.n

    def refused_to_start(self):
        """Waits until the daemon answers or has ended. Not to start on a disk that fails is right: with
        the reason, and before a door was open."""
        c = self.chasq
        harness.wait_for(lambda: not c.process.running() or harness.can_connect(c.address, c.port),
                         10, step=0.005)
        if self.ending() or c.process.running() or "listen opened" in c.log():
            return False
        assert c.process.wait() == 1 and os.strerror(getattr(errno, self.mode)) in c.log(), c.log()
        return True

    def settled(self):
        waiting = self.chasq.texts().values()
        # What failed for now waits for its next time: settled too, as far as this run goes.
        return not waiting or (not self.ending() and all(b"\nattempt" in text for text in waiting))

    def end(self):
        c = self.chasq
        if self.ending():
            # Stopping is a part of the scenario: the end may come there too.
            c.process.kill(signal.SIGTERM)
            code = c.process.wait(20)
            c.check_log()
            assert code in (0, 86), f"ended by itself, {code}:\n{c.log()[-3000:]}"
        elif c.process.running():
            c.kill()
        # A child that it had just forked has its sockets for a moment more.
        harness.wait_for(lambda: harness.can_listen(c.address, c.port), 10, f"{self.name}: its port to be free")

    def recover(self):
        """A daemon without the shim must bring all of it to an end."""
        c = self.chasq
        self.end()
        c.start()

        def empty():
            if not c.queued():
                return True
            c.sendmail("-q")
            return False

        harness.wait_for(empty, 30, lambda: f"{self.name}: the queue to become empty: {c.queued()}\n"
                         + c.log()[-3000:], 0.1)
        c.stop()

    def all(self):
        """Returns whether the n-th call was reached."""
        try:
            self.scenario()
            reached = self.reached()
            self.recover()
            self.check()
            return reached
        except Exception as e:
            self.sandbox.keep = True
            trace = pathlib.Path(self.dir / "trace")
            lines = trace.read_text().splitlines()[-5:] if trace.exists() else []
            raise AssertionError(f"{self.name} in {self.dir}, last calls {lines}: {e}") from e
        finally:
            self.sink.stop()
            self.sandbox.stop()


def every_n(world, mode, step=None):
    """Runs for n = 1, 2, ... (a share of them, unless all are wanted) until the scenario needs fewer calls than
    n. Returns that number. One run may need a few calls fewer than another: several in a row say that it is over."""
    step = 1 if harness.FULL else step or STEPS[world.journal][mode]
    reached = 0
    n = 1
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        while True:
            batch = range(n, n + WORKERS * step, step)
            results = list(pool.map(lambda i: (i, world.run(i, mode).all()), batch))
            reached = max([i for i, hit in results if hit], default=reached)
            n = batch[-1] + step
            if not any(hit for _, hit in results[0 if harness.FULL else WORKERS // 2:]):
                return reached
            assert n < 3000, "the scenario does not end"
