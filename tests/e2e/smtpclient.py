"""An SMTP client for tests: sends the bytes it is given, however odd, and reads replies strictly."""

import re
import socket

LINE = re.compile(rb"^([2-5][0-9][0-9])([ -])([^\r\n\x00]*)$")


class Closed(Exception):
    """The server closed or reset the connection."""


class Reply:
    def __init__(self, code, lines):
        self.code = code
        self.lines = lines

    @property
    def text(self):
        """As `250-one\\n250 two`."""
        last = len(self.lines) - 1
        return "\n".join(f"{self.code}{' ' if i == last else '-'}{t}"
                         for i, t in enumerate(self.lines))

    def __repr__(self):
        return f"Reply({self.text!r})"


class Client:
    """A connection. Replies are checked for form: CRLF, one code in all lines, at most 512 bytes."""

    def __init__(self, port, address="127.0.0.1", timeout=10, source=None, greet=True):
        self.sock = socket.create_connection(
            (address, port), timeout, source_address=(source, 0) if source else None)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.transcript = []
        if greet:
            reply = self.read()
            assert reply.code == 220, reply

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        """Closes with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def send(self, data):
        if isinstance(data, str):
            data = data.encode()
        self.transcript.append(b"C: " + data[:200])
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as e:
            raise Closed(str(e)) from e

    def _line(self):
        while b"\n" not in self.buffer:
            try:
                got = self.sock.recv(65536)
            except ConnectionResetError as e:
                raise Closed("reset") from e
            if not got:
                raise Closed(f"end of file; unread: {self.buffer!r}")
            self.buffer += got
        line, self.buffer = self.buffer.split(b"\n", 1)
        assert line.endswith(b"\r"), f"reply line without CR: {line!r}"
        assert len(line) <= 511, f"reply line too long: {line!r}"
        return line[:-1]

    def read(self):
        """The next complete reply."""
        lines, code = [], None
        while True:
            line = self._line()
            self.transcript.append(b"S: " + line)
            m = LINE.match(line)
            assert m, f"not an SMTP reply line: {line!r}"
            if code is None:
                code = int(m[1])
            assert int(m[1]) == code, f"two codes in one reply: {line!r}"
            lines.append(m[3].decode("utf-8", "backslashreplace"))
            if m[2] == b" ":
                return Reply(code, lines)

    def cmd(self, line, expect=None):
        """Sends a command line, returns the reply; checks its code when told."""
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        reply = self.read()
        if expect is not None:
            allowed = expect if isinstance(expect, (tuple, list)) else (expect,)
            assert reply.code in allowed, f"{line!r} got {reply!r}"
        return reply

    def silent(self, seconds=0.3):
        """Whether the server sends nothing and keeps the connection for so long."""
        if self.buffer:
            return False
        old = self.sock.gettimeout()
        self.sock.settimeout(seconds)
        try:
            self.buffer += self.sock.recv(65536)
            return False
        except TimeoutError:
            return True
        except ConnectionResetError:
            return False
        finally:
            self.sock.settimeout(old)

    def at_end(self):
        """Whether the server has closed, or does so within the time-out, without another byte."""
        if self.buffer:
            return False
        try:
            self.buffer = self.sock.recv(65536)
        except ConnectionResetError:
            return True
        return self.buffer == b""

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def hello(self, name="client.test"):
        return self.cmd(f"EHLO {name}", 250)

    def message(self, sender, recipients, data, expect=250):
        """One transaction: data is the raw message with CRLF lines, stuffed here. Returns the last
        reply."""
        if isinstance(recipients, str):
            recipients = [recipients]
        self.cmd(f"MAIL FROM:<{sender}>", 250)
        for r in recipients:
            self.cmd(f"RCPT TO:<{r}>", 250)
        self.cmd("DATA", 354)
        self.send(stuff(data))
        reply = self.read()
        if expect is not None:
            assert reply.code == expect, reply
        return reply

    def quit(self):
        self.cmd("QUIT", 221)
        assert self.at_end()
        self.close()


def stuff(data):
    """The message as DATA carries it: dots doubled, the final dot added."""
    if isinstance(data, str):
        data = data.encode()
    if data and not data.endswith(b"\r\n"):
        data += b"\r\n"
    out = data.replace(b"\r\n.", b"\r\n..")
    if out.startswith(b"."):
        out = b"." + out
    return out + b".\r\n"


def send(port, sender, recipients, data, address="127.0.0.1", source=None, timeout=20):
    """Connects, sends one message, leaves."""
    with Client(port, address, source=source, timeout=timeout) as c:
        c.hello()
        c.message(sender, recipients, data)
        c.quit()


class Crowd:
    """Threads that send until the block they stand for is left; a subclass gives `threads` and ends them by `over`."""

    patience = 60  # seconds for each to end

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        for t in self.threads:
            t.join(self.patience)
