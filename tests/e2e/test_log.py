"""The log, the mail log, and what no peer can make of them."""

import base64
import fcntl
import os
import pathlib
import re
import smtplib
import socket
import ssl
import threading
import time

import pytest

import certs
import harness
from sink import Bytes, Drop
from smtpclient import Client, Closed, send

TEXT = "Subject: x\r\n\r\ntext\r\n"
STAMP = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} "


@pytest.fixture(scope="module")
def cert(tmp_path_factory):
    return certs.make_cert(tmp_path_factory.mktemp("pki"), ["mx.test"])


@pytest.fixture
def server(chasq, cert, box):
    """A chasq with both logs in files, everything written."""

    def make(conf=None, **kwargs):
        kwargs.setdefault("domains", {"here.test": {"users": ["user", "sender"], "aliases": "two: user, sender\n"}})
        c = chasq(start=False, conf={"log_path": str(box.path / "main"), "log_level": "debug",
                                     "mail_log_path": str(box.path / "mail"), **(conf or {})}, **kwargs)
        cert.install(c.dir / "certs", "mx.test")
        return c.start()

    return make


def read(box, name):
    """The lines, without their times."""
    text = (box.path / name).read_bytes()
    assert not text or text.endswith(b"\n")
    out = []
    for line in text.decode("utf-8", "backslashreplace").split("\n")[:-1]:
        assert re.match(STAMP, line), line
        out.append(re.sub(STAMP, "", line))
    return out


def pairs(line):
    """The main log's line as (id, event, {key: value}); fails when it is not of that form."""
    m = re.fullmatch(r'(?:error )?("(?:[^"\\]|\\.)*"|[^ "=\\]+) ((?:[^ =]+)(?: [^ =]+)*?)'
                     r'((?: [\w-]+=(?:"(?:[^"\\]|\\.)*"|[^ "=\\]+))*)(?:\.\.\.)?', line)
    assert m, line
    return m[1], m[2], dict(re.findall(r' ([\w-]+)=("(?:[^"\\]|\\.)*"|[^ "=\\]+)', m[3]))


def relay(server, dnsmasq, sink, script=None, **conf):
    """A server that relays for loopback to a scripted MX of far.test."""
    s = sink(address="127.0.0.2", script=script)
    dns = dnsmasq(mx={"far.test": [(10, "mx.far.test")]}, hosts={"mx.far.test": ["127.0.0.2"]})
    return server(conf={"dns_servers": dns.server, "remote_smtp_port": s.port,
                        "trusted_network": "127.0.0.0/8", **conf}), s


def done(box, count=1):
    harness.wait_for(lambda: sum(line.endswith(" all done") for line in read(box, "mail")) >= count, 30,
                     lambda: "the mail log\n" + "\n".join(read(box, "mail")))


# ---- what is said -------------------------------------------------------------------------------


def test_mail_log_of_a_session(server, box):
    c = server()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    smtp = smtplib.SMTP("127.0.0.1", c.port, "client.test", source_address=("127.0.0.5", 0))
    port = smtp.sock.getsockname()[1]
    smtp.starttls(context=context)
    smtp.ehlo()
    for password in ("wrong", "x"):
        smtp.docmd("AUTH", "PLAIN " + base64.b64encode(f"\0user@here.test\0{password}".encode()).decode())
    assert smtp.docmd("MAIL", "FROM:<other@here.test>")[0] == 553
    smtp.docmd("MAIL", "FROM:<user@here.test>")
    assert smtp.docmd("RCPT", "TO:<nobody@here.test>")[0] == 550
    assert smtp.docmd("RCPT", "TO:<a@@b>")[0] == 501
    for to in ("two@here.test", "user@here.test"):
        assert smtp.docmd("RCPT", f"TO:<{to}>")[0] == 250
    smtp.docmd("DATA")
    smtp.send(TEXT.encode() + b".\r\n")
    code, text = smtp.getreply()
    assert code == 250
    ident = text.decode().split()[-1]
    smtp.quit()
    done(box)
    peer, message = f"127.0.0.5:{port}", f"{ident} from=user@here.test"
    got = [line for line in read(box, "mail") if line.startswith((peer, ident))]
    before = [
        f"{peer} connected",
        f"{peer} auth failed for user@here.test",
        f"{peer} auth succeeded for user@here.test",
        f"{peer} rejected from=other@here.test - this sender address is not that of your login",
        f"{peer} rejected from=user@here.test to=[nobody@here.test] - local user does not exist",
        f"{peer} rejected from=user@here.test to=[<a@@b>] - malformed address: malformed domain of the address",
        f"{message} queued ip={peer} to=[two@here.test user@here.test]",
    ]
    assert got[: len(before)] == before
    assert sorted(got[len(before):-1]) == [f"{message} to={u}@here.test sent" for u in ("sender", "user")]
    assert got[-1] == f"{message} all done"
    assert f"daemon listening on 127.0.0.1:{c.port}" in read(box, "mail")


def test_mail_log_of_deliveries(server, dnsmasq, sink, box):
    c, s = relay(server, dnsmasq, sink, {"RCPT": ["250 ok", "451 4.2.1 come again", "550 5.1.1 nobody\nhere"]})
    with Client(c.port) as client:
        client.hello()
        reply = client.message("sender@here.test", [f"{u}@far.test" for u in "abc"], TEXT)
    ident = reply.text.split()[-1]
    harness.wait_for(lambda: any("completed loop" in line for line in read(box, "mail")), 20, "the first round")
    first = [line for line in read(box, "mail") if line.startswith(ident)]
    front = f"{ident} from=sender@here.test"
    assert sorted(first[1:-1]) == [
        f"{front} to=a@far.test sent",
        f"{front} to=b@far.test failed (temporary): 451 4.2.1 come again",
        f"{front} to=c@far.test failed (permanent): 550 5.1.1 nobody here",
    ]
    assert re.fullmatch(re.escape(front) + r" completed loop, next in (\d+m)?\d+s", first[-1]), first[-1]


def test_each_event_once(server, box):
    c = server()
    with Client(c.port, source="127.0.0.6") as client:
        client.hello()
        client.cmd("MAIL FROM:<a@b.test>", 250)
        client.cmd("RCPT TO:<x@far.test>", 550)
        client.cmd("RSET", 250)
        ident = client.message("a@b.test", "user@here.test", TEXT).text.split()[-1]
        client.quit()
    done(box)
    c.stop()
    parsed = [pairs(line) for line in read(box, "main")]
    session = next(p[0] for p in parsed if p[1] == "smtpd connect" and p[2]["peer"] == "127.0.0.6")
    events = [p[1] for p in parsed if p[0] == session]
    for event in ("smtpd connect", "smtpd rejected", "smtpd queued", "smtpd closed", "smtpd reply"):
        assert events.count(event) == 1, event
    commands = [p[2] for p in parsed if p[0] == session and p[1] == "smtpd command"]
    assert [x["verb"] for x in commands] == "EHLO MAIL RCPT RSET MAIL RCPT DATA QUIT".split()
    assert commands[1]["args"] == '"FROM:<a@b.test>"' or commands[1]["args"] == "FROM:<a@b.test>"
    assert [p[1] for p in parsed if p[0] == ident] == ["sent", "removed"] or \
        {"sent", "removed"} <= {p[1] for p in parsed if p[0] == ident}
    assert [p[2]["id"] for p in parsed if p[1] == "smtpd queued"] == [ident]
    assert [p[1] for p in parsed if p[1] in ("started", "stopping", "stopped")][0] == "started"


# ---- what is not said ---------------------------------------------------------------------------


def test_no_credentials(server, dnsmasq, sink, box, cert):
    """Neither those that users give us nor those we give a smarthost, whatever both sides do wrong."""
    secret = "Secr3t-of-mine"
    parts = [secret, base64.b64encode(secret.encode()).decode().rstrip("=")]
    for n in range(3):  # base64 of it at any place
        parts.append(base64.b64encode(b"x" * n + secret.encode()).decode()[4:16])

    def said(session, arg):
        return f"535 5.7.8 no login with {arg}"

    s = sink(address="127.0.0.2", cert=cert, users={"me": "other"}, script={"AUTH": said})
    dns = dnsmasq(hosts={"smart.test": ["127.0.0.2"]})
    given = box.path / "given"
    given.write_text(secret)
    given.chmod(0o600)
    c = server(conf={"dns_servers": dns.server, "trusted_network": "127.0.0.0/8",
                     "smarthost": harness.Raw(f'{{ address: "smart.test:{s.port}" insecure: true user: "me"'
                                              f' password_file: "{given}" }}')})
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    smtp = smtplib.SMTP("127.0.0.1", c.port, "client.test")
    smtp.starttls(context=context)
    smtp.ehlo()
    b64 = lambda text: base64.b64encode(text.encode()).decode()  # noqa: E731
    smtp.docmd("AUTH", "PLAIN " + b64(f"\0user@here.test\0{secret}"))
    smtp.docmd("AUTH", "LOGIN")
    smtp.docmd(b64("user@here.test"))
    smtp.docmd(b64(secret))
    smtp.docmd(b64(secret))  # out of step: a command that nobody knows
    smtp.docmd(secret)
    smtp.docmd("AUTH", "CRAM " + b64(secret))
    smtp.docmd("AUTH", "PLAIN !" + secret)
    smtp.close()
    send(c.port, "user@here.test", ["a@far.test"], TEXT)
    harness.wait_for(lambda: "SMARTHOST REFUSES" in (box.path / "main").read_text(), 20, "the login")
    text = (box.path / "main").read_text() + (box.path / "mail").read_text() + c.log()
    # What the smarthost said is told, but for the words in which it repeats our login.
    assert "535 (not shown: it repeats our login)" in text
    text += b"".join(c.texts().values()).decode()
    debug = text.splitlines()
    assert "smtpd command verb=AUTH" in text and "smtpc reply to=AUTH" in text
    for part in parts:
        assert not [line for line in debug if part in line], part


HOSTILE = [
    "\x1b[2J\x07", "x\u2028y", "\u202egnp", "a b=c", 'q"uote', "back\\slash", "\x7f\x01", "\u00e9",
    "12345678 smtpd queued id=x", "error - forged", "] - relay not allowed",
]


def test_hostile_values(server, dnsmasq, sink, box):
    """Every line of both logs keeps its form, and no line comes from nowhere."""
    replies = [Bytes(b"451 4.0.0 a\x1b[2Jb\x00c\xff d=e \"f\r\n"), "451 \u2028forged=1\u202e",
               Bytes(b"451-1.2.3.4:5 rejected\r\n451 error - forged\r\n"), Bytes(b"garbage\x1b[2J\r\n")]
    c, s = relay(server, dnsmasq, sink, {"RCPT": replies})
    hooks = c.dir / "hooks"
    hooks.mkdir(exist_ok=True)
    hook = hooks / "post-data"
    hook.write_text("#!/bin/sh\nprintf 'no\\033[2J way\\n9.9.9.9:1 rejected - forged\\n' \n"
                    "printf 'err\\nerror - forged\\033[2J' >&2\nexit 20\n")
    hook.chmod(0o755)
    rejected = 0
    for n, text in enumerate(HOSTILE):
        with Client(c.port, source=f"127.0.0.{30 + n}") as client:
            for command in (f"EHLO {text}", "EHLO x", f"MAIL FROM:<{text}> SMTPUTF8",
                            f'MAIL FROM:<"{text}"@x.test> SMTPUTF8', "RSET", "MAIL FROM:<a@x.test> SMTPUTF8",
                            f"RCPT TO:<{text}>", f'RCPT TO:<"{text}"@here.test>', text,
                            "RCPT TO:<user@here.test>"):
                client.cmd(command.encode())
            if client.cmd("DATA").code == 354:
                client.send(TEXT + ".\r\n")
                rejected += client.read().code == 554
    assert rejected > 5
    hook.unlink()
    for n in range(len(replies)):
        send(c.port, "a@x.test", [f"r{n}@far.test"], TEXT)
    harness.wait_for(lambda: sum(" failed (temporary): " in x for x in read(box, "mail")) >= len(replies), 30,
                     lambda: "\n".join(read(box, "mail")))
    c.stop()
    for line in read(box, "main"):
        pairs(line)
    mail = re.compile(r"(daemon listening on [\d.:]+|127\.0\.0\.\d+:\d+ (connected|rejected( from=[^ ]+)?"
                      r"( to=\[[^\[\]]*\])?( - .*)?)|[\w~]+ from=[^ ]+ (queued ip=[\d.:]+ to=\[[^\[\]]+\]|to=[^ ]+ "
                      r"(sent|failed \((temporary|permanent)\): .*)|completed loop, next in \w+|all done))")
    for line in read(box, "mail"):
        assert mail.fullmatch(line), line
    for name in ("main", "mail"):
        raw = (box.path / name).read_bytes()
        assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", raw)
        assert b"\n9.9.9.9" not in raw and b"\nerror - forged" not in raw


# ---- where it goes ------------------------------------------------------------------------------


def test_rotation_under_load(server, box):
    """mv and SIGHUP while many send: each message is in the logs exactly once."""
    c = server()
    sent, over = [], threading.Event()
    lock = threading.Lock()

    def sender(n):
        while not over.is_set():
            with Client(c.port, source=f"127.0.0.{40 + n}") as client:
                client.hello()
                for _ in range(5):
                    ident = client.message("a@b.test", "user@here.test", TEXT).text.split()[-1]
                    with lock:
                        sent.append(ident)
                client.quit()

    threads = [threading.Thread(target=sender, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    names = ["main", "mail"]
    for turn in range(6):
        count = len(sent)
        harness.wait_for(lambda: len(sent) > count + 5, 20, "messages")
        for name in ("main", "mail"):
            os.rename(box.path / name, box.path / f"{name}.{turn}")
            names.append(f"{name}.{turn}")
        os.kill(c.pid, 1)
        harness.wait_for(lambda: all((box.path / n).exists() for n in ("main", "mail")), 10, "new files")
    over.set()
    for t in threads:
        t.join()
    c.wait_queue_empty()
    c.stop()
    assert len(sent) > 30
    for name, event in (("main", r" smtpd queued id=(\S+)"), ("mail", r"(\S+) from=\S+ queued ")):
        text = "".join((box.path / n).read_text() for n in names if n.startswith(name))
        assert sorted(re.findall(event, text)) == sorted(sent)
        ends = r"\n\S+ \S+ (\S+) from=\S+ all done" if name == "mail" else r"\n\S+ \S+ (\S+) removed "
        assert sorted(re.findall(ends, "\n" + text)) == sorted(sent)
        assert "lost" not in text
    assert all((box.path / n).stat().st_mode & 0o777 == 0o640 for n in names)


class Syslog:
    """A system's log; reads when told."""

    def __init__(self, path):
        self.path = path
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        self.sock.settimeout(0.2)
        self.lines = []

    def read(self):
        try:
            while True:
                self.lines.append(self.sock.recv(65536).decode())
        except TimeoutError:
            return self.lines

    def close(self):
        self.sock.close()
        os.unlink(self.path)


def test_syslog(server, box):
    """The system's log gets the lines; when it is stuck, mail goes on and the loss is told; when it is
    restarted, the new one gets them."""
    path = box.path / "log"
    log = Syslog(path)
    c = server(conf={"log_path": f"<syslog:{path}>", "mail_log_path": f"<syslog:{path}>"})
    with Client(c.port, source="127.0.0.7") as client:
        client.hello()
        ident = client.message("a@b.test", "user@here.test", TEXT).text.split()[-1]
    want = rf"<22>\w{{3}} [ \d]\d \d\d:\d\d:\d\d chasq\[{c.pid}\]: {ident} from=a@b.test queued ip=127.0.0.7:\d+ to=\[user@here.test\]"
    harness.wait_for(lambda: any(re.fullmatch(want, x) for x in log.read()), 10, lambda: "\n".join(log.lines))
    before = time.monotonic()
    for _ in range(30):  # nobody reads
        send(c.port, "a@b.test", ["user@here.test"], TEXT)
    assert time.monotonic() - before < 30
    c.wait_queue_empty()
    told = harness.wait_for(lambda: [x for x in log.read() if "log lines lost n=" in x], 10, "the loss")
    assert all(re.fullmatch(r"<19>.* chasq\[\d+\]: error - log lines lost n=\d+", x) for x in told)
    log.close()
    send(c.port, "a@b.test", ["user@here.test"], TEXT)
    log = Syslog(path)
    harness.wait_for(lambda: any("all done" in x for x in log.read()), 10, lambda: "\n".join(log.lines))
    log.close()


def test_no_syslog_at_all(server, box):
    c = server(conf={"log_path": f"<syslog:{box.path}/none>", "mail_log_path": f"<syslog:{box.path}/none>"})
    for _ in range(20):
        send(c.port, "a@b.test", ["user@here.test"], TEXT)
    c.wait_messages("user", 20)


def test_stuck_reader_of_standard_error(chasq, box):
    """A supervisor that does not read its pipe must not stop the mail."""
    fifo = box.path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    c = chasq(start=False, conf={"log_level": "debug", "mail_log_path": ""})
    c.start(wrap=["sh", "-c", f'exec "$@" 2>{fifo}', "sh"])
    for _ in range(60):
        send(c.port, "a@b.test", ["user@here.test"], TEXT)
    c.wait_messages("user", 60, seconds=30)
    got = b""
    end = time.monotonic() + 10
    while b"log lines lost" not in got and time.monotonic() < end:
        try:
            got += os.read(reader, 65536)
        except BlockingIOError:
            time.sleep(0.02)
    assert b"log lines lost" in got
    os.close(reader)


def test_journal_prefixes(chasq, box):
    c = chasq(start=False, conf={"mail_log_path": "<stderr>"})
    script = 'JOURNAL_STREAM=$(stat -Lc %d:%i /dev/stderr) exec "$@"'
    c.start(wrap=["sh", "-c", script, "sh"])
    send(c.port, "a@b.test", ["user@here.test"], TEXT)
    c.wait_messages("user")
    c.stop()
    lines = [x for x in pathlib.Path(max(box.path.glob("chasq.*.log"))).read_text().splitlines()]
    assert lines and all(re.match(r"<[367]>\S", x) for x in lines), lines
    assert any(x.startswith("<6>daemon listening") for x in lines)
    other = chasq("other", start=False)
    other.start(env={"JOURNAL_STREAM": "1:2"})
    other.stop()
    assert "<6>" not in max(box.path.glob("other.*.log")).read_text()


def test_bad_paths_are_told_at_start(chasq, box):
    for key in ("log_path", "mail_log_path"):
        c = chasq(start=False, conf={key: "/not/there/x"})
        out = c.run("-c", c.dir)
        assert out.returncode == 1 and b"/not/there/x: No such file or directory" in out.stderr, out
