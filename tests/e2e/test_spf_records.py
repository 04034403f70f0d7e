"""spf.c against python3-spf: the records of spf_cases.py, served by tests/tools/dnsd.py, are judged
by both. Ours must be what the case says; theirs too, but where the case says why it is not."""

import os
import pathlib
import random
import socket
import struct
import subprocess
import sys

import pytest
import spf

import harness
from spf_cases import CASES, ZONE


@pytest.fixture(scope="module")
def program():
    """The tool out of the build that the tests are for."""
    tool = pathlib.Path(os.environ.get("SPF_TRY") or harness.binary().parent / "spf_try").resolve()
    assert tool.exists(), f"{tool} is missing: make tests"
    return tool


def domain(index):
    return f"c{index}.spf.test"


def zone_text():
    out = [ZONE]
    for i, case in enumerate(CASES):
        d = domain(i)
        record = case.record.format(d=d).encode("latin-1").decode("unicode_escape")
        out.append(f'{d} TXT "{record}"')
        out.append(case.zone.format(d=d).encode("latin-1").decode("unicode_escape"))
    return "\n".join(out) + "\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("spf")
    (path / "zone").write_text(zone_text(), "latin-1")
    with open(path / "stderr", "wb") as err:
        dnsd = subprocess.Popen([sys.executable, harness.TREE / "tests/tools/dnsd.py", "--with-parent",
                                 path / "zone"], stdout=subprocess.PIPE, stderr=err, text=True)
    ready, port = dnsd.stdout.readline().split()
    assert ready == "ready"
    assert (path / "stderr").read_text() == ""
    yield "127.0.0.1", int(port)
    dnsd.kill()
    dnsd.wait()
    dnsd.stdout.close()


# ---- a resolver for python3-spf -----------------------------------------------------------------

TYPES = {"A": 1, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28}


def read_name(packet, at):
    """(name, offset behind it); the server does not compress."""
    labels = []
    while packet[at]:
        labels.append(packet[at + 1 : at + 1 + packet[at]].decode("latin-1"))
        at += packet[at] + 1
    return ".".join(labels), at + 1


def read_data(kind, data):
    if kind == "A":
        return socket.inet_ntop(socket.AF_INET, data)
    if kind == "AAAA":
        return socket.inet_ntop(socket.AF_INET6, data)
    if kind == "MX":
        return struct.unpack("!H", data[:2])[0], read_name(data, 2)[0]
    if kind == "PTR":
        return read_name(data, 0)[0]
    strings = []
    while data:
        strings.append(data[1 : 1 + data[0]])
        data = data[1 + data[0] :]
    return strings


def exchange(server, question):
    with socket.create_connection(server, 5) as s:
        s.sendall(struct.pack("!H", len(question)) + question)
        stream = s.makefile("rb")
        return stream.read(struct.unpack("!H", stream.read(2))[0])


def lookup(server, name, kind):
    if len(name) > 253:
        return []
    labels = name.encode("latin-1", "replace").split(b".")
    question = struct.pack("!HHHHHH", random.randrange(65536), 0x0100, 1, 0, 0, 0) + b"".join(
        bytes([len(label)]) + label for label in labels) + b"\0" + struct.pack("!HH", TYPES[kind], 1)
    packet = exchange(server, question)
    rcode, count = packet[3] & 15, struct.unpack("!H", packet[6:8])[0]
    if rcode not in (0, 3):
        raise spf.TempError(f"DNS: rcode {rcode}")
    out = []
    at = read_name(packet, 12)[1] + 4
    for _ in range(count):
        at = read_name(packet, at)[1]
        number, _, _, n = struct.unpack("!HHIH", packet[at : at + 10])
        # The owner is the name asked for: the server follows CNAMEs.
        if number == TYPES[kind]:
            out.append(((name, kind), read_data(kind, packet[at + 10 : at + 10 + n])))
        at += 10 + n
    return out


def theirs(server, ip, helo, sender):
    """(result, explanation)"""
    before = spf.DNSLookup
    spf.DNSLookup = lambda name, kind, *more: lookup(server, name, kind)
    try:
        q = spf.query(i=ip, s=sender, h=helo, receiver="mx.example.net")
        q.set_default_explanation("")
        result, _, explanation = q.check()
        return result, explanation if result == "fail" else ""
    finally:
        spf.DNSLookup = before


def ours(program, server, ip, helo, sender):
    run = subprocess.run([program, "--servers", "%s:%d" % server, ip, helo, sender], capture_output=True,
                         timeout=60)
    assert run.returncode == 0, run.stderr.decode()
    return dict(line.split(": ", 1) for line in run.stdout.decode().splitlines())


# ---- the comparison -----------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(len(CASES)), ids=[f"{i}-{c.record[:50]}" for i, c in enumerate(CASES)])
def test_record(program, server, index):
    case, d = CASES[index], domain(index)
    helo, sender = case.helo.format(d=d), case.sender.format(d=d)
    for ip, verdict in case.verdicts:
        got = ours(program, server, ip, helo, sender)
        assert got["result"] == verdict, f"{ip}: {got}"
        assert bool(got["problem"]) == (verdict in ("temperror", "permerror")), got
        result, explanation = theirs(server, ip, helo, sender)
        if ip in case.differs:
            assert result == case.differs[ip] != verdict and case.why, f"{ip}: no difference, or no reason"
        else:
            assert result == verdict, f"{ip}: python3-spf says {result}"
        if case.explanation is not None:
            assert got["explanation"] == case.explanation.format(d=d)
            assert explanation == case.differs.get("explanation", got["explanation"])
            assert explanation == got["explanation"] or case.why


def test_enough_records():
    assert len({case.record for case in CASES}) >= 14 + 100
