"""docs/MEMORY.md says what the server takes at worst: its formulas hold for a server that was filled, and its results are
those of config.h."""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess

import pytest

import certs
import fullqueue
import harness
from smtpclient import Client

HERE = pathlib.Path(__file__).resolve().parents[2]
UNITS = {"B": 1, "KB": 1024}
COUNT = 100
CONF = {"trusted_network": "127.0.0.0/8", "max_queue_items": 1_000_000, "mail_log_path": ""}


def table():
    """{what: (formula, result in the unit, unit)}."""
    rows = {}
    for line in (HERE / "docs/MEMORY.md").read_text().splitlines():
        if m := re.fullmatch(r"\| ([^|]+) \| ([^|]+) \| (\d+) (\w+) \|", line):
            rows[m[1]] = (m[2], int(m[3]), m[4])
    assert len(rows) > 5
    return rows


def value(formula):
    """Bytes, with the constants of config.h."""
    out = subprocess.run([os.environ.get("CC", "cc"), "-E", "-P", "-I", HERE, "-include", HERE / "config.h", "-x", "c", "-"],
                         input=formula, text=True, capture_output=True, check=True).stdout
    expression = out.strip().splitlines()[-1]
    assert re.fullmatch(r"[\d\s()*+]+", expression), f"{formula} is {expression}"
    return eval(expression)  # of digits and operators alone


@pytest.fixture(scope="module")
def rows():
    if not shutil.which(os.environ.get("CC", "cc")):
        pytest.skip("there is no C compiler")
    formulas = {what: formula for what, (formula, _, _) in table().items()}
    found = {what: value(formula) for what, formula in formulas.items() if formula != "SUM"}
    worst = list(formulas)[list(formulas).index("sessions, all in DATA with all recipients"):-1]
    worst += ["at rest, no TLS", "all that may wait (`max_queue_items`)"]
    assert list(formulas.values())[-1] == "SUM"
    return {**found, list(formulas)[-1]: sum(found[what] for what in worst)}


def test_results(rows):
    for what, (formula, result, unit) in table().items():
        assert result == -(-rows[what] // UNITS[unit]), f"{what}: {formula} is {rows[what]} bytes"


def check(what, bytes_each, rows):
    """What was measured is no more than the formula, and not so much less that the formula says nothing."""
    print(f"{what}: {bytes_each:.0f} of {rows[what]} bytes")
    assert rows[what] / 8 < bytes_each <= rows[what], what


def rest(c, seconds=0.6):
    """Anonymous KiB once they have not changed for so long."""
    seen = []

    def settled():
        seen.append(harness.anonymous_kb(c.pid))
        last = seen[-int(seconds / 0.15):]
        return len(seen) > len(last) and max(last) == min(last)

    harness.wait_for(settled, 30, "memory to settle", 0.15)
    return seen[-1]


class Filling:
    """Steps that fill a server, each checked against its row."""

    def __init__(self, c, rows):
        self.c = c
        self.rows = rows
        self.kb = rest(c)

    def step(self, what, count, seconds=0.6):
        kb = rest(self.c, seconds)
        check(what, (kb - self.kb) * 1024 / count, self.rows)
        self.kb = kb


def test_sessions(chasq, rows):
    """Sessions that do nothing, then with recipients, then in the middle of a long message."""
    c = chasq(program=harness.fast_binary(), conf=CONF, journal=True)
    assert rest(c) * 1024 <= rows["at rest, no TLS"]
    f = Filling(c, rows)
    rcpts = 50
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(c.port, source=f"127.0.2.{1 + i}")) for i in range(COUNT)]
        for client in clients:
            client.hello()
        f.step("a session, no TLS", COUNT)
        for i, client in enumerate(clients):
            client.cmd("MAIL FROM:<a@client.test>", 250)
            client.send(b"".join(b"RCPT TO:<recipient-number-%03d@far-away-%03d.test>\r\n" % (j, i) for j in range(rcpts)))
            for _ in range(rcpts):
                assert client.read().code == 250
        f.step("a recipient of a message that comes in, addresses of 40 bytes", COUNT * rcpts)
        for client in clients:
            client.cmd("DATA", 354)
        # More than the journal takes of a message: it is a file from there on.
        for client in clients:
            client.send((b"x" * 76 + b"\r\n") * (130_000 if harness.FULL else 3500))
        f.step("a session in DATA, beside that", COUNT, 2.4)  # longer than MEMORY_TRIM_MS
        for client in clients:
            client.reset()


def test_queue(chasq, rows):
    count = 100_000 if harness.FULL else 10_000
    c = chasq("empty", program=harness.fast_binary(), conf=CONF, journal=True)
    f = Filling(c, rows)
    c.stop()
    fullqueue.fill(c.queue, count)
    c.start()
    harness.wait_for(lambda: "queue scanned" in c.log(), 60, "the scan")
    f.c = c
    f.step("a message that waits", count, 2.4)


def test_tls(chasq, rows):
    c = chasq(start=False, program=harness.fast_binary(), conf=CONF)
    ca = certs.make_ca(c.dir / "ca")
    certs.make_cert(c.dir / "made", ["chasq.test"], ca).install(c.dir / "certs", "chasq.test")
    c.start()
    context = ssl.create_default_context(cadata=ca.pem.read_text())
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(c.port, source=f"127.0.2.{1 + i}")) for i in range(20)]
        for client in clients:
            client.hello()
        f = Filling(c, rows)
        for client in clients:
            client.cmd("STARTTLS", 220)
            client.sock = context.wrap_socket(client.sock, server_hostname="chasq.test")
        f.step("TLS of a session", len(clients))


def test_deliveries(box, chasq, rows):
    """Deliveries that wait for a greeting."""
    mute = socket.create_server(("0.0.0.0", 0), backlog=64)
    box.on_stop(mute.close)
    c = chasq(program=harness.fast_binary(), conf={**CONF, "remote_smtp_port": mute.getsockname()[1]})
    f = Filling(c, rows)
    with Client(c.port) as client:
        client.hello()
        for i in range(30):
            client.message("a@client.test", [f"b@[127.0.3.{1 + i}]"], b"Subject: x\r\n\r\nx\r\n")
        client.quit()
    taken = []
    mute.settimeout(20)
    while len(taken) < 30:
        taken.append(mute.accept()[0])
    f.step("a delivery by SMTP, before its content", len(taken))
    for s in taken:
        s.close()
