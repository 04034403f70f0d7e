"""One message stays one: every end of data that some server was found to believe in, both ways.

In: a model of RFC 5321 says what has to become of the bytes; nothing else may. Out: what goes over the
wire is read again as servers of every laxity would read it; none may find the end before we meant it.
"""

import contextlib
import itertools
import os
import random
import re
import socket
import ssl
import threading
import time

import pytest

import certs
import harness
import peers
from smtpclient import Client, Closed, send

# What stands before and behind the dot.
ENDS = {"nothing": b"", "CR": b"\r", "LF": b"\n", "CRLF": b"\r\n", "NUL": b"\0", "CRCR": b"\r\r",
        "CRNUL": b"\r\0", "85": b"\x85", "NEL": "\x85".encode(), "VT": b"\x0b", "FF": b"\x0c",
        "LS": "\u2028".encode(), "CRLFNUL": b"\r\n\0", "NULCRLF": b"\0\r\n", "CRCRLF": b"\r\r\n",
        "CRNULLF": b"\r\0\n"}
MATRIX = [(a + b"." + b) for a, b in itertools.product(ENDS.values(), repeat=2)]

EVIL = b"MAIL FROM:<evil@far.test>\r\nRCPT TO:<victim@here.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"


# ---- in -----------------------------------------------------------------------------------------


def model(data):
    """What becomes of the bytes behind 354: (content or None when refused, what is left for commands)."""
    bare = re.search(rb"\r(?!\n)|(?<!\r)\n", data)
    end = (b"\r\n" + data).find(b"\r\n.\r\n")
    if bare and (end < 0 or bare.start() < end + 3):
        return None, b""
    assert end >= 0
    content = (b"\r\n" + data)[:end + 2].replace(b"\r\n.", b"\r\n")[2:]
    return content, data[end + 3:]


@pytest.fixture(scope="module")
def cert(tmp_path_factory):
    return certs.make_cert(tmp_path_factory.mktemp("pki"), ["mx.test"])


class Door:
    """A chasq, and how one gets to its DATA by each kind of door."""

    def __init__(self, chasq, cert):
        self.ports = {"submission": harness.free_port(), "submissions": harness.free_port()}
        self.c = chasq(start=False, conf={
            "submission_address": f"127.0.0.1:{self.ports['submission']}", "sender_login_check": False,
            "submission_over_tls_address": f"127.0.0.1:{self.ports['submissions']}"},
            domains={"here.test": {"users": ["user", "victim"]}})
        cert.install(self.c.dir / "certs", "mx.test")
        self.c.start()
        self.context = ssl._create_unverified_context()

    def open(self, kind):
        client = Client(self.c.port if kind in ("plain", "tls") else self.ports[kind], greet=kind != "submissions")
        if kind == "submissions":
            client.sock = self.context.wrap_socket(client.sock)
            client.read()
        client.hello()
        if kind in ("tls", "submission"):
            client.cmd("STARTTLS", 220)
            client.sock = self.context.wrap_socket(client.sock)
            client.hello()
        if kind.startswith("submission"):
            client.cmd("AUTH PLAIN AHVzZXJAaGVyZS50ZXN0AHg=", 235)
        return client

    def send(self, kind, data, cuts=()):
        """One message whose bytes behind 354 are these, in pieces; returns what was said until QUIT is
        answered or the connection ends: a list of codes."""
        codes = []
        with self.open(kind) as client:
            for command, code in (("MAIL FROM:<user@here.test>", 250), ("RCPT TO:<user@here.test>", 250),
                                  ("DATA", 354)):
                client.cmd(command, code)
            with contextlib.suppress(Closed, OSError, ssl.SSLError):
                for a, b in itertools.pairwise([0, *cuts, len(data)]):
                    client.send(data[a:b])
                    if b < len(data):
                        time.sleep(0.001)
                client.send(b"QUIT\r\n")
            with contextlib.suppress(Closed, OSError, ssl.SSLError):
                while not codes or codes[-1] != 221:
                    codes.append(client.read().code)
        return codes


def cuts_of(data, sequence, how):
    at = data.index(sequence + b"MAIL")
    if how == "whole":
        return ()
    if how == "bytes":
        return range(at, at + len(sequence) + 1)
    return (at + how,)


@pytest.mark.parametrize("kind", ["plain", "tls", "submission", "submissions"])
def test_every_end_of_data(chasq, cert, kind):
    """Taken as RFC 5321 has it, or refused and the connection closed: never a third thing."""
    d = Door(chasq, cert)
    rng = random.Random(kind)
    cases = MATRIX if harness.FULL or kind == "plain" else MATRIX[:2] + rng.sample(MATRIX, 24) + MATRIX[-2:]
    expected, victims, tried = [], 0, 0
    for n, sequence in enumerate([b"\r\n.\r\n", *cases]):
        hows = ["whole", "bytes", *range(len(sequence) + 1)]
        for how in hows if harness.FULL else [hows[n % len(hows)]]:
            tried += 1
            data = b"Subject: outer\r\nX-Case: %d\r\n\r\nfirst" % tried + sequence + EVIL
            content, rest = model(data)
            codes = d.send(kind, data, cuts_of(data, sequence, how))
            if content is None:
                assert len(codes) == 1 and codes[0] // 100 == 5, (sequence, how, codes)
                continue
            expected.append(content)
            victims += rest == EVIL
            if not rest:
                assert codes == [250, 221], (sequence, how, codes)
            elif rest == EVIL:
                assert codes == [250, 250, 250, 354, 250, 221], (sequence, how, codes)
            else:
                assert codes[0] == 250 and 354 not in codes, (sequence, how, codes)
    d.c.wait_queue_empty()
    got = {re.search(rb"^X-Case: (\d+)\r?$", m, re.M)[1]: m for m in d.c.messages("user")}
    assert len(d.c.messages("user")) == len(got) == len(expected) and expected
    for content in expected:
        m = got[re.search(rb"X-Case: (\d+)", content)[1]]
        assert m.endswith(content.replace(b"\r\n", b"\n")), (content, m)
    # Only what has a real end of data has a second message.
    assert len(d.c.messages("victim")) == victims
    print(f"{kind}: {tried} sequences, {len(expected)} taken whole, {tried - len(expected)} refused")


# ---- out ----------------------------------------------------------------------------------------


class Wire:
    """An SMTP or LMTP server that keeps, for each message, the bytes between its 354 and the end, as
    they came; refuse: recipients that get 550."""

    def __init__(self, box, address="127.0.0.2", path=None, refuse=()):
        self.got, self.refuse = [], refuse
        self.sock = socket.socket(socket.AF_UNIX) if path else socket.socket()
        self.sock.bind(str(path) if path else (address, 0))
        self.sock.listen(16)
        self.port = None if path else self.sock.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()
        box.on_stop(self.stop)

    def stop(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.run, args=(self.sock.accept()[0],), daemon=True).start()

    def run(self, sock):
        with contextlib.suppress(OSError), sock:
            sock.sendall(b"220 wire.test\r\n")
            data, rcpts, lmtp, envelope = b"", 0, False, []
            while more := sock.recv(65536):
                data += more
                while b"\r\n" in data:
                    line, data = data.split(b"\r\n", 1)
                    verb = line[:4].upper()
                    envelope.append(line)
                    if verb in (b"EHLO", b"LHLO"):
                        lmtp = verb == b"LHLO"
                        sock.sendall(b"250-wire.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
                    elif verb == b"RCPT" and any(r in line for r in self.refuse):
                        sock.sendall(b"550 5.1.1 no\r\n")
                    elif verb == b"RCPT":
                        rcpts += 1
                        sock.sendall(b"250 ok\r\n")
                    elif verb == b"DATA" and rcpts == 0:
                        sock.sendall(b"503 no recipients\r\n")
                    elif verb == b"DATA":
                        sock.sendall(b"354 go\r\n")
                        while b"\r\n.\r\n" not in b"\r\n" + data:
                            if not (more := sock.recv(65536)):
                                return
                            data += more
                        end = (b"\r\n" + data).index(b"\r\n.\r\n") + 3
                        self.got.append((list(envelope), data[:end]))
                        data, envelope = data[end:], []
                        sock.sendall(b"250 2.0.0 kept\r\n" * (rcpts if lmtp else 1))
                        rcpts = 0
                    else:
                        rcpts = 0 if verb in (b"MAIL", b"RSET") else rcpts
                        sock.sendall(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")


# How servers were found to read: what they take for a line's end, and what they drop before that.
LAX = {
    "strict": (rb"\r\n", b""),
    "LF": (rb"\r?\n", b""),
    "CR": (rb"\r\n?|\n", b""),
    "CRs LF": (rb"\r+\n|\n|\r", b""),
    "drops NUL": (rb"\r?\n|\r", b"\0"),
    "drops CR": (rb"\n", b"\r"),
    "drops CR, NUL": (rb"\n", b"\r\0"),
}


def lax_end(wire, kind):
    """Where a server of this kind sees the end of data: how many bytes are left behind it. -1: nowhere."""
    end, drops = LAX[kind]
    read = wire.translate(None, drops)
    m = re.search(rb"(?:\A|" + end + rb")\.(?:" + end + rb")", read)
    return len(read) - m.end() if m else -1


def check_wire(wire):
    assert wire.endswith(b"\r\n.\r\n")
    for kind in LAX:
        assert lax_end(wire, kind) == 0, kind
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", wire)


def may_become(content, gates):
    """Nothing is lost but which line end it was, and each gate doubles a dot that stands behind NULs."""
    content = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    content = re.sub(rb"^(\0+)\.", rb"\1." + b"." * gates, content, flags=re.M)
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def hostile_body(rng, bare=True):
    """All sequences, each with commands behind it, at every place of a block: bodies to be read whole."""
    out = []
    for sequence in MATRIX:
        if bare or not re.search(rb"\r(?!\n)|(?<!\r)\n", sequence):
            out.append(b"x" * rng.randrange(300) + sequence + b"MAIL FROM:<evil@far.test>")
    rng.shuffle(out)
    return b"\r\n".join(out) + b"\r\nlast\r\n"


def put_in_queue(c, to, data, kind="EMAIL", sender="sender@here.test", number=0):
    """A file as chasquid leaves it: data of any bytes."""
    name = f"abcdefgh{number:04d}"
    c.queue.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = c.queue / f"m:{name}"
    path.write_text(harness.text_proto({
        "ID": name, "from": sender, "To": to}) +
        f"rcpt: {{ address: {harness.quote(to)} type: {kind} status: PENDING original_address: {harness.quote(to)} }}\n"
        f"data: {harness.quote(data)}\ncreated_at_ts: {{ seconds: {int(time.time())} }}\n")
    path.chmod(0o600)


HEAD = b"From: sender@here.test\r\nSubject: outer\r\n\r\n"


@pytest.fixture
def outward(box, chasq, dnsmasq):
    def make(refuse=(), conf=None, aliases="", program=None, start=True):
        wire = Wire(box, refuse=refuse)
        dns = dnsmasq(mx={"far.test": [(10, "mx.far.test")]}, hosts={"mx.far.test": ["127.0.0.2"]})
        c = chasq(start=start, conf={"dns_servers": dns.server, "remote_smtp_port": wire.port,
                                     "trusted_network": "127.0.0.0/8", **(conf or {})},
                  domains={"here.test": {"users": ["user"], "aliases": aliases}}, program=program)
        return c, wire

    return make


def rounds(name):
    """Seeds, so that the sequences come to lie at other places of a block."""
    return [random.Random(f"{name} {n}") for n in range(40 if harness.FULL else 4)]


def test_lax_server_sees_one_message(outward):
    """From sendmail, a trusted client, a forwarding alias and a foreign queue file, to the wire."""
    c, wire = outward(aliases="away: b@far.test\n", start=False)
    sent = []
    for n, rng in enumerate(rounds("queue")):
        sent.append((1, hostile_body(rng)))
        put_in_queue(c, "b@far.test", HEAD + sent[-1][1], number=n)
    for n, sequence in enumerate([b"\r\n.\r\n", b".\r\n", b"\n.\n", b"\0.\r\n"], 100):
        sent.append((1, sequence))
        put_in_queue(c, "b@far.test", HEAD + sequence, number=n)
    c.start()
    for rng in rounds("sendmail"):
        sent.append((2, hostile_body(rng)))  # sendmail speaks SMTP to the daemon
        r = c.sendmail("-i", "-f", "sender@here.test", "b@far.test", input=HEAD + sent[-1][1])
        assert r.returncode == 0, r.stderr
    for to, rng in itertools.product(["b@far.test", "away@here.test"], rounds("client")):
        sent.append((1, hostile_body(rng, bare=False)))
        send(c.port, "user@here.test", [to], HEAD + sent[-1][1])
    c.wait_queue_empty()
    assert len(wire.got) == len(sent)
    for _, data in wire.got:
        check_wire(data)
    left = [re.sub(rb"(\A|\r\n)\.", rb"\1", data[:-3]) for _, data in wire.got]
    for gates, body in sent:
        same = [data for data in left if data.endswith(may_become(HEAD + body, gates))]
        assert same, f"changed on the way: {body[:300]!r}"
        left.remove(same[0])


def test_lmtp_sees_one_message(box, chasq):
    wire = Wire(box, path=box.path / "lmtp")
    c = chasq(start=False, conf={"lmtp_address": f"unix:{box.path}/lmtp"})
    sent = [hostile_body(rng) for rng in rounds("lmtp")]
    for n, body in enumerate(sent):
        put_in_queue(c, "user@here.test", HEAD + body, number=n)
    c.start()
    c.wait_queue_empty()
    assert len(wire.got) == len(sent)
    for _, data in wire.got:
        check_wire(data)


@pytest.mark.parametrize("ends", ["LF", "CRLF"])
def test_local_readers_see_one_message(box, chasq, ends):
    """Maildir, delivery program and pipe get the content whole, with one kind of line end."""
    take = box.path / "take"
    take.write_text(f'#!/bin/sh\ncat >"{box.path}/got.$$"\n')
    take.chmod(0o755)
    sent = [b"From evil Mon Jan  1 00:00:00 2024\r\nFrom: x@y.test\r\n\r\n" + hostile_body(rng)
            for rng in rounds("local")]
    for how in ("maildir", "mda", "pipe"):
        # An mbox line of its own can stand in the body only: the header ends before it.
        c = chasq(how, start=False, conf={
            "local_line_ends": harness.Raw(ends),
            **({"mail_delivery_agent_bin": str(take), "maildir": None} if how == "mda" else {})},
            domains={"here.test": {"users": ["user"], "aliases": f"prog: | {take}\n"}})
        for n, body in enumerate(sent):
            put_in_queue(c, str(take) if how == "pipe" else "user@here.test", HEAD + body, number=n,
                         kind="PIPE" if how == "pipe" else "EMAIL")
        c.start()
        c.wait_queue_empty()
        got = c.messages("user") if how == "maildir" else [p.read_bytes() for p in box.path.glob("got.*")]
        for p in box.path.glob("got.*"):
            p.unlink()
        assert len(got) == len(sent), how
        crlf = ends == "CRLF" and how != "pipe"
        want = [re.sub(rb"\r\n" if not crlf else rb"\r?\n", b"\r\n" if crlf else b"\n", HEAD + body) for body in sent]
        for m in got:
            assert m.startswith(b"Return-Path: ") and sum(m.endswith(w) for w in want) == 1, how
        assert len({len(m) for m in got}) > 1


def test_hook_output_adds_no_message(outward):
    """Each of the sequences in what post-data writes: the output is dropped or stays a header."""
    c, wire = outward()
    hooks = c.dir / "hooks"
    hooks.mkdir(exist_ok=True)
    hook = hooks / "post-data"
    (c.dir / "said").mkdir()
    hook.write_text(f"#!/bin/sh\nn=$(ls {c.dir}/said | head -n 1)\ncat {c.dir}/said/$n; rm {c.dir}/said/$n\n")
    hook.chmod(0o755)
    cases = MATRIX if harness.FULL else MATRIX[::9] + [b"\r\n.\r\n", b"\n.\n", b"\n\n.\n"]
    for n, sequence in enumerate(cases):
        (c.dir / "said" / f"{n:05d}").write_bytes(b"X-Hook: a" + sequence + b"MAIL FROM:<evil@far.test>\n")
        send(c.port, "user@here.test", ["b@far.test"], HEAD + b"body\r\n")
    c.wait_queue_empty()
    assert len(wire.got) == len(cases) and not list((c.dir / "said").iterdir())
    for _, data in wire.got:
        check_wire(data)
        head, body = data.split(b"\r\n\r\n", 1)
        assert body == b"body\r\n.\r\n" and b"\nMAIL FROM" not in head


def test_notification_carries_no_message(outward):
    """The original comes back within a DSN, and what the host said of it: both as hostile as can be."""
    c, wire = outward(refuse=(b"b@far.test",), start=False)
    sent = rounds("dsn")
    for n, rng in enumerate(sent):
        put_in_queue(c, "b@far.test", HEAD + hostile_body(rng), sender="me@far.test", number=n)
    c.start()
    c.wait_queue_empty()
    assert len(wire.got) == len(sent)
    for envelope, data in wire.got:
        assert b"MAIL FROM:<> BODY=8BITMIME" in envelope and b"RCPT TO:<me@far.test>" in envelope
        check_wire(data)


def test_real_servers_take_one_message(outward, box, exim):
    """Postfix and Exim as they come, each behind a chasq that was given all sequences at once."""
    if os.getuid() != 0:
        pytest.skip("Postfix must be started by root")
    c, _ = outward(start=False)
    port = harness.free_port("127.0.0.4", "127.0.0.5")
    servers = {"postfix.test": peers.Postfix(box, address="127.0.0.4", port=port),
               "exim.test": exim(address="127.0.0.5", port=port)}
    dns = peers.Dnsmasq(box, hosts={"postfix.test": ["127.0.0.4"], "exim.test": ["127.0.0.5"]})
    c.conf.update({"dns_servers": f"{dns.address}:{dns.port}", "remote_smtp_port": port})
    c.write_conf()
    for n, (domain, rng) in enumerate(itertools.product(servers, rounds("real"))):
        put_in_queue(c, f"b@{domain}", HEAD + hostile_body(rng), number=n)
    c.start()
    c.wait_queue_empty(60)
    for domain, server in servers.items():
        harness.wait_for(lambda s=server: len(s.messages()) >= len(rounds("real")), 30, server.log)
        assert len(server.messages()) == len(rounds("real"))
        assert all(m.count(b"\nSubject: outer") == 1 for m in server.messages())
