"""Reads a delivery status notification on standard input with Python's own mail parser and prints
what is in it, a fact a line; complains (exit 1) about whatever makes it no such thing."""

import email
import email.policy
import email.utils
import sys


def plain(value):
    """A header's value with its raw UTF-8, which the parser keeps as surrogates."""
    return value.encode("ascii", "surrogateescape").decode("utf-8")


def main():
    raw = sys.stdin.buffer.read()
    for line in raw.split(b"\r\n"):
        assert b"\n" not in line and b"\r" not in line, line
        assert len(line) <= 998, len(line)
    assert raw.endswith(b"\r\n")
    # The library splits only the older of the two types into blocks.
    known = raw.replace(b"Content-Type: message/global-delivery-status",
                        b"Content-Type: message/delivery-status")
    msg = email.message_from_bytes(known, policy=email.policy.compat32)
    assert not msg.defects, msg.defects
    assert msg.get_content_type() == "multipart/report"
    assert msg.get_param("report-type") == "delivery-status"
    assert msg["Auto-Submitted"] == "auto-replied"
    assert msg["MIME-Version"] == "1.0"
    assert email.utils.parsedate_to_datetime(msg["Date"])
    for name in ("From", "To", "In-Reply-To", "References"):
        print(f"{name}: {msg[name]}")
    parts = msg.get_payload()
    assert len(parts) == 3, [p.get_content_type() for p in parts]
    for part in parts:
        assert not part.defects, part.defects
        if part["Content-Transfer-Encoding"] == "7bit":
            part.as_string().encode("ascii")
        else:
            assert msg["Content-Transfer-Encoding"] == "8bit"
    text = parts[0].get_payload(decode=True).decode("utf-8")
    assert parts[0].get_content_type() == "text/plain"
    print("types: " + " ".join(p.get_content_type() for p in parts))
    print("encodings: " + " ".join(p["Content-Transfer-Encoding"] for p in parts))
    blocks = parts[1].get_payload()
    print("global: " + str(known != raw))
    assert list(blocks[0].keys())[0] == "Reporting-MTA"
    for i, block in enumerate(blocks):
        assert not block.defects
        for name, value in block.raw_items():
            value = plain(value)
            if "Date" in name:
                assert email.utils.parsedate_to_datetime(value)
            else:
                print(f"{i} {name}: {value}")
    last = parts[2].get_payload()
    if isinstance(last, list):
        print("original subject: " + str(last[0]["Subject"]))
    print("---\n" + text.replace("\r\n", "\n"))


main()
