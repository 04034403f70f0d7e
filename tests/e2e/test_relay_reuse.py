"""One connection for many messages: how few there are, and that none is used that should not be."""

import collections
import re
import socket
import threading
import time

import pytest

import harness
import peers
from sink import Bytes, Drop, Mute
from smtpclient import Client, send
from test_tls_client import block, ca, secret, submit, way  # noqa: F401

COUNT = 1000
PARALLEL = 10  # REMOTE_DOMAIN_PARALLEL
MESSAGE = b"From: sender@here.test\r\nSubject: %d\r\n\r\nbody\r\n"


def pour(c, count, to="b@far.test", sender="sender@here.test"):
    """So many messages over one connection; the queue drains meanwhile."""
    with Client(c.port, timeout=30) as client:
        client.hello()
        for i in range(count):
            client.message(sender, [to], MESSAGE % i)


def arrive(c, s, count):
    harness.wait_for(lambda: len(s.messages) >= count, 120, lambda: f"{len(s.messages)} of {count} messages")
    c.wait_queue_empty()


def check_once(sinks, count):
    seen = collections.Counter(re.search(rb"Subject: (\d+)", m.data)[1] for s in sinks for m in s.messages)
    assert len(seen) == count and max(seen.values()) == 1, (len(seen), seen.most_common(3))


def used(s):
    """Messages by session."""
    return sorted(collections.Counter(m.session for m in s.messages).values())


@pytest.mark.parametrize("kind", ["plain", "tls", "login"])
def test_few_connections(way, ca, kind):  # noqa: F811
    """1,000 messages: at most one connection for a hundred."""
    count = COUNT if kind == "plain" or harness.FULL else 300
    sinks = {"plain": {}, "tls": {"cert": ca.good}, "login": {"cert": ca.good, "users": {"me": "geheim"}}}
    hosts = [{"user": "me", "password_file": "password"}] if kind == "login" else ()
    c, s = way(sinks[kind], smarthosts=hosts, start=False, conf={"max_queue_items": 2 * COUNT})
    if kind == "login":
        secret(c, "geheim\n")
    c.start()
    start = time.monotonic()
    pour(c, count)
    arrive(c, s, count)
    check_once([s], count)
    # On a machine that has no time for us, connections wait for the next message until they are closed.
    rounds = 1 + int((time.monotonic() - start) / 5)
    assert len(s.sessions) <= rounds * max(PARALLEL, count // 100), used(s)
    assert all(x.tls for x in s.sessions) == (kind != "plain")
    assert all(x.login == ("me" if kind == "login" else None) for x in s.sessions)
    harness.wait_for(lambda: all(x.ended for x in s.sessions), 10, "idle connections to end")
    assert {x.ended for x in s.sessions} == {"quit"}
    print(f"{kind}: {count} messages, {len(s.sessions)} connections, {used(s)}")


@pytest.mark.parametrize("stage, last", [("MAIL", "421 4.7.0 enough"), ("MAIL", None), ("RCPT", None),
                                         ("DATA", None), ("BODY-END", None), ("MAIL-451", None),
                                         ("MAIL-554", None)])
def test_server_that_ends_it(way, stage, last):  # noqa: F811
    """A server that ends each connection at its fourth message, in every way: all arrive once, at the first
    attempt, and nobody is told of a failure."""
    taken = collections.Counter()

    def action(session, _):
        taken[session.number] += 1
        if taken[session.number] <= 3:
            return None
        return stage[5:] + " too many" if stage.startswith("MAIL-") else Drop(last)

    def close_after(session, _):
        taken[session.number] += 1
        return Drop("250 2.0.0 kept") if taken[session.number] == 3 else None

    script = {"BODY": close_after} if stage == "BODY-END" else {stage.split("-")[0]: action}
    c, s = way({"script": script})
    pour(c, 60)
    arrive(c, s, 60)
    check_once([s], 60)
    assert max(used(s)) == 3, used(s)
    assert "host failed" not in c.log() and "deferred" not in c.log()


@pytest.mark.parametrize("most", [1, 3])
def test_host_that_takes_few_connections(way, most):  # noqa: F811
    """Whom it has no connection left for goes by one that another has, instead of waiting for the next attempt."""
    lock = threading.Lock()
    open_now = []
    refused = []

    def connect(session, _):
        with lock:
            open_now[:] = [x for x in open_now if not x.ended]
            if len(open_now) >= most:
                refused.append(session)
                return Drop("421 4.3.2 too many connections")
            open_now.append(session)
            return None

    def slow(*_):
        time.sleep(0.02)

    c, s = way({"script": {"CONNECT": connect, "BODY": slow}})
    assert c.run("hold", "far.test", "-C", c.dir).returncode == 0
    pour(c, 60)
    assert c.run("release", "far.test", "-C", c.dir).returncode == 0
    arrive(c, s, 60)
    check_once([s], 60)
    assert refused and " deferred " not in c.log()


def test_half_a_reply_too_many(way):  # noqa: F811
    """The beginning of a reply that nobody has asked for ends a kept connection: with its rest, that of each command
    would be taken for that of the next one, and somebody be refused for another."""
    def mail(session, _):
        return Bytes(b" one\r\n250 2.1.0 ok\r\n") if session.commands.count(b"DATA\r\n") else None

    c, s = way({"script": {"BODY": Bytes(b"250 2.0.0 kept\r\n250 2.0.0 too many"), "MAIL": mail,
                           "RCPT": lambda _, arg: "550 5.1.1 nobody" if "bad" in arg else None}})
    send(c.port, "", ["first@far.test"], MESSAGE % 0)
    harness.wait_for(lambda: s.messages, 10, "the first message")
    send(c.port, "", ["bad@far.test", "good@far.test"], MESSAGE % 1)
    arrive(c, s, 2)
    assert [m.recipients for m in s.messages] == [["first@far.test"], ["good@far.test"]]
    assert c.log().count(" failed from=") == 1, c.log()


def test_refused_messages_keep_the_connection(way):  # noqa: F811
    """RSET stands between a refused message and the next one; each refusal is for its message alone."""
    c, s = way({"script": {"RCPT": lambda _, arg: "550 5.1.1 nobody" if "bad" in arg else None}})
    for i in range(20):
        send(c.port, "", [("bad" if i % 2 else "good") + "@far.test"], MESSAGE % (i // 2))
    arrive(c, s, 10)
    check_once([s], 10)
    assert len(s.sessions) <= PARALLEL
    for x in s.sessions:
        said = [line[:4].strip().upper() for line in x.commands]
        for i, verb in enumerate(said):
            if verb == b"RCPT" and said[i + 1] not in (b"DATA", b"RCPT"):
                assert said[i + 1] == b"RSET", x.commands


def test_reload_ends_them(way, ca):  # noqa: F811
    """Credentials of a smarthost that were changed are used by the next message."""
    c, s = way({"cert": ca.good, "users": {"me": "geheim", "you": "secret"}},
               smarthosts=[{"user": "me", "password_file": "password"}], start=False)
    secret(c, "geheim\n")
    c.start()
    submit(c)
    arrive(c, s, 1)
    conf = c.dir / "chasq.conf"
    conf.write_text(conf.read_text().replace('user: "me"', 'user: "you"'))
    secret(c, "secret\n")
    assert c.run("reload", "-C", c.dir).returncode == 0
    submit(c)
    arrive(c, s, 2)
    assert [x.login for x in s.sessions] == ["me", "you"]
    assert len(s.messages) == 2


def test_logins_apart(way, ca):  # noqa: F811
    """Two smarthosts, one server, two users: mail of one never goes over the login of the other."""
    c, s = way({"cert": ca.good, "users": {"me": "geheim", "you": "secret"}},
               smarthosts=[{"user": "me", "password_file": "one", "sender": "*@one.test"},
                           {"user": "you", "password_file": "two"}], start=False)
    secret(c, "geheim\n", "one")
    secret(c, "secret\n", "two")
    c.start()
    for i in range(40):
        submit(c, sender=f"x@{'one' if i % 2 else 'two'}.test")
    arrive(c, s, 40)
    logins = {x.number: x.login for x in s.sessions}
    assert len(s.messages) == 40
    for m in s.messages:
        assert logins[m.session] == ("me" if m.sender.endswith("one.test") else "you")
    assert len(s.sessions) < 40


def test_stop_says_quit(way):  # noqa: F811
    c, s = way({})
    submit(c)
    arrive(c, s, 1)
    c.stop()
    assert harness.wait_for(lambda: s.sessions[0].ended, 5) == "quit"


def black_hole(box, address, port):
    """An address where the kernel answers nobody, as the queue of connections is full."""
    hole = socket.socket()
    box.on_stop(hole.close)
    hole.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    hole.bind((address, port))
    hole.listen(0)
    for _ in range(3):
        guest = socket.socket()
        box.on_stop(guest.close)
        guest.setblocking(False)
        guest.connect_ex((address, port))


def to_the_live_host(c, s):
    """Seconds that each of five messages takes to the sink, one after the other."""
    took = []
    for i in range(5):
        start = time.monotonic()
        submit(c)
        harness.wait_for(lambda n=i: len(s.messages) > n, 20, "the live host to get its message", step=0.005)
        took.append(time.monotonic() - start)
    return took


@pytest.mark.parametrize("holes, mutes", [(1, 0), (3, 3)])
def test_black_hole(box, chasq, sink, dnsmasq, holes, mutes):
    """10,000 messages for hosts that do not answer, or stop to, and one for another: it has it within a second."""
    count = 10000 if harness.FULL else 1500 if holes == 1 else 600
    s = sink(address="127.0.0.2")
    mx = {"far.test": [(10, "mx.far.test")]}
    hosts = {"mx.far.test": ["127.0.0.2"]}
    for i in range(holes + mutes):
        address = f"127.0.0.{i + 3}"
        if i < holes:
            black_hole(box, address, s.port)
        else:
            sink(address=address, port=s.port, script={"EHLO": Mute()})
        mx[f"hole{i}.test"] = [(10, f"mx.hole{i}.test")]
        hosts[f"mx.hole{i}.test"] = [address]
    dns = dnsmasq(mx=mx, hosts=hosts)
    c = chasq(program=harness.fast_binary(), conf={
        "dns_servers": dns.server, "remote_smtp_port": s.port, "max_queue_items": 20000,
        "trusted_network": "127.0.0.0/8"})
    each = count // (holes + mutes)
    sources = [peers.smtp_source(box, c.port, sessions=5, messages=each, recipient=f"x@hole{i}.test")
               for i in range(holes + mutes)]
    for source in sources:
        assert source.wait(200) == 0, source.log()
    took = to_the_live_host(c, s)
    print(f"{count} for {holes + mutes} that do not answer; to the live host in "
          f"{[f'{t * 1000:.0f} ms' for t in took]}")
    # The least: what the machine does beside this may take one of them any time.
    assert min(took) < 1
    assert len(re.findall(r"x@hole\d\.test", c.mailq().stdout.decode())) == each * (holes + mutes)
    c.kill()  # an orderly end would wait for those


def test_many_black_holes(box, chasq, sink, dnsmasq):
    """The same with a hundred domains that nothing is known of yet, more than there are places."""
    count, holes = 10000 if harness.FULL else 600, 100
    s = sink(address="127.0.0.2")
    mx = {"far.test": [(10, "mx.far.test")]}
    hosts = {"mx.far.test": ["127.0.0.2"]}
    for i in range(holes):
        address = f"127.0.1.{i + 1}"
        black_hole(box, address, s.port)
        mx[f"hole{i}.test"] = [(10, f"mx.hole{i}.test")]
        hosts[f"mx.hole{i}.test"] = [address]
    dns = dnsmasq(mx=mx, hosts=hosts)
    c = chasq(program=harness.fast_binary(), conf={
        "dns_servers": dns.server, "remote_smtp_port": s.port, "max_queue_items": 20000,
        "trusted_network": "127.0.0.0/8"})
    with Client(c.port) as client:
        client.hello()
        for i in range(count):
            client.message("a@client.test", [f"x@hole{i % holes}.test"], b"Subject: x\r\n\r\ntext\r\n")
    took = to_the_live_host(c, s)
    print(f"{count} for {holes} that do not answer; to the live host in {[f'{t * 1000:.0f} ms' for t in took]}")
    assert min(took) < 1
    assert len(re.findall(r"x@hole\d+\.test", c.mailq().stdout.decode())) == count
    c.kill()


@pytest.mark.parametrize("server", ["postfix", "exim"])
def test_into(box, chasq, exim, server):
    """Real servers take message after message on one connection."""
    count = 100
    there = exim() if server == "exim" else peers.Postfix(box)
    c = chasq(conf={"trusted_network": "127.0.0.0/8",
                    "smarthost": [block(there.port, address="127.0.0.1", tls=harness.Raw("NONE"))]})
    pour(c, count, to="user@there.test")
    harness.wait_for(lambda: len(there.messages()) >= count, 60, lambda: there.log()[-3000:])
    subjects = {re.search(rb"Subject: (\d+)", m)[1] for m in there.messages()}
    assert len(there.messages()) == len(subjects) == count
    connections = c.log().count(" remote security ")
    print(f"{server}: {count} messages over {connections} connections")
    assert 0 < connections <= PARALLEL
    assert "host failed" not in c.log()
