"""Sender rewriting by the daemon: what an alias sends on bears a sender of ours, all else its own."""

import re

import pytest

import harness
from contents import HARD
from smtpclient import Client, send

MX = {"far.test": [(10, "mx.far.test")]}
HOSTS = {"mx.far.test": ["127.0.0.2"]}


@pytest.fixture
def way(chasq, sink, dnsmasq):
    s = sink(address="127.0.0.2")
    dns = dnsmasq(mx=MX, hosts=HOSTS)
    c = chasq(conf={"dns_servers": dns.server, "remote_smtp_port": s.port,
                    "trusted_network": "127.0.0.0/8"},
              domains={"here.test": {"users": ["user"], "aliases": "away: b@far.test\n"}})
    return c, s


def senders(c, s, sender, *to):
    before = len(s.messages)
    send(c.port, sender, list(to), HARD["dots"])
    c.wait_queue_empty()
    return sorted((m.sender, sorted(m.recipients)) for m in s.messages[before:])


def test_forwarded_mail_has_a_sender_of_ours(way):
    c, s = way
    (sender, rcpts), = senders(c, s, "\"A b\"@stranger.test", "away@here.test")
    assert re.fullmatch(r'"SRS0=[A-Z2-7]{8}=[A-Z2-7]{2}=stranger\.test=A b"@here\.test', sender)
    assert rcpts == ["b@far.test"]
    # Beside a recipient that the trusted client relays to: each its own.
    both = senders(c, s, "a@stranger.test", "away@here.test", "x@far.test")
    assert [r for _, r in both] == [["b@far.test"], ["x@far.test"]]
    assert both[0][0].startswith("SRS0=") and both[1][0] == "a@stranger.test"


def test_others_keep_their_sender(way):
    c, s = way
    assert senders(c, s, "user@here.test", "away@here.test") == [("user@here.test", ["b@far.test"])]
    assert senders(c, s, "", "away@here.test") == [("", ["b@far.test"])]
    assert senders(c, s, "a@stranger.test", "b@far.test") == [("a@stranger.test", ["b@far.test"])]


def test_key_is_kept_and_looked_at(way):
    c, s = way
    key = c.data / "srs-key"
    text = key.read_text()
    assert key.stat().st_mode & 0o7777 == 0o600 and len(text) == 45
    first = senders(c, s, "a@stranger.test", "away@here.test")
    c.restart()
    assert key.read_text() == text
    again = senders(c, s, "a@stranger.test", "away@here.test")
    day = slice(14, 16)
    assert again == first or again[0][0][day] != first[0][0][day]
    c.stop()
    key.write_text("not a key\n")
    c.start(wait=False)
    harness.wait_for(lambda: not c.process.running(), 10)
    assert "srs-key: line 1 is not one of at most 5 keys" in c.log()


# ---- the way back -------------------------------------------------------------------------------

BOUNCE = b"From: MAILER-DAEMON@far.test\r\nSubject: it came back\r\n\r\nsorry\r\n"


@pytest.fixture
def round_trip(chasq, sink, dnsmasq):
    """chasq, a server that it forwards to, and that of the sender."""
    there = sink(address="127.0.0.2")
    home = sink(address="127.0.0.3", port=there.port)
    dns = dnsmasq(mx=MX | {"stranger.test": [(10, "mx.stranger.test")]},
                  hosts=HOSTS | {"mx.stranger.test": ["127.0.0.3"]})
    c = chasq(conf={"dns_servers": dns.server, "remote_smtp_port": there.port},
              domains={"here.test": {"users": ["user"], "aliases": "away: b@far.test\n"},
                       "all.test": {"users": ["user"], "aliases": "away: b@far.test\n*: user\n"}})
    return c, there, home


def rewritten(c, there, to):
    send(c.port, "Wanderer@stranger.test", [to], HARD["dots"])
    c.wait_queue_empty()
    return there.messages[-1].sender


def test_bounce_finds_its_way_back(round_trip):
    c, there, home = round_trip
    address = rewritten(c, there, "away@here.test")
    assert address.startswith("SRS0=") and address.endswith("=stranger.test=Wanderer@here.test")
    local, domain = address.split("@")
    for spelling in (address, f"{local.lower()}@{domain.upper()}"):
        send(c.port, "", [spelling], BOUNCE)
        c.wait_queue_empty()
        m = home.messages[-1]
        assert m.sender == "" and m.recipients[0].lower() == "wanderer@stranger.test"
        assert b"it came back" in m.data
    assert len(home.messages) == 2
    # The same after a restart: the key is on disk.
    c.restart()
    send(c.port, "", [address], BOUNCE)
    c.wait_queue_empty()
    assert len(home.messages) == 3


def test_nobody_else_goes_that_way(round_trip):
    c, there, home = round_trip
    address = rewritten(c, there, "away@here.test")
    tampered = [address.replace("stranger.test", "victim.test"), address.replace("Wanderer", "victim"),
                address[:5] + ("A" if address[5] != "A" else "B") + address[6:],
                address.replace("SRS0=", "SRS1="), "SRS0=@here.test", "SRS0=====@here.test"]
    with Client(c.port) as client:
        client.hello()
        client.cmd("MAIL FROM:<>", 250)
        for wrong in tampered:
            assert client.cmd(f"RCPT TO:<{wrong}>").text.startswith("550 5.1.1 "), wrong
        # Only bounces have a way back.
        client.cmd("RSET", 250)
        client.cmd("MAIL FROM:<spam@far.test>", 250)
        assert client.cmd(f"RCPT TO:<{address}>").text.startswith("550 5.1.1 ")
    assert home.messages == [] and not c.queued()


def test_way_back_beside_a_catch_all(round_trip):
    c, there, home = round_trip
    address = rewritten(c, there, "away@all.test")
    send(c.port, "", [address], BOUNCE)
    c.wait_queue_empty()
    assert len(home.messages) == 1 and c.messages("user", "all.test") == []
    # What is not ours is a name like any other.
    send(c.port, "", [address.replace("Wanderer", "victim")], BOUNCE)
    c.wait_messages("user", domain="all.test")
    assert len(home.messages) == 1


@pytest.mark.parametrize("hop", ["here.test", "HERE.test.", "localhost"])
def test_sender_that_names_us_as_a_hop(round_trip, hop):
    """SRS1 leads to an address at the hop, which anybody may have written: no user comes of it."""
    c, there, home = round_trip
    send(c.port, f"SRS1=x={hop}==somebody@stranger.test", ["away@here.test"], HARD["dots"])
    c.wait_queue_empty()
    address = there.messages[-1].sender
    assert address.startswith("SRS1=") and address.endswith("==somebody@here.test")
    with Client(c.port) as client:
        client.hello()
        client.cmd("MAIL FROM:<>", 250)
        assert client.cmd(f"RCPT TO:<{address}>").text.startswith("550 5.1.1 ")
    assert not c.maildir("srs0=somebody").exists()


def test_bounce_of_what_came_by_us_twice(round_trip):
    """We, another forwarder, we again: SRS1 leads to an SRS0 address of ours, and that leads home."""
    c, there, home = round_trip
    first = rewritten(c, there, "away@here.test")
    send(c.port, "SRS1=AAAAAAAA=here.test=" + first[4:].replace("@here.test", "@stranger.test"),
         ["away@here.test"], HARD["dots"])
    c.wait_queue_empty()
    send(c.port, "", [there.messages[-1].sender], BOUNCE)
    c.wait_queue_empty()
    m = home.messages[-1]
    assert m.sender == "" and m.recipients == ["Wanderer@stranger.test"]
