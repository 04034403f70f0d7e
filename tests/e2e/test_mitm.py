"""Two chasq servers and a man in the middle: what goes through before a domain has shown TLS, and what
does not afterwards."""

import hashlib
import subprocess
import sys

import pytest

import certs
import harness
from mitm import Mitm
from smtpclient import send

HOST = "mx.far.test"
IDN = "bücher.test"
ALABEL = "xn--bcher-kva.test"
MESSAGE = b"From: a@client.test\r\nSubject: %s\r\n\r\nbody\r\n"


@pytest.fixture(scope="session")
def ca(tmp_path_factory):
    """An authority that the sender trusts, one that it does not, and certificates of both."""

    class Authority:
        dir = tmp_path_factory.mktemp("certs")
        root = certs.make_ca(dir)
        other_root = certs.make_ca(dir, name="Somebody Else")

    a = Authority()
    a.good = certs.make_cert(a.dir, [HOST], a.root)
    a.self_signed = certs.make_cert(a.dir, [HOST])
    a.forged = certs.make_cert(a.dir, [HOST], a.other_root)
    a.wrong_name = certs.make_cert(a.dir, ["evil.test"], a.root)
    return a


# name: attack, the attacker's certificate, the level that is left to those who take what they get
ATTACKS = {
    "strip": ("strip", None, "PLAIN"),
    "refuse": ("refuse", None, "PLAIN"),
    "garbage": ("garbage", None, "PLAIN"),
    "cut": ("cut", None, "PLAIN"),
    "swap-self-signed": ("swap", "self_signed", "TLS_INSECURE"),
    "swap-other-ca": ("swap", "forged", "TLS_INSECURE"),
    "swap-wrong-name": ("swap", "wrong_name", "TLS_INSECURE"),
}
SPOILING = [name for name, a in ATTACKS.items() if a[2] == "PLAIN"]


class Road:
    """A sends by way of the man in the middle to B, the home of far.test and bücher.test."""

    def __init__(self, chasq, name_server, box, ca, cert, conf=None):
        self.ca = ca
        port = harness.free_port("127.0.0.2", "127.0.0.3")
        server = name_server(port)
        self.b = chasq("b", address="127.0.0.3", port=port, start=False,
                       domains={d: {"users": ["u"]} for d in ("far.test", IDN)})
        if cert:
            cert.install(self.b.dir / "certs", HOST)
        self.b.start()
        self.mitm = Mitm(("127.0.0.2", port), to=("127.0.0.3", port))
        box.on_stop(self.mitm.stop)
        self.a = chasq("a", conf={"dns_servers": server, "remote_smtp_port": port,
                                  "trusted_network": "127.0.0.0/8", "tls_roots": str(ca.root.pem),
                                  **(conf or {})})

    def attack(self, name):
        """From now on, and nothing goes by a connection from before."""
        self.mitm.cut()
        self.mitm.attack, cert, self.left = ATTACKS[name]
        self.mitm.cert = cert and getattr(self.ca, cert)

    def leave(self):
        """The attacker goes."""
        self.mitm.cut()
        self.mitm.attack = None

    def send(self, to, subject):
        content = MESSAGE % subject.encode()
        if to.isascii():
            send(self.a.port, "a@client.test", [f"u@{to}"], content)
            return
        # SMTP carries other letters with SMTPUTF8 only; the command line always does.
        done = self.a.sendmail("-f", "a@client.test", f"u@{to}", input=content)
        assert done.returncode == 0, done.stderr

    def arrives(self, domain, subject, count=1):
        messages = self.b.wait_messages("u", count, domain=domain)
        assert any(subject.encode() in m for m in messages)
        self.a.wait_queue_empty()

    def security(self):
        """The fields of the last line about security in A's log."""
        line = [x for x in self.a.log().splitlines() if " remote security " in x][-1]
        return dict(x.partition("=")[::2] for x in line.split(" remote=")[0].split()[3:])


@pytest.fixture
def road(chasq, dnsmasq, box, ca):
    def name_server(port):
        return dnsmasq(mx={d: [(10, HOST)] for d in ("far.test", ALABEL)},
                       hosts={HOST: ["127.0.0.2"]}).server

    return lambda cert="good": Road(chasq, name_server, box, ca, cert and getattr(ca, cert))


@pytest.fixture
def signed_road(chasq, box, ca):
    """The same where DNSSEC vouches for all names, with lines more for the zone."""

    def make(cert, *lines):
        def name_server(port):
            zone = box.path / "zone"
            zone.write_text("\n".join([
                "secure test", "zone test", f"far.test MX 10 {HOST}", f"{HOST} A 127.0.0.2",
                *(x.replace("TLSA", f"_{port}._tcp.{HOST} TLSA", 1) for x in lines)]) + "\n")
            dns = harness.free_port()
            box.process([sys.executable, harness.TREE / "tests/tools/dnsd.py", "--port", dns, zone], "dnsd")
            harness.wait_for(lambda: harness.can_connect("127.0.0.1", dns), 10, "dnsd to listen")
            return f"127.0.0.1:{dns}"

        return Road(chasq, name_server, box, ca, getattr(ca, cert), {"dnssec_resolver": True})

    return make


def key_digest(cert):
    """SHA-256 of the SubjectPublicKeyInfo: what a TLSA record "3 1 1" holds."""
    der = subprocess.run(f"openssl x509 -in {cert.pem} -noout -pubkey | openssl pkey -pubin -outform DER",
                         shell=True, check=True, capture_output=True).stdout
    return hashlib.sha256(der).hexdigest()


@pytest.mark.parametrize("name", ATTACKS)
def test_unknown_goes_through(road, name):
    r = road()
    r.attack(name)
    r.send("far.test", "first")
    r.arrives("far.test", "first")
    assert r.security() == {"demanded": "PLAIN", "by": "opportunistic", "got": r.left}
    assert b"MAIL" in r.mitm.connections[-1].seen


@pytest.mark.parametrize("first, then", [
    ("far.test", "FAR.tEsT"), ("Far.Test", "far.test"),
    (ALABEL, IDN), (IDN, ALABEL.upper()), ("BÜCHER.test", ALABEL)],
    ids=["upper", "lower", "to-utf8", "to-a-label", "upper-utf8"])
@pytest.mark.parametrize("name", ATTACKS)
def test_known_is_refused(road, name, first, then):
    r = road()
    domain = "far.test" if first.isascii() and not first.startswith("xn") else IDN
    r.send(first, "first")
    r.arrives(domain, "first")
    assert r.security()["got"] == "TLS_SECURE"
    known = len(r.mitm.connections)

    r.attack(name)
    r.send(then, "second")
    text = r.a.wait_attempt().decode()
    assert f"454 4.7.5 {HOST} must be TLS_SECURE (domaininfo), got {r.left}" in text
    assert len(r.a.queued()) == 1 and len(r.b.messages("u", domain)) == 1
    assert len(r.mitm.connections) == known + 1, "no second try, plain"
    assert b"MAIL" not in r.mitm.connections[-1].seen
    assert r.security() == {"demanded": "TLS_SECURE", "by": "domaininfo", "got": r.left}

    r.leave()
    r.a.run("flush", "-C", r.a.dir)
    r.arrives(domain, "second", 2)
    assert r.security()["got"] == "TLS_SECURE"


@pytest.mark.parametrize("name", SPOILING)
def test_insecure_tls_is_kept_too(road, name):
    """A certificate that proves nothing still shows that there is TLS."""
    r = road("self_signed")
    r.send("far.test", "first")
    r.arrives("far.test", "first")
    assert r.security()["got"] == "TLS_INSECURE"
    r.attack(name)
    r.send("far.test", "second")
    assert f"must be TLS_INSECURE (domaininfo), got {r.left}" in r.a.wait_attempt().decode()
    r.leave()
    r.a.run("flush", "-C", r.a.dir)
    r.arrives("far.test", "second", 2)


def test_swap_of_an_insecure_certificate_goes_through(road):
    r = road("self_signed")
    r.send("far.test", "first")
    r.arrives("far.test", "first")
    r.attack("swap-other-ca")
    r.send("far.test", "second")
    r.arrives("far.test", "second", 2)
    assert r.security() == {"demanded": "TLS_INSECURE", "by": "domaininfo", "got": "TLS_INSECURE"}


def test_known_after_restart(road):
    r = road()
    r.send("far.test", "first")
    r.arrives("far.test", "first")
    r.a.restart()
    r.attack("strip")
    r.send("far.test", "second")
    assert "(domaininfo), got PLAIN" in r.a.wait_attempt().decode()


def test_one_domain_says_nothing_of_another(road):
    """The level belongs to the domain, not to the host."""
    r = road()
    r.send("far.test", "first")
    r.arrives("far.test", "first")
    r.attack("strip")
    r.send(ALABEL, "other")
    r.arrives(IDN, "other")
    assert r.security() == {"demanded": "PLAIN", "by": "opportunistic", "got": "PLAIN"}


def test_attack_does_not_lower(road):
    """Refused mail, and mail under attack, leave the level as it is; so does a better one."""
    r = road("self_signed")
    r.attack("strip")
    r.send("far.test", "first")
    r.arrives("far.test", "first")
    r.leave()
    r.send("far.test", "second")
    r.arrives("far.test", "second", 2)
    for attack in ("strip", "garbage"):
        r.attack(attack)
        r.send("far.test", "third")
        harness.wait_for(lambda: r.security()["got"] == "PLAIN", 20, "a refused connection")
        assert r.security()["demanded"] == "TLS_INSECURE"
    r.leave()
    r.a.run("flush", "-C", r.a.dir)
    r.arrives("far.test", "third", 4)


# ---- DANE: nothing need be known ----------------------------------------------------------------


@pytest.mark.parametrize("name", ATTACKS)
def test_dane_at_first_contact(signed_road, ca, name):
    r = signed_road("self_signed", f"TLSA 3 1 1 {key_digest(ca.self_signed)}")
    r.attack(name)
    # The attacker's certificate must be another one than that of the host.
    r.mitm.cert = ca.good if name == "swap-self-signed" else r.mitm.cert
    r.send("far.test", "first")
    assert f"{HOST} must be TLS_SECURE (DANE), got {r.left}" in r.a.wait_attempt().decode()
    assert b"MAIL" not in r.mitm.connections[-1].seen
    r.leave()
    r.a.run("flush", "-C", r.a.dir)
    r.arrives("far.test", "first")
    assert r.security() == {"demanded": "TLS_SECURE", "by": "DANE", "got": "TLS_SECURE"}


def test_dane_unusable_demands_tls(signed_road):
    r = signed_road("self_signed", "TLSA 1 1 1 " + "00" * 32)
    r.attack("strip")
    r.send("far.test", "first")
    assert f"{HOST} must be TLS_INSECURE (DANE), got PLAIN" in r.a.wait_attempt().decode()
    r.leave()
    r.a.run("flush", "-C", r.a.dir)
    r.arrives("far.test", "first")
    assert r.security() == {"demanded": "TLS_INSECURE", "by": "DANE", "got": "TLS_INSECURE"}


def test_dane_failed_look_up(signed_road):
    r = signed_road("good", "TLSA 3 1 1 " + "00" * 32)
    zone = r.a.box.path / "zone"
    zone.write_text("".join(x for x in zone.read_text().splitlines(True) if "TLSA" not in x)
                    + f"*.{HOST} ! servfail\n")
    r.send("far.test", "first")
    assert f"{HOST} may not be used (DANE)" in r.a.wait_attempt().decode()
    assert not r.mitm.connections
