"""The SMTP client under TLS: levels, the ladder, smarthosts with logins, masquerade, via with ports."""

import os
import re

import pytest

import certs
import dovecot
import harness
import peers
from contents import HARD
from harness import Raw, quote
from sink import Bytes, Drop
from smtpclient import send

HOST = "mx.far.test"
MESSAGE = b"From: sender@here.test\r\nSubject: hello\r\n\r\nbody\r\n"


@pytest.fixture(scope="session")
def ca(tmp_path_factory):
    """An authority, and certificates by name; session-wide, since making them takes time."""

    class Authority:
        dir = tmp_path_factory.mktemp("certs")
        root = certs.make_ca(dir)

    a = Authority()
    a.good = certs.make_cert(a.dir, [HOST], a.root)
    a.rsa = certs.make_cert(a.dir, [HOST], a.root, key="rsa")
    a.other_name = certs.make_cert(a.dir, ["other.test"], a.root)
    a.wild = certs.make_cert(a.dir, ["*.far.test"], a.root)
    a.self_signed = certs.make_cert(a.dir, [HOST])
    a.expired = certs.make_cert(a.dir, [HOST], a.root, start=-60, days=30)
    a.not_yet = certs.make_cert(a.dir, [HOST], a.root, start=30)
    return a


@pytest.fixture
def way(chasq, sink, dnsmasq, ca):
    """A function: starts sinks, one for each dict of arguments, on addresses of their own at one port
    as the MX of far.test, and a chasq that trusts the authority. Returns chasq and the sinks."""

    def make(*kinds, conf=None, domains=None, smarthosts=(), **kwargs):
        port = harness.free_port(*(f"127.0.0.{i + 2}" for i in range(len(kinds))))
        sinks = [sink(address=f"127.0.0.{i + 2}", port=port, **kind) for i, kind in enumerate(kinds)]
        hosts = {HOST if i == 0 else f"mx{i + 1}.far.test": [f"127.0.0.{i + 2}"]
                 for i in range(len(kinds))}
        dns = dnsmasq(mx={"far.test": [(10 * i, h) for i, h in enumerate(hosts)]}, hosts=hosts)
        c = chasq(conf={"dns_servers": dns.server, "remote_smtp_port": port,
                        "trusted_network": "127.0.0.0/8", "tls_roots": str(ca.root.pem),
                        **({"smarthost": [block(port=port, **s) for s in smarthosts]} if smarthosts else {}),
                        **(conf or {})},
                  domains=domains or {"here.test": {"users": ["sender"]}}, **kwargs)
        return (c, *sinks)

    return make


def block(port, address=HOST, **keys):
    """A block of chasq.conf."""
    keys = {"address": f"{address}:{port}", **keys}
    text = " ".join(f"{k}: {v if isinstance(v, Raw) else 'true' if v is True else quote(v)}"
                    for k, v in keys.items())
    return Raw("{ " + text + " }")


def secret(c, text, name="password", mode=0o600):
    path = c.dir / name
    path.write_text(text)
    path.chmod(mode)
    return path


def submit(c, to=("b@far.test",), sender="sender@here.test", content=MESSAGE):
    send(c.port, sender, list(to), content)


def level(c):
    """The level of the last delivery, by the log."""
    return re.findall(r' sent .* remote="[^"]* (\w+)"', c.log())[-1]


# ---- levels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("which, want", [
    ("good", "TLS_SECURE"), ("rsa", "TLS_SECURE"), ("wild", "TLS_SECURE"),
    ("other_name", "TLS_INSECURE"), ("self_signed", "TLS_INSECURE"), ("expired", "TLS_INSECURE"),
    ("not_yet", "TLS_INSECURE")])
def test_level_of_certificate(way, ca, which, want):
    c, s = way({"cert": getattr(ca, which)}, start=False)
    c.start("-v")
    submit(c, content=HARD["dots"])
    c.wait_queue_empty()
    assert harness.drop_trace(s.messages[0].data) == harness.drop_trace(HARD["dots"])
    assert s.sessions[0].tls and len(s.sessions) == 1, s.commands()
    assert s.sessions[0].sni == HOST
    assert level(c) == want


def test_large_message(way, ca):
    c, s = way({"cert": ca.good})
    content = MESSAGE + b"x" * 70 + b"\r\n" + (b"y" * 76 + b"\r\n") * 50000
    submit(c, content=content)
    c.wait_queue_empty(60)
    assert harness.drop_trace(s.messages[0].data) == harness.drop_trace(content)


def test_not_offered_is_plain(way):
    c, s = way({})
    submit(c)
    c.wait_queue_empty()
    assert s.sessions[0].tls is None and level(c) == "PLAIN"


# ---- the ladder ---------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [
    {"STARTTLS": "454 4.7.0 not now"},
    {"HANDSHAKE": Bytes(b"this is no handshake, whatever you think\r\n")},
    {"HANDSHAKE": Drop()},
    {"STARTTLS": Drop()},
], ids=["refused", "garbage", "drop", "drop-early"])
def test_failed_tls_is_tried_plain(way, ca, script):
    c, s = way({"cert": ca.good, "script": script})
    submit(c)
    c.wait_queue_empty()
    assert len(s.messages) == 1 and len(s.sessions) == 2
    assert not any(x.upper().startswith("STARTTLS") for x in map(str, s.sessions[1].commands))
    assert level(c) == "PLAIN"
    assert "trying without" in c.log()


def test_response_injection(way, ca):
    """Replies behind the 220, from before the handshake, are not those to our commands."""
    c, s = way({"cert": ca.good, "script": {"STARTTLS": Bytes(
        b"220 go\r\n250-evil\r\n250 SIZE 10\r\n250 ok\r\n550 5.1.1 nobody\r\n")}})
    submit(c)
    c.wait_queue_empty()
    assert len(s.messages) == 1 and not c.messages("sender")


# ---- smarthost ----------------------------------------------------------------------------------


def test_smarthost_takes_all(way, ca):
    c, s = way({"cert": ca.good}, smarthosts=[{}])
    submit(c, ["a@far.test", "b@elsewhere.test", "c@third.example"])
    c.wait_queue_empty()
    assert s.messages[0].recipients == ["a@far.test", "b@elsewhere.test", "c@third.example"]
    assert level(c) == "TLS_SECURE"


def test_smarthost_not_for_local(way, ca):
    c, s = way({"cert": ca.good}, smarthosts=[{}])
    submit(c, ["sender@here.test"])
    c.wait_messages("sender")
    assert not s.sessions


@pytest.mark.parametrize("which", ["other_name", "self_signed", "expired"])
def test_smarthost_wants_a_good_certificate(way, ca, which):
    c, s = way({"cert": getattr(ca, which)}, smarthosts=[{}])
    submit(c)
    text = c.wait_attempt()
    assert b"454 4.7.5" in text and b"TLS_INSECURE" in text
    assert not s.messages and s.commands() == ["EHLO chasq.test", "STARTTLS"]


@pytest.mark.parametrize("script", [{"STARTTLS": "454 4.7.0 no"}, {"HANDSHAKE": Drop()},
                                    {"EHLO": "250 sink.test"}, {"CONNECT": "554 5.7.1 blocked"}],
                         ids=["refused", "drop", "stripped", "blocked"])
def test_smarthost_never_plain(way, ca, script):
    c, s = way({"cert": ca.good, "script": script}, smarthosts=[{}])
    submit(c)
    c.wait_attempt()
    assert not s.messages and not any(x.startswith("MAIL") for x in s.commands())


def test_smarthost_insecure(way, ca):
    c, s = way({"cert": ca.self_signed}, smarthosts=[{"insecure": True}])
    submit(c)
    c.wait_queue_empty()
    assert len(s.messages) == 1 and level(c) == "TLS_INSECURE"


def test_smarthost_pinned(way, ca):
    c, s = way({"cert": ca.self_signed},
               smarthosts=[{"fingerprint": ca.self_signed.fingerprint()}])
    submit(c)
    c.wait_queue_empty()
    assert len(s.messages) == 1 and level(c) == "TLS_SECURE"


def test_smarthost_wrong_fingerprint(way, ca):
    c, s = way({"cert": ca.good}, smarthosts=[{"fingerprint": ca.rsa.fingerprint()}])
    submit(c)
    assert b"fingerprint" in c.wait_attempt()
    assert not s.messages


def test_smarthost_clock_not_set(way, ca):
    """A board that booted in 1970 takes every certificate for one of the future."""
    c, s = way({"cert": ca.good}, smarthosts=[{}], start=False)
    c.start(wrap=harness.at_time("@1970-01-02 00:00:00"), env={"ASAN_OPTIONS": "detect_leaks=0:"
                                                               "verify_asan_link_order=0"})
    submit(c)
    assert b"clock" in c.wait_attempt()
    assert not s.messages and not c.messages("sender")


def test_smarthost_dead_first(way, ca):
    c, s, t = way({"script": {"CONNECT": "421 4.3.2 closed"}, "cert": ca.good}, {"cert": ca.wild},
                  smarthosts=[{}, {"address": "mx2.far.test"}])
    s.stop()
    submit(c)
    c.wait_queue_empty()
    assert len(t.messages) == 1


def test_smarthost_by_sender(way, ca):
    c, s, t = way({"cert": ca.good}, {"cert": ca.wild},
                  smarthosts=[{"sender": "*@one.test"},
                              {"address": "mx2.far.test", "sender": "me@two.test"}])
    submit(c, sender="x@one.test")
    submit(c, sender="me@two.test")
    c.wait_queue_empty()
    assert [m.sender for m in s.messages] == ["x@one.test"]
    assert [m.sender for m in t.messages] == ["me@two.test"]
    submit(c, sender="other@two.test")  # direct, by MX
    c.wait_queue_empty()
    assert len(s.messages) == 2


@pytest.mark.parametrize("auth", ["PLAIN", "LOGIN", "BEST"])
@pytest.mark.parametrize("tls", ["STARTTLS", "IMPLICIT"])
def test_smarthost_login(way, ca, auth, tls):
    c, s = way({"cert": ca.good, "users": {"me": "geheim ß"}, "implicit": tls == "IMPLICIT"},
               smarthosts=[{"user": "me", "password_file": "password", "auth": Raw(auth),
                            "tls": Raw(tls)}], start=False)
    secret(c, "geheim ß\n")
    c.start("-v")
    submit(c)
    c.wait_queue_empty()
    assert len(s.messages) == 1 and s.sessions[0].login == "me" and s.sessions[0].tls
    assert "geheim" not in c.log() and "Z2VoZWlt" not in c.log()


def test_smarthost_wrong_password_and_change(way, ca):
    c, s = way({"cert": ca.good, "users": {"me": "right"}},
               smarthosts=[{"user": "me", "password_file": "password"}], start=False)
    path = secret(c, "wrong\n")
    c.start("-v")
    submit(c)
    assert b"wrong credentials" in c.wait_attempt()
    assert re.search(r"^error .*CREDENTIALS", c.log(), re.M)
    submit(c)
    harness.wait_for(lambda: "refused them before" in c.log(), 10, "the second message to be held back")
    assert len(s.sessions) == 1, "a refused password is not tried again and again"
    assert len(c.queued()) == 2 and not c.messages("sender"), "no bounce"
    path.write_text("right\n")
    c.run("flush", "-C", c.dir)
    c.wait_queue_empty()
    assert len(s.messages) == 2
    assert "wrong" not in re.sub("wrong credentials", "", c.log())


def test_smarthost_token(way, ca, box):
    c, s = way({"cert": ca.good, "users": {"me@x.test": "token" * 300}},
               smarthosts=[{"user": "me@x.test", "auth": Raw("XOAUTH2"),
                            "password_command": "echo warning >&2; cat token | head -n 1"}],
               start=False)
    secret(c, "token" * 300 + "\nexpires 123\n", "token")
    c.start("-v")
    submit(c)
    c.wait_queue_empty()
    assert s.sessions[0].login == "me@x.test"
    assert "tokentoken" not in c.log()


@pytest.mark.parametrize("command, why", [("false", "exit status 1"), ("true", "printed none")])
def test_smarthost_token_missing(way, ca, command, why):
    c, s = way({"cert": ca.good, "users": {"me": "x"}},
               smarthosts=[{"user": "me", "password_command": command}])
    submit(c)
    assert why.encode() in c.wait_attempt()
    assert not s.sessions


def start_fails(c):
    done = c.run("-t", "-c", c.dir)
    assert done.returncode == 1
    return done.stderr.decode()


def test_password_file_of_all(way, ca):
    c, s = way({"cert": ca.good}, smarthosts=[{"user": "me", "password_file": "password"}], start=False)
    assert "password: No such file" in start_fails(c)
    secret(c, "x\n", mode=0o644)
    assert "open to all users" in start_fails(c)
    secret(c, "\n", mode=0o640)
    assert "no password in it" in start_fails(c)


@pytest.mark.parametrize("keys, why", [
    ({"tls": Raw("NONE"), "user": "me", "password_command": "x"}, "in the clear"),
    ({"user": "me"}, "needs password_file or password_command"),
    ({"password_file": "x"}, "needs a user"),
    ({"fingerprint": "abcd"}, "64 hex digits"),
    ({"sender": "x"}, r"is not user@domain, \*@domain or \*"),
])
def test_bad_blocks(way, keys, why):
    c, s = way({}, smarthosts=[keys], start=False)
    assert re.search(r"chasq.conf:\d+: .*" + why, start_fails(c))


# ---- masquerade and via -------------------------------------------------------------------------


def test_masquerade(way, ca):
    c, s = way({"cert": ca.good}, smarthosts=[{"sender": "me@example.org"}],
               conf={"masquerade": [Raw('{ from: "root@chasq.test" to: "me@example.org" }'),
                                    Raw('{ from: "*@router.lan" to: "*@example.org" }')]})
    content = (b"From: root (Cron Daemon)\r\nSender: \"root@router.lan\" <ann@router.lan>\r\n"
               b"Reply-To: x@else.test,\r\n bob@router.lan\r\nTo: root@router.lan\r\n\r\n"
               b"From: root@router.lan\r\n")
    submit(c, sender="root@chasq.test", content=content)
    submit(c, ["sender@here.test"], sender="root@chasq.test", content=content)
    c.wait_queue_empty()
    m = s.messages[0]
    assert m.sender == "me@example.org"
    assert harness.drop_trace(m.data) == (
        b"From: me@example.org (Cron Daemon)\nSender: \"root@router.lan\" <ann@example.org>\n"
        b"Reply-To: x@else.test,\n bob@example.org\nTo: root@router.lan\n\nFrom: root@router.lan\n")
    assert b"From: root (Cron Daemon)" in c.wait_messages("sender")[0], "local mail keeps local names"


def test_via_with_ports(way, ca):
    c, s, t = way({"cert": ca.good}, {"cert": ca.good}, start=False)
    c.domains["here.test"]["aliases"] = (
        f"away: me@nowhere.test via mx9.far.test/127.0.0.9:{s.port}/{HOST}:{s.port}\n"
        f"literal: me@nowhere.test via 127.0.0.3:{s.port}\n")
    c.conf["remote_smtp_port"] = 9
    c.write_conf()
    c.start()
    submit(c, ["away@here.test"])
    submit(c, ["literal@here.test"])
    c.wait_queue_empty()
    assert s.messages[0].recipients == ["me@nowhere.test"] and s.sessions[0].tls
    assert t.messages[0].recipients == ["me@nowhere.test"] and t.sessions[0].tls


def test_secondary_mx(way, ca):
    c, s = way({"cert": ca.good}, domains={"here.test": {"users": ["sender"]}, "far.test": {
        "aliases": f"*: * via {HOST}\n"}})
    submit(c, ["anybody@far.test"])
    c.wait_queue_empty()
    assert s.messages[0].recipients == ["anybody@far.test"] and level(c) == "TLS_SECURE"


# ---- real servers -------------------------------------------------------------------------------


def test_exim_with_tls(chasq, exim, dnsmasq, ca):
    e = exim(address="127.0.0.2", main="tls_advertise_hosts = *\n"
             f"tls_certificate = {readable(ca.rsa.fullchain)}\ntls_privatekey = {readable(ca.rsa.key)}\n")
    dns = dnsmasq(mx={"far.test": [(0, HOST)]}, hosts={HOST: ["127.0.0.2"]})
    c = chasq(conf={"dns_servers": dns.server, "remote_smtp_port": e.port, "tls_roots": str(ca.root.pem),
                    "trusted_network": "127.0.0.0/8"})
    submit(c, content=HARD["dots"])
    c.wait_queue_empty()
    harness.wait_for(e.messages, 20, e.log)
    assert b"with esmtps" in e.messages()[0]
    assert level(c) == "TLS_SECURE"


@pytest.fixture
def provider(chasq, box, dnsmasq, ca):
    """A function: a real Postfix with Dovecot's SASL that knows me/geheim, and a chasq whose smarthost
    it is. Returns both."""

    def make(tls, password, auth="BEST", cert=None):
        if os.getuid() != 0:
            pytest.skip("Postfix must be started by root")
        d = dovecot.Dovecot(box, {"me": "geheim"}).start()
        p = peers.Postfix(box, address="127.0.0.2", cert=cert or ca.rsa, sasl=d.client)
        dns = dnsmasq(hosts={HOST: ["127.0.0.2"]})
        port = p.tls_port if tls == "IMPLICIT" else p.port
        c = chasq(conf={"dns_servers": dns.server, "tls_roots": str(ca.root.pem),
                        "trusted_network": "127.0.0.0/8",
                        "smarthost": block(port, user="me", password_file="password", tls=Raw(tls),
                                           auth=Raw(auth))}, start=False)
        secret(c, password + "\n")
        return c.start("-v"), p

    return make


@pytest.mark.parametrize("auth", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("tls", ["STARTTLS", "IMPLICIT"])
def test_postfix_with_sasl(provider, tls, auth):
    c, p = provider(tls, "geheim", auth)
    submit(c, ["a@one.test", "b@two.test"], content=HARD["dots"])
    c.wait_queue_empty()
    harness.wait_for(p.messages, 20, p.log)
    assert b"with ESMTPSA" in p.messages()[0]
    assert f"sasl_method={auth}, sasl_username=me" in p.log()
    assert level(c) == "TLS_SECURE" and "geheim" not in c.log()


def test_postfix_wrong_password(provider):
    c, p = provider("STARTTLS", "falsch")
    submit(c)
    assert b"wrong credentials: 535" in c.wait_attempt()
    assert "CREDENTIALS" in c.log() and "falsch" not in c.log()
    assert len(c.queued()) == 1 and not p.messages()
    secret(c, "geheim\n")
    c.run("flush", "-C", c.dir)
    c.wait_queue_empty()
    harness.wait_for(p.messages, 20, p.log)


def test_postfix_opportunistic(chasq, box, dnsmasq, ca):
    if os.getuid() != 0:
        pytest.skip("Postfix must be started by root")
    p = peers.Postfix(box, address="127.0.0.2", cert=ca.good)
    dns = dnsmasq(mx={"far.test": [(0, HOST)]}, hosts={HOST: ["127.0.0.2"]})
    c = chasq(conf={"dns_servers": dns.server, "remote_smtp_port": p.port, "tls_roots": str(ca.root.pem),
                    "trusted_network": "127.0.0.0/8"})
    submit(c)
    c.wait_queue_empty()
    harness.wait_for(p.messages, 20, p.log)
    assert b"with ESMTPS" in p.messages()[0] and level(c) == "TLS_SECURE"


def readable(path):
    """Servers give up being root before they read their key."""
    path.chmod(0o644)
    for d in list(path.parents)[:4]:
        if d.stat().st_uid == os.getuid() and d != d.parent:
            d.chmod(d.stat().st_mode | 0o055)
    return path
