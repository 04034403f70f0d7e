"""Messages that are hard to pass on unharmed, as wire content (CRLF)."""

HEAD = b"From: a@client.test\r\nTo: b@far.test\r\nSubject: test\r\nMessage-ID: <1@client.test>\r\n" \
       b"Date: Mon, 01 Jan 2024 00:00:00 +0000\r\n"

HARD = {
    "plain": HEAD + b"\r\nhello\r\n",
    "dots": HEAD + b"\r\n.\r\n..\r\n...\r\n.x\r\nx.\r\n\r\n.\r\n",
    "dot-first": HEAD + b"\r\n.",
    "eight-bit": HEAD + b"\r\n" + bytes(c for c in range(128, 256)) + b"\r\n",
    "controls": HEAD + b"\r\n" + bytes(c for c in range(1, 32) if c not in (10, 13)) + b"\x7f\r\n",
    "long-line": HEAD + b"\r\n" + b"x" * 998 + b"\r\n" + b"y" * 997 + b".\r\n",
    "very-long-line": HEAD + b"\r\n" + b"z" * 100000 + b"\r\n.\r\n",
    "blank-lines": HEAD + b"\r\n\r\n\r\n \r\n\t\r\n\r\n",
    "from-line": HEAD + b"\r\nFrom here on\r\n>From there\r\n",
    "folded-header": HEAD + b"X-Long: a\r\n b\r\n\tc\r\n\r\nbody\r\n",
    "quotes": HEAD + b'\r\n"\\ \\n \\" \\x41 \\101 }{ data: "x"\r\n',
    "many-lines": HEAD + b"\r\n" + b"".join(b"line %d\r\n" % i for i in range(20000)),
}
