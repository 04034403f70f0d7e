"""Notifications: structure and contents by RFC 3461 to 3464, and to whom none goes."""

import email
import email.policy
import email.utils
import quopri
import re
import subprocess
import sys
import time

import pytest

import dovecot
import harness
from contents import HARD
from smtpclient import send


@pytest.fixture
def failing(chasq, sink, dnsmasq):
    """A chasq whose mail to far.test is refused with reply(recipient)."""

    def make(reply="550 5.1.1 no such user here", domains=None, conf=None):
        s = sink(address="127.0.0.2", script={"RCPT": reply})
        dns = dnsmasq(mx={"far.test": [(10, "mx.far.test")]}, hosts={"mx.far.test": ["127.0.0.2"]})
        return chasq(conf={"dns_servers": dns.server, "remote_smtp_port": s.port,
                           "trusted_network": "127.0.0.0/8", **(conf or {})},
                     domains=domains or {"here.test": {"users": ["sender"]}})

    return make


def notification(c, seconds=30):
    raw = c.wait_messages("sender", seconds=seconds)[0]
    return raw, email.message_from_bytes(raw, policy=email.policy.default)


def status_fields(dsn):
    """(fields of the message, list of the fields of each recipient) of the delivery-status part."""
    part = dsn.get_payload()[1]
    assert part.get_content_type() == "message/delivery-status"
    blocks = part.get_payload()
    return blocks[0], blocks[1:]


def test_structure(failing):
    c = failing()
    send(c.port, "sender@here.test", ["b@far.test"], HARD["dots"])
    raw, dsn = notification(c)
    assert raw.startswith(b"Return-Path: <>\n")
    assert dsn.get_content_type() == "multipart/report"
    assert dsn.get_param("report-type") == "delivery-status"
    assert dsn["Auto-Submitted"].startswith("auto-replied")
    assert dsn["References"] == "<1@client.test>" or "<1@client.test>" in dsn["In-Reply-To"]
    assert "sender@here.test" in dsn["To"]
    assert re.match(r".*<?MAILER-DAEMON@|.*<?postmaster@", dsn["From"], re.I)
    assert dsn["Message-ID"] and dsn["Date"] and dsn["Subject"] and dsn["MIME-Version"] == "1.0"
    assert email.utils.parsedate_to_datetime(dsn["Date"])
    human, status, original = dsn.get_payload()
    assert human.get_content_type() == "text/plain"
    assert "b@far.test" in human.get_content() and "no such user here" in human.get_content()
    assert original.get_content_type() in ("message/rfc822", "text/rfc822-headers")
    assert b"Subject: test" in raw.split(b"delivery-status", 1)[1]
    message, recipients = status_fields(dsn)
    assert re.match(r"dns; *chasq\.test", message["Reporting-MTA"])
    assert message["Arrival-Date"]
    r, = recipients
    assert re.match(r"rfc822; *b@far\.test", r["Final-Recipient"])
    assert r["Action"] == "failed" and r["Status"] == "5.1.1"
    assert re.match(r"dns; *mx\.far\.test", r["Remote-MTA"])
    assert re.match(r"smtp; *550 5\.1\.1 no such user here", r["Diagnostic-Code"])
    assert r["Last-Attempt-Date"]


def test_original_recipient(failing):
    """What the sender wrote, though an alias led elsewhere."""
    c = failing(domains={"here.test": {"users": ["sender"], "aliases": "team: b@far.test\n"}})
    send(c.port, "sender@here.test", ["Team@here.test"], HARD["plain"])
    _, dsn = notification(c)
    r, = status_fields(dsn)[1]
    assert re.match(r"rfc822; *team@here\.test", r["Original-Recipient"], re.I)


def test_several_recipients_one_notification(failing):
    c = failing(lambda session, arg: "250 ok" if "<good" in arg else
                "550 5.2.1 off" if "<off" in arg else "551 5.1.6 moved away")
    send(c.port, "sender@here.test", ["off@far.test", "good@far.test", "moved@far.test"],
         HARD["plain"])
    c.wait_messages("sender")
    c.wait_queue_empty()
    assert len(c.messages("sender")) == 1
    _, dsn = notification(c)
    recipients = status_fields(dsn)[1]
    assert [(r["Status"], r["Action"]) for r in recipients] == [("5.2.1", "failed"),
                                                                ("5.1.6", "failed")]
    assert b"good@far.test" not in c.messages("sender")[0].split(b"delivery-status")[1]


def test_reply_without_enhanced_code(failing):
    c = failing("553 go away\nreally\nnow")
    send(c.port, "sender@here.test", ["b@far.test"], HARD["plain"])
    _, dsn = notification(c)
    r, = status_fields(dsn)[1]
    assert re.match(r"5\.[0-9]+\.[0-9]+$", r["Status"])
    assert "go away" in r["Diagnostic-Code"]


def test_hostile_reply_cannot_forge_fields(failing):
    c = failing("550 5.1.1 x\x0b\x1b[2J\xe9 \"><b>\nContent-Type: evil\nAction: delivered")
    send(c.port, "sender@here.test", ["b@far.test"], HARD["plain"])
    raw, dsn = notification(c)
    r, = status_fields(dsn)[1]
    assert r["Action"] == "failed"
    assert len(dsn.get_payload()) == 3
    assert not re.search(rb"^(Content-Type: evil|Action: delivered)", raw, re.M)
    assert b"\x1b" not in raw and b"\x0b" not in raw


def test_big_original_is_cut(failing):
    c = failing(conf={"max_data_size_mb": 20})
    body = b"".join(b"%08d " % i + b"x" * 60 + b"\r\n" for i in range(100000))
    send(c.port, "sender@here.test", ["b@far.test"], b"Subject: big\r\n\r\n" + body)
    raw, dsn = notification(c)
    assert len(raw) < 300000
    assert len(dsn.get_payload()) == 3
    assert b"Subject: big" in raw


def test_original_with_boundary_and_dots(failing):
    """Nothing in the original breaks the report."""
    c = failing()
    content = b"Subject: odd\r\n\r\n--\r\n--=\r\n" + b"".join(
        b"--%s\r\n" % x for x in (b"boundary", b"=_", b"x--")) + b".\r\n..\r\n" + bytes(range(128, 255))
    send(c.port, "sender@here.test", ["b@far.test"], content)
    _, dsn = notification(c)
    assert [p.get_content_type() for p in dsn.get_payload()][:2] == [
        "text/plain", "message/delivery-status"]


def test_headerless_original(failing):
    c = failing()
    send(c.port, "sender@here.test", ["b@far.test"], b"no header at all\r\nnone\r\n")
    _, dsn = notification(c)
    assert len(dsn.get_payload()) == 3


def test_time_is_up(chasq, dnsmasq):
    """Transient trouble for longer than give_up_send_after: a notification that says so."""
    dns = dnsmasq(mx={"far.test": [(10, "mx.far.test")]}, hosts={"mx.far.test": ["127.0.0.2"]})
    port = harness.free_port("127.0.0.2")
    c = chasq(conf={"dns_servers": dns.server, "remote_smtp_port": port, "give_up_send_after": "2s",
                    "trusted_network": "127.0.0.0/8"},
              domains={"here.test": {"users": ["sender"]}})
    send(c.port, "sender@here.test", ["b@far.test"], HARD["plain"])
    # The first try is within the time; then the operator's flush comes after it.
    c.wait_attempt(20)
    harness.wait_for(lambda: c.sendmail("-q").returncode == 0 and c.messages("sender"), 20,
                     "the notification", 0.5)
    _, dsn = notification(c)
    r, = status_fields(dsn)[1]
    assert r["Action"] == "failed" and re.match(r"[45]\.", r["Status"])
    c.wait_queue_empty()


def test_notification_to_outside_by_null_sender(chasq, sink, dnsmasq):
    """To a remote sender it travels with MAIL FROM:<>."""
    s = sink(address="127.0.0.2",
             script={"RCPT": lambda session, arg: "550 5.1.1 no" if "<b@" in arg else None})
    dns = dnsmasq(mx={"far.test": [(10, "mx.far.test")]}, hosts={"mx.far.test": ["127.0.0.2"]})
    c = chasq(conf={"dns_servers": dns.server, "remote_smtp_port": s.port,
                    "trusted_network": "127.0.0.0/8"})
    send(c.port, "writer@far.test", ["b@far.test"], HARD["plain"])
    harness.wait_for(lambda: s.messages, 20)
    c.wait_queue_empty()
    m, = s.messages
    assert m.sender == "" and m.recipients == ["writer@far.test"]
    assert s.sessions[-1].hello == "EHLO chasq.test"


# ---- senders that the files do not know --------------------------------------------------------------


def test_sender_whom_only_dovecot_knows(failing, box):
    """Not while Dovecot is silent, but then he gets it."""
    d = dovecot.Dovecot(box, {"sender@here.test": "x"})
    c = failing(domains={"here.test": {}}, conf={"dovecot_auth": True, "dovecot_userdb_path": str(d.userdb),
                                                 "dovecot_client_path": str(d.client)})
    send(c.port, "sender@here.test", ["b@far.test"], HARD["plain"])
    harness.wait_for(lambda: "notification not written; the message stays" in c.log(), 30, "the first try")
    d.start()
    harness.wait_for(lambda: c.sendmail("-q").returncode == 0 and c.messages("sender"), 30,
                     "the notification", 0.5)
    _, dsn = notification(c)
    assert status_fields(dsn)[1][0]["Status"] == "5.1.1"
    c.wait_queue_empty()


def test_sender_whom_only_the_hook_knows(failing):
    c = failing()
    hooks = c.dir / "hooks"
    hooks.mkdir()
    (hooks / "alias-resolve").write_text('#!/bin/sh\ncase $1 in team@*) echo sender;; esac\n')
    (hooks / "alias-resolve").chmod(0o755)
    send(c.port, "team@here.test", ["b@far.test"], HARD["plain"])
    _, dsn = notification(c)
    assert "team@here.test" in dsn["To"]
    c.wait_queue_empty()
    assert "dsn dropped" not in c.log()


# ---- internationalised mail (RFC 6533) ---------------------------------------------------------------

DOMAIN = "ñandú.test"
A_DOMAIN = "xn--and-6ma2c.test"


def check(raw):
    """The notification by the grammars of the RFCs: what tests/unit/dsn_check.py says of it."""
    if b"\r\n" not in raw:
        raw = raw.replace(b"\n", b"\r\n")
    p = subprocess.run([sys.executable, harness.TREE / "tests/unit/dsn_check.py"], input=raw,
                       capture_output=True, env={"PYTHONUTF8": "1"}, timeout=60, check=False)
    assert p.returncode == 0, p.stderr.decode()
    return p.stdout.decode()


@pytest.fixture
def stranded(chasq, sink, dnsmasq):
    """A chasq whose queue has a message from `sender` to `rcpt`, as chasquid would have left it.
    Its mail goes to the sink that is returned with it."""

    def make(sender, rcpt, content, extensions=(), aliases=""):
        ours = ["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", *extensions]
        s = sink(address="127.0.0.2", extensions=ours,
                 script={"RCPT": lambda session, arg: "550 5.1.1 no such user" if "bob" in arg
                         else None})
        dns = dnsmasq(mx={d: [(10, "mx.far.test")] for d in ("far.test", A_DOMAIN)},
                      hosts={"mx.far.test": ["127.0.0.2"]})
        c = chasq(start=False, conf={"dns_servers": dns.server, "remote_smtp_port": s.port},
                  domains={"here.test": {"users": ["sender", "jürgen"], "aliases": aliases}})
        c.queue.mkdir(parents=True, mode=0o700)
        (c.queue / "m:stranded").write_text(
            f"ID: {harness.quote('stranded')}\nfrom: {harness.quote(sender)}\n"
            f"To: {harness.quote(rcpt)}\n"
            f"rcpt: {{ address: {harness.quote(rcpt)} type: EMAIL status: PENDING"
            f" original_address: {harness.quote(rcpt)} }}\n"
            f"data: {harness.quote(content)}\n"
            f"created_at_ts: {{ seconds: {int(time.time())} }}\n")
        c.start()
        return c, s

    return make


ORIGINAL = "Message-ID: <é1@x>\nSubject: über = über\n\nGrüße\n"


def returned(dsn_raw):
    """The third part, decoded by its own head."""
    fields, body = dsn_raw.replace(b"\r\n", b"\n").rsplit(b"\n--", 2)[1].split(b"\n\n", 1)
    assert b"Content-Type: message/global\n" in fields + b"\n"
    if b"quoted-printable" in fields:
        return quopri.decodestring(body)
    assert b"8bit" in fields
    return body


def test_utf8_recipient_to_a_sender_in_ascii(stranded):
    """The host knows no SMTPUTF8; the sender's may not either: all is ASCII, and all is there."""
    c, _ = stranded("sender@here.test", "jürgen@far.test", ORIGINAL)
    raw, dsn = notification(c)
    assert raw.isascii()
    human, status, original = dsn.get_payload()
    assert "jürgen@far.test" in human.get_content()
    r, = status_fields(dsn)[1]
    assert r["Final-Recipient"] == r"utf-8; j\x{FC}rgen@far.test"
    assert r["Status"] == "5.6.7"
    assert returned(raw).endswith(ORIGINAL.encode())
    assert "1 decoded: jürgen@far.test is mailbox" in check(raw)
    c.wait_queue_empty()


@pytest.mark.parametrize("rcpt", ["x@" + "d." * 200 + "test", "x@[127.0.0.2"], ids=["long", "bracket"])
def test_recipient_that_is_no_address(stranded, rcpt):
    """A file need not be ours: nobody is asked about a name longer than any, and no address is guessed."""
    c, s = stranded("sender@here.test", rcpt, "Subject: x\n\nplain\n")
    _, dsn = notification(c)
    assert "is no domain name" in dsn.get_payload()[0].get_content()
    c.wait_queue_empty()
    assert not s.sessions


def test_sender_with_idn_domain(stranded):
    c, s = stranded(f"amy@{DOMAIN}", f"bob@{DOMAIN}", "Subject: x\n\nplain\n")
    harness.wait_for(lambda: s.messages, 20)
    c.wait_queue_empty()
    m, = s.messages
    assert m.sender == "" and m.recipients == [f"amy@{A_DOMAIN}"]
    facts = check(m.data)
    assert f"To: <amy@{A_DOMAIN}>\n" in facts
    assert "global: False\n" in facts
    assert f"1 Final-Recipient: rfc822; bob@{A_DOMAIN}\n" in facts
    assert f"\n  bob@{DOMAIN}\n" in facts


def test_sender_with_utf8_local_part(stranded):
    """One of ours: the types of RFC 6533."""
    c, _ = stranded("jürgen@here.test", f"bob@{DOMAIN}", ORIGINAL)
    raw = c.wait_messages("jürgen", seconds=30)[0]
    facts = check(raw)
    assert "To: <jürgen@here.test>\nIn-Reply-To: <é1@x>\n" in facts
    assert "types: text/plain message/global-delivery-status message/global\n" in facts
    assert f"1 Final-Recipient: utf-8; bob@{DOMAIN}\n" in facts
    assert returned(raw).endswith(ORIGINAL.encode())
    c.wait_queue_empty()


def test_sender_with_utf8_local_part_elsewhere(stranded):
    """It needs SMTPUTF8, and says so."""
    c, s = stranded("jürgen@far.test", "bob@far.test", "Subject: x\n\nplain\n", ["SMTPUTF8"])
    harness.wait_for(lambda: s.messages, 20)
    c.wait_queue_empty()
    m, = s.messages
    assert "global: True\n" in check(m.data)
    assert "SMTPUTF8" in m.sender_args


def test_utf8_sender_with_an_alias_in_ascii(stranded):
    """The server behind the alias need not have SMTPUTF8, and the one here has not."""
    c, s = stranded("müller@here.test", "bob@far.test", ORIGINAL, aliases="müller: m@far.test\n")
    harness.wait_for(lambda: s.messages, 20)
    c.wait_queue_empty()
    m, = s.messages
    assert m.recipients == ["m@far.test"] and m.data.isascii()
    facts = check(m.data)
    assert "to group: müller@here.test\n" in facts
    assert "global: False\n" in facts
