"""Bad networks. Two kinds, for what each can do:

Proxy       a TCP proxy that breaks connections at a chosen byte of either direction, or makes them slow:

    p = Proxy(("127.0.0.2", port), to=("127.0.0.3", port))
    p.plans = [Cut("up", 100, RST), Cut("down", 3, FIN), Cut("down", 0, MUTE), Shape(piece=1)]

The n-th connection gets the n-th plan, further ones pass untouched. `connections` keeps what each did.

Wire        an Ethernet cable between two network namespaces, which loses, delays and swallows frames. TCP at
both ends is the kernel's, with all it does about it.

    wire = Wire(left, "10.88.0.1", right, "10.88.0.2")
    wire.loss = 0.1; wire.delay = 0.05; wire.longest = 700; wire.cut = True; wire.without = {0x86DD}
"""

import contextlib
import fcntl
import heapq
import itertools
import os
import random
import select
import socket
import struct
import threading
import time

import pytest

from between import Between

FIN, RST, MUTE = "fin", "rst", "mute"

LINGER_0 = struct.pack("ii", 1, 0)


class Plan:
    """A connection that passes untouched."""

    direction, after, act = None, None, None
    piece, pause, freeze = 65536, 0.0, 0.0

    def __repr__(self):
        return "untouched"


class Cut(Plan):
    """Lets so many bytes of "up" (from the client) or "down" through, then ends both sides with FIN or RST;
    or, MUTE, goes on reading from both and says nothing to anybody: a half-open peer."""

    def __init__(self, direction, after, act):
        self.direction, self.after, self.act = direction, after, act

    def __repr__(self):
        return f"{self.act} after {self.after} bytes {self.direction}"


class Shape(Plan):
    """Passes everything on in pieces of so many bytes with a pause, s, after each; and once, after so many
    bytes of one direction, nothing for a time."""

    def __init__(self, piece=65536, pause=0.0, freeze=0.0, direction=None, after=None):
        self.piece, self.pause, self.freeze = piece, pause, freeze
        self.direction, self.after = direction, after

    def __repr__(self):
        return f"pieces of {self.piece} with {self.pause} s, frozen for {self.freeze} s at {self.after}"


class Connection:
    def __init__(self, proxy, client, plan):
        self.plan = plan
        self.client = client
        self.server = socket.create_connection(proxy.to, timeout=20)
        for s in (self.client, self.server):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server_port = self.server.getsockname()[1]
        self.passed = {"up": 0, "down": 0}
        self.said = {"up": b"", "down": b""}  # what has passed
        self.fired = False

    def run(self):
        try:
            ends = {self.client: ("up", self.server), self.server: ("down", self.client)}
            if self.plan.act and self.plan.after == 0 and self.fire():
                return
            while ends:
                for s in select.select(list(ends), [], [], 60)[0]:
                    direction, to = ends[s]
                    data = s.recv(65536)
                    if not data:
                        del ends[s]
                        if not (self.fired and self.plan.act == MUTE):
                            to.shutdown(socket.SHUT_WR)
                    elif self.forward(direction, to, data):
                        return
        except OSError:
            pass
        finally:
            for s in (self.client, self.server):
                s.close()

    def fire(self):
        """Returns whether the connection is over."""
        self.fired = True
        if self.plan.act == MUTE:
            return False
        for s in (self.client, self.server):
            if self.plan.act == RST:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
            else:
                with contextlib.suppress(OSError):
                    s.shutdown(socket.SHUT_WR)
                    # What has come and is not read would make close() send a RST.
                    s.setblocking(False)
                    while s.recv(65536):
                        pass
        return True

    def forward(self, direction, to, data):
        plan = self.plan
        if self.fired and plan.act == MUTE:
            return False
        while data:
            piece = data[:plan.piece]
            if direction == plan.direction and not self.fired:
                left = plan.after - self.passed[direction]
                if len(piece) >= left:
                    self.send(direction, to, piece[:left])
                    data = data[left:]
                    if plan.act:
                        return self.fire()
                    self.fired = True
                    time.sleep(plan.freeze)
                    continue
            self.send(direction, to, piece)
            data = data[len(piece):]
            if plan.pause:
                time.sleep(plan.pause)
        return False

    def send(self, direction, to, data):
        self.said[direction] += data
        to.sendall(data)
        self.passed[direction] += len(data)


class Proxy(Between):
    def __init__(self, at, to, plans=()):
        self.to = to
        self.plans = list(plans)
        super().__init__(at)

    def connect(self, client):
        return Connection(self, client, self.plans.pop(0) if self.plans else Plan())


# ---- a cable ------------------------------------------------------------------------------------

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
IPV6 = 0x86DD


class Wire:
    """Joins two namespaces (netns.Namespace), as `name` in both. Skips the test where there is no TAP."""

    def __init__(self, left, left_address, right, right_address, name="wire0", seed=1):
        self.loss = 0.0  # share of frames
        self.delay = 0.0  # s, each way
        self.longest = None  # bytes of a frame that still passes, header included; nobody is told
        self.cut = False  # nothing passes
        self.without = set()  # EtherTypes that do not pass
        self.dropped = self.passed = 0
        self._random = random.Random(seed)
        self._waiting, self._number = [], itertools.count()
        self._fds = []
        for ns, address in ((left, left_address), (right, right_address)):
            with ns:
                try:
                    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
                    self._fds.append(fd)
                    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
                except OSError as error:
                    self._close()
                    pytest.skip(f"no TAP device here: {error}")
            for a in [address] if isinstance(address, str) else address:
                ns.ip("address", "add", a, "dev", name, *(["nodad"] if ":" in a else []))
            ns.ip("link", "set", name, "up")
        self._wake = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _passes(self, frame):
        return not (self.cut or (self.longest and len(frame) > self.longest)
                    or int.from_bytes(frame[12:14], "big") in self.without
                    or (self.loss and self._random.random() < self.loss))

    def _run(self):
        while True:
            left = self._waiting[0][0] - time.monotonic() if self._waiting else 5
            ready = select.select([*self._fds, self._wake[0]], [], [], max(0, left))[0]
            if self._wake[0] in ready:
                return
            for fd in ready:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        frame = os.read(fd, 65536)
                        if self._passes(frame):
                            to = self._fds[1 - self._fds.index(fd)]
                            heapq.heappush(self._waiting,
                                           (time.monotonic() + self.delay, next(self._number), to, frame))
                            self.passed += 1
                        else:
                            self.dropped += 1
            while self._waiting and self._waiting[0][0] <= time.monotonic():
                _, _, to, frame = heapq.heappop(self._waiting)
                with contextlib.suppress(OSError):
                    os.write(to, frame)

    def _close(self):
        for fd in self._fds:
            os.close(fd)

    def stop(self):
        os.write(self._wake[1], b"x")
        self._thread.join(5)
        self._close()
        for fd in self._wake:
            os.close(fd)
