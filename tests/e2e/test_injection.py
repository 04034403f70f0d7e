"""What one side says stays what it said: bytes around a handshake, names in fields, replies in files; and what
it costs to be told too much: long lines, many lines, many failed logins."""

import base64
import concurrent.futures
import contextlib
import email
import email.policy
import itertools
import os
import re
import socket
import ssl
import statistics
import time

import pytest

import certs
import harness
from sink import Bytes
from smtpclient import Client, send
from test_tls_client import ca, way  # noqa: F401  (fixtures)

TEXT = b"Subject: x\r\n\r\ntext\r\n"


@pytest.fixture(scope="module")
def cert(tmp_path_factory):
    return certs.make_cert(tmp_path_factory.mktemp("pki"), ["mx.test"])


@pytest.fixture
def server(chasq, cert):
    def make(conf=None, **kwargs):
        kwargs.setdefault("domains", {"here.test": {"users": ["user"]}})
        c = chasq(start=False, conf=conf, **kwargs)
        cert.install(c.dir / "certs", "mx.test")
        return c.start()

    return make


# ---- around the handshake -----------------------------------------------------------------------

EVIL = b"EHLO evil\r\nMAIL FROM:<evil@far.test>\r\nRCPT TO:<user@here.test>\r\nDATA\r\nSubject: evil\r\n\r\nx\r\n.\r\n"


class HandMade:
    """TLS whose records the test carries itself."""

    def __init__(self, name="mx.test"):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = ssl._create_unverified_context().wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        self.hello = self.outgoing.read()


def all_of(client, seconds=5):
    """What still comes until the server closes, or is silent for a while."""
    client.sock.settimeout(0.5)
    got = client.buffer
    end = time.monotonic() + seconds
    with contextlib.suppress(OSError):
        while time.monotonic() < end and (more := client.sock.recv(65536)):
            got += more
    return got


@pytest.mark.parametrize("how", ["hello with STARTTLS", "commands behind hello", "commands before hello",
                                 "commands in hello", "half a hello"])
def test_commands_in_the_segment_of_the_hello(server, how):
    c = server()
    hello = HandMade().hello
    with Client(c.port) as client:
        client.hello()
        if how == "hello with STARTTLS":
            client.send(b"STARTTLS\r\n" + hello + EVIL)
        else:
            client.cmd("STARTTLS", 220)
            client.send({"commands behind hello": hello + EVIL, "commands before hello": EVIL + hello,
                         "commands in hello": hello[:60] + EVIL + hello[60:],
                         "half a hello": hello[:100]}[how])
            if how == "half a hello":
                time.sleep(0.1)
                client.send(EVIL)
        got = all_of(client)
        if how == "hello with STARTTLS":
            assert got.startswith(b"220 2.0.0 ")
            got = got.partition(b"\r\n")[2]
        assert got == b"" or got[:2] in (b"\x16\x03", b"\x15\x03"), got[:200]
    send(c.port, "a@far.test", ["user@here.test"], TEXT)
    c.wait_queue_empty()
    assert len(c.messages("user")) == 1 and "evil" not in c.log()


def test_clear_text_within_tls(server):
    """Commands in the clear on a connection that is under TLS end it."""
    c = server()
    with Client(c.port) as client:
        client.hello()
        client.cmd("STARTTLS", 220)
        raw = os.dup(client.sock.fileno())
        client.sock = ssl._create_unverified_context().wrap_socket(client.sock)
        client.hello()
        with socket.socket(fileno=raw) as plain:
            plain.sendall(EVIL)
            got = b""
            with contextlib.suppress(OSError):
                while more := plain.recv(65536):
                    got += more
        assert not re.search(rb"250|354|50\d ", got)
    assert "evil" not in c.log() and not c.messages("user")


JUNK = [b"\0" * 12, b"\r\n250 evil\r\n", b"../../etc/pw", b"a\nevil-log-x", b"\x1b[2Jevil\x1b[", b'";evil;\'`id`', b"%s%n%x%s%n%x",
        b"\xff\xfe\xc3\x28evil.", b"............", b"here.test\0ev", b"xn--evil-\xff-", b"*.evil.test."]


def test_junk_in_sni(server):
    """A name of any bytes chooses no file and stands in no line: the first certificate, or an alert."""
    c = server(conf={"log_level": "debug"})
    plain = b"abcdefgh.tst"
    for junk in JUNK:
        hello = HandMade(plain.decode()).hello
        assert hello.count(plain) == 1
        junk = junk.ljust(len(plain), b"z")[:len(plain)]
        # An odd name, an odd length of the name, and an odd kind of name.
        at = hello.index(plain)
        for changed in (hello.replace(plain, junk), hello[:at - 2] + b"\xff\xff" + hello[at:],
                        hello[:at - 3] + b"\x07" + hello[at - 2:], hello[:at - 2] + b"\0\0" + hello[at:]):
            with Client(c.port) as client:
                client.hello()
                client.cmd("STARTTLS", 220)
                client.send(changed)
                client.half_close()
                assert all_of(client)[:2] in (b"", b"\x16\x03", b"\x15\x03")
    c.stop()
    log = c.process.log_path.read_bytes() if c.process else next(c.box.path.glob("chasq.*.log")).read_bytes()
    assert b"\x1b" not in log and b"\nevil" not in log and not re.search(rb"[\x00-\x09\x0b-\x1f]", log)


# What somebody on the way puts behind what the server says, or in its place, before the handshake.
CLEAR = {
    "whole dialogue": {"CONNECT": Bytes(b"220 x\r\n250-x\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n220 go\r\n235 ok\r\n" + b"250 ok\r\n" * 4)},
    "answers behind EHLO": {"EHLO": [Bytes(b"250-x\r\n250 STARTTLS\r\n220 go\r\n250-x\r\n250 AUTH PLAIN LOGIN\r\n235 2.7.0 ok\r\n"), None]},
    "answers behind 220": {"STARTTLS": Bytes(b"220 go\r\n250-x\r\n250 AUTH LOGIN\r\n235 ok\r\n550 5.1.1 nobody\r\n")},
    "refusal behind 220": {"STARTTLS": Bytes(b"220 go\r\n535 5.7.8 wrong\r\n550 5.7.1 no\r\n")},
    "login offered in the clear": {"EHLO": [Bytes(b"250-x\r\n250-AUTH PLAIN LOGIN\r\n250 AUTH=PLAIN\r\n"), None]},
    "PREAUTH": {"EHLO": [Bytes(b"250-x\r\n250 PREAUTH\r\n"), None]},
    "EHLO refused": {"EHLO": [Bytes(b"502 what?\r\n"), None], "HELO": "250 sink.test"},
    "EHLO says 550": {"EHLO": [Bytes(b"550 5.7.1 go away\r\n"), None], "HELO": "550 5.7.1 go away"},
    "greeting says 554": {"CONNECT": ["554 5.7.1 go away", None]},
    "STARTTLS says 5yz": {"STARTTLS": "554 5.7.1 no mail from you"},
    "STARTTLS says 250": {"STARTTLS": Bytes(b"250 2.0.0 ok\r\n")},
    "STARTTLS says 354": {"STARTTLS": Bytes(b"354 go\r\n250 kept\r\n")},
    "half a reply behind 220": {"STARTTLS": Bytes(b"220 go\r\n250-")},
    "220 in pieces": {"STARTTLS": Bytes(b"220-go\r\n220 on\r\n235 ok\r\n")},
}


@pytest.mark.parametrize("name", CLEAR)
def test_answers_injected_before_tls(way, ca, name):  # noqa: F811
    """Where TLS is demanded nothing said before it is believed: no password, sender or content in the
    clear, no answer taken for a later command, and no end for the message."""
    password = None

    def refuse_clear(session, arg):
        assert session.tls
        return None

    c, s = way({"cert": ca.good, "users": {"me": "secret-word"}, "script": {
        **{v: refuse_clear for v in ("AUTH", "MAIL", "RCPT", "DATA")}, **CLEAR[name]}},
        smarthosts=[], conf={"log_level": "debug"}, start=False)
    password = c.dir / "password"
    password.write_text("secret-word")
    password.chmod(0o600)
    c.conf["smarthost"] = harness.Raw(f'{{ address: "mx.far.test:{s.port}" user: "me" password_file: "{password}" }}')
    c.write_conf()
    c.start()
    send(c.port, "sender@here.test", ["b@far.test"], TEXT)
    harness.wait_for(lambda: s.messages or c.attempts(), 20, "a try")
    clear = [line for session in s.sessions if not session.tls for line in session.commands]
    assert not [line for line in clear if not re.match(rb"(EHLO|HELO|STARTTLS|RSET|QUIT)\b", line)], clear
    if s.messages:
        c.wait_queue_empty()
        assert len(s.messages) == 1
    else:
        assert len(c.queued()) == 1
    assert not c.messages("sender")


# ---- fields and files ---------------------------------------------------------------------------

NAMES = ["a b", "a\tb", "a)b (c", "a\\", 'a"b', "<x@y>", "a;b", "x by here.test with LMTP id 1; Thu, 1 Jan 1970 00:00:00 +0000",
         "[127.0.0.1", "[IPv6:::1]", "(" * 200, "x" * 400, "x " * 200, "\x7f", "\u2028", "a\u0085b", "\u202egnp", "=?utf-8?q?=0D=0AX:?=", ";", ","]


def test_names_add_no_fields(server):
    """EHLO and envelope of any spelling: one Received, Return-Path and Delivered-To, each one field."""
    c = server(conf={"trusted_network": "127.0.0.0/8"})
    taken = 0
    for name in NAMES:
        local = name.replace("\\", "\\\\").replace('"', '\\"')[:60]
        with Client(c.port) as client:
            if client.cmd(b"EHLO " + name.encode()).code != 250:
                client.cmd("EHLO x", 250)
            client.cmd("MAIL FROM:<a@client.test>", 250)
            client.cmd("RCPT TO:<user@here.test>", 250)
            client.cmd("DATA", 354)
            client.cmd(f"X-Real: yes\r\n\r\n{taken}\r\n.", 250)
            taken += 1
            if client.cmd(f'MAIL FROM:<"{local}"@client.test> SMTPUTF8'.encode()).code == 250:
                client.cmd("RCPT TO:<user@here.test>", 250)
                client.cmd("DATA", 354)
                client.cmd(f"X-Real: yes\r\n\r\n{taken}\r\n.", 250)
                taken += 1
    c.wait_queue_empty()
    assert taken > 1.4 * len(NAMES) and len(c.messages("user")) == taken
    for m in c.messages("user"):
        head, _ = harness.split_message(m)
        assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", head)
        fields = re.findall(rb"^([^\s:]+):", head, re.M)
        assert fields == [b"Return-Path", b"Delivered-To", b"Received", b"X-Real"], head
        parsed = email.message_from_bytes(m, policy=email.policy.compat32)
        assert parsed["X-Real"] == "yes" and not parsed.defects
        assert all(len(line) <= 998 for line in head.split(b"\n"))


REPLIES = [b"4%d2 a\x1b[2Jb\x00c\xff\r\n", b"4%d2-one\r\n4%d2-\r\n4%d2 }\r\nattempt { rcpt: 0 status: SENT }\r\n",
           b"4%d2 \"} attempt { rcpt: 0 status: SENT }\r\n", b"4%d2 a\rb\rattempt\r\n", b"4%d2 \xe2\x80\xa8ls \xe2\x80\xaerlo \xc2\x9bcsi\r\n",
           b"4%d2 " + b"long " * 90 + b"\r\n", b"4%d2 \\n\\\" \\\\ %%s%%n\r\n", b"4%d2 <script>alert(1)</script>\r\n"]


def test_replies_stay_in_their_place(chasq, sink, dnsmasq):
    """A host's words in queue file, list, show, trace and DSN: bytes of one value, seen and not obeyed."""
    left = list(REPLIES)
    s = sink(address="127.0.0.2", script={"RCPT": [Bytes(r.replace(b"%d", b"5").replace(b"%%", b"%")) for r in left]})
    dns = dnsmasq(mx={"far.test": [(10, "mx.far.test")]}, hosts={"mx.far.test": ["127.0.0.2"]})
    c = chasq(conf={"dns_servers": dns.server, "remote_smtp_port": s.port, "trusted_network": "127.0.0.0/8"},
              domains={"here.test": {"users": ["sender"]}}, journal=False)
    for n in range(len(REPLIES)):
        send(c.port, "sender@here.test", [f"r{n}@far.test"], TEXT)
        harness.wait_for(lambda n=n: sum(b"\nattempt" in t for t in c.texts().values()) > n, 20, "the attempt")
    for path in c.queued():
        data = path.read_bytes()
        assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]", data) and data.decode()
        assert len(re.findall(rb"^attempt ", data, re.M)) == 1 and b"status: PENDING" in data.rsplit(b"\nattempt", 1)[1]
        shown = c.run("show", path.name[2:], "-C", c.dir)
        assert shown.returncode == 0 and not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]", shown.stdout)
    for args in (["queue"], ["queue", "-j"], ["trace"]):
        out = c.run(*args, "-C", c.dir).stdout
        assert out and not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]", out), args
    # The same files after a restart: nothing of them was delivered or damaged.
    s.script["RCPT"] = "550 5.1.1 no"
    c.stop()
    assert len(c.queued()) == len(REPLIES)


def test_words_of_a_program_stay_in_its_part(box, chasq):
    """What a delivery program prints goes to its user's own notification, as text."""
    agent = box.path / "agent"
    agent.write_text("#!/bin/sh\nprintf '\\r\\n\\r\\n--evil\\r\\nContent-Type: text/evil\\n\\nAction: delivered\\n.\\r\\n\\033[2J\\000x'\nexit 1\n")
    agent.chmod(0o755)
    c = chasq(conf={"mail_delivery_agent_bin": str(agent)}, domains={"here.test": {"users": ["user"]},
                                                                      "far.test": {"aliases": f"sender: | tee {box.path}/dsn\n"}})
    (c.dir / "domains/far.test/aliases").write_text(f"sender: | /usr/bin/tee {box.path}/dsn\n")
    c.restart()
    send(c.port, "sender@far.test", ["user@here.test"], TEXT)
    c.wait_queue_empty()
    raw = (box.path / "dsn").read_bytes()
    dsn = email.message_from_bytes(raw, policy=email.policy.default)
    assert len(dsn.get_payload()) == 3 and not re.search(rb"^(Content-Type: text/evil|Action: delivered)", raw, re.M)
    assert b"\x1b" not in raw and b"\0" not in raw


# ---- failed logins ------------------------------------------------------------------------------


def hashed(c, user, password):
    done = c.run("passwd", "-C", c.dir, f"{user}@here.test", input=password + b"\n")
    assert done.returncode == 0, done.stderr


USERS = {"plain": "plain@here.test", "hashed": "hashed@here.test", "receive only": "receiver@here.test", "unknown": "nobody@here.test",
         "bare and known": "hashed", "bare and unknown": "nobody", "suffix": "hashed+x@here.test"}
# What says nothing of users: that a domain is not ours, or a name none, RCPT tells too.
OTHERS = {"no users": "nobody@none.test", "foreign": "nobody@far.test", "malformed": "a@b@c", "long": "x" * 300 + "@here.test"}


def guess(c, number, name):
    """A wrong password from an address of its own: (seconds, reply)."""
    with Client(c.port, source=f"127.1.{number % 250 + 1}.{number // 250 + 1}", timeout=60) as client:
        client.hello()
        client.cmd("STARTTLS", 220)
        client.sock = ssl._create_unverified_context().wrap_socket(client.sock)
        client.hello()
        response = base64.b64encode(f"\0{name}\0wrong".encode()).decode()
        begun = time.monotonic()
        reply = client.cmd(f"AUTH PLAIN {response}")
        return time.monotonic() - begun, reply.text


def test_failed_logins_look_alike(server):
    """Unknown users, wrong passwords and users without one: the same words, after the same time, for the
    same work."""
    c = server(program=harness.fast_binary(), domains={"here.test": {"users": ["plain"]}, "none.test": {"users": []}})
    hashed(c, "hashed", b"a good long one")
    assert c.run("user", "add", "--receive-only", "-C", c.dir, "receiver@here.test").returncode == 0
    c.restart()
    rounds = 20 if harness.FULL else 2
    number = itertools.count()
    seconds, work, words = {}, {}, set()
    for kind, names in {**{k: [v] * rounds for k, v in USERS.items()}, "others": OTHERS.values()}.items():
        before = ticks(c.pid, children=True)
        with concurrent.futures.ThreadPoolExecutor(rounds) as pool:
            answers = list(pool.map(lambda name: guess(c, next(number), name), names))
        seconds[kind] = statistics.median(s for s, _ in answers)
        work[kind] = (ticks(c.pid, children=True) - before) / rounds
        words |= {text for _, text in answers}
    print({k: (round(seconds[k], 3), round(work[k], 3)) for k in seconds})
    assert len(words) == 1 and words.pop().startswith("535 5.7.8 ")
    # Not before a full second, so what the loop itself has to do is never seen; then all hash alike.
    assert min(seconds.values()) > 0.9
    assert min(work[k] for k in USERS) > 0.005
    assert max(work[k] for k in USERS) < 2 * min(work[k] for k in USERS) + 0.03, work


# ---- long and many ------------------------------------------------------------------------------

HEAD = b"From: a@client.test\r\nSubject: x\r\n"
BIG = {
    "998": HEAD + b"X: " + b"h" * 995 + b"\r\n\r\n" + b"b" * 998 + b"\r\n",
    "999": HEAD + b"X: " + b"h" * 996 + b"\r\n\r\n" + b"b" * 999 + b"\r\n",
    "1000 dots": HEAD + b"\r\n" + b"." * 1000 + b"\r\n",
    "line of 1 MB": HEAD + b"\r\n" + b"b" * 1048576 + b"\r\n",
    "field of 1 MB": HEAD + b"X: " + b"h" * 1048576 + b"\r\n\r\nb\r\n",
    "name of 1 MB": HEAD + b"h" * 1048576 + b": x\r\n\r\nb\r\n",
    "fold of 1 MB": HEAD + b"X: a\r\n" + b" h\r\n" * 262144 + b"\r\nb\r\n",
    "fields": HEAD + b"".join(b"X-%d: x\r\n" % i for i in range(10000)) + b"\r\nb\r\n",
    "subjects": HEAD + b"Subject: x\r\n" * 10000 + b"\r\nb\r\n",
    "authentication results": HEAD + b"Authentication-Results: mx.x.test; spf=pass\r\n" * 10000 + b"\r\nb\r\n",
    "boundaries": HEAD + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
                  + b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n" * 10000 + b"--b--\r\n",
    "boundaries within": HEAD + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b0\r\n\r\n"
                         + b"".join(b"--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (i, i + 1) for i in range(10000)),
    "comments": HEAD + b"To: " + b"(" * 100000 + b"\r\n\r\nb\r\n",
    "empty lines": HEAD + b"\r\n" * 500000,
}


def test_long_and_many(chasq, sink, dnsmasq):
    """All of it leaves as it came, to the wire, to the mailbox and back in a notification, in little time and memory."""
    s = sink(address="127.0.0.2", script={"RCPT": lambda session, arg: "550 5.1.1 no" if "gone" in arg else None})
    dns = dnsmasq(mx={"far.test": [(10, "mx.far.test")]}, hosts={"mx.far.test": ["127.0.0.2"]})
    c = chasq(program=harness.fast_binary(), conf={"dns_servers": dns.server, "remote_smtp_port": s.port, "trusted_network": "127.0.0.0/8"},
              domains={"here.test": {"users": ["sender", "user"]}})
    seconds = {}
    send(c.port, "sender@here.test", ["user@here.test"], TEXT)
    c.wait_queue_empty()
    before = harness.pss_kb(c.pid)
    with harness.PssSampler(c.pid) as sampler:
        for name, data in BIG.items():
            cpu = ticks(c.pid)
            send(c.port, "sender@here.test", ["user@here.test", "b@far.test", "gone@far.test"], data, timeout=60)
            c.wait_queue_empty()
            seconds[name] = ticks(c.pid) - cpu
            assert harness.drop_trace(s.messages[-1].data) == harness.drop_trace(data), name
            last = max((c.maildir("user") / "new").iterdir(), key=lambda p: p.stat().st_mtime_ns).read_bytes()
            assert harness.drop_trace(last) == harness.drop_trace(data), name
    assert len(c.messages("sender")) == len(BIG) and all(len(m) < 200000 for m in c.messages("sender"))
    print(f"peak {sampler.peak} KiB, {sampler.peak - before} more than at rest; CPU seconds", {k: round(v, 2) for k, v in seconds.items()})
    assert sampler.peak - before < 2048
    assert max(seconds.values()) < 5


def ticks(pid, children=False):
    """CPU time of a process so far, or of its children that have ended, in s."""
    fields = open(f"/proc/{pid}/stat", encoding="ascii", errors="replace").read().rpartition(")")[2].split()
    first = 13 if children else 11
    return (int(fields[first]) + int(fields[first + 1])) / os.sysconf("SC_CLK_TCK")


def test_long_commands(server):
    """Of every verb: 512 and more are read, beyond the limit the answer is 500, and nothing of it is run."""
    c = server()
    for size in (510, 511, 512, 998, 999, 1000, 2047, 2048, 2049, 4096, 1048576):
        for verb in ("NOOP ", "EHLO ", "HELO ", "VRFY ", "MAIL FROM:<a@b.test> ", "XYZZY ", "HELP "):
            with Client(c.port) as client:
                client.hello()
                reply = client.cmd(verb + "x" * (size - len(verb)))
                assert reply.code in (250, 214, 252, 500, 501, 502, 504, 553, 555), (verb, size, reply)
                if size > 4096:
                    assert reply.code == 500, (verb, size, reply)
                client.cmd("NOOP", 250)
    assert c.process.running()


# ---- the log ------------------------------------------------------------------------------------


def test_lines_a_client_can_write(server):
    """Whatever it does, a client writes SMTPD_LOG_BURST lines, then SMTPD_LOG_RATE a second; an honest one's
    message is in the log all the same."""
    c = server(program=harness.fast_binary())
    lines = sent = 0
    start, size, told = time.monotonic(), len(c.log()), None
    while told is None or time.monotonic() - told < (20 if harness.FULL else 2):
        with contextlib.suppress(Exception), Client(c.port) as client:
            client.send(b"EHLO x\r\nMAIL FROM:<a@b.test>\r\n" + b"RCPT TO:<" + b"x" * 1000 + b"@far.test>\r\n" * 20 + b"QUIT\r\n")
            sent += 1
            while client.read().code != 421:
                pass
        if told is None and sent % 200 == 0 and "clients left out" in c.log():
            told = time.monotonic()
        assert time.monotonic() - start < 60, "no bound"
    seconds = time.monotonic() - start
    send(c.port, "a@b.test", ["user@here.test"], TEXT)
    log = c.log()[size:]
    lines = log.count("\n")
    print(f"{lines} lines in {seconds:.1f} s for {sent} connections, {len(log) / lines:.0f} bytes a line")
    assert lines <= 5000 + 100 * (seconds + 1) + 20 and max(map(len, log.splitlines())) <= 1100
    # A connection has three, were all of them written.
    assert lines < 3 * sent and "smtpd queued" in log
    assert re.search(r"^error - lines about clients left out n=\d+$", log, re.M)


def test_noise_hides_no_refusal(server):
    """Who comes and goes until the log takes no more of it hides neither those who try to relay from fail2ban,
    nor what becomes of a trusted host's mail."""
    c = server(program=harness.fast_binary(), conf={"trusted_network": "127.0.0.9/32"})
    end = time.monotonic() + 60

    def noise():
        for _ in range(50):
            with contextlib.suppress(OSError), socket.create_connection((c.address, c.port), 5) as s:
                s.recv(100)
        assert time.monotonic() < end, "no bound"

    while "clients left out" not in c.log():
        noise()
    noise()
    for source, count in ("127.0.0.66", 8), ("127.0.0.9", 4):
        with Client(c.port, source=source) as client:
            client.hello()
            client.cmd("MAIL FROM:<a@b.test>", 250)
            for n in range(count):
                client.cmd(f"RCPT TO:<no{n}@here.test>", 550)
        log = c.log()
        for n in range(count):
            assert re.search(rf"smtpd rejected .*to=no{n}@here.test .*peer={source}", log), (source, n)
