"""A queue with very many messages, made without a server: its files are as those that spool_write.c makes."""

import os
import time
import zlib

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"


def item_id(number):
    """What spool_id_text makes of it."""
    return "".join(DIGITS[number >> shift & 63] for shift in range(60, -1, -6))


def message(ident, created, tried=None, size=100, to="b@[127.0.0.9]"):
    """The file of a message with this ID, accepted and last tried (None: never) at these times, s."""
    head = (f'ID: "{ident}"\nfrom: "a@client.test"\nTo: "{to}"\n'
            f'rcpt {{\n  address: "{to}"\n  original_address: "{to}"\n}}\n').encode()
    lines, rest = divmod(size, 64)
    data = (b'data:\n  "Subject: full\\r\\n"\n  "\\r\\n"\n' + (b'  "' + b"x" * 62 + b'\\r\\n"\n') * lines
            + b'  "' + b"y" * rest + b'\\r\\n"\n')
    content = 15 + 2 + lines * 64 + rest + 2
    mark = (f"created_at_ts {{ seconds: {created} nanos: 0 }} size: {content} crc32: {zlib.crc32(head + data)} "
            f"head_end: {len(head)} head_crc32: {zlib.crc32(head)} data_end: {len(head) + len(data)}").encode()
    text = head + data + mark + b" mark_crc32: %d\n" % zlib.crc32(mark)
    if tried is None:
        return text
    line = (f'attempt {{ rcpt: 0 at {{ seconds: {tried} }} status: PENDING text: "451 4.4.1 cannot connect: '
            'Connection refused" remote: "[127.0.0.9] [127.0.0.9]:9 PLAIN"').encode()
    return text + line + b" crc32: %d }\n" % zlib.crc32(line)


def fill(queue, count, age=7200, size=100):
    """So many messages that were accepted `age` s ago or later and tried a moment ago: none is due soon. Returns
    their IDs."""
    queue.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = int(time.time())
    where = os.open(queue, os.O_RDONLY | os.O_DIRECTORY)
    ids = []
    try:
        for i in range(count):
            created = now - age + age * i // (2 * count)
            ids.append(item_id((created * 1000 << 20) + i))
            fd = os.open(f"m:{ids[-1]}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=where)
            os.write(fd, message(ids[-1], created, now, size))
            os.close(fd)
    finally:
        os.close(where)
    return ids
