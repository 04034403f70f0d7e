"""Ends the daemon at, or fails, the n-th call that changes a file, for every n of a scenario.

The scenario: a message into a Maildir, one to a remote host, one to a program, one to two recipients
of whom the remote one is refused (so a notification is due). After the end the daemon is started
again; the oracle is the state table of docs/INTERNALS.md: what was answered 250 arrives whole,
perhaps twice; the rest arrives whole or not at all; and the queue becomes empty.

A second scenario is what operators do: one message is removed with a notification, one is held. The
first is then either delivered or notified of, never both and never neither; the second, once that was
answered OK, is not tried before it is released, and then arrives.
"""

import re

import pytest

import harness
from crashes import MODES, Run, World, every_n, message


MAIL = {
    "local": ["user@here.test"],
    "remote": ["r@far.test"],
    "program": ["prog@here.test"],
    "mixed": ["user@here.test", "refused@far.test"],
}


class MailRun(Run):
    """Into a Maildir, to a remote host, to a program, and to two of whom one is refused."""

    def aliases(self):
        program = self.dir / "take"
        program.write_text(f"#!/bin/sh\ncat >{self.dir}/part.$$ && mv {self.dir}/part.$$ "
                           f"{self.dir}/got.$$\n")
        program.chmod(0o755)
        return f"prog: | {program}\n"

    def answer_rcpt(self, _session, arg):
        return "550 5.1.1 no" if "refused" in arg else None

    def scenario(self):
        """Sends all mail until the daemon is gone or all is done."""
        self.chasq.start(wait=False, env=self.env)
        if self.refused_to_start():
            return
        for name, to in MAIL.items():
            self.send(name, to)
        self.wait(self.settled, 5 if self.ending() else 1.5)

    def check(self):
        c = self.chasq
        user = [harness.split_message(m) for m in c.messages("user")]
        places = {
            "local": [b for h, b in user if b"Subject: local" in h],
            "mixed": [b for h, b in user if b"Subject: mixed" in h],
            "remote": [harness.split_message(m.data.replace(b"\r\n", b"\n"))[1]
                       for m in self.sink.messages],
            "program": [harness.split_message(p.read_bytes())[1] for p in self.dir.glob("got.*")],
        }
        for name, bodies in places.items():
            whole = message(name).replace(b"\r\n", b"\n").split(b"\n\n", 1)[1]
            for body in bodies:
                assert body == whole, f"{self.name}: {name} was delivered in part: {body!r}"
            if name in self.acknowledged:
                assert bodies, f"{self.name}: {name} was answered 250 and is lost"
            assert len(bodies) <= 2, f"{self.name}: {name} was delivered {len(bodies)} times"
        notes = c.messages("sender")
        if "mixed" in self.acknowledged:
            assert notes, f"{self.name}: the notification is lost"
        for note in notes:
            assert re.search(rb"^Final-Recipient: rfc822; ?refused@", note, re.M)
            assert note.rstrip().endswith(b"--"), f"{self.name}: a notification in part"
        assert len(notes) <= self.most_notes()



class OperatorRun(Run):
    """Two messages wait for a host that is busy; one is removed, one is held."""

    def __init__(self, *args):
        self.busy = True
        self.answered = set()
        super().__init__(*args)

    def answer_rcpt(self, _session, _arg):
        return "451 4.3.2 busy" if self.busy else None

    def id_of(self, name):
        texts = self.chasq.texts().items()
        return next((item for item, text in texts if f'"Subject: {name}'.encode() in text), None)

    def waits(self, name):
        return b"\nattempt" in self.chasq.texts().get(self.id_of(name), b"")

    def scenario(self):
        c = self.chasq
        c.start(wait=False, env=self.env)
        if self.refused_to_start():
            return
        for name in ("away", "kept"):
            self.send(name, [f"{name}@far.test"])
        self.wait(lambda: all(self.waits(name) for name in self.acknowledged), 3)
        for name, line in (("kept", "HOLD {}"), ("away", "REMOVE {} BOUNCE")):
            item = self.id_of(name)
            if item and self.chasq.ask(line.format(item)).startswith("OK"):
                self.answered.add(name)
        self.wait(lambda: "away" not in self.answered or (not self.id_of("away") and c.messages("sender")),
                  3 if self.ending() else 1)

    def recover(self):
        c = self.chasq
        # Behind a journal that was given up, and could not be removed, messages come back.
        self.comes_back = self.mode == "lost" or "journal's file stays" in c.log()
        self.end()
        self.busy = False
        c.start()
        held = self.id_of("kept")
        if held and held not in self.chasq.ask("HOLD"):
            assert "kept" not in self.answered, f"{self.name}: answered OK and not held"
            held = None

        def left():
            self.chasq.ask("FLUSH")
            return [p for p in c.queued() if not held or p.name != f"m:{held}"]

        harness.wait_for(lambda: not left(), 30, lambda: f"{self.name}: the queue to become empty: "
                         f"{c.queued()}\n" + c.log()[-3000:], 0.1)
        assert not held or not self.arrived("kept"), f"{self.name}: held, but delivered"
        if held:
            assert self.chasq.ask(f"RELEASE {held}").startswith("OK")
        c.wait_queue_empty()
        c.stop()

    def arrived(self, name):
        return [m for m in self.sink.messages if f"Subject: {name}".encode() in m.data]

    def check(self):
        notes = self.chasq.messages("sender")
        for name in self.acknowledged:
            count = len(self.arrived(name))
            assert count <= 2, f"{self.name}: {name} was delivered {count} times"
            assert count or (name == "away" and notes), f"{self.name}: {name} is lost"
        # One flush makes the verdict and the notification durable: a power cut within it can leave the second only.
        assert not (notes and self.arrived("away")) or self.comes_back, f"{self.name}: removed, and yet delivered"
        for note in notes:
            assert re.search(rb"^Final-Recipient: rfc822; ?away@", note, re.M), note
            assert b"5.7.0" in note
            assert note.rstrip().endswith(b"--"), f"{self.name}: a notification in part"
        assert len(notes) <= self.most_notes()
        if self.ending() and not self.reached():
            assert self.answered == {"away", "kept"} and len(notes) == 1


@pytest.fixture
def world(box, crashshim, short_build):
    """A world for this kind of run. The journal is a small one, turned over several times in a run."""
    return lambda kind, journal: World(box, crashshim, kind, short_build if journal else None, journal)


@pytest.mark.parametrize("journal, mode", [m for m in MODES if m.values[1] in ("end", "torn", "lost")])
def test_end_at_every_call(world, journal, mode):
    calls = every_n(world(MailRun, journal), mode)
    print(f"{calls} calls")
    assert calls > 20, "the shim sees too little"


@pytest.mark.parametrize("journal, mode", [m for m in MODES if m.values[1] in ("ENOSPC", "EIO")])
def test_failure_of_every_call(world, journal, mode):
    """The call fails instead: the daemon lives on and loses nothing."""
    calls = every_n(world(MailRun, journal), mode)
    assert calls > 20


@pytest.mark.parametrize("mode", ["end", "EIO"])
def test_journal_is_made(box, crashshim, mode):
    """The journal in the size that users have: most of the calls are those that make it."""
    calls = every_n(World(box, crashshim, MailRun, journal=True), mode, 13)
    print(f"{calls} calls")
    assert calls > 40


@pytest.mark.parametrize("journal, mode", MODES)
def test_operator_at_every_call(world, journal, mode):
    """Hold and remove with a notification, ended or failing at every call."""
    calls = every_n(world(OperatorRun, journal), mode)
    print(f"{calls} calls")
    assert calls > 20
