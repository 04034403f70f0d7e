"""SPF at MAIL, and the header fields that tell of it, with real clients and a name server."""

import base64
import os
import re
import smtplib
import ssl
import subprocess
import sys
import textwrap
import time

import pytest

import certs
import harness
from smtpclient import Client, send

TEXT = b"Subject: hello\r\n\r\ntext\r\n"
GOOD, BAD = "127.0.0.2", "127.0.0.3"

ZONE = """
pass.test           TXT "v=spf1 ip4:127.0.0.2 -all"
explain.test        TXT "v=spf1 exp=why.explain.test -all"
why.explain.test    TXT "%{i} is none of %{d}; see http://%{d}/?%{h}"
soft.test           TXT "v=spf1 ip4:127.0.0.2 ~all"
neutral.test        TXT "v=spf1 ?all"
none.test           TXT "unrelated"
broken.test         TXT "v=spf1 nonsense:x -all"
temp.test           ! servfail
included.test       TXT "v=spf1 include:pass.test -all"
client.test         TXT "v=spf1 a -all"
client.test         A 127.0.0.2
slow.test           TXT "v=spf1 ip4:127.0.0.2 -all"
slow.test           !TXT slow:1500
dead.test           ! drop
*.dead.test         ! drop
*.many.test         TXT "v=spf1 +all"
xn--mll-hoa.test    TXT "v=spf1 ip4:127.0.0.2 -all"
here.test           TXT "v=spf1 -all"
"""


class Door:
    def __init__(self, chasq, dnsd, program, conf=None, tls=None, **kwargs):
        self.dns = dnsd(ZONE)
        self.chasq = chasq(start=False, program=program,
                           conf={"hostname": "mx.here.test", "dns_servers": self.dns.server, **(conf or {})},
                           domains={"here.test": {"users": ["user"]}}, **kwargs)
        if tls:
            certs.make_cert(tls, ["mx.here.test"]).install(self.chasq.dir / "certs", "mx.here.test")
        self.chasq.start()
        self.port = self.chasq.port

    def client(self, source=GOOD, hello="client.test"):
        c = Client(self.port, source=source)
        c.hello(hello)
        return c

    def header(self, message):
        """The header section of a message, unfolded."""
        return re.sub(r"\n[ \t]+", " ", harness.split_message(message)[0].decode())


@pytest.fixture
def door(chasq, dnsd, spf_build):
    return lambda **kwargs: Door(chasq, dnsd, spf_build, **kwargs)


@pytest.mark.parametrize("domain, source, code, result", [
    ("pass.test", GOOD, 250, "pass"),
    ("included.test", GOOD, 250, "pass"),
    ("soft.test", BAD, 250, "softfail"),
    ("neutral.test", BAD, 250, "neutral"),
    ("none.test", BAD, 250, "none"),
    ("nowhere.test", BAD, 250, "none"),
    ("broken.test", BAD, 250, "permerror"),
    ("pass.test", BAD, 550, "5.7.23"),
    ("included.test", BAD, 550, "5.7.23"),
    ("temp.test", GOOD, 451, "4.7.24"),
])
def test_verdicts(door, domain, source, code, result):
    d = door()
    with d.client(source) as c:
        reply = c.cmd(f"MAIL FROM:<a@{domain}>")
        assert reply.code == code, reply
        if code != 250:
            assert reply.lines[0].startswith(result + " SPF: ") and domain in reply.lines[0]
            c.cmd("RCPT TO:<user@here.test>", 503)
            # The session goes on with the next sender.
            c.message("a@none.test", "user@here.test", TEXT)
            return
        c.cmd("RSET", 250)
        c.message(f"a@{domain}", "user@here.test", TEXT)
    head = d.header(d.chasq.wait_messages("user")[0])
    fields = [line for line in head.split("\n") if not line.startswith(("Return-Path:", "Delivered-To:"))]
    assert fields[0] == f"Authentication-Results: mx.here.test; spf={result} smtp.mailfrom=a@{domain}"
    assert re.fullmatch(
        rf"Received-SPF: {result} \(mx\.here\.test: {domain} [^()]+\) receiver=mx\.here\.test; "
        rf'client-ip={source}; envelope-from="a@{domain}"; helo=client\.test; identity=mailfrom'
        r'(; mechanism=("[^"]*"|\S+))?(; problem=("[^"]*"|\S+))?', fields[1]), fields[1]
    assert fields[2].startswith(f"Received: from client.test ([{source}])")
    assert ("; problem=" in fields[1]) == (result == "permerror")


def test_explanation_is_theirs(door):
    d = door()
    with d.client(BAD, "me.test") as c:
        text = " ".join(line.partition(" ")[2] for line in c.cmd("MAIL FROM:<a@explain.test>", 550).lines)
    ours, said = text.split(" explains: ")
    assert "explain.test" in ours and BAD in ours
    assert said == f"{BAD} is none of explain.test; see http://explain.test/?me.test"
    assert "spf result=fail" in d.chasq.log()


def test_null_sender_checks_helo(door):
    d = door()
    with d.client(BAD) as c:
        assert "client.test" in c.cmd("MAIL FROM:<>", 550).text
        c.hello("nobody.test")
        c.message("", "user@here.test", TEXT)
    with d.client(GOOD) as c:
        c.message("", "user@here.test", TEXT)
    messages = d.chasq.wait_messages("user", 2)
    heads = sorted(d.header(m) for m in messages)
    assert any("spf=none smtp.helo=nobody.test\n" in h for h in heads)
    assert any("spf=pass smtp.helo=client.test\n" in h and "identity=helo" in h for h in heads)


def test_not_asked_of_friends(door, box):
    """Who is trusted, or has logged in, needs no permission, and neither does this machine's sendmail."""
    submissions = harness.free_port()
    d = door(tls=box.path, conf={"trusted_network": f"{BAD}/32",
                                 "submission_over_tls_address": f"127.0.0.1:{submissions}"})
    with d.client(BAD) as c:
        c.message("a@explain.test", "user@here.test", TEXT)
    context = ssl._create_unverified_context()
    with smtplib.SMTP_SSL("127.0.0.1", submissions, context=context) as c:
        c.login("user@here.test", "x")
        c.sendmail("user@here.test", ["user@here.test"], TEXT)
    with smtplib.SMTP("127.0.0.1", d.port) as c:
        c.starttls(context=context)
        c.login("user@here.test", "x")
        c.sendmail("user@here.test", ["user@here.test"], TEXT)
    done = d.chasq.sendmail("-f", "a@explain.test", "user@here.test", input=TEXT)
    assert done.returncode == 0, done.stderr
    for message in d.chasq.wait_messages("user", 4):
        assert b"SPF" not in message and b"Authentication-Results" not in message
    assert d.dns.questions() == []
    # Without the login the very same is refused.
    with d.client("127.0.0.1") as c:
        c.cmd("MAIL FROM:<user@here.test>", 550)


def test_loopback_is_not_checked_by_default(chasq, dnsd):
    d = Door(chasq, dnsd, None)
    with d.client(BAD) as c:
        c.message("a@explain.test", "user@here.test", TEXT)
    assert b"SPF" not in d.chasq.wait_messages("user")[0]
    assert d.dns.questions() == []


# ---- the wait for DNS ---------------------------------------------------------------------------


def test_others_go_on_meanwhile(door):
    d = door()
    with d.client() as slow, d.client() as other:
        began = time.monotonic()
        slow.send("MAIL FROM:<a@slow.test>\r\nRCPT TO:<user@here.test>\r\nDATA\r\n" + TEXT.decode() +
                  ".\r\nQUIT\r\n")
        other.message("a@pass.test", "user@here.test", TEXT)
        assert time.monotonic() - began < 1.2
        assert slow.silent(0.1)
        assert [slow.read().code for _ in range(5)] == [250, 250, 354, 250, 221]
        assert time.monotonic() - began > 1.2
    d.chasq.wait_messages("user", 2)


def test_peer_and_server_may_leave_meanwhile(door):
    d = door()
    gone = d.client()
    gone.send("MAIL FROM:<a@dead.test>\r\n")
    reset = d.client()
    reset.send("MAIL FROM:<a@dead.test>\r\n")
    stays = d.client()
    stays.send("MAIL FROM:<a@dead.test>\r\n")
    harness.wait_for(lambda: len(d.dns.questions()) >= 3, 10, "three questions")
    gone.close()
    reset.reset()
    # The end of the daemon does not wait for DNS, and its log is clean.
    began = time.monotonic()
    d.chasq.stop()
    assert time.monotonic() - began < 15
    stays.close()


def test_dead_dns_is_a_temporary_error(door):
    d = door()
    with Client(d.port, source=GOOD, timeout=40) as c:
        c.hello()
        assert c.cmd("MAIL FROM:<a@dead.test>", 451).lines[0].startswith("4.7.24 SPF: ")
        c.message("a@pass.test", "user@here.test", TEXT)


def test_checks_of_a_session_are_bounded(door):
    d = door()
    with d.client() as c:
        for _ in range(3):
            c.message("a@pass.test", "user@here.test", TEXT)
        assert len([q for q in d.dns.questions() if q.endswith(" pass.test")]) <= 1
        for n in range(19):
            c.cmd(f"MAIL FROM:<a@x{n}.many.test>", 250)
            c.cmd("RSET", 250)
        c.cmd("MAIL FROM:<a@x19.many.test>", 421)
        assert c.at_end()
    with d.client() as c:
        c.cmd("MAIL FROM:<a@x19.many.test>", 250)


# ---- results that are not ours ------------------------------------------------------------------

NAMES = [b"mx.here.test", b"MX.Here.TEST", b'"mx.here.test"', b"(hi (there)) mx.here.test 1",
         b"\r\n\tmx.here.test", b"mx.here.test."]


def test_forged_results(door):
    d = door()
    forged = b"".join(b"Authentication-Results: " + n + b";\r\n spf=forged\r\n" for n in NAMES)
    forged += b"".join(b"Received-SPF: forged (%s: x) receiver=%s\r\n" % (n, n)
                       for n in (b"mx.here.test", b"MX.HERE.TEST"))
    forged += b"Authentication-Results: mx.here.test;" + b"\r\n forged=forged" * 700 + b"\r\n"
    kept = b"Authentication-Results: other.test; spf=kept\r\nX: mx.here.test\r\n"
    content = kept + forged + TEXT.replace(b"text", forged)
    with d.client() as c:
        c.message("a@pass.test", "user@here.test", content)
        # The same byte by byte.
        c.cmd("MAIL FROM:<a@pass.test>", 250)
        c.cmd("RCPT TO:<user@here.test>", 250)
        c.cmd("DATA", 354)
        for i in range(len(content)):
            c.send(content[i:i + 1])
        c.send(b".\r\n")
        assert c.read().code == 250
    log = harness.wait_for(lambda: re.findall(r"smtpd queued .*", d.chasq.log()), 5)
    assert len(log) == 2 and all(" forged=9 " in line for line in log), log
    assert all(f" size={len(content)} " in line for line in log), log
    for message in d.chasq.wait_messages("user", 2):
        head, body = harness.split_message(message)
        assert b"forged" not in head
        assert b"Authentication-Results: other.test; spf=kept\nX: mx.here.test\n" in head
        assert head.lower().count(b"authentication-results:") == 2
        assert body == forged.replace(b"\r\n", b"\n") + b"\n"


def test_forged_results_idn(door):
    d = door(conf={"hostname": "xn--mll-hoa.test"})
    names = ["xn--mll-hoa.test", "XN--MLL-HOA.test", "müll.test", "MÜLL.test", '"mu\u0308ll.test"']
    forged = "".join(f"Authentication-Results: {n}; spf=forged\r\n" for n in names).encode()
    with d.client() as c:
        c.cmd("MAIL FROM:<a@pass.test> SMTPUTF8", 250)
        c.cmd("RCPT TO:<user@here.test>", 250)
        c.cmd("DATA", 354)
        c.cmd(forged + TEXT + b".", 250)
    head, _ = harness.split_message(d.chasq.wait_messages("user")[0])
    assert b"forged" not in head and b"xn--mll-hoa.test; spf=pass" in head


def test_large_body_passes_quickly(door):
    d = door(conf={"max_data_size_mb": 60})
    line = base64.b64encode(os.urandom(57)) + b"\r\n"
    body = line * (40_000_000 // len(line))
    began = time.monotonic()
    send(d.port, "a@pass.test", ["user@here.test"], b"Subject: x\r\n\r\n" + body, source=GOOD, timeout=60)
    assert time.monotonic() - began < 30
    got = harness.split_message(d.chasq.wait_messages("user", seconds=30)[0])[1]
    assert got == body.replace(b"\r\n", b"\n")


# ---- an address that is not this machine's ------------------------------------------------------


def test_checked_by_default_off_loopback(box, chasq, dnsd):
    """The build that users get, in a network of its own with public addresses."""
    if os.getuid() != 0:
        pytest.skip("needs root")
    holder = box.process(["unshare", "--net", "sleep", "300"], "netns")
    mine = os.readlink("/proc/self/ns/net")

    def apart():
        if not holder.running():
            pytest.skip("no network namespaces here: " + holder.log())
        return os.readlink(f"/proc/{holder.pid}/ns/net") != mine

    harness.wait_for(apart, 10, "the network namespace")
    inside = ("nsenter", "-t", str(holder.pid), "-n")
    for argv in (["link", "set", "lo", "up"], ["addr", "add", "192.0.2.1/32", "dev", "lo"],
                 ["addr", "add", "192.0.2.2/32", "dev", "lo"],
                 ["addr", "add", "2001:db8::1/128", "dev", "lo", "nodad"],
                 ["addr", "add", "2001:db8::2/128", "dev", "lo", "nodad"]):
        done = subprocess.run([*inside, "ip", *argv], capture_output=True, text=True)
        if done.returncode and ":" in argv[2]:
            pytest.skip("no IPv6: " + done.stderr)
        assert done.returncode == 0, done.stderr
    dns = dnsd("p.test TXT \"v=spf1 ip4:192.0.2.2 ip6:2001:db8::2 -all\"\n", wrap=inside)
    c = chasq(start=False, address="192.0.2.1", port=2525,
              conf={"dns_servers": dns.server, "smtp_address": ["192.0.2.1:2525", "[2001:db8::1]:2525"]})
    c.start(wait=False, wrap=inside)
    script = textwrap.dedent("""
        import sys, time
        sys.path.insert(0, sys.argv[1])
        import harness
        from smtpclient import Client
        harness.wait_for(lambda: harness.can_connect("192.0.2.1", 2525), 20, "chasq")
        for server, source in (("192.0.2.1", "192.0.2.2"), ("192.0.2.1", "192.0.2.1"),
                               ("2001:db8::1", "2001:db8::2"), ("2001:db8::1", "2001:db8::1")):
            with Client(2525, server, source=source) as c:
                c.hello()
                print(source, c.cmd("MAIL FROM:<a@p.test>").text)
    """)
    done = subprocess.run([*inside, sys.executable, "-c", script, str(harness.TREE / "tests/e2e")],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + c.log()[-2000:]
    want = {"192.0.2.2": "250 2.1.0", "192.0.2.1": "550 5.7.23 SPF: 192.0.2.1", "2001:db8::2": "250 2.1.0",
            "2001:db8::1": "550 5.7.23 SPF: 2001:db8::1"}
    got = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert set(got) == set(want)
    for source, reply in want.items():
        assert got[source].startswith(reply), got


def test_who_asks_and_goes(door):
    """Questions to a silent name server cannot be taken back. Who makes us ask and resets the connection, again and
    again, has his place taken until then, and cannot use up all questions that may be under way."""
    d = door()
    refused = 0
    for i in range(1200):
        c = Client(d.port, source=BAD, greet=False)
        if c.read().code == 220:
            c.hello("me.test")
            c.send(f"MAIL FROM:<a@x{i}.dead.test>\r\n")
        else:
            refused += 1
        c.reset()
        if refused > 50:
            break
    assert refused > 50
    with d.client() as c:
        c.message("a@pass.test", "user@here.test", TEXT)
