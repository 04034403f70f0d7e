"""More connections than descriptors: than FD_SETSIZE, than RLIMIT_NOFILE, than the program's own limits, from
one address and from many, at all three kinds of doors. What is inside goes on meanwhile: deliveries to
Maildir, programs and other servers, DNS, hooks, the control socket and the monitoring page; nobody spins; and
when they leave, it is as before."""

import contextlib
import http.client
import os
import resource
import socket
import subprocess
import sys
import time

import pytest

import harness
from smtpclient import Client, Closed, send

ZONE = """
far.test     MX 10 mx.far.test
mx.far.test  A  127.0.0.2
"""
STRANGER = "127.0.0.77"


@pytest.fixture(autouse=True)
def many_sockets():
    """This process needs more than the usual 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip(f"this machine allows {hard} descriptors to a process")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096 if hard == resource.RLIM_INFINITY else min(4096, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class World:
    """A daemon with hooks, all kinds of couriers, and a page; limit is its RLIMIT_NOFILE, soft and hard."""

    def __init__(self, box, chasq, sink, dnsd, limit, mda=False):
        self.box = box
        self.got = box.dir("got")
        self.got.chmod(0o777)
        self.http = harness.free_port()
        self.sink = sink(address="127.0.0.2")
        take = self.script("take", f"cat >{self.got}/part.$$ && mv {self.got}/part.$$ {self.got}/whole.$$\n")
        conf = {"dns_servers": dnsd(ZONE).server, "remote_smtp_port": self.sink.port,
                "monitoring_address": f"127.0.0.1:{self.http}"}
        if mda:
            conf["mail_delivery_agent_bin"] = str(take)
        self.mda = mda
        self.c = chasq(start=False, conf=conf, domains={"here.test": {
            "users": ["user"], "aliases": f"prog: | {take}\n"}})
        (self.c.dir / "hooks").mkdir()
        for name, text in {"post-data": "cat >/dev/null; echo X-Seen: yes", "alias-resolve": "exit 0"}.items():
            self.script(name, text + "\n").rename(self.c.dir / "hooks" / name)
        self.c.start(wrap=["prlimit", f"--nofile={limit}:{limit}"])
        self.work("before")
        self.rest = self.descriptors()

    def script(self, name, text):
        path = self.box.path / name
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
        return path

    def descriptors(self):
        return harness.descriptors(self.c.pid)

    def work(self, name):
        """What goes on inside: one message to everywhere, by the control socket; commands; the page."""
        r = self.c.sendmail("user@here.test", "prog@here.test", "r@far.test",
                            input=f"Subject: {name}\n\n{name} text\n".encode())
        assert r.returncode == 0, r
        assert self.c.run("queue", "-C", self.c.dir, timeout=20).returncode == 0
        harness.wait_for(self.page, 20, "the monitoring page", 0.2)

        def arrived():
            places = {"sink": [m.data for m in self.sink.messages], "maildir": self.c.messages("user"),
                      "program": [p.read_bytes() for p in self.got.glob("whole.*")]}
            return {k: sum(f"{name} text".encode() in m and b"X-Seen: yes" in m for m in v)
                    for k, v in places.items()}

        wanted = {"sink": 1, "maildir": 0 if self.mda else 1, "program": 2 if self.mda else 1}
        harness.wait_for(lambda: arrived() == wanted, 30, lambda: f"deliveries: {arrived()}\n" + self.c.log()[-3000:])

    def page(self):
        h = http.client.HTTPConnection("127.0.0.1", self.http, timeout=20)
        with contextlib.suppress(ConnectionError, http.client.HTTPException):
            h.request("GET", "/")
            r = h.getresponse()
            return r.status == 200 and b"</html>" in r.read()
        return False

    def cpu(self):
        fields = open(f"/proc/{self.c.pid}/stat").read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def at_ease(self):
        """Waits until what it does with nobody talking is next to nothing; spinning never ends."""

        def easy():
            before = self.cpu()
            time.sleep(0.5)
            return self.cpu() - before < 0.1

        harness.wait_for(easy, 15, lambda: "the processor to be left alone\n" + self.c.log()[-2000:])

    def recovers(self):
        """After the crowd has gone: a stranger is served, and nothing is left of them."""

        def served():
            with contextlib.suppress(OSError, Closed, AssertionError):
                send(self.c.port, "a@client.test", ["user@here.test"], b"Subject: after\r\n\r\nx\r\n",
                     source=STRANGER)
                return True
            return False

        harness.wait_for(served, 20, "it to serve again", 0.1)
        self.c.wait_queue_empty()
        harness.wait_for(lambda: self.descriptors() <= self.rest, 20, lambda: "descriptors to be given back: " + str(
            [os.readlink(f.path) for f in os.scandir(f"/proc/{self.c.pid}/fd")]))


class Many:
    """Connections that stay: idle, in a transaction, and in the middle of content, by turns."""

    talk = [b"", b"EHLO x\r\n", b"EHLO x\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<user@here.test>\r\nDATA\r\n"]

    def __init__(self, port, count, addresses, talk=None):
        self.held = []
        for i in range(count):
            s = socket.socket()
            s.settimeout(0.2)
            with contextlib.suppress(OSError):
                s.bind((addresses[i % len(addresses)], 0))
                s.connect(("127.0.0.1", port))
                talks = self.talk if talk is None else talk
                s.sendall(talks[i % len(talks)])
            self.held.append(s)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for s in self.held:
            s.close()

    def greeted(self):
        """How many have a session."""
        count = 0
        for s in self.held:
            s.setblocking(False)
            with contextlib.suppress(OSError):
                count += s.recv(4096).startswith(b"220 ")
        return count


ONE = [STRANGER]
CROWD = [f"127.0.4.{i}" for i in range(1, 201)]


CASES = {
    "fd_setsize-many": (4096, 1200, CROWD, False),
    "fd_setsize-one": (4096, 1200, ONE, True),
    "256-many": (256, 400, CROWD, True),
    "64-many": (64, 200, CROWD, False),
}
if harness.FULL:
    CASES["128-many"] = (128, 300, CROWD, False)
    CASES["64-one"] = (64, 200, ONE, True)


@pytest.mark.parametrize("limit, count, addresses, mda", CASES.values(), ids=CASES)
def test_more_connections_than_descriptors(box, chasq, sink, dnsd, limit, count, addresses, mda):
    w = World(box, chasq, sink, dnsd, limit, mda)
    with Many(w.c.port, count, addresses) as crowd, Many(w.http, 40, addresses, [b"", b"GET / HTTP/1.1\r\n"]):
        w.at_ease()
        inside = crowd.greeted()
        assert 5 <= inside <= (50 if addresses is ONE else 200), inside
        assert w.descriptors() < min(limit, 1024)
        w.work("during")
        w.at_ease()
        w.work("again")
        assert w.c.process.running()
    print(f"limit {limit}, {count} connections: {inside} sessions")
    w.recovers()


HOLD = """
import contextlib, socket, sys, time
held = []
for _ in range(15):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(5)
    s.connect(sys.argv[1])
    with contextlib.suppress(OSError):
        s.sendall(b"SUBMIT\\n")
        if s.recv(100).startswith(b"220 "):
            held.append(s)
print(len(held), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become other users")
def test_local_users_leave_places_at_the_control_socket(box, chasq, sink, dnsd):
    """Four users that take all that each may have: the operator is served at once, the fifth is told."""
    w = World(box, chasq, sink, dnsd, 256)
    with contextlib.ExitStack() as stack:
        counts = []
        for uid in (65534, 1, 2, 3):
            p = stack.enter_context(subprocess.Popen(
                [sys.executable, "-c", HOLD, str(w.c.data / "control")], user=uid, group=uid, extra_groups=[],
                stdout=subprocess.PIPE, cwd="/", env={}))
            stack.callback(p.kill)
            counts.append(int(p.stdout.readline()))
        assert counts[:2] == [10, 10] and sum(counts) == 28, counts
        r = w.c.sendmail("user@here.test", input=b"\nx\n", user=4)
        assert r.returncode == 75 and b"too many connections" in r.stderr, r
        begun = time.monotonic()
        w.work("operator")
        assert time.monotonic() - begun < 8, "the operator had to wait until somebody left"
    w.recovers()
