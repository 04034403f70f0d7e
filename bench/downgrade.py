#!/usr/bin/python3
"""What senders do when somebody between them and a mail host spoils TLS: chasq, Postfix, Exim.

    sudo /usr/bin/python3 bench/downgrade.py          (root: Postfix wants it; CHASQ=path for another chasq)

Each sender has sent one message to the host by TLS with a good certificate before. Then the man in the
middle of tests/e2e/mitm.py begins, and a second message is sent. The table says where it went within
WAIT seconds. Needs what tests/deps.sh brings.
"""

import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/e2e"))

import certs  # noqa: E402
import harness  # noqa: E402
import peers  # noqa: E402
from mitm import Mitm  # noqa: E402
from sink import Sink  # noqa: E402
from smtpclient import send  # noqa: E402

HOST = "mx.far.test"
WAIT = 12
ATTACKS = [("strip", None), ("refuse", None), ("garbage", None), ("cut", None), ("swap", "self_signed"),
           ("swap", "other_ca")]


class Place:
    """The host of far.test and the man in front of it."""

    def __init__(self, box, papers):
        self.box = box
        self.papers = papers
        self.port = harness.free_port("127.0.0.2", "127.0.0.3")
        self.sink = Sink(address="127.0.0.3", port=self.port, cert=papers.good)
        self.mitm = Mitm(("127.0.0.2", self.port), to=("127.0.0.3", self.port))
        self.dns = peers.Dnsmasq(box, mx={"far.test": [(10, HOST)]}, hosts={HOST: ["127.0.0.2"]})

    def attack(self, name, cert):
        self.mitm.attack = name
        self.mitm.cert = getattr(self.papers, cert) if cert else None

    def stop(self):
        self.mitm.stop()
        self.sink.stop()
        self.dns.process.end()


class Papers:
    """All certificates."""

    def __init__(self, box):
        self.root = certs.make_ca(box.path)
        self.other_root = certs.make_ca(box.path, name="Somebody Else")
        self.good = certs.make_cert(box.path, [HOST], self.root, key="rsa")
        self.self_signed = certs.make_cert(box.path, [HOST], key="rsa")
        self.other_ca = certs.make_cert(box.path, [HOST], self.other_root, key="rsa")
        for c in (self.root, self.good):
            c.pem.chmod(0o644)


def chasq(place):
    c = harness.Chasq(place.box, "sender", conf={
        "dns_servers": place.dns.server, "remote_smtp_port": place.port,
        "trusted_network": "127.0.0.0/8", "tls_roots": str(place.papers.root.pem)}).start()
    return ("127.0.0.1", c.port), c.stop


def postfix(*lines):
    def start(place):
        # peers.Postfix is a receiver: a transport, and everything goes to the host.
        if "\nsmtp " not in peers.POSTFIX_MASTER:
            peers.POSTFIX_MASTER += "smtp      unix  - - n - - smtp\n"
        p = peers.Postfix(place.box, main="\n".join([
            "virtual_mailbox_domains =", f"relayhost = [127.0.0.2]:{place.port}",
            "smtp_tls_loglevel = 1", f"smtp_tls_CAfile = {place.papers.root.pem}",
            "smtp_connection_cache_on_demand = no", *lines]) + "\n")
        return (p.address, p.port), p.process.end

    return start


def exim(place):
    e = peers.Exim(place.box, to=("127.0.0.2", place.port))
    return (e.address, e.port), e.process.end


def fate(place, subject):
    """Where the message with this subject went."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        if any(subject.encode() in m.data for m in place.sink.messages):
            last = [c for c in place.mitm.connections if c.attack == place.mitm.attack][-1]
            if not last.tls:
                return "SENT in the clear"
            return "SENT to the attacker, under his TLS" if last.attack == "swap" else "sent by TLS"
        time.sleep(0.1)
    return "kept"


def row(box, papers, name, start, known):
    cells = []
    for attack, cert in ATTACKS:
        place = Place(box, papers)
        (address, port), stop = start(place)
        if known:
            send(port, "a@client.test", ["b@far.test"], b"Subject: first\r\n\r\n", address=address)
            assert fate(place, "first").startswith(("sent by TLS", "SENT in the clear")), name
        place.attack(attack, cert)
        send(port, "a@client.test", ["b@far.test"], b"Subject: second\r\n\r\n", address=address)
        cells.append(fate(place, "second"))
        stop()
        place.stop()
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main():
    if os.getuid() != 0:
        sys.exit("must be root: Postfix's master")
    box = harness.Sandbox("downgrade")
    try:
        papers = Papers(box)
        print("| sender | " + " | ".join(a if not c else f"{a}, {c}" for a, c in ATTACKS) + " |")
        print("|---" * (len(ATTACKS) + 1) + "|", flush=True)
        row(box, papers, "chasq, host not known", chasq, False)
        row(box, papers, "chasq", chasq, True)
        row(box, papers, "Postfix, default", postfix(), True)
        may = "smtp_tls_security_level = may"
        row(box, papers, "Postfix, may, first try", postfix(may), True)
        row(box, papers, "Postfix, may, later tries (after 2 s, not 300)",
            postfix(may, "minimal_backoff_time = 2s", "maximal_backoff_time = 3s", "queue_run_delay = 2s"),
            True)
        row(box, papers, "Exim, default", exim, True)
    finally:
        box.stop()


if __name__ == "__main__":
    main()
