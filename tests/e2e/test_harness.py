"""The harness itself, against the real peers: what the other tests take for granted."""

import os
import re
import shutil
import subprocess
import time

import pytest

import harness
import peers
import sink as sink_module
from smtpclient import Client, Closed, send

MESSAGE = (b"From: a@client.test\r\nTo: b@far.test\r\nSubject: dots\r\n\r\n"
           b".\r\n..\r\n.x\r\n\xe9\xff\r\n" + b"y" * 900 + b"\r\nend\r\n")


def test_exim_keeps_a_message(exim):
    e = exim()
    send(e.port, "a@client.test", "b@far.test", MESSAGE)
    got = harness.wait_for(e.messages, 15, lambda: "exim to deliver\n" + e.log())
    assert len(got) == 1
    assert harness.drop_trace(got[0]).endswith(harness.drop_trace(MESSAGE).split(b"\n\n", 1)[1])
    assert b"Return-path: <a@client.test>" in got[0]


def test_exim_passes_a_message_on(exim, sink):
    s = sink(address="127.0.0.3")
    e = exim(address="127.0.0.2", to=(s.address, s.port))
    send(e.port, "a@client.test", "b@far.test", MESSAGE, address="127.0.0.2")
    harness.wait_for(lambda: s.messages, 15, lambda: "the sink to get it\n" + e.log())
    assert s.messages[0].recipients == ["b@far.test"]
    assert s.messages[0].data.endswith(MESSAGE.split(b"\r\n\r\n", 1)[1])
    harness.wait_for(lambda: not e.queued(), 10, "exim's queue to become empty")


def test_smtp_source_to_smtp_sink(box, smtp_sink):
    s = smtp_sink()
    source = peers.smtp_source(box, s.port, sessions=10, messages=200)
    assert source.wait(30) == 0, source.log()
    ids = s.message_ids()
    assert len(ids) == 200 and len(set(ids)) == 200


def test_dnsmasq_answers(dnsmasq):
    d = dnsmasq(mx={"far.test": [(10, "mx1.far.test"), (20, "mx2.far.test")]},
                hosts={"mx1.far.test": ["127.0.0.2", "::1"]})
    # A bare question, to need no resolver library: MX of far.test.
    import socket
    question = (b"\x12\x34\x01\x00\0\1\0\0\0\0\0\0" b"\3far\4test\0\0\x0f\0\1")
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.sendto(question, (d.address, d.port))
        answer = s.recv(4096)
    assert answer[:2] == b"\x12\x34" and answer[3] & 15 == 0
    assert answer[7] == 2, answer
    assert ("MX", "far.test") in d.queries()
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.sendto(question.replace(b"\3far", b"\3fat"), (d.address, d.port))
        assert s.recv(4096)[3] & 15 == 3, "NXDOMAIN for an unknown name"


def test_procmail_delivers(box):
    home = box.dir("home")
    rc = home / "procmailrc"
    rc.write_text(f"MAILDIR={home}\nDEFAULT={home}/box/\nLOGFILE={home}/log\n")
    p = subprocess.run([peers.program("usr/bin/procmail"), "-f", "a@client.test", rc],
                       input=MESSAGE.replace(b"\r\n", b"\n"), env={**os.environ, **peers.library_env()},
                       capture_output=True, timeout=20, check=False)
    assert p.returncode == 0, p.stderr
    assert len(list((home / "box/new").iterdir())) == 1


def test_maildrop_delivers(box):
    home = box.dir("home")
    (home / "filter").write_text(f'to "{home}/box"\n')
    (home / "filter").chmod(0o600)
    subprocess.run(["mkdir", "-p", *(f"{home}/box/{d}" for d in ("tmp", "new", "cur"))], check=True)
    p = subprocess.run([peers.program("usr/bin/maildrop"), home / "filter"],
                       input=MESSAGE.replace(b"\r\n", b"\n"),
                       env={**os.environ, **peers.library_env(), "HOME": str(home)},
                       capture_output=True, timeout=20, check=False)
    assert p.returncode == 0, p.stderr
    assert len(list((home / "box/new").iterdir())) == 1


def test_swaks_is_understood(sink):
    s = sink()
    p = subprocess.run([peers.system("swaks"), "--server", f"127.0.0.1:{s.port}", "--from",
                        "a@client.test", "--to", "b@far.test", "--pipeline"], capture_output=True,
                       timeout=30, check=False, stdin=subprocess.DEVNULL)
    assert p.returncode == 0, p.stdout
    assert s.messages[0].sender == "a@client.test"


@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "MIDDLE", "BODY"])
@pytest.mark.parametrize("how", [sink_module.Drop, sink_module.Reset])
def test_sink_breaks_where_told(sink, stage, how):
    s = sink(script={stage: how()})
    # A reset may be there before connect() has returned.
    with pytest.raises((Closed, ConnectionResetError) if stage == "CONNECT" else Closed):
        with Client(s.port, timeout=5) as c:
            c.hello()
            c.message("a@client.test", ["b@far.test"], b"Subject: x\r\n\r\n" + b"x" * 100)
    assert len(s.messages) == (1 if stage == "BODY" else 0)


def test_sink_follows_its_script(sink):
    s = sink(script={
        "RCPT": ["550 5.1.1 nobody", None],
        "BODY": ["451 4.3.0 later", "250 2.0.0 done\nreally"],
        "EHLO": sink_module.Dribble("250 slow.test"),
        "NOOP": lambda session, arg: "250 " + arg,
    }, extensions=[])
    with Client(s.port, timeout=5) as c:
        assert c.hello().lines == ["slow.test"]
        c.cmd("NOOP hallo", 250)
        c.cmd("MAIL FROM:<a@client.test> SIZE=3", 250)
        c.cmd("RCPT TO:<x@far.test>", 550)
        c.cmd("RCPT TO:<y@far.test>", 250)
        c.cmd("DATA", 354)
        c.send(b"..x\r\n.\r\n")
        assert c.read().code == 451
        assert c.message("", "y@far.test", b"z\r\n").lines[0] == "2.0.0 done"
        c.quit()
    assert s.messages[0].recipients == ["y@far.test"] and s.messages[0].data == b".x\r\n"
    assert s.messages[0].sender_args == "FROM:<a@client.test> SIZE=3"
    assert s.messages[1].sender == ""
    harness.wait_for(lambda: s.sessions[0].ended == "quit", 5)


def test_sink_finds_the_end_in_pieces(sink):
    """The final dot is found wherever the packets are cut."""
    wire = b"Subject: x\r\n\r\n..\r\n.x\r\n\r\n.\r\n"
    s = sink()
    cuts = [(i,) for i in range(1, len(wire))] + [(i, i + 1) for i in range(20, len(wire) - 1)]
    with Client(s.port) as c:
        c.hello()
        for cut in cuts:
            c.cmd("MAIL FROM:<>", 250)
            c.cmd("RCPT TO:<b@far.test>", 250)
            c.cmd("DATA", 354)
            last = 0
            for i in (*cut, len(wire)):
                c.send(wire[last:i])
                last = i
                time.sleep(0.002)
            assert c.read().code == 250
    assert [m.data for m in s.messages] == [b"Subject: x\r\n\r\n.\r\nx\r\n\r\n"] * len(cuts)
    with Client(s.port) as c:
        c.hello()
        c.message("", "b@far.test", b"")
    assert s.messages[-1].data == b""


def test_sink_sees_pipelining(sink):
    s = sink()
    with Client(s.port) as c:
        c.hello()
        c.cmd("NOOP", 250)
        c.send(b"RSET\r\nNOOP\r\n")
        assert c.read().code == c.read().code == 250
    assert s.sessions[0].early == ["RSET"]


def test_client_refuses_bad_replies(sink):
    for bad in (b"250 no cr\n", b"250-a\r\n251 b\r\n", b"25 x\r\n", b"250" + b"x" * 600 + b"\r\n"):
        s = sink(script={"NOOP": sink_module.Bytes(bad)})
        with Client(s.port, timeout=5) as c, pytest.raises(AssertionError):
            c.cmd("NOOP")


def test_pss_is_measured(box):
    p = box.process(["python3", "-c", "import time; x = bytearray(30 << 20); time.sleep(30)"], "pss")
    with harness.PssSampler(p.pid) as sampler:
        harness.wait_for(lambda: sampler.peak > 30 << 10, 10)
    assert sampler.peak < 80 << 10


def test_processes_end_with_the_box():
    b = harness.Sandbox("ending")
    p = b.process(["sh", "-c", "sleep 1000 & sleep 1000"], "sleeper")
    time.sleep(0.2)
    b.stop()
    assert not p.running()
    left = subprocess.run(["ps", "-o", "pid=,stat=,args=", "-s", str(p.pid)], capture_output=True,
                          check=False).stdout
    assert not re.search(rb"^ *\d+ [^Z].*sleep", left, re.M), left
    assert not b.path.exists()


def test_an_id_that_is_anothers_by_now(box):
    ended, other = box.process(["true"], "ended"), box.process(["sleep", "60"], "other")
    assert ended.wait() == 0
    ended.pid = other.pid
    ended.end()
    with pytest.raises(subprocess.TimeoutExpired):
        other.wait(0.2)


def test_text_proto_is_read_by_protobuf():
    """The configurations the tests write mean what they should."""
    conf = {"hostname": 'a"b\\c\x01\xe9', "smtp_address": ["1", "2"], "max_data_size_mb": 5,
            "haproxy_incoming": True, "local_line_ends": harness.Raw("CRLF")}
    text = harness.text_proto(conf)
    assert text.splitlines()[0] == 'hostname: "a\\"b\\\\c\\001\\303\\251"'
    assert text.splitlines()[1:] == ['smtp_address: "1"', 'smtp_address: "2"', "max_data_size_mb: 5",
                                     "haproxy_incoming: true", "local_line_ends: CRLF"]


def test_drop_trace():
    m = b"Return-Path: <>\nReceived: a\n\tb\nReceived: c\nSubject: x\nReceived: old\n\nbody\n"
    assert harness.drop_trace(m) == b"Subject: x\nReceived: old\n\nbody\n"


def test_at_time_after_a_killed_process_of_the_same_id():
    left = ["sh", "-c", 'for name in sem.faketime_sem_$$ faketime_shm_$$; do echo x >/dev/shm/$name; done; exec "$@"', "sh"]
    done = subprocess.run([*left, *harness.at_time("@1970-01-02 00:00:00"), "date", "+%Y"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1970\n", "")


def test_tools_are_there():
    for name in ("strace", "valgrind", "protoc", "mandoc", "unshare"):
        assert shutil.which(name), name
