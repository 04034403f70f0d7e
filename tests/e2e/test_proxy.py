"""The PROXY protocol: a real HAProxy in front of all doors, and headers as an attacker would write them."""

import base64
import contextlib
import re
import signal
import socket
import ssl
import struct
import threading
import time

import pytest

import certs
import harness
import peers
from harness import can_connect, free_port, wait_for
from smtpclient import Client, Closed

TEXT = b"Subject: hello\r\n\r\ntext\r\n"
# Where the proxy connects from, and where it does not.
PROXY, STRANGER = "127.0.0.77", "127.0.0.78"
CLIENT, OTHER = "203.0.113.7", "203.0.113.8"
V2 = b"\r\n\r\n\0\r\nQUIT\n"
AUTH_BAD = base64.b64encode(b"\0user@here.test\0wrong").decode()
AUTH_GOOD = base64.b64encode(b"\0user@here.test\0x").decode()

ZONE = f"""
pass.test   TXT "v=spf1 ip4:{CLIENT} ip6:2001:db8::7 -all"
fail.test   TXT "v=spf1 -all"
none.test   TXT "nothing"
"""

HAPROXY = """
global
    maxconn 600
    log stdout format raw local0 info
    stats socket {dir}/stats
defaults
    mode tcp
    log global
    option log-health-checks
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    timeout check 5s
"""


def v1(client=CLIENT, port=4711, server="198.51.100.1"):
    return f"PROXY TCP{6 if ':' in client else 4} {client} {server} {port} 25\r\n".encode()


def v2(command=0x21, family=0x11, rest=None, client=CLIENT, port=4711):
    if rest is None:
        af = socket.AF_INET6 if family == 0x21 else socket.AF_INET
        rest = (socket.inet_pton(af, client) + socket.inet_pton(af, "::1" if family == 0x21 else "198.51.100.1")
                + struct.pack(">HH", port, 25))
    return V2 + struct.pack(">BBH", command, family, len(rest)) + rest


class ProxyClient(Client):
    """A client that sends a header first, from the proxy's address or, without a source, through the
    real proxy."""

    def __init__(self, port, header=b"", source=PROXY, tls=False, address="127.0.0.1"):
        super().__init__(port, address, source=source, greet=False)
        if header:
            self.send(header)
        if tls:
            self.start_tls()
        if header or source is None:
            reply = self.read()
            assert reply.code == 220, reply

    def start_tls(self):
        self.sock = ssl._create_unverified_context().wrap_socket(self.sock, server_hostname="mx.test")


@pytest.fixture(scope="session")
def cert(tmp_path_factory):
    return certs.make_cert(tmp_path_factory.mktemp("pki"), ["mx.test"])


class Behind:
    """A chasq with all doors that listens to PROXY alone, and a real HAProxy."""

    def __init__(self, chasq, dnsd, cert, box, conf=None, **kwargs):
        self.box = box
        self.doors = {"submission": free_port(), "submissions": free_port()}
        self.log = box.path / "mail.log"
        self.chasq = chasq(start=False, conf={
            "hostname": "mx.here.test", "dns_servers": dnsd(ZONE).server, "mail_log_path": str(self.log),
            "submission_address": f"127.0.0.1:{self.doors['submission']}",
            "submission_over_tls_address": f"127.0.0.1:{self.doors['submissions']}",
            "haproxy_incoming": True, "haproxy_trusted": PROXY, **(conf or {})}, **kwargs)
        cert.install(self.chasq.dir / "certs", "mx.test")
        self.doors["smtp"] = self.chasq.port
        self.chasq.start()

    def haproxy(self, *listeners):
        """Runs HAProxy with these sections, in which {smtp} and the like are our doors."""
        d = self.box.dir("haproxy")
        conf = d / "haproxy.cfg"
        conf.write_text(HAPROXY.format(dir=d) + "".join(s.format(proxy=PROXY, **self.doors) for s in listeners))
        return self.box.process([peers.program("usr/sbin/haproxy"), "-db", "-f", conf], "haproxy",
                                env=peers.library_env())

    def front(self, door, send, accept=True, address="127.0.0.1"):
        """A port at which HAProxy stands before a door."""
        port = free_port(*([address] if ":" not in address else []))
        p = self.haproxy(f"""
listen {door}
    bind {address}:{port} {"accept-proxy" if accept else ""}
    server chasq 127.0.0.1:{{{door}}} {send} source {PROXY}
""")
        wait_for(lambda: not p.running() or can_connect(address, port), 10, p.log)
        assert p.running(), p.log()
        return port

    def refused(self):
        """Headers refused so far."""
        status = self.chasq.run("status", "-a", "-C", self.chasq.dir).stdout.decode()
        return int(re.search(r"listen/proxy_headers_refused\s+(\d+)", status)[1])


@pytest.fixture
def behind(chasq, dnsd, cert, box):
    return lambda **kwargs: Behind(chasq, dnsd, cert, box, **kwargs)


# ---- a real proxy -------------------------------------------------------------------------------


@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,crc32c"])
def test_the_client_is_seen_everywhere(behind, box, send):
    b = behind()
    seen = box.path / "seen"
    hooks = b.chasq.dir / "hooks"
    hooks.mkdir()
    (hooks / "post-data").write_text(f"#!/bin/sh\ncat >/dev/null\necho $REMOTE_ADDR > {seen}\n")
    (hooks / "post-data").chmod(0o755)
    port = b.front("smtp", send)
    with ProxyClient(port, v1(), source=None) as c:
        c.hello()
        assert f"SPF: {CLIENT} may not send" in c.cmd("MAIL FROM:<a@fail.test>", 550).text
        c.message("a@pass.test", "user@here.test", TEXT)
    head = harness.split_message(b.chasq.wait_messages("user")[0])[0].decode()
    assert f"Received: from client.test ([{CLIENT}])" in head and f"client-ip={CLIENT}" in head
    assert "spf=pass" in head and PROXY not in head
    assert seen.read_text() == f"{CLIENT}:4711\n"
    log = b.log.read_text()
    assert f"{CLIENT}:4711 connected" in log and f"{CLIENT}:4711 rejected" in log and PROXY not in log
    # The proxy is named once, where the session begins.
    lines = [line for line in b.chasq.log().splitlines() if f"proxy={PROXY}" in line]
    assert len(lines) == 1 and f"smtpd connect peer={CLIENT} port=4711" in lines[0]
    # IPv6, through a proxy that came by IPv4.
    with ProxyClient(port, v1("2001:db8::7", server="2001:db8::1"), source=None) as c:
        c.hello()
        c.message("a@pass.test", "user@here.test", TEXT)
    head = harness.split_message(b.chasq.wait_messages("user", 2)[1])[0].decode()
    assert "[IPv6:2001:db8::7]" in head and "spf=pass" in head


@pytest.mark.parametrize("door", ["submission", "submissions"])
@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
def test_submission_behind_a_proxy(behind, door, send):
    b = behind()
    port = b.front(door, send)
    with ProxyClient(port, v1(), source=None, tls=door == "submissions") as c:
        c.hello()
        if door == "submission":
            c.cmd("STARTTLS", 220)
            c.start_tls()
            c.hello()
        c.cmd("AUTH PLAIN " + AUTH_BAD, 535)
        c.cmd("AUTH PLAIN " + AUTH_GOOD, 235)
        c.message("user@here.test", "user@here.test", TEXT)
    b.chasq.wait_messages("user")
    # What fail2ban reads names the client.
    assert re.search(rf"^\S+ \S+ {re.escape(CLIENT)}:4711 auth failed ", b.log.read_text(), re.M), b.log.read_text()


def test_clients_without_a_proxy_before_the_proxy(behind):
    """HAProxy writes the header itself; its clients are on this machine, by IPv4 and IPv6."""
    b = behind()
    with ProxyClient(b.front("smtp", "send-proxy-v2", accept=False), source=None) as c:
        here = c.sock.getsockname()[1]
        c.hello()
    assert f"smtpd connect peer=127.0.0.1 port={here} proxy={PROXY}" in b.chasq.log()
    if not has_ipv6():
        pytest.skip("no IPv6 on the loopback interface")
    for send in ("send-proxy", "send-proxy-v2"):
        port = b.front("smtp", send, accept=False, address="::1")
        with ProxyClient(port, source=None, address="::1") as c:
            here = c.sock.getsockname()[1]
            c.hello()
        assert f"smtpd connect peer=::1 port={here} proxy={PROXY}" in b.chasq.log()


def has_ipv6():
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as s:
        s.bind(("::1", 0))
        return True
    return False


def test_health_checks(behind):
    b = behind()
    server = "server s 127.0.0.1:{door} source {proxy} inter 200ms rise 1 fall 1 check"
    checks = {
        "plain": ("smtp", "", ""),
        "plain-tls": ("submissions", "", ""),
        "smtp-v1": ("smtp", "option smtpchk HELO check.test", "send-proxy"),
        "smtp-v2": ("smtp", "option smtpchk EHLO check.test", "send-proxy-v2"),
        "submission-v2": ("submission", "option smtpchk EHLO check.test", "send-proxy-v2"),
        "tls-v2": ("submissions", "option tcp-check\n    tcp-check expect rstring ^220",
                   "send-proxy-v2 check-ssl verify none"),
    }
    p = b.haproxy(*(f"listen {name}\n    bind 127.0.0.1:{free_port()}\n    {option}\n    "
                    + server.replace("{door}", "{" + door + "}") + f" {how}\n"
                    for name, (door, option, how) in checks.items()))

    def good(name, level):
        return re.search(rf"Health check for server {name}/s succeeded, reason: {level} check passed", p.log())

    for name in checks:
        level = "Layer4" if name.startswith("plain") else "Layer7" if name != "tls-v2" else r"Layer[67]"
        wait_for(lambda name=name, level=level: good(name, level), 15, p.log)
    # Checks are sessions of the proxy's own, and none of them is a wrong header.
    assert f"smtpd connect peer={PROXY}" in b.chasq.log()
    assert f"listen refused peer={PROXY}" not in b.chasq.log() and b.refused() == 0, b.chasq.log()
    # That they see something shows when it is gone.
    b.chasq.stop()
    wait_for(lambda: len(re.findall(r"Health check for server \S+ failed", p.log())) >= len(checks), 15, p.log)


# ---- whom to believe ----------------------------------------------------------------------------


def relays(b, header, source=PROXY):
    """The code that a recipient elsewhere gets."""
    with ProxyClient(b.chasq.port, header, source) as c:
        c.hello()
        c.cmd("MAIL FROM:<a@none.test>", 250)
        return c.cmd("RCPT TO:<x@far.test>").code


def test_trust_goes_by_the_client(behind):
    """Trusted are the client's network, and never the proxy's nor that of nobody known."""
    b = behind(conf={"trusted_network": ["192.168.1.0/24", "127.0.0.0/8", "fd00::/8"]})
    assert relays(b, v1("192.168.1.5")) == relays(b, v2(client="192.168.1.5")) == 250
    assert relays(b, v1("fd00::5", server="fd00::1")) == 250
    assert relays(b, v2(family=0x21, client="::ffff:192.168.1.5")) == 250
    assert relays(b, v1("127.0.0.1")) == 250  # the proxy says so, and is believed
    assert relays(b, v1()) == relays(b, v2()) == relays(b, v1("192.168.2.5")) == 550
    for unknown in (b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN 192.168.1.5 127.0.0.1 1 25\r\n", v2(0x20),
                    v2(0x20, client="192.168.1.5"), v2(0x21, 0x00, b""), v2(0x21, 0x31, bytes(216))):
        assert relays(b, unknown) == 550, unknown


def say(port, header, source):
    """All that comes back."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), 10, (source, 0)) as s:
        with contextlib.suppress(OSError):
            s.sendall(header)
        with contextlib.suppress(ConnectionResetError):
            while piece := s.recv(4096):
                got += piece
    return got


def logged(b, header, source, reason):
    """One line a second is written: tries until it is this one's turn."""

    def seen():
        say(b.chasq.port, header, source)
        return f'listen refused peer={source} reason="{reason}' in b.chasq.log()

    wait_for(seen, 10, b.chasq.log, 0.1)


@pytest.mark.parametrize("header", [b"", v1("192.168.1.5"), v2(client="192.168.1.5"), v2(0x20), b"EHLO x\r\n"],
                         ids=["none", "v1", "v2", "local", "ehlo"])
def test_strangers_are_not_believed(behind, header):
    b = behind(conf={"trusted_network": ["192.168.1.0/24", f"{STRANGER}/32"]})
    for door, text in (("smtp", b"421 4.7.0 mx.here.test is reached through its proxy only, try again later\r\n"),
                       ("submission", b"421 4.7.0 mx.here.test is reached through"), ("submissions", b"")):
        got = say(b.doors[door], header, STRANGER)
        # With bytes unread the kernel resets the connection, and the text may be lost.
        assert got.startswith(text) or (header and got == b""), got
        assert door != "submissions" or got == b""
    logged(b, b"", STRANGER, "haproxy_incoming: the address is not in haproxy_trusted")
    assert "smtpd connect" not in b.chasq.log()


# ---- hostile headers ----------------------------------------------------------------------------

BAD = {
    "no-header": b"EHLO client.test\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00",
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "no-cr": v1().replace(b"\r\n", b"\n"),
    "no-line-end": v1().replace(b"\r\n", b" ") + b"x" * 200,
    "a-megabyte": b"PROXY UNKNOWN " + b"x" * 1000000,
    "wrong-family": b"PROXY TCP4 2001:db8::1 198.51.100.1 1 25\r\n",
    "name": b"PROXY TCP4 localhost 198.51.100.1 1 25\r\n",
    "octal": b"PROXY TCP4 0192.0.2.1 198.51.100.1 1 25\r\n",
    "port": b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 25\r\n",
    "nul": b"PROXY TCP4 192.0.2.1\0 198.51.100.1 1 25\r\n",
    "blanks": b"PROXY  TCP4 192.0.2.1 198.51.100.1 1 25\r\n",
    "v2-version": v2(0x11),
    "v2-command": v2(0x22),
    "v2-udp": v2(0x21, 0x12),
    "v2-short": v2(rest=b"\xc0\x00\x02\x01"),
    "v2-long": V2 + b"\x21\x11\xff\xff" + bytes(100),
    "v2-tlv": v2(rest=bytes(12) + b"\x04\xff\xff"),
    "v2-crc": v2(rest=bytes(12) + b"\x03\x00\x04" + bytes(4)),
    "v2-signature": V2[:-1] + b"\r\n" + v2()[12:],
}


def test_bad_headers_are_closed_without_a_word(behind):
    b = behind()
    for name, header in BAD.items():
        for door in b.doors:
            assert say(b.doors[door], header, PROXY) == b"", (name, door)
    log = b.chasq.log()
    assert "smtpd connect" not in log and log.count("listen refused") < 20
    assert b.refused() == len(BAD) * len(b.doors)
    logged(b, BAD["no-header"], PROXY, "PROXY header: no header")
    # And it goes on.
    assert relays(b, v1()) == 550


@pytest.mark.parametrize("header", [v1(), v2(), v2(0x21, 0x21, client="2001:db8::7"), b"PROXY UNKNOWN\r\n",
                                    v2(rest=v2()[16:] + b"\x04\x01\x00" + bytes(256))],
                         ids=["v1", "v2", "v2-6", "unknown", "v2-tlv"])
def test_pieces_and_what_follows(behind, header):
    """A header one byte at a time; then the session, whose first bytes came along with its last one."""
    b = behind()
    with ProxyClient(b.chasq.port) as c:
        for i in range(len(header) - 1):
            c.send(header[i:i + 1])
        assert c.silent(0.05)
        c.send(header[-1:] + b"EHLO early.test\r\nNOOP\r\n")
        assert c.read().code == 220
        assert "mx.here.test" in c.read().text and c.read().code == 250
    # TLS begins behind the header, in the same packet.
    with ProxyClient(b.doors["submissions"]) as c:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = ssl._create_unverified_context().wrap_bio(incoming, outgoing, server_hostname="mx.test")
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        c.send(header + outgoing.read())
        while True:
            incoming.write(c.sock.recv(65536))
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                c.send(outgoing.read() or b"")
        c.send(outgoing.read())
        while True:
            try:
                assert tls.read(3) == b"220"
                break
            except ssl.SSLWantReadError:
                incoming.write(c.sock.recv(65536))


def test_one_header_only(behind):
    """A second header, of the client's own, is a command that nobody knows, and changes nothing."""
    b = behind(conf={"trusted_network": "192.168.1.0/24"})
    port = b.front("smtp", "send-proxy-v2", accept=False)
    for second in (v1("192.168.1.5"), v2(client="192.168.1.5"), b"PROXY UNKNOWN\r\n"):
        # Behind the one of our own, and as a client's first words through the real proxy.
        for to, header, source in ((b.chasq.port, v1(), PROXY), (port, b"", None)):
            with ProxyClient(to, header, source) as c, contextlib.suppress(Closed):
                c.send(second + b"EHLO x\r\n")
                assert (reply := c.read()).code >= 500, reply
                while c.read().code != 250:
                    pass
                c.cmd("MAIL FROM:<a@none.test>", 250)
                c.cmd("RCPT TO:<x@far.test>", 550)
    assert "peer=192.168.1.5" not in b.chasq.log()


def flow(port, count):
    """So many messages one after the other; seconds."""
    start = time.monotonic()
    for _ in range(count):
        with ProxyClient(port, v1(), source=None) as c:
            c.hello()
            c.message("a@pass.test", "user@here.test", TEXT)
    return time.monotonic() - start


def test_half_open_headers_are_in_nobodys_way(behind, short_build):
    """200 connections of a trusted address that begin a header and do not end it: honest mail flows,
    and all of them are closed."""
    b = behind(program=short_build)
    port = b.front("smtp", "send-proxy-v2")
    count = 1000 if harness.FULL else 100
    undisturbed = flow(port, count)
    crowd, over = [], threading.Event()
    gone = 0

    def keep_up():
        """200 of them at any time: one that was closed comes again."""
        nonlocal gone
        while not over.is_set():
            while len(crowd) < 200:
                s = socket.create_connection(("127.0.0.1", b.chasq.port), 10, (PROXY, 0))
                with contextlib.suppress(OSError):
                    s.send([b"", b"P", b"PROXY TCP4 ", V2, V2 + b"\x21\x11\x00\x0c", v1()[:-1]][len(crowd) % 6])
                s.setblocking(False)
                crowd.append(s)
            for s in list(crowd):
                try:
                    s.recv(1)
                except BlockingIOError:
                    continue
                except ConnectionResetError:
                    pass
                s.close()
                crowd.remove(s)
                gone += 1
            over.wait(0.05)

    t = threading.Thread(target=keep_up, daemon=True)
    t.start()
    try:
        wait_for(lambda: gone >= 136, 20, "all but 64 of 200 headers to make way")
        disturbed = flow(port, count)
    finally:
        over.set()
        t.join()
    print(f"{count} messages: {undisturbed:.2f} s undisturbed, {disturbed:.2f} s beside 200 half-open headers; "
          f"{gone} closed")
    b.chasq.wait_messages("user", 2 * count, seconds=60)
    assert disturbed < 5 * undisturbed + 5
    # The last ones are closed for being late, also those that send a byte now and then.
    slow = socket.create_connection(("127.0.0.1", b.chasq.port), 10, (PROXY, 0))
    slow.settimeout(0.1)
    begun = time.monotonic()
    with contextlib.suppress(OSError):
        for byte in b"PROXY UNKNOWN " + b"x" * 80:
            slow.send(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                if slow.recv(1) == b"":
                    break
    assert 1.5 < time.monotonic() - begun < 6
    for s in crowd:
        s.setblocking(True)
        s.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert s.recv(1) == b""
        s.close()
    slow.close()


# ---- changes ------------------------------------------------------------------------------------


def test_reload(behind):
    """New connections follow the new configuration; those that are there stay."""
    b = behind()

    def reload(**conf):
        b.chasq.conf.update(conf)
        b.chasq.write_conf()
        done = b.chasq.run("reload", "-C", b.chasq.dir)
        assert done.returncode == 0, done
        return done.stdout.decode()

    with ProxyClient(b.chasq.port, v1()) as old, ProxyClient(b.chasq.port) as half:
        half.send(v1()[:20])
        assert "changed haproxy_incoming: true -> false" in reload(haproxy_incoming=False)
        with Client(b.chasq.port, source=STRANGER) as c:
            c.hello()
        half.send(v1()[20:])
        assert half.read().code == 220
        assert "changed haproxy_trusted" in reload(haproxy_incoming=True, haproxy_trusted=f"{STRANGER}/32")
        with ProxyClient(b.chasq.port, v1(OTHER), source=STRANGER) as c:
            c.hello()
        with pytest.raises(AssertionError, match="421 4.7.0 mx.here.test is reached through its proxy only"):
            Client(b.chasq.port, source=PROXY)
        old.hello()
        half.hello()


def test_stop_with_headers_under_way(behind):
    b = behind()
    with ProxyClient(b.chasq.port) as half:
        half.send(v1()[:20])
        b.chasq.process.kill(signal.SIGTERM)
        assert half.at_end()
        assert b.chasq.process.wait(10) == 0
