"""Runs tests/dialogue/*.txt, a case a file, against a running chasq.

Lines of a case (# begins a comment line; {user} is a local user of the case's own, at here.test):
  ! conf KEY: VALUE    chasq.conf has this line too, and no other with this key that is not in the case (cases with the same lines share a daemon)
  ! needs OPTION=0|1   the case is about builds with this option of config.h, and is left out for others
  ! alias LINE         the aliases of here.test have this line too
  ! alias* N NAME TEXT     so they have "NAME: TEXT, TEXT, ...", N of them; {n} counts from 0
  ! broken DOMAIN      this domain is new while the server runs, and its aliases cannot be read
  ! hook NAME SCRIPT   there is hooks/NAME, a shell script of this one line
  ! source ADDRESS     the client connects from there; 127.0.0.9 is trusted to relay
  ! tls                the server has a certificate
  ! port submission | submissions   the client connects there (and the server has a certificate); at
                       submissions TLS begins first. Users' passwords are "x"
  C: TEXT              the client sends TEXT and CRLF
  C< TEXT              sends TEXT with its escapes (\\r \\n \\0 \\xHH \\\\) read and nothing added
  C* N TEXT            sends TEXT as C< does N times; {n} counts from 0
  C! close | half | reset     the client closes; closes its sending side; closes with RST
  C! tls               the client begins TLS now
  C@ MECHANISM USER PASSWORD   sends AUTH PLAIN with its response, or that of LOGIN line by line
  S: REGEX             the next reply matches (all its lines, joined by \\n)
  S* N REGEX           so do the next N
  S~ REGEX             replies are read until one matches
  S? SECONDS           the server stays silent for so long
  S! close             the server closes without another byte
  M# USER N            USER has N messages, and not more
  M= USER TEXT         the latest message of USER has exactly this body (escapes; LF line ends)
  M~ USER REGEX        the latest message of USER, header and body, matches somewhere

Greeting: the case begins after 220, unless its first line is "S:".
"""

import base64
import re
import ssl
import subprocess
import time

import pytest

import certs
import harness
from smtpclient import Client

CASES = sorted((harness.TREE / "tests/dialogue").glob("*.txt"))
TRUSTED = "127.0.0.9"
OPTIONS = subprocess.run([harness.binary(), "-V"], capture_output=True, text=True, check=True).stdout.split()


def unescape(text):
    def one(m):
        c = m[1]
        if c.startswith("x"):
            return chr(int(c[1:], 16))
        return {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}[c]

    return re.sub(r"\\(x[0-9a-fA-F]{2}|[rnt0\\])", one, text).encode("latin-1")


class Case:
    def __init__(self, path, number):
        self.path = path
        self.user = f"u{number}"
        self.conf = []
        self.hooks = []
        self.aliases = []
        self.broken = []
        self.needs = []
        self.tls = False
        self.source = None
        self.door = "smtp"
        self.steps = []
        for n, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            line = line.replace("{user}", self.user)
            if not line.strip() or line.startswith("#"):
                continue
            if line.startswith("! conf "):
                self.conf.append(line[7:])
            elif line.startswith("! needs "):
                self.needs.append(line[8:].strip())
            elif line.startswith("! alias "):
                self.aliases.append(line[8:])
            elif line.startswith("! alias* "):
                count, name, text = line[9:].split(" ", 2)
                self.aliases.append(name + ": " + ", ".join(text.replace("{n}", str(i)) for i in range(int(count))))
            elif line.startswith("! broken "):
                self.broken.append(line[9:].strip())
            elif line.startswith("! hook "):
                self.hooks.append(line[7:])
            elif line.startswith("! source "):
                self.source = line[9:].strip()
            elif line.startswith("! port "):
                self.door = line[7:].strip()
                self.tls = True
            elif line.strip() == "! tls":
                self.tls = True
            else:
                kind, _, rest = line.partition(" ")
                self.steps.append((n, kind, rest))
        # What its daemon has to be like.
        self.key = (self.tls, *self.conf, *self.hooks, *self.aliases, *self.broken)


ALL = {path: Case(path, number) for number, path in enumerate(CASES)}


class Runner:
    def __init__(self, case, daemon):
        self.case = case
        self.daemon = daemon
        greet = case.steps[0][1] != "S:"
        port = daemon.port if case.door == "smtp" else daemon.doors[case.door]
        implicit = case.door == "submissions"
        self.client = Client(port, source=case.source, greet=greet and not implicit)
        if implicit:
            self.start_tls()
            if greet:
                self.expect("220 ")

    def run(self):
        try:
            for n, kind, rest in self.case.steps:
                try:
                    getattr(self, self.NAMES[kind])(rest)
                except Exception as e:
                    transcript = b"\n".join(self.client.transcript[-20:]).decode("latin-1")
                    raise AssertionError(
                        f"{self.case.path.name}:{n}: {kind} {rest[:200]}\n{type(e).__name__}: {e}\n"
                        f"{transcript}") from e
        finally:
            self.client.close()

    def send_line(self, text):
        self.client.send(text.encode() + b"\r\n")

    def send_raw(self, text):
        self.client.send(unescape(text))

    def send_many(self, rest):
        count, _, text = rest.partition(" ")
        data = b"".join(unescape(text.replace("{n}", str(i))) for i in range(int(count)))
        self.client.send(data)

    def start_tls(self):
        context = ssl._create_unverified_context()
        self.client.sock = context.wrap_socket(self.client.sock, server_hostname="here.test")

    def send_auth(self, rest):
        mechanism, user, password = rest.split(" ")
        if mechanism == "PLAIN":
            text = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
            self.send_line("AUTH PLAIN " + text)
            return
        self.send_line("AUTH " + mechanism)
        for word in (user, password):
            self.expect("334 ")
            self.send_line(base64.b64encode(word.encode()).decode())

    def client_act(self, what):
        {"tls": self.start_tls, "close": self.client.close, "half": self.client.half_close, "reset": self.client.reset}[what]()

    def expect(self, pattern):
        reply = self.client.read()
        assert re.match(pattern, reply.text, re.S), f"got {reply!r}"

    def expect_many(self, rest):
        count, _, pattern = rest.partition(" ")
        for _ in range(int(count)):
            self.expect(pattern)

    def expect_until(self, pattern):
        while not re.match(pattern, self.client.read().text, re.S):
            pass

    def expect_silence(self, seconds):
        assert self.client.silent(float(seconds)), f"got {self.client.buffer!r}"

    def expect_close(self, what):
        assert what == "close"
        assert self.client.at_end(), f"still open, or said {self.client.buffer!r}"

    def messages(self, user, count):
        return self.daemon.wait_messages(user, count)

    def count_messages(self, rest):
        user, count = rest.split()
        self.messages(user, int(count))
        time.sleep(0.15)
        assert len(self.daemon.messages(user)) == int(count)

    def latest(self, user):
        self.messages(user, 1)
        new = self.daemon.maildir(user) / "new"
        return max(new.iterdir(), key=lambda p: p.stat().st_mtime_ns).read_bytes()

    def message_body(self, rest):
        user, _, text = rest.partition(" ")
        body = harness.split_message(self.latest(user))[1]
        assert body == unescape(text), f"body is {body[:2000]!r}"

    def message_matches(self, rest):
        user, _, pattern = rest.partition(" ")
        message = self.latest(user).decode("latin-1")
        assert re.search(pattern, message, re.S | re.M), message[:2000]

    NAMES = {
        "C:": "send_line", "C<": "send_raw", "C*": "send_many", "C!": "client_act",
        "C@": "send_auth", "S:": "expect",
        "S*": "expect_many", "S~": "expect_until", "S?": "expect_silence", "S!": "expect_close",
        "M#": "count_messages", "M=": "message_body", "M~": "message_matches",
    }


@pytest.fixture(scope="module")
def daemons():
    """One chasq for each distinct set of `! conf`, `! hook` and `! alias` lines, started when first needed; all of them must
    end cleanly."""
    box = harness.Sandbox("dialogue")
    running = {}

    cert = certs.make_cert(box.path, ["here.test"])

    def get(case):
        key = case.key
        if key not in running:
            users = [c.user for c in ALL.values() if c.key == key]
            d = harness.Chasq(
                box, f"dialogue{len(running)}", conf={"hostname": "here.test",
                                                      "trusted_network": TRUSTED + "/32"},
                domains={"here.test": {"users": [*users, "boss", "f.ull"],
                                       "aliases": "\n".join(["postmaster: boss", *case.aliases, ""])}})
            for line in case.conf:
                d.conf.pop(line.partition(":")[0], None)
            d.write_conf()
            for hook in case.hooks:
                name, _, script = hook.partition(" ")
                (d.dir / "hooks").mkdir(exist_ok=True)
                (d.dir / "hooks" / name).write_text(f"#!/bin/sh\n{script}\n")
                (d.dir / "hooks" / name).chmod(0o755)
            if case.tls:
                cert.install(d.dir / "certs", "here.test")
                d.doors = {"submission": harness.free_port(), "submissions": harness.free_port()}
            with open(d.dir / "chasq.conf", "a", encoding="utf-8") as f:
                f.write("\n".join(case.conf) + "\n")
                if case.tls:
                    f.write(harness.text_proto({
                        "submission_address": f"127.0.0.1:{d.doors['submission']}",
                        "submission_over_tls_address": f"127.0.0.1:{d.doors['submissions']}"}))
            running[key] = d.start()
            for domain in case.broken:
                # It would not have started with one.
                (d.dir / "domains" / domain).mkdir()
                (d.dir / "domains" / domain / "aliases").write_text("no alias\n")
                d.run("reload", "-C", d.dir)
        return running[key]

    yield get
    try:
        for d in running.values():
            d.stop()
    finally:
        box.stop()


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_dialogue(path, daemons):
    case = ALL[path]
    for option in case.needs:
        if option not in OPTIONS:
            pytest.skip("needs " + option)
    daemon = daemons(case)
    assert daemon.process.running(), daemon.log()[-4000:]
    Runner(case, daemon).run()
    assert daemon.process.running(), daemon.log()[-4000:]


def test_there_are_cases():
    assert len(CASES) >= 60
    assert all(case.steps for case in ALL.values())
    unknown = {(c.path.name, kind) for c in ALL.values() for _, kind, _ in c.steps
               if kind not in Runner.NAMES}
    assert not unknown
