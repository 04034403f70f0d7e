"""200 hostile sessions in an address space of 16 MB, and in one that is hardly enough to start: 421 and other
replies of the fourth class or a closed door, no end of the daemon; and honest mail after it."""

import collections
import contextlib
import re
import select
import socket
import ssl
import time

import pytest

import certs
import harness
from smtpclient import Client, Closed, send

SPACE = 16 << 20
SESSIONS = 200
HELLO = "EHLO x\r\n"
BEGIN = HELLO + "MAIL FROM:<a@x.test>\r\n"


def client_hello(size):
    """The beginning of what a client of TLS says first."""
    out = ssl.MemoryBIO()
    tls = ssl._create_unverified_context().wrap_bio(ssl.MemoryBIO(), out)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()[:size]


TALK = {
    "long command": (b"NOOP " + b"x" * 60000,),
    "recipients": ((BEGIN + "".join(f"RCPT TO:<u{'x' * 40}+{i}@here.test>\r\n" for i in range(300))).encode(),),
    "half a handshake": ((HELLO + "STARTTLS\r\n").encode(), client_hello(100)),
    "a handshake": ((HELLO + "STARTTLS\r\n").encode(), client_hello(4096)),
    "content": ((BEGIN + "RCPT TO:<user@here.test>\r\nDATA\r\n").encode(), b"x" * 70 + b"\r\n" + b"y" * 900),
    "pipelining": (("HELP\r\n" + HELLO + "VRFY user\r\n").encode() * 3000,),
}


class Attack:
    """Holds the sessions; what each was told is read at the end."""

    def __init__(self, c):
        self.socks = []
        for i in range(SESSIONS):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.settimeout(0.3)
            self.socks.append((list(TALK)[i % len(TALK)], s))
            with contextlib.suppress(OSError):
                s.bind((f"127.0.6.{i + 1}", 0))
                s.connect((c.address, c.port))
        # A piece of each by turns: they are all there at the same time.
        for step in range(2):
            for kind, s in self.socks:
                with contextlib.suppress(OSError, IndexError):
                    s.sendall(TALK[kind][step])

    def told(self):
        """How often each code was the last thing said; None for nothing."""
        codes = collections.Counter()
        silent = [s for _, s in self.socks]
        end = time.monotonic() + 5
        while silent and time.monotonic() < end:
            heard = select.select(silent, [], [], 0.2)[0]
            silent = [s for s in silent if s not in heard]
        for kind, s in self.socks:
            got = b""
            s.setblocking(False)
            with contextlib.suppress(OSError):
                while piece := s.recv(65536):
                    got += piece
            found = re.findall(rb"^(\d{3})[ -]", got, re.M)
            codes[found[-1].decode() if found else None] += 1
            refused = [f for f in found if f >= b"400"]
            if refused and kind in ("recipients", "content"):
                assert refused[0] < b"500", (kind, found)
        return codes

    def stop(self):
        for _, s in self.socks:
            s.close()


class World:
    def __init__(self, box, chasq):
        self.c = chasq(start=False, program=harness.fast_binary(), conf={"suffix_separators": "+"},
                       domains={"here.test": {"users": ["user", "u" + "x" * 40]}})
        certs.make_cert(box.path / "pki", ["chasq.test"]).install(self.c.dir / "certs", "chasq.test")

    def start(self, space):
        """Whether it starts with so much; if not, it said why."""
        c = self.c
        c.start(wrap=["prlimit", f"--as={space}"], wait=False)
        harness.wait_for(lambda: not c.process.running() or harness.can_connect(c.address, c.port), 20, step=0.005)
        if c.process.running():
            return True
        code = c.process.wait()
        # Up to main(), the dynamic linker and the C library speak for us.
        assert code in (1, 127), f"ended with {code}:\n{c.log()}"
        return False

    def smallest(self):
        """The smallest space that it starts in, to 128 KB."""
        low, high = 1 << 20, SPACE
        while high - low > 128 << 10:
            middle = (low + high) // 2
            if self.start(middle):
                self.c.stop()
                high = middle
            else:
                low = middle
        return high


@pytest.mark.parametrize("space", ["16MB", "little", "least"])
def test_hostile_sessions_in_a_small_address_space(box, chasq, space):
    w = World(box, chasq)
    size = SPACE
    if space != "16MB":
        size = w.smallest() + ((1 << 20) if space == "little" else (256 << 10))
    assert w.start(size), w.c.log()
    for _ in range(3 if harness.FULL else 1):
        attack = Attack(w.c)
        box.on_stop(attack.stop)
        codes = attack.told()
        assert w.c.process.running(), w.c.log()[-3000:]
        print(f"{size >> 10} KiB: {dict(codes)}")
        attack.stop()

        def honest():
            with contextlib.suppress(OSError, Closed, AssertionError):
                send(w.c.port, "a@client.test", ["user@here.test"], b"Subject: honest\r\n\r\nx\r\n", timeout=5)
                return True
            return False

        harness.wait_for(honest, 30, lambda: "honest mail to be taken\n" + w.c.log()[-3000:], 0.1)
        w.c.wait_messages("user")
    with Client(w.c.port) as client:
        client.hello()
        client.cmd("STARTTLS", 220)
        ssl._create_unverified_context().wrap_socket(client.sock).close()
