"""MTA-STS with a real web server: which policy is taken, what a broken or hostile one makes of it,
the cache, and what becomes of mail."""

import os
import re
import socket
import ssl
import subprocess
import threading
import time

import pytest

import certs
import harness
from conftest import STS_PORT
from nginx import Nginx, Site
from smtpclient import send

WEB = "127.0.0.21"
ENFORCE = "version: STSv1\r\nmode: enforce\r\nmx: {}\r\nmax_age: 86400\r\n"
POLICY = ENFORCE.format("mx.far.test")
MESSAGE = b"From: sender@here.test\r\nSubject: hello\r\n\r\nbody\r\n"


@pytest.fixture(scope="session")
def ca(tmp_path_factory):
    class Authority:
        dir = tmp_path_factory.mktemp("sts-certs")
        root = certs.make_ca(dir)

        def cert(self, *names, **kwargs):
            return certs.make_cert(self.dir, list(names), self.root, **kwargs)

    a = Authority()
    a.web = a.cert("mta-sts.far.test")
    a.mx = a.cert("mx.far.test")
    return a


def zone(domain="far.test", record="v=STSv1; id=1;", web=(WEB,), more=()):
    lines = ["zone test"]
    if record:
        lines.append(f'_mta-sts.{domain} TXT "{record}"')
    lines += [f"mta-sts.{domain} A {a}" for a in web]
    return "\n".join([*lines, *more]) + "\n"


class Try:
    """Runs sts_try with a data directory of its own."""

    def __init__(self, box, program, dns, ca):
        self.argv = [program.parent / "sts_try", "-v", "-s", dns.server, "-r", ca.root.pem]
        self.data = box.dir("data")
        self.path = box.path

    def __call__(self, *domains, wrap=(), wait=0):
        """The answers, as text behind the domain."""
        done = subprocess.run([*map(str, [*wrap, *self.argv, "-d", self.data, "-w", wait]), *domains],
                              capture_output=True, text=True, timeout=60, check=False)
        self.log = done.stderr
        with open(self.path / "sts_try.log", "a", encoding="utf-8") as f:
            f.write(done.stderr + done.stdout)
        assert done.returncode == 0, done.stderr
        answers = dict(line.split(" ", 1) for line in done.stdout.splitlines())
        return [answers[d] for d in domains] if len(domains) > 1 else answers[domains[0]]

    def cached(self, domain="far.test"):
        path = self.data / "sts-cache" / f"p:{domain}"
        return path.read_text() if path.exists() else None


@pytest.fixture
def sts(box, dnsd, sts_build, ca):
    """A function: starts nginx for one site of far.test (None: no web server) and a name server."""

    def make(policy=POLICY, cert=None, record="v=STSv1; id=1;", web=(WEB,), nginx=True, **kwargs):
        make.dns = dnsd(zone(record=record, web=web))
        make.site = Site(WEB, "far.test", cert or ca.web, policy, **kwargs)
        make.web = Nginx(box, STS_PORT, [make.site]) if nginx else None
        return Try(box, sts_build, make.dns, ca)

    return make


# ---- policies that are taken --------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["enforce", "testing"])
def test_policy_is_fetched(sts, mode):
    ask = sts(POLICY.replace("enforce", mode).replace("mx:", "mx: *.Wild.test\r\nmx:"))
    assert ask("far.test") == f"{mode} max_age=86400 mx=*.wild.test,mx.far.test"
    assert sts.web.requests(sts.site) == ["GET /.well-known/mta-sts.txt HTTP/1.1"]
    cached = ask.cached()
    assert f"mode: {mode.upper()}" in cached and 'id: "1"' in cached and "max_age: 86400" in cached
    # The same id: no second fetch, not by another process either.
    assert ask("far.test").startswith(mode)
    assert len(sts.web.requests(sts.site)) == 1


def test_mode_none(sts):
    ask = sts("version: STSv1\nmode: none\nmax_age: 0600")
    assert ask("far.test") == "none max_age=600 mx="


def test_no_record_no_fetch(sts):
    ask = sts(record=None)
    assert ask("far.test") == "-"
    assert sts.web.requests(sts.site) == []
    sts.dns.write(zone() + '_mta-sts.far.test TXT "v=STSv1; id=2;"\n')
    assert ask("far.test") == "-", "two records are as good as none"
    sts.dns.write(zone() + '_mta-sts.far.test TXT "google-site-verification=x"\n')
    assert ask("far.test").startswith("enforce")


def test_record_over_cname(sts):
    ask = sts()
    sts.dns.write("zone test\n_mta-sts.far.test CNAME _mta-sts.host.test\n"
                  '_mta-sts.host.test TXT "v=STSv1; " "id=1;"\n'
                  f"mta-sts.far.test CNAME web.host.test\nweb.host.test A {WEB}\n")
    assert ask("far.test").startswith("enforce")


def test_chunked_and_parameters(sts):
    """As a proxy would send it: chunks, a charset, fields of its own."""
    ask = sts(type="text/plain", extra="charset utf-8; ssi on; ssi_types text/plain; add_header X-A b;")
    assert ask("far.test").startswith("enforce"), ask.log


def test_tls_13_or_12(sts):
    ask = sts(protocols="TLSv1.2")
    assert ask("far.test").startswith("enforce")


def test_other_address_is_tried(sts):
    ask = sts(web=("127.0.0.22", WEB))
    assert ask("far.test").startswith("enforce"), ask.log


def test_names_that_are_none(sts):
    ask = sts()
    names = ["a/b.test", "../etc", "a\nb", "x" * 300, "[127.0.0.1]", "FAR.test", ".", "a..b"]
    subprocess_names = [n for n in names if "\n" not in n]
    assert ask(*subprocess_names) == ["-"] * len(subprocess_names)
    assert sts.dns.questions() == []
    assert os.listdir(ask.data) == ["sts-cache"] and not os.listdir(ask.data / "sts-cache")


def test_internationalised_domain(box, dnsd, sts_build, ca):
    ascii_name = "xn--and-6ma2c.test"
    dns = dnsd(zone(ascii_name))
    Nginx(box, STS_PORT, [Site(WEB, ascii_name, ca.cert("mta-sts." + ascii_name), POLICY)])
    ask = Try(box, sts_build, dns, ca)
    assert ask("ñandú.test").startswith("enforce"), ask.log
    assert 'domain: "ñandú.test"' in ask.cached("ñandú.test")


def test_several_domains(box, dnsd, sts_build, ca):
    names = [f"d{i}.test" for i in range(9)]
    dns = dnsd("zone test\n" + "".join(zone(n).replace("zone test\n", "") for n in names))
    Nginx(box, STS_PORT, [Site(WEB, n, ca.cert("mta-sts." + n), ENFORCE.format("mx." + n)) for n in names])
    ask = Try(box, sts_build, dns, ca)
    assert ask(*names) == [f"enforce max_age=86400 mx=mx.{n}" for n in names], ask.log


# ---- policies that are not ----------------------------------------------------------------------

BAD_SITES = {
    "redirect-301": ({"extra": "return 301 https://$host/other.txt;"}, "HTTP status 301"),
    "redirect-302": ({"extra": "location /.well-known/ { return 302 /mta-sts.txt; }"}, "HTTP status 302"),
    "not-found": ({"extra": "location /.well-known/ { return 404; }"}, "HTTP status 404"),
    "forbidden": ({"extra": "deny all;"}, "HTTP status 403"),
    "server-error": ({"extra": "location /.well-known/ { return 500; }"}, "HTTP status 500"),
    "no-content": ({"extra": "location /.well-known/ { return 204; }"}, "HTTP status 204"),
    "html": ({"type": "text/html"}, "media type"),
    "binary": ({"type": "application/octet-stream"}, "media type"),
    "oversized": ({"policy": POLICY + "x: " + "y" * 65536 + "\r\n"}, "more than 65536 bytes"),
    "oversized-chunked": ({"policy": POLICY + "x: " + "y" * 65536 + "\r\n",
                           "extra": "ssi on; ssi_types text/plain;"}, "more than 65536 bytes"),
    "garbage": ({"policy": "<html>hello</html>"}, "malformed line"),
    "empty": ({"policy": ""}, "no version"),
    "nul": ({"policy": POLICY + "x: a\0b\r\n"}, "control characters"),
    "bad-mx": ({"policy": POLICY + "mx: *.*.test\r\n"}, "malformed mx"),
}


@pytest.mark.parametrize("name", BAD_SITES)
def test_bad_site(sts, name):
    site, why = BAD_SITES[name]
    ask = sts(**site)
    assert ask("far.test") == "-"
    assert why in ask.log and "sts policy not fetched" in ask.log
    assert ask.cached() is None


def test_largest_policy(sts):
    policy = POLICY + "x: "
    ask = sts(policy + "y" * (65536 - len(policy)))
    assert ask("far.test").startswith("enforce"), ask.log


@pytest.mark.parametrize("which", ["expired", "not-yet", "self-signed", "wrong-name", "parent-name"])
def test_bad_certificate(sts, ca, which):
    cert = {
        "expired": lambda: ca.cert("mta-sts.far.test", start=-60, days=30),
        "not-yet": lambda: ca.cert("mta-sts.far.test", start=30),
        "self-signed": lambda: certs.make_cert(ca.dir, ["mta-sts.far.test"]),
        "wrong-name": lambda: ca.cert("mta-sts.other.test"),
        "parent-name": lambda: ca.cert("far.test", "www.far.test"),
    }[which]()
    ask = sts(cert=cert)
    assert ask("far.test") == "-"
    assert "certificate" in ask.log and sts.web.requests(sts.site) == [], "nothing may be sent"


def test_wildcard_certificate(sts, ca):
    ask = sts(cert=ca.cert("*.far.test"))
    assert ask("far.test").startswith("enforce"), ask.log


def test_nobody_there(sts):
    ask = sts(nginx=False)
    assert ask("far.test") == "-"
    assert "refused" in ask.log
    sts.dns.write(zone(web=()))
    assert ask("far.test") == "-"
    assert "no such domain" in ask.log


# ---- hostile servers ----------------------------------------------------------------------------


class Hostile:
    """A TLS server that answers every request with what a generator yields, as long as it is wanted."""

    def __init__(self, cert, answer, tls=True):
        self.answer = answer
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert.fullchain, cert.key)
        self.tls = tls
        self.sent = 0
        self.over = threading.Event()
        self.listener = socket.create_server((WEB, STS_PORT))
        self.listener.settimeout(0.2)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.over.is_set():
            try:
                sock, _ = self.listener.accept()
            except OSError:
                continue
            try:
                with sock:
                    sock.settimeout(10)
                    if self.tls:
                        with self.context.wrap_socket(sock, server_side=True) as s:
                            self.serve(s)
                    else:
                        self.serve(sock)
            except OSError:
                pass

    def serve(self, s):
        if self.tls:
            data = b""
            while b"\r\n\r\n" not in data:
                more = s.recv(1000)
                if not more:
                    return
                data += more
        for piece in self.answer():
            if self.over.is_set():
                return
            s.sendall(piece)
            self.sent += len(piece)

    def stop(self):
        self.over.set()
        self.thread.join(15)
        self.listener.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


def trickle(data, pause):
    for i in range(len(data)):
        time.sleep(pause)
        yield data[i:i + 1]


def forever(start, piece):
    yield start
    while True:
        yield piece


HOSTILE = {
    "trickle": (lambda: trickle(HEAD + b"\r\n" + POLICY.encode(), 0.05), "took too long"),
    "silent": (lambda: trickle(b"x" * 100, 1), "took too long"),
    "endless-status": (lambda: forever(b"HTTP/1.1 200 ", b"x" * 1000), "too long"),
    "endless-header": (lambda: forever(HEAD, b"X-Y: z\r\n" * 100), "too long"),
    "interim-flood": (lambda: forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 50), "too long"),
    "endless-content": (lambda: forever(HEAD + b"\r\n", b"x" * 4000), "more than"),
    "endless-chunks": (lambda: forever(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 100),
                       "more than"),
    "huge-chunk": (lambda: [HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffff0\r\n"], "more than"),
    "bad-chunk": (lambda: [HEAD + b"Transfer-Encoding: chunked\r\n\r\nhello\r\n"], "malformed chunk"),
    "two-lengths": (lambda: [HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
                    "two ways"),
    "closes": (lambda: [], "too early"),
    "half": (lambda: [HEAD + b"Content-Length: 500\r\n\r\n" + POLICY.encode()], "too early"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_server(box, sts, ca, name):
    answer, why = HOSTILE[name]
    ask = sts(nginx=False)
    server = Hostile(ca.web, answer)
    box.on_stop(server.stop)
    begun = time.monotonic()
    assert ask("far.test") == "-"
    assert why in ask.log
    assert time.monotonic() - begun < 10
    assert server.sent < 4_000_000


def test_no_tls(box, sts, ca):
    ask = sts(nginx=False)
    box.on_stop(Hostile(ca.web, lambda: [HEAD + b"\r\n" + POLICY.encode()], tls=False).stop)
    assert ask("far.test") == "-"


def test_cut_by_somebody_in_between(box, sts, ca):
    """Content that ends with the stream counts only when the server itself ended it."""
    ask = sts(nginx=False)

    class Cut(Hostile):
        clean = False

        def serve(self, s):
            super().serve(s)
            if self.clean:
                s.unwrap()

    server = Cut(ca.web, lambda: [HEAD + b"\r\n" + POLICY.encode()])
    box.on_stop(server.stop)
    assert ask("far.test") == "-" and "too early" in ask.log
    server.clean = True
    assert ask("far.test").startswith("enforce"), ask.log


# ---- the cache ----------------------------------------------------------------------------------


def test_new_id_new_policy(sts):
    ask = sts()
    assert ask("far.test").endswith("mx=mx.far.test")
    sts.site.policy = ENFORCE.format("new.far.test")
    sts.web.write(sts.site)
    assert ask("far.test").endswith("mx=mx.far.test"), "the id has not changed"
    sts.dns.write(zone(record="v=STSv1; id=2;"))
    assert ask("far.test").endswith("mx=new.far.test")
    assert 'id: "2"' in ask.cached()


def test_cached_holds(sts):
    """Without server, with a broken policy, without record, without DNS: what was known holds."""
    ask = sts()
    assert ask("far.test").startswith("enforce")
    sts.site.policy = "broken"
    sts.web.write(sts.site)
    sts.dns.write(zone(record="v=STSv1; id=2;"))
    assert ask("far.test").startswith("enforce")
    assert "cached=enforce" in ask.log
    sts.web.stop()
    assert ask("far.test").startswith("enforce")
    sts.dns.write(zone(record=None))
    assert ask("far.test").startswith("enforce")
    sts.dns.write(zone() + "_mta-sts.far.test ! servfail\n")
    assert ask("far.test").startswith("enforce")
    assert ask("far.test", wrap=harness.at_time("+23h")).startswith("enforce")
    # A clock that was never set: nothing is over.
    assert ask("far.test", wrap=harness.at_time("@1970-01-02 00:00:00")).startswith("enforce")
    # Last, for the refresh may remove what is over.
    assert ask("far.test", wrap=harness.at_time("+25h")) == "-"


def test_cached_runs_out(sts):
    ask = sts(POLICY.replace("86400", "1"))
    assert ask("far.test").startswith("enforce")
    sts.web.stop()
    time.sleep(1.1)
    assert ask("far.test") == "-"


def test_policy_is_taken_back(sts):
    ask = sts()
    assert ask("far.test").startswith("enforce")
    sts.site.policy = "version: STSv1\nmode: none\nmax_age: 86400\n"
    sts.web.write(sts.site)
    sts.dns.write(zone(record="v=STSv1; id=2;"))
    assert ask("far.test").startswith("none")
    sts.web.stop()
    sts.dns.write(zone(record=None))
    assert ask("far.test").startswith("none")


def test_refresh_in_the_background(sts):
    ask = sts(POLICY.replace("86400", "10"))
    assert ask("far.test").startswith("enforce")
    sts.site.policy = ENFORCE.format("new.far.test")
    sts.web.write(sts.site)
    path = ask.data / "sts-cache/p:far.test"
    fetched = int(re.search(r"fetched: (\d+)", path.read_text())[1])
    path.write_text(path.read_text().replace(str(fetched), str(fetched - 6)))
    (ask.data / "sts-cache/p:over.test").write_text(
        'domain: "over.test" id: "1" fetched: 1 max_age: 5 mode: ENFORCE mx: "a.test"')
    assert ask("far.test", wait=2500).startswith("enforce")
    assert "mx: \"new.far.test\"" in ask.cached()
    assert not (ask.data / "sts-cache/p:over.test").exists()
    assert ask("far.test") == "enforce max_age=86400 mx=new.far.test"
    sts.web.stop()


def test_cache_survives_foreign_files(sts):
    ask = sts()
    cache = ask.data / "sts-cache"
    cache.mkdir()
    (cache / "pol:far.test").write_text('{"version":"STSv1","mode":"enforce","mx":["mx1"],"max_age":1}')
    (cache / "p:far.test").write_text("torn")
    (cache / "p:%2Fetc").write_text("")
    assert ask("far.test").startswith("enforce")
    assert 'domain: "far.test"' in ask.cached()
    assert (cache / "pol:far.test").exists()


# ---- mail ---------------------------------------------------------------------------------------


@pytest.fixture
def road(box, chasq, sink, dnsd, sts_build, ca):
    """A function: a chasq, a policy for far.test, and sinks, one for each dict of arguments, as
    mx.far.test, mx2.far.test, ... Returns chasq and the sinks."""

    def make(policy, *kinds):
        addresses = [f"127.0.0.{i + 2}" for i in range(len(kinds))]
        port = harness.free_port(*addresses)
        hosts = ["mx.far.test" if i == 0 else f"mx{i + 1}.far.test" for i in range(len(kinds))]
        sinks = [sink(address=a, port=port, **k) for a, k in zip(addresses, kinds)]
        dns = dnsd(zone(more=[f"far.test MX {10 * i} {h}" for i, h in enumerate(hosts)] +
                        [f"{h} A {a}" for h, a in zip(hosts, addresses)]))
        if policy:
            Nginx(box, STS_PORT, [Site(WEB, "far.test", ca.web, policy)])
        c = chasq(conf={"dns_servers": dns.server, "remote_smtp_port": port, "tls_roots": str(ca.root.pem),
                        "trusted_network": "127.0.0.0/8"},
                  domains={"here.test": {"users": ["sender"]}}, program=sts_build, start=False)
        c.start("-v")
        send(c.port, "sender@here.test", ["b@far.test"], MESSAGE)
        return (c, *sinks)

    return make


def self_signed(ca, name="mx.far.test"):
    return certs.make_cert(ca.dir, [name])


def test_mail_to_a_listed_host(road, ca):
    c, s = road(POLICY, {"cert": ca.mx})
    c.wait_queue_empty()
    assert len(s.messages) == 1 and s.sessions[0].tls
    assert "sts policy fetched" in c.log()


@pytest.mark.parametrize("kind", ["self-signed", "no-tls", "wrong-name", "expired"])
def test_mail_to_a_host_that_is_not_good_enough(road, ca, kind):
    """enforce: it waits, and nothing is sent."""
    c, s = road(POLICY, {"self-signed": {"cert": self_signed(ca)}, "no-tls": {},
                         "wrong-name": {"cert": ca.cert("other.test")},
                         "expired": {"cert": ca.cert("mx.far.test", start=-60, days=30)}}[kind])
    text = c.wait_attempt()
    assert b"PENDING" in text and len(c.queued()) == 1
    assert not s.messages
    assert not any(str(x).upper().startswith("MAIL") for session in s.sessions for x in session.commands)


def test_only_listed_hosts(road, ca):
    """mx, which is preferred and would take it, is not in the policy; mx2 is."""
    mx2 = ca.cert("mx2.far.test")
    c, first, second = road(ENFORCE.format("mx2.far.test"), {"cert": ca.mx}, {"cert": mx2})
    c.wait_queue_empty()
    assert len(second.messages) == 1 and not first.messages
    assert not any(str(x).upper().startswith("MAIL") for s in first.sessions for x in s.commands)


def test_no_listed_host(road, ca):
    c, s = road(ENFORCE.format("*.elsewhere.test"), {"cert": ca.mx})
    text = c.wait_attempt()
    assert b"PENDING" in text and not s.messages


def test_listed_host_is_self_signed_and_the_other_not_listed(road, ca):
    c, first, second = road(ENFORCE.format("mx2.far.test"), {"cert": ca.mx},
                            {"cert": self_signed(ca, "mx2.far.test")})
    text = c.wait_attempt()
    assert b"PENDING" in text and not first.messages and not second.messages


@pytest.mark.parametrize("listed,good,why", [
    ("mx9.far.test", False, "the host is not listed"),
    ("mx.far.test", False, "the certificate is not good"),
    ("mx.far.test", True, None)])
def test_testing_delivers(road, ca, listed, good, why):
    c, s = road(ENFORCE.format(listed).replace("enforce", "testing"),
                {"cert": ca.mx if good else self_signed(ca)})
    c.wait_queue_empty()
    assert len(s.messages) == 1
    reports = [x for x in c.log().splitlines() if "MTA-STS in testing mode would refuse" in x]
    assert len(reports) == (1 if why else 0)
    assert not why or f'why="{why}"' in reports[0]


def test_no_policy_delivers(road, ca):
    c, s = road(None, {"cert": self_signed(ca)})
    c.wait_queue_empty()
    assert len(s.messages) == 1
    assert "sts policy not fetched" in c.log()


def test_mode_none_delivers(road, ca):
    c, s = road("version: STSv1\nmode: none\nmax_age: 100\n", {"cert": self_signed(ca)})
    c.wait_queue_empty()
    assert len(s.messages) == 1
