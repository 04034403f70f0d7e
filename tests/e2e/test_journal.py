"""The journal's own troubles: calls on its segments that fail, bits that flip in them, strange files in their
place; and what an operator sees of messages that have no file.

That nothing is lost when the process or the power ends is shown with and without a journal, by the same tests:
test_crash.py, test_crash_steps.py, test_kill.py, test_disk.py.
"""

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import zlib

import pytest

import harness
import journal
from sink import Hang
from smtpclient import Client
from test_disk import ERRORS, REFUSED, Site, attempt, forge, hammer, strange_things
from test_kill import number_of


@pytest.fixture
def site(box, chasq, sink, crashshim):
    return lambda **kwargs: Site(box, chasq, sink, shim=crashshim, journal=True, **kwargs)


def send_small(s, number, *to):
    """A message that also a small journal takes, for number_of."""
    body = b"x\r\n"
    text = b"Subject: %d\r\nX-Sum: %d\r\n\r\n" % (number, zlib.crc32(body)) + body
    with Client(s.chasq.port) as client:
        client.hello()
        client.message("sender@here.test", to, text)


def files(c):
    return list(c.queue.glob("m:*"))


def far_numbers(s):
    return sorted(number_of(m.data) for m in s.sink.messages)


# ---- calls that fail ----------------------------------------------------------------------------


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_a_call_on_a_segment_fails(site, call, error):
    """Who waits for it is refused; what was there before becomes files, and so is what comes next. Nothing that
    was refused comes to life when the process ends."""
    s = site()
    c = s.chasq.start()
    s.send(1, "waits@far.test")
    c.wait_attempt()
    assert not files(c)
    failed = s.fail(error, call, ".journal")
    assert attempt(c.port) == (452 if error in ("ENOSPC", "EDQUOT") else 451)
    assert failed()
    s.send(2)
    harness.wait_for(lambda: s.numbers() == [2] and len(files(c)) == 1, 15, lambda: c.log()[-2000:])
    harness.wait_for(lambda: not journal.waiting(c.queue), 15, "the journal to be given up")
    s.mend()
    c.kill()
    c.start()
    s.drain()
    assert far_numbers(s) == [1] and s.numbers() == [2]
    s.send(4)
    c.wait_messages("user", 2)


def test_a_second_flush_of_a_segment_proves_nothing(site):
    """A flush fails once and would succeed from then on: the kernel may have dropped the pages."""
    s = site()
    c = s.chasq.start()
    s.fail("EIO", "fdatasync", ".journal")
    assert attempt(c.port) == 451
    s.mend()
    s.send(2)
    c.restart()
    s.send(4)
    harness.wait_for(lambda: s.numbers() == [2, 4], 15, "delivery")


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_nothing_can_be_written(site, short_build, error):
    """Neither segments nor files, when it is time for these: all is put off, what is there is delivered out of
    the journal, once, and the log does not fill up."""
    s = site(program=short_build)
    c = s.chasq.start()
    for number in (1, 3):
        send_small(s, number, "waits@far.test")
    harness.wait_for(lambda: c.attempts() >= 2, 15, "attempts")
    seen = len(c.log().splitlines())
    failed = s.fail(error, "pwrite,fdatasync,openat,write,fsync,sync_file_range")
    codes = hammer(c.port, 1.5)
    assert failed() and codes and set(codes) <= set(REFUSED), set(codes)
    s.busy = False
    s.flush()
    harness.wait_for(lambda: far_numbers(s) == [1, 3], 15, lambda: "deliveries\n" + c.log()[-3000:])
    lines = [x for x in c.log().splitlines()[seen:] if " smtpd " not in x]
    assert len(lines) <= 60, f"{len(lines)} lines in the log about {len(codes)} refusals:\n" + "\n".join(lines)
    s.mend()
    harness.wait_for(lambda: attempt(c.port) == 250, 15, "mail to be taken again")
    c.wait_queue_empty()
    c.restart()
    c.wait_queue_empty()
    assert far_numbers(s) == [1, 3] and len(c.messages("user")) == 1


@pytest.mark.parametrize("call", ["openat", "write", "fsync"])
def test_no_file_can_be_made(site, short_build, call):
    """When it is time to: the message stays in the journal, also over a restart, and becomes one later."""
    s = site(program=short_build)
    c = s.chasq.start()
    s.fail("ENOSPC", call, "m:")
    send_small(s, 1, "waits@far.test")
    s.wait_log(os.strerror(errno.ENOSPC), 2)
    assert c.process.running() and len(c.queued()) == 1
    assert c.mailq().stdout.count(b"waits@far.test") == 1
    c.process.kill(15)
    assert c.process.wait(20) == 0
    assert list(journal.waiting(c.queue)) and "in the journal" in c.log()
    c.start()
    assert len(c.queued()) == 1
    s.mend()
    harness.wait_for(lambda: len(files(c)) == 1 and not journal.waiting(c.queue), 15,
                     lambda: "a file\n" + c.log()[-2000:])
    s.drain()
    assert far_numbers(s) == [1]


@pytest.mark.parametrize("call", ["openat", "write", "fsync", "renameat"])
def test_journal_cannot_be_made(site, short_build, call):
    """Then every message is a file, and that is all."""
    s = site(program=short_build)
    c = s.chasq
    failed = s.fail("ENOSPC", call, ".journal.new")
    c.start()
    s.send(1, "waits@far.test")
    s.send(2)
    c.wait_messages("user")
    if failed():
        harness.wait_for(lambda: len(files(c)) == 1, 15, "the one that is left to be a file")
    s.mend()
    s.drain()
    assert far_numbers(s) == [1] and s.numbers() == [2]


# ---- damage -------------------------------------------------------------------------------------


def collect(c, s):
    """A message with an attempt as the daemon has it in its journal, and the line of the attempt."""
    with Client(c.port) as client:
        client.hello()
        client.message("", ["r@far.test"], b"Subject: 000000\r\n\r\n\xe9 \"q\" \\x\x01\r\n.\r\nend\r\n")
    text = c.wait_attempt()
    c.kill()
    at = text.index(b"\nattempt") + 1
    return text[:at], text[at:].splitlines(keepends=True)[0]


def test_flipped_bits_in_segments(site):
    """A bit flipped at every place of a record (a share of them in a short run), each in one of its own: what is
    delivered is whole and goes to whom it was for, the rest is set aside, its neighbours are as ever."""
    s = site(conf={"max_queue_items": 100000})
    c = s.chasq.start()
    good, line = collect(c, s)
    rng = random.Random(9)
    size = len(journal.record(7, "MESSAGE", "1" * 11, good))
    flips = [(place, bit) for place in range(size) for bit in range(8)]
    if not harness.FULL:
        flips = rng.sample(flips, 250)
    s.busy = False
    delivered = set_aside = 0
    for part in range(0, len(flips), 1000):
        shutil.rmtree(c.queue)
        c.queue.mkdir(mode=0o700)
        s.sink.messages.clear()
        segment, whole, broken, tried = [], set(), {}, set()
        for n, (place, bit) in enumerate(flips[part:part + 1000]):
            for number in (3 * n, 3 * n + 1, 3 * n + 2):
                item, text = forge(good, number)
                one = bytearray(journal.record(7, "MESSAGE", item, text))
                if number % 3 == 1:
                    place = min(place, len(one) - 1)  # the checksums' lengths differ
                    one[place] ^= 1 << bit
                    broken[number] = (place, bit)
                elif number % 3 == 2 and n % 10 == 0:
                    # A message is not lost with what is said of an attempt.
                    attempt_at = bytearray(journal.record(7, "ATTEMPT", item, line))
                    attempt_at[rng.randrange(len(attempt_at))] ^= 1 << bit
                    one += attempt_at
                    tried.add(number)
                else:
                    whole.add(number)
                segment.append(bytes(one))
        segment.append(journal.record(7, "END"))
        (c.queue / ".journal.0").write_bytes(b"".join(segment))
        c.start()
        s.wait_log(" queue scanned ")
        s.drain()
        got = {}
        for m in s.sink.messages:
            n = int(re.search(rb"Subject: (\d{6})", m.data)[1])
            assert n not in got, f"{n} came twice"
            got[n] = m.data.split(b"Subject: %06d" % n, 1)[1]
            assert (m.sender, m.recipients) == ("", ["r@far.test"]), (broken.get(n), m)
        assert whole | tried <= set(got), f"lost beside damage: {sorted((whole | tried) - set(got))[:5]}"
        assert len(set(got.values())) == 1, "content that is not what was sent"
        aside = c.log().count("journal damaged")
        assert aside + len(set(broken) & set(got)) == len(broken) + len(tried), (aside, len(broken))
        assert 0 < len(list((c.queue / "damaged").iterdir())) <= 101
        delivered, set_aside = delivered + len(got), set_aside + aside
        c.stop()
    print(f"{len(flips)} bits in records of messages, {delivered} whole, {set_aside} set aside")


def test_segments_cut_and_overwritten(site):
    """What is torn behind the last flush was never acknowledged, and what an earlier round has left is no mail: the
    good records in front are all there, nothing else comes to life."""
    s = site()
    c = s.chasq.start()
    good, _ = collect(c, s)
    s.busy = False
    records = [journal.record(9, "MESSAGE", *forge(good, n)) for n in range(3)]
    old = b"".join(journal.record(4, "MESSAGE", *forge(good, n)) for n in range(100, 120))
    ends = [sum(map(len, records[:i])) for i in range(4)]
    stream = b"".join(records) + journal.record(9, "END")
    # A disk writes whole sectors.
    for cut in [*ends, *range(512, ends[-1], 512 if harness.FULL else 1024)]:
        shutil.rmtree(c.queue)
        c.queue.mkdir(mode=0o700)
        s.sink.messages.clear()
        (c.queue / ".journal.0").write_bytes((stream[:cut] + old[cut:]) if cut else journal.record(9, "END") + old)
        c.start()
        s.drain()
        came = sorted(int(re.search(rb"Subject: (\d{6})", m.data)[1]) for m in s.sink.messages)
        assert came == list(range(sum(e <= cut for e in ends[1:]))), (cut, came)
        c.stop()


def test_strange_things_for_segments(site):
    """Whatever lies where the journal's files are: the daemon starts, and mail comes and goes."""
    s = site()
    c = s.chasq
    odd = c.data / "odd"
    odd.mkdir(parents=True)
    strange_things(odd, "x", random.Random(5))
    kinds = sorted(odd.iterdir(), key=lambda p: int(p.name[1:]))
    c.queue.mkdir(mode=0o700)
    for i, kind in enumerate(kinds):
        place = c.queue / f".journal.{i % 2}"
        for name in c.queue.glob(".journal.*"):
            name.rmdir() if name.is_dir() and not name.is_symlink() else name.unlink()
        kind.rename(place)
        c.start()
        # A child of the one that was killed may have answered at its port for a moment.
        harness.wait_for(lambda: " started " in c.log(), 15, lambda: c.log())
        s.send(i * 2)
        # Killed between its delivery and its removal it would come once more.
        harness.wait_for(lambda i=i: i * 2 in s.numbers() and not c.queued(), 15, lambda: f"delivery beside {kind}\n" + c.log()[-2000:])
        assert harness.pss_kb(c.pid) < 40000
        c.kill()
    c.start()
    assert s.numbers() == sorted(i * 2 for i in range(len(kinds)))


# ---- the operator's side ------------------------------------------------------------------------


def test_operators_see_what_has_no_file(site):
    """List, show, hold, release, remove, flush; before and after the end of the process."""
    s = site()
    c = s.chasq.start()
    for number in (1, 3, 5, 7):
        s.send(number, f"waits{number}@far.test")
    harness.wait_for(lambda: c.attempts() >= 4, 15, "attempts")
    assert not files(c)

    def listed():
        queue = json.loads(c.run("queue", "-j", "-C", c.dir).stdout)
        told = {int(re.search(r"waits(\d)", json.dumps(m))[1]): m for m in queue if "waits" in json.dumps(m)}
        assert len(told) <= c.mailq().stdout.count(b"@far.test")
        return told

    def show(number):
        return c.run("show", listed()[number]["id"], "-C", c.dir).stdout

    assert set(listed()) == {1, 3, 5, 7}
    assert b"Subject: 3" in show(3) and b"451 4.3.2 busy" in show(3)
    assert c.run("hold", listed()[3]["id"], "-C", c.dir).returncode == 0
    assert c.run("remove", listed()[5]["id"], "-C", c.dir).returncode == 0
    assert c.run("remove", "--bounce", listed()[7]["id"], "-C", c.dir).returncode == 0
    harness.wait_for(lambda: set(listed()) == {1, 3}, 10, "removals")
    assert len(c.wait_messages("sender")) == 1
    harness.wait_for(lambda: len(journal.waiting(c.queue)) == 2, 10, "the notification to be done")
    c.kill()
    c.start()
    harness.wait_for(lambda: set(listed()) == {1, 3}, 10, lambda: f"the queue after a crash: {listed()}")
    assert listed()[3]["state"] == "held"
    s.busy = False
    s.flush()
    harness.wait_for(lambda: far_numbers(s) == [1], 10, "what is not held")
    c.restart()
    harness.wait_for(lambda: set(listed()) == {3}, 10, "the queue after a restart")
    assert c.run("release", listed()[3]["id"], "-C", c.dir).returncode == 0
    c.wait_queue_empty()
    assert far_numbers(s) == [1, 3] and len(c.messages("sender")) == 1


def test_a_copy_of_the_data_directory(site, chasq, box):
    """What was acknowledged is in a copy that is made of a stopped server's data, killed or not; and in one of a
    server that is running but idle."""
    s = site()
    c = s.chasq.start()
    s.send(1, "waits@far.test")
    c.wait_attempt()
    # Idle is a server that makes no segments any more, which it does under another name.
    harness.wait_for(lambda: len(list(c.queue.glob(".journal.[0-9]*"))) == 3, 10, "two segments ahead")
    for how in ("running", "killed", "stopped"):
        if how == "killed":
            c.kill()
        elif how == "stopped":
            c.start()
            c.stop()
        again = chasq(name=f"copy-{how}", start=False, conf=s.chasq.conf, domains=c.domains)
        again.conf = {**again.conf, "data_dir": str(again.data), "smtp_address": f"127.0.0.1:{again.port}"}
        again.write_conf()
        subprocess.run(["cp", "-a", c.data, again.data], check=True)
        again.start()
        assert len(again.queued()) == 1, how
        s.sink.messages.clear()
        s.busy = False
        again.sendmail("-q")
        again.wait_queue_empty()
        assert far_numbers(s) == [1], how
        again.stop()
        s.busy = True


def test_a_build_without_a_journal(site):
    """It does not hide what is in one: it starts when the one with a journal was ended in order, else it says why
    not."""
    small = harness.TREE / "build/small/chasq"
    if not small.exists() or b"WITH_JOURNAL=0" not in subprocess.run([small, "-V"], capture_output=True,
                                                                     check=True).stdout:
        pytest.skip("there is no build/small of check.sh, without a journal")
    s = site()
    c = s.chasq.start()
    with_journal = c.program
    s.send(1, "waits@far.test")
    c.wait_attempt()
    c.kill()
    c.program = small
    c.start(wait=False)
    assert c.process.wait(10) == 1 and "WITH_JOURNAL=1" in c.log() and "listen opened" not in c.log()
    c.program = with_journal
    c.start()
    c.stop()
    c.program = small
    c.start()
    assert len(files(c)) == 1 and not journal.waiting(c.queue)



def test_a_journal_that_is_not_wanted_any_more(site):
    """The first segment may be gone when a directory gets its name: what others have becomes files."""
    s = site()
    c = s.chasq.start()
    s.send(1, "waits@far.test")
    c.wait_attempt()
    c.kill()
    (c.queue / ".journal.0").rename(c.queue / ".journal.7")
    (c.queue / ".journal.0").mkdir()
    c.start()
    harness.wait_for(lambda: files(c) and not (c.queue / ".journal.7").exists(), 10, "the message to become a file")
    send_small(s, 2, "waits@far.test")
    assert len(files(c)) == 2
    c.restart()
    s.drain()
    assert far_numbers(s) == [1, 2]

# ---- two daemons --------------------------------------------------------------------------------


def test_a_start_waits_for_who_has_the_queue(site):
    """One that was told to stop, and waits for a delivery, ends with all segments wiped: also those that a successor
    would have begun to use, were it let in before."""
    s = site()
    c = s.chasq.start()
    for number in range(1, 120):
        s.send(number, "served@far.test")
    harness.wait_for(lambda: not c.queued(), 20, "the queue to become empty")
    s.sink.script["RCPT"] = Hang(30)
    s.send(120, "waits@far.test")
    harness.wait_for(lambda: any(line.startswith(b"RCPT") for x in s.sink.sessions for line in x.commands[-1:]), 10,
                     "a delivery under way")
    first = c.process
    first.kill(signal.SIGTERM)
    s.wait_log(" stopping ")
    c.start()
    assert c.process.running()
    harness.wait_for(lambda: not first.running(), 1, "who had the queue to be gone")
    for number in range(121, 125):
        s.send(number, "waits@far.test")
    c.kill()
    s.sink.script["RCPT"] = s.answer_rcpt
    c.start()
    s.drain()
    assert set(far_numbers(s)) == set(range(1, 125))
