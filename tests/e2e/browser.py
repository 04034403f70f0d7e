"""A real Chromium, driven through the DevTools protocol over a WebSocket client of our own.

    with Browser(box) as b:
        page = b.page()
        page.go("http://127.0.0.1:1/")
        page.eval("document.title")

What a page logs, throws, is refused by its policy, fails to load, or shows as a dialog is collected
in page.troubles.
"""

import base64
import json
import os
import pathlib
import re
import shutil
import socket
import struct
import time
import urllib.request

import harness

PROGRAM = "/usr/bin/chromium"


def missing():
    return None if shutil.which(PROGRAM) else "there is no " + PROGRAM


class WebSocket:
    """RFC 6455, the client's side: text messages, pings answered."""

    def __init__(self, url, seconds=30):
        host, port, path = re.match(r"ws://([^:/]+):(\d+)(/.*)", url).groups()
        self.sock = socket.create_connection((host, int(port)), seconds)
        self.sock.settimeout(seconds)
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
                          f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                          "Sec-WebSocket-Version: 13\r\n\r\n".encode())
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self._fill()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        assert b" 101 " in head.split(b"\r\n")[0], head

    def _fill(self):
        data = self.sock.recv(1 << 20)
        if not data:
            raise ConnectionError("the browser has closed the connection")
        self.buffer += data

    def _take(self, n):
        while len(self.buffer) < n:
            self._fill()
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def send(self, text, opcode=1):
        data = text.encode() if isinstance(text, str) else text
        mask = os.urandom(4)
        n = len(data)
        head = bytes([0x80 | opcode])
        head += bytes([0x80 | n]) if n < 126 else b"\xfe" + struct.pack("!H", n) if n < 65536 else \
            b"\xff" + struct.pack("!Q", n)
        stretched = (mask * (n // 4 + 1))[:n]
        masked = (int.from_bytes(data, "big") ^ int.from_bytes(stretched, "big")).to_bytes(n, "big")
        self.sock.sendall(head + mask + masked)

    def receive(self):
        """The next text message."""
        message = b""
        while True:
            first, second = self._take(2)
            n = second & 127
            if n == 126:
                n, = struct.unpack("!H", self._take(2))
            elif n == 127:
                n, = struct.unpack("!Q", self._take(8))
            data = self._take(n)
            if first & 15 == 9:
                self.send(data, 10)
            elif first & 15 == 8:
                raise ConnectionError("the browser has closed the connection")
            elif first & 15 in (0, 1, 2):
                message += data
                if first & 0x80:
                    return message.decode()

    def close(self):
        self.sock.close()


class Browser:
    def __init__(self, box):
        self.profile = box.dir("chromium")
        self.process = box.process(
            [PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--no-first-run", "--disable-extensions", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--no-proxy-server", "--hide-scrollbars",
             "--remote-debugging-port=0", f"--user-data-dir={self.profile}", "about:blank"],
            "chromium", env={"HOME": str(self.profile), "LANG": "C.UTF-8"})
        port_file = pathlib.Path(self.profile) / "DevToolsActivePort"

        def ready():
            assert self.process.running(), self.process.log()
            return port_file.exists() and port_file.read_text().count("\n") >= 1

        harness.wait_for(ready, 60, lambda: "chromium\n" + self.process.log())
        self.port = int(port_file.read_text().split("\n")[0])
        self.pages = []

    def page(self):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/json/new?about:blank",
                                         method="PUT")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as r:
            target = json.load(r)
        page = Page(target["webSocketDebuggerUrl"])
        self.pages.append(page)
        return page

    def close(self):
        for page in self.pages:
            page.socket.close()
        self.process.end()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Page:
    def __init__(self, url):
        self.socket = WebSocket(url)
        self.number = 0
        self.events = []
        self.troubles = []
        self.statuses = {}  # of documents, by address
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    # -- the protocol --

    def _note(self, message):
        method, p = message["method"], message.get("params", {})
        self.events.append(method)
        if method == "Runtime.exceptionThrown":
            self.troubles.append("exception: " + json.dumps(p["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled":
            self.troubles.append("console: " + json.dumps(p["args"])[:500])
        elif method == "Log.entryAdded":
            self.troubles.append("log: " + p["entry"]["text"][:500] + " " + p["entry"].get("url", ""))
        elif method == "Page.javascriptDialogOpening":
            self.troubles.append("dialog: " + p["message"][:500])
            self.send("Page.handleJavaScriptDialog", accept=False)
        elif method == "Network.responseReceived" and p["type"] == "Document":
            self.statuses[p["response"]["url"]] = p["response"]["status"]

    def send(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        return self.number

    def call(self, method, **params):
        number = self.send(method, **params)
        while True:
            message = json.loads(self.socket.receive())
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            if "method" in message:
                self._note(message)

    def wait_event(self, method, seconds=30):
        """Waits for an event since the last forget()."""
        end = time.monotonic() + seconds
        while method not in self.events:
            assert time.monotonic() < end, f"no {method} in {seconds} s"
            message = json.loads(self.socket.receive())
            if "method" in message:
                self._note(message)

    # -- what a person does --

    def go(self, url):
        self.events.clear()
        result = self.call("Page.navigate", url=url)
        assert "errorText" not in result, result
        self.wait_event("Page.loadEventFired")

    def eval(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def click(self, selector, text=None):
        """Clicks, with the mouse, the element (the one with this text), and waits for the next page."""
        place = self.eval(
            "(()=>{const e=[...document.querySelectorAll(%s)].find(e=>%s===null||e.textContent.trim()===%s);"
            "if(!e)return null;e.scrollIntoView({block:'center'});const r=e.getBoundingClientRect();"
            "return [r.x+r.width/2,r.y+r.height/2]})()" % (json.dumps(selector), json.dumps(text),
                                                         json.dumps(text)))
        assert place, f"there is no {selector} {text or ''}:\n" + self.text()
        self.events.clear()
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left",
                      clickCount=1)
        self.wait_event("Page.loadEventFired")

    def type(self, selector, text):
        self.eval(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)

    def text(self):
        return self.eval("document.body.innerText")

    def url(self):
        return self.eval("location.href")

    def look(self, width, height, dark=False):
        """The size of the window, and the colours the person likes."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def no_script(self):
        self.call("Emulation.setScriptExecutionDisabled", value=True)

    def shot(self, path):
        """The whole page as PNG."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))
