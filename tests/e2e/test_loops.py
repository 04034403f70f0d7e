"""Mail that comes back: our own hosts, aliases of two servers, answering machines, notifications."""

import re

import pytest

import harness
from smtpclient import send

TEXT = b"Subject: round and round\r\n\r\ntext\r\n"


@pytest.mark.parametrize("listen, host", [
    ("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("0.0.0.0", "127.0.0.77"), ("0.0.0.0", "0.0.0.0"),
    ("[::]", "::1"), ("[::]", "127.0.0.1"), ("[::]", "::ffff:127.0.0.1"), ("[::]", "::")])
def test_mx_is_ourselves(chasq, dnsmasq, listen, host):
    """Whatever name of ours the MX has: no session with ourselves, and one notification."""
    port = harness.free_port("127.0.0.1")
    dns = dnsmasq(mx={"far.test": [(10, "mx.far.test")]}, hosts={"mx.far.test": [host]})
    c = chasq(port=port, conf={"dns_servers": dns.server, "remote_smtp_port": port, "smtp_address": f"{listen}:{port}",
                               "trusted_network": "127.0.0.0/8"}, domains={"here.test": {"users": ["sender"]}})
    send(port, "sender@here.test", ["b@far.test"], TEXT)
    dsn, = c.wait_messages("sender")
    c.wait_queue_empty()
    assert re.search(rb"^Status: 5\.4\.6", dsn, re.M), dsn
    assert c.log().count("smtpd queued") == 1


class Ring:
    """Two servers, each the MX of its domains, that trust nobody."""

    def __init__(self, chasq, dnsmasq, aliases_a, aliases_b, conf=None):
        port = harness.free_port("127.0.0.2", "127.0.0.3")
        dns = dnsmasq(mx={"a.test": [(10, "mx.a.test")], "b.test": [(10, "mx.b.test")]},
                      hosts={"mx.a.test": ["127.0.0.2"], "mx.b.test": ["127.0.0.3"]})
        make = lambda name, address, aliases: chasq(  # noqa: E731
            name, address=address, port=port,
            conf={"dns_servers": dns.server, "remote_smtp_port": port, "hostname": f"mx.{name}.test", **(conf or {})},
            domains={f"{name}.test": {"users": ["sender", "user"], "aliases": aliases}})
        self.a, self.b = make("a", "127.0.0.2", aliases_a), make("b", "127.0.0.3", aliases_b)

    def settle(self, seconds=60):
        harness.wait_for(self.quiet, seconds, lambda: "both queues to become empty\n" + self.a.log()[-2000:])

    def quiet(self):
        """Both are empty, and no message came to the one while the other was looked at."""
        before = self.accepted()
        return not self.a.queued() and not self.b.queued() and self.accepted() == before

    def accepted(self):
        return self.a.log().count("smtpd queued") + self.b.log().count("smtpd queued")

    def send(self, sender, to):
        send(self.a.port, sender, [to], TEXT, address="127.0.0.2")


def test_aliases_of_two_servers_in_a_circle(chasq, dnsmasq):
    """The hop limit ends it, with one notification to whoever wrote."""
    r = Ring(chasq, dnsmasq, "x: x@b.test\n", "x: x@a.test\n")
    r.send("sender@a.test", "x@a.test")
    r.settle()
    dsn, = r.a.messages("sender", "a.test")
    assert re.search(rb"^Status: 5\.4\.6", dsn, re.M), dsn
    assert r.accepted() <= 60


def test_notification_into_the_circle_ends_there(chasq, dnsmasq):
    """The sender is the circle itself: its notification goes round once, and nothing comes after it."""
    r = Ring(chasq, dnsmasq, "x: x@b.test\n", "x: x@a.test\n")
    r.send("x@b.test", "x@a.test")
    r.settle()
    assert r.accepted() <= 120
    assert not r.a.messages("sender", "a.test") and not list(r.b.maildirs.rglob("new/*"))


def test_answering_machines_answer_once(box, chasq, dnsmasq):
    """Two that keep to RFC 3834 (a null sender, no answer to one) write one message each at most."""
    rings = {}
    for name in "ab":
        script = box.path / f"answer-{name}"
        script.write_text(f"#!/bin/sh\nexec >>{box.path}/log-{name} 2>&1\nread first\n"
                          'from=${first#Return-Path: <}; from=${from%>*}\necho "from <$from>"\ncat >/dev/null\n'
                          '[ -z "$from" ] && exit 0\n'
                          f'printf "Auto-Submitted: auto-replied\\nSubject: away\\n\\nI am away.\\n" |'
                          f' "{harness.fast_binary()}" sendmail -C "$(cat {box.path}/dir-{name})" -i -f "<>" "$from"\n')
        script.chmod(0o755)
        rings[name] = f"away: | {script}\n"
    r = Ring(chasq, dnsmasq, rings["a"], rings["b"], {"sandbox_readable": str(harness.fast_binary().parent)})
    for name, server in (("a", r.a), ("b", r.b)):
        (box.path / f"dir-{name}").write_text(str(server.dir))
    r.send("away@b.test", "away@a.test")
    r.settle()
    harness.wait_for(lambda: (box.path / "log-b").exists(), 10, "the answer")
    r.settle()
    assert (box.path / "log-a").read_text() == "from <away@b.test>\n"
    assert (box.path / "log-b").read_text() == "from <>\n"


# ---- backscatter --------------------------------------------------------------------------------


@pytest.fixture
def refused(chasq, sink, dnsmasq):
    s = sink(address="127.0.0.2", script={"RCPT": "550 5.1.1 no"})
    dns = dnsmasq(mx={"far.test": [(10, "mx.far.test")]}, hosts={"mx.far.test": ["127.0.0.2"]})
    return chasq(conf={"dns_servers": dns.server, "remote_smtp_port": s.port, "trusted_network": "127.0.0.0/8"},
                 domains={"here.test": {"users": ["sender"], "aliases": "fails: | /bin/false\n"}}), s


def test_null_sender_to_many_makes_nothing(refused):
    c, s = refused
    send(c.port, "", [f"r{i}@far.test" for i in range(90)] + ["fails@here.test"], TEXT)
    c.wait_queue_empty()
    assert c.log().count("smtpd queued") == 1 and not list(c.maildirs.rglob("new/*"))
    assert s.messages == [] and len(s.sessions) == 1


def test_one_notification_for_many(refused):
    """However many recipients fail, at the same time, the sender is told once and with bounded size."""
    c, _ = refused
    send(c.port, "sender@here.test", [f"r{i}@far.test" for i in range(90)] + ["fails@here.test"],
         TEXT + b"y" * 70 + b"\r\n" * 40000)
    dsn, = c.wait_messages("sender")
    c.wait_queue_empty()
    assert len(c.messages("sender")) == 1
    assert len(dsn) < 65536 + 91 * 600 and dsn.count(b"\nFinal-Recipient:") == 91
