"""Disks that are full, over a quota, read-only or broken: nothing is taken that cannot be kept, what was
taken stays and is delivered, the service comes back by itself, and the log says it once.

Real file systems (disks.py) where the kernel has the fault, tests/tools/crashshim.c where it has not.
"""

import contextlib
import errno
import os
import random
import re
import socket
import threading
import time
import zlib

import pytest

import disks
import harness
from peers import Dnsmasq
from smtpclient import Client, Closed
from test_kill import Load, content, number_of

REFUSED = (451, 452)


class Site:
    """A daemon, its disk, and a far host that is busy until `busy` is False. With `disk`, the data are on
    it; with `maildirs`, the mailboxes are there. Without `journal` every message is a file at once; without
    `aio` the kernel makes no flushes beside the loop."""

    def __init__(self, box, chasq, sink, disk=None, shim=None, maildirs=None, conf=None, domains=None,
                 journal=False, program=None, aio=True):
        self.busy = True
        self.box = box
        self.disk = disk
        self.sink = sink(address="127.0.3.2", script={"RCPT": self.answer_rcpt})
        dns = Dnsmasq(box, mx={"far.test": [(10, "mx.far.test")]}, hosts={"mx.far.test": ["127.0.3.2"]})
        more = {"data_dir": str(disk.path / "data")} if disk else {}
        if maildirs:
            more["maildir"] = str(maildirs) + "/%to_domain%/%to_user%"
        self.chasq = chasq(
            start=False, program=program or harness.fast_binary(), journal=journal,
            conf={"dns_servers": dns.server, "remote_smtp_port": self.sink.port,
                  "trusted_network": "127.0.0.0/8", **more, **(conf or {})},
            domains=domains or {"here.test": {"users": ["user", "sender"]}})
        if disk:
            self.chasq.data = disk.path / "data"
            self.chasq.queue = self.chasq.data / "queue"
        if maildirs:
            self.chasq.maildirs = maildirs
        self.rule = box.path / "rule"
        self.trace = box.path / "trace"
        if shim:
            self.chasq.env.update(LD_PRELOAD=str(shim), CRASHSHIM_RULE=str(self.rule),
                                  CRASHSHIM_TRACE=str(self.trace), **({} if aio else {"CRASHSHIM_NO_AIO": "1"}))

    def answer_rcpt(self, _session, arg):
        if "refused" in arg:
            return "550 5.1.1 no"
        return "451 4.3.2 busy" if self.busy and "served" not in arg else None

    def send(self, number, *to, expect=250):
        with Client(self.chasq.port, timeout=20) as client:
            client.hello()
            return client.message("sender@here.test", to or ["user@here.test"], content(number), expect)

    def fail(self, error, names="", part=""):
        """From now on these calls say so where the path has this part ("$": its end); returns a function
        that counts them."""
        new = self.rule.with_suffix(".new")
        new.write_text(f"{getattr(errno, error, 0)} {names} {part}\n")
        new.rename(self.rule)
        return lambda: sum(line.startswith("fail ") for line in self.trace.read_text().splitlines())

    def mend(self):
        self.rule.unlink()

    def flush(self):
        self.chasq.sendmail("-q")

    def attempts(self, path):
        return self.chasq.text(path).count(b"\nattempt")

    def wait_log(self, text, count=1):
        harness.wait_for(lambda: self.chasq.log().count(text) >= count, 15,
                         lambda: f"{text!r} in the log:\n{self.chasq.log()[-3000:]}")

    def numbers(self, user="user"):
        return sorted(number_of(m) for m in self.chasq.messages(user))

    def drain(self):
        """Everything in the queue must find its way now."""
        self.busy = False

        def empty():
            if self.chasq.queued():
                self.flush()
            return not self.chasq.queued()

        harness.wait_for(empty, 30, lambda: "the queue to become empty\n" + self.chasq.log()[-3000:], 0.2)


def attempt(port):
    """One transaction of a client that does not give up; returns the last code."""
    with Client(port, timeout=20) as client:
        client.hello()
        code = 0
        for line in ("MAIL FROM:<sender@here.test>", "RCPT TO:<user@here.test>", "DATA", None):
            if line:
                code = client.cmd(line).code
            else:
                client.send(b"Subject: hammer\r\n\r\n" + b"x" * 60 + b"\r\n.\r\n")
                code = client.read().code
            if code >= 400:
                break
        return code


def hammer(port, seconds, clients=3):
    """Tries without a pause; returns all codes that were the last."""
    codes = []
    end = time.monotonic() + seconds

    def run():
        with contextlib.suppress(Closed):
            while time.monotonic() < end:
                codes.append(attempt(port))

    threads = [threading.Thread(target=run, daemon=True) for _ in range(clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
        assert not t.is_alive(), "the server hangs"
    return codes


def refused_and_back(site, trouble, seconds, kept=1):
    """Under `trouble`, a context, everything is put off; the log says it once; and then mail is taken again
    without a restart, and the `kept` message in the queue, which nothing has touched, is delivered."""
    c = site.chasq
    waiting = c.queued()
    assert len(waiting) == 1
    before = c.text(waiting[0])
    seen = len(c.log().splitlines())
    with trouble:
        codes = hammer(c.port, seconds)
        assert len(codes) > 20 and set(codes) <= set(REFUSED), (len(codes), set(codes))
        assert c.text(waiting[0]) == before
    assert c.process.running()
    lines = [line for line in c.log().splitlines()[seen:]
             if " smtpd connect " not in line and " smtpd closed " not in line]
    assert any("mail is put off" in line for line in lines)
    assert len(lines) <= 6, f"{len(lines)} lines about {len(codes)} refusals, such as {lines[:8]}"
    site.send(2)
    harness.wait_for(lambda: 2 in site.numbers(), 15, lambda: "delivery\n" + c.log()[-2000:])
    site.drain()
    assert site.numbers() == [2]
    assert [number_of(m.data) for m in site.sink.messages] == [kept]
    print(f"{len(codes)} refusals, {len(lines)} lines")


@contextlib.contextmanager
def undone(undo):
    try:
        yield
    finally:
        undo()


def make_disk(box, kind):
    if kind == "tmpfs":
        return disks.Tmpfs(box, "16m", inodes=60)
    return disks.Ext4(box, 24, inodes=100)


SECONDS = 10 if harness.FULL else 1


BOTH = pytest.mark.parametrize("journal", [False, True], ids=["files", "journal"])


@BOTH
@pytest.mark.parametrize("what", ["space", "inodes"])
@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
def test_full(box, chasq, sink, kind, what, journal):
    disk = make_disk(box, kind)
    site = Site(box, chasq, sink, disk, journal=journal)
    site.chasq.start()
    site.send(1, "waits@far.test")
    site.chasq.wait_attempt()
    with undone(disk.fill() if what == "space" else disk.fill_inodes()):
        assert attempt(site.chasq.port) == 452  # at once, not after the content
        with Client(site.chasq.port) as client:
            client.hello()
            assert client.cmd("MAIL FROM:<sender@here.test>").code == 452
    # In a daemon of its own, since the first refusals were told already.
    site.chasq.restart()
    refused_and_back(site, undone(disk.fill() if what == "space" else disk.fill_inodes()), SECONDS)


@BOTH
def test_filled_while_content_comes(box, chasq, sink, journal):
    """There was room at MAIL; 452 after the content, and nothing of it is left."""
    disk = disks.Tmpfs(box, "32m")
    site = Site(box, chasq, sink, disk, journal=journal)
    c = site.chasq.start()
    with Client(c.port, timeout=20) as client:
        client.hello()
        client.cmd("MAIL FROM:<sender@here.test>", 250)
        client.cmd("RCPT TO:<user@here.test>", 250)
        client.cmd("DATA", 354)
        client.send(b"Subject: x\r\n\r\n" + (b"y" * 70 + b"\r\n") * 1000)
        with undone(disk.fill()):
            client.send((b"y" * 70 + b"\r\n") * 60000 + b".\r\n")
            assert client.read().code == 452
            assert not c.queued()
        assert client.message("sender@here.test", "user@here.test", content(1)).code == 250
    harness.wait_for(lambda: site.numbers() == [1], 15, "delivery")


def test_read_only(box, chasq, sink):
    """Served recipients are not served twice, though their message cannot be removed."""
    disk = disks.Ext4(box, 24)
    site = Site(box, chasq, sink, disk)
    c = site.chasq.start()
    site.send(1, "waits@far.test")
    c.wait_attempt()
    disk.read_only()
    with undone(lambda: disk.read_only(False)):
        site.busy = False
        site.flush()
        harness.wait_for(lambda: site.sink.messages, 15, "delivery")
        site.wait_log("not removed")
        for _ in range(3):
            site.flush()
            time.sleep(0.1)
        assert len(c.queued()) == 1 and attempt(c.port) == 451
    site.drain()
    assert len(site.sink.messages) == 1
    site.busy = True
    site.send(1, "waits@far.test")
    c.wait_attempt()
    site.sink.messages.clear()
    c.restart()
    disk.read_only()
    refused_and_back(site, undone(lambda: disk.read_only(False)), SECONDS)


@BOTH
def test_starts_on_a_full_disk(box, chasq, sink, journal):
    """The queue is delivered, which makes room; on a read-only one it says why it does not start."""
    disk = disks.Ext4(box, 24)
    site = Site(box, chasq, sink, disk, journal=journal)
    c = site.chasq.start()
    site.send(1, "waits@far.test")
    c.wait_attempt()
    c.kill()
    assert bool(list(c.queue.glob("m:*"))) != journal
    with undone(disk.fill()):
        c.start()
        assert attempt(c.port) == 452
        site.drain()
        assert [number_of(m.data) for m in site.sink.messages] == [1]
    site.busy = True
    site.send(3, "waits@far.test")
    c.wait_attempt()
    c.kill()
    disk.read_only()
    with undone(lambda: disk.read_only(False)):
        c.start(wait=False)
        assert c.process.wait() == 1 and os.strerror(errno.EROFS) in c.log()
    c.start()
    site.drain()
    assert [number_of(m.data) for m in site.sink.messages] == [1, 3]


# ---- calls that fail ----------------------------------------------------------------------------

ERRORS = ["EIO", "ENOSPC", "EDQUOT", "EROFS"]

# What accepting a message calls. The rename and unlink of the other files come further down.
ACCEPT = ["openat", "write", "fsync", "fsync-of-the-directory"]

# The same where the kernel makes no flushes beside the loop.
ACCEPT_ALONE = [*ACCEPT, "sync_file_range"]


@pytest.fixture
def site(box, chasq, sink, crashshim):
    made = []

    def make(**kwargs):
        made.append(Site(box, chasq, sink, shim=crashshim, **kwargs))
        return made[0]

    return make


@pytest.mark.parametrize("aio", [True, False])
@pytest.mark.parametrize("error", ERRORS)
def test_no_250_when_a_call_fails(site, error, aio):
    """Whichever call fails: 451 or 452, nothing left behind, and the next message is taken."""
    s = site(aio=aio)
    c = s.chasq.start()
    number = 0
    calls = ACCEPT if aio else ACCEPT_ALONE
    for call in calls:
        number += 2
        name, part = ("fsync", "data/queue$") if call.startswith("fsync-of") else (call, "m:")
        failed = s.fail(error, name, part)
        before = failed()
        want = 452 if error in ("ENOSPC", "EDQUOT") else 451
        for _ in range(3):
            assert attempt(c.port) == want, call
        assert failed() > before, f"{call} was not called"
        assert not c.queued(), call
        s.mend()
        s.send(number)
    harness.wait_for(lambda: len(s.numbers()) == len(calls), 15, "deliveries")
    c.stop()


@pytest.mark.parametrize("aio", [True, False])
def test_a_second_flush_proves_nothing(site, aio):
    """Every flush fails once for each file, then succeeds: what a kernel does that has dropped the pages.
    Nothing of these files may be acknowledged, nor come to life after a restart."""
    s = site(aio=aio)
    c = s.chasq.start()
    for call in ("fsync",) if aio else ("fsync", "sync_file_range"):
        s.fail("EIO", call, "m:")
        assert attempt(c.port) == 451
        s.mend()
        assert not c.queued()
    c.restart()
    s.send(2)
    harness.wait_for(lambda: s.numbers() == [2], 15, "delivery")


@pytest.mark.parametrize("error", ["EIO", "EDQUOT"])
def test_log_under_a_hammer(site, error):
    s = site()
    s.chasq.start()
    s.send(1, "waits@far.test")
    s.chasq.wait_attempt()
    s.fail(error, "fsync", "m:")
    refused_and_back(s, undone(s.mend), SECONDS)


MAILBOX = {"EIO": b"451 4.3.0", "ENOSPC": b"452 4.3.1", "EDQUOT": b"452 4.2.2 the mailbox is full"}


@pytest.mark.parametrize("call,error", [("openat", "EIO"), ("write", "ENOSPC"), ("write", "EDQUOT"),
                                        ("fsync", "EIO"), ("fsync", "EDQUOT"), ("close", "EIO"),
                                        ("close", "EDQUOT"), ("renameat", "EIO"), ("mkdirat", "ENOSPC")])
def test_maildir_call_fails(site, call, error):
    """The message stays, nothing of it is in `new`, and it is delivered once when the call works."""
    s = site()
    c = s.chasq.start()
    if call != "mkdirat":
        s.send(2)
        harness.wait_for(lambda: s.numbers() == [2], 15, "delivery")
    failed = s.fail(error, call, {"openat": ".chasq.test", "renameat": ".chasq.test",
                                  "mkdirat": ""}.get(call, "mail/here.test"))
    s.send(4, "user@here.test")
    text = c.wait_attempt()
    assert failed() and b"PENDING" in text
    assert MAILBOX[error] in text
    assert 4 not in s.numbers()
    s.mend()
    s.drain()
    assert s.numbers() == ([4] if call == "mkdirat" else [2, 4])
    assert not list((c.maildir("user") / "tmp").iterdir())


@pytest.mark.parametrize("call", ["openat", "write", "fsync"])
def test_notification_cannot_be_written(site, call):
    """The original stays until its notification is safe; there is one in the end."""
    s = site()
    c = s.chasq.start()
    s.send(1, "waits@far.test", "refused@far.test")  # has a failed recipient for later
    c.wait_attempt()
    path = c.queued()[0]
    s.fail("ENOSPC", call, "m:")
    failed_attempts = s.attempts(path)
    out = c.run("remove", "--bounce", path.name[2:], "-C", c.dir)
    s.wait_log("the message stays")
    assert path.exists(), out
    assert not c.messages("sender")
    assert s.attempts(path) >= failed_attempts
    s.mend()
    s.drain()
    harness.wait_for(lambda: c.messages("sender"), 15, lambda: "the notification\n" + c.log()[-3000:])
    notes = c.messages("sender")
    assert len(notes) == 1 and notes[0].rstrip().endswith(b"--")
    assert b"refused@far.test" in notes[0] and not s.sink.messages


@pytest.mark.parametrize("call,error", [("write", "ENOSPC"), ("write", "EIO"), ("openat", "EROFS"),
                                        ("fsync", "EIO")])
def test_attempt_cannot_be_recorded(site, call, error):
    """What became of a recipient is remembered: nobody is served twice."""
    s = site()
    c = s.chasq.start()
    s.send(1, "waits@far.test", "waits2@far.test")
    c.wait_attempt()
    path = c.queued()[0]
    before = path.read_bytes()
    s.sink.script["RCPT"] = lambda session, arg: None if "waits2" in arg else "451 4.3.2 busy"
    failed = s.fail(error, call, "m:")
    s.flush()
    harness.wait_for(lambda: s.sink.messages, 15, "delivery to one")
    s.wait_log("not flushed" if call == "fsync" else "attempt not recorded")
    assert failed() and path.read_bytes().startswith(before)
    for _ in range(3):
        s.flush()
        time.sleep(0.1)
    assert len(s.sink.messages) == 1
    s.mend()
    s.sink.script["RCPT"] = lambda session, arg: None
    s.drain()
    assert [m.recipients for m in s.sink.messages] == [["waits2@far.test"], ["waits@far.test"]]


@pytest.mark.parametrize("error", ["EIO", "EROFS"])
def test_message_cannot_be_removed(site, error):
    s = site()
    c = s.chasq.start()
    failed = s.fail(error, "unlinkat", "m:")
    s.send(1)
    s.wait_log("not removed")
    assert failed() and s.numbers() == [1] and len(c.queued()) == 1
    for _ in range(3):
        s.flush()
    time.sleep(0.2)
    assert s.numbers() == [1]
    s.mend()
    s.drain()
    assert s.numbers() == [1]


@pytest.mark.parametrize("call", ["openat", "write", "fsync", "close", "renameat"])
def test_hold_cannot_be_written(site, call):
    """The operator is told; nothing is held that would not be after a restart."""
    s = site()
    c = s.chasq.start()
    s.send(1, "waits@far.test")
    c.wait_attempt()
    item = c.queued()[0].name[2:]
    failed = s.fail("ENOSPC", call, "held")
    out = c.run("hold", item, "-C", c.dir)
    assert failed() and out.returncode != 0 and os.strerror(errno.ENOSPC).encode() in out.stderr + out.stdout
    assert not (c.data / "held").exists()
    s.drain()
    assert len(s.sink.messages) == 1
    s.mend()


# ---- the power goes -----------------------------------------------------------------------------

CUTS = 40 if harness.FULL else 8


class StubbornLoad(Load):
    """Its threads go on whatever they are answered."""

    def _run(self, index):
        while not self._over.is_set():
            with contextlib.suppress(AssertionError):
                super()._run(index)


class Powered(Site):
    """Queue and mailboxes on one disk whose power goes."""

    def __init__(self, box, chasq, sink, shim=None, journal=False):
        disk = disks.Ext4(box, 64)
        super().__init__(box, chasq, sink, disk, shim, maildirs=disk.path / "mail",
                         conf={"max_queue_items": 100000}, journal=journal)
        self.busy = False

    def cut(self, load, more):
        """The power goes right after a 250, when so many more have come; then it is back."""
        count = len(load.acknowledged) + more
        harness.wait_for(lambda: len(load.acknowledged) >= count, 60,
                         lambda: "load\n" + self.chasq.log()[-3000:], 0.001)
        self.disk.cut()
        self.chasq.kill()
        self.disk.power_up()

    def delivered(self):
        """(numbers of what was delivered whole, how many were not)."""
        whole, torn = set(), 0
        for message in self.chasq.messages("user") + [m.data for m in self.sink.messages]:
            try:
                whole.add(number_of(message))
            except (AssertionError, TypeError):
                torn += 1
        return whole, torn


@pytest.mark.parametrize("journal", [False, True], ids=["files", "journal"])
def test_power_cut(box, chasq, sink, journal):
    """Right after the last 250, under load: all of them are delivered whole in the end, be they in the
    queue, in a mailbox or on their way at that moment."""
    site = Powered(box, chasq, sink, journal=journal)
    c = site.chasq.start()
    rng = random.Random(7)
    load = StubbornLoad(c.port)
    try:
        for _ in range(CUTS):
            site.cut(load, rng.randrange(5, 60))
            c.start()
    finally:
        load.stop()
    site.drain()
    whole, torn = site.delivered()
    lost = load.acknowledged - whole
    print(f"{CUTS} cuts, {len(load.acknowledged)} acknowledged, {len(lost)} lost, {torn} torn")
    assert not torn and not lost, f"{torn} torn, {len(lost)} lost, such as {sorted(lost)[:5]}"
    c.stop()
    site.disk.check()


@pytest.mark.parametrize("part,journal", [("queue", False), ("queue", True), ("mail/", False)])
def test_power_cut_without_flushes(box, chasq, sink, crashshim, part, journal):
    """The test above can fail: with flushes that only say so, of the queue or of mailboxes, mail is lost."""
    site = Powered(box, chasq, sink, crashshim, journal)
    c = site.chasq
    site.fail("none", "fsync,fdatasync,sync_file_range", part)
    site.busy = part == "queue"
    load = StubbornLoad(c.port)
    try:
        for _ in range(10):
            c.start()
            site.cut(load, 40)
            whole, torn = site.delivered()
            waiting = "".join(p.read_text("utf-8", "replace") for p in c.queued())
            lost = {n for n in load.acknowledged - whole if f'"Subject: {n}\\r\\n"' not in waiting}
            if lost or torn:
                break
    finally:
        load.stop()
    print(f"{len(lost)} lost, {torn} torn")
    assert lost or torn


# ---- damage -------------------------------------------------------------------------------------

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"


def forge(good, n):
    """The file of a message as another message: with an ID and content of its own, and good checksums.
    All have the same length but for the checksums, which stand in the mark. Returns (ID, file)."""
    head_end, data_end = (int(re.search(rb"%s: (\d+)" % f, good)[1]) for f in (b"head_end", b"data_end"))
    item = "10000000" + DIGITS[n // 4096 % 64] + DIGITS[n // 64 % 64] + DIGITS[n % 64]
    old = re.match(rb'ID: +"([^"]+)"', good)[1]
    text = good.replace(old, item.encode()).replace(b"Subject: 000000", b"Subject: %06d" % n)
    mark = text.index(b"\ncreated_at_ts") + 1
    line, attempts = text[mark:].split(b"\n", 1)
    line = re.sub(rb" crc32: \d+", b" crc32: %d" % zlib.crc32(text[:mark]), line)
    line = re.sub(rb" head_crc32: \d+", b" head_crc32: %d" % zlib.crc32(text[:head_end]), line)
    line = line[:line.index(b" mark_crc32: ")]
    assert len(text) == len(good) and data_end <= mark
    return item, text[:mark] + line + b" mark_crc32: %d\n" % zlib.crc32(line) + attempts


def test_flipped_bits(site):
    """A bit flipped at every place of a message's file (a share of them in a short run), each in a message
    of its own: what is delivered is whole and goes to whom it was for; the rest is set aside."""
    s = site(conf={"max_queue_items": 100000})
    c = s.chasq.start()
    with Client(c.port) as client:
        client.hello()
        client.message("", ["r@far.test"], b"Subject: 000000\r\n\r\n\xe9 \"q\" \\x\x01\r\n.\r\nend\r\n")
    c.wait_attempt()
    c.stop()
    path = c.queued()[0]
    good = path.read_bytes()
    path.unlink()
    content_at = range(good.index(b"\ndata:"), good.index(b"\ncreated_at_ts"))
    seen = []
    for n, (place, bit) in enumerate((p, b) for p in range(len(good)) for b in range(8)):
        if not harness.FULL and (place * 3 + bit) % 4:
            continue
        item, text = forge(good, n)
        bad = bytearray(text)
        at = min(place, len(bad) - 1)
        bad[at] ^= 1 << bit
        (c.queue / f"m:{item}").write_bytes(bytes(bad))
        seen.append((n, at, at > text.index(b"\nattempt")))  # the checksums' lengths differ
    for n in (99990, 99991):
        item, text = forge(good, n)
        (c.queue / f"m:{item}").write_bytes(text)
        seen.append((n, -1, True))
    s.busy = False
    c.start()
    s.drain()
    got = {}
    for m in s.sink.messages:
        n = int(re.search(rb"Subject: (\d{6})", m.data)[1])
        assert n not in got, f"{n} came twice"
        got[n] = m
    tail = got[99990].data.split(b"Subject: 099990", 1)[1]
    for n, at, harmless in seen:
        m = got.pop(n, None)
        assert m or not harmless, f"{n}: lost for a bit of an attempt at {at}, or none"
        if m:
            assert at not in content_at, f"content with a bit flipped at {at} was delivered"
            assert (m.sender, m.recipients) == ("", ["r@far.test"]), (at, m)
            assert m.data.split(b"Subject: %06d" % n, 1)[1] == tail, (at, m.data)
    assert not got
    aside = c.log().count(" spool damaged ")
    print(f"{len(seen)} files, {len(s.sink.messages)} delivered whole, {aside} set aside")
    assert aside + len(s.sink.messages) == len(seen)


def strange_things(directory, prefix, rng):
    """Puts whatever may lie under a file's name there; returns how many."""
    names = iter(directory / f"{prefix}{i}" for i in range(100))
    next(names).write_bytes(b"")
    next(names).write_bytes(b"\n")
    next(names).write_bytes(b"\0" * 70000)
    for size in (1, 4096, 300000):
        next(names).write_bytes(rng.randbytes(size))
    next(names).write_bytes(b'ID: "' * 20000)
    next(names).write_bytes(b"rcpt { " * 20000)
    next(names).mkdir()
    os.mkfifo(next(names))
    next(names).symlink_to("/etc/passwd")
    next(names).symlink_to("/dev/zero")
    next(names).symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as s:
        here = os.open(directory, os.O_RDONLY)
        try:
            s.bind(f"/proc/self/fd/{here}/{next(names).name}")
        finally:
            os.close(here)
    hole = next(names)
    hole.write_bytes(b"")
    with contextlib.suppress(OSError):
        os.truncate(hole, 1 << 42)
    return sum(p.name.startswith(prefix) for p in directory.iterdir())


def test_strange_things_in_the_queue(site):
    """Files that are none of ours, and ours cut at every length: never in the way of the start or of their
    neighbours, and all set aside."""
    s = site()
    c = s.chasq.start()
    s.send(1, "waits@far.test")
    s.send(3, "waits@far.test")
    harness.wait_for(lambda: all(s.attempts(p) for p in c.queued()), 15, "attempts")
    good = c.queued()[0].read_bytes()
    c.kill()
    count = strange_things(c.queue, "m:odd", random.Random(3))
    mark = good.index(b"\nattempt") + 1
    cuts = range(0, mark, 1 if harness.FULL else mark // 60)
    for i in cuts:
        (c.queue / f"m:cut{i:05d}").write_bytes(good[:i])
    begin = time.monotonic()
    c.start()
    s.send(4)
    harness.wait_for(lambda: s.numbers() == [4], 15, "a delivery")
    s.drain()
    assert time.monotonic() - begin < 30
    assert sorted(number_of(m.data) for m in s.sink.messages) == [1, 3]
    assert c.log().count(" spool damaged ") == count + len(cuts)
    aside = [p.name for p in (c.queue / "damaged").iterdir()]
    assert len(aside) >= min(100, count + len(cuts))
    assert harness.pss_kb(c.pid) < 30000


def test_strange_things_beside_the_queue(site):
    """The other files of the data directory, and a mailbox: mail comes and goes."""
    s = site()
    c = s.chasq
    rng = random.Random(4)
    for name, prefix in (("domaininfo", "s:x"), ("domaininfo", ".s:x"), ("sts-cache", "x"), ("queue", "x")):
        (c.data / name).mkdir(parents=True, exist_ok=True)
        strange_things(c.data / name, prefix, rng)
    (c.maildir("user") / "new").mkdir(parents=True)
    (c.maildir("user") / "tmp").mkdir()
    strange_things(c.maildir("user") / "tmp", "odd", rng)
    strange_things(c.maildir("user") / "new", "odd", rng)
    odd = c.data / "odd"
    odd.mkdir()
    strange_things(odd, "held", rng)
    before = len(list((c.maildir("user") / "new").iterdir()))
    for i, kind in enumerate(sorted(odd.iterdir(), key=lambda p: int(p.name[4:]))):
        with contextlib.suppress(FileNotFoundError):
            (c.data / "held.damaged").unlink()
        kind.rename(c.data / "held")
        c.start()
        s.send(i * 2)
        harness.wait_for(lambda: len(list((c.maildir("user") / "new").iterdir())) == before + i + 1, 15,
                         lambda: f"delivery beside {kind}\n" + c.log()[-2000:])
        c.stop()
        with contextlib.suppress(OSError):
            (c.data / "held").unlink()
        if (c.data / "held.damaged").is_dir():
            (c.data / "held.damaged").rmdir()
        if (c.data / "held").is_dir():
            (c.data / "held").rmdir()


def test_limit_on_the_size_of_files(chasq):
    """A message beyond RLIMIT_FSIZE is refused, not the end of the daemon; and so is a segment of the journal."""
    c = chasq(start=False, program=harness.fast_binary(), conf={"trusted_network": "127.0.0.0/8"})
    c.start(wrap=["prlimit", "--fsize=1000000"])
    with Client(c.port, timeout=20) as client:
        client.hello()
        client.message("", ["user@here.test"], b"Subject: x\r\n\r\n" + (b"y" * 900 + b"\r\n") * 2000, 452)
        client.message("", ["user@here.test"], content(7))
    assert [number_of(m) for m in c.wait_messages("user")] == [7]
