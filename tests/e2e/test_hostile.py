"""Clients that do not mean well, and others that must not suffer from them."""

import contextlib
import re
import socket
import time

import harness
from sink import Hang
from smtpclient import Client, send


def descriptors(c):
    return harness.descriptors(c.pid)


def test_flood_and_vanish_keeps_no_place(chasq):
    """Clients that reset while their commands are served: noticed at once, not by a time-out."""
    c = chasq()
    before = harness.idle_descriptors(c)
    for i in range(100):
        with socket.socket() as s:
            s.bind((f"127.0.2.{i + 1}", 0))
            s.connect((c.address, c.port))
            s.settimeout(0.1)
            with contextlib.suppress(OSError):
                s.sendall(b"EHLO x\r\n" * 9000)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    harness.wait_for(lambda: descriptors(c) <= before, 10, "the sessions to end")
    send(c.port, "a@x.test", ["user@here.test"], b"Subject: x\r\n\r\nx\r\n")


def test_lingering_sockets_of_one_client_leave_places(chasq):
    """An answered QUIT does not free the socket of a client that keeps it open."""
    c = chasq()
    held = []
    for _ in range(250):
        s = socket.create_connection((c.address, c.port), timeout=5)
        s.sendall(b"QUIT\r\n")
        held.append(s)
    with socket.socket() as s:
        s.bind(("127.0.0.9", 0))
        s.settimeout(5)
        s.connect((c.address, c.port))
        assert s.recv(100).startswith(b"220 ")
    for s in held:
        s.close()


def test_local_mail_passes_dead_hosts(chasq, sink, dnsmasq):
    """Hosts that accept connections and say nothing hold their places for minutes."""
    s = sink(address="127.0.0.2", script={"CONNECT": Hang(120)})
    domains = [f"d{i}.far.test" for i in range(80)]
    dns = dnsmasq(mx={"far.test": [(1, "x.far.test")]}, hosts={d: ["127.0.0.2"] for d in domains})
    c = chasq(conf={"dns_servers": dns.server, "remote_smtp_port": s.port,
                    "trusted_network": "127.0.0.0/8"})
    with Client(c.port) as client:
        client.hello()
        for d in domains:
            client.message("a@here.test", [f"b@{d}"], b"Subject: x\r\n\r\nx\r\n")
        client.message("a@here.test", ["user@here.test"], b"Subject: x\r\n\r\nx\r\n")
    c.wait_messages("user", seconds=10)


def test_damaged_message_is_set_aside_and_told(chasq, short_build, sink):
    """A message whose content rots between two tries is set aside and not tried again for ever; its sender
    learns that it was lost, without what is left of it."""
    s = sink(address="127.0.0.2", script={"BODY": "450 4.2.0 later"})
    c = chasq(conf={"remote_smtp_port": s.port, "trusted_network": "127.0.0.0/8"},
              program=short_build)
    send(c.port, "user@here.test", ["a@[127.0.0.2]"], b"Subject: secret\r\n\r\n" + b"XYZ\r\n" * 2000)
    c.wait_attempt()
    path = c.queued()[0]
    harness.wait_for(path.exists, 10, "a file of it")
    with open(path, "r+b") as f:
        f.seek(path.read_bytes().find(b"XYZ"))
        f.write(b"x")
    note = c.wait_messages("user")[0]
    assert re.search(rb"^Final-Recipient: rfc822; a@\[127\.0\.0\.2\]$", note, re.M), note
    assert re.search(rb"^Status: 5\.3\.0$", note, re.M) and b"damaged" in note
    assert b"XYZ" not in note and b"secret" not in note and note.rstrip().endswith(b"--")
    c.wait_queue_empty()
    before = len(s.sessions)
    time.sleep(3)
    assert len(s.sessions) == before and len(c.messages("user")) == 1
    assert (c.queue / "damaged" / path.name).exists() and not s.messages[1:]
