"""chasq check: what it says of good and bad set-ups."""

import contextlib
import ipaddress
import os
import pwd
import re
import socket
import time

import pytest

import certs
import conftest
import harness
from sink import Bytes

HOST = "mx.here.test"
PUBLIC = "203.0.113.5"



def sources():
    """The addresses this machine sends from."""
    for family, far in ((socket.AF_INET, "198.51.100.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as s:
            s.connect((far, 25))
            yield ipaddress.ip_address(s.getsockname()[0])


# Whatever network the tests run in, its addresses have good names.
ZONE = f"""
{HOST} A {PUBLIC}
here.test MX 10 {HOST}
here.test TXT "v=spf1 ip4:{PUBLIC} a:out.here.test -all"
5.113.0.203.in-addr.arpa PTR {HOST}
""" + "".join(f"out.here.test {'A' if a.version == 4 else 'AAAA'} {a}\n{a.reverse_pointer} PTR out.here.test\n"
              for a in sources())


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    d = tmp_path_factory.mktemp("pki")
    ca = certs.make_ca(d)
    return {
        "dir": d,
        "ca": ca,
        "good": certs.make_cert(d, [HOST], ca),
        "other": certs.make_cert(d, ["other.test"], ca),
        "soon": certs.make_cert(d, [HOST], ca, days=10),
        "expired": certs.make_cert(d, [HOST], ca, start=-60, days=30),
        "future": certs.make_cert(d, [HOST], ca, start=30),
        "self": certs.make_cert(d, [HOST]),
    }


class Findings:
    def __init__(self, done):
        self.code = done.returncode
        self.text = (done.stdout + done.stderr).decode()
        assert not harness.SANITIZER_REPORT.search(self.text), self.text
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", self.text), repr(self.text)
        self.all = re.findall(r"^  (ok|note|warning|error) +(.*)$", self.text, re.M)
        print(self.text)

    def of(self, level):
        return [text for name, text in self.all if name == level]

    def has(self, level, *words):
        return any(all(w in text for w in words) for text in self.of(level))

    def clean(self):
        """No errors and no warnings."""
        return not self.of("error") and not self.of("warning") and self.code == 0


class Setup:
    """A server with everything in order, which a test then spoils."""

    def __init__(self, chasq, dnsd, pki, cert="good", zone=ZONE, conf=None, domains=None, **kwargs):
        self.submission, self.submissions = harness.free_port(), harness.free_port()
        self.zone = dnsd(zone)
        self.chasq = chasq(start=False, domains=domains, conf={
            "hostname": HOST, "dns_servers": self.zone.server, "tls_roots": str(pki["ca"].pem),
            "submission_address": f"127.0.0.1:{self.submission}",
            "submission_over_tls_address": f"127.0.0.1:{self.submissions}",
            **(conf or {})}, **kwargs)
        self.dir = self.chasq.dir
        if cert:
            pki[cert].install(self.dir / "certs", HOST)
        for users in self.dir.glob("domains/*/users"):
            users.chmod(0o600)
        for key in self.dir.glob("certs/*/privkey.pem"):
            key.chmod(0o600)
        self.user = None
        if os.getuid() == 0:
            self.user = "nobody"
            self.chasq.conf["user"] = self.user
            self.chasq.write_conf()
            for users in self.dir.glob("domains/*/users"):
                users.chmod(0o600)
            self.give(self.dir)
            self.chasq.data.mkdir(mode=0o700)
            self.give(self.chasq.data)

    def give(self, top):
        entry = pwd.getpwnam(self.user)
        for path in [top, *top.rglob("*")]:
            os.chown(path, entry.pw_uid, entry.pw_gid)

    def start(self):
        self.chasq.start()
        return self

    def check(self, *args, user=None):
        return Findings(self.chasq.run("check", "-C", self.dir, *args, timeout=120, user=user))


@pytest.fixture
def setup(chasq, dnsd, pki):
    return lambda **kwargs: Setup(chasq, dnsd, pki, **kwargs)


def test_all_is_well(setup, sink):
    s = setup().start()
    far = sink()
    f = s.check("-t", f"127.0.0.1:{far.port}")
    assert f.clean() and "All is well." in f.text
    assert f.has("ok", "chasq is running")
    assert f.has("ok", "is good: this server is " + HOST)
    assert f.has("ok", f"port {s.chasq.port}", "answers as " + HOST, "with TLS")
    assert f.has("ok", f"port {s.submission}", "with TLS") and f.has("ok", f"port {s.submissions}", "with TLS")
    assert f.has("ok", "the certificate shown there is trusted")
    assert f.has("ok", "certs/" + HOST, "days left")
    assert f.has("ok", f"{PUBLIC} is called {HOST}") and f.has("note", PUBLIC, "none of this machine")
    assert f.has("ok", "mail for here.test comes to " + HOST)
    assert f.has("ok", "SPF record of here.test lets us send from " + PUBLIC)
    assert f.has("note", "no DMARC record")
    assert f.has("ok", "127.0.0.1 is reached by port", "without TLS")
    # Nothing was sent, nobody logged in.
    assert [c.split()[0] for c in far.commands()] == ["EHLO", "QUIT"]
    assert s.chasq.queued() == []


def test_behind_a_proxy(setup):
    """The ports are asked as a proxy asks them; a proxy's network that is open to strangers is warned of."""
    s = setup(conf={"haproxy_incoming": True}).start()
    f = s.check()
    assert f.has("ok", f"port {s.chasq.port}", "answers as " + HOST, "with TLS")
    assert f.has("ok", f"port {s.submissions}", "with TLS") and not f.has("warning", "haproxy")
    s.chasq.conf["haproxy_trusted"] = ["203.0.113.0/24", "203.0.113.77", "10.0.0.0/8"]
    s.chasq.write_conf()
    f = s.check()
    assert f.has("warning", "haproxy_trusted: 203.0.113.0/24", "pretend to be anybody")
    assert len([t for t in f.of("warning") if "haproxy" in t]) == 1
    assert f.has("note", f"port {s.chasq.port}", "was not tried", "haproxy_trusted")


def test_not_running(setup):
    f = setup().check()
    assert f.code == 1 and f.has("error", "chasq is not running", "start it")
    assert f.has("note", "nobody answers, as chasq is not running")


def test_broken_configuration(setup):
    s = setup()
    with open(s.dir / "chasq.conf", "a") as conf:
        conf.write("hostnam: \"x\"\nmax_data_size_mb: -1\n")
    f = s.check()
    assert f.code == 1 and f.has("error", "chasq.conf:")
    assert len(f.all) <= 2


def test_broken_aliases(setup):
    s = setup()
    (s.dir / "domains/here.test/users").write_text("users: {{{")
    f = s.check()
    assert f.code == 1 and f.has("error", "domains/here.test/users:1")


# ---- certificates -------------------------------------------------------------------------------


@pytest.mark.parametrize("cert, level, words", [
    ("expired", "error", ("expired 3", "days ago")),
    ("future", "error", ("will not be valid for another 3", "clock")),
    ("soon", "warning", ("expires in", "days: does its renewal still run")),
    ("other", "warning", ("no certificate is for the name of this server", HOST)),
    ("self", "warning", ("self-signed", "mail programs will complain")),
])
def test_certificate(setup, cert, level, words):
    f = setup(cert=cert).start().check()
    assert f.has(level, *words)
    assert f.code == (1 if level == "error" else 0)


def test_no_certificate(setup):
    s = setup(cert=None, conf={"submission_address": None, "submission_over_tls_address": None}).start()
    f = s.check()
    assert f.has("warning", "there is no certificate", "privkey.pem")
    assert f.has("warning", f"port {s.chasq.port}", "without TLS")


def test_no_certificate_where_users_log_in(setup):
    """Such a server does not start."""
    f = setup(cert=None).check()
    assert f.has("error", "there is no certificate", "does not start", "privkey.pem")


def test_key_of_another(setup, pki):
    s = setup()
    (s.dir / "certs" / HOST / "privkey.pem").write_bytes(pki["other"].key.read_bytes())
    f = s.check()
    assert f.code == 1 and f.has("error", "privkey.pem: not the key of the certificate")


def test_chain_out_of_order(setup, pki):
    s = setup()
    chain = s.dir / "certs" / HOST / "fullchain.pem"
    chain.write_text(chain.read_text() + pki["other"].pem.read_text())
    assert s.check().has("warning", "not in order")


# ---- rights -------------------------------------------------------------------------------------


def test_secrets_for_all_to_read(setup):
    s = setup()
    (s.dir / "domains/here.test/users").chmod(0o644)
    (s.dir / "certs" / HOST / "privkey.pem").chmod(0o644)
    (s.dir / "domains/here.test/aliases").chmod(0o666)
    f = s.check()
    assert f.has("warning", "domains/here.test/users", "chmod o-rwx")
    assert f.has("warning", "privkey.pem", "chmod o-rwx")
    assert f.has("error", "aliases: every user of this machine can change it")


@pytest.mark.skipif(os.getuid() != 0, reason="changes owners")
def test_secrets_of_somebody_else_for_all_to_read(setup):
    """Without the right of all others the server could not read it: that comes second."""
    s = setup()
    users = s.dir / "domains/here.test/users"
    users.chmod(0o644)
    os.chown(users, 0, 0)
    assert s.check().has("warning", "users: every", "chgrp it to the group of the server's user and chmod g+r, then chmod o-rwx")
    os.chown(users, 0, pwd.getpwnam("nobody").pw_gid)
    assert s.check().has("warning", "users: every", "secret: chmod o-rwx")


@pytest.mark.skipif(os.getuid() != 0, reason="changes owners")
def test_not_for_the_server(setup):
    s = setup()
    for path in (s.dir / "domains/here.test/users", s.dir / "certs" / HOST / "privkey.pem", s.chasq.data):
        os.chown(path, 0, 0)
    hook = s.dir / "hooks/post-data"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\n")
    f = s.check()
    assert f.has("error", "domains/here.test/users: user nobody cannot read it", "chgrp")
    assert f.has("error", "privkey.pem: Permission denied")
    assert f.has("error", f"{s.chasq.data}: user nobody cannot write to it", "chown -R nobody")
    assert f.has("error", "hooks/post-data: user nobody cannot run it", "chmod")
    # Rights come back: what comes after it still works.
    assert "DNS" in f.text and f.has("ok", "mail for here.test comes to")


@pytest.mark.skipif(os.getuid() != 0, reason="changes users")
def test_as_a_stranger(setup):
    s = setup().start()
    other = next(u.pw_name for u in pwd.getpwall() if u.pw_uid not in (0, pwd.getpwnam("nobody").pw_uid))
    for path in [s.dir, *s.dir.rglob("*")]:
        if s.chasq.data not in (path, *path.parents) and path.name != "privkey.pem":
            path.chmod(0o755 if path.is_dir() else 0o644)
    f = s.check(user=other)
    assert f.has("note", "needs root")
    assert f.has("note", "privkey.pem cannot be looked at without rights")
    assert not f.has("error", "cannot read") and not f.has("error", "privkey.pem")


def test_unknown_user(setup):
    s = setup()
    s.chasq.conf["user"] = "nosuchuser"
    s.chasq.write_conf()
    assert s.check().has("error", "nosuchuser")


def test_damaged_messages(setup):
    s = setup()
    (s.chasq.queue / "damaged").mkdir(parents=True)
    (s.chasq.queue / "damaged/m:x").write_text("junk")
    assert s.check().has("warning", "1 file in", "set aside")


# ---- ports --------------------------------------------------------------------------------------


def test_port_closed(setup):
    s = setup()
    s.chasq.conf["submission_address"] = "127.0.0.1:%d" % harness.free_port()
    s.chasq.write_conf()
    s.start()
    s.chasq.conf["submission_address"] = "127.0.0.1:%d" % s.submission
    s.chasq.write_conf()
    f = s.check()
    assert f.code == 1 and f.has("error", f"port {s.submission} (mail programs)", "Connection refused", "restart")


def test_another_server_on_the_port(setup, sink):
    other = sink()
    s = setup(conf={"smtp_address": f"127.0.0.1:{other.port}"})
    f = s.check()
    assert f.has("error", "another server answers there, which calls itself sink.test", "stop it")


def test_port_with_nonsense(setup, sink):
    other = sink(script={"CONNECT": Bytes(b"\x1b[2J\x00\xff nonsense\r\n" * 100000)})
    f = setup(conf={"smtp_address": f"127.0.0.1:{other.port}"}).check()
    assert f.has("error", "does not work: what came is not SMTP")


def test_left_to_systemd(setup):
    s = setup(conf={"submission_address": None, "submission_over_tls_address": None}).start()
    f = s.check()
    assert f.has("note", "port 587", "chasq.socket") or f.has("error", "port 587")


# ---- DNS ----------------------------------------------------------------------------------------


def zone_without(*starts):
    return "\n".join(line for line in ZONE.splitlines() if not line.startswith(starts))


def test_no_ptr(setup):
    f = setup(zone=zone_without("5.113")).start().check()
    assert f.has("warning", f"{PUBLIC} has no name in DNS", f"ask your provider to set it to {HOST}")


def test_ptr_leads_elsewhere(setup):
    f = setup(zone=zone_without("5.113") + "\n5.113.0.203.in-addr.arpa PTR dyn.isp.test\n"
              "dyn.isp.test A 203.0.113.99\n").start().check()
    assert f.has("warning", "dyn.isp.test", "does not lead back")


def test_mx_elsewhere(setup, sink):
    far = sink(address="127.0.0.7")
    f = setup(zone=zone_without("here.test MX") + "\nhere.test MX 10 mx.far.test\nmx.far.test A 127.0.0.7\n",
              conf={"remote_smtp_port": far.port}).start().check()
    assert f.has("warning", "mail for here.test goes to mx.far.test, which is not this server")
    # Which at least is one to be reached.
    assert f.has("ok", "mx.far.test is reached by port")


@pytest.mark.parametrize("record, level, words", [
    ("", "warning", ("has no MX record", f"MX 10 {HOST}.")),
    ("here.test MX 0 .", "warning", ("takes no mail",)),
    (f"here.test A {PUBLIC}", "ok", ("its own address is ours",)),
    (f"here.test MX 10 alias.test\nalias.test A {PUBLIC}", "ok", ("mail for here.test comes to alias.test",)),
    ("here.test !MX servfail", "warning", ("its MX cannot be looked up",)),
])
def test_mx(setup, record, level, words):
    f = setup(zone=zone_without("here.test MX") + "\n" + record + "\n").start().check()
    assert f.has(level, *words)


@pytest.mark.parametrize("record, level, words", [
    ("", "warning", ("has no SPF record", "v=spf1 mx -all")),
    ('here.test TXT "v=spf1 ip4:192.0.2.1 -all"', "error", ("is not ours (fail)", "ip4:" + PUBLIC)),
    ('here.test TXT "v=spf1 ip4:192.0.2.1 ~all"', "warning", ("softfail",)),
    ('here.test TXT "v=spf1 mx -all"', "ok", ("lets us send",)),
    ('here.test TXT "v=spf1 nonsense -all"', "error", ("is broken",)),
    ('here.test !TXT servfail', "note", ("cannot be looked up",)),
])
def test_spf(setup, record, level, words):
    f = setup(zone=zone_without("here.test TXT") + "\n" + record + "\n").start().check()
    assert f.has(level, *words)


def test_local_network(setup):
    """No public DNS: understandable, and no alarm."""
    f = setup(zone="other.example A 192.0.2.1\n").start().check()
    assert f.clean()
    assert f.has("note", "is not known in public DNS: right for a server of a local network")
    f = setup(zone=f"{HOST} A 192.168.1.2\n").start().check()
    assert f.clean() and f.has("note", "192.168.1.2, which only the local network can reach")


def test_no_name_server(setup):
    s = setup(zone=f"{HOST} ! servfail\n").start()
    f = s.check()
    assert f.has("warning", "the name servers do not answer", "dns_servers in chasq.conf")
    assert f.code == 0 and not f.has("warning", "MX")


def test_one_domain(setup):
    domains = {"here.test": {"users": ["user"]}, "two.test": {"users": ["user"]}}
    s = setup(domains=domains, zone=ZONE + f"two.test MX 5 {HOST}\n").start()
    f = s.check("Two.TEST")
    assert f.has("ok", "mail for two.test comes to") and "here.test c" not in f.text
    f = s.check("three.test")
    assert f.code == 1 and f.has("error", "three.test is not one of our domains", "domains/three.test")


def test_hostile_zone(setup):
    f = setup(zone=ZONE + '"evil\x1b[2J" A 192.0.2.1\n_dmarc.here.test TXT "v=DMARC1; \x1b[2J"\n'
              '_mta-sts.here.test TXT "v=STSv1; id=1;"\nmta-sts.here.test A 127.0.0.99\n').start().check()
    assert f.has("note", "here.test has a DMARC record")
    assert f.has("warning", "here.test has an MTA-STS record, but its policy is no good")


# ---- sending ------------------------------------------------------------------------------------


def smarthost(box, s, name="127.0.0.1", **more):
    lines = [f'address: "{name}:{s.port}"']
    lines += [f"{k}: {v}" for k, v in more.items()]
    return harness.Raw("{ " + " ".join(lines) + " }")


@pytest.mark.parametrize("case", ["good", "untrusted", "pinned", "no_tls", "no_login", "closed", "unknown"])
def test_smarthost(setup, sink, pki, box, case):
    cert = certs.make_cert(pki["dir"], ["relay.test"], None if case in ("untrusted", "pinned") else pki["ca"])
    s = sink(cert=None if case == "no_tls" else cert, users=None if case == "no_login" else {"me": "pw"})
    secret = box.dir("secret") / "pw"
    secret.write_text("pw\n")
    secret.chmod(0o600)
    more = {"user": '"me"', "password_file": harness.quote(str(secret))}
    if case == "pinned":
        more["fingerprint"] = harness.quote(cert.fingerprint())
    if case == "closed":
        s.stop()
        s.port = harness.free_port()
    name = "none.test" if case == "unknown" else "relay.test"
    if os.getuid() == 0:
        os.chown(secret, pwd.getpwnam("nobody").pw_uid, -1)
        secret.parent.chmod(0o755)
    f = setup(zone=ZONE + "relay.test A 127.0.0.1\n",
              conf={"smarthost": smarthost(box, s, name, **more)}).start().check()
    level, *words = {
        "good": ("ok", "TLS_SECURE", "offers to log in (the password was not tried)"),
        "pinned": ("ok", "TLS_SECURE"),
        "untrusted": ("error", "self-signed", "no mail is sent there", "fingerprint"),
        "no_tls": ("error", "does not offer TLS"),
        "no_login": ("error", "does not offer to log in"),
        "closed": ("error", "cannot be reached", "Connection refused"),
        "unknown": ("error", "smarthost none.test", "is the name right"),
    }[case]
    assert f.has(level, *words)
    assert f.code == (1 if level == "error" else 0)
    assert "pw" not in " ".join(s.commands()) and not any(c.startswith("AUTH") for c in s.commands())
    # Others see the smarthost, not us.
    assert f.has("note", "here.test has an SPF record")


def test_target(setup, sink):
    s = setup().start()
    f = s.check("-t", f"127.0.0.1:{harness.free_port()}")
    assert f.code == 1 and f.has("error", "cannot be reached", "providers block port 25")
    far = sink(script={"CONNECT": "554 5.7.1 not you"})
    f = s.check("-t", f"127.0.0.1:{far.port}")
    assert f.has("warning", "does not want to talk to us", "not you")
    assert s.check().has("note", "chasq check -t")


@pytest.mark.parametrize("args", [["-x"], ["a", "b"], ["-t"], ["-t", "h:0"], ["a b"], ["x\ny"]])
def test_usage(setup, args):
    s = setup()
    done = s.chasq.run("check", *args)
    assert done.returncode == 64 and b"usage: chasq check" in done.stderr
    assert s.chasq.run("check", "--help").returncode == 0


def test_time_is_bounded(setup):
    """Name servers and servers that never answer do not hold it up without end."""
    program = conftest.special_build("probe", {"CLI_PROBE_MS": "1000", "CLI_CHECK_MS": "3000"})
    mute = socket.create_server(("127.0.0.1", 0))
    names = {f"d{i}.test": {"users": []} for i in range(20)}
    s = setup(program=program, zone=ZONE + "".join(f"{n} ! slow:400\n" for n in names), domains=names,
              conf={"smtp_address": f"127.0.0.1:{mute.getsockname()[1]}"})
    begun = time.monotonic()
    f = s.check()
    assert time.monotonic() - begun < 15
    assert f.has("warning", "it all took too long")
    mute.close()
