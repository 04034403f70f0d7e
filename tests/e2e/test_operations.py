"""Operations under load: while 20 sessions send, the operator flushes, holds and releases, reloads, rotates logs,
replaces certificates and looks at everything. Nothing is lost, nothing comes twice, and the log has it all."""

import base64
import collections
import itertools
import json
import os
import re
import signal
import ssl
import threading
import time
import urllib.request

import pytest

import certs
import harness
from harness import free_port, wait_for
from smtpclient import Client, Closed, Crowd

SENDERS, WITH_TLS = 20, 8
SECONDS = 20
QUEUE_MAX = 150
USERS = ["anna", "ben"]
PASSWORD = "admin:secret"


class Senders(Crowd):
    """Each sends message after message, the first WITH_TLS under TLS, to here, to far away, or to both."""

    RCPTS = [["anna@here.test"], ["x@far.test"], ["ben@here.test", "y@held.test"], ["z@held.test"],
             ["anna@here.test", "x@far.test", "ben@here.test"]]

    def __init__(self, port, ca, queue):
        self.port = port
        self.queue = queue
        self.context = ssl.create_default_context(cafile=str(ca.pem))
        self.lock = threading.Lock()
        self.acknowledged = {}  # name of a message: (ID, recipients)
        self.handshakes = 0
        self.errors = []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(SENDERS)]

    def run(self, number):
        turns = itertools.count()
        try:
            while not self.over.is_set():
                # A slow disk would let the queue grow, and each round with it.
                if self.queue.exists() and len(os.listdir(self.queue)) > QUEUE_MAX:
                    self.over.wait(0.05)
                else:
                    self.session(number, turns)
        except (OSError, Closed, AssertionError) as error:
            self.errors.append(f"{number}: {error!r}")

    def session(self, number, turns):
        with Client(self.port, source=f"127.0.1.{number + 1}", timeout=30) as client:
            client.hello()
            if number < WITH_TLS:
                client.cmd("STARTTLS", 220)
                client.sock = self.context.wrap_socket(client.sock, server_hostname="chasq.test")
                client.hello()
                with self.lock:
                    self.handshakes += 1
            for turn in itertools.islice(turns, 4):
                name, rcpts = f"m{number}-{turn}x", self.RCPTS[(number + turn) % len(self.RCPTS)]
                body = f"Message-Id: <{name}@client.test>\r\nSubject: {name}\r\n\r\n".encode() + b"text\r\n" * 50
                ident = client.message("a@client.test", rcpts, body).text.split()[-1]
                with self.lock:
                    self.acknowledged[name] = (ident, rcpts)
                self.over.wait(0.05)
            client.quit()

    def count(self):
        with self.lock:
            return len(self.acknowledged)


class Operator:
    """What somebody does in a year, in seconds. Each step of `round` is checked for what it did."""

    def __init__(self, chasq, http, box, ca):
        self.c = chasq
        self.http = http
        self.box = box
        self.ca = ca
        self.turn = 0
        self.logs = {name: [box.path / name] for name in ("main", "mail")}

    def do(self, *args, codes=(0,)):
        done = self.c.run(*args, "-C", self.c.dir)
        assert done.returncode in codes, (args, done.returncode, done.stdout, done.stderr)
        return (done.stdout + done.stderr).decode()

    def get(self, path):
        login = base64.b64encode(PASSWORD.encode()).decode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}",
                                         headers={"Authorization": "Basic " + login})
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 200
            return answer.read().decode()

    def queue(self):
        return json.loads(self.do("queue", "-j"))

    def held(self):
        """IDs of the messages that nobody may try."""
        return [m["id"] for m in self.queue() if m["state"] == "held"]

    def round(self):
        self.turn += 1
        for step in (self.flush, self.hold, self.reload, self.look, self.rotate, self.certificate, self.release):
            step()

    def flush(self):
        self.do("flush")
        self.do("flush", "far.test")

    def hold(self):
        """A domain, and one of its messages besides: that one stays when the domain is released."""
        assert "held held.test" in self.do("hold", "held.test")
        self.ident = wait_for(self.held, 20, "a message that is held")[0]
        assert f"held {self.ident}" in self.do("hold", self.ident)
        assert "held.test" in self.do("hold") and self.ident in self.do("hold")
        self.do("flush", "held.test")

    def release(self):
        before = set(self.held())
        assert self.ident in before
        self.do("release", "held.test")
        wait_for(lambda: before & {m["id"] for m in self.queue()} == {self.ident}, 60, "what was held to go",
                 0.1)
        assert self.held() == [self.ident]
        self.do("release", self.ident)
        wait_for(lambda: self.ident not in {m["id"] for m in self.queue()}, 60, "the last held to go")

    def reload(self):
        self.c.conf["max_data_size_mb"] = 50 + self.turn
        self.c.conf["suffix_separators"] = "+-"[self.turn % 2]
        ports = [self.c.port, self.c.other][:1 + self.turn % 2]
        self.c.conf["smtp_address"] = [f"127.0.0.1:{port}" for port in ports]
        self.c.domains[f"d{self.turn}.test"] = {"users": ["u"]}
        self.c.write_conf()
        text = self.do("reload")
        assert "changed max_data_size_mb" in text and "refused" not in text

    def look(self):
        assert f"process {self.c.pid}" in self.do("status")
        self.do("queue")
        for m in self.queue()[:3]:
            # It may have gone since (EX_UNAVAILABLE).
            self.do("show", m["id"], codes=(0, 69))
            self.do("show", m["id"], "--raw", codes=(0, 69))
        assert self.ident in self.do("show", self.ident)
        self.do("config")
        self.do("trace", "-n", "50")
        self.do("domaininfo")
        for path in ("/", "/queue", "/destinations", "/traces", "/config", "/about", f"/message/{self.ident}",
                     "/debug/queue", "/debug/config", "/debug/traces", "/debug/vars"):
            assert len(self.get(path)) > 100 or path == "/debug/queue", path
        assert re.search(r"^chasq_queue_length \d+$", self.get("/metrics"), re.M)

    def rotate(self):
        for name in self.logs:
            old = self.box.path / f"{name}.{self.turn}"
            (self.box.path / name).rename(old)
            self.logs[name].append(old)
        self.c.process.kill(signal.SIGHUP)
        wait_for(lambda: all((self.box.path / name).exists() for name in self.logs), 10, "new logs")

    def certificate(self):
        pair = certs.make_cert(self.box.path / "pki", ["chasq.test"], self.ca)
        pair.install(self.c.dir / "certs", "chasq.test")
        self.do("reload")
        context = ssl.create_default_context(cafile=str(self.ca.pem))
        with Client(self.c.port, source="127.0.3.1") as client:
            client.hello()
            client.cmd("STARTTLS", 220)
            client.sock = context.wrap_socket(client.sock, server_hostname="chasq.test")
            shown = client.sock.getpeercert(binary_form=True)
        assert ssl.DER_cert_to_PEM_cert(shown).split() == pair.pem.read_text().split()

    def log(self, name):
        return [line for path in self.logs[name] for line in path.read_text().splitlines()]


def descriptors(pid):
    return harness.descriptors(pid)


@pytest.fixture
def server(box, chasq, dnsmasq, smtp_sink):
    sink = smtp_sink(address="127.0.0.2")
    dns = dnsmasq(mx={d: [(10, "mx.far.test")] for d in ("far.test", "held.test")},
                  hosts={"mx.far.test": [sink.address]})
    http = free_port()
    ca = certs.make_ca(box.path / "pki")
    c = chasq(start=False, conf={
        "trusted_network": "127.0.0.0/8", "dns_servers": dns.server, "remote_smtp_port": sink.port,
        "monitoring_address": f"127.0.0.1:{http}", "monitoring_password_file": "monitoring",
        "log_path": str(box.path / "main"), "mail_log_path": str(box.path / "mail")},
        domains={"here.test": {"users": USERS}})
    (c.dir / "monitoring").write_text(PASSWORD + "\n")
    (c.dir / "monitoring").chmod(0o600)
    certs.make_cert(box.path / "pki", ["chasq.test"], ca).install(c.dir / "certs", "chasq.test")
    c.other = free_port()
    c.start()
    return c, Operator(c, http, box, ca), sink


def test_operations_under_load(server):
    c, operator, sink = server
    senders = Senders(c.port, operator.ca, c.queue)
    # The first of everything opens what stays open.
    senders.session(0, itertools.count(100000))
    operator.get("/")
    operator.do("status")
    c.wait_queue_empty()
    start = descriptors(c.pid)

    end = time.monotonic() + SECONDS
    with senders:
        while time.monotonic() < end or operator.turn < 3:
            before = senders.count()
            operator.round()
            assert c.process.running(), "\n".join(operator.log("main")[-50:])
            assert not senders.errors, senders.errors[:5]
            wait_for(lambda: senders.count() > before + SENDERS, 60, "messages during a round")
        most = descriptors(c.pid)
    assert not senders.errors, senders.errors[:5]
    assert most > start and senders.handshakes > WITH_TLS
    assert operator.do("hold") == "nothing is held\n"
    operator.do("flush")
    wait_for(lambda: not c.queued(), 60, lambda: "an empty queue\n" + operator.do("queue")[:3000], 0.1)

    # Each message once to each of its recipients, and nothing else.
    wanted = collections.Counter((name, r) for name, (_, rcpts) in senders.acknowledged.items() for r in rcpts)
    for user in USERS:
        for m in c.messages(user):
            wanted[(re.search(rb"^Subject: (m\S+x)", m, re.M)[1].decode(), f"{user}@here.test")] -= 1
    far = collections.Counter(i[1:].split("@")[0] for i in sink.message_ids())
    for (name, rcpt), n in wanted.items():
        if not rcpt.endswith("@here.test"):
            wanted[(name, rcpt)] = n - far.pop(name, 0)
    wrong = {k: n for k, n in wanted.items() if n != 0}
    assert not wrong, f"lost (1) or doubled (-1): {list(wrong.items())[:5]} of {len(wrong)}"
    assert not far, f"nobody was told of {list(far)[:5]}"

    # The logs, all files of them together.
    mail = collections.Counter()
    for line in operator.log("mail"):
        m = re.search(r"(\S+) from=a@client.test (?:to=(\S+) (sent)$|(queued) |(all done)$)", line)
        if m:
            mail[(m[1], m[2] or m[4] or m[5])] += 1
    expected = collections.Counter()
    for ident, rcpts in senders.acknowledged.values():
        expected.update([(ident, what) for what in ("queued", "all done", *rcpts)])
    wrong = {k: (mail[k], expected[k]) for k in mail.keys() | expected.keys() if mail[k] != expected[k]}
    assert not wrong, f"the mail log has, and should have: {list(wrong.items())[:5]} of {len(wrong)}"
    text = "\n".join(operator.log("main"))
    assert "lines lost" not in text
    assert len(operator.logs["main"]) == operator.turn + 1 and all(p.stat().st_size for p in operator.logs["main"])
    assert len(re.findall("reloaded", text)) >= 3 * operator.turn

    # Without the listener that came in a reload; the last connections may be closing still.
    c.conf["smtp_address"] = f"127.0.0.1:{c.port}"
    c.write_conf()
    operator.do("reload")
    wait_for(lambda: descriptors(c.pid) <= start, 20, lambda: (
        f"{start} descriptors, not " + "\n".join(sorted(os.readlink(p) for p in fds(c.pid)))), 0.1)
    print(json.dumps({"acknowledged": len(senders.acknowledged), "log lines": sum(expected.values()),
                      "rounds": operator.turn, "handshakes": senders.handshakes, "descriptors": [start, most]}))


def fds(pid):
    return [f"/proc/{pid}/fd/{n}" for n in os.listdir(f"/proc/{pid}/fd")]
