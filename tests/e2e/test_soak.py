"""Mixed hostile and honest load, for CHASQ_SOAK_SECONDS: 30 by default, an hour with CHASQ_FULL. Nothing is lost
or doubled, and memory, descriptors and children are flat.

The load runs in cycles; between two of them it stops, the queue is drained, and what the daemon holds at rest is
noted. The first cycle is the warm-up: it touches what stays (rings of traces, buffers kept, tables). At the end the
daemon must hold as many descriptors as then, no child, and at most GROWTH_KB more memory, however long it ran; the program is one without
sanitizers, which keep what is freed."""

import collections
import contextlib
import os
import pathlib
import random
import re
import shutil
import signal
import smtplib
import socket
import ssl
import threading
import time

import certs
import harness
from sink import Bytes, Drop, Reset
from smtpclient import Client, Closed
from test_hooks import put
from test_hostile import descriptors
from test_slow import CLIENT_HELLO

SECONDS = int(os.environ.get("CHASQ_SOAK_SECONDS", 3600 if harness.FULL else 30))
CYCLES = max(3, SECONDS // 120)
GROWTH_KB = 384

FAR = [f"d{n}.far.test" for n in range(12)]


def children(pid):
    """(pid, state) of the process's children."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found.append((int(stat.parent.name), fields[0]))
    return found


class World:
    def __init__(self, box, chasq, sink, dnsd, program):
        self.box = box
        self.random = random.Random(7)
        cert = certs.make_cert(box.path / "pki", ["mx.test", "mx.far.test"])
        self.sink = sink(address="127.0.0.3", cert=cert, script={
            **{stage: self.trouble for stage in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "BODY")},
            "MIDDLE": lambda session, arg: self.trouble(session, arg) or Bytes(b"")})
        dns = dnsd("*.far.test MX 10 mx.far.test\nmx.far.test A 127.0.0.3\nslow.far.test ! slow:700\n")
        self.http, self.submission = harness.free_port(), harness.free_port()
        self.piped = box.dir("piped")
        pipe = box.path / "pipe"
        pipe.write_text(f"#!/bin/sh\ncd {self.piped} && cat >tmp.$$ && mv tmp.$$ new.$$.`date +%s%N`\n")
        pipe.chmod(0o755)
        self.c = c = chasq(start=False, program=program, conf={
            "dns_servers": dns.server, "remote_smtp_port": self.sink.port, "trusted_network": "127.0.0.1/32",
            "monitoring_address": f"127.0.0.1:{self.http}", "monitoring_password_file": "monitoring",
            "submission_over_tls_address": f"127.0.0.1:{self.submission}",
            "log_path": str(box.path / "chasq.log"), "mail_log_path": str(box.path / "mail.log"), "log_level": "debug"},
            domains={"here.test": {"users": ["user", "other"], "aliases": f"pipe: | {pipe}\nboth: user, other\n"}})
        (c.dir / "monitoring").write_text("admin:secret\n")
        (c.dir / "monitoring").chmod(0o600)
        cert.install(c.dir / "certs", "mx.test")
        put(c, "post-data", "cat > /dev/null; echo 'X-Hook: seen'\n")
        c.start()
        self.running = threading.Event()
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.idle = threading.Semaphore(0)
        self.acknowledged = {}  # name: where it goes
        self.unsure = set()  # sent, and no answer came
        self.errors = []
        self.attacks = collections.Counter()
        self.number = 0

    # -- the far side, which has its moods --

    def trouble(self, session, arg):
        dice = self.random.random()
        if dice < 0.02:
            return "451 4.3.0 not now"
        if dice < 0.03:
            return "421 4.3.2 going down"
        if dice < 0.04:
            return Drop()
        if dice < 0.05:
            return Reset()
        return None

    # -- honest senders --

    def text(self):
        with self.lock:
            self.number += 1
            name = f"m{self.number}x"
        head = f"From: user@here.test\r\nSubject: {name}\r\n\r\n".encode()
        return name, head + b"..some text\r\n" * random.randrange(1, 300)

    def note(self, name, to):
        with self.lock:
            self.acknowledged[name] = to

    def honest_smtp(self):
        to = random.choice(["user@here.test", "both@here.test", "pipe@here.test", f"r@{random.choice(FAR)}"])
        with Client(self.c.port, timeout=30) as client:
            client.hello()
            for _ in range(random.randrange(1, 4)):
                name, data = self.text()
                client.message("user@here.test", [to], data)
                self.note(name, to)
            client.quit()

    def honest_login(self):
        context = ssl._create_unverified_context()
        with smtplib.SMTP_SSL("127.0.0.1", self.submission, timeout=30, local_hostname="x", context=context) as client:
            client.login("user@here.test", "x")
            name, data = self.text()
            to = random.choice(["user@here.test", f"r@{random.choice(FAR)}"])
            client.sendmail("user@here.test", [to], data)
            self.note(name, to)
        time.sleep(0.2)

    def honest_sendmail(self):
        name, data = self.text()
        done = self.c.sendmail("-f", "user@here.test", "user@here.test", input=data.replace(b"\r\n", b"\n"))
        assert done.returncode == 0, done.stderr
        self.note(name, "user@here.test")
        time.sleep(0.2)

    def operator(self):
        what = random.randrange(6)
        if what == 0:
            log = self.box.path / "chasq.log"
            log.rename(log.with_suffix(".old"))
            self.c.process.kill(signal.SIGHUP)
            harness.wait_for(log.exists, 20, "the log to be opened anew")
        elif what == 1:
            self.c.process.kill(signal.SIGHUP)
        else:
            command = [["status"], ["queue"], ["trace"], ["resolve", "both@here.test"]][what - 2]
            self.c.run(command[0], "-C", self.c.dir, *command[1:])
        time.sleep(0.5)

    # -- hostile ones --

    def junk(self, n):
        return bytes(random.getrandbits(8) for _ in range(n))

    def raw(self, port, data, source, reset=False, wait=0.05):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((source, 0))
            s.settimeout(5)
            s.connect(("127.0.0.1", port))
            with contextlib.suppress(OSError):
                s.sendall(data)
                time.sleep(wait)
                s.settimeout(0.2)
                s.recv(65536)
            if reset:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    def hostile_smtp(self):
        start = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<user@here.test>\r\nDATA\r\n"
        data = random.choice([
            self.junk(3000), b"EHLO " + b"x" * 100000, b"NOOP\r\n" * 500, b"GET / HTTP/1.1\r\n\r\n",
            start + b"Subject: bad\r\n\r\nhalf", start + b"bare\nline\r\n.\r\n", start + b"x\n.\nMAIL FROM:<>\r\n",
            b"EHLO x\r\nSTARTTLS\r\n" + self.junk(500), b"EHLO x\r\nRCPT TO:<a@b>\r\n" * 8,
            b"EHLO x\r\nMAIL FROM:<" + b"a" * 5000 + b">\r\n",
            b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<r@d1.far.test>\r\nRCPT TO:<guess%d@here.test>\r\n" % self.number])
        self.raw(self.c.port, data, f"127.0.3.{random.randrange(1, 250)}", reset=random.random() < 0.5)

    def hostile_tls(self):
        data = random.choice([self.junk(2000), CLIENT_HELLO + self.junk(108), b"EHLO x\r\n"])
        self.raw(self.submission, data, f"127.0.4.{random.randrange(1, 250)}", reset=random.random() < 0.5)

    def hostile_login(self):
        context = ssl._create_unverified_context()
        source = (f"127.0.5.{random.randrange(1, 250)}", 0)
        with contextlib.suppress(smtplib.SMTPException, OSError), smtplib.SMTP_SSL(
                "127.0.0.1", self.submission, timeout=10, local_hostname="x", context=context,
                source_address=source) as s:
            s.login("user@here.test", "wrong" * random.randrange(1, 5))

    def hostile_http(self):
        data = random.choice([self.junk(1000), b"GET /" + b"x" * 5000, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200,
                              b"POST /flush HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n",
                              b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YWRtaW46c2VjcmV0\r\n\r\n",
                              b"GET /queue HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YWRtaW46c2VjcmV0\r\n\r\n"])
        self.raw(self.http, data, f"127.0.6.{random.randrange(1, 250)}", reset=random.random() < 0.5)

    def hostile_control(self):
        with socket.socket(socket.AF_UNIX) as s, contextlib.suppress(OSError):
            s.settimeout(5)
            s.connect(str(self.c.data / "control"))
            s.sendall(random.choice([self.junk(300), b"LIST " + b"x" * 2000 + b"\n", b"SHOW ../../etc/passwd\n", b"\0\n",
                                     b"TRACE FOLLOW\n", b"LIST\n"]))
            s.settimeout(0.2)
            s.recv(1000)

    def hostile_flood(self):
        """Many connections at once, left without a word."""
        socks = []
        for n in range(60):
            s = socket.socket()
            s.setblocking(False)
            s.bind((f"127.0.7.{random.randrange(1, 250)}", 0))
            s.connect_ex(("127.0.0.1", self.c.port))
            socks.append(s)
        time.sleep(0.3)
        for s in socks:
            if random.random() < 0.5:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            s.close()
        time.sleep(0.5)

    # -- the work --

    def run(self, act):
        while not self.over.is_set():
            if not self.running.wait(0.2):
                continue
            try:
                act()
                with self.lock:
                    self.attacks[act.__name__] += 1
            except (Closed, OSError, smtplib.SMTPException, AssertionError) as error:
                # Honest ones may be told to come later while the house is full, and nothing else.
                if act.__name__.startswith(("honest", "operator")) and not re.search(r"\b4[25]1\b", str(error)):
                    self.errors.append(f"{act.__name__}: {error!r}")
            except BaseException as error:
                self.errors.append(f"{act.__name__}: {error!r}")
            time.sleep(0.02)

    def threads(self):
        acts = [self.honest_smtp, self.honest_smtp, self.honest_login, self.honest_sendmail, self.operator,
                self.hostile_smtp, self.hostile_smtp, self.hostile_tls, self.hostile_login, self.hostile_http,
                self.hostile_control, self.hostile_flood]
        return [threading.Thread(target=self.run, args=(act,), daemon=True) for act in acts]

    def rest(self):
        """The load stops, the queue is drained; (memory in KB, descriptors) the daemon holds then."""
        self.running.clear()
        time.sleep(0.5)
        end = time.monotonic() + 120
        while self.c.queued() or children(self.c.pid):
            assert self.c.process.running(), self.c.log()[-3000:]
            assert time.monotonic() < end, (self.c.queued()[:5], children(self.c.pid))
            self.c.sendmail("-q")
            time.sleep(0.3)
        last, same = None, 0
        while same < 4 and time.monotonic() < end:
            now = descriptors(self.c)
            same, last = (same + 1 if now == last else 0), now
            time.sleep(0.5)
        return harness.anonymous_kb(self.c.pid), last

    def check_mail(self):
        subject = re.compile(rb"^Subject: (m\d+x)", re.M)

        def count(messages):
            found = collections.Counter()
            for m in messages:
                match = subject.search(m)
                if match:
                    found[match[1].decode()] += 1
            return found

        got = {"user@here.test": count(self.c.messages("user")), "other@here.test": count(self.c.messages("other")),
               "pipe@here.test": count(p.read_bytes() for p in self.piped.glob("new.*")),
               "far": count(m.data for m in self.sink.messages)}
        lost, doubled = [], []
        for name, to in self.acknowledged.items():
            for place in ["user@here.test", "other@here.test"] if to.startswith("both") else [to if "far" not in to else "far"]:
                n = got[place][name]
                if n == 0:
                    lost.append((name, place))
                # Where the reply to the dot was not given, the far side gets it again.
                elif n > 1 and place != "far":
                    doubled.append((name, place, n))
        return lost, doubled, {place: sum(c.values()) for place, c in got.items()}


def test_soak(box, chasq, sink, dnsd, short_build):
    signal.alarm(2 * SECONDS + 300)  # the hour of the full form is longer than any other test's
    # A copy: what is built meanwhile must not change the program under test.
    world = World(box, chasq, sink, dnsd, shutil.copy(short_build, box.path))
    states = []
    threads = world.threads()
    box.on_stop(world.over.set)
    for t in threads:
        t.start()
    for cycle in range(CYCLES):
        world.running.set()
        end = time.monotonic() + SECONDS / CYCLES
        while time.monotonic() < end:
            assert world.c.process.running(), "the daemon has ended\n" + world.c.log()
            assert len(world.errors) < 5, world.errors
            time.sleep(0.2)
        states.append(world.rest())
    world.over.set()
    for t in threads:
        t.join(30)
    lost, doubled, got = world.check_mail()
    print(f"{SECONDS} s: {dict(world.attacks)}; acknowledged {len(world.acknowledged)}, arrived {got}; "
          f"memory KB and descriptors at rest: {states}")
    assert not world.errors, world.errors[:5]
    assert not lost and not doubled, (lost[:5], doubled[:5])
    assert not world.c.messages("user", "localhost")
    warm, last = states[0], states[-1]
    assert last[0] <= warm[0] + GROWTH_KB, states
    assert last[1] <= warm[1], states
    assert not children(world.c.pid)
    assert all(world.attacks[a] for a in ("honest_smtp", "honest_login", "honest_sendmail", "operator", "hostile_flood"))
