"""System calls a message: few, as each is a part of its price on a slow machine."""

import pytest

import calls
import harness
import peers
from test_tls_client import block

COUNT = 1000 if harness.FULL else 300


def pour(box, c, count, recipient):
    """Sends messages over ten connections and waits until all are gone again."""
    before = c.log().count(" removed ")
    source = peers.smtp_source(box, c.port, sessions=10, messages=count, recipient=recipient, length=1000,
                               extra=["-d"])
    assert source.wait(120) == 0, source.log()
    harness.wait_for(lambda: c.log().count(" removed ") >= before + count, 60, "the messages to be delivered")


@pytest.mark.parametrize("journal, most", [(True, 20), (False, 45)])
def test_relayed(box, chasq, journal, most):
    """Accepted and passed on over connections that are kept: with the journal no file is touched."""
    there = peers.SmtpSink(box)
    c = chasq(program=harness.fast_binary(), journal=journal, conf={
        "trusted_network": "127.0.0.0/8", "max_queue_items": 2 * COUNT,
        "smarthost": [block(there.port, address=there.address, tls=harness.Raw("NONE"))]})
    pour(box, c, 20, "b@far.test")
    with calls.counted(box, c.pid) as made:
        pour(box, c, COUNT, "b@far.test")
    print(f"{made.total / COUNT:.1f} calls a message:", made)
    assert made.total <= most * COUNT, made
    if journal:
        assert made.of("open", "openat", "unlink", "unlinkat", "rename", "renameat", "fsync") < COUNT // 20, made


def test_to_maildir(box, chasq):
    c = chasq(program=harness.fast_binary(), journal=True, conf={"max_queue_items": 2 * COUNT})
    pour(box, c, 20, "user@here.test")
    with calls.counted(box, c.pid) as made:
        pour(box, c, COUNT, "user@here.test")
    print(f"{made.total / COUNT:.1f} calls a message:", made)
    assert made.total <= 30 * COUNT, made
