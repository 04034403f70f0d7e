"""A man in the middle who knows SMTP: a TCP proxy that spoils STARTTLS in ways that can be chosen.

    m = Mitm(("127.0.0.2", port), to=("127.0.0.3", port))
    m.attack = "strip"

Attacks, for connections that begin from then on (None: all passes untouched):

    strip       STARTTLS is taken out of the reply to EHLO
    refuse      STARTTLS is answered with 454, and never reaches the server
    garbage     STARTTLS is answered with 220, the handshake with nonsense
    cut         the server's first flight of the handshake is cut in the middle, the connection closed
    swap        the proxy ends TLS itself, with `cert`; to the server it makes a TLS connection of its own

`connections` keeps what each did: whether the client was under TLS at the end, and the commands that were
seen in the clear or by the attacker.
"""

import contextlib
import re
import select
import socket
import ssl

from between import Between

ATTACKS = ("strip", "refuse", "garbage", "cut", "swap")


class Connection:
    def __init__(self, mitm, client):
        self.attack = mitm.attack
        self.cert = mitm.cert
        self.client = client
        self.server = socket.create_connection(mitm.to, timeout=20)
        self.hot = self.attack is not None  # what the client says is still looked at, line by line
        self.lines = b""
        self.reply = b""
        self.cut_after = None
        self.tls = False  # the client speaks TLS, with us or the server
        self.seen = []  # commands that we could read

    # -- from the client --

    def from_client(self, data):
        if not self.hot:
            self.note(data)
            self.server.sendall(data)
            return
        self.lines += data
        while self.hot and b"\n" in self.lines:
            line, _, self.lines = self.lines.partition(b"\n")
            self.command(line + b"\n")
        if not self.hot and self.lines:
            self.server.sendall(self.lines)
            self.lines = b""

    def note(self, data):
        """Commands in what we can read."""
        if not self.tls or self.attack == "swap":
            self.seen += re.findall(rb"^(EHLO|HELO|MAIL|RCPT|DATA|STARTTLS|AUTH)\b", data, re.M | re.I)

    def command(self, line):
        self.note(line)
        if line.strip().upper() != b"STARTTLS":
            self.server.sendall(line)
            return
        self.hot = False
        if self.attack == "refuse":
            self.client.sendall(b"454 4.7.0 TLS is not available now\r\n")
        elif self.attack == "garbage":
            self.client.sendall(b"220 2.0.0 go\r\n")
            self.client.recv(65536)
            self.client.sendall(b"250 this is no handshake, whatever you think\r\n" * 3)
            raise ConnectionError
        elif self.attack == "swap":
            self.swap()
        else:
            self.tls = True
            self.server.sendall(line)
            if self.attack == "cut":
                self.cut_after = len(b"220 ") + 60

    def swap(self):
        """TLS on both sides, ends in us."""
        self.server.sendall(b"STARTTLS\r\n")
        answer = self.server.recv(4096)
        assert answer.startswith(b"220"), answer
        out = ssl.create_default_context()
        out.check_hostname = False
        out.verify_mode = ssl.CERT_NONE
        self.server = out.wrap_socket(self.server)
        self.client.sendall(answer)
        inner = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        inner.load_cert_chain(self.cert.fullchain, self.cert.key)
        self.client = inner.wrap_socket(self.client, server_side=True)
        self.tls = True

    # -- from the server --

    def from_server(self, data):
        if self.cut_after is not None:
            # The reply to STARTTLS comes before the handshake: it is let through whole.
            if data.startswith(b"220") and len(data) < 80:
                self.client.sendall(data)
                return
            self.client.sendall(data[:self.cut_after])
            raise ConnectionError
        if self.attack != "strip":
            self.client.sendall(data)
            return
        self.reply += data
        while (m := re.match(rb"(?:\d{3}-[^\n]*\n)*\d{3}(?: [^\n]*)?\r?\n", self.reply)) is not None:
            self.client.sendall(self.stripped(m[0]))
            self.reply = self.reply[m.end():]

    @staticmethod
    def stripped(reply):
        lines = [x for x in reply.splitlines(True) if x[4:].strip().upper() != b"STARTTLS"]
        return b"".join(lines[:-1]) + lines[-1][:3] + b" " + lines[-1][4:]

    # -- both --

    @staticmethod
    def receive(s):
        """None when there is nothing but records of TLS itself."""
        s.settimeout(0)
        try:
            return s.recv(65536)
        except (ssl.SSLWantReadError, BlockingIOError):
            return None
        finally:
            s.settimeout(20)

    def run(self):
        try:
            while True:
                pending = [s for s in (self.client, self.server)
                           if isinstance(s, ssl.SSLSocket) and s.pending()]
                ready = pending or select.select([self.client, self.server], [], [], 60)[0]
                if not ready:
                    return
                for s in ready:
                    if s not in (self.client, self.server):
                        continue  # it was wrapped meanwhile
                    data = self.receive(s)
                    if data == b"":
                        return
                    if data:
                        (self.from_client if s is self.client else self.from_server)(data)
        except (OSError, ValueError):
            pass
        finally:
            self.close()

    def close(self):
        for s in (self.client, self.server):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                s.close()


class Mitm(Between):
    def __init__(self, at, to, attack=None, cert=None):
        self.to = to
        self.attack = attack
        self.cert = cert
        super().__init__(at)

    def connect(self, client):
        return Connection(self, client)
