"""A stranger's recipients in every spelling: only users of here.test get mail, each only their own."""

import itertools
import random
import re
import unicodedata

import pytest

import harness
from smtpclient import Client, Closed

# What a server that decodes, cuts or routes by a local part would take for somebody at far.test.
ROUTED = [
    "x%far.test", "x%far.test%here.test", "x%40far.test", "x%2540far.test", "far.test!x", "here.test!far.test!x",
    "far.test!x%here.test", "x=40far.test", "=?utf-8?q?x=40far.test?=", "=?UTF-8?B?eEBmYXIudGVzdA==?=", "x+AEA-far.test",
    "x&#64;far.test", "x\\@far.test", '"x@far.test"', '"x\\@far.test"', '"x%far.test"', '"far.test!x"', '"@far.test:x"',
    '"<x@far.test>"', '"x@far.test\\"', '"x@far.test"@far.test', "x@far.test", '"x"@far.test', "@far.test:x", "x@far.test,user",
    "x\uff20far.test", "x\ufe6bfar.test", "x\uff05far.test", "far.test\uff01x", "x\u0000@far.test", "user\u0000",
    '"user\u0000@far.test"', "user@far.test>", "user\r", "user\n", "x(@far.test)", "(user)x", "user (x@far.test)", "|x", "/x", "~x",
    ":include:/etc/passwd", "\\user", "SRS0=AAAA=AA=far.test=x", "SRS0+AAAA=AA=far.test=x", "SRS0=AAAAAAAA=AA=far.test=x",
    "SRS1=AAAA=far.test==AAAA=AA=far.test=x", "srs0=aaaaaaaa=aa=far.test=x", "prvs=0123456789=x%far.test", "x#far.test",
]

# The names of people, and what is none of them.
NAMES = ["user", "USER", "us.er", "uSeR+tag", '"user"', '"us\\er"', '"u\\s\\e\\r"', "user.", ".user", "us..er", '"user "', '" user"',
         '"user\t"', "us\u00ader", "user\u200d", "user\u200b", "\u0443ser", "us\u0435r", "user\u0301", "\uff55\uff53\uff45\uff52", "kim",
         "\u212aim", "K\u0131m", "k\u0131m", "\u212aIM", "\u03bcser", "use\u0280", "user\ufeff", "user\u2028", "u\u017fer", "", '""', "other",
         "postmaster", "Postmaster", "POSTMASTER", "post.master", "root", "nobody"]

DOMAINS = [
    "here.test", "HERE.TEST", "here.test.", "here.test..", ".here.test", "here..test", "sub.here.test", "here.test.far.test",
    "farhere.test", "far.test", "FAR.test.", "[127.0.0.1]", "[127.1]", "[IPv6:::1]", "[::1]", "[here.test]", "[127.0.0.1", "127.0.0.1",
    "2130706433", "#2130706433", "0x7f000001", "localhost", "localhost.", "here.test@far.test", "here.test%far.test", "here.test:25",
    "here.test/far.test", "here.test,far.test", "here.test;far.test", "here.test far.test", "here.test\tfar.test", "here.test>far.test",
    "here.test\u0000far.test", "here.test\u0000", "here.test\rfar.test", "here.test(far.test)", "here\uff0etest", "here\u3002test",
    "here\uff61test", "here.test\u3002", "here\u2024test", "he\u00adre.test", "here\u200d.test", "here\u200b.test", "h\u0435re.test",
    "\uff48\uff45\uff52\uff45.test", "here.te\u017ft", "here.t\u212fst", "xn--hre-9la.test", "xn--here-.test", "xn--.test", "XN--HERE-.test",
    "=?utf-8?q?here.test?=", "here.test\u0301", "*", "*.test", "",
]

WRAPS = ["<{}>", "{}", "<@far.test:{}>", "<@here.test:{}>", "<@here.test,@far.test:{}>", "<@far.test,{}>", "<<{}>>", "< {}>", "<{} >",
         '"{}"', "Somebody <{}>", "<{}>,<x@far.test>", "<{}> <x@far.test>", "<{}>x@far.test", "<{}> ORCPT=rfc822;x@far.test",
         "<{}> NOTIFY=NEVER", "<{}@far.test>", "<{}", "{}>", "<x@far.test,{}>", "<x@far.test:{}>", "<\"{}\"@far.test>"]


def fold(text):
    """As forgiving as anybody could be about which name is the same."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return re.sub("[\u00ad\u200b\u200c\u200d\u2060\ufeff]", "", unicodedata.normalize("NFKC", text)).replace("\u3002", ".")


def may_reach(name, domain):
    """The one mailbox that name@domain could stand for, or None. Everything in ROUTED is nobody."""
    plain = re.sub(r"\\(.)", r"\1", name[1:-1]) if name.startswith('"') and name.endswith('"') else name
    plain = fold(plain).partition("+")[0].replace(".", "")
    if fold(domain).removesuffix(".") not in ("here.test", "localhost"):
        return None
    return {"user": "user", "kim": "kim", "postmaster": "boss", "other": "other"}.get(plain)


def spellings():
    """(what stands behind RCPT TO:, the mailbox it may reach or None)."""
    for wrap, name, domain in itertools.product(WRAPS, NAMES, DOMAINS):
        given = wrap.format(f"{name}@{domain}")
        yield given, may_reach(name, domain) if "@far.test>" not in wrap and "x@far" not in wrap else None
    for wrap, name, domain in itertools.product(WRAPS, ROUTED, DOMAINS):
        yield wrap.format(f"{name}@{domain}"), None
    for wrap, name in itertools.product(WRAPS, [*ROUTED, *NAMES]):
        yield wrap.format(name), may_reach(name, "here.test") if fold(name) == "postmaster" else None


@pytest.fixture
def home(chasq, sink, dnsmasq):
    """A server for here.test alone, and one that would take what it relays."""
    there = sink(address="127.0.0.2")
    names = ["far.test", "sub.here.test", "here.test.far.test", "farhere.test"]
    dns = dnsmasq(mx={n: [(10, "mx.far.test")] for n in names}, hosts={"mx.far.test": ["127.0.0.2"]})
    c = chasq(conf={"hostname": "here.test", "dns_servers": dns.server, "remote_smtp_port": there.port, "suffix_separators": "+"},
              domains={"here.test": {"users": ["user", "kim", "boss", "other"],
                                     "aliases": "postmaster: boss\nfails: | /bin/false\naway: c@far.test\n"}})
    return c, there


class Stranger:
    """A session that is opened anew when the server has had enough of it."""

    def __init__(self, c):
        self.c = c
        self.client = None
        self.left = 0

    def rcpt(self, sender, given, utf8):
        """The reply to RCPT in a transaction of its own; on 250 a message goes with it."""
        if self.left == 0:
            if self.client:
                self.client.close()
            self.client = Client(self.c.port)
            self.client.hello()
            self.left = 8
        c = self.client
        c.cmd(f"MAIL FROM:<{sender}>" + (" SMTPUTF8" if utf8 else ""), 250)
        line = b"RCPT TO:" + given.encode("utf-8")
        try:
            reply = c.cmd(line)
            if "\n" in given or "\r" in given:
                self.left = 0  # the connection is closed, or out of step
            elif reply.code == 250:
                c.cmd("DATA", 354)
                number = self.c.sent = getattr(self.c, "sent", 0) + 1
                c.cmd(f"X-Number: {number}\r\n\r\nx\r\n.", 250)
            else:
                c.cmd("RSET", 250)
                self.left -= 1
            return reply
        except Closed:
            self.left = 0
            raise


@pytest.mark.parametrize("utf8", [False, True])
def test_no_spelling_gets_out(home, utf8):
    c, there = home
    every = list(dict(spellings()).items())
    rng = random.Random(utf8)
    some = every if harness.FULL else [e for e in every if e[1]][:40] + rng.sample(every, 1500)
    stranger = Stranger(c)
    taken = {}
    for given, mailbox in some:
        reply = stranger.rcpt(rng.choice(["a@client.test", "", "user@here.test", "postmaster@here.test"]), given, utf8)
        if reply.code == 250 and "\r" not in given and "\n" not in given:
            assert mailbox, f"taken: {given!r}"
            taken[c.sent] = (given, mailbox)
        else:
            assert reply.code // 100 == 5, (given, reply)
    assert len(taken) > 10
    c.wait_queue_empty()
    got = 0
    for user in ("user", "kim", "boss", "other"):
        for m in c.messages(user):
            given, mailbox = taken[int(re.search(rb"^X-Number: (\d+)", m, re.M)[1])]
            assert mailbox == user, f"{given!r} came to {user}"
            got += 1
    assert got == len(taken) == sum(1 for p in c.maildirs.rglob("new/*"))
    assert there.sessions == []
    print(f"{len(some)} spellings, {len(taken)} taken, all to whom they name")


SENDERS = ["SRS0=AAAAAAAA=AA=far.test=x@here.test", "SRS1=AAAAAAAA=far.test==AAAAAAAA=AA=victim.test=x@here.test",
           "SRS0=AAAA=AA=far.test=x@here.test", '"SRS0=AAAAAAAA=AA=far.test=x"@here.test', "nobody@here.test", "postmaster@here.test",
           "away@here.test", "user@here.test", "x%far.test@here.test", '"x@far.test"@here.test', ""]


def test_forged_senders_open_no_way(home):
    """A sender of ours gives no right to relay, and its bounce goes nowhere that the sender made up."""
    c, there = home
    with Client(c.port) as client:
        client.hello()
        for sender in SENDERS:
            client.cmd(f"MAIL FROM:<{sender}>", 250)
            client.cmd("RCPT TO:<fails@here.test>", 250)
            client.cmd("DATA", 354)
            client.cmd("Subject: x\r\n\r\nx\r\n.", 250)
    for sender in SENDERS:
        with Client(c.port) as client:
            client.hello()
            client.cmd(f"MAIL FROM:<{sender}>", 250)
            client.cmd("RCPT TO:<x@far.test>", 550)
    c.wait_queue_empty()
    # The one bounce that leaves is that to an alias of ours which leads out.
    assert [(m.sender, m.recipients) for m in there.messages] == [("", ["c@far.test"])]
