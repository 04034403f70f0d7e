"""A scriptable SMTP server: says, delays and breaks what a test wants, and keeps what it got.

    sink = Sink(script={"RCPT": ["250 ok", "550 5.1.1 nobody"], "BODY": Drop()})

`script` maps a stage to an action or a list of actions; a list is used up one action an occurrence,
over all sessions, and its last one repeats. Stages: CONNECT, the verbs EHLO HELO MAIL RCPT DATA RSET
NOOP QUIT, BODY (after the final dot), MIDDLE (when the first line of the content has come), and OTHER.
An action is a str or bytes (a reply; "\n" inside makes it multi-line; None stands for what a friendly
server says), one of the classes below, or a function (session, argument) -> action.

With a certificate (certs.Cert) it offers STARTTLS, or speaks TLS from the beginning (implicit=True).
Further stages: STARTTLS, AUTH, and HANDSHAKE, where any action takes the place of the handshake. `users`
maps names to passwords, or tokens for XOAUTH2: AUTH is then offered under TLS, and demanded for MAIL.
"""

import base64
import collections
import contextlib
import select
import socket
import ssl
import threading
import time


class Drop:
    """Closes the connection, after saying something if told."""

    def __init__(self, last=None):
        self.last = last


class Reset(Drop):
    """Closes with RST."""


class Hang:
    """Says nothing for so many seconds, then does the action, None for the friendly one."""

    def __init__(self, seconds, then=None):
        self.seconds = seconds
        self.then = then


class Dribble:
    """Sends a reply a byte at a time."""

    def __init__(self, reply, pause=0.01):
        self.reply = reply
        self.pause = pause


class Mute:
    """Never answers this one, but goes on reading: a half-open peer."""


class Bytes:
    """Sends exactly these bytes as the reply."""

    def __init__(self, data):
        self.data = data


Message = collections.namedtuple("Message", "session sender sender_args recipients data")


class _Over(Exception):
    pass


class Session:
    def __init__(self, sink, sock, peer, number):
        self.sink = sink
        self.sock = sock
        self.peer = peer
        self.number = number
        self.buffer = b""
        self.commands = []
        # Verbs after which more bytes were waiting before our reply: the client pipelines.
        self.early = []
        self.hello = None
        self.sender = None
        self.recipients = []
        self.ended = None
        self.tls = None  # the version, once it is there
        self.sni = None
        self.login = None

    def run(self):
        try:
            if self.sink.implicit:
                self.handshake()
            self.stage("CONNECT", "", "220 sink.test ESMTP")
            while True:
                line = self.readline()
                if line:
                    self.commands.append(line)
                if not line.endswith(b"\n"):  # the beginning of a command is none
                    self.ended = "eof"
                    return
                if self.more_waits():
                    self.early.append(line[:4].decode("latin-1").upper())
                self.command(line.rstrip(b"\r\n").decode("utf-8", "backslashreplace"))
        except _Over:
            self.ended = self.ended or "dropped"
        except OSError as e:
            self.ended = f"error {e}"
        finally:
            with contextlib.suppress(OSError):
                self.sock.close()

    def handshake(self):
        action = self.sink.next_action("HANDSHAKE")
        if action is not None:
            self.act(action, "", None)
            raise _Over
        self.buffer = b""
        self.sock.settimeout(20)
        self.sock = self.sink.context.wrap_socket(self.sock, server_side=True)
        self.sock.settimeout(None)
        self.tls = self.sock.version()
        self.sni = getattr(self.sock, "asked", None)

    def readline(self):
        """A line with its end; what there is at the end of the stream."""
        while b"\n" not in self.buffer:
            got = self.sock.recv(262144)
            if not got:
                line, self.buffer = self.buffer, b""
                return line
            self.buffer += got
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line + b"\n"

    def more_waits(self):
        if self.buffer:
            return True
        if self.tls:
            return bool(self.sock.pending() or select.select([self.sock], [], [], 0)[0])
        with contextlib.suppress(BlockingIOError):
            return bool(self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        return False

    def command(self, line):
        verb = line.split(" ")[0].upper()
        arg = line[len(verb) + 1:]
        handler = getattr(self, "do_" + verb.lower(), None)
        if handler:
            handler(arg)
        else:
            self.stage("OTHER", line, "502 5.5.1 what?")

    def say(self, reply):
        if isinstance(reply, str):
            lines = reply.split("\n")
            code = lines[0][:3]
            out = []
            for i, text in enumerate(lines):
                text = text[4:] if i == 0 else text
                out.append(f"{code}{'-' if i < len(lines) - 1 else ' '}{text}\r\n")
            reply = "".join(out).encode()
        self.sock.sendall(reply)
        return reply

    def stage(self, stage, arg, friendly):
        """Does the scripted action; returns whether the answer was positive."""
        return self.act(self.sink.next_action(stage), arg, friendly)

    def act(self, action, arg, friendly):
        if callable(action):
            action = action(self, arg)
        if action is None:
            action = friendly
        if isinstance(action, Drop):
            if action.last:
                self.say(action.last)
            if isinstance(action, Reset):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                self.sock.close()
            raise _Over
        if isinstance(action, Hang):
            if self.sink.over.wait(action.seconds):
                raise _Over
            return self.act(action.then, arg, friendly)
        if isinstance(action, Mute):
            return False
        if isinstance(action, Dribble):
            for c in action.reply.encode() + b"\r\n":
                self.sock.sendall(bytes([c]))
                time.sleep(action.pause)
            return action.reply[0] in "23"
        if isinstance(action, Bytes):
            self.sock.sendall(action.data)
            return action.data[:1] in b"23"
        return self.say(action)[:1] in (b"2", b"3")

    def clear(self):
        self.sender = None
        self.recipients = []

    def do_ehlo(self, arg):
        lines = ["250 sink.test", *self.sink.extensions]
        if self.sink.context and not self.tls:
            lines.append("STARTTLS")
        if self.sink.users and self.tls:
            lines.append("AUTH " + self.sink.mechanisms)
        if self.stage("EHLO", arg, "\n".join(lines)):
            self.hello = "EHLO " + arg
            self.clear()

    def do_helo(self, arg):
        if self.stage("HELO", arg, "250 sink.test"):
            self.hello = "HELO " + arg
            self.clear()

    def do_starttls(self, arg):
        friendly = "220 go" if self.sink.context and not self.tls else "502 5.5.1 what?"
        if self.stage("STARTTLS", arg, friendly):
            self.handshake()
            self.hello = None

    def do_auth(self, arg):
        mechanism, _, first = arg.partition(" ")
        if not self.tls or mechanism not in self.sink.mechanisms.split():
            self.stage("AUTH", arg, "504 5.5.4 not offered")
            return
        user, secret = getattr(self, "sasl_" + mechanism.lower())(first)
        good = user is not None and self.sink.users.get(user) == secret
        if not good and mechanism == "XOAUTH2":
            self.ask("eyJzdGF0dXMiOiI0MDEifQ==")
        if self.stage("AUTH", arg, "235 2.7.0 ok" if good else "535 5.7.8 no") and good:
            self.login = user

    def ask(self, challenge):
        """What the client answers to a 334."""
        self.say("334 " + challenge)
        line = self.readline()
        self.commands.append(line)
        return base64.b64decode(line.strip())

    def sasl_plain(self, first):
        parts = (base64.b64decode(first) if first else self.ask("")).split(b"\0")
        return (parts[1].decode(), parts[2].decode()) if len(parts) == 3 else (None, None)

    def sasl_login(self, first):
        return self.ask("VXNlcm5hbWU6").decode(), self.ask("UGFzc3dvcmQ6").decode()

    def sasl_xoauth2(self, first):
        parts = (base64.b64decode(first) if first else self.ask("")).decode().split("\1")
        return parts[0].removeprefix("user="), parts[1].removeprefix("auth=Bearer ")

    def do_mail(self, arg):
        if self.sink.users and not self.login:
            self.stage("MAIL", arg, "530 5.7.0 who are you?")
            return
        if self.stage("MAIL", arg, "250 2.1.0 ok"):
            self.sender = arg

    def do_rcpt(self, arg):
        friendly = "503 5.5.1 no sender" if self.sender is None else "250 2.1.5 ok"
        if self.stage("RCPT", arg, friendly):
            path = arg.partition(":")[2].strip()
            self.recipients.append(path[1:path.index(">")])

    def do_rset(self, arg):
        self.stage("RSET", arg, "250 2.0.0 ok")
        self.clear()

    def do_noop(self, arg):
        self.stage("NOOP", arg, "250 2.0.0 ok")

    def do_quit(self, arg):
        self.ended = "quit"
        self.stage("QUIT", arg, "221 2.0.0 bye")
        raise _Over

    def content(self):
        """What comes up to the final dot, in big steps: tests send 50 MB."""
        parts = []
        tail = b"\r\n"
        asked = False
        while True:
            if self.buffer:
                if not asked and b"\n" in self.buffer:
                    asked = True
                    action = self.sink.next_action("MIDDLE")
                    if action is not None:
                        self.act(action, "", None)
                # The end may lie across two pieces: look at the last bytes of the one before too.
                seam = tail + self.buffer
                end = seam.find(b"\r\n.\r\n")
                if end >= 0:
                    self.buffer = seam[end + 5:]
                    parts.append(seam[len(tail):end + 2])
                    content = b"".join(parts)
                    # The dot, and a CR after it, may have been taken with the piece before.
                    surplus = len(tail) - (end + 2)
                    return content[:-surplus] if surplus > 0 else content
                parts.append(self.buffer)
                tail = seam[-4:]
                self.buffer = b""
            got = self.sock.recv(262144)
            if not got:
                self.ended = "eof in content"
                raise _Over
            self.buffer = got

    def do_data(self, arg):
        friendly = "354 go on" if self.recipients else "503 5.5.1 no recipients"
        if not self.stage("DATA", arg, friendly):
            return
        content = self.content()
        # Unstuffed as RFC 5321 4.5.2 says: one dot less on each line that begins with one.
        content = content.replace(b"\r\n.", b"\r\n")
        if content.startswith(b"."):
            content = content[1:]
        self.sink.got(self, content)
        self.stage("BODY", "", "250 2.0.0 kept")
        self.clear()


class Sink:
    """Listens on address:port until stop(). `messages` are those whose final dot came, in order,
    whatever the script then answered."""

    def __init__(self, address="127.0.0.1", port=0, script=None, backlog=128,
                 extensions=("PIPELINING", "8BITMIME", "SIZE 104857600", "ENHANCEDSTATUSCODES"),
                 cert=None, implicit=False, users=None, mechanisms="PLAIN LOGIN XOAUTH2"):
        self.context = None
        if cert is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(cert.fullchain, cert.key)
            self.context.sni_callback = lambda sock, name, _: setattr(sock, "asked", name)
        self.implicit = implicit
        self.users = dict(users or {})
        self.mechanisms = mechanisms
        self.script = dict(script or {})
        self.extensions = list(extensions)
        self.messages = []
        self.sessions = []
        self.over = threading.Event()
        self._used = collections.Counter()
        self._lock = threading.Lock()
        self._sock = socket.socket()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sock.bind((address, port))
        self._sock.listen(backlog)
        self.address, self.port = self._sock.getsockname()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while not self.over.is_set():
            try:
                sock, peer = self._sock.accept()
            except OSError:
                return
            if self.over.is_set():
                sock.close()
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                session = Session(self, sock, peer, len(self.sessions))
                self.sessions.append(session)
            threading.Thread(target=session.run, daemon=True).start()

    def next_action(self, stage):
        with self._lock:
            action = self.script.get(stage)
            if isinstance(action, list):
                i = self._used[stage]
                self._used[stage] += 1
                action = action[min(i, len(action) - 1)]
            return action

    def got(self, session, data):
        sender = session.sender or ""
        m = Message(session.number, sender.partition("<")[2].rpartition(">")[0], sender,
                    list(session.recipients), data)
        with self._lock:
            self.messages.append(m)

    def commands(self):
        """All command lines of all sessions, as text without line ends."""
        return [c.rstrip(b"\r\n").decode("utf-8", "backslashreplace")
                for s in self.sessions for c in s.commands]

    def stop(self):
        self.over.set()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        for s in self.sessions:
            with contextlib.suppress(OSError):
                s.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
