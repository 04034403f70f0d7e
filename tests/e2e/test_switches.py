"""Builds without what can be left out: what they say, what they refuse, and that they still are a mail server."""

import re
import smtplib
import subprocess

import pytest

import certs
import harness
import smtpclient

SWITCHES = re.findall(r"^#define (WITH_[A-Z]+) 1$", (harness.TREE / "config.h").read_text(), re.M)
BUILD = "build/small"


@pytest.fixture(scope="module")
def small():
    """The program without anything. tests/check.sh has made it; by the same command it is made here."""
    program = harness.TREE / BUILD / "chasq"
    if not program.exists():
        options = " ".join(f"-D{s}=0" for s in SWITCHES)
        subprocess.run(["make", "-s", "-j2", "-C", harness.TREE, f"BUILD={BUILD}", f"OPTIONS={options}",
                        f"{BUILD}/chasq"], check=True, stdin=subprocess.DEVNULL)
    return program


def test_the_switches_are_listed(small):
    for program, value in ((small, 0), (harness.binary(), 1)):
        out = subprocess.run([program, "-V"], capture_output=True, text=True, check=True).stdout
        listed = re.search(r"^options: (.*)$", out, re.M)[1].split()
        assert sorted(listed) == sorted(f"{s}={value}" for s in SWITCHES), (listed, SWITCHES)


@pytest.mark.parametrize("conf, option", [
    ('lmtp_address: "unix:/run/lmtp"', "WITH_LMTP"),
    ("dovecot_auth: true", "WITH_DOVECOT"),
    ("haproxy_incoming: true", "WITH_PROXY"),
    ("sandbox: true", "WITH_SANDBOX"),
    ('submission_address: "127.0.0.1:1587"', "WITH_TLS"),
    ('submission_over_tls_address: "127.0.0.1:1465"', "WITH_TLS"),
    ('tls_roots: "/etc/ssl/certs"', "WITH_TLS"),
    ("dnssec_resolver: true", "WITH_TLS"),
    ('monitoring_address: "127.0.0.1:1100"', "built without the monitoring page"),
])
def test_what_is_not_there_is_refused(small, tmp_path, conf, option):
    (tmp_path / "chasq.conf").write_text(conf + "\n")
    out = subprocess.run([small, "-c", tmp_path, "-t"], capture_output=True, text=True)
    assert out.returncode != 0 and conf.split(":")[0] in out.stderr and option in out.stderr, out


@pytest.mark.parametrize("hook", ["alias-resolve", "rcpt", "post-data"])
def test_hooks_that_nobody_would_ask(small, tmp_path, hook):
    (tmp_path / "chasq.conf").write_text("")
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / hook).write_text("#!/bin/sh\n")
    out = subprocess.run([small, "-c", tmp_path, "-t"], capture_output=True, text=True)
    assert out.returncode != 0 and f"hooks/{hook}: this build has no hooks: WITH_HOOKS 0" in out.stderr, out


def test_switched_off_by_the_operator_is_no_matter(small, tmp_path):
    (tmp_path / "chasq.conf").write_text("dovecot_auth: false\nhaproxy_incoming: false\nsandbox: false\n"
                                        "dnssec_resolver: false\ntls_roots: \"\"\n")
    out = subprocess.run([small, "-c", tmp_path, "-t"], capture_output=True, text=True)
    assert out.returncode == 0, out


@pytest.mark.parametrize("command, option", [
    ("sendmail", "WITH_SENDMAIL"), ("check", "WITH_CHECK"), ("dialog", "WITH_CHECK"), ("status", "WITH_OPERATOR"),
    ("passwd", "WITH_OPERATOR"),
])
def test_commands_that_are_not_there(small, command, option):
    out = subprocess.run([small, command], capture_output=True, text=True)
    assert out.returncode == 69 and f"this build has no {command}: {option} 0" in out.stderr, out
    listed = subprocess.run([small, "help"], capture_output=True, text=True, check=True).stdout
    assert f"  {command} " not in listed and "  queue " in listed


def test_the_main_job(box, small):
    c = harness.Chasq(box, program=small)
    c.start()
    smtpclient.send(c.port, "a@far.test", ["user@here.test"], b"Subject: small\r\n\r\nhello\r\n")
    c.wait_messages("user")
    assert b"hello" in c.messages("user")[0]
    for option in ("WITH_SPF", "WITH_STS", "WITH_SANDBOX"):
        assert f"{option} 0" in c.log()
    assert c.run("queue", "-C", c.dir).returncode == 0
    # The server has less to answer, too, whoever asks.
    asked = subprocess.run([harness.binary(), "status", "-C", c.dir], capture_output=True, text=True)
    assert asked.returncode == 69 and "WITH_OPERATOR 0" in asked.stderr, asked
    given = subprocess.run([harness.binary(), "sendmail", "-C", c.dir, "user@here.test"], input="Subject: x\n\nx\n",
                           capture_output=True, text=True)
    assert given.returncode == 75 and "WITH_SENDMAIL 0" in given.stderr, given
    c.stop()


def test_tls_without_logins(box, tmp_path):
    """Of the builds without one switch: tests/check.sh makes this one only for the long proofs."""
    program = harness.TREE / "build/without/WITH_AUTH/chasq"
    if not program.exists():
        pytest.skip("build/without/WITH_AUTH is there after CHASQ_FULL=1 tests/check.sh switches")
    c = harness.Chasq(box, program=program)
    certs.make_cert(tmp_path, ["mx.test"]).install(c.dir / "certs", "mx.test")
    c.start()
    with smtplib.SMTP("127.0.0.1", c.port, timeout=20) as client:
        client.starttls()
        client.ehlo()
        assert not client.has_extn("auth")
        assert client.docmd("AUTH PLAIN AHUAcA==")[0] == 502
        client.sendmail("a@far.test", ["user@here.test"], "Subject: small\r\n\r\nhello\r\n")
    c.wait_messages("user")
    c.stop()
    for key in ("submission_address", "submission_over_tls_address"):
        out = subprocess.run([program, "-c", c.dir, "-o", f'{key}: "127.0.0.1:1"', "-t"], capture_output=True,
                             text=True)
        assert out.returncode != 0 and f"{key}: this build has no logins: WITH_AUTH 0" in out.stderr, out
