"""client -> chasq A -> Exim -> chasq B -> Maildir, the way found by MX, contents identical."""

import pytest

import harness
from contents import HARD
from smtpclient import Client, send


@pytest.fixture
def road(chasq, exim, dnsmasq):
    """A relays for us, the MX of far.test is an Exim, which sends on to B, the home of far.test."""
    port = harness.free_port("127.0.0.2", "127.0.0.3")
    dns = dnsmasq(mx={"far.test": [(10, "mx.far.test")]}, hosts={"mx.far.test": ["127.0.0.2"]})
    b = chasq("b", address="127.0.0.3", port=port, domains={"far.test": {"users": ["b", "c"]}})
    e = exim(address="127.0.0.2", port=port, to=("127.0.0.3", port))
    a = chasq("a", conf={"dns_servers": dns.server, "remote_smtp_port": port,
                         "trusted_network": "127.0.0.0/8"})
    return a, e, b


def test_contents_come_through(road):
    a, e, b = road
    with Client(a.port, timeout=30) as c:
        c.hello()
        for content in HARD.values():
            c.message("a@client.test", ["b@far.test"], content)
        c.quit()
    harness.wait_for(lambda: len(b.messages("b", "far.test")) >= len(HARD), 60,
                     lambda: "all contents to arrive\n" + e.log()[-3000:])
    a.wait_queue_empty()
    b.wait_queue_empty()
    got = sorted(harness.drop_trace(m) for m in b.messages("b", "far.test"))
    # A last line without its end gets one on the way.
    sent = sorted(harness.drop_trace(m if m.endswith(b"\r\n") else m + b"\r\n")
                  for m in HARD.values())
    for s in sent:
        assert s in got, f"lost or changed: {s[:300]!r}"
    assert got == sent


def test_envelope_and_trace(road):
    a, e, b = road
    send(a.port, "a@client.test", ["b@far.test", "c@far.test"], HARD["plain"])
    for user in ("b", "c"):
        m = b.wait_messages(user, domain="far.test", seconds=30)[0]
        head = harness.split_message(m)[0].decode()
        assert head.startswith("Return-Path: <a@client.test>\n")
        assert head.count("\nReceived:") == 3, head
        assert f"Delivered-To: {user}@far.test" in head
    # Both recipients went to Exim in one transaction.
    assert e.log().count("<= a@client.test") == 1, e.log()
    assert "synchronization" not in e.log() and "lost" not in e.log().lower(), e.log()


def test_null_sender_stays_null(road):
    a, e, b = road
    send(a.port, "", ["b@far.test"], HARD["plain"])
    m = b.wait_messages("b", domain="far.test", seconds=30)[0]
    assert m.startswith(b"Return-Path: <>\n")
    assert "<= <>" in e.log()


def test_exim_sends_to_chasq_pipelined(chasq, exim):
    """Exim as the client: many recipients, one of them refused; Exim's bounce comes by <>."""
    b = chasq("b", domains={"here.test": {"users": ["sender", *(f"u{i}" for i in range(20))]}})
    e = exim(to=("127.0.0.1", b.port))
    to = [f"u{i}@here.test" for i in range(20)] + ["nobody@here.test"]
    send(e.port, "sender@here.test", to, HARD["dots"])
    for i in range(20):
        m = b.wait_messages(f"u{i}", seconds=30)[0]
        assert harness.drop_trace(m) == harness.drop_trace(HARD["dots"])
    bounce = b.wait_messages("sender", seconds=30)[0]
    assert bounce.startswith(b"Return-Path: <>\n") and b"550 5.1.1" in bounce
