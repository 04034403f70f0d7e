"""Postfix's smtp-source in front, smtp-sink behind: nothing lost, nothing doubled."""

import collections
import re
import time

import harness
import peers

# ASan makes it slow: fewer messages then, all of them with the program as it is used.
MESSAGES = 10000


def check_ids(found, expected):
    counts = collections.Counter(found)
    doubled = {i: n for i, n in counts.items() if n > 1}
    assert not doubled, f"{len(doubled)} doubled, such as {list(doubled)[:3]}"
    assert len(counts) == expected, f"{expected - len(counts)} lost"


def test_relay_10000(box, chasq, dnsmasq, smtp_sink):
    sink = smtp_sink(address="127.0.0.2")
    dns = dnsmasq(mx={"far.test": [(10, "mx.far.test")]}, hosts={"mx.far.test": [sink.address]})
    c = chasq(program=harness.fast_binary(), conf={
        "dns_servers": dns.server, "remote_smtp_port": sink.port, "max_queue_items": 20000,
        "trusted_network": "127.0.0.0/8"})
    start = time.monotonic()
    source = peers.smtp_source(box, c.port, sessions=50, messages=MESSAGES,
                               recipient="r@far.test")
    assert source.wait(240) == 0, source.log()
    accepted = time.monotonic() - start
    harness.wait_for(lambda: sink.count() >= MESSAGES and not c.queued(), 180,
                     lambda: f"{sink.count()} of {MESSAGES}", step=0.1)
    print(f"accepted {MESSAGES / accepted:.0f}/s, passed {MESSAGES / (time.monotonic() - start):.0f}/s")
    check_ids(sink.message_ids(), MESSAGES)
    assert c.queued() == []


def test_maildir_load(box, chasq):
    """The same into a Maildir, with sanitizers."""
    count = 10000 if harness.FULL else 1500
    c = chasq(conf={"max_queue_items": 20000, "trusted_network": "127.0.0.0/8"})
    source = peers.smtp_source(box, c.port, sessions=50, messages=count, length=3000)
    assert source.wait(240) == 0, source.log()
    new = c.maildir("user") / "new"
    harness.wait_for(lambda: new.exists() and len(list(new.iterdir())) >= count and not c.queued(),
                     180, "all to be delivered", step=0.1)
    found = []
    for m in c.messages("user"):
        found += re.findall(rb"^Message-Id: (<[^>]*>)", m, re.M | re.I)
    check_ids(found, count)


def test_many_recipients(box, chasq):
    """Each message to 50 recipients, from 20 sessions."""
    users = ["u", *(f"{n}u" for n in range(2, 51))]
    c = chasq(conf={"trusted_network": "127.0.0.0/8"}, domains={"here.test": {"users": users}})
    source = peers.smtp_source(box, c.port, sessions=20, messages=40, recipient="u@here.test",
                               extra=["-r", 50])
    assert source.wait(120) == 0, source.log()
    c.wait_queue_empty(60)
    for user in users:
        assert len(c.messages(user)) == 40, user
