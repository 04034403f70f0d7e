"""Names beyond ASCII on the wire: two chasq with Unicode domains that DNS knows as A-labels, Postfix
with SMTPUTF8, Exim and others without, and clients of all kinds."""

import email
import email.policy
import os
import re
import smtplib
import subprocess
import unicodedata
import urllib.parse
from email.message import EmailMessage

import pytest

import certs
import harness
import peers
from conftest import special_build
from smtpclient import Client

NANDU, A_NANDU = "ñandú.test", "xn--and-6ma2c.test"
MIR, A_MIR = "мир.test", "xn--h1ahn.test"
# й is one letter here and two code points decomposed.
DMITRY = "дмитрий"

ZONE = f"""
zone test
{A_NANDU}       MX 10 mx.{A_NANDU}
mx.{A_NANDU}    A  127.0.0.2
{A_MIR}         MX 10 mx.{A_MIR}
mx.{A_MIR}      A  127.0.0.3
far.test            MX 10 mx.far.test
xn--bcher-kva.test  MX 10 mx.far.test
mx.far.test         A  127.0.0.4
two.test            MX 10 mx.far.test
two.test            MX 20 mx2.far.test
mx2.far.test        A  127.0.0.5
"""


def nfd(text):
    return unicodedata.normalize("NFD", text)


class World:
    """Two servers that know of each other by DNS, and a port for whoever else is in the zone."""

    def __init__(self, chasq, dnsd, conf=None, before=None):
        self.port = harness.free_port("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")
        self.dns = dnsd(ZONE)

        def server(name, address, hostname, directory, users, aliases):
            c = chasq(name=name, start=False, address=address, port=self.port, conf={
                "hostname": hostname, "dns_servers": self.dns.server, "remote_smtp_port": self.port,
                "trusted_network": "127.0.0.0/8", **(conf or {})},
                domains={directory: {"users": users, "aliases": aliases}})
            if before:
                before(c, hostname)
            return c.start()

        self.nandu = server("nandu", "127.0.0.2", "ÑANDÚ.test", A_NANDU.upper(), ["Jürgen", "amy"],
                            "größe: jürgen\nstraße: amy, größe\n")
        self.mir = server("mir", "127.0.0.3", MIR, nfd("МИР.test"), [nfd("Дмитрий"), "bob"],
                          f"{nfd('май')}: {DMITRY}\nвсе: {DMITRY}, bob@{A_MIR}, jürgen@{NANDU}\n"
                          f"прямо: jürgen@{NANDU} via mx.{NANDU}\n")

    def settle(self):
        self.nandu.wait_queue_empty()
        self.mir.wait_queue_empty()


@pytest.fixture
def world(chasq, dnsd):
    return World(chasq, dnsd)


def say(server, sender, rcpts, message, utf8=True):
    """One message from a client on the same machine."""
    if isinstance(rcpts, str):
        rcpts = [rcpts]
    with Client(server.port, server.address, timeout=20) as c:
        c.hello()
        c.cmd(f"MAIL FROM:<{sender}>" + (" SMTPUTF8" if utf8 else ""), 250)
        for r in rcpts:
            c.cmd(f"RCPT TO:<{r}>", 250)
        c.cmd("DATA", 354)
        c.send(message.replace("\n", "\r\n").encode() + b"\r\n.\r\n")
        c.read()
        assert c.transcript[-1].startswith(b"S: 250 "), c.transcript
        c.quit()


def trace(message):
    """The protocols of the Received fields, the last hop first."""
    return re.findall(r"^Received:.*?\bwith (\w+)", message.decode(), re.M | re.S)


# ---- two servers --------------------------------------------------------------------------------


@pytest.mark.parametrize("rcpt", [f"jürgen@{NANDU}", f"JÜRGEN@{NANDU.upper()}", nfd(f"Jürgen@{NANDU}"),
                                  f"jürgen+x@{A_NANDU}", f"größe@{NANDU}", nfd(f"GRÖßE@{NANDU}")],
                         ids=["as-is", "upper", "nfd", "a-label", "alias", "alias-nfd-upper"])
def test_to_the_one(world, rcpt):
    say(world.mir, f"{DMITRY}@{MIR}", rcpt, "Subject: Привет\n\nhello")
    got, = world.nandu.wait_messages("jürgen", domain=NANDU)
    world.settle()
    assert trace(got) == ["UTF8SMTP", "UTF8SMTP"]
    assert "\nSubject: Привет\n".encode() in got
    assert got.startswith(f"Return-Path: <{DMITRY}@{MIR}>\n".encode())


@pytest.mark.parametrize("rcpt", [f"{DMITRY}@{MIR}", nfd(DMITRY) + f"@{A_MIR}", f"ДМИТРИЙ@{MIR}",
                                  f"май@{MIR}", nfd(f"МАЙ@{MIR}")],
                         ids=["as-is", "nfd", "upper", "alias", "alias-nfd-upper"])
def test_to_the_other(world, rcpt):
    say(world.nandu, f"amy@{NANDU}", rcpt, "Subject: hello\n\nhello")
    got, = world.mir.wait_messages(DMITRY, domain=MIR)
    world.settle()
    assert trace(got) == ["UTF8SMTP", "UTF8SMTP"]


def test_asked_for_only_when_needed(world):
    """Domains go as A-labels, so the message could pass through a server that knows no SMTPUTF8."""
    say(world.mir, f"bob@{MIR}", f"amy@{NANDU}", "Subject: x\n\nüberall")
    got, = world.nandu.wait_messages("amy", domain=NANDU)
    assert trace(got) == ["ESMTP", "UTF8SMTP"]
    # The body is 8-bit, and our own fields are ASCII.
    assert harness.split_message(got)[0].split(b"\n", 2)[2].isascii()
    assert f"for <amy@{A_NANDU}>".encode() in got


def test_aliases_lead_over(world):
    say(world.mir, f"bob@{MIR}", [f"ВСЕ@{A_MIR}", f"прямо@{MIR}"], "Subject: x\n\nx")
    world.nandu.wait_messages("jürgen", 2, domain=NANDU)
    world.settle()
    assert len(world.mir.messages(DMITRY, MIR)) == len(world.mir.messages("bob", MIR)) == 1
    # The host of `via` was asked for as DNS knows it.
    assert any(q.endswith(f" mx.{A_NANDU}") for q in world.dns.questions())
    assert all(q.isascii() for q in world.dns.questions())


def test_unknown_users_and_the_way_back(world):
    """The reply is ASCII where nobody asked for more; a notification crosses as global mail."""
    with Client(world.nandu.port, world.nandu.address) as c:
        c.hello()
        c.cmd("MAIL FROM:<a@client.test>", 250)
        assert c.cmd(f"RCPT TO:<ghost@{A_NANDU}>").text.startswith("550 5.1.1 ")
        c.cmd("RSET", 250)
        c.cmd("MAIL FROM:<a@client.test> SMTPUTF8", 250)
        assert c.cmd(f"RCPT TO:<призрак@{A_NANDU}>").text.startswith("550 5.1.1 ")
    say(world.mir, f"{DMITRY}@{MIR}", f"призрак@{NANDU}", "Subject: Привет\n\nx")
    got, = world.mir.wait_messages(DMITRY, domain=MIR)
    assert f"utf-8; призрак@{NANDU}".encode() in got and b"5.1.1" in got
    world.settle()


def test_one_spelling_in_log_and_files(world):
    for rcpt in (f"amy@{NANDU}", f"amy@{A_NANDU.upper()}", nfd(f"amy@{NANDU}")):
        say(world.mir, f"bob@{A_MIR}", rcpt, "Subject: x\n\nx")
    world.nandu.wait_messages("amy", 3, domain=NANDU)
    world.settle()
    queued = re.findall(r"smtpd queued .*", world.mir.log() + world.nandu.log())
    assert len(queued) == 6
    assert all(f"from=bob@{MIR} to=amy@{NANDU} " in line.replace('"', "") for line in queued), queued
    assert [p.name for p in world.nandu.maildirs.iterdir()] == [NANDU]


def test_hostname_in_ascii(world):
    with Client(world.nandu.port, world.nandu.address, greet=False) as c:
        assert c.read().lines == [f"{A_NANDU} ESMTP"]
        assert c.hello().lines[0] == A_NANDU
    say(world.nandu, f"amy@{NANDU}", f"bob@{MIR}", "Subject: x\n\nx")
    got, = world.mir.wait_messages("bob", domain=MIR)
    world.settle()
    hops = re.findall(r"^Received: from (\S+).*?by (\S+)", got.decode(), re.M | re.S)
    assert hops == [(A_NANDU, A_MIR), ("client.test", A_NANDU)]


def test_certificate_for_the_a_label(chasq, dnsd, box):
    ca = certs.make_ca(box.dir("ca"))

    def install(c, hostname):
        name = A_MIR if hostname == MIR else A_NANDU
        certs.make_cert(box.dir("cert-" + c.name), ["mx." + name], ca).install(c.dir / "certs", "mx." + name)

    w = World(chasq, dnsd, conf={"tls_roots": str(ca.pem)}, before=install)
    say(w.mir, f"bob@{MIR}", f"прямо@{MIR}", "Subject: x\n\nx")
    say(w.mir, f"bob@{MIR}", f"jürgen@{NANDU}", "Subject: x\n\nx")
    for got in w.nandu.wait_messages("jürgen", 2, domain=NANDU):
        assert trace(got)[0] == "UTF8SMTPS"
    w.settle()
    assert w.mir.log().count("got=TLS_SECURE") == 2
    w.mir.stop()
    info = {p.name for p in (w.mir.data / "domaininfo").iterdir()}
    assert info == {"s:" + urllib.parse.quote(name) for name in (NANDU, "mx." + NANDU)}


# ---- others -------------------------------------------------------------------------------------


def test_postfix_takes_it(world, box):
    if os.getuid() != 0:
        pytest.skip("Postfix must be started by root")
    p = peers.Postfix(box, address="127.0.0.4", port=world.port, main="smtputf8_enable = yes\n")
    say(world.mir, f"{DMITRY}@{MIR}", "jürgen@far.test", "Subject: Привет\nTo: jürgen@far.test\n\nx")
    say(world.mir, f"bob@{MIR}", "amy@bücher.test", "Subject: hello\n\nx")
    harness.wait_for(lambda: len(p.messages()) == 2, 20, p.log)
    world.settle()
    one, two = sorted(p.messages(), key=lambda m: "Привет".encode() not in m)
    assert trace(one) == ["UTF8SMTP", "UTF8SMTP"]
    assert f"Return-Path: <{DMITRY}@{MIR}>".encode() in one and b"jurgen" not in one
    assert trace(two) == ["ESMTP", "UTF8SMTP"]
    assert b"amy@xn--bcher-kva.test" in two


def test_exim_cannot(world, exim):
    e = exim(address="127.0.0.4", port=world.port, main="smtputf8_advertise_hosts =\n")
    with Client(e.port, e.address) as c:
        assert not any("SMTPUTF8" in line for line in c.hello().lines)
    # The domain alone: A-labels.
    say(world.mir, f"bob@{MIR}", "amy@bücher.test", "Subject: hello\n\nx")
    harness.wait_for(e.messages, 20, e.log)
    world.settle()
    got, = e.messages()
    assert b"Envelope-to: amy@xn--bcher-kva.test" in got and f"<bob@{A_MIR}>".encode() in got
    assert not world.mir.messages("bob", MIR)
    # A local part, the header, the sender: nothing goes, and the sender learns why.
    say(world.mir, f"bob@{MIR}", ["jürgen@far.test", "amy@far.test"], "Subject: hello\n\nx")
    say(world.mir, f"bob@{MIR}", "carol@far.test", "Subject: Привет\n\nx")
    say(world.mir, f"{DMITRY}@{MIR}", "dave@far.test", "Subject: hello\n\nx")
    bob = world.mir.wait_messages("bob", 2, domain=MIR)
    mitya, = world.mir.wait_messages(DMITRY, domain=MIR)
    world.settle()
    harness.wait_for(lambda: len(e.messages()) == 2, 20, e.log)
    assert sum(b"Envelope-to: amy@far.test" in m for m in e.messages()) == 1
    dsns = {re.search(rb"the (\w+) needs SMTPUTF8", m)[1]: m for m in (*bob, mitya)}
    assert set(dsns) == {b"recipient", b"header", b"sender"}
    for m in dsns.values():
        assert re.search(rb"^Status: 5\.6\.7\r?$", m, re.M) and b"mx.far.test" in m
    assert r"utf-8; j\x{FC}rgen@far.test".encode() in dsns[b"recipient"]
    assert b"carol@far.test" in dsns[b"header"] and b"dave@far.test" in dsns[b"sender"]


def test_second_host_can(world, sink):
    """The first host has no SMTPUTF8, the second has: what needs it goes there, the rest does not."""
    plain = sink(address="127.0.0.4", port=world.port)
    able = sink(address="127.0.0.5", port=world.port, extensions=["8BITMIME", "SMTPUTF8"])
    say(world.mir, f"bob@{MIR}", ["jürgen@two.test", "amy@two.test"], "Subject: hello\n\nx")
    world.settle()
    assert [m.recipients for m in plain.messages] == [["amy@two.test"]]
    assert [m.recipients for m in able.messages] == [["jürgen@two.test"]]
    assert "SMTPUTF8" in able.messages[0].sender_args
    say(world.mir, f"bob@{MIR}", "amy@two.test", "Subject: Привет\n\nx")
    world.settle()
    assert len(plain.messages) == 1 and len(able.messages) == 2
    assert not world.mir.messages("bob", MIR)


def test_second_host_is_waited_for(world, sink):
    """While it cannot be reached, nobody knows that it could not."""
    sink(address="127.0.0.4", port=world.port)
    say(world.mir, f"bob@{MIR}", "jürgen@two.test", "Subject: hello\n\nx")
    assert b"4.4.1" in world.mir.wait_attempt()
    able = sink(address="127.0.0.5", port=world.port, extensions=["8BITMIME", "SMTPUTF8"])
    world.mir.run("flush", "-C", world.mir.dir)
    world.mir.wait_queue_empty()
    assert [m.recipients for m in able.messages] == [["jürgen@two.test"]]


def test_old_devices_are_put_up_with(chasq, dnsd, sink):
    """Built with SMTPD_STRICT_HEADER 0: what a printer writes arrives as it is, here and elsewhere."""
    s = sink(address="127.0.0.4")
    c = chasq(program=special_build("raw", {"SMTPD_STRICT_HEADER": "0"}), conf={
        "dns_servers": dnsd(ZONE).server, "remote_smtp_port": s.port, "trusted_network": "127.0.0.0/8"})
    raw = "Subject: Grüße\r\n\r\nx\r\n".encode("latin-1")
    with Client(c.port) as client:
        client.hello()
        client.message("printer@here.test", ["user@here.test", "b@far.test"], raw)
    c.wait_queue_empty()
    assert b"\nSubject: Gr\xfc\xdfe\n" in c.wait_messages("user")[0]
    assert [m.data.endswith(raw) for m in s.messages] == [True]
    assert "SMTPUTF8" not in s.messages[0].sender_args


# ---- clients ------------------------------------------------------------------------------------


def swaks(server, *args):
    return subprocess.run([peers.system("swaks"), "--server", server.address, "--port", str(server.port),
                           "--helo", "client.test", *args], capture_output=True, text=True, timeout=60,
                          check=False)


def test_swaks(world):
    """It knows nothing of SMTPUTF8, and sends what it is given."""
    done = swaks(world.nandu, "--from", "a@client.test", "--to", f"jürgen@{NANDU}")
    assert "553 5.6.7" in done.stdout and done.returncode != 0
    done = swaks(world.nandu, "--from", "a@client.test", "--to", f"amy@{A_NANDU}", "--header", "Subject: Grüße")
    assert "554 5.6.7" in done.stdout and done.returncode != 0
    done = swaks(world.nandu, "--from", "a@client.test", "--to", f"amy@{A_NANDU}", "--body", "Grüße")
    assert done.returncode == 0, done.stdout
    world.nandu.wait_messages("amy", 1, domain=NANDU)


def test_smtplib(world):
    m = EmailMessage(policy=email.policy.SMTPUTF8)
    m["From"], m["To"], m["Subject"] = f"amy@{NANDU}", f"{DMITRY}@{MIR}", "Grüße"
    m.set_content("Grüße\n")
    with smtplib.SMTP(world.nandu.address, world.nandu.port, timeout=20) as s:
        s.send_message(m)
        s.command_encoding = "utf-8"
        assert s.mail(f"jürgen@{NANDU}") == (553, b"5.6.7 this address is not ASCII, and SMTPUTF8 was not asked for")
    got = email.message_from_string(world.mir.wait_messages(DMITRY, domain=MIR)[0].decode(),
                                    policy=email.policy.SMTPUTF8)
    assert got["Subject"] == "Grüße" and got["To"].addresses[0].username == DMITRY
    world.settle()


def test_sendmail(world):
    """It asks for SMTPUTF8 when an address or the header needs it."""
    c = world.nandu
    for args, message, utf8 in (
            (["-f", f"amy@{NANDU}", f"amy@{NANDU}"], "Subject: x\n\nGrüße\n", False),
            (["-f", f"jürgen@{NANDU}", f"amy@{NANDU}"], "Subject: x\n\nx\n", True),
            (["-f", f"amy@{NANDU}", "-F", "Ämy", "-t"], f"To: größe@{NANDU}\nSubject: x\n\nx\n", True),
            (["-f", f"amy@{NANDU}", f"amy@{NANDU}"], "Subject: Grüße\n\nx\n", True)):
        done = c.sendmail("-v", *args, input=message.encode())
        assert done.returncode == 0, done
        assert (b"SMTPUTF8\n" in done.stdout.split(b">>> RCPT")[0].split(b">>> MAIL")[1]) == utf8, done.stdout
    for m in c.wait_messages("amy", 3, domain=NANDU):
        assert re.search(rb"^Message-ID: <[ -~]*@" + A_NANDU.encode() + b">$", m, re.M), m
    c.wait_messages("jürgen", 1, domain=NANDU)


def test_sendmail_takes_what_scripts_write(world):
    """A header in some other character set, which nobody may pass on."""
    c = world.nandu
    done = c.sendmail("-f", f"amy@{NANDU}", f"bob@{MIR}", input="Subject: Grüße ü\n\nü\n".encode() +
                      "Comments: ü\n\nü\n".encode("latin-1"))
    assert done.returncode == 0, done
    done = c.sendmail("-f", f"amy@{NANDU}", f"bob@{MIR}", input="Subject: Grüße\n\nü\n".encode("latin-1"))
    assert done.returncode == 0, done
    got = b"".join(world.mir.wait_messages("bob", 2, domain=MIR))
    assert b"\nSubject: Gr??e\n" in got and b"\n\n\xfc\n" in got
    assert "\nSubject: Grüße ü\n".encode() in got
    world.settle()


# ---- local delivery -----------------------------------------------------------------------------


def test_procmail(box, chasq):
    """A real procmail as delivery agent, its mailbox named by the user."""
    home = box.dir("home")
    rc = home / "procmailrc"
    rc.write_text(f"MAILDIR={home}\nLOGFILE={home}/log\nDEFAULT={home}/$1/\n")
    c = chasq(env=peers.library_env(), domains={MIR: {"users": [DMITRY], "aliases": f"май: {DMITRY}\n"}},
              conf={"mail_delivery_agent_bin": str(peers.program("usr/bin/procmail")),
                    "mail_delivery_agent_args": ["-f", "%from%", "-m", str(rc), "%to_user%@%to_domain%"]})
    for rcpt in (f"ДМИТРИЙ@{A_MIR}", nfd(f"май@{MIR}")):
        say(c, f"jürgen@{NANDU}", rcpt, "Subject: Привет\n\nx")
    c.wait_queue_empty()
    got = [p.read_bytes() for p in (home / f"{DMITRY}@{MIR}" / "new").iterdir()]
    assert len(got) == 2, (home / "log").read_text()
    assert all("Subject: Привет\n".encode() in m for m in got)
