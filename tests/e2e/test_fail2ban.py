"""The fail2ban filter in etc/fail2ban on mail logs that a real chasq wrote."""

import base64
import collections
import os
import pathlib
import re
import shutil
import smtplib
import ssl
import subprocess
import time

import pytest

import certs
import harness
from smtpclient import Client

ROOT = harness.TREE / "build/peers/root"
REGEX = ROOT / "usr/bin/fail2ban-regex"
ETC = harness.TREE / "etc/fail2ban"
TEXT = "Subject: x\r\n\r\ntext\r\n"

pytestmark = pytest.mark.skipif(not REGEX.exists(), reason="fail2ban is not unpacked")


def plain(user, password):
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


def fail2ban(log, mode="normal"):
    """What fail2ban-regex finds: hits by address."""
    filter_file = pathlib.Path(log).parent / "filter" / "chasq.conf"
    filter_file.parent.mkdir(exist_ok=True)
    shutil.copy(ETC / "filter.d/chasq.conf", filter_file)
    path = os.pathsep.join([str(ROOT / "usr/lib/python3/dist-packages"), os.environ.get("PYTHONPATH", "")])
    out = subprocess.run(
        ["/usr/bin/python3", REGEX, "--raw", "-c", ROOT / "etc/fail2ban", "--print-all-matched", "--usedns=no",
         "-o", "row", log, f"{filter_file}[mode={mode}]"],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": path})
    assert out.returncode in (0, 1, 255), out.stderr  # not 0 when nothing was found
    assert "Traceback" not in out.stderr and "ERROR" not in out.stderr, out.stderr
    hits = collections.Counter()
    for row in out.stdout.splitlines():
        if row.startswith("["):
            hits[re.match(r"\['([^']*)'", row)[1]] += 1
    return hits


@pytest.fixture(scope="module")
def cert(tmp_path_factory):
    d = tmp_path_factory.mktemp("pki")
    return certs.make_cert(d, ["mx.test"])


@pytest.fixture
def server(chasq, cert, box):
    """A chasq with a mail log in a file; the trusted host is 127.0.0.9."""

    def make(**conf):
        c = chasq(start=False, domains={"here.test": {"users": ["user"]}}, conf={
            "smtp_address": None, "trusted_network": "127.0.0.9/32",
            "mail_log_path": str(box.path / "mail.log"), **conf})
        c.submission = harness.free_port("127.0.0.1")
        c.conf["smtp_address"] = [f"127.0.0.1:{c.port}", f"[::1]:{c.port}"]
        c.conf["submission_address"] = f"127.0.0.1:{c.submission}"
        c.write_conf()
        cert.install(c.dir / "certs", "mx.test")
        c.start()
        return c

    return make


def lines(box):
    return (box.path / "mail.log").read_text("utf-8", "backslashreplace").splitlines()


def login(port, password, source, times=1, address="127.0.0.1"):
    """Logins over STARTTLS; returns the codes."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    smtp = smtplib.SMTP(address, port, "client.test", timeout=30, source_address=(source, 0))
    smtp.starttls(context=context)
    smtp.ehlo()
    codes = [smtp.docmd("AUTH", "PLAIN " + plain("user@here.test", password))[0] for _ in range(times)]
    smtp.close()
    return codes


def attack(c, source="127.0.0.66", address="127.0.0.1"):
    """One of each kind; how many hits that must be in normal and in aggressive mode."""
    with Client(c.port, address, source=source) as s:
        s.hello("evil.test")
        s.cmd("MAIL FROM:<a@evil.test>", 250)
        s.cmd("RCPT TO:<victim@elsewhere.test>", 550)  # relay: 1
        s.cmd("RCPT TO:<victim%elsewhere.test@other.test>", 550)  # relay: 2
        s.cmd("RCPT TO:<nobody@here.test>", 550)  # aggressive: 1
        s.cmd("RCPT TO:<@@>", 501)  # aggressive: 2
    assert login(c.port, "wrong", source, 2, address) == [535, 535]  # 3, 4
    with Client(c.port, address, source=source) as s:
        s.cmd("GET / HTTP/1.1", 554)  # 5
    with Client(c.port, address, source=source) as s:
        for _ in range(40):
            if s.cmd("FOO").code == 421:
                break  # too many errors: 6
    return 6, 8


def honest(c, source):
    """What our own users and good servers do, typos included."""
    with Client(c.port, source=source) as s:
        s.hello("good.test")
        s.message("a@good.test", "user@here.test", TEXT)
        s.cmd("MAIL FROM:<a@good.test>", 250)
        s.cmd("RCPT TO:<typo@here.test>", 550)
        s.cmd("RSET", 250)
        s.quit()
    assert login(c.port, "x", source) == [235]
    with Client(c.submission, source=source) as s:
        s.hello()
        s.cmd("MAIL FROM:<user@here.test>", 530)


def test_each_kind_counts(server, box):
    c = server()
    normal, aggressive = attack(c)
    honest(c, "127.0.0.77")
    with Client(c.port, source="127.0.0.9") as s:  # may relay
        s.hello()
        s.message("user@here.test", "friend@elsewhere.test", TEXT)
    c.wait_messages("user")
    log = box.path / "mail.log"
    assert fail2ban(log) == {"127.0.0.66": normal}
    # The typo is a hit there: that is what the mode is for.
    assert fail2ban(log, "aggressive") == {"127.0.0.66": aggressive, "127.0.0.77": 1}


def test_ipv6(server, box):
    c = server()
    normal, aggressive = attack(c, "::1", "::1")
    assert any(line.split(" ", 2)[2].startswith("[::1]:") for line in lines(box))
    assert fail2ban(box.path / "mail.log") == {"::1": normal}
    assert fail2ban(box.path / "mail.log", "aggressive") == {"::1": aggressive}


# What syslog makes of the lines, in its old and its new form, and journalctl.
@pytest.mark.parametrize("front", ["{old} board chasq[77]: ", "{new} board chasq[77]: ",
                                   "{old} chasq[77]: "], ids=["old", "new", "short"])
def test_through_syslog(server, box, front):
    c = server()
    normal, _ = attack(c)
    honest(c, "127.0.0.77")
    # Real datagrams have the same text behind their head: test_log.py.
    now = time.localtime()
    front = front.format(old=time.strftime("%b %e %H:%M:%S", now), new=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", now))
    syslog = box.path / "syslog"
    syslog.write_text("".join(front + line.split(" ", 2)[2] + "\n" for line in lines(box)))
    assert fail2ban(syslog) == {"127.0.0.66": normal}


VICTIM = "127.1.2.3"
FORGED = [
    f"{VICTIM}:25 auth failed for root",
    f"x\n2026-11-22 10:00:00.000000 {VICTIM}:25 auth failed for root",
    f"x] - relay not allowed\n{VICTIM}:1 rejected - relay not allowed",
    f"chasq[1]: {VICTIM}:1 rejected - relay not allowed",
    f"\u2028{VICTIM}:1 auth failed for x",
    f"\x85{VICTIM}:1 auth failed for x",
    f"\u00a0{VICTIM}:1 rejected - relay not allowed",
    f"[{VICTIM}]:1 rejected - relay not allowed",
]


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.mark.parametrize("mode", ["normal", "aggressive"])
def test_nobody_else_is_banned(server, box, mode):
    """A HELO name, a sender, a recipient, a login that look like lines of the log."""
    c = server()
    for n, text in enumerate(FORGED):
        source = f"127.0.1.{n + 1}"
        with Client(c.port, source=source) as s:
            s.send(b"EHLO " + text.replace("\n", " ").encode() + b"\r\n")
            s.read()
            for command in (f"MAIL FROM:<{quoted(text)}@evil.test> SMTPUTF8",
                            f"MAIL FROM:<{text}> SMTPUTF8", "MAIL FROM:<a@evil.test> SMTPUTF8",
                            f"RCPT TO:<{quoted(text)}@here.test>", f"RCPT TO:<{quoted(text)}@far.test>",
                            f"RCPT TO:<{text}>", "RCPT TO:<b@far.test>", text):
                try:
                    s.cmd(command.encode())
                except Exception:
                    break  # a line end of its own ends the session
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        smtp = smtplib.SMTP("127.0.0.1", c.port, "x", timeout=30, source_address=(source, 0))
        smtp.starttls(context=context)
        smtp.ehlo()
        assert smtp.docmd("AUTH", "PLAIN " + plain(text, "wrong"))[0] == 535
        smtp.close()
    hits = fail2ban(box.path / "mail.log", mode)
    assert VICTIM not in hits
    assert set(hits) == {f"127.0.1.{n + 1}" for n in range(len(FORGED))}, hits
    # And they do not get away with it.
    with_relay = [n for n in range(len(FORGED)) if "\n" not in FORGED[n]]
    assert all(hits[f"127.0.1.{n + 1}"] >= 2 for n in with_relay), hits


def test_honest_traffic_gives_none(server, box):
    c = server()
    for n in range(20):
        honest(c, f"127.0.0.{100 + n}")
    assert len(lines(box)) > 100
    assert not fail2ban(box.path / "mail.log")


def test_the_jail_is_read(box):
    """fail2ban-client takes filter and jail as they are."""
    etc = box.path / "fail2ban"
    shutil.copytree(ROOT / "etc/fail2ban", etc)
    shutil.copy(ETC / "filter.d/chasq.conf", etc / "filter.d/")
    shutil.copy(ETC / "jail.d/chasq.conf", etc / "jail.d/")
    (etc / "jail.d/defaults-debian.conf").unlink(missing_ok=True)
    log = box.path / "mail.log"
    log.touch()
    (etc / "jail.d/chasq.local").write_text(f"[chasq]\nenabled = true\nlogpath = {log}\n")
    path = str(ROOT / "usr/lib/python3/dist-packages")
    out = subprocess.run(["/usr/bin/python3", ROOT / "usr/bin/fail2ban-client", "-c", etc, "-d"],
                         capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": path})
    assert out.returncode == 0, out.stdout + out.stderr
    assert "['add', 'chasq', 'auto']" in out.stdout, out.stdout
    assert "auth failed for" in out.stdout


def test_the_journal_is_matched_by_what_no_user_can_forge():
    text = (ETC / "filter.d/chasq.conf").read_text()
    assert re.findall(r"(?m)^journalmatch = (.*)$", text) == ["_SYSTEMD_UNIT=chasq.service"]
    assert (harness.TREE / "packaging/systemd/chasq.service").exists()
