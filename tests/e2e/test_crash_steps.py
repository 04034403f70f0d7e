"""More scenarios in which the daemon ends, or a call fails, at the n-th call that changes a file: eight
messages of one group commit, a message delivered in parts and tried again, what is learnt of a domain,
and the start with a queue that holds good and bad files."""

import re
import threading

import pytest

import certs
import harness
import sink as sink_module
from crashes import MODES, Run, World, every_n, message

GROUP = [f"g{i}" for i in range(8)]


def body_of(name):
    return message(name).replace(b"\r\n", b"\n").split(b"\n\n", 1)[1]


class CountedRun(Run):
    """Counts what arrived: each of what was answered 250 whole, and at most twice."""

    def arrived(self, where, name):
        """Bodies of message(name): in a user's Maildir, or "far"."""
        found = [harness.split_message(m) for m in self.chasq.messages(where)] if where != "far" else [
            harness.split_message(m.data.replace(b"\r\n", b"\n")) for m in self.sink.messages]
        return [body for head, body in found if re.search(rb"^Subject: %s$" % name.encode(), head, re.M)]

    def check_arrived(self, where, name):
        bodies = self.arrived(where, name)
        for body in bodies:
            assert body == body_of(name), f"{self.name}: {name} was delivered in part: {body!r}"
        assert bodies or name not in self.acknowledged, f"{self.name}: {name} was answered 250 and is lost"
        # Where calls fail, a copy whose delivery could not be made sure of may not let itself be removed, and neither
        # may the journal before the kill.
        assert len(bodies) <= (2 if self.ending() else 3), f"{self.name}: {name} was delivered {len(bodies)} times"


class GroupRun(CountedRun):
    """Eight sessions whose messages end together, in one write of the senders' machine."""

    def scenario(self):
        self.chasq.start(wait=False, env=self.env)
        if self.refused_to_start():
            return
        together = threading.Barrier(len(GROUP))
        senders = [threading.Thread(target=self.send, args=(name, ["user@here.test"], together))
                   for name in GROUP]
        for s in senders:
            s.start()
        for s in senders:
            s.join()
        self.wait(self.settled, 5 if self.ending() else 1.5)

    def check(self):
        for name in GROUP:
            self.check_arrived("user", name)


class PartsRun(CountedRun):
    """To a Maildir and to two far recipients, one of whom has to wait; then it is tried again."""

    def __init__(self, *args):
        self.busy = True
        super().__init__(*args)

    def answer_rcpt(self, _session, arg):
        return "451 4.3.2 busy" if self.busy and "later" in arg else None

    def has_attempts(self, count):
        return self.chasq.attempts() >= count

    def scenario(self):
        self.chasq.start(wait=False, env=self.env)
        if self.refused_to_start():
            return
        self.send("parts", ["user@here.test", "now@far.test", "later@far.test"])
        if "parts" not in self.acknowledged:
            return
        # One for the Maildir, one for the far host's two.
        self.wait(lambda: self.has_attempts(2), 3 if self.ending() else 1)
        self.chasq.ask("FLUSH")
        self.wait(lambda: self.has_attempts(3), 3 if self.ending() else 1)
        self.busy = False
        self.chasq.ask("FLUSH")
        self.wait(lambda: not self.chasq.queued(), 3 if self.ending() else 1)

    def recover(self):
        self.busy = False
        super().recover()

    def check(self):
        self.check_arrived("user", "parts")
        got = [r for m in self.sink.messages for r in m.recipients]
        for who in ("now", "later"):
            times = len([r for r in got if who in r])
            assert times or not self.acknowledged, f"{self.name}: lost for {who}"
            assert times <= 2, f"{self.name}: {times} times for {who}"
        assert not self.chasq.messages("sender"), f"{self.name}: bounced"
        if self.ending() and not self.reached():
            assert len(got) == 2 and len(self.arrived("user", "parts")) == 1


class LevelRun(CountedRun):
    """A far host that speaks TLS: its domain's level is learnt, and written."""

    def make_sink(self, address):
        return sink_module.Sink(address=address, cert=self.world.cert)

    def scenario(self):
        self.chasq.start(wait=False, env=self.env)
        if self.refused_to_start():
            return
        for name in ("first", "second"):
            self.send(name, ["r@far.test"])
            self.wait(self.settled, 3 if self.ending() else 1)

    def check(self):
        for name in ("first", "second"):
            self.check_arrived("far", name)
        files = list((self.chasq.data / "domaininfo").glob("s:*"))
        delivered = bool(self.sink.messages)
        assert delivered <= bool(files) or not self.ending(), f"{self.name}: nothing was learnt"
        for f in files:
            text = f.read_text()
            assert "outgoing_sec_level: TLS_INSECURE" in text and self.far in text, text


class StartRun(CountedRun):
    """Ends while it starts: with messages that wait, one chasquid has written, and files that are none."""

    RUBBISH = {"m:empty0000": b"", "m:torn00000": b'ID: "torn00000"\nfrom: "a@x.test"\ndata:\n  "Subj',
               "m:rubbish00": bytes(range(256)) * 9}
    FOREIGN = (b'ID: "foreign00"\nfrom: "sender@here.test"\nTo: "user@here.test"\nrcpt: {\n'
               b'  address: "user@here.test"\n  type: EMAIL\n  status: PENDING\n'
               b'  original_address: "user@here.test"\n}\ndata: "Subject: foreign\\n\\n%s"\n'
               b'created_at_ts: {\n  seconds: %d\n}\n')

    def scenario(self):
        c = self.chasq
        away = self.sink.address
        self.sink.stop()
        c.start()
        for name in ("a", "b", "c"):
            self.send(name, ["r@far.test"])
        harness.wait_for(lambda: sum(b"\nattempt" in text for text in c.texts().values()) == 3, 10,
                         "three to wait")
        c.stop()
        for name, content in self.RUBBISH.items():
            (c.queue / name).write_bytes(content)
        body = body_of("foreign").decode().replace("\n", "\\n").encode()
        (c.queue / "m:foreign00").write_bytes(self.FOREIGN % (body, int(c.queue.stat().st_mtime)))
        self.acknowledged.add("foreign")
        self.sink = sink_module.Sink(address=away, port=self.sink.port)
        c.start(wait=False, env=self.env)
        if not self.refused_to_start():
            self.chasq.ask("FLUSH")
            self.wait(lambda: {p.name for p in c.queued()} <= set(self.RUBBISH), 3 if self.ending() else 1)

    def check(self):
        for name in ("a", "b", "c"):
            self.check_arrived("far", name)
        self.check_arrived("user", "foreign")
        # Set aside, not thrown away, and as they were.
        for name, content in self.RUBBISH.items():
            assert (self.chasq.queue / "damaged" / name).read_bytes() == content, f"{self.name}: {name}"


class RoundsRun(CountedRun):
    """One after the other; two have to wait until they are files of their own. A small journal is turned over
    several times."""

    NAMES = [f"m{i}" for i in range(14)]
    WAIT = ("m2", "m7")

    def __init__(self, *args):
        self.busy = True
        super().__init__(*args)

    def answer_rcpt(self, _session, _arg):
        return "451 4.3.2 busy" if self.busy else None

    def where(self, name):
        return "far" if name in self.WAIT else "user"

    def scenario(self):
        c = self.chasq
        c.start(wait=False, env=self.env)
        if self.refused_to_start():
            return
        for name in self.NAMES:
            self.send(name, ["r@far.test" if name in self.WAIT else "user@here.test"])
            # Most are gone before the next comes.
            self.wait(lambda name=name: name not in self.acknowledged or name in self.WAIT or
                      self.arrived("user", name), 1)
        self.wait(lambda: len(list(c.queue.glob("m:*"))) == len(self.acknowledged & set(self.WAIT)), 1)
        self.busy = False
        c.ask("FLUSH")
        self.wait(lambda: not c.queued(), 2 if self.ending() else 1)

    def recover(self):
        self.busy = False
        super().recover()

    def check(self):
        for name in self.NAMES:
            self.check_arrived(self.where(name), name)
        doubled = [n for n in self.NAMES if len(self.arrived(self.where(n), n)) > 1]
        # What was under way at the end, those that waited and the last, not what was done long before. (A disk that
        # fails may also keep files from being removed.)
        assert len(doubled) <= len(self.WAIT) + 1 or not self.ending(), f"{self.name}: twice: {doubled}"
        assert not doubled or self.reached()


SCENARIOS = {"group": GroupRun, "parts": PartsRun, "level": LevelRun, "start": StartRun, "rounds": RoundsRun}


@pytest.mark.parametrize("journal, mode", MODES)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_call(box, crashshim, short_build, scenario, journal, mode):
    if scenario == "rounds" and not journal and mode != "end" and not harness.FULL:
        pytest.skip("much the same as the others, without a journal")
    world = World(box, crashshim, SCENARIOS[scenario], short_build if journal else None, journal)
    world.cert = certs.make_cert(box.path, ["mx.far.test"]) if scenario == "level" else None
    calls = every_n(world, mode)
    print(f"{calls} calls")
    assert calls > 15, "the shim sees too little"
