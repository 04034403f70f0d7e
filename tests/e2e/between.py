"""What stands between a client and a server: the listener of a TCP proxy, whose connections a subclass makes."""

import contextlib
import socket
import threading


class Between:
    """Listens at an address until stop(). connect(client) makes a connection: with `client` and `server`, its two
    sockets, and run(), which a thread of its own goes through and which closes both; or raises OSError."""

    def __init__(self, at):
        self.connections = []
        self._over = False
        self._sock = socket.socket()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sock.bind(at)
        self._sock.listen(128)
        self.address, self.port = self._sock.getsockname()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while not self._over:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            try:
                c = self.connect(sock)
            except OSError:
                sock.close()
                continue
            self.connections.append(c)
            threading.Thread(target=c.run, daemon=True).start()

    def cut(self):
        """Ends the connections there are."""
        for c in list(self.connections):
            for s in (c.client, c.server):
                with contextlib.suppress(OSError):
                    s.shutdown(socket.SHUT_RDWR)

    def stop(self):
        self._over = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self.cut()
        self._thread.join(5)
