"""The journal of the spool (docs/INTERNALS.md), read and written by another hand than chasq's."""

import contextlib
import re
import stat
import zlib

BEFORE = {b"MESSAGE": b" message {\n"}
BEHIND = {b"MESSAGE": b"} }\n"}

HEAD = re.compile(rb'record \{ generation: (\d+) kind: (\w+) id: "([^"]*)" length: (\d+) crc32: (\d+)'
                  rb" head_crc32: (\d+)")


def record(generation, kind, item="", text=b""):
    """A record as chasq writes it."""
    head = b'record { generation: %d kind: %s id: "%s" length: %d crc32: %d' % (
        generation, kind.encode(), (item or "0" * 11).encode(), len(text), zlib.crc32(text))
    kind = kind.encode()
    return (head + b" head_crc32: %d" % zlib.crc32(head) + BEFORE.get(kind, b"\n") + text
            + BEHIND.get(kind, b"}\n"))


def records(data):
    """(generation, kind, ID, text) of the records of a segment, up to END or to what is no record of the
    generation that the first has."""
    at, first = 0, None
    while True:
        m = HEAD.match(data, at)
        if not m or zlib.crc32(data[at:m.start(6) - len(" head_crc32: ")]) != int(m[6]):
            return
        generation, kind, item = int(m[1]), m[2].decode(), m[3].decode()
        first = first or generation
        begin = m.end() + len(BEFORE.get(m[2], b"\n"))
        text = data[begin:begin + int(m[4])]
        if generation != first or kind == "END" or zlib.crc32(text) != int(m[5]):
            return
        yield generation, kind, item, text
        at = begin + len(text) + len(BEHIND.get(m[2], b"}\n"))


def waiting(queue):
    """{ID: text, attempts behind it} of the messages that the segments in this directory hold."""
    segments = []
    for path in queue.glob(".journal.[0-9]*"):
        with contextlib.suppress(OSError):
            if stat.S_ISREG(path.lstat().st_mode):
                segments.append(list(records(path.read_bytes())))
    found = {}
    for segment in sorted(filter(None, segments), key=lambda s: s[0][0]):
        for _, kind, item, text in segment:
            if kind == "MESSAGE":
                found[item] = text
            elif kind == "DONE":
                for gone in [item, *re.findall(r'done: "([^"]*)"', text.decode())]:
                    found.pop(gone, None)
            elif item in found:
                found[item] += text
    return found
