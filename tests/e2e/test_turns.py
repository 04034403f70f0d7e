"""What a message costs: system calls on a kept connection, instructions a byte; and nothing at all when
nothing is due."""

import os
import platform
import re
import shutil
import signal
import subprocess
import time

import pytest

import calls
import certs
import harness
import peers
from smtpclient import Client
from test_tls_client import block

CALLS_MAX = 10            # a message, its commands one by one
CALLS_PIPELINED_MAX = 15  # one client, for whom each turn is its own; a child or two for new segments
ACCEPTED_MAX = 72_000     # instructions a message of 1 KB that is accepted; 93,000 with memory for each read
RELAYED_MAX = 170_000     # instructions of a message of 1 KB that comes and goes; 352,000 when it was read back
# A byte of a large message; 25.7 before lines were looked at a word a step, 15 without the processor's help.
INSTRUCTIONS_MAX = 6.5 if platform.machine() == "x86_64" else 16
LARGE = 5_000_000
LARGE_CALLS_MAX = 900     # reads, writes and waits for LARGE bytes; 2600 when each was of 8 KB at most


@pytest.fixture(scope="module")
def load():
    """bench/load.c, which sends without pipelining."""
    program = harness.TREE / "build/bench/load-test"
    program.parent.mkdir(parents=True, exist_ok=True)
    new = program.with_suffix(f".{os.getpid()}")
    subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-O1", "-o", new, harness.TREE / "bench/load.c"], check=True)
    new.rename(program)
    return program


def fast(box, name="chasq", **kwargs):
    """The program as users run it, with a journal."""
    return harness.Chasq(box, name, program=harness.fast_binary(), journal=True, **kwargs)


def send(load, c, sessions, messages, length=1024):
    subprocess.run([load, "-s", str(sessions), "-m", str(messages), "-l", str(length), "-t", "u@far.test",
                    "127.0.0.1", str(c.port)], check=True, stdout=subprocess.DEVNULL, timeout=120)


@pytest.mark.parametrize("sessions", [10, 100])
def test_system_calls_of_a_message(box, load, sessions):
    c = fast(box, conf={"trusted_network": "127.0.0.0/8", "max_queue_items": 20000})
    c.start()
    assert c.run("hold", "far.test", "-C", c.dir).returncode == 0
    totals = []
    # What connecting costs is the same in both runs.
    for messages in (400, 1400 if not harness.FULL else 5400):
        with calls.counted(box, c.pid) as made:
            send(load, c, sessions, messages)
        totals.append((messages, made.total))
    each = (totals[1][1] - totals[0][1]) / (totals[1][0] - totals[0][0])
    # At the least the four commands and their answers, but for what only the shorter run happened to need.
    assert 7 < each <= CALLS_MAX, f"{each:.1f} a message: {made}"
    print(f"{each:.1f} calls a message: {made}")
    c.stop()


def test_system_calls_of_pipelined_commands(box):
    """One client, all commands of a message in one piece."""
    c = fast(box, conf={"trusted_network": "127.0.0.0/8", "max_queue_items": 20000})
    c.start()
    assert c.run("hold", "far.test", "-C", c.dir).returncode == 0
    messages = 300
    with Client(c.port) as client:
        client.hello()
        with calls.counted(box, c.pid) as made:
            for _ in range(messages):
                client.send("MAIL FROM:<a@client.test>\r\nRCPT TO:<u@far.test>\r\nDATA\r\n")
                assert [client.read().code for _ in range(3)] == [250, 250, 354]
                client.send("Subject: x\r\n\r\ntext\r\n.\r\n")
                assert client.read().code == 250
    assert 4 * messages < made.total <= CALLS_PIPELINED_MAX * messages, f"{made.total / messages:.1f} a message: {made}"
    c.stop()


def test_system_calls_of_a_large_message(box, load):
    """Content is read and written by 64 KB, as far as it is there."""
    c = fast(box, conf={"trusted_network": "127.0.0.0/8", "max_queue_items": 20000})
    c.start()
    assert c.run("hold", "far.test", "-C", c.dir).returncode == 0
    with calls.counted(box, c.pid) as made:
        send(load, c, 1, 4, LARGE)
    each = made.total / 4
    print(f"{each:.0f} calls for {LARGE} bytes: {made}")
    assert LARGE / 65536 < each <= LARGE_CALLS_MAX, f"{each:.0f} a message: {made}"
    c.stop()


def test_a_picture_is_no_file(box, load):
    """Messages of 100 KB cost no file of their own."""
    c = fast(box, conf={"trusted_network": "127.0.0.0/8", "max_queue_items": 20000})
    c.start()
    assert c.run("hold", "far.test", "-C", c.dir).returncode == 0
    send(load, c, 1, 10, 100_000)
    assert not list(c.queue.glob("m:*"))
    assert len(c.queued()) == 10
    c.stop()
    assert len(list(c.queue.glob("m:*"))) == 10


def test_instructions_of_a_large_message(box, load):
    """From the socket to the file, the start of the daemon and small messages taken off."""
    if not shutil.which("valgrind"):
        pytest.skip("valgrind is missing")
    found = []
    for i, length in enumerate((1024, 1 << 20)):
        c = harness.Chasq(box, f"cost{i}", program=harness.fast_binary(), journal=True,
                          conf={"trusted_network": "127.0.0.0/8"})
        out = c.dir / "callgrind"
        c.start(wrap=["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"])
        assert c.run("hold", "far.test", "-C", c.dir).returncode == 0
        send(load, c, 1, 2, length)
        c.stop(60)
        found.append(int(re.search(r"(?m)^(?:summary|totals): (\d+)", out.read_text())[1]))
    each = (found[1] - found[0]) / (2 << 20)
    print(f"{each:.1f} instructions a byte")
    assert 3 < each <= INSTRUCTIONS_MAX, f"{each:.1f} instructions a byte"


def test_instructions_of_an_accepted_message(box, load):
    """Commands one by one, from 10 sessions; what the start and the end of the daemon take not counted."""
    if not shutil.which("callgrind_control"):
        pytest.skip("valgrind is missing")
    found = []
    for i, messages in enumerate((100, 400)):
        c = fast(box, name=f"accept{i}", conf={"trusted_network": "127.0.0.0/8"})
        out = c.dir / "callgrind"
        c.start(wrap=["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"])
        assert c.run("hold", "far.test", "-C", c.dir).returncode == 0
        send(load, c, 10, messages)
        harness.wait_for(lambda c=c, n=messages: c.log().count(" held back ") >= n, 60, "the queue's look at them")
        subprocess.run(["callgrind_control", "-d", str(c.pid)], check=True, stdout=subprocess.DEVNULL)
        c.stop(60)
        found.append(int(re.search(r"(?m)^(?:summary|totals): (\d+)", out.with_suffix(".1").read_text())[1]))
    each = (found[1] - found[0]) / 300
    print(f"{each:.0f} instructions a message")
    assert 10_000 < each <= ACCEPTED_MAX, f"{each:.0f} instructions a message"


def test_instructions_of_a_relayed_message(box, load):
    """From one socket to the other, over connections that are kept; the start of the daemon taken off."""
    if not shutil.which("valgrind"):
        pytest.skip("valgrind is missing")
    there = peers.SmtpSink(box)
    found = []
    for i, messages in enumerate((50, 250)):
        c = harness.Chasq(box, f"relay{i}", program=harness.fast_binary(), journal=True, conf={
            "trusted_network": "127.0.0.0/8",
            "smarthost": [block(there.port, address=there.address, tls=harness.Raw("NONE"))]})
        out = c.dir / "callgrind"
        c.start(wrap=["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"])
        send(load, c, 2, messages)
        harness.wait_for(lambda c=c, n=messages: c.log().count(" removed ") >= n, 60, "the messages to be relayed")
        c.stop(60)
        found.append(int(re.search(r"(?m)^(?:summary|totals): (\d+)", out.read_text())[1]))
    each = (found[1] - found[0]) / 200
    print(f"{each:.0f} instructions a message")
    assert 10_000 < each <= RELAYED_MAX, f"{each:.0f} instructions a message"


def test_idle(box):
    """Not one system call while nothing is due: no tick, no poll."""
    cert = certs.make_cert(box.dir("certs"), ["chasq.test"], key="ec")
    port = harness.free_port()
    c = fast(box, conf={"monitoring_address": f"127.0.0.1:{port}", "mail_log_path": str(box.path / "mail.log")})
    cert.install(c.dir / "certs", "chasq.test")
    c.start()
    with Client(c.port) as client:
        client.hello()
        client.message("a@client.test", ["user@here.test"], b"Subject: x\r\n\r\ntext\r\n")
    harness.wait_for(lambda: not c.queued(), 10, "the message to be delivered")
    time.sleep(3)  # what was freed is given back once, MEMORY_TRIM_MS after the last of it
    out = box.path / "calls"
    tracer = box.process(["strace", "-f", "-tt", "-o", out, "-p", c.pid], "strace")
    harness.wait_for(lambda: "attached" in tracer.log() or not tracer.running(), 20, "strace to attach")
    if "attached" not in tracer.log():
        pytest.skip(f"a process cannot be traced here: {tracer.log().strip()[-100:]}")
    time.sleep(60 if harness.FULL else 3)
    tracer.kill(signal.SIGINT)
    tracer.wait(20)
    text = out.read_text()
    # The wait that was under way is seen without its end.
    assert "select" in text and not re.search(r"(?m)\) += -?\d", text), text
    c.stop()
