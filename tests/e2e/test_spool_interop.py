"""What the spool writes, read by protoc and python3-protobuf with docs/queue.proto, and checked
against the comments there: offsets, sizes, and what each checksum covers."""

import pathlib
import random
import re
import subprocess
import sys
import time
import zlib

import pytest

TREE = pathlib.Path(__file__).resolve().parents[2]
SOURCES = "bytes.c envelope.c status.c crc.c log.c log_sink.c trace.c stat.c loop.c loop_end.c buf.c memory.c proc_spawn.c".split()
SOURCES += sorted(p.name for name in ("disk", "spool", "text") for p in TREE.glob(name + "*.c"))


@pytest.fixture(scope="module")
def tool(tmp_path_factory):
    path = tmp_path_factory.mktemp("spool_try") / "spool_try"
    subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-I.",
                    "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined",
                    "tests/tools/spool_try.c", *SOURCES, "-o", str(path)], cwd=TREE, check=True)
    return path


@pytest.fixture(scope="module")
def queue_pb2(tmp_path_factory):
    path = tmp_path_factory.mktemp("queue_pb2")
    subprocess.run(["protoc", f"--python_out={path}", "--proto_path=docs", "queue.proto"], cwd=TREE,
                   check=True)
    sys.path.insert(0, str(path))
    try:
        import queue_pb2 as module
    finally:
        sys.path.remove(str(path))
    return module


def write(tool, path, content, sender="<>", prepend=b"", rcpts=("a@b.example",), options=()):
    """Returns the ID and the bytes of the file."""
    p = subprocess.run([tool, *options, path, sender, prepend, *rcpts], input=content, capture_output=True,
                       timeout=60)
    assert p.returncode == 0, p.stderr.decode()
    ident = p.stdout.decode().strip()
    return ident, (path / "queue" / f"m:{ident}").read_bytes()


def protoc(raw):
    p = subprocess.run(["protoc", "--encode=chasq.Message", "docs/queue.proto"], cwd=TREE, input=raw,
                       capture_output=True, timeout=60)
    assert p.returncode == 0, p.stderr.decode("utf-8", "replace")
    return p.stdout


def check_layout(raw, m):
    """Our own file is what docs/queue.proto says of it."""
    mark = raw.rindex(b"\ncreated_at_ts { ") + 1
    assert m.size == len(m.prepend) + len(m.data)
    assert m.crc32 == zlib.crc32(raw[:mark])
    assert m.head_crc32 == zlib.crc32(raw[:m.head_end])
    assert raw[m.head_end:].startswith(b"data:\n")
    assert raw[m.data_end:].startswith(b"prepend:\n" if m.prepend else b"created_at_ts {")
    line, *attempts, rest = raw[mark:].split(b"\n")
    assert rest == b""
    assert m.mark_crc32 == zlib.crc32(line[:line.index(b" mark_crc32: ")])
    assert len(attempts) == len(m.attempt)
    for text, a in zip(attempts, m.attempt):
        assert text.startswith(b"attempt {") and text.endswith(b" }")
        assert a.crc32 == zlib.crc32(text[:text.rindex(b" crc32: ")])
    # One literal a line of the message, for those who read it with less.
    for literal in raw[m.head_end:m.data_end].splitlines()[1:]:
        assert re.fullmatch(rb'  ".*"', literal)
        assert literal.replace(rb"\\", b"").count(rb"\n") <= 1


CONTENTS = {
    "empty": b"",
    "plain": b"Subject: x\r\n\r\nHello\r\n.\r\n",
    "bytes": bytes(range(256)) * 3,
    "long": b"a" * 5000 + b"\r\n" + b"\r\n" * 50 + b"no end",
    "utf8": "Subject: Grüße ✉ \u0085\r\n\r\n".encode() + b"\xff\xc3\r\n",
    "random": random.Random(6).randbytes(100000),
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("prepend", [b"", b"Received: \"by\" us\r\n\tand\xff\r\n"])
@pytest.mark.parametrize("options", [(), ("-f",)])
def test_protoc_agrees(tool, queue_pb2, tmp_path, name, prepend, options):
    content = CONTENTS[name]
    rcpts = ["a@b.example", "grün@ü.example", "|/bin/x \"y\"\n'z' \\", "via:c@d.example"]
    before = int(time.time())
    ident, raw = write(tool, tmp_path, content, "\"s @\"@x.example", prepend, rcpts, options)
    m = queue_pb2.Message.FromString(protoc(raw))
    assert getattr(m, "ID") == ident and getattr(m, "from") == "\"s @\"@x.example"
    assert list(m.To) == rcpts[:2]
    assert m.data == content and m.prepend == prepend
    assert (m.submitted, m.header_8bit) == (bool(options), bool(options))
    assert before <= m.created_at_ts.seconds <= time.time()
    assert [r.address for r in m.rcpt] == rcpts[:2] + [rcpts[2][1:], "c@d.example"]
    assert [r.type for r in m.rcpt] == [0, 0, 1, 2]
    assert [r.status for r in m.rcpt] == [0, 0, 0, 0]
    assert m.rcpt[2].original_address == "pipe@here.example"
    assert list(m.rcpt[3].via) == ["m1.example", "m2.example"]
    assert [list(a.rcpt) for a in m.attempt] == [[0], [0, 1, 2, 3]]
    assert [a.status for a in m.attempt] == [0, 1]
    assert m.attempt[0].text == "451 4.3.0 not \"now\""
    assert m.attempt[0].remote == "mx.example [192.0.2.1]:25"
    assert m.attempt[1].text == "250 2.0.0 ü" and m.attempt[1].remote == ""
    assert before <= m.attempt[0].at.seconds <= time.time()
    check_layout(raw, m)


def test_python_protobuf_agrees(tool, queue_pb2, tmp_path):
    from google.protobuf import text_format
    # Without C2 80 to C2 9F: those are written \u00NN, which this library does not decode.
    content = CONTENTS["bytes"] + "Grüße ✉\r\n".encode()
    _, raw = write(tool, tmp_path, content, rcpts=[f"u{i}@x.example" for i in range(1000)])
    m = text_format.Parse(raw.decode("utf-8", "strict"), queue_pb2.Message())
    assert m == queue_pb2.Message.FromString(protoc(raw))
    assert m.data == content and len(m.rcpt) == 1000
    check_layout(raw, m)


def test_file_is_readable_text(tool, tmp_path):
    _, raw = write(tool, tmp_path, CONTENTS["bytes"] + CONTENTS["random"])
    text = raw.decode("utf-8")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
