"""Reads a delivery status notification on standard input with Python's own mail parser, and takes
it apart by hand by the grammar of RFC 3464, 6522 and 6533. Prints what is in it, a fact a line;
complains (exit 1) about whatever makes it no such thing."""

import email
import email.header
import email.policy
import email.utils
import quopri
import re
import sys
import zlib

# RFC 6533 3
HEXPOINT = (r"(?:[01][1-9]|10|20|2B|3D|7F|5C|[89A-F][0-9A-F]|[1-9A-F][0-9A-F]{2}|[1-9ABCEF][0-9A-F]{3}"
            r"|D[0-7][0-9A-F]{2}|[1-9A-F][0-9A-F]{4}|10[0-9A-F]{4})")
QCHAR = r"[\x21-\x2a\x2c-\x3c\x3e-\x5b\x5d-\x7e]"
BEYOND = r"[\x80-\U0010ffff]"
XTEXT = re.compile(rf"(?:{QCHAR}|\\x\{{{HEXPOINT}\}})+")
UNITEXT = re.compile(rf"(?:{QCHAR}|{BEYOND}|\\x\{{{HEXPOINT}\}})+")
# RFC 5321 4.1.2 with RFC 6531 3.3; underscores are the program's own licence
ATEXT = rf"(?:[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]|{BEYOND})+"
QUOTED = rf'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|{BEYOND}|\\[\x20-\x7e])*"'
LABEL = rf"(?:[A-Za-z0-9_]|{BEYOND})(?:(?:[A-Za-z0-9_-]|{BEYOND})*(?:[A-Za-z0-9_]|{BEYOND}))?"
MAILBOX = re.compile(rf"(?:{ATEXT}(?:\.{ATEXT})*|{QUOTED})@(?:{LABEL}(?:\.{LABEL})*|\[[!-Z^-~]+\])")

# RFC 3464 2.2 and 2.3, in this order; those that must be there
MESSAGE = ["Reporting-MTA", "Arrival-Date"]
RECIPIENT = ["Original-Recipient", "Final-Recipient", "Action", "Status", "Remote-MTA",
             "Diagnostic-Code", "Last-Attempt-Date"]
NEEDED = {"Reporting-MTA"}, {"Final-Recipient", "Action", "Status"}

TYPES = {
    False: [["text/plain"], ["message/delivery-status"],
            ["message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers"]],
    True: [["text/plain"], ["message/global-delivery-status"],
           ["message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers"]],
}


def is_ascii(raw):
    return all(b < 128 for b in raw)


def plain(value):
    """A header's value with its raw UTF-8, which the parser keeps as surrogates."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8")


def unescape(text):
    return re.sub(rf"\\x\{{({HEXPOINT})\}}", lambda m: chr(int(m[1], 16)), text)


def parse_fields(lines):
    """Fields of a header or a block, unfolded; each line is a field or goes on with one."""
    fields = []
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            fields[-1][1] += line
        else:
            name, colon, value = line.partition(b":")
            assert colon and re.fullmatch(rb"[A-Za-z0-9-]+", name), line
            fields.append([name.decode(), value.strip()])
    return fields


def split_head(raw):
    head, empty, body = raw.partition(b"\r\n\r\n")
    assert empty, raw[:200]
    return parse_fields(head.split(b"\r\n")), head, body


def split_report(raw):
    """(fields, raw header, [(fields, encoded content)]): by RFC 2046, not by the library."""
    fields, head, body = split_head(raw)
    boundary = re.search(rb'boundary="([^"]+)"', dict(fields)["Content-Type"])[1]
    preamble, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary)
    assert preamble in (b"", b"\r\n") and parts.pop() == b"--\r\n"
    out = []
    for part in parts:
        assert part.startswith(b"\r\n")
        part_fields, part_head, content = split_head(part[2:])
        assert is_ascii(part_head)
        out.append((dict(part_fields), content))
    return dict(fields), head, out


def decode(fields, content):
    encoding = fields["Content-Transfer-Encoding"]
    if encoding == b"7bit":
        assert is_ascii(content)
    elif encoding == b"quoted-printable":
        for line in content.split(b"\r\n"):
            assert len(line) <= 76, line
            assert re.fullmatch(rb"(?:[\t\x20-\x3c\x3e-\x7e]|=[0-9A-F]{2})*=?", line), line
            assert not line.endswith((b" ", b"\t")), line
        return quopri.decodestring(content)
    else:
        assert encoding == b"8bit", encoding
    return content


def check_typed(i, value, is_global):
    kind, sep, address = value.partition("; ")
    assert sep, value
    if kind == "rfc822":
        assert is_ascii(address.encode())
        return
    assert kind == "utf-8", value
    assert not is_ascii(unescape(address).encode())
    if not is_global:
        assert XTEXT.fullmatch(address), address
    elif "\\" in address:
        assert UNITEXT.fullmatch(address), address
    address = unescape(address) if not is_global or "\\" in address else address
    print(f"{i} decoded: {address} {'is' if MAILBOX.fullmatch(address) else 'is no'} mailbox")


def check_status(content, is_global):
    assert content.endswith(b"\r\n") and not content.endswith(b"\r\n\r\n")
    for i, block in enumerate(content[:-2].split(b"\r\n\r\n")):
        names = []
        for name, value in parse_fields(block.split(b"\r\n")):
            value = value.decode("utf-8" if is_global else "ascii")
            assert not re.search(r"[\0-\x1f\x7f-\x9f]", value), value
            names.append(name)
            if name in ("Original-Recipient", "Final-Recipient"):
                check_typed(i, value, is_global)
            elif name == "Status":
                assert re.fullmatch(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}", value), value
            elif name == "Action":
                assert value == "failed"
            elif name in ("Reporting-MTA", "Remote-MTA"):
                assert re.fullmatch(r"dns; [ -~]+", value), value
        order = RECIPIENT if i else MESSAGE
        assert names == [n for n in order if n in names], names
        assert NEEDED[bool(i)] <= set(names), names


def parsed(raw, policy):
    msg = email.message_from_bytes(raw, policy=policy)
    assert not msg.defects, msg.defects
    parts = msg.get_payload()
    assert len(parts) == 3, [p.get_content_type() for p in parts]
    for part in parts:
        assert not part.defects, part.defects
    return msg, parts


def main():
    raw = sys.stdin.buffer.read()
    for line in raw.split(b"\r\n"):
        assert b"\n" not in line and b"\r" not in line, line
        assert len(line) <= 998, len(line)
    assert raw.endswith(b"\r\n")
    fields, head, bare = split_report(raw)
    types = [f["Content-Type"].decode().split(";")[0] for f, _ in bare]
    is_global = types[1] == "message/global-delivery-status"
    assert all(t in allowed for t, allowed in zip(types, TYPES[is_global], strict=True)), types
    content = [decode(f, c) for f, c in bare]
    encodings = [f["Content-Transfer-Encoding"].decode() for f, _ in bare]
    assert fields["Content-Transfer-Encoding"] == (b"8bit" if "8bit" in encodings else b"7bit")
    if is_global:
        head.decode("utf-8")
        assert "quoted-printable" not in encodings
    else:
        assert is_ascii(head)
        assert "8bit" not in encodings[:2]
        assert encodings[2] != "8bit" or types[2] == "message/rfc822"
    # A message of a type that says UTF-8 has it in its header, and nothing else there.
    original_head = content[2].partition(b"\r\n\r\n")[0]
    if types[2].startswith("message/global"):
        original_head.decode("utf-8")
        assert not is_ascii(original_head)
    check_status(content[1], is_global)

    # The library splits only the older of the two types into blocks.
    known = raw.replace(b"Content-Type: message/global-delivery-status",
                        b"Content-Type: message/delivery-status")
    msg, parts = parsed(known, email.policy.compat32)
    new, new_parts = parsed(known, email.policy.SMTPUTF8)
    heads = dict(msg.raw_items())
    assert msg.get_content_type() == "multipart/report"
    assert "message/" + msg.get_param("report-type") == types[1]
    assert msg["Auto-Submitted"] == "auto-replied"
    assert msg["MIME-Version"] == "1.0"
    assert email.utils.parsedate_to_datetime(msg["Date"])
    assert not new["To"].defects or is_global
    for name in ("From", "To", "In-Reply-To", "References"):
        print(f"{name}: {plain(heads[name]) if name in heads else None}")
    # The new policy leaves blanks between encoded words: an older function joins them.
    group, = new["To"].groups
    words = email.header.decode_header(re.sub(r"\r?\n", "", heads["To"].removesuffix(" :;")))
    print("to group: " + ("".join(w.decode(c) for w, c in words) if group.display_name else "none"))
    assert bool(group.display_name) != bool(group.addresses)
    text = content[0].decode("utf-8")
    assert parts[0].get_payload(decode=True).decode("utf-8") == text
    assert new_parts[0].get_content().replace("\r\n", "\n") == text.replace("\r\n", "\n")
    print("types: " + " ".join(types))
    print("encodings: " + " ".join(encodings))
    blocks = parts[1].get_payload()
    print("global: " + str(is_global))
    for i, block in enumerate(blocks):
        assert not block.defects
        for name, value in block.raw_items():
            value = plain(value)
            if "Date" in name:
                assert email.utils.parsedate_to_datetime(value)
            else:
                print(f"{i} {name}: {value}")
    if types[2].startswith("message/"):
        old, new = (email.message_from_bytes(content[2], policy=p)
                    for p in (email.policy.compat32, email.policy.SMTPUTF8))
        subject = [v for n, v in old.raw_items() if n == "Subject"]
        if subject:
            print("original subject: " + subject[0].encode("ascii", "surrogateescape")
                  .decode("utf-8", "replace"))
            assert new["Subject"]
    # Its last line end is the boundary's.
    print(f"original: {len(content[2])} bytes, {zlib.crc32(content[2]):08x}")
    print("---\n" + text.replace("\r\n", "\n"))


main()
