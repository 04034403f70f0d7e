"""A domain that has shown TLS to us is not taken in the clear any more."""

import ssl

import pytest

import certs
import harness
from smtpclient import Client

TEXT = b"Subject: hello\r\n\r\ntext\r\n"
GOOD, OTHER = "127.0.0.2", "127.0.0.3"

ZONE = """
far.test            TXT "v=spf1 ip4:127.0.0.2 ~all"
sub.far.test        TXT "v=spf1 ip4:127.0.0.2 ~all"
xn--mll-hoa.test    TXT "v=spf1 ip4:127.0.0.2 ~all"
strict.test         TXT "v=spf1 ip4:127.0.0.2 -all"
client.test         TXT "v=spf1 +all"
"""


@pytest.fixture
def door(chasq, dnsd, box, spf_build):
    c = chasq(start=False, program=spf_build,
              conf={"hostname": "mx.here.test", "dns_servers": dnsd(ZONE).server},
              domains={"here.test": {"users": ["user"]}})
    certs.make_cert(box.path, ["mx.here.test"]).install(c.dir / "certs", "mx.here.test")
    return c.start()


def mail(door, sender, tls=False, source=GOOD):
    """The reply to MAIL, or that to the message when MAIL was taken."""
    with Client(door.port, source=source) as c:
        c.hello()
        if tls:
            c.cmd("STARTTLS", 220)
            c.sock = ssl._create_unverified_context().wrap_socket(c.sock, server_hostname="mx.here.test")
            c.hello()
        utf8 = b"" if sender.isascii() else b" SMTPUTF8"
        reply = c.cmd(b"MAIL FROM:<" + sender.encode() + b">" + utf8)
        if reply.code != 250:
            return reply
        c.cmd("RCPT TO:<user@here.test>", 250)
        c.cmd("DATA", 354)
        c.send(TEXT + b".\r\n")
        return c.read()


def refused(reply):
    return reply.code == 550 and reply.lines[0].startswith("5.7.3 ")


def known(door):
    """What the files say, all in one text."""
    return "".join(p.name + "\n" + p.read_text("utf-8") for p in (door.data / "domaininfo").iterdir())


def test_downgrade_is_refused(door):
    # The first in the clear is taken, again and again.
    assert mail(door, "a@far.test").code == 250
    assert mail(door, "a@far.test").code == 250
    # TLS is, and from then on nothing else, also after a restart.
    assert mail(door, "a@far.test", tls=True).code == 250
    assert refused(mail(door, "b@far.test"))
    assert "STARTTLS" in mail(door, "b@far.test").text
    assert "far.test" in known(door) and "TLS_CLIENT" in known(door)
    door.restart()
    assert refused(mail(door, "a@far.test"))
    assert mail(door, "a@far.test", tls=True).code == 250
    # Other domains have levels of their own.
    assert mail(door, "a@sub.far.test").code == 250
    assert mail(door, "a@strict.test").code == 250
    # What the operator forgets may start anew.
    done = door.run("domaininfo", "forget", "far.test", "-C", door.dir)
    assert done.returncode == 0, done.stderr
    assert mail(door, "a@far.test").code == 250


@pytest.mark.parametrize("shown", ["müll.test", "xn--mll-hoa.test", "XN--MLL-HOA.Test"])
def test_spelling_makes_no_difference(door, shown):
    assert mail(door, "a@" + shown, tls=True).code == 250
    for other in ("müll.test", "MÜLL.test", "Müll.TEST.", "mu\u0308ll.test", "xn--mll-hoa.test",
                  "Xn--Mll-Hoa.TEST"):
        assert refused(mail(door, "a@" + other)), other
    assert len([n for n in (door.data / "domaininfo").iterdir() if n.name.startswith("s:")]) == 1


def test_letter_case(door):
    assert mail(door, "a@FAR.test", tls=True).code == 250
    for other in ("far.test", "Far.Test", "FAR.TEST", "far.test."):
        assert refused(mail(door, "A@" + other)), other


def test_nobody_raises_or_hinders_others(door):
    # A client for which SPF does not pass raises nothing ...
    assert mail(door, "a@far.test", tls=True, source=OTHER).code == 250
    assert mail(door, "a@nothing.test", tls=True, source=OTHER).code == 250
    assert mail(door, "a@strict.test", tls=True, source=OTHER).text.startswith("550 5.7.23 ")
    assert "TLS_CLIENT" not in known(door)
    for domain in ("far.test", "nothing.test", "strict.test"):
        assert mail(door, "a@" + domain).code == 250
    # ... nor does the name of EHLO, which passed for <> ...
    assert mail(door, "", tls=True).code == 250
    assert mail(door, "").code == 250
    assert mail(door, "a@client.test").code == 250
    # ... and the level does not stand in the way of a forwarder without TLS.
    assert mail(door, "a@far.test", tls=True).code == 250
    assert refused(mail(door, "a@far.test"))
    assert mail(door, "a@far.test", source=OTHER).code == 250
    assert refused(mail(door, "a@far.test"))


def test_counted_and_logged(door):
    assert mail(door, "a@far.test", tls=True).code == 250
    assert refused(mail(door, "a@far.test"))
    harness.wait_for(lambda: "smtpd rejected" in door.log(), 5, "a line in the log")
    line = next(x for x in door.log().splitlines() if "smtpd rejected" in x)
    assert "5.7.3" in line and "from=a@far.test" in line and GOOD in line
