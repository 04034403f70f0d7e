"""Clocks that are wrong, and clocks that jump: nothing bounces early, nothing is stuck.

The daemon's wall clock is libfaketime's, read anew from a file at each call; its monotonic clock is real.
"""

import calendar
import re
import time

import pytest

import harness
from smtpclient import Client, send

YEAR = 365 * 86400
MAIL = b"Subject: x\r\n\r\nx\r\n"


class Clock:
    """A wall clock that the test sets while the daemon runs."""

    def __init__(self, box):
        self.file = box.path / "clock"
        self.set(0)
        self.wrap = harness.at_time("", f"FAKETIME_TIMESTAMP_FILE={self.file}", "FAKETIME_NO_CACHE=1")

    def set(self, offset):
        """Seconds from the true time."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{offset:+d}\n")
        new.rename(self.file)


class Far:
    """A host that answers "later" until told otherwise."""

    def __init__(self, sink, dnsmasq):
        self.busy = True
        self.sink = sink(address="127.0.0.2", script={"RCPT": self.answer})
        dns = dnsmasq(mx={"far.test": [(10, "mx.far.test")]}, hosts={"mx.far.test": ["127.0.0.2"]})
        self.conf = {"dns_servers": dns.server, "remote_smtp_port": self.sink.port,
                     "trusted_network": "127.0.0.0/8"}

    def answer(self, _session, _arg):
        return "451 4.3.2 later" if self.busy else None


DOMAINS = {"here.test": {"users": ["user", "sender"]}}


def tried_again(c):
    """Flushes; waits until that had an effect."""
    before = c.attempts()
    c.sendmail("-q")
    harness.wait_for(lambda: c.attempts() > before, 10, lambda: "another attempt\n" + c.log()[-3000:])


# The order in which the clock goes; each from where the message was accepted to the end.
JUMPS = {
    "1970-then-right": [-int(time.time()) + 86400, 0],
    "ten-years-ahead-and-back": [0, 10 * YEAR, 0],
    "accepted-ahead": [10 * YEAR, 0],
    "ten-years-back": [0, -10 * YEAR, 0],
}


@pytest.mark.parametrize("journal", [False, True], ids=["file", "journal"])
@pytest.mark.parametrize("restart", ["running", "restarted", "killed"])
@pytest.mark.parametrize("name", JUMPS)
def test_jump(box, chasq, sink, dnsmasq, name, restart, journal):
    """A message waits over the jumps, with the daemon running on or started anew at each; then it leaves."""
    if not harness.FULL and journal != (restart != "restarted"):
        pytest.skip("with CHASQ_FULL=1")
    clock, far = Clock(box), Far(sink, dnsmasq)
    c = chasq(program=harness.fast_binary(), start=False, conf=far.conf, domains=DOMAINS, journal=journal)
    for number, offset in enumerate(JUMPS[name]):
        clock.set(offset)
        if number == 0:
            c.start(wrap=clock.wrap)
            send(c.port, "sender@here.test", ["r@far.test"], MAIL)
            c.wait_attempt()
        elif restart != "running":
            c.kill() if restart == "killed" else c.stop()
            c.start(wrap=clock.wrap)
        tried_again(c)
        assert len(c.queued()) == 1 and not c.messages("sender"), c.log()[-2000:]
        # What is new is taken and delivered as ever.
        send(c.port, "a@client.test", ["user@here.test"], MAIL)
        c.wait_messages("user", number + 1)
    far.busy = False
    c.sendmail("-q")
    c.wait_queue_empty()
    assert len(far.sink.messages) == 1 and not c.messages("sender")


def test_session_and_retry_outlive_a_jump(box, chasq, sink, dnsmasq, short_build):
    """Time limits and the retry table run by a clock that does not jump: a session stays, and what waits is
    tried without anybody's help."""
    clock, far = Clock(box), Far(sink, dnsmasq)
    c = chasq(program=short_build, start=False, conf=far.conf, domains=DOMAINS)
    c.start(wrap=clock.wrap)
    with Client(c.port) as client:
        client.hello()
        client.cmd("MAIL FROM:<sender@here.test>", 250)
        clock.set(10 * YEAR)
        client.cmd("RCPT TO:<r@far.test>", 250)
        client.cmd("DATA", 354)
        clock.set(-10 * YEAR)
        client.send(MAIL + b".\r\n")
        assert client.read().code == 250
    before = len(far.sink.sessions)
    harness.wait_for(lambda: len(far.sink.sessions) >= before + 2, 30,
                     lambda: "two tries by itself\n" + c.log()[-3000:])
    far.busy = False
    clock.set(0)
    harness.wait_for(lambda: far.sink.messages and not c.queued(), 30,
                     lambda: "it to leave by itself\n" + c.log()[-3000:])
    assert not c.messages("sender")


@pytest.mark.parametrize("month, day, before, after", [(3, 28, "+0100", "+0200"), (10, 31, "+0200", "+0100")],
                         ids=["spring", "autumn"])
def test_summer_time(box, chasq, sink, dnsmasq, month, day, before, after):
    """The local hour comes twice in October and is missing in March: dates say which one, nothing bounces."""
    clock, far = Clock(box), Far(sink, dnsmasq)
    c = chasq(program=harness.fast_binary(), start=False, conf=far.conf, domains=DOMAINS)
    clock.set(calendar.timegm((2027, month, day, 0, 59, 57)) - int(time.time()))
    c.start(wrap=clock.wrap, env={"TZ": "CET-1CEST,M3.5.0,M10.5.0/3"})
    send(c.port, "sender@here.test", ["r@far.test"], MAIL)
    c.wait_attempt()
    zones = []
    end = time.monotonic() + 10
    while after not in zones and time.monotonic() < end:
        send(c.port, "a@client.test", ["user@here.test"], MAIL)
        zones = [re.search(rb"^Received: .*?;\s[^;]*? ([+-]\d{4})$", m, re.M | re.S)[1].decode()
                 for m in c.wait_messages("user", len(zones) + 1)]
        time.sleep(0.2)
    assert set(zones) == {before, after} and zones == sorted(zones, key=[before, after].index)
    tried_again(c)
    assert len(c.queued()) == 1 and not c.messages("sender")
    far.busy = False
    c.sendmail("-q")
    c.wait_queue_empty()
