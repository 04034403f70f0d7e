"""chasq on a board of 25 MB: SMTP with STARTTLS, 500 messages, a power cut, Maildir and SMTP; what it takes."""

import collections
import hashlib
import os
import pathlib
import re
import ssl
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

import certs  # noqa: E402
from emulator import Board, make_disk, make_root  # noqa: E402
from harness import free_port, wait_for  # noqa: E402
from sink import Sink  # noqa: E402
from smtpclient import Client, Closed  # noqa: E402

MESSAGES = 500
A_CONNECTION = 50

CONF = """
hostname: "board.test"
smtp_address: ":25"
user: "mail"
data_dir: "/data/queue"
maildir: "/data/mail/%to_user%"
trusted_network: "10.0.2.0/24"
trusted_network_rate: 100000
smarthost {{ address: "10.0.2.2:{port}" tls: STARTTLS fingerprint: "{fingerprint}" }}
"""


def fingerprint(cert):
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(cert.pem.read_text())).hexdigest()


def make_tree(tree, sink_port, cert, sink_cert):
    conf = tree / "chasq"
    (conf / "domains/board.test").mkdir(parents=True)
    (conf / "certs/board.test").mkdir(parents=True)
    (tree / "queue").mkdir()
    (tree / "mail").mkdir()
    (conf / "chasq.conf").write_text(CONF.format(port=sink_port, fingerprint=fingerprint(sink_cert)))
    (conf / "domains/board.test/users").write_text('users: { key: "ana" value: { denied: {} } }\n')
    (conf / "certs/board.test/fullchain.pem").write_bytes(cert.fullchain.read_bytes())
    (conf / "certs/board.test/privkey.pem").write_bytes(cert.key.read_bytes())
    (conf / "certs/board.test/privkey.pem").chmod(0o600)


@pytest.fixture
def world(tmp_path):
    """A board with a disk, and a sink that can nothing take as yet."""
    root = pathlib.Path(os.environ["CHASQ_BOARD"])
    cert = certs.make_cert(tmp_path, ["board.test"])
    sink_cert = certs.make_cert(tmp_path, ["sink.test"])
    sink = Sink(cert=sink_cert, script={"MAIL": "451 4.3.0 not now"})
    tree = tmp_path / "tree"
    make_tree(tree, sink.port, cert, sink_cert)
    make_disk(tmp_path / "disk", tree)
    (tmp_path / "root").write_bytes(make_root(root, pathlib.Path(os.environ["CHASQ"])))
    port = free_port()
    board = Board(next(root.glob("boot/vmlinu*")), tmp_path / "root", tmp_path / "disk", port)
    try:
        yield board, sink, port
    finally:
        board.power_off()
        sink.stop()


def greets(port):
    """qemu takes connections before the board is there, and then ends them."""
    try:
        with Client(port, timeout=10):
            return True
    except (OSError, Closed, AssertionError):
        return False


def say(text):
    print("\nboard:", text, end="", flush=True)


def boot(board, port):
    started = time.monotonic()
    board.start()
    board.sh("true", 240)
    try:
        wait_for(lambda: greets(port), 60, "the banner", step=0.5)
    except AssertionError:
        print(board.sh("cat /data/log"), board.console)
        raise
    say(f"greets {time.monotonic() - started:.0f} s after power was on")


def under_tls(port):
    client = Client(port, timeout=120)
    client.cmd("EHLO client.test", 250)
    client.cmd("STARTTLS", 220)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client.sock = context.wrap_socket(client.sock, server_hostname="board.test")
    client.cmd("EHLO client.test", 250)
    return client


def send(port, numbers):
    """Returns the version of TLS."""
    with under_tls(port) as client:
        for n in numbers:
            to = "ana@board.test" if n % 2 else f"far{n}@far.test"
            client.cmd("MAIL FROM:<sender@client.test>", 250)
            client.cmd(f"RCPT TO:<{to}>", 250)
            client.cmd("DATA", 354)
            client.send(f"Subject: number {n}.\r\nMessage-ID: <{n}@client.test>\r\n\r\n" + "x" * 60 + "\r\n.\r\n")
            assert client.read().code == 250
        client.cmd("QUIT", 221)
        return client.sock.version()


def memory(board, when):
    ours = board.sh("cat /proc/$(cat /run/chasq.pid)/smaps_rollup")  # its children come and go
    machine = board.sh("cat /proc/meminfo")

    def kb(text, name):
        found = re.search(rf"^{name}:\s*(\d+) kB", text, re.M)
        return int(found[1])

    say(f"{when}: chasq PSS {kb(ours, 'Pss')} KB, private {kb(ours, 'Private_Dirty')} KB dirty; "
        f"of {kb(machine, 'MemTotal')} KB {kb(machine, 'MemAvailable')} KB are free")
    return kb(ours, "Pss")


def delivered(board):
    """How often each number is in the Maildir."""
    text = board.sh("cat /data/mail/ana/new/* 2>/dev/null | grep '^Subject: number'", 120)
    return collections.Counter(int(n) for n in re.findall(r"number (\d+)\.", text))


def test_board_of_25_megabytes(world):
    board, sink, port = world
    boot(board, port)
    say(board.sh("chasq -V | head -n 1").strip() + " on " + board.sh("uname -rm").strip())
    memory(board, "idle")
    for first in range(0, MESSAGES, A_CONNECTION):
        version = send(port, range(first, first + A_CONNECTION))
        say(f"{first + A_CONNECTION} messages are queued or delivered")
    assert version in ("TLSv1.2", "TLSv1.3")
    assert memory(board, f"after {MESSAGES} messages under {version}") < 4096

    board.power_off()
    assert not sink.messages
    sink.script.clear()
    boot(board, port)
    memory(board, "after the power cut")
    board.sh("chasq -C /data/chasq flush")

    near = [n for n in range(MESSAGES) if n % 2]
    far = [n for n in range(MESSAGES) if not n % 2]

    def all_there():
        counts = len(sink.messages), len(delivered(board))
        say(f"{counts[0]} at the sink, {counts[1]} in the Maildir")
        return counts[0] >= len(far) and counts[1] >= len(near)

    wait_for(all_there, 1200, "all of them to arrive", step=5)  # 40 s where nothing else runs
    got = collections.Counter(int(re.search(rb"number (\d+)\.", m.data)[1]) for m in sink.messages)
    assert sorted(got) == far
    assert all(s.tls for s in sink.sessions if s.sender)
    assert sorted(delivered(board)) == near
    # What was delivered in the instant of the cut, and not yet noted, comes twice: never more.
    assert max(got.values()) <= 1 and max(delivered(board).values()) <= 2
    memory(board, "when all is delivered")
