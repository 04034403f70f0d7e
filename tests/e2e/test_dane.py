"""DANE (RFC 7672) to SMTP servers of our own, with a real validating resolver: Knot signs, Unbound
validates. No certificate here leads to an authority that chasq knows: what is secure is so by DANE."""

import hashlib
import re
import ssl
import subprocess

import pytest

import certs
import dnssec
import harness
from sink import Bytes, Drop
from smtpclient import send

DOMAIN = "far.test"
MX = ["mx1.far.test", "mx2.far.test"]
MESSAGE = b"From: sender@here.test\r\nSubject: hello\r\n\r\nbody\r\n"


def der(cert):
    return ssl.PEM_cert_to_DER_cert(cert.pem.read_text())


def spki(cert):
    pem = subprocess.run(["openssl", "x509", "-in", cert.pem, "-pubkey", "-noout"], check=True,
                         capture_output=True).stdout
    return subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=pem, check=True,
                          capture_output=True).stdout


def tlsa(kind, cert):
    """The data of a TLSA record: kind is like "3 1 1"."""
    _, selector, matching = kind.split()
    data = spki(cert) if selector == "1" else der(cert)
    if matching != "0":
        data = {"1": hashlib.sha256, "2": hashlib.sha512}[matching](data).digest()
    return f"{kind} {data.hex()}"


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    """Certificates for the first host. `chained` sends its authority too."""

    class Pki:
        dir = tmp_path_factory.mktemp("certs")
        known = certs.make_ca(dir, "Known Authority")
        ca = certs.make_ca(dir, "Own Authority")

    p = Pki()

    def chained(*args, **kwargs):
        cert = certs.make_cert(p.dir, *args, **kwargs)
        cert.fullchain.write_text(cert.pem.read_text() + p.ca.pem.read_text())
        return cert

    p.chained = chained([MX[0]], p.ca)
    p.domain_only = chained([DOMAIN], p.ca)
    p.other_name = chained(["other.test"], p.ca)
    p.late = chained([MX[0]], p.ca, start=-60, days=30)
    p.self_signed = certs.make_cert(p.dir, [MX[0]])
    p.rsa = certs.make_cert(p.dir, [MX[0]], key="rsa")
    p.strange = certs.make_cert(p.dir, ["other.test"], start=-60, days=30)
    return p


class Way:
    """far.test with its hosts, the name servers, and a chasq whose times are short."""

    def __init__(self, box, chasq, sink, pki, program, kinds, zone=DOMAIN, conf=None, direct=False):
        self.zone = zone
        self.port = harness.free_port(*(f"127.0.0.{i + 2}" for i in range(len(kinds))))
        self.sinks = [sink(address=f"127.0.0.{i + 2}", port=self.port, **k) for i, k in enumerate(kinds)]
        self.base = []
        for i in range(len(kinds)):
            self.base += [f"{zone} MX {10 * i} mx{i + 1}.{zone}", f"mx{i + 1}.{zone} A 127.0.0.{i + 2}"]
        self.dns = dnssec.Dnssec(
            box, {zone: self.base, "insecure.test": [], "bogus.test": [f"tlsa.bogus.test TLSA 3 1 1 {'00' * 32}"]}
            if zone == DOMAIN else {zone: self.base}, insecure={"insecure.test"}, bogus={"bogus.test"})
        server = f"{self.dns.address}:{self.dns.knot_port}" if direct else self.dns.server
        self.chasq = chasq(program=program, start=False, conf={
            "dns_servers": server, "dnssec_resolver": True, "remote_smtp_port": self.port,
            "trusted_network": "127.0.0.0/8", "tls_roots": str(pki.known.pem), **(conf or {})},
            domains={"here.test": {"users": ["sender"]}})
        self.chasq.start("-v")

    def owner(self, host=0):
        return f"_{self.port}._tcp.mx{host + 1}.{self.zone}"

    def publish(self, *records, extra=()):
        """Publishes TLSA records of the first host."""
        self.dns.replace(self.zone, [*self.base, *(f"{self.owner()} TLSA {r}" for r in records), *extra])

    def submit(self):
        send(self.chasq.port, "sender@here.test", [f"b@{self.zone}"], MESSAGE)

    def delivered(self):
        """Submits, waits until the message is gone; the level of the connection."""
        self.submit()
        self.chasq.wait_queue_empty()
        assert not self.chasq.messages("sender"), "it bounced"
        return re.findall(r' sent .* remote="[^"]* (\w+)"', self.chasq.log())[-1]

    def refused(self):
        """Submits; demands that the message waits and that nobody got it, TLS or not."""
        self.submit()
        text = self.chasq.wait_attempt()
        assert b"status: PENDING" in text, text
        assert not any(s.messages for s in self.sinks)
        assert not any(c.startswith("MAIL") for s in self.sinks for c in s.commands())
        return text.decode()


@pytest.fixture
def way(box, chasq, sink, pki, short_build):
    return lambda *kinds, **kwargs: Way(box, chasq, sink, pki, short_build, kinds, **kwargs)


# ---- right --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["3 1 1", "3 0 1", "3 1 2", "3 0 2", "3 1 0", "3 0 0"])
@pytest.mark.parametrize("which", ["self_signed", "rsa"])
def test_end_entity(way, pki, kind, which):
    w = way({"cert": getattr(pki, which)})
    w.publish(tlsa(kind, getattr(pki, which)))
    assert w.delivered() == "TLS_SECURE"
    assert w.sinks[0].sessions[0].sni == MX[0]


def test_end_entity_needs_no_name_and_no_date(way, pki):
    w = way({"cert": pki.strange})
    w.publish(tlsa("3 1 1", pki.strange))
    assert w.delivered() == "TLS_SECURE"


@pytest.mark.parametrize("kind", ["2 0 1", "2 1 1", "2 0 2", "2 1 0", "2 0 0"])
def test_trust_anchor(way, pki, kind):
    w = way({"cert": pki.chained})
    w.publish(tlsa(kind, pki.ca))
    assert w.delivered() == "TLS_SECURE"


def test_trust_anchor_with_name_of_domain(way, pki):
    w = way({"cert": pki.domain_only})
    w.publish(tlsa("2 1 1", pki.ca))
    assert w.delivered() == "TLS_SECURE"


def test_one_of_many_matches(way, pki):
    w = way({"cert": pki.self_signed})
    w.publish(tlsa("3 1 1", pki.rsa), tlsa("2 0 1", pki.ca), "0 0 1 " + "00" * 32,
              tlsa("3 0 2", pki.self_signed))
    assert w.delivered() == "TLS_SECURE"


def test_cname_of_the_host(way, pki):
    """The records are those of the name at the end (RFC 7672 2.2.2)."""
    w = way({"cert": pki.self_signed})
    end = "end.far.test"
    w.base = [f"{DOMAIN} MX 10 {MX[0]}", f"{MX[0]} CNAME {end}", f"{end} A 127.0.0.2"]
    w.publish(extra=[f"_{w.port}._tcp.{end} TLSA {tlsa('3 1 1', pki.rsa)}"])
    w.refused()
    w.publish(extra=[f"_{w.port}._tcp.{end} TLSA {tlsa('3 1 1', pki.self_signed)}"])
    w.chasq.wait_queue_empty()
    assert len(w.sinks[0].messages) == 1


# ---- wrong --------------------------------------------------------------------------------------


def test_wrong_then_right(way, pki):
    """The certificate is not the one: nothing is sent. The message waits until it is."""
    w = way({"cert": pki.self_signed})
    w.publish(tlsa("3 1 1", pki.rsa))
    assert "DANE" in w.refused()
    w.publish(tlsa("3 1 1", pki.self_signed))
    w.chasq.wait_queue_empty()
    assert len(w.sinks[0].messages) == 1 and w.sinks[0].sessions[-1].tls


@pytest.mark.parametrize("kind, which", [
    ("2 0 1", "other_name"), ("2 0 1", "late"), ("2 1 1", "self_signed")])
def test_trust_anchor_does_not_lead_there(way, pki, kind, which):
    w = way({"cert": getattr(pki, which)})
    w.publish(tlsa(kind, pki.ca))
    w.refused()


@pytest.mark.parametrize("kind", [
    {}, {"script": {"STARTTLS": "454 4.7.0 not now"}}, {"script": {"HANDSHAKE": Drop()}},
    {"script": {"HANDSHAKE": Bytes(b"no handshake\r\n")}},
], ids=["not-offered", "refused", "drop", "garbage"])
def test_no_plaintext(way, pki, kind):
    w = way({**kind, **({"cert": pki.self_signed} if kind else {})})
    w.publish(tlsa("3 1 1", pki.self_signed))
    w.refused()


def test_next_host_is_right(way, pki):
    w = way({"cert": pki.self_signed}, {"cert": pki.rsa})
    w.publish(tlsa("3 1 1", pki.rsa), extra=[f"{w.owner(1)} TLSA {tlsa('3 1 1', pki.rsa)}"])
    assert w.delivered() == "TLS_SECURE"
    assert not w.sinks[0].messages and len(w.sinks[1].messages) == 1


# ---- missing, insecure, unusable ----------------------------------------------------------------


@pytest.mark.parametrize("tls", [True, False])
def test_missing_is_opportunistic(way, pki, tls):
    w = way({"cert": pki.self_signed} if tls else {})
    assert w.delivered() == ("TLS_INSECURE" if tls else "PLAIN")


@pytest.mark.parametrize("tls", [True, False])
def test_insecure_zone_has_no_say(way, pki, tls):
    w = way({"cert": pki.self_signed} if tls else {}, zone="insecure.test")
    w.publish(tlsa("3 1 1", pki.rsa))
    assert w.dns.ask(w.owner(), "TLSA").count == 1
    assert w.delivered() == ("TLS_INSECURE" if tls else "PLAIN")


def test_resolver_that_does_not_validate(way, pki):
    """Knot itself answers without AD."""
    w = way({"cert": pki.self_signed}, direct=True)
    w.publish(tlsa("3 1 1", pki.rsa))
    assert w.delivered() == "TLS_INSECURE"


def test_switched_off(way, pki):
    w = way({"cert": pki.self_signed}, conf={"dnssec_resolver": False})
    w.publish(tlsa("3 1 1", pki.rsa))
    assert w.delivered() == "TLS_INSECURE"


UNUSABLE = ["0 0 1 " + "00" * 32, "1 1 1 " + "00" * 32, "3 2 1 " + "00" * 32, "3 1 3 " + "00" * 32,
            "3 1 1 " + "00" * 31, "4 1 1 " + "00" * 32]


@pytest.mark.parametrize("records", [*([r] for r in UNUSABLE), UNUSABLE],
                         ids=[*(r[:5].replace(" ", "") for r in UNUSABLE), "all"])
def test_unusable_demands_tls(way, pki, records):
    w = way({"cert": pki.self_signed})
    w.publish(*records)
    assert w.delivered() == "TLS_INSECURE"


def test_unusable_is_not_plain(way):
    w = way({})
    w.publish(*UNUSABLE)
    w.refused()


# ---- bogus --------------------------------------------------------------------------------------


def test_bogus_tlsa(way, pki):
    """A look-up that fails is no absence: the host is left alone, the next one is tried."""
    w = way({"cert": pki.self_signed}, {"cert": pki.rsa})
    w.publish(extra=[f"{w.owner()} CNAME tlsa.bogus.test",
                     f"{w.owner(1)} TLSA {tlsa('3 1 1', pki.rsa)}"])
    assert w.dns.ask(w.owner(), "TLSA").rcode == dnssec.SERVFAIL
    assert w.delivered() == "TLS_SECURE"
    assert not w.sinks[0].messages and len(w.sinks[1].messages) == 1


def test_bogus_tlsa_of_the_only_host(way, pki):
    w = way({"cert": pki.self_signed})
    w.publish(extra=[f"{w.owner()} CNAME tlsa.bogus.test"])
    w.refused()
    assert not any(c.startswith("EHLO") for c in w.sinks[0].commands())
    w.publish(tlsa("3 1 1", pki.self_signed))
    w.chasq.wait_queue_empty()
    assert len(w.sinks[0].messages) == 1


def test_bogus_domain(way, pki):
    w = way({"cert": pki.self_signed}, zone="bogus.test")
    assert w.dns.ask("bogus.test", "MX").rcode == dnssec.SERVFAIL
    w.refused()
    assert not w.sinks[0].sessions
