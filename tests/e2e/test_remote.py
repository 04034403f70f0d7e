"""The SMTP courier against servers of every kind of goodness."""

import re

import pytest

import harness
from contents import HARD
from sink import Bytes, Dribble, Drop, Mute, Reset
from smtpclient import Client, send

MX = {"far.test": [(10, "mx.far.test")]}
HOSTS = {"mx.far.test": ["127.0.0.2"]}


@pytest.fixture
def way(chasq, sink, dnsmasq):
    """A function: starts a sink as the MX of far.test with a script, and a chasq that relays and
    keeps the mailbox of sender@here.test. Returns both."""

    def make(script=None, mx=None, hosts=None, conf=None, **kwargs):
        s = sink(address="127.0.0.2", script=script, **kwargs)
        dns = dnsmasq(mx=mx or MX, hosts=hosts or HOSTS)
        c = chasq(conf={"dns_servers": dns.server, "remote_smtp_port": s.port,
                        "trusted_network": "127.0.0.0/8", **(conf or {})},
                  domains={"here.test": {"users": ["sender"]}})
        return c, s

    return make


def submit(c, to=("b@far.test",), sender="sender@here.test", content=HARD["dots"]):
    send(c.port, sender, list(to), content)


def dsn_of(c):
    m = c.wait_messages("sender", seconds=30)
    c.wait_queue_empty()
    assert len(m) == 1
    return m[0].decode("utf-8", "replace")


# ---- what a good delivery looks like ------------------------------------------------------------


def test_one_transaction_for_a_domain(way):
    c, s = way()
    submit(c, [f"r{i}@far.test" for i in range(20)])
    c.wait_queue_empty()
    assert len(s.messages) == 1 and len(s.messages[0].recipients) == 20
    assert s.messages[0].sender == "sender@here.test"
    assert harness.drop_trace(s.messages[0].data) == harness.drop_trace(HARD["dots"])
    assert s.sessions[0].hello == "EHLO chasq.test"
    assert harness.wait_for(lambda: s.sessions[0].ended, 5) == "quit"


def test_extensions_used(way):
    c, s = way()
    submit(c, content=HARD["eight-bit"])
    c.wait_queue_empty()
    m = re.search(r" SIZE=([0-9]+)", s.messages[0].sender_args)
    assert m and abs(int(m[1]) - len(s.messages[0].data)) < 600, s.messages[0].sender_args
    assert " BODY=8BITMIME" in s.messages[0].sender_args
    assert s.sessions[0].early, "no pipelining"


def test_extensions_not_offered(way):
    c, s = way(extensions=[])
    submit(c, ["a@far.test", "b@far.test"], content=HARD["eight-bit"])
    c.wait_queue_empty()
    assert s.messages[0].sender_args == "FROM:<sender@here.test>"
    assert s.sessions[0].early == [], "pipelined though it was not offered"
    assert harness.drop_trace(s.messages[0].data) == harness.drop_trace(HARD["eight-bit"])


def test_helo_when_ehlo_is_refused(way):
    c, s = way({"EHLO": "502 5.5.1 what?"})
    submit(c)
    c.wait_queue_empty()
    assert s.sessions[0].hello == "HELO chasq.test"
    assert s.messages[0].sender_args == "FROM:<sender@here.test>"


def test_all_contents(way):
    c, s = way()
    with Client(c.port) as client:
        client.hello()
        for content in HARD.values():
            client.message("sender@here.test", ["b@far.test"], content)
    c.wait_queue_empty()
    got = sorted(harness.drop_trace(m.data) for m in s.messages)
    assert got == sorted(harness.drop_trace(m if m.endswith(b"\r\n") else m + b"\r\n")
                         for m in HARD.values())


def test_slow_and_many_lined_server(way):
    """One byte at a time, and replies of many lines."""
    c, s = way({
        "CONNECT": Bytes(b"220-hello\r\n220-there\r\n220 sink.test\r\n"),
        "MAIL": Dribble("250 ok"),
        "RCPT": Bytes(b"250-2.1.5 a\r\n250 2.1.5 b\r\n"),
        "BODY": Dribble("250 2.0.0 kept"),
    })
    submit(c)
    c.wait_queue_empty()
    assert len(s.messages) == 1


# ---- the way ------------------------------------------------------------------------------------


def test_no_mx_uses_address(way):
    c, s = way(mx={"other.test": [(1, "x.test")]}, hosts={"far.test": ["127.0.0.2"]})
    submit(c)
    c.wait_queue_empty()
    assert len(s.messages) == 1


def test_preference_and_next_host(way, sink):
    """127.0.0.3 is preferred and refuses, 127.0.0.4 is not there, 127.0.0.2 takes it."""
    c, s = way(mx={"far.test": [(30, "c.far.test"), (10, "a.far.test"), (20, "b.far.test")]},
               hosts={"a.far.test": ["127.0.0.3"], "b.far.test": ["127.0.0.4"],
                      "c.far.test": ["127.0.0.2"]})
    bad = sink(address="127.0.0.3", port=s.port, script={"CONNECT": Drop("421 4.3.2 busy")})
    submit(c)
    c.wait_queue_empty()
    assert len(s.messages) == 1 and len(bad.sessions) == 1


def test_all_addresses_of_a_host(way):
    c, s = way(hosts={"mx.far.test": ["127.0.0.3", "127.0.0.4", "127.0.0.2"]})
    submit(c)
    c.wait_queue_empty()
    assert len(s.messages) == 1


def test_five_hosts_at_most(way, sink):
    n = 8
    c, s = way(script={"CONNECT": Drop("421 4.3.2 no")},
               mx={"far.test": [(i, f"m{i}.far.test") for i in range(n)]},
               hosts={f"m{i}.far.test": [f"127.0.0.{i + 2}"] for i in range(n)})
    others = [sink(address=f"127.0.0.{i + 2}", port=s.port, script={"CONNECT": Drop("421 4.3.2 no")})
              for i in range(1, n)]
    submit(c)
    c.wait_attempt()
    assert sum(len(x.sessions) for x in [s, *others]) == 5


def test_our_own_address_is_a_loop(chasq, dnsmasq):
    port = harness.free_port("127.0.0.1")
    dns = dnsmasq(mx=MX, hosts={"mx.far.test": ["127.0.0.1"]})
    c = chasq(port=port, conf={"dns_servers": dns.server, "remote_smtp_port": port,
                               "trusted_network": "127.0.0.0/8"},
              domains={"here.test": {"users": ["sender"]}})
    submit(c)
    dsn = dsn_of(c)
    assert re.search(r"^Status: 5\.4\.6|^Status: 5\.[34]\.[0-9]", dsn, re.M), dsn


def test_null_mx(chasq, dnsmasq):
    """RFC 7505: preference 0 and the root as the host; though there is an address."""
    dns = dnsmasq(hosts={"far.test": ["127.0.0.2"]}, extra=["--dns-rr=far.test,15,000000"])
    c = chasq(conf={"dns_servers": dns.server, "trusted_network": "127.0.0.0/8",
                    "remote_smtp_port": harness.free_port()},
              domains={"here.test": {"users": ["sender"]}})
    submit(c)
    assert re.search(r"^Status: 5\.1\.10", dsn_of(c), re.M)


def test_no_such_domain(way):
    c, _ = way()
    submit(c, ["b@nowhere.test"])
    assert re.search(r"^Status: 5\.1\.2|^Status: 5\.4\.4", dsn_of(c), re.M)


def test_dead_resolver_is_transient(chasq):
    c = chasq(conf={"trusted_network": "127.0.0.0/8",
                    "dns_servers": f"127.0.0.1:{harness.free_port()}"},
              domains={"here.test": {"users": ["sender"]}})
    submit(c)
    assert b"PENDING" in c.wait_attempt(60)
    assert not c.messages("sender")


def test_nobody_listens_is_transient(way):
    c, s = way()
    s.stop()
    submit(c)
    assert b"PENDING" in c.wait_attempt()


# ---- refusals -----------------------------------------------------------------------------------


def test_verdict_for_each_recipient(way):
    c, s = way({"RCPT": lambda session, arg: "550 5.1.1 no such b" if "<b@" in arg else
                "452 4.2.2 c is full" if "<c@" in arg else None})
    submit(c, ["a@far.test", "b@far.test", "c@far.test", "d@far.test"])
    text = c.wait_attempt()
    assert s.messages[0].recipients == ["a@far.test", "d@far.test"]
    harness.wait_for(lambda: len(c.queued()) == 1 and b"c is full" in c.text(c.queued()[0]), 20,
                     lambda: text.decode())
    # The rest waits for c; then the sender hears of b.
    s.script.clear()
    c.sendmail("-q")
    dsn = dsn_of(c)
    assert "550 5.1.1 no such b" in dsn and dsn.count("Final-Recipient:") == 1
    assert [m.recipients for m in s.messages] == [["a@far.test", "d@far.test"], ["c@far.test"]]


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "BODY"])
def test_permanent_refusal(way, stage):
    c, s = way({stage: "554 5.7.1 not here"})
    submit(c)
    dsn = dsn_of(c)
    assert "554 5.7.1 not here" in dsn and "Status: 5.7.1" in dsn
    assert harness.wait_for(lambda: s.sessions[0].ended, 5) == "quit"


def test_server_that_goes_on_after_refusing(way):
    """MAIL refused, RCPT and DATA accepted all the same: only the dot may follow (RFC 2920 3.1)."""
    c, s = way({"MAIL": "554 5.7.1 not here", "RCPT": "250 ok"})
    submit(c)
    assert "554 5.7.1 not here" in dsn_of(c)
    assert harness.wait_for(lambda: s.sessions[0].ended, 5) in ("quit", "eof")
    assert all(m.data == b"" for m in s.messages)


@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "BODY"])
def test_temporary_refusal(way, stage):
    c, s = way({stage: "450 4.7.1 later", "HELO": "450 4.7.1 later"})
    submit(c)
    text = c.wait_attempt()
    assert b"PENDING" in text and b"4.7.1 later" in text
    assert harness.wait_for(lambda: s.sessions[-1].ended, 5) == "quit"
    s.script.clear()
    c.sendmail("-q")
    c.wait_queue_empty()
    assert s.messages[-1].recipients == ["b@far.test"] and not c.messages("sender")


@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "MIDDLE", "BODY"])
@pytest.mark.parametrize("action", [Drop(), Reset(), Drop("421 4.3.2 going down"),
                                    Bytes(b"garbage\r\n"), Bytes(b"250-never ends\r\n" * 5000)],
                         ids=["drop", "reset", "421", "garbage", "endless"])
def test_broken_server(way, stage, action):
    """Whatever a server does short of a 5yz: the message waits, nothing is bounced, and it goes out
    when the server is well again."""
    c, s = way({stage: action})
    submit(c, content=HARD["long-line"])
    text = c.wait_attempt(30)
    assert b"PENDING" in text
    s.script.clear()
    c.sendmail("-q")
    c.wait_queue_empty()
    assert s.messages[-1].recipients == ["b@far.test"]
    assert harness.drop_trace(s.messages[-1].data) == harness.drop_trace(HARD["long-line"])
    assert not c.messages("sender")


def test_5yz_greeting(way):
    """RFC 5321 3.1: 554 instead of 220 says that there is no mail service. Not our place to judge
    the recipient by: nothing is lost, the sender hears at once or the message waits."""
    c, _ = way({"CONNECT": "554 5.3.2 no service"})
    submit(c)
    harness.wait_for(lambda: c.messages("sender") or c.attempts(), 20)


def test_size_limit_of_the_peer(way):
    """Too big for what the peer offers: known before a byte of it is sent."""
    c, s = way(extensions=["SIZE 1000", "PIPELINING"])
    submit(c, content=HARD["many-lines"])
    dsn = dsn_of(c)
    assert re.search(r"^Status: 5\.3\.4", dsn, re.M)
    assert not s.messages


def test_bounce_of_a_bounce_is_dropped(way):
    """A null sender gets no notification; the message is gone, and the log says so."""
    c, _ = way({"RCPT": "550 5.1.1 nobody"})
    submit(c, sender="")
    c.wait_queue_empty()
    assert not c.messages("sender")


def test_hanging_server(way, short_build):
    """A server that stops answering: given up after the step's time limit."""
    c, _ = way({"MAIL": Mute(), "RCPT": Mute(), "DATA": Mute()})
    c.stop()
    c.program = short_build
    c.start()
    submit(c)
    assert b"PENDING" in c.wait_attempt(40)


@pytest.mark.parametrize("reply", ["452 4.5.3 too many recipients", "550 5.5.3 too many recipients"])
def test_more_recipients_than_a_host_takes(way, reply):
    """RFC 5321 4.5.3.1.8: a host has to take 100 in a transaction. All are served at the first attempt."""
    names = [f"r{i}@far.test" for i in range(250)]
    c, s = way({"RCPT": lambda session, _: reply if len(session.recipients) >= 100 else None})
    c.domains["here.test"]["aliases"] = "all: " + ", ".join(names) + "\n"
    c.write_conf()
    assert c.run("reload", "-C", c.dir).returncode == 0
    submit(c, ["all@here.test"])
    c.wait_queue_empty(20)
    assert sorted(r for m in s.messages for r in m.recipients) == sorted(names)
    assert not c.messages("sender") and "deferred" not in c.log()
