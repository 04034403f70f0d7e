"""Everything that can change while the daemon runs: by `chasq reload` and SIGHUP, at rest and under load."""

import concurrent.futures
import os
import re
import signal
import smtplib
import socket
import ssl
import stat
import threading

import pytest

import certs
from harness import Raw, can_connect, fast_binary, free_port, wait_for
from smtpclient import Client, Closed, Crowd, send

MESSAGE = b"From: <a@client.test>\r\nSubject: s\r\n\r\nbody\r\n"


REFUSED = 69  # EX_UNAVAILABLE: something stays as it was
BAD_FILE = 78  # EX_CONFIG: all does


def reload(c, code=0):
    """The answer of `chasq reload`, as text."""
    done = c.run("reload", "-C", c.dir)
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == code, text
    return text


def change(c, code=0, **keys):
    c.conf.update(keys)
    c.write_conf()
    return reload(c, code)


def has_line(text, pattern):
    assert re.search(rf"^{pattern}$", text, re.M), f"no {pattern!r} in:\n{text}"


def greeting(port):
    with Client(port, greet=False) as client:
        return client.read().text


def mail_code(c, rcpt="user@here.test", sender="a@client.test", size=None, source=None):
    with Client(c.port, source=source) as client:
        client.hello()
        reply = client.cmd(f"MAIL FROM:<{sender}>" + (f" SIZE={size}" if size else ""))
        return reply.code if reply.code != 250 else client.cmd(f"RCPT TO:<{rcpt}>").code


# ---- key by key ---------------------------------------------------------------------------------


def test_hostname_limits_and_characters(chasq):
    c = chasq()
    assert "files read" in reload(c)
    has_line(change(c, hostname="other.test"), r'changed hostname: "chasq.test" -> "other.test"')
    assert "other.test" in greeting(c.port)
    assert mail_code(c, size=3000000) == 250
    has_line(change(c, max_data_size_mb=1), "changed max_data_size_mb: 50 -> 1")
    assert mail_code(c, size=3000000) == 552
    assert mail_code(c, "user+x@here.test") == 250
    assert mail_code(c, "user-x@here.test") == 550
    change(c, suffix_separators="-")
    assert mail_code(c, "user+x@here.test") == 550
    assert mail_code(c, "user-x@here.test") == 250
    assert mail_code(c, "us.er@here.test") == 250
    change(c, drop_characters="")
    assert mail_code(c, "us.er@here.test") == 550


def test_trusted_networks(chasq):
    c = chasq(conf={"smarthost": Raw("{ address: '127.0.0.1:9' tls: NONE }")})
    assert mail_code(c, "x@far.test") == 550 or mail_code(c, "x@far.test") == 554
    change(c, trusted_network=["127.0.0.0/8"], trusted_network_rate=1)
    assert mail_code(c, "x@far.test") == 250
    text = change(c, trusted_network=None, trusted_network_rate=0)
    has_line(text, 'changed trusted_network: "127.0.0.0/8" -> none')
    assert mail_code(c, "x@far.test") in (550, 554)


def test_local_couriers_in_turn(chasq, box):
    c = chasq()
    send(c.port, "a@client.test", ["user@here.test"], MESSAGE)
    c.wait_messages("user", 1)
    out = box.path / "by-mda"
    script = box.path / "mda"
    script.write_text(f'#!/bin/sh\ncat >> {out}\n')
    script.chmod(0o755)
    change(c, mail_delivery_agent_bin=str(script), mail_delivery_agent_args="x")
    send(c.port, "a@client.test", ["user@here.test"], MESSAGE)
    wait_for(lambda: out.exists() and b"body" in out.read_bytes(), 10, "the agent's copy")
    change(c, mail_delivery_agent_bin=None, mail_delivery_agent_args=None,
           maildir=f"{c.maildirs}/elsewhere/%to_user%", local_line_ends=Raw("CRLF"))
    send(c.port, "a@client.test", ["user@here.test"], MESSAGE)
    assert c.wait_messages("user", 1, "elsewhere")[0].endswith(b"body\r\n")
    c.wait_queue_empty()
    assert len(c.messages("user")) == 1


def test_lmtp(chasq, sink):
    c = chasq()
    store = sink()
    change(c, lmtp_address=f"127.0.0.1:{store.port}")
    send(c.port, "a@client.test", ["user@here.test"], MESSAGE)
    wait_for(lambda: any(x.upper().startswith("LHLO") for x in map(str, store.commands())), 10, "LHLO")
    assert not c.messages("user")


def test_smarthost_and_masquerade(chasq, sink):
    one, two = sink(), sink()
    c = chasq(conf={"trusted_network": "127.0.0.0/8",
                    "smarthost": Raw(f"{{ address: '127.0.0.1:{one.port}' tls: NONE }}")})
    send(c.port, "a@client.test", ["x@far.test"], MESSAGE)
    wait_for(lambda: len(one.messages) == 1, 10, "a message at the first smarthost")
    text = change(c, smarthost=Raw(f"{{ address: '127.0.0.1:{two.port}' tls: NONE }}"),
                  masquerade=Raw("{ from: '*' to: '*@out.test' }"))
    has_line(text, rf"changed smarthost: .*:{one.port}.* -> .*:{two.port}.*")
    send(c.port, "a@client.test", ["x@far.test"], MESSAGE)
    wait_for(lambda: len(two.messages) == 1, 10, "a message at the second")
    assert any("a@out.test" in str(x) for x in two.commands())
    assert len(one.messages) == 1


def test_dns_servers(chasq, dnsd, sink):
    mx = sink()
    d = dnsd("far.test MX 10 mx.far.test\nmx.far.test A 127.0.0.1\n")
    c = chasq(conf={"trusted_network": "127.0.0.0/8", "remote_smtp_port": mx.port})
    text = change(c, dns_servers=d.server)
    has_line(text, rf'changed dns_servers: "127.0.0.1:9" -> "{d.server}"')
    send(c.port, "a@client.test", ["x@far.test"], MESSAGE)
    wait_for(lambda: len(mx.messages) == 1, 10, "a message at the mail host")


def test_logs(chasq, box):
    c = chasq(conf={"mail_log_path": ""})
    log, mail = box.path / "chasq.log", box.path / "mail.log"
    text = change(c, log_path=str(log), mail_log_path=str(mail), log_level="debug")
    has_line(text, rf'changed log_path: "" -> "{log}"')
    send(c.port, "a@client.test", ["user@here.test"], MESSAGE)
    c.wait_messages("user")
    wait_for(lambda: "queued" in mail.read_text(), 5, "the mail log")
    assert "reloaded" in log.read_text()
    log.rename(str(log) + ".1")
    mail.rename(str(mail) + ".1")
    c.process.kill(signal.SIGHUP)
    wait_for(lambda: log.exists() and "reloaded" in log.read_text(), 5, "a new log")
    assert mail.exists()
    text = change(c, REFUSED, log_path="/nonexistent/x/log")
    assert "refused log_path: " in text
    assert str(log) in c.run("config", "-C", c.dir).stdout.decode()
    change(c, log_path=None)
    wait_for(lambda: "reloaded" in c.log(), 5, "standard error again")


def test_control_mode(chasq):
    c = chasq()
    path = c.data / "control"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    has_line(change(c, control_mode="0600"), 'changed control_mode: "0666" -> "0600"')
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    reload(c)


def test_control_mode_without_proc(chasq):
    """As in the jail of OpenWrt, where nothing is mounted at /proc."""
    if os.geteuid() != 0:
        pytest.skip("only root can take /proc away")
    c = chasq(start=False, program=fast_binary(), conf={"control_mode": "0600"})
    c.start(wrap=["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && exec "$0" "$@"'])
    assert stat.S_IMODE((c.data / "control").stat().st_mode) == 0o600
    assert "control mode not set" not in c.log()


def test_monitoring(chasq):
    c = chasq()
    one, two = free_port(), free_port()
    assert not can_connect("127.0.0.1", one)
    change(c, monitoring_address=f"127.0.0.1:{one}")
    assert can_connect("127.0.0.1", one)
    change(c, monitoring_address=f"127.0.0.1:{two}")
    assert not can_connect("127.0.0.1", one) and can_connect("127.0.0.1", two)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        text = change(c, REFUSED, monitoring_address=f"127.0.0.1:{s.getsockname()[1]}")
        assert "refused monitoring_address: port " in text
        assert f":{two}" in c.run("config", "-C", c.dir).stdout.decode()
        assert can_connect("127.0.0.1", two)
    change(c, monitoring_address=None)
    assert not can_connect("127.0.0.1", two)


def test_refused_keys_and_a_broken_file(chasq, box):
    c = chasq()
    text = change(c, REFUSED, user="nobody", max_data_size_mb=2)
    assert "refused user: " in text
    has_line(text, "changed max_data_size_mb: 50 -> 2")
    # The tools would look for the daemon in the new place.
    c.conf["data_dir"] = str(box.path / "other")
    c.write_conf()
    c.process.kill(signal.SIGHUP)
    wait_for(lambda: "reload refused key=data_dir" in c.log(), 5, "the refusal")
    c.conf["data_dir"] = str(c.data)
    c.conf["user"] = None
    c.write_conf()
    reload(c)
    before = c.run("config", "-C", c.dir).stdout
    bad = f'hostname: "new.test"\nmax_data_size_mb: many\ndata_dir: "{c.data}"\n'
    (c.dir / "chasq.conf").write_text(bad)
    text = reload(c, BAD_FILE)
    assert "chasq.conf:2" in text and not re.search("^changed", text, re.M)
    assert "chasq.test" in greeting(c.port)
    assert c.run("config", "-C", c.dir).stdout == before
    c.process.kill(signal.SIGHUP)
    wait_for(lambda: c.log().count("the configuration stays as it was") == 2, 5, "the log")
    (c.dir / "chasq.conf").unlink()
    c.process.kill(signal.SIGHUP)
    wait_for(lambda: "chasq.conf: No such file" in c.log(), 5, "the log")
    send(c.port, "a@client.test", ["user@here.test"], MESSAGE)
    c.wait_messages("user")


def test_command_line_wins(chasq):
    c = chasq(start=False)
    c.start("-o", 'max_data_size_mb: 3', "-v")
    text = change(c, REFUSED, max_data_size_mb=9, log_level="error")
    assert "changed" not in text and "refused log_level: -v" in text
    assert "# -o" in c.run("config", "-C", c.dir).stdout.decode()


def test_hup_does_the_same(chasq):
    c = chasq()
    c.conf["hostname"] = "hup.test"
    c.write_conf()
    c.process.kill(signal.SIGHUP)
    wait_for(lambda: "hup.test" in greeting(c.port), 5, "the new name")
    assert 'changed hostname' in c.log()


# ---- doors --------------------------------------------------------------------------------------


def test_privileged_port_without_the_right(chasq):
    if os.geteuid() != 0:
        pytest.skip("only root can give root up")
    c = chasq(start=False, conf={"user": "nobody"})
    os.chmod(c.dir, 0o755)
    c.data.mkdir()
    c.maildirs.mkdir()
    for path in (c.data, c.maildirs):
        os.chown(path, 65534, 65534)
    c.start()
    address = c.conf["smtp_address"]
    text = change(c, REFUSED, smtp_address=[address, "127.0.0.1:25"])
    assert 'refused smtp_address "127.0.0.1:25": a port below 1024 is for root' in text
    assert can_connect("127.0.0.1", c.port)


class Load(Crowd):
    """Clients that send one message after the other, each with a name of its own."""

    def __init__(self, ports, count):
        self.ports = ports
        self.accepted = set()
        self.errors = []
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(count)]

    def run(self, number):
        turn = 0
        while not self.over.is_set():
            port = self.ports[number % len(self.ports)]
            try:
                with Client(port, source=f"127.0.1.{number + 1}", timeout=30) as client:
                    client.hello()
                    for _ in range(3):
                        turn += 1
                        name = f"m{number}-{turn}x"
                        body = b"Subject: " + name.encode() + b"\r\n\r\n" + b"x" * 70 + b"\r\n"
                        client.message("a@client.test", [self.rcpt(number, turn)], body)
                        with self.lock:
                            self.accepted.add(name)
                    client.quit()
            except (OSError, Closed, AssertionError) as error:
                self.errors.append(f"{number}: {error!r}")
                return

    def rcpt(self, number, turn):
        return "user@here.test"


def names(messages):
    found = []
    for m in messages:
        found += re.findall(rb"Subject: (m\d+-\d+x)", m)
    return [f.decode() for f in found]


def test_listeners_come_and_go_under_load(chasq):
    a, b, extra = free_port(), free_port(), free_port()
    c = chasq(conf={"smtp_address": [f"127.0.0.1:{a}", f"127.0.0.1:{b}"]}, port=a)
    with Load([a], 20) as load:
        for turn in range(20):
            wanted = [f"127.0.0.1:{a}"] + ([f"127.0.0.1:{b}"] if turn % 2 else [])
            wanted += [f"127.0.0.1:{extra}"] if turn % 3 else []
            text = change(c, smtp_address=wanted)
            assert "refused" not in text
            assert can_connect("127.0.0.1", b) == bool(turn % 2)
            assert can_connect("127.0.0.1", extra) == bool(turn % 3)
    assert not load.errors, load.errors[:5]
    assert len(load.accepted) > 20
    c.wait_queue_empty()
    delivered = names(c.messages("user"))
    assert sorted(delivered) == sorted(load.accepted)


def test_a_session_outlives_its_listener(chasq):
    other = free_port()
    c = chasq()
    with Client(c.port) as client:
        client.hello()
        client.cmd("MAIL FROM:<a@client.test>", 250)
        client.cmd("RCPT TO:<user@here.test>", 250)
        client.cmd("DATA", 354)
        client.send(b"Subject: half\r\n")
        text = change(c, smtp_address=f"127.0.0.1:{other}", hostname="renamed.test")
        has_line(text, rf"no longer listening on 127.0.0.1:{c.port}")
        assert not can_connect("127.0.0.1", c.port)
        client.send(b"\r\nrest\r\n.\r\n")
        assert client.read().code == 250
    c.wait_messages("user")


def test_certificates_change_under_load(chasq, box):
    """New certificates and names while clients begin TLS: each handshake has a good one."""
    ca = certs.make_ca(box.path / "pki")
    c = chasq(start=False)
    certs.make_cert(box.path / "pki", ["chasq.test"], ca).install(c.dir / "certs", "chasq.test")
    c.start()
    context = ssl.create_default_context(cafile=str(ca.pem))
    over, errors, done = threading.Event(), [], []

    def client(number):
        while not over.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", c.port, timeout=30,
                                  source_address=(f"127.0.2.{number + 1}", 0)) as s:
                    s._host = "chasq.test"
                    s.starttls(context=context)
                    s.sendmail("a@client.test", ["user@here.test"], MESSAGE)
                done.append(number)
            except (OSError, smtplib.SMTPException) as error:
                errors.append(repr(error))
                return

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for i in range(8):
            pool.submit(client, i)
        for turn in range(15):
            pair = certs.make_cert(box.path / "pki", ["chasq.test"], ca)
            pair.install(c.dir / "certs", "chasq.test")
            reload(c)
        over.set()
    assert not errors, errors[:3]
    assert len(done) > 15
    c.wait_queue_empty()
    assert len(c.messages("user")) == len(done)


# ---- under load ---------------------------------------------------------------------------------


class RemoteLoad(Load):
    def rcpt(self, number, turn):
        return ["user@here.test", "x@far.test", "y@second.test"][(number + turn) % 3]


def test_a_hundred_reloads_under_load(chasq, sink, box):
    """Smarthosts, couriers, masquerade, domains, names: all change while mail passes. Nothing is lost,
    and nothing looks at what is gone (run with AddressSanitizer)."""
    hosts = [sink() for _ in range(3)]
    script = box.path / "mda"
    out = box.path / "by-mda"
    script.write_text(f'#!/bin/sh\nm=$(cat)\nprintf "%s\\n" "$m" >> {out}\n')
    script.chmod(0o755)
    smart = [Raw(f"{{ address: '127.0.0.1:{s.port}' tls: NONE }}") for s in hosts]
    c = chasq(conf={"trusted_network": "127.0.0.0/8", "smarthost": smart[:1],
                    "max_queue_items": 100000})
    with RemoteLoad([c.port], 10) as load:
        for turn in range(100):
            c.conf["smarthost"] = [smart[:1], smart[1:], smart, smart[::-1]][turn % 4]
            c.conf["masquerade"] = None if turn % 3 else Raw("{ from: '*@client.test' to: '*@out.test' }")
            c.conf["mail_delivery_agent_bin"] = str(script) if turn % 5 == 0 else None
            c.conf["hostname"] = f"name{turn}.test"
            c.conf["drop_characters"] = ".-"[turn % 2]
            c.conf["local_line_ends"] = Raw(["LF", "CRLF"][turn % 2])
            c.domains[f"d{turn % 7}.test"] = {"users": ["u"], "aliases": f"a{turn}: u\n"}
            c.write_conf()
            text = reload(c)
            assert "changed hostname" in text and "refused" not in text
            assert c.process.running(), c.log()[-4000:]
    c.conf["mail_delivery_agent_bin"] = None
    c.write_conf()
    reload(c)
    assert not load.errors, load.errors[:5]

    def emptied():
        c.run("flush", "-C", c.dir)
        return not c.queued()

    wait_for(emptied, 60, lambda: "an empty queue\n" + c.run("queue", "-C", c.dir).stdout.decode(), 0.5)
    got = names(c.messages("user")) + names([out.read_bytes()] if out.exists() else [])
    for s in hosts:
        got += names([m.data for m in s.messages])
    assert set(got) == load.accepted
    assert len(got) == len(set(got))
    assert len(load.accepted) > 50
