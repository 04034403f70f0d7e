"""Ends the daemon at, or fails, the n-th call that changes a file, for every n of a scenario.

The scenario: a message into a Maildir, one to a remote host, one to a program, one to two recipients
of whom the remote one is refused (so a notification is due). After the end the daemon is started
again; the oracle is the state table of docs/INTERNALS.md: what was answered 250 arrives whole,
perhaps twice; the rest arrives whole or not at all; and the queue becomes empty.

A second scenario is what operators do: one message is removed with a notification, one is held. The
first is then either delivered or notified of, never both and never neither; the second, once that was
answered OK, is not tried before it is released, and then arrives.
"""

import concurrent.futures
import errno
import os
import pathlib
import re
import signal
import socket
import threading
import time

import pytest

import harness
import sink as sink_module
from peers import Dnsmasq
from smtpclient import Client, Closed

WORKERS = 6


def message(name):
    return f"Subject: {name}\r\nFrom: s\r\n\r\n{name} begins\r\n.\r\n{'x' * 70}\r\n{name} ends\r\n".encode()


MAIL = {
    "local": ["user@here.test"],
    "remote": ["r@far.test"],
    "program": ["prog@here.test"],
    "mixed": ["user@here.test", "refused@far.test"],
}


class World:
    """What the runs share: a name server. Each run has its own daemon, sink, and directories."""

    def __init__(self, box, shim, kind=None):
        self.box = box
        self.kind = kind or Run
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
    def __init__(self, world, n, mode, address):
        self.world = world
        self.n = n
        self.far = f"far{address}.test"
        self.name = f"{mode}-{n}"
        self.sandbox = harness.Sandbox("crash-" + self.name)
        self.dir = self.sandbox.path
        self.sink = sink_module.Sink(address=f"127.0.3.{address}", script={"RCPT": self.answer_rcpt})
        program = self.dir / "take"
        program.write_text(f"#!/bin/sh\ncat >{self.dir}/part.$$ && mv {self.dir}/part.$$ "
                           f"{self.dir}/got.$$\n")
        program.chmod(0o755)
        self.chasq = harness.Chasq(
            self.sandbox, program=harness.fast_binary(),
            conf={"dns_servers": world.dns.server, "remote_smtp_port": self.sink.port,
                  "trusted_network": "127.0.0.0/8"},
            domains={"here.test": {"users": ["user", "sender"], "aliases": f"prog: | {program}\n"}})
        self.env = {"LD_PRELOAD": str(world.shim), "CRASHSHIM_AT": str(n),
                    "CRASHSHIM_TRACE": str(self.dir / "trace")}
        if mode == "torn":
            self.env["CRASHSHIM_TORN"] = "1"
        elif mode != "end":
            self.env["CRASHSHIM_ERRNO"] = str(getattr(errno, mode))
            # A full disk stays full for a while.
            self.env["CRASHSHIM_UNTIL"] = str(n + (8 if mode == "ENOSPC" else 0))
        self.mode = mode
        self.acknowledged = set()

    @staticmethod
    def answer_rcpt(_session, arg):
        return "550 5.1.1 no" if "refused" in arg else None

    def reached(self):
        """Whether the n-th call was made at all."""
        trace = self.dir / "trace"
        return trace.exists() and len(trace.read_text().splitlines()) >= self.n

    def scenario(self):
        """Sends all mail until the daemon is gone or all is done; notes what was answered 250."""
        c = self.chasq
        c.start(wait=False, env=self.env)
        if self.refused_to_start():
            return
        try:
            for name, to in MAIL.items():
                with Client(c.port, timeout=10) as client:
                    client.hello()
                    recipients = [t.replace("far.test", self.far) for t in to]
                    if client.message("sender@here.test", recipients, message(name),
                                      expect=None).code == 250:
                        self.acknowledged.add(name)
        except (OSError, Closed, AssertionError) as e:
            if self.mode not in ("end", "torn") and not c.process.running():
                raise AssertionError("the daemon ended: " + c.log()[-2000:]) from e
        # Time for the deliveries: until all is done or the daemon is gone.
        end = time.monotonic() + (5 if self.mode in ("end", "torn") else 1.5)
        while time.monotonic() < end and c.process.running() and not self.settled():
            time.sleep(0.01)

    def refused_to_start(self):
        """Waits until the daemon answers or has ended. Not to start on a disk that fails is right: with
        the reason, and before a door was open."""
        c = self.chasq
        harness.wait_for(lambda: not c.process.running() or harness.can_connect(c.address, c.port),
                         10, step=0.005)
        if self.mode in ("end", "torn") or c.process.running() or "listen opened" in c.log():
            return False
        assert c.process.wait() == 1 and os.strerror(getattr(errno, self.mode)) in c.log(), c.log()
        return True

    def settled(self):
        waiting = [p for p in self.chasq.queued()]
        if not waiting:
            return True
        # What failed for now waits for its next time: settled too, as far as this run goes.
        try:
            return self.mode not in ("end", "torn") and all(
                b"\nattempt" in p.read_bytes() for p in waiting)
        except FileNotFoundError:
            return False  # one of them was done in this moment: look again

    def end(self):
        c = self.chasq
        if self.mode in ("end", "torn"):
            # Stopping is a part of the scenario: the end may come there too.
            c.process.kill(signal.SIGTERM)
            code = c.process.wait(20)
            c.check_log()
            assert code in (0, 86), f"ended by itself, {code}:\n{c.log()[-3000:]}"
        elif c.process.running():
            c.kill()

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

    def check(self):
        c = self.chasq
        user = [harness.split_message(m) for m in c.messages("user")]
        places = {
            "local": [b for h, b in user if b"Subject: local" in h],
            "mixed": [b for h, b in user if b"Subject: mixed" in h],
            "remote": [harness.split_message(m.data.replace(b"\r\n", b"\n"))[1]
                       for m in self.sink.messages],
            "program": [harness.split_message(p.read_bytes())[1] for p in self.dir.glob("got.*")],
        }
        for name, bodies in places.items():
            whole = message(name).replace(b"\r\n", b"\n").split(b"\n\n", 1)[1]
            for body in bodies:
                assert body == whole, f"{self.name}: {name} was delivered in part: {body!r}"
            if name in self.acknowledged:
                assert bodies, f"{self.name}: {name} was answered 250 and is lost"
            assert len(bodies) <= 2, f"{self.name}: {name} was delivered {len(bodies)} times"
        notes = c.messages("sender")
        if "mixed" in self.acknowledged:
            assert notes, f"{self.name}: the notification is lost"
        for note in notes:
            assert re.search(rb"^Final-Recipient: rfc822; ?refused@", note, re.M)
            assert note.rstrip().endswith(b"--"), f"{self.name}: a notification in part"
        assert len(notes) <= 2

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


class OperatorRun(Run):
    """Two messages wait for a host that is busy; one is removed, one is held."""

    def __init__(self, *args):
        self.busy = True
        self.answered = set()
        super().__init__(*args)

    def answer_rcpt(self, _session, _arg):
        return "451 4.3.2 busy" if self.busy else None

    def ask(self, line):
        """The answer of the control socket; "" when the daemon ended meanwhile."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            answer = b""
            try:
                s.connect(str(self.chasq.data / "control"))
                s.sendall(line.encode() + b"\n")
                while piece := s.recv(65536):
                    answer += piece
            except OSError:
                return ""
            return answer.decode()

    def id_of(self, name):
        for path in self.chasq.queued():
            try:
                if f'"Subject: {name}' in path.read_text():
                    return path.name[2:]
            except FileNotFoundError:
                pass
        return None

    def waits(self, name):
        item = self.id_of(name)
        if item is None:
            return False
        path = self.chasq.data / "queue" / f"m:{item}"
        return path.exists() and b"\nattempt" in path.read_bytes()

    def scenario(self):
        c = self.chasq
        c.start(wait=False, env=self.env)
        if self.refused_to_start():
            return
        try:
            for name in ("away", "kept"):
                with Client(c.port, timeout=10) as client:
                    client.hello()
                    if client.message("sender@here.test", [f"{name}@{self.far}"], message(name),
                                      expect=None).code == 250:
                        self.acknowledged.add(name)
        except (OSError, Closed, AssertionError) as e:
            if self.mode not in ("end", "torn") and not c.process.running():
                raise AssertionError("the daemon ended: " + c.log()[-2000:]) from e
        end = time.monotonic() + 3
        while time.monotonic() < end and c.process.running() and not all(
                self.waits(name) for name in self.acknowledged):
            time.sleep(0.01)
        for name, line in (("kept", "HOLD {}"), ("away", "REMOVE {} BOUNCE")):
            item = self.id_of(name)
            if item and self.ask(line.format(item)).startswith("OK"):
                self.answered.add(name)
        end = time.monotonic() + (3 if self.mode in ("end", "torn") else 1)
        while time.monotonic() < end and c.process.running() and "away" in self.answered and (
                self.id_of("away") or not c.messages("sender")):
            time.sleep(0.01)

    def recover(self):
        c = self.chasq
        self.end()
        self.busy = False
        c.start()
        held = self.id_of("kept")
        if held and held not in self.ask("HOLD"):
            assert "kept" not in self.answered, f"{self.name}: answered OK and not held"
            held = None

        def left():
            self.ask("FLUSH")
            return [p for p in c.queued() if not held or p.name != f"m:{held}"]

        harness.wait_for(lambda: not left(), 30, lambda: f"{self.name}: the queue to become empty: "
                         f"{c.queued()}\n" + c.log()[-3000:], 0.1)
        assert not held or not self.arrived("kept"), f"{self.name}: held, but delivered"
        if held:
            assert self.ask(f"RELEASE {held}").startswith("OK")
        c.wait_queue_empty()
        c.stop()

    def arrived(self, name):
        return [m for m in self.sink.messages if f"Subject: {name}".encode() in m.data]

    def check(self):
        notes = self.chasq.messages("sender")
        for name in self.acknowledged:
            count = len(self.arrived(name))
            assert count <= 2, f"{self.name}: {name} was delivered {count} times"
            assert count or (name == "away" and notes), f"{self.name}: {name} is lost"
        assert not (notes and self.arrived("away")), f"{self.name}: removed, and yet delivered"
        for note in notes:
            assert re.search(rb"^Final-Recipient: rfc822; ?away@", note, re.M), note
            assert b"5.7.0" in note
            assert note.rstrip().endswith(b"--"), f"{self.name}: a notification in part"
        assert len(notes) <= 2
        if self.mode in ("end", "torn") and not self.reached():
            assert self.answered == {"away", "kept"} and len(notes) == 1


def every_n(world, mode, step=1):
    """Runs for n = 1, 2, ... until the scenario needs fewer calls than n. Returns that number."""
    reached = 0
    n = 1
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        while True:
            batch = range(n, n + WORKERS * 4 * step, step)
            results = list(pool.map(lambda i: (i, world.run(i, mode).all()), batch))
            reached = max([i for i, hit in results if hit], default=reached)
            n = batch[-1] + step
            if not any(hit for _, hit in results):
                return reached
            assert n < 3000, "the scenario does not end"


@pytest.fixture
def world(box, crashshim):
    return World(box, crashshim)


@pytest.fixture
def operators_world(box, crashshim):
    return World(box, crashshim, OperatorRun)


@pytest.mark.parametrize("mode", ["end", "torn"])
def test_end_at_every_call(world, mode):
    calls = every_n(world, mode, 1 if mode == "end" or harness.FULL else 2)
    print(f"{calls} calls")
    assert calls > 20, "the shim sees too little"


@pytest.mark.parametrize("mode", ["ENOSPC", "EIO"])
def test_failure_of_every_call(world, mode):
    """The call fails instead: the daemon lives on and loses nothing."""
    calls = every_n(world, mode, 1 if harness.FULL else 3)
    assert calls > 20


@pytest.mark.parametrize("mode", ["end", "torn", "ENOSPC", "EIO"])
def test_operator_at_every_call(operators_world, mode):
    """Hold and remove with a notification, ended or failing at every call."""
    calls = every_n(operators_world, mode, 1 if mode == "end" or harness.FULL else 2)
    print(f"{calls} calls")
    assert calls > 20
