#!/usr/bin/python3
"""A small scriptable name server for tests, UDP and TCP on one port.

    python3 tests/tools/dnsd.py --port P zonefile
    ready P                             <- printed once both sockets are bound; --port 0 picks one

It answers as a recursive resolver would: CNAMEs are followed, TTLs are 0. The zone file is read
again when it changes. One entry a line, '#' starts a comment:

    zone example.test                   names outside all zones are REFUSED; no zone line: NXDOMAIN
    example.test      MX    10 mx.example.test
    example.test      MX    0 .
    mx.example.test   A     127.0.0.2
    mx.example.test   AAAA  ::1
    *.wild.test       A     127.0.0.3   (any name below)
    example.test      TXT   "v=spf1 " "-all"
    www.example.test  CNAME example.test
    2.0.0.127.in-addr.arpa PTR mx.example.test
    "o d,d/=.test"    TXT   "quotes make names of any character but the dot"
    _25._tcp.mx.test  TLSA  3 1 1 0123456789abcdef... (data in hex, blanks allowed)
    odd.test          RAW   15 000a0161 (type number, data in hex)
    bad.test          !     servfail    (whatever the type)
    bad.test          !AAAA drop        (for one type)
    secure signed.test                  (this name and those below count as validated: the answer
                                        has AD when the query has AD or DO, RFC 6840 5.8)

Behaviours: servfail, refused, nxdomain, drop (never answers), truncate (UDP answers are cut, which
forces TCP), garbage (an answer whose records are broken), slow:MS (answers after MS milliseconds),
insecure (never AD).
"""
import argparse
import asyncio
import ipaddress
import os
import shlex
import socket
import struct
import sys

TYPES = {"A": 1, "CNAME": 5, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "OPT": 41, "TLSA": 52}
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5
FLAG_AD, EDNS_DO = 0x0020, 0x8000


def wire_name(name):
    out = b""
    for label in name.rstrip(".").split("."):
        if label:
            raw = label.encode("latin-1")
            out += bytes([len(raw)]) + raw
    return out + b"\0"


def canonical(name):
    return name.rstrip(".").lower()


def txt_data(words):
    out = b""
    for word in words:
        raw = word.encode("latin-1")
        for i in range(0, max(len(raw), 1), 255):
            part = raw[i : i + 255]
            out += bytes([len(part)]) + part
    return out


def record_data(kind, words):
    if kind in ("A", "AAAA"):
        return ipaddress.ip_address(words[0]).packed
    if kind in ("CNAME", "PTR"):
        return wire_name(words[0])
    if kind == "MX":
        return struct.pack("!H", int(words[0])) + wire_name(words[1])
    if kind == "TXT":
        return txt_data(words)
    if kind == "TLSA":
        return bytes(int(w) for w in words[:3]) + bytes.fromhex("".join(words[3:]))
    raise ValueError("unknown type " + kind)


class Zone:
    """The zone file: names, their records, their behaviours."""

    def __init__(self, path):
        self.path = path
        self.stamp = None
        self.refresh()

    def refresh(self):
        try:
            st = os.stat(self.path)
        except OSError:
            return
        stamp = (st.st_mtime_ns, st.st_size, st.st_ino)
        if stamp == self.stamp:
            return
        self.stamp = stamp
        self.zones, self.records, self.behaviours, self.names = [], {}, {}, set()
        self.secure = []
        with open(self.path, encoding="latin-1") as f:
            for number, line in enumerate(f, 1):
                try:
                    self.add(shlex.split(line, comments=True))
                except (ValueError, IndexError) as e:
                    print(f"{self.path}:{number}: {e}", file=sys.stderr, flush=True)

    def add(self, words):
        if not words:
            return
        if words[0] == "zone":
            self.zones.append(canonical(words[1]))
            return
        if words[0] == "secure":
            self.secure.append(canonical(words[1]))
            return
        name, kind = canonical(words[0]), words[1].upper()
        self.note_name(name)
        if kind.startswith("!"):
            self.behaviours[name, TYPES[kind[1:]] if kind[1:] else None] = words[2]
        elif kind == "RAW":
            data = bytes.fromhex("".join(words[3:]))
            self.records.setdefault((name, int(words[2])), []).append(data)
        else:
            data = record_data(kind, words[2:])
            self.records.setdefault((name, TYPES[kind]), []).append(data)

    def note_name(self, name):
        """A name exists, and so do all those above it (empty non-terminals)."""
        while name:
            self.names.add(name)
            name = name.partition(".")[2]

    def find(self, name):
        """The entry that speaks for name: itself or the closest wildcard; None when unknown."""
        if name in self.names:
            return name
        rest = name
        while "." in rest:
            rest = rest.partition(".")[2]
            if "*." + rest in self.names:
                return "*." + rest
        return None

    @staticmethod
    def below(name, tops):
        return any(name == top or name.endswith("." + top) for top in tops)

    def inside(self, name):
        return not self.zones or self.below(name, self.zones)

    def validated(self, name, records):
        """True when every name on the way from this one to the end of its CNAMEs is secure."""
        ends = [read_name(data, 0)[0] for _, t, data in records if t == TYPES["CNAME"]]
        return all(self.below(n, self.secure) for n in [name, *ends])

    def behaviour(self, name, kind):
        entry = self.find(name)
        return self.behaviours.get((entry, kind)) or self.behaviours.get((entry, None)) or ""

    def answer(self, name, kind):
        """(rcode, [(owner, type, data)])"""
        records = []
        for _ in range(16):
            if not self.inside(name):
                return (REFUSED if not records else NOERROR), records
            entry = self.find(name)
            if entry is None:
                return NXDOMAIN, records
            found = self.records.get((entry, kind), [])
            records += [(name, kind, data) for data in found]
            cname = self.records.get((entry, TYPES["CNAME"]))
            if found or not cname:
                return NOERROR, records
            records.append((name, TYPES["CNAME"], cname[0]))
            name = read_name(cname[0], 0)[0]
        return SERVFAIL, []


def read_name(packet, offset):
    labels = []
    while packet[offset]:
        n = packet[offset]
        labels.append(packet[offset + 1 : offset + 1 + n].decode("latin-1"))
        offset += n + 1
    return canonical(".".join(labels)), offset + 1


class Server:
    def __init__(self, zone, log):
        self.zone = zone
        self.log = log

    def respond(self, packet, tcp):
        """(delay in s, answer); answer None: say nothing."""
        self.zone.refresh()
        ident, flags, questions = struct.unpack("!HHH", packet[:6])
        additional = struct.unpack("!H", packet[10:12])[0]
        if questions != 1 or flags & 0x8000:
            return 0, None
        name, end = read_name(packet, 12)
        kind = struct.unpack("!H", packet[end : end + 2])[0]
        question = packet[12 : end + 4]
        limit, dnssec_ok = self.edns(packet, end + 4, additional)
        if self.log:
            print("tcp" if tcp else "udp", kind, name, file=self.log, flush=True)

        what, delay = self.zone.behaviour(name, kind), 0
        if what == "drop":
            return 0, None
        if what.startswith("slow:"):
            delay = int(what[5:]) / 1000
        forced = {"servfail": SERVFAIL, "refused": REFUSED, "nxdomain": NXDOMAIN}.get(what)
        rcode, records = (forced, []) if forced else self.zone.answer(name, kind)
        body = b"".join(
            wire_name(owner) + struct.pack("!HHIH", t, 1, 0, len(data)) + data
            for owner, t, data in records
        )
        count = len(records)
        if what == "garbage":
            body, count = b"\xc0\x0c\0\x0f\0\x01\0\0\0\0\xff\xff\x3f" + b"\xfe" * 20, 3
        cut = not tcp and (what == "truncate" or 12 + len(question) + len(body) > limit)
        if cut:
            body, count = b"", 0
        out_flags = 0x8180 | rcode | (0x0200 if cut else 0) | (flags & 0x0100)
        asked = (flags & FLAG_AD or dnssec_ok) and what != "insecure"
        if asked and rcode in (NOERROR, NXDOMAIN):
            out_flags |= FLAG_AD if self.zone.validated(name, records) else 0
        return delay, struct.pack("!HHHHHH", ident, out_flags, 1, count, 0, 0) + question + body

    @staticmethod
    def edns(packet, offset, additional):
        """The most bytes over UDP, 512 or what EDNS allows, and whether the DO bit is set."""
        if additional and packet[offset : offset + 3] == b"\0\0\x29":
            size, _, flags = struct.unpack("!HHH", packet[offset + 3 : offset + 9])
            return max(512, size), bool(flags & EDNS_DO)
        return 512, False

    async def serve_tcp(self, reader, writer):
        try:
            while True:
                n = struct.unpack("!H", await reader.readexactly(2))[0]
                delay, out = self.respond(await reader.readexactly(n), True)
                if delay:
                    await asyncio.sleep(delay)
                if out:
                    writer.write(struct.pack("!H", len(out)) + out)
                    await writer.drain()
        except (OSError, IndexError, struct.error, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


class Udp(asyncio.DatagramProtocol):
    def __init__(self, server):
        self.server = server

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, packet, peer):
        try:
            delay, out = self.server.respond(packet, False)
        except (IndexError, struct.error):
            return
        if out:
            loop = asyncio.get_running_loop()
            loop.call_later(delay, self.transport.sendto, out, peer)


def bind(address, port):
    """A TCP and a UDP socket on the same port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for attempt in range(20):
        tcp = socket.socket(family, socket.SOCK_STREAM)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        udp = socket.socket(family, socket.SOCK_DGRAM)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        try:
            tcp.bind((address, port))
            udp.bind((address, tcp.getsockname()[1]))
            return tcp, udp
        except OSError:
            tcp.close()
            udp.close()
            if port or attempt == 19:
                raise


async def main():
    ap = argparse.ArgumentParser(description="scriptable name server for tests")
    ap.add_argument("--address", default="127.0.0.1")
    ap.add_argument("--port", type=int, default=0, help="0: any free one")
    ap.add_argument("--log", help="file that gets a line 'udp|tcp TYPE NAME' a question")
    ap.add_argument("--with-parent", action="store_true", help="end when the parent process ends")
    ap.add_argument("zonefile")
    args = ap.parse_args()
    parent = os.getppid()
    log = open(args.log, "a", encoding="latin-1") if args.log else None
    server = Server(Zone(args.zonefile), log)
    tcp, udp = bind(args.address, args.port)
    await asyncio.start_server(server.serve_tcp, sock=tcp)
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: Udp(server), sock=udp)
    print("ready", tcp.getsockname()[1], flush=True)
    while not args.with_parent or os.getppid() == parent:
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
