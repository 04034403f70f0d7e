"""Lets the n-th allocation of a scenario fail, for every n, in one daemon that lives through all of it.

tests/tools/allocshim.c counts the allocations of the daemon and of its libraries from a moment that is
chosen here. Each scenario is played with the n-th one failing (alone, and with all that follow until the
client has gone), then again with memory enough. Whatever n: the daemon lives; a client is told 4xx or cut
off, never 5xx; nothing is bounced; what was answered 250 arrives whole; an answer that says that it is
complete is; and the second time all is as if nothing had happened, without a descriptor more.

CHASQ_FULL plays every n, `make check` a few spread over the range. ALLOC_WRAP goes before the daemon's
command line (valgrind --soname-synonyms=somalloc=nouserintercepts ...), ALLOC_EVERY=k plays every k-th n.
"""

import base64
import contextlib
import http.client
import mmap
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import time

import pytest

import certs
import harness
from smtpclient import Client, Closed, send

SAMPLES = 20
# Scenarios with more allocations are made up of those of TLS, one like the other: the session without failures
# comes after every eighth then.
MANY = 1000
EVERY = int(os.environ.get("ALLOC_EVERY", "0"))
WRAP = shlex.split(os.environ.get("ALLOC_WRAP", ""))
FOREVER = 1 << 60
LOGIN = base64.b64encode(b"\0user@here.test\0x").decode()
PASSWORD = "admin:secret"


class Refused(Exception):
    """The daemon said "later", or cut us off."""


class Shim:
    """The control file of allocshim.c: at, until, calls, failed, base, stack[24]."""

    def __init__(self, box, library):
        self.path = box.path / "allocshim"
        self.path.write_bytes(bytes(8 * 29))
        with open(self.path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 8 * 29)
        self.env = {"LD_PRELOAD": str(library), "ALLOCSHIM": str(self.path)}

    def arm(self, n, until):
        self.map[:32] = struct.pack("=4q", 0, until, 0, 0)
        self.map[:8] = struct.pack("=q", n)

    def disarm(self):
        self.map[:8] = bytes(8)

    @property
    def calls(self):
        return struct.unpack_from("=q", self.map, 16)[0]

    @property
    def failed(self):
        return struct.unpack_from("=q", self.map, 24)[0]

    def stack(self, program):
        """Where the first one failed: the program's own functions, innermost first."""
        base, *frames = struct.unpack_from("=25Q", self.map, 32)
        size = program.stat().st_size + 0x100000
        own = [hex(f - base - 1) for f in frames if base < f < base + size]
        if not own:
            return "?"
        lines = subprocess.run(["addr2line", "-fs", "-e", program, *own], capture_output=True, text=True,
                               check=False).stdout.split("\n")
        return " < ".join(f"{f} ({w})" for f, w in zip(lines[::2], lines[1::2]))


def text_of(token):
    """A message that shows whether it is whole."""
    return f"Subject: {token}\r\n\r\n{token} begins\r\n{'x' * 70}\r\n{token} ends\r\n".encode()


class Talk(Client):
    """A client that takes 4xx and the end of the connection for Refused; 5xx is an error."""

    def __init__(self, port, **kwargs):
        with self.refusals():
            super().__init__(port, greet=False, **kwargs)
            self.good(self.read())

    @staticmethod
    @contextlib.contextmanager
    def refusals():
        try:
            yield
        except (Closed, ssl.SSLError, ConnectionError) as e:
            raise Refused(str(e)) from e

    @staticmethod
    def good(reply):
        assert reply.code < 500, f"a permanent refusal for want of memory: {reply}"
        if reply.code >= 400:
            raise Refused(str(reply))
        return reply

    def ask(self, line):
        with self.refusals():
            return self.good(self.cmd(line))

    def start_tls(self):
        self.ask("STARTTLS")
        with self.refusals():
            self.sock = ssl._create_unverified_context().wrap_socket(self.sock)
        self.ask("EHLO client.test")

    def give(self, sender, to, token):
        self.ask(f"MAIL FROM:<{sender}>")
        for r in to:
            self.ask(f"RCPT TO:<{r}>")
        self.ask("DATA")
        with self.refusals():
            self.send(text_of(token) + b".\r\n")
            self.good(self.read())


def converse(address, data, seconds=20):
    """Sends data and reads to the end of file; what came."""
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as s:
        s.settimeout(seconds)
        got = b""
        with contextlib.suppress(ConnectionError):
            s.connect(address)
            s.sendall(data)
            while piece := s.recv(65536):
                got += piece
        return got


class World:
    """A daemon under the shim. A kind of scenario is a subclass: conf, domains, and play(token), which
    returns the places that the message `token` has to reach, or raises Refused."""

    conf = {}
    domains = {"here.test": {"users": ["user"]}}
    program = None
    bounces = False
    samples = SAMPLES

    def __init__(self, box, chasq, shim, **fixtures):
        self.box = box
        self.fixtures = fixtures
        self.shim = Shim(box, shim)
        self.got = box.dir("got")
        self.sink = None
        self.c = chasq(start=False, program=self.program_for(), conf={
            "trusted_network": "127.0.0.0/8", **self.conf}, domains=self.domains, journal=fixtures["journal"])
        self.prepare()
        self.c.start(env=self.shim.env, wrap=WRAP)
        self.control = str(self.c.data / "control")
        self.number = 0

    def program_for(self):
        return harness.fast_binary()

    def prepare(self):
        pass

    def play(self, token):
        raise NotImplementedError

    def client(self, **kwargs):
        c = Talk(self.c.port, timeout=30, **kwargs)
        self.box.on_stop(c.close)
        return c

    def with_client(self, steps, **kwargs):
        with self.client(**kwargs) as client:
            client.ask("EHLO client.test")
            steps(client)

    # -- what arrived --

    def arrived(self):
        """[(place, content with LF)] of all there is; each is told once."""
        found = []
        for d in self.c.maildirs.glob("*/*/new"):
            for p in d.iterdir():
                found.append((d.parent.name, p.read_bytes()))
                p.unlink()
        for p in self.got.glob("whole.*"):
            found.append(("pipe", p.read_bytes()))
            p.unlink()
        while self.sink and self.sink.messages:
            found.append(("sink", self.sink.messages.pop(0).data.replace(b"\r\n", b"\n")))
        return found

    def check(self, token, places, others):
        """What arrived for token; `others` were not acknowledged."""
        counts = dict.fromkeys(places, 0)
        for place, content in self.arrived():
            head, body = harness.split_message(content)
            if b"multipart/report" in head:
                assert self.bounces, f"a bounce for want of memory:\n{content.decode()}"
                assert b"Final-Recipient: rfc822; " in body and body.rstrip().endswith(b"--")
                found = re.search(rb"^Subject: (\w+-\d+)$", body, re.M)[1].decode()
                place = "dsn"
            else:
                found = re.search(rb"^Subject: (.*)$", head, re.M)[1].decode()
                whole = text_of(found).replace(b"\r\n", b"\n").split(b"\n\n", 1)[1]
                assert body == whole, f"torn: {body!r}"
            if found == token:
                counts[place] = counts.get(place, 0) + 1
            else:
                assert found in others, f"{found} came again"
        assert all(1 <= counts[p] <= 2 for p in places), f"{token} was answered 250: {counts}"

    def flush(self):
        """Waits until the queue is empty."""

        def empty():
            if not self.c.queued():
                return True
            assert converse(self.control, b"FLUSH\n").startswith(b"OK")
            return False

        harness.wait_for(empty, 60, lambda: "the queue to become empty\n" + self.c.log()[-4000:], 0.03)

    def idle(self):
        return not self.c.queued()

    def descriptors(self):
        return harness.descriptors(self.c.pid)

    # -- a round --

    def round(self, n, until, again=True):
        """Plays it with failures, and perhaps again without. Returns how many calls it took."""
        self.number += 1
        token = f"t-{self.number}"
        self.shim.arm(n, until)
        places, refusal = (), None
        try:
            places = self.play(token)
        except Refused as e:
            refusal = e
        if n < until == FOREVER:
            self.shim.disarm()
        # A delivery may be what fails: it goes on until it did, or all is done.
        harness.wait_for(lambda: self.shim.failed or self.idle() or not self.running(), 30,
                         lambda: "deliveries\n" + self.c.log()[-3000:], 0.002)
        if n == FOREVER:
            self.quiet()
        calls = self.shim.calls
        self.shim.disarm()
        assert self.running(), "the daemon ended"
        assert self.shim.failed or refusal is None, f"refused with memory enough: {refusal}"
        self.settle(token, places)
        if not again:
            return calls
        self.number += 1
        second = f"t-{self.number}"
        self.settle(second, self.play(second), {token} - ({token} if places else set()))
        harness.wait_for(lambda: self.descriptors() <= self.base, 15, lambda: "descriptors to be given back: "
                         + str([os.readlink(f.path) for f in os.scandir(f"/proc/{self.c.pid}/fd")]))
        return calls

    def settle(self, token, places, others=()):
        self.flush()
        self.check(token, places, {*others, token})

    def running(self):
        return self.c.process.running()

    def quiet(self):
        """Waits until nothing is allocated any more."""
        calls = -1
        while calls != self.shim.calls:
            calls = self.shim.calls
            time.sleep(0.1)

    def measure(self):
        """How many allocations it takes, in a daemon that has seen it before."""
        self.base = 1 << 30
        self.round(FOREVER, FOREVER)
        self.base = self.descriptors()
        return self.round(FOREVER, FOREVER)

    def tell(self, n, until, e):
        log = self.c.log()
        return AssertionError(f"{type(self).__name__}, allocation {n}{' and on' if until == FOREVER else ''} in "
                              f"{self.shim.stack(self.c.program)}: {e}\n{log[-3000:]}")


class Local(World):
    def play(self, token):
        self.with_client(lambda c: c.give("a@client.test", ["user@here.test"], token))
        return ["user"]


class Aliases(World):
    domains = {"here.test": {"users": ["user", "other"], "aliases": ""}}

    def prepare(self):
        script = self.got / "take"
        script.write_text(f"#!/bin/sh\ncat >{self.got}/part.$$ && mv {self.got}/part.$$ {self.got}/whole.$$\n")
        script.chmod(0o755)
        self.c.domains["here.test"]["aliases"] = f"list: user, team\nteam: other, prog\nprog: | {script}\n"
        self.c.write_conf()

    def play(self, token):
        to = ["list@here.test", "user@here.test", "other+tag@here.test"]
        self.with_client(lambda c: c.give("a@client.test", to, token))
        return ["user", "other", "pipe"]


class Login(World):
    """STARTTLS, AUTH and mail of a user."""

    def prepare(self):
        certs.make_cert(self.box.path / "pki", ["chasq.test"]).install(self.c.dir / "certs", "chasq.test")

    def play(self, token):
        with self.client() as client:
            client.ask("EHLO client.test")
            client.start_tls()
            client.ask("AUTH PLAIN " + LOGIN)
            client.give("user@here.test", ["user@here.test"], token)
        return ["user"]


ZONE = """
far.test     MX 10 mx.far.test
mx.far.test  A  127.0.0.2
pass.test    TXT "v=spf1 include:other.test a:mx.far.test mx ip4:127.0.0.1 -all"
other.test   TXT "v=spf1 ip4:192.0.2.1 -all"
"""


class Remote(World):
    """Names in DNS, and mail to another server."""

    tls = False

    def prepare(self):
        cert = None
        if self.tls:
            ca = certs.make_ca(self.box.path / "pki")
            cert = certs.make_cert(self.box.path / "pki", ["mx.far.test"], ca)
            self.c.env["SSL_CERT_FILE"] = str(ca.pem)
        self.sink = self.fixtures["sink"](address="127.0.0.2", cert=cert, script=self.script())
        self.c.conf.update(dns_servers=self.fixtures["dnsd"](ZONE).server, remote_smtp_port=self.sink.port)
        self.c.write_conf()

    def script(self):
        return {}

    def play(self, token):
        self.with_client(lambda c: c.give("user@here.test", ["r@far.test"], token))
        return ["sink"]


class RemoteTls(Remote):
    tls = True


class Dsn(Remote):
    bounces = True

    def script(self):
        return {"RCPT": "550 5.1.1 nobody"}

    def play(self, token):
        super().play(token)
        return ["dsn"]


class Spf(Remote):
    samples = 4  # a question that was lost is asked again after seconds
    conf = {"trusted_network": None}

    def program_for(self):
        return self.fixtures["spf_build"]

    def play(self, token):
        self.with_client(lambda c: c.give("a@pass.test", ["user@here.test"], token))
        return ["user"]


class Hooks(World):
    def prepare(self):
        hooks = self.c.dir / "hooks"
        hooks.mkdir()
        for name, script in {"post-data": "cat >/dev/null; echo X-Seen: yes", "rcpt": "exit 0",
                             "alias-resolve": "exit 0"}.items():
            (hooks / name).write_text("#!/bin/sh\n" + script + "\n")
            (hooks / name).chmod(0o755)

    def play(self, token):
        self.with_client(lambda c: c.give("a@client.test", ["user@here.test"], token))
        return ["user"]


class Asking(World):
    """Ends with the queue as it began: three messages that wait."""

    conf = {"dns_servers": "127.0.0.1:9"}

    def measure(self):
        for i in range(3):
            send(self.c.port, "user@here.test", [f"r{i}@nowhere.test"], text_of(f"w-{i}"))
        self.ids = [p.name[2:] for p in self.c.queued()]
        for i in self.ids:
            assert converse(self.control, f"HOLD {i}\n".encode()).startswith(b"OK")
        self.asked = {}
        return super().measure()

    def idle(self):
        return True

    def settle(self, token, places, others=()):
        pass

    def once(self, what, answer):
        """Whoever says that an answer is complete gives as many lines as the first time."""
        lines = answer.count(b"\n")
        assert self.asked.setdefault(what, lines) == lines, f"{what} was cut: {answer!r}"

    def round(self, n, until, again=True):
        calls = super().round(n, until, again)
        assert len(self.c.queued()) == 3
        return calls


class Control(Asking):
    def play(self, token):
        refused = None
        for what in ("QUEUE", f"SHOW {self.ids[0]}", f"RAW {self.ids[1]}", "STATUS", "HOLD", "CONFIG",
                     "RESOLVE user@here.test", "DOMAININFO LIST", "RELOAD"):
            answer = converse(self.control, what.encode() + b"\n")
            if answer.startswith(b"OK") and (answer.endswith(b"\nEND\n") or what.startswith("RAW")):
                if what.startswith("RAW") and not answer.endswith(b"\n0\nEND\n"):
                    refused = Refused(f"{what}: cut")
                elif b"\ncut\t" in answer:
                    refused = Refused(f"{what}: {answer!r}")
                elif what not in ("STATUS", "RELOAD"):
                    self.once(what, answer)
            else:
                assert not answer.endswith(b"END\n")
                refused = Refused(f"{what}: {answer!r}")
        if refused:
            raise refused
        return []


class Page(Asking):
    def prepare(self):
        self.http = harness.free_port()
        self.c.conf.update(monitoring_address=f"127.0.0.1:{self.http}", monitoring_password_file="monitoring")
        (self.c.dir / "monitoring").write_text(PASSWORD + "\n")
        (self.c.dir / "monitoring").chmod(0o600)
        self.c.write_conf()

    def play(self, token):
        auth = "Basic " + base64.b64encode(PASSWORD.encode()).decode()
        refused = None
        for path in ("/", "/queue", "/message/" + self.ids[0], "/traces", "/metrics", "/debug/queue", "/config"):
            h = http.client.HTTPConnection("127.0.0.1", self.http, timeout=30)
            try:
                h.request("GET", path, headers={"Authorization": auth})
                r = h.getresponse()
                text = r.read()
                if r.status >= 500 or b"There is no memory" in text:
                    refused = Refused(f"{path}: {r.status}")
                elif r.status == 200 and path in ("/queue", "/debug/queue"):
                    assert all(i.encode() in text for i in self.ids), text.decode()
                elif path.startswith("/message/"):
                    assert r.status == 200 and self.ids[0].encode() in text, (r.status, text.decode())
            except (http.client.HTTPException, ConnectionError) as e:
                refused = Refused(f"{path}: {e!r}")
            finally:
                h.close()
        if refused:
            raise refused
        return []


class Reload(World):
    """The files change, and are read again: all of the old or all of the new is in use."""

    domains = {"here.test": {"users": ["user", "other"], "aliases": "who: user\n"}}

    def prepare(self):
        self.certs = [certs.make_cert(self.box.path / "pki", ["chasq.test"]) for _ in range(2)]
        self.certs[0].install(self.c.dir / "certs", "chasq.test")

    def play(self, token):
        number = int(token.split("-")[1])
        user = ("user", "other")[number % 2]
        self.c.domains["here.test"]["aliases"] = f"who: {user}\n"
        self.c.conf["max_data_size_mb"] = 10 + number % 2
        self.c.write_conf()
        self.certs[number % 2].install(self.c.dir / "certs", "chasq.test")
        answer = converse(self.control, b"RELOAD\n")
        changed = answer.startswith(b"OK") and answer.endswith(b"END\n") and b"refused" not in answer
        if not changed:
            raise Refused(str(answer))
        self.with_client(lambda c: c.give("a@client.test", ["who@here.test"], token))
        # What says nothing of a refusal may have kept the old aliases, and the log told why.
        return [user] if not self.shim.failed else []


class Lmtp(World):
    """Delivery to a server of LMTP, which is a sink that answers once a recipient (there is one)."""

    def prepare(self):
        self.sink = self.fixtures["sink"](address="127.0.0.2", script={"OTHER": self.lhlo})
        self.c.conf.update(lmtp_address=f"127.0.0.2:{self.sink.port}")
        self.c.write_conf()

    @staticmethod
    def lhlo(_session, line):
        return "250 sink.test" if line.startswith("LHLO") else "502 5.5.1 what?"

    def play(self, token):
        self.with_client(lambda c: c.give("a@client.test", ["user@here.test"], token))
        return ["sink"]


KINDS = [Local, Aliases, Login, Remote, RemoteTls, Dsn, Spf, Hooks, Control, Page, Reload, Lmtp]


def sample(count, samples=SAMPLES):
    """[(n, until)] to play: all of 1..count, each alone and with all that follow (of the many thousands that
    TLS makes, every tenth); or some spread over the range, with both ends, alone and with the rest by turns."""
    if EVERY or harness.FULL:
        few = count <= MANY
        return [(n, until) for n in range(1, count + 1, EVERY or 1) for until in (n + 1, FOREVER)
                if until != FOREVER or few or EVERY or n % 10 == 0]
    step = max(1, (count - 1) / (samples - 1))
    numbers = sorted({min(count, round(1 + i * step)) for i in range(samples)})
    return [(n, (n + 1, FOREVER)[i % 2]) for i, n in enumerate(numbers)]


@pytest.fixture
def world(box, chasq, allocshim, sink, dnsd, request):
    def make(kind, journal=True):
        fixtures = {"sink": sink, "dnsd": dnsd, "journal": journal}
        if kind is Spf:
            fixtures["spf_build"] = request.getfixturevalue("spf_build")
        return kind(box, chasq, allocshim, **fixtures)

    return make


@pytest.mark.parametrize("journal", [False, True], ids=["files", "journal"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_every_allocation_of_a_session(world, kind, journal):
    if not journal and kind is not Dsn and not harness.FULL:
        pytest.skip("with CHASQ_FULL=1")
    w = world(kind, journal)
    count = w.measure()
    played = sample(count, w.samples)
    for n, until in played:
        try:
            w.round(n, until, again=count <= MANY or n % 8 == 0 or not harness.FULL)
        except Exception as e:
            raise w.tell(n, until, e) from e
    w.round(FOREVER, FOREVER)
    # What could not be read for want of memory is neither damaged nor passed over.
    assert "passed over" not in w.c.log() and not list(w.c.queue.glob("damaged/*"))
    print(f"{kind.__name__}: {count} allocations, {len(played)} failures survived")
    assert count > 5


@pytest.mark.parametrize("journal", [False, True], ids=["files", "journal"])
def test_every_allocation_of_a_start(box, allocshim, journal):
    """A start that lacks memory ends with a text, or goes on and delivers; the queue stays whole, also when it is
    in a journal that has to be read first."""
    c = harness.Chasq(box, program=harness.fast_binary(), journal=journal, conf={
        "trusted_network": "127.0.0.0/8"},
        domains={"here.test": {"users": ["user"], "aliases": "who: user\n"}})
    certs.make_cert(box.path / "pki", ["chasq.test"]).install(c.dir / "certs", "chasq.test")
    shim = Shim(box, allocshim)
    c.start()
    with Client(c.port) as client:
        client.hello()
        for i in range(3):
            client.message("user@here.test", [f"r{i}@nowhere.test"], text_of(f"w-{i}"))
    names = {name: text.split(b"\nattempt")[0] for name, text in c.texts().items()}
    c.kill() if journal else c.stop()
    assert len(names) == 3 and len(list(c.queue.glob("m:*"))) == (0 if journal else 3)
    kept = box.path / "kept"
    shutil.copytree(c.queue, kept)

    def start(n, until):
        shutil.rmtree(c.queue)
        shutil.copytree(kept, c.queue)
        shim.arm(n, until)
        c.start(wait=False, env=shim.env, wrap=WRAP)
        harness.wait_for(lambda: not c.process.running() or harness.can_connect(c.address, c.port), 60, step=0.005)
        if c.process.running():
            reached = shim.calls
            shim.disarm()
            send(c.port, "a@client.test", ["user@here.test"], text_of("ok"))
            c.stop()
        else:
            reached = shim.calls
            shim.disarm()
            assert c.process.wait() == 1, f"ended with {c.process.wait()}"
            assert re.search(r"memory|too large|cannot|not ", c.log()), "no reason"
            c.process = None
        now = c.texts()
        assert set(now) == set(names), c.queued()
        assert all(now[name].startswith(text) for name, text in names.items())
        assert not list(c.queue.glob("damaged/*"))
        return reached

    count = start(FOREVER, FOREVER)
    played = sample(count)
    for n, until in played:
        try:
            start(n, until)
        except Exception as e:
            raise AssertionError(f"allocation {n}, {until} in {shim.stack(c.program)}: {e}\n"
                                 f"{c.process.log() if c.process else ''}") from e
    print(f"start: {count} allocations, {len(played)} failures survived")
