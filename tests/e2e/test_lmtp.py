"""Local mail by LMTP: to a real Dovecot, and to a server that says odd things."""

import contextlib
import email
import email.policy
import re
import socket
import threading

import pytest

import harness
from contents import HARD
from dovecot import Dovecot
from smtpclient import Client, send

USERS = ["poster", "ana", "ben", "cid"]


def start_chasq(chasq, address, users=(), **kwargs):
    return chasq(conf={"lmtp_address": str(address), "trusted_network": "127.0.0.0/8"},
                 domains={"here.test": {"users": [*USERS, *users]}}, **kwargs)


def send_to(c, *users, data=HARD["plain"], sender="poster@here.test"):
    send(c.port, sender, [f"{u}@here.test" for u in users], data)


def attempts(text):
    """{recipient number: (state, text)} of the last attempt of each, from a message file."""
    found = {}
    for line in re.findall(rb"^attempt .*$", text, re.M):
        state = re.search(rb"status: (\w+)", line)[1].decode()
        said = re.search(rb' text: "((?:[^"\\]|\\.)*)"', line)[1].decode()
        for n in re.findall(rb"rcpt: (\d+)", line):
            found[int(n)] = (state, said)
    return found


# ---- Dovecot ------------------------------------------------------------------------------------


@pytest.fixture
def dovecot(box):
    def make(users=USERS, start=True, **kwargs):
        d = Dovecot(box, {f"{u}@here.test": "x" for u in users}, lmtp=True, **kwargs)
        return d.start() if start else d

    return make


def test_five_recipients_two_refused(chasq, dovecot):
    """One is unknown, and refused at RCPT; one has no room, and is refused after the content."""
    d = dovecot([*USERS, "full"], quotas={"full@here.test": "10B"})
    c = start_chasq(chasq, f"unix:{d.lmtp}", ["full", "gone"])
    send_to(c, "ana", "gone", "ben", "full", "cid")
    harness.wait_for(lambda: d.messages("poster"), 20, lambda: "a notification\n" + c.log() + d.log())
    c.wait_queue_empty()
    for user in ("ana", "ben", "cid"):
        message, = d.messages(user)
        assert b"Return-Path: <poster@here.test>" in message
        assert harness.drop_trace(message) == harness.drop_trace(HARD["plain"])
    assert not d.messages("full") and not d.messages("gone")
    report, = d.messages("poster")
    dsn = email.message_from_bytes(report, policy=email.policy.default)
    blocks = dsn.get_payload()[1].get_payload()[1:]
    failed = {re.sub(r"^rfc822; *", "", b["Final-Recipient"]): b["Status"] for b in blocks}
    assert failed == {"gone@here.test": "5.1.1", "full@here.test": "5.2.2"}
    assert all("LMTP" not in b["Remote-MTA"] and "unix" not in b["Remote-MTA"] for b in blocks)
    sessions = re.findall(r"lmtp\(\d+\): Connect from", d.log())
    assert len(sessions) <= 2, "one for the message, one for the notification"


def test_contents(chasq, dovecot):
    d = dovecot()
    c = start_chasq(chasq, f"127.0.0.1:{d.lmtp_port}")
    with Client(c.port, timeout=30) as client:
        client.hello()
        for content in HARD.values():
            client.message("a@client.test", ["ana@here.test"], content)
    harness.wait_for(lambda: len(d.messages("ana")) == len(HARD), 30, lambda: c.log()[-3000:] + d.log())
    got = sorted(harness.drop_trace(m) for m in d.messages("ana"))
    assert got == sorted(harness.drop_trace(m if m.endswith(b"\r\n") else m + b"\r\n")
                         for m in HARD.values())


def test_many_at_once(chasq, dovecot):
    d = dovecot()
    c = start_chasq(chasq, f"unix:{d.lmtp}")
    with Client(c.port, timeout=60) as client:
        client.hello()
        for i in range(60):
            client.message("a@client.test", [f"{u}@here.test" for u in USERS],
                           b"Subject: %d\r\n\r\nbody\r\n" % i)
    c.wait_queue_empty(60)
    for user in USERS:
        subjects = [re.search(rb"^Subject: (\d+)", m, re.M)[1] for m in d.messages(user)]
        assert sorted(map(int, subjects)) == list(range(60))


def test_down_then_up(chasq, dovecot):
    d = dovecot(start=False)
    c = start_chasq(chasq, f"unix:{d.lmtp}")
    send_to(c, "ana", "ben")
    found = attempts(c.wait_attempt())
    assert {n: s for n, (s, _) in found.items()} == {0: "PENDING", 1: "PENDING"}
    assert "No such file" in found[0][1]
    d.start()
    c.run("flush", "-C", c.dir)
    c.wait_queue_empty()
    assert len(d.messages("ana")) == len(d.messages("ben")) == 1
    d.stop()
    send_to(c, "ana")
    c.wait_attempt()
    d.start()
    c.run("flush", "-C", c.dir)
    c.wait_queue_empty()
    assert len(d.messages("ana")) == 2


# ---- a scripted server --------------------------------------------------------------------------

CLOSE = object()


class Server:
    """An LMTP server on a UNIX socket. after: for each message in turn (the last one repeats), what is
    said after the dot: texts with their line ends, seconds to wait, CLOSE; None for a friendly reply
    to each. in_content: closes in the middle of the first so many messages."""

    def __init__(self, path, after=(None,), greeting=b"220 odd LMTP\r\n", in_content=0, family=socket.AF_UNIX):
        self.after, self.greeting, self.in_content = list(after), greeting, in_content
        self.messages, self.commands, self.open = [], [], []
        self.over = threading.Event()
        self.sock = socket.socket(family)
        self.sock.bind(path)
        self.sock.listen(16)
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while not self.over.is_set():
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            self.open.append(sock)
            threading.Thread(target=self.run, args=(sock,), daemon=True).start()

    def run(self, sock):
        with contextlib.suppress(OSError), sock, sock.makefile("rb") as lines:
            sock.sendall(self.greeting)
            rcpts = []
            for line in lines:
                self.commands.append(line.decode().rstrip())
                verb = line[:4].upper()
                if verb == b"LHLO":
                    sock.sendall(b"250-odd\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
                elif verb == b"RCPT":
                    rcpts.append(line[line.index(b"<") + 1:line.index(b">")].decode())
                    sock.sendall(b"250 2.1.5 ok\r\n")
                elif verb == b"DATA":
                    sock.sendall(b"354 go\r\n")
                    if not self.content(sock, lines, rcpts):
                        return
                    rcpts = []
                elif verb == b"QUIT":
                    sock.sendall(b"221 2.0.0 bye\r\n")
                    return
                else:
                    sock.sendall(b"250 2.0.0 ok\r\n")

    def content(self, sock, lines, rcpts):
        """Reads a message and says what is to be said; False to close."""
        data = b""
        for line in lines:
            if line == b".\r\n":
                break
            data += line
            if len(data) > 10000 and self.in_content > 0:
                self.in_content -= 1
                return False
        actions = self.after[min(len(self.messages), len(self.after) - 1)]
        self.messages.append((rcpts, data))
        if actions is None:
            actions = [b"250 2.0.0 stored\r\n" for _ in rcpts]
        for action in actions:
            if action is CLOSE:
                return False
            if isinstance(action, (int, float)):
                self.over.wait(action)
            else:
                sock.sendall(action)
        return True

    def stop(self):
        self.over.set()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for s in self.open:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)


@pytest.fixture
def server(box):
    def make(path=None, **kwargs):
        s = Server(str(path or box.path / "lmtp"), **kwargs)
        box.on_stop(s.stop)
        return s

    return make


def test_one_reply_a_recipient(box, chasq, server):
    s = server(after=[[b"250 2.0.0 stored\r\n", b"452 4.2.2 ben is full\r\n", b"550 5.2.1 cid is closed\r\n"],
                      None])
    c = start_chasq(chasq, f"unix:{box.path}/lmtp")
    send_to(c, "ana", "ben", "cid", sender="")
    found = attempts(c.wait_attempt())
    assert found[0][0] == "SENT"
    assert found[1] == ("PENDING", "452 4.2.2 ben is full")
    assert found[2] == ("FAILED", "550 5.2.1 cid is closed")
    c.run("flush", "-C", c.dir)
    c.wait_queue_empty()
    assert [m[0] for m in s.messages] == [["ana@here.test", "ben@here.test", "cid@here.test"],
                                          ["ben@here.test"]]
    assert not [x for x in s.commands if x.startswith(("EHLO", "HELO"))]


@pytest.mark.parametrize("rest, text", [
    ([CLOSE], "connection lost"),
    ([b"hello there\r\n"], "malformed reply"),
    ([b"250-more\r\n" * 1000], "malformed reply"),
    ([b"354 go on\r\n"], "unexpected reply"),
    ([b"421 4.3.2 shutting down\r\n", CLOSE], "shutting down"),
    ([b"250-2.0.0 ", CLOSE], "connection lost"),
], ids=["too-few", "garbage", "endless", "354", "421", "torn"])
def test_replies_break_off(box, chasq, server, rest, text):
    """The first recipient is served, once; the others are when the server has come to its senses."""
    s = server(after=[[b"250 2.0.0 stored\r\n", *rest], None])
    c = start_chasq(chasq, f"unix:{box.path}/lmtp")
    send_to(c, "ana", "ben", "cid")
    found = attempts(c.wait_attempt())
    assert found[0][0] == "SENT"
    assert found[1][0] == found[2][0] == "PENDING" and text in found[1][1]
    c.run("flush", "-C", c.dir)
    c.wait_queue_empty()
    assert [m[0] for m in s.messages][1:] == [["ben@here.test", "cid@here.test"]]


def test_421_for_one(box, chasq, server):
    """Those whose replies follow are not served again."""
    s = server(after=[[b"250 2.0.0 stored\r\n", b"421 4.2.0 ben is busy\r\n", b"250 2.0.0 stored\r\n"], None])
    c = start_chasq(chasq, f"unix:{box.path}/lmtp")
    send_to(c, "ana", "ben", "cid")
    found = attempts(c.wait_attempt())
    assert found[1] == ("PENDING", "421 4.2.0 ben is busy")
    assert found[0][0] == found[2][0] == "SENT"
    c.run("flush", "-C", c.dir)
    c.wait_queue_empty()
    assert [m[0] for m in s.messages][1:] == [["ben@here.test"]]


def test_lost_in_content(box, chasq, server):
    s = server(in_content=1)
    c = start_chasq(chasq, f"unix:{box.path}/lmtp")
    send_to(c, "ana", "ben", data=b"Subject: long\r\n\r\n" + b"line of text\r\n" * 50000)
    found = attempts(c.wait_attempt())
    assert {state for state, _ in found.values()} == {"PENDING"} and len(found) == 2
    assert not s.messages
    c.run("flush", "-C", c.dir)
    c.wait_queue_empty()
    (rcpts, data), = s.messages
    assert rcpts == ["ana@here.test", "ben@here.test"]
    assert data.count(b"line of text\r\n") == 50000


def test_slow_and_in_pieces(box, chasq, server):
    replies = b"250-2.0.0 a\r\n250 2.0.0 b\r\n550 5.2.1 no\r\n250 2.0.0 c\r\n"
    pieces = []
    for i in range(len(replies)):
        pieces += [replies[i:i + 1], 0.02]
    s = server(after=[pieces, None])
    c = start_chasq(chasq, f"unix:{box.path}/lmtp")
    send_to(c, "ana", "ben", "cid")
    harness.wait_for(lambda: len(s.messages) == 2, 20, "the notification")
    c.wait_queue_empty()
    assert s.messages[1][0] == ["poster@here.test"]
    assert b"ben@here.test" in s.messages[1][1] and b"cid@here.test" not in s.messages[1][1]


@pytest.mark.parametrize("greeting", [b"554 5.3.2 no\r\n", b"what?\r\n", b"421 4.3.2 busy\r\n"])
def test_server_refuses(box, chasq, server, greeting):
    """It refuses us, not the mail: nothing is bounced."""
    s = server(greeting=greeting)
    c = start_chasq(chasq, f"unix:{box.path}/lmtp")
    send_to(c, "ana")
    assert attempts(c.wait_attempt())[0][0] == "PENDING"
    s.greeting = b"220 better\r\n"
    c.run("flush", "-C", c.dir)
    c.wait_queue_empty()
    assert len(s.messages) == 1


def test_stop_while_it_hangs(box, chasq, server):
    s = server(after=[[b"250 2.0.0 stored\r\n", 60]])
    c = start_chasq(chasq, f"unix:{box.path}/lmtp", program=harness.fast_binary())
    send_to(c, "ana", "ben")
    harness.wait_for(lambda: s.messages, 10, "the message")
    c.stop(60)
    s.after = [None]
    s.messages.clear()
    c.start()
    c.run("flush", "-C", c.dir)
    c.wait_queue_empty()
    assert [m[0] for m in s.messages] == [["ben@here.test"]], "ana has hers"


def test_configuration(chasq):
    c = chasq(start=False, conf={"lmtp_address": "/run/lmtp"})
    got = c.run("-c", c.dir, "-t")
    assert got.returncode != 0 and b"unix:PATH" in got.stderr + got.stdout
    port = harness.free_port()
    c = start_chasq(chasq, f"192.0.2.1:{port}", name="far")
    assert "local mail leaves this machine without protection" in c.log()
