"""sendmail, mailq and newaliases as cron, mutt and monitors use them."""

import email
import email.utils
import os
import pwd
import re
import stat

import pytest

import harness

USAGE, TEMPFAIL = 64, 75


@pytest.fixture
def c(chasq):
    return chasq(domains={"here.test": {"users": ["user", "other", "hidden"]}})


def ok(result):
    assert result.returncode == 0, (result.returncode, result.stderr, result.stdout)
    return result


def one(c, user):
    raw = c.wait_messages(user)[0]
    return raw, email.message_from_bytes(raw)


def test_recipients_on_the_command_line(c):
    ok(c.sendmail("-f", "me@here.test", "user@here.test", "other@here.test",
                  input=b"Subject: x\n\nhello\n"))
    raw, m = one(c, "user")
    one(c, "other")
    assert raw.startswith(b"Return-Path: <me@here.test>\n") and raw.endswith(b"\n\nhello\n")
    assert email.utils.parsedate_to_datetime(m["Date"])
    assert re.match(r"<[^<>@\s]+@[^<>@\s]+>$", m["Message-ID"])
    assert "me@here.test" in m["From"]


def test_present_fields_are_kept(c):
    ok(c.sendmail("user@here.test", input=b"From: X <x@y.test>\nDate: Mon, 01 Jan 2024 00:00:00 +0000\n"
                  b"Message-ID: <1@y.test>\nSubject: s\n\nb\n"))
    raw, m = one(c, "user")
    assert m.get_all("From") == ["X <x@y.test>"] and m.get_all("Message-ID") == ["<1@y.test>"]
    assert m.get_all("Date") == ["Mon, 01 Jan 2024 00:00:00 +0000"]


def test_recipients_from_the_header(c):
    ok(c.sendmail("-t", input=b"To: User <user@here.test>,\n \"a, b\" <other@here.test>\n"
                  b"Bcc: hidden@here.test\nSubject: t\n\nb\n"))
    for user in ("user", "other", "hidden"):
        raw, m = one(c, user)
        assert m["Bcc"] is None and b"hidden@" not in harness.drop_trace(raw)
        assert m["To"].split() == 'User <user@here.test>, "a, b" <other@here.test>'.split()


def test_groups_and_comments_in_the_header(c):
    ok(c.sendmail("-t", "-i", input=b"To: team: user@here.test (a, comment), other@here.test;\n"
                  b"Cc: undisclosed-recipients:;\nSubject: t\n\nb\n"))
    one(c, "user")
    one(c, "other")


@pytest.mark.parametrize("flags", [["-i"], ["-oi"], ["-oem", "-oi"], ["-bm", "-i"], ["-i", "-v"]])
def test_dot_is_text(c, flags):
    ok(c.sendmail(*flags, "user@here.test", input=b"Subject: d\n\na\n.\nb\n"))
    assert one(c, "user")[0].endswith(b"\n\na\n.\nb\n")


def test_dot_ends_without_i(c):
    ok(c.sendmail("user@here.test", input=b"Subject: d\n\na\n.\nb\n"))
    assert one(c, "user")[0].endswith(b"\n\na\n")


def test_accepted_options(c):
    ok(c.sendmail("-F", "Full Name", "-f", "me@here.test", "-B", "8BITMIME", "-N", "failure,delay",
                  "-oi", "--", "user@here.test", input=b"Subject: \xe9\n\n\xff\n"))
    raw, m = one(c, "user")
    assert raw.endswith(b"\n\n\xff\n") and "Full Name" in m["From"]


def test_crlf_input_and_missing_last_line_end(c):
    ok(c.sendmail("-i", "user@here.test", input=b"Subject: x\r\n\r\na\r\nb"))
    assert one(c, "user")[0].endswith(b"\n\na\nb\n")


def test_no_header_at_all(c):
    """As `echo text | sendmail root` does."""
    ok(c.sendmail("user@here.test", input=b"just text\n"))
    raw, _ = one(c, "user")
    assert harness.split_message(raw)[1].endswith(b"just text\n")


def test_unqualified_recipient(chasq):
    c = chasq(conf={"hostname": "here.test"})
    ok(c.sendmail("user", input=b"Subject: cron\n\nout\n"))
    one(c, "user")


def test_null_sender(c):
    for flag in ("<>", ""):
        ok(c.sendmail("-f", flag, "user@here.test", input=b"Subject: x\n\nb\n"))
    for raw in c.wait_messages("user", 2):
        assert raw.startswith(b"Return-Path: <>\n")


def test_unknown_recipient_fails(c):
    r = c.sendmail("nobody@here.test", input=b"Subject: x\n\nb\n")
    assert r.returncode == 67, r  # EX_NOUSER
    assert b"nobody@here.test" in r.stderr


def test_usage(c):
    assert c.sendmail(input=b"x\n").returncode == USAGE
    assert c.sendmail("-t", input=b"Subject: none\n\nx\n").returncode in (USAGE, 65)
    assert c.sendmail("--no-such-option", "user@here.test").returncode == USAGE


def test_daemon_is_down(c):
    c.stop()
    r = c.sendmail("user@here.test", input=b"Subject: x\n\nb\n")
    assert r.returncode == TEMPFAIL and r.stderr


def test_subcommand_is_the_same(c):
    ok(c.run("sendmail", "-C", c.dir, "user@here.test", input=b"Subject: x\n\nb\n"))
    one(c, "user")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_caller_is_known(c):
    """An unprivileged user without rights in the data directory, told by the socket's credentials."""
    ok(c.sendmail("user@here.test", input=b"Subject: x\n\nb\n", user="nobody"))
    raw, m = one(c, "user")
    assert raw.startswith(b"Return-Path: <nobody@")
    received = m.get_all("Received")[0]
    assert "nobody" in received or str(pwd.getpwnam("nobody").pw_uid) in received


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_anybody_sends_to_a_server_that_was_root(chasq):
    """It has made its data directory for the user that it became; the socket in it is for all."""
    c = chasq(start=False, conf={"user": "nobody"})
    c.maildirs.mkdir()
    os.chown(c.maildirs, pwd.getpwnam("nobody").pw_uid, -1)
    c.start(wrap=["sh", "-c", 'umask 077; exec "$@"', "sh"])
    ok(c.sendmail("user@here.test", input=b"Subject: x\n\nb\n", user="daemon"))
    raw, _ = one(c, "user")
    assert raw.startswith(b"Return-Path: <daemon@")
    assert stat.S_IMODE(c.data.stat().st_mode) == 0o711


def test_mailq(chasq, dnsmasq):
    dns = dnsmasq(mx={"far.test": [(10, "mx.far.test")]}, hosts={"mx.far.test": ["127.0.0.2"]})
    c = chasq(conf={"dns_servers": dns.server,
                    "remote_smtp_port": harness.free_port("127.0.0.2")})
    empty = ok(c.mailq()).stdout.decode()
    assert "empty" in empty
    ok(c.sendmail("-f", "me@here.test", "b@far.test", input=b"Subject: x\n\nb\n"))
    c.wait_attempt(20)
    for listing in (ok(c.mailq()), ok(c.sendmail("-bp"))):
        text = listing.stdout.decode()
        assert c.queued()[0].name.removeprefix("m:") in text
        assert "b@far.test" in text and "me@here.test" in text


def test_newaliases(c):
    """It says what is wrong, as often as it is asked, until it is mended."""
    ok(c.run("-C", c.dir, argv0="newaliases"))
    aliases = c.dir / "domains/here.test/aliases"
    good = aliases.read_text()
    aliases.write_text(good + "no colon here\n")
    for _ in range(2):
        r = c.run("-C", c.dir, argv0="newaliases")
        assert r.returncode != 0 and b"here.test/aliases" in r.stderr, r
    aliases.write_text(good)
    ok(c.run("-C", c.dir, argv0="newaliases"))


def test_directory_without_configuration(c, box):
    r = c.run("-C", box.path, argv0="mailq")
    assert r.returncode == TEMPFAIL and b"no chasq.conf" in r.stderr, r


def test_smtp_on_stdin(c):
    """-bs: a dialogue, as mutt and pine may use it."""
    r = ok(c.sendmail("-bs", input=b"EHLO x\r\nMAIL FROM:<me@here.test>\r\nRCPT TO:<user@here.test>\r\n"
                      b"DATA\r\nSubject: bs\r\n\r\nb\r\n.\r\nQUIT\r\n"))
    assert r.stdout.startswith(b"220 ") and b"\r\n354 " in r.stdout and b"\r\n221 " in r.stdout
    assert one(c, "user")[0].endswith(b"\n\nb\n")


def test_big_and_eight_bit(c):
    body = bytes(range(1, 10)) + b"\n" + b"".join(b"%d\n" % i for i in range(200000))
    ok(c.sendmail("-i", "user@here.test", input=b"Subject: big\n\n" + body, timeout=60))
    assert one(c, "user")[0].endswith(b"\n\n" + body)
