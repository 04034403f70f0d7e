"""The daemon's life: options, errors of configuration, admission, signals, time limits, restarts."""

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import time

import pytest

import harness
import peers
from contents import HARD
from smtpclient import Client, Closed, send


# ---- command line and configuration -------------------------------------------------------------


def test_version(chasq):
    c = chasq(start=False)
    r = c.run("-V")
    assert r.returncode == 0 and re.search(rb"chasq [0-9]+\.[0-9]+", r.stdout)
    assert b"c-ares" in r.stdout.lower() or b"cares" in r.stdout.lower()


def test_check_configuration(chasq):
    c = chasq(start=False)
    r = c.run("-t", "-c", c.dir)
    assert r.returncode == 0, r


@pytest.mark.parametrize("text,line,word", [
    ('hostname: "a"\nfrob: 1\n', 2, "frob"),
    ('hostname: 5\n', 1, "hostname"),
    ('hostname: "a"\n\nmax_data_size_mb: "x"\n', 3, "max_data_size_mb"),
    ('hostname: "a\n', 1, ""),
    ('give_up_send_after: "soon"\n', 1, "give_up_send_after"),
    ('trusted_network: "1.2.3.4/99"\n', 1, "trusted_network"),
    ('smtp_address: "nonsense"\n', 1, "smtp_address"),
    ("}\n", 1, ""),
])
def test_bad_configuration(chasq, text, line, word):
    """The error names file, line and key; the exit code is not 0."""
    c = chasq(start=False)
    (c.dir / "chasq.conf").write_text(text)
    r = c.run("-t", "-c", c.dir)
    assert r.returncode != 0
    message = (r.stderr + r.stdout).decode()
    assert f"chasq.conf:{line}" in message and word in message, message


def test_bad_users_file_is_named(chasq):
    c = chasq(start=False)
    (c.dir / "domains/here.test/users").write_text("users: {\n  nonsense\n")
    r = c.run("-t", "-c", c.dir)
    assert r.returncode != 0 and b"here.test/users" in r.stderr + r.stdout


def test_missing_configuration(box, chasq):
    c = chasq(start=False)
    r = c.run("-t", "-c", box.path / "nowhere")
    assert r.returncode != 0 and b"nowhere" in r.stderr + r.stdout


def test_override(chasq):
    c = chasq(start=False)
    c.start("-o", 'hostname: "other.test"')
    with Client(c.port, greet=False) as client:
        assert "other.test" in client.read().text


def test_chasquids_name_of_the_file(chasq):
    c = chasq(start=False)
    (c.dir / "chasq.conf").rename(c.dir / "chasquid.conf")
    c.start()
    send(c.port, "a@client.test", ["user@here.test"], HARD["plain"])
    c.wait_messages("user")


def test_busy_port_is_an_error_with_a_reason(chasq):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        c = chasq(start=False, conf={"smtp_address": f"127.0.0.1:{s.getsockname()[1]}"})
        c.start(wait=False)
        time.sleep(1)
        assert "in use" in c.log()
        c.process.end()
        c.process = None


def test_ipv6(chasq):
    port = harness.free_port()
    c = chasq(start=False, port=port)
    c.conf["smtp_address"] = [f"127.0.0.1:{port}", f"[::1]:{port}"]
    c.write_conf()
    try:
        socket.socket(socket.AF_INET6).bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 loopback on this machine")
    c.start()
    with Client(port, address="::1") as client:
        client.hello()
        client.message("a@client.test", ["user@here.test"], HARD["plain"])
    assert b"[IPv6:::1]" in c.wait_messages("user")[0]


# ---- reload -------------------------------------------------------------------------------------


def test_hup_reads_users_and_aliases(chasq):
    c = chasq()
    with Client(c.port) as client:
        client.hello()
        client.cmd("MAIL FROM:<>", 250)
        client.cmd("RCPT TO:<new@here.test>", 550)
    c.domains["here.test"]["users"].append("new")
    c.write_conf()
    c.process.kill(signal.SIGHUP)

    def known():
        with Client(c.port) as client:
            client.hello()
            client.cmd("MAIL FROM:<>", 250)
            return client.cmd("RCPT TO:<new@here.test>").code == 250

    harness.wait_for(known, 5, step=0.1)


def test_missing_certificates_are_told_once(chasq):
    c = chasq()
    for _ in range(3):
        assert c.run("reload", "-C", c.dir).returncode == 0
    assert c.log().count("no certificates directory=") == 1


def test_bad_new_file_keeps_the_old_content(chasq):
    c = chasq()
    (c.dir / "domains/here.test/users").write_text("users: { broken\n")
    (c.dir / "domains/here.test/aliases").write_text("no colon\n")
    c.process.kill(signal.SIGHUP)
    harness.wait_for(lambda: "here.test/users" in c.log(), 5)
    send(c.port, "a@client.test", ["user@here.test"], HARD["plain"])
    c.wait_messages("user")


# ---- SIGTERM ------------------------------------------------------------------------------------


def test_term_answers_421_at_the_next_command(chasq):
    c = chasq()
    with Client(c.port) as idle, Client(c.port) as busy:
        busy.hello()
        busy.cmd("MAIL FROM:<a@client.test>", 250)
        busy.cmd("RCPT TO:<user@here.test>", 250)
        busy.cmd("DATA", 354)
        busy.send(b"Subject: x\r\n\r\n")
        c.process.kill(signal.SIGTERM)
        assert idle.read().code == 421 and idle.at_end()
        # No new session.
        harness.wait_for(lambda: not harness.can_connect(c.address, c.port), 5)
        # A message under way may be finished, or is refused; never half accepted.
        with contextlib.suppress(Closed):
            busy.send(b"end\r\n.\r\n")
            code = busy.read().code
            assert code in (250, 421, 451), code
            if code == 250:
                assert c.queued() or c.messages("user")
    assert c.process.wait(20) == 0
    c.check_log()


def test_term_lets_a_delivery_finish(box, chasq):
    slow = box.path / "slow"
    slow.write_text(f"#!/bin/sh\ncat >{box.path}/part; sleep 1; mv {box.path}/part {box.path}/got\n")
    slow.chmod(0o755)
    c = chasq(conf={"mail_delivery_agent_bin": str(slow)})
    send(c.port, "a@client.test", ["user@here.test"], HARD["plain"])
    harness.wait_for(lambda: (box.path / "part").exists(), 5)
    c.process.kill(signal.SIGTERM)
    assert c.process.wait(20) == 0
    assert (box.path / "got").exists() and not c.queued()


def test_restart_keeps_what_waits(chasq):
    port = harness.free_port()
    c = chasq(conf={"trusted_network": "127.0.0.0/8", "dns_servers": f"127.0.0.1:{port}"})
    send(c.port, "a@client.test", ["b@far.test"], HARD["dots"])
    c.wait_attempt(60)
    before = c.texts()
    c.restart()
    time.sleep(1)
    # Nothing forgotten, nothing retried early.
    assert c.texts() == before and len(before) == 1


# ---- admission ----------------------------------------------------------------------------------


def test_more_connections_than_descriptors(chasq):
    """1100 connections from many addresses: 421 or a closed door, never an end; and it recovers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    c = chasq()
    socks = []
    try:
        for i in range(1100):
            s = socket.socket()
            s.settimeout(5)
            s.bind((f"127.0.1.{1 + i % 100}", 0))
            with contextlib.suppress(OSError):
                s.connect((c.address, c.port))
            socks.append(s)
        assert c.process.running()
    finally:
        for s in socks:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def works():
        with contextlib.suppress(OSError, Closed, AssertionError):
            send(c.port, "a@client.test", ["user@here.test"], HARD["plain"])
            return True

    harness.wait_for(works, 20, "it to serve again", 0.2)
    c.wait_messages("user")


def test_limit_of_connections_of_an_address(chasq):
    """One address cannot take all places; others still get in."""
    c = chasq()
    held = []
    try:
        for _ in range(300):
            client = Client(c.port, source="127.0.0.5", greet=False)
            held.append(client)
            try:
                if client.read().code == 421:
                    break
            except Closed:
                break
        else:
            raise AssertionError("300 sessions from one address")
        send(c.port, "a@client.test", ["user@here.test"], HARD["plain"], source="127.0.0.6")
    finally:
        for client in held:
            client.close()


def test_queue_limit(chasq):
    c = chasq(conf={"max_queue_items": 3, "trusted_network": "127.0.0.0/8",
                    "dns_servers": f"127.0.0.1:{harness.free_port()}"})
    with Client(c.port) as client:
        client.hello()
        codes = []
        for _ in range(5):
            for command in ("MAIL FROM:<>", "RCPT TO:<a@far.test>", "DATA", "x\r\n."):
                r = client.cmd(command)
                if r.code >= 400:
                    break
            codes.append(r.code)
            client.cmd("RSET")
    assert codes[:3] == [250] * 3 and set(codes[3:]) <= {451, 452}, codes


@pytest.mark.skipif(os.getuid() != 0, reason="needs a file system of its own")
def test_full_disk(box, chasq):
    """452 (or 451) before acceptance; what was accepted is delivered when there is room again."""
    c = chasq(start=False)
    c.data.mkdir()
    # A small file system for the daemon alone, in its mount namespace.
    wrap = [peers.system("unshare"), "--mount", "--propagation", "private", "sh", "-c",
            f'mount -t tmpfs -o size=9m none {c.data} && exec "$@"', "sh"]
    c.start(wrap=wrap)
    big = b"Subject: big\r\n\r\n" + b"x" * 70 * 1 + b"\r\n" + (b"y" * 76 + b"\r\n") * 80000
    with Client(c.port, timeout=30) as client:
        client.hello()
        r = client.cmd("MAIL FROM:<a@client.test> SIZE=30000000")
        assert r.code == 452, r
        client.cmd("MAIL FROM:<a@client.test>", 250)
        client.cmd("RCPT TO:<user@here.test>", 250)
        client.cmd("DATA", 354)
        with contextlib.suppress(Closed):
            client.send(big + b".\r\n")
        r = client.read()
        assert r.code in (451, 452), r
    send(c.port, "a@client.test", ["user@here.test"], HARD["plain"])
    assert len(c.wait_messages("user")) == 1


# ---- time limits --------------------------------------------------------------------------------


def test_idle_client_gets_421(chasq, short_build):
    c = chasq(program=short_build)
    with Client(c.port, timeout=8) as client:
        client.hello()
        start = time.monotonic()
        assert client.read().code == 421 and client.at_end()
        assert 1 < time.monotonic() - start < 4


def test_slow_client_gets_421(chasq, short_build):
    """A byte now and then does not keep a command alive for ever; nor do NOOPs a session."""
    c = chasq(program=short_build)
    with Client(c.port, timeout=10) as client:
        start = time.monotonic()
        with contextlib.suppress(Closed):
            for _ in range(40):
                client.send(b"N")
                if not client.silent(0.25):
                    break
            assert client.read().code == 421
        assert time.monotonic() - start < 8
    with Client(c.port, timeout=10) as client:
        start = time.monotonic()
        code = 250
        with contextlib.suppress(Closed):
            while code == 250 and time.monotonic() - start < 10:
                code = client.cmd("NOOP").code
                time.sleep(0.2)
            assert code == 421
        assert time.monotonic() - start < 9


def test_stalled_content(chasq, short_build):
    c = chasq(program=short_build)
    with Client(c.port, timeout=8) as client:
        client.hello()
        client.cmd("MAIL FROM:<a@client.test>", 250)
        client.cmd("RCPT TO:<user@here.test>", 250)
        client.cmd("DATA", 354)
        client.send(b"Subject: x\r\n")
        assert client.read().code in (421, 451)
        assert client.at_end()
    time.sleep(0.2)
    assert not c.queued() and not c.messages("user")


def test_retries_until_it_works(chasq, sink, dnsmasq, short_build):
    s = sink(address="127.0.0.2", script={"RCPT": ["450 4.2.1 greylisted"] * 3 + [None]})
    dns = dnsmasq(mx={"far.test": [(10, "mx.far.test")]}, hosts={"mx.far.test": ["127.0.0.2"]})
    c = chasq(program=short_build,
              conf={"dns_servers": dns.server, "remote_smtp_port": s.port,
                    "trusted_network": "127.0.0.0/8"})
    send(c.port, "a@client.test", ["b@far.test"], HARD["plain"])
    c.wait_queue_empty(30)
    # Perhaps on fewer connections: each waits a while for the next message.
    asked = [line for x in s.sessions for line in x.commands if line.upper().startswith(b"RCPT")]
    assert len(asked) == 4 and len(s.messages) == 1


def test_retries_end(chasq, short_build):
    """give_up_send_after: the sender is told, the message is gone."""
    c = chasq(program=short_build,
              conf={"dns_servers": f"127.0.0.1:{harness.free_port()}", "give_up_send_after": "4s",
                    "trusted_network": "127.0.0.0/8"})
    send(c.port, "user@here.test", ["b@far.test"], HARD["plain"])
    assert b"Action: failed" in c.wait_messages("user", seconds=60)[0]
    c.wait_queue_empty()


# ---- clocks, descriptors, children --------------------------------------------------------------


def test_clock_of_1970(chasq):
    """A board without a clock: mail is taken and delivered, nothing bounces for its age."""
    c = chasq(program=harness.fast_binary(), start=False)
    c.start(wrap=harness.at_time("@1970-01-02 00:00:00"))
    send(c.port, "a@client.test", ["user@here.test"], HARD["plain"])
    c.wait_messages("user")


def test_clock_jumps_ahead(chasq, dnsmasq):
    """What was accepted in 1970 is not bounced at once when the clock becomes right."""
    conf = {"dns_servers": f"127.0.0.1:{harness.free_port()}", "trusted_network": "127.0.0.0/8"}
    c = chasq(program=harness.fast_binary(), start=False, conf=conf,
              domains={"here.test": {"users": ["sender"]}})
    c.start(wrap=harness.at_time("@1970-01-02 00:00:00"))
    send(c.port, "sender@here.test", ["b@far.test"], HARD["plain"])
    assert len(c.queued()) == 1
    c.stop()
    c.start()
    time.sleep(2)
    assert len(c.queued()) == 1 and not c.messages("sender")


def descriptors(pid):
    return harness.descriptors(pid)


def test_no_descriptor_or_child_is_left(box, chasq, sink, dnsmasq):
    s = sink(address="127.0.0.2", script={"RCPT": ["250 ok", "550 5.1.1 no", "450 4.1.1 later"]})
    dns = dnsmasq(mx={"far.test": [(10, "mx.far.test")]}, hosts={"mx.far.test": ["127.0.0.2"]})
    c = chasq(conf={"dns_servers": dns.server, "remote_smtp_port": s.port,
                    "trusted_network": "127.0.0.0/8"},
              domains={"here.test": {"users": ["user"], "aliases": "p: | /bin/true\n"}})
    send(c.port, "a@client.test", ["user@here.test", "p@here.test"], HARD["plain"])
    c.wait_queue_empty()
    before = descriptors(c.pid)
    for i in range(30):
        send(c.port, "user@here.test", ["user@here.test", "p@here.test", f"r{i}@far.test"],
             HARD["plain"])
        Client(c.port).reset()
    c.wait_messages("user", 31)
    # c-ares may keep a socket to its server.
    harness.wait_for(lambda: descriptors(c.pid) <= before + 2, 10,
                     lambda: f"{descriptors(c.pid)} descriptors, {before} before")
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(c.pid)], capture_output=True,
                              check=False).stdout
    assert not children.strip(), children


def test_under_valgrind(chasq, sink, dnsmasq):
    """The main paths once, under memcheck."""
    s = sink(address="127.0.0.2", script={"RCPT": [None, "550 5.1.1 no"]})
    dns = dnsmasq(mx={"far.test": [(10, "mx.far.test")]}, hosts={"mx.far.test": ["127.0.0.2"]})
    c = chasq(program=harness.fast_binary(), start=False,
              conf={"dns_servers": dns.server, "remote_smtp_port": s.port,
                    "trusted_network": "127.0.0.0/8"},
              domains={"here.test": {"users": ["user"], "aliases": "p: | /bin/cat\n"}})
    c.start(wrap=["valgrind", "-q", "--error-exitcode=98", "--leak-check=full",
                  "--show-leak-kinds=definite,indirect", "--errors-for-leak-kinds=definite",
                  "--child-silent-after-fork=yes"], wait=False)
    c.wait_ready(60)
    to = ["user@here.test", "p@here.test", "a@far.test"]
    for content in (HARD["dots"], HARD["eight-bit"]):
        send(c.port, "user@here.test", to, content, timeout=60)
    c.wait_messages("user", 3, seconds=60)
    c.wait_queue_empty(60)
    assert c.mailq().returncode == 0
    c.stop(60)
