"""Notifications: structure and contents by RFC 3461 to 3464, and to whom none goes."""

import email
import email.policy
import email.utils
import re

import pytest

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
