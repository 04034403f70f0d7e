"""What every end-to-end test stands on: ports, temporary directories, processes, and chasq itself.

Everything listens on 127.0.0.0/8 only, and every process is ended by the id it was started with.
"""

import contextlib
import ctypes
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time

import journal

TREE = pathlib.Path(__file__).resolve().parents[2]
FULL = os.environ.get("CHASQ_FULL", "") not in ("", "0")

SANITIZER_REPORT = re.compile(
    r"ERROR: (Address|Leak|Memory|Thread)Sanitizer|runtime error:|SUMMARY: \w+Sanitizer|BUG:"
)


def binary():
    """The chasq under test: with sanitizers if such a one was built."""
    return _first("CHASQ", [TREE / "build/asan/chasq", TREE / "build/main/chasq"])


def fast_binary():
    """The chasq as users run it, for tests of speed, memory and many restarts."""
    return _first("CHASQ_FAST", [TREE / "build/main/chasq", TREE / "build/asan/chasq"])


def _first(env, places):
    if os.environ.get(env):
        return pathlib.Path(os.environ[env]).resolve()
    for place in places:
        if place.exists():
            return place
    raise RuntimeError("there is no chasq to test: run make, or set " + env)


def at_time(when, *settings):
    """What to put before a program whose wall clock is wrong: "+23h", "@1970-01-02 00:00:00" (libfaketime's
    forms), or "" and settings. A killed process with the same id would have left names that it refuses to use."""
    lib = next(iter(pathlib.Path("/usr/lib").rglob("libfaketime.so.1")))
    return ["sh", "-c", 'rm -f /dev/shm/sem.faketime_sem_$$ /dev/shm/faketime_shm_$$; exec "$@"', "sh", "env",
            f"LD_PRELOAD={lib}", "FAKETIME_DONT_FAKE_MONOTONIC=1", *([f"FAKETIME={when}"] if when else []), *settings]


# ---- waiting ------------------------------------------------------------------------------------


def wait_for(condition, seconds=10.0, what="condition", step=0.02):
    """Polls until condition() is true, returns its value; fails after so many seconds. What is waited
    for is a text, or a function that makes one when it failed."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            text = what() if callable(what) else what
            raise AssertionError(f"waited {seconds} s in vain for {text}")
        time.sleep(step)


def free_port(*addresses):
    """A port that is free on all the addresses. Below the range the kernel gives to clients, so
    that nobody takes it between now and its use."""
    addresses = addresses or ("127.0.0.1",)
    for _ in range(200):
        port = random.randrange(10000, 32000)
        with contextlib.ExitStack() as stack:
            try:
                for address in addresses:
                    s = stack.enter_context(socket.socket())
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    s.bind((address, port))
                    u = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
                    u.bind((address, port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def can_listen(address, port):
    """Whether nobody listens there. It does not do so itself: a process just forked by another thread would have that
    socket for a moment."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((address, port))
        except OSError:
            return False
        return True


def catches(pid, number):
    """Whether a process has a handler for a signal, or is no more."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", status, re.M)
    return not caught or bool(int(caught[1], 16) >> (number - 1) & 1)


def can_connect(address, port):
    with contextlib.suppress(OSError):
        socket.create_connection((address, port), timeout=1).close()
        return True
    return False


# ---- processes ----------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A child in a session of its own whose output goes to a file."""

    def __init__(self, argv, log, cwd=None, env=None, stdin=None):
        self.argv = [str(a) for a in argv]
        self.log_path = pathlib.Path(log)
        full_env = dict(os.environ)
        full_env.update(env or {})
        with open(self.log_path, "ab") as out:
            self.popen = subprocess.Popen(
                self.argv,
                stdin=stdin or subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=cwd,
                env=full_env,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self.pid = self.popen.pid

    def running(self):
        return self.popen.poll() is None

    def log(self):
        return self.log_path.read_text("utf-8", "backslashreplace")

    def kill(self, sig=signal.SIGKILL):
        """Signals the process itself, not its children."""
        if self.running():
            os.kill(self.pid, sig)

    def wait(self, seconds=10):
        return self.popen.wait(seconds)

    def end(self):
        """Ends the process and what is left of its session; never fails."""
        # The id of one that has been waited for may be another's by now, and that other's group.
        if self.popen.returncode is None or not pathlib.Path(f"/proc/{self.pid}").exists():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(10)


BOX_PREFIX = "chasq-e2e-"


class Sandbox:
    """A temporary directory that others may enter, and the processes and servers of one test.

    stop() ends all of it in reverse order. The directory stays when `keep` was set."""

    def __init__(self, name="test"):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=BOX_PREFIX + name[:40] + "-"))
        self.path.chmod(0o755)
        self.keep = False
        self._stack = contextlib.ExitStack()
        self._count = 0

    def dir(self, name):
        self._count += 1
        path = self.path / name
        if path.exists():
            path = self.path / f"{name}.{self._count}"
        path.mkdir(parents=True)
        return path

    def process(self, argv, name, **kwargs):
        """Starts a process that ends with the sandbox."""
        self._count += 1
        p = Process(argv, self.path / f"{name}.{self._count}.log", **kwargs)
        self._stack.callback(p.end)
        return p

    def on_stop(self, function, *args):
        self._stack.callback(function, *args)

    def stop(self):
        self._stack.close()
        if not self.keep and not os.environ.get("CHASQ_KEEP"):
            shutil.rmtree(self.path, ignore_errors=True)


# ---- memory -------------------------------------------------------------------------------------


def memory_kb(pid, kind):
    """A line of smaps_rollup, in KiB."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(kind + ":"):
            return int(line.split()[1])
    raise AssertionError(f"no {kind} in smaps_rollup")


def pss_kb(pid):
    """The process's share of memory in KiB (each shared page divided by its users)."""
    return memory_kb(pid, "Pss")


def anonymous_kb(pid):
    """What belongs to the process alone, in KiB: heap, stack and changed data. PSS grows when other users of the
    same libraries end; this does not."""
    return memory_kb(pid, "Anonymous")


def descriptors(pid):
    """How many descriptors it has, but for what is made when it is wanted: segments of the journal, and what tells of
    flushes by the kernel."""
    count = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            place = os.readlink(f"/proc/{pid}/fd/{fd}")
            count += "/.journal." not in place and "[eventfd]" not in place
    return count


def idle_descriptors(c):
    """How many a chasq has that was just started, once the connection that looked for it is closed."""
    wait_for(lambda: " smtpd closed " in c.log(), 20, "the end of the first connection")
    return descriptors(c.pid)


class PssSampler:
    """Samples a process's PSS from another thread; `peak` is the highest seen, in KiB."""

    def __init__(self, pid, every=0.02):
        self.pid = pid
        self.every = every
        self.peak = 0
        self.samples = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self._over.is_set():
            with contextlib.suppress(OSError, AssertionError):
                self.peak = max(self.peak, pss_kb(self.pid))
                self.samples += 1
            self._over.wait(self.every)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._over.set()
        self._thread.join()


# ---- chasq --------------------------------------------------------------------------------------


def quote(text):
    """A string in protobuf text format."""
    if isinstance(text, str):
        text = text.encode()
    out = []
    for c in text:
        if c in b'"\\':
            out.append("\\" + chr(c))
        elif 32 <= c < 127:
            out.append(chr(c))
        else:
            out.append("\\%03o" % c)
    return '"' + "".join(out) + '"'


def text_proto(values):
    """{'key': value or list} as protobuf text format; a str subclass Raw is written as it is."""
    lines = []
    for key, value in values.items():
        for v in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(v, bool):
                v = "true" if v else "false"
            elif isinstance(v, str) and not isinstance(v, Raw):
                v = quote(v)
            lines.append(f"{key}: {v}")
    return "\n".join(lines) + "\n"


class Raw(str):
    """An enum's name, or anything to be written unquoted."""


class Chasq:
    """One chasq: its configuration directory, its data, its process.

    conf adds to or replaces the defaults below (None removes a key); domains maps a domain to
    {'users': [...], 'aliases': 'text'}. journal: new messages are in the journal and in memory first.
    """

    def __init__(self, box, name="chasq", conf=None, domains=None, address="127.0.0.1", program=None,
                 env=None, port=None, journal=True):
        self.box = box
        self.name = name
        self.program = program or binary()
        self.address = address
        self.port = port or free_port(address)
        self.env = dict(env or {})
        self.dir = box.dir(name)
        self.data = self.dir / "data"
        self.maildirs = self.dir / "mail"
        self.queue = self.data / "queue"
        self.process = None
        self.expect_report = False
        self.journal = journal
        self._scanned = None  # the process that has told that it knows the queue
        self.conf = {
            "hostname": f"{name}.test",
            "smtp_address": f"{self.address}:{self.port}",
            "data_dir": str(self.data),
            "maildir": f"{self.maildirs}/%to_domain%/%to_user%",
            "dns_servers": "127.0.0.1:9",
            # Tests send more than any camera.
            "trusted_network_rate": 0,
        }
        self.conf.update(conf or {})
        self.domains = domains if domains is not None else {"here.test": {"users": ["user"]}}
        self.write_conf()

    def write_conf(self):
        conf = {k: v for k, v in self.conf.items() if v is not None}
        if (pathlib.Path(self.program).parent / "chasq.gcno").exists():
            # A build that counts lines writes the figures beside its objects.
            conf.setdefault("sandbox_writable", str(pathlib.Path(self.program).parent))
        (self.dir / "chasq.conf").write_text(text_proto(conf))
        for domain, content in self.domains.items():
            d = self.dir / "domains" / domain
            d.mkdir(parents=True, exist_ok=True)
            users = "".join(
                f"users: {{ key: {quote(u)} value: {{ plain: {{ password: \"x\" }} }} }}\n"
                for u in content.get("users", [])
            )
            (d / "users").write_text(users)
            (d / "aliases").write_text(content.get("aliases", ""))

    def argv(self, *extra):
        return [self.program, "-c", self.dir, *extra]

    def start(self, *extra, wait=True, wrap=(), env=None):
        """Starts the daemon; waits until it answers."""
        if not self.journal:
            # Every message a file at once, to be looked at: where its name is taken there is no journal.
            for place in [self.data, self.queue, self.queue / ".journal.0"]:
                with contextlib.suppress(OSError, LookupError):
                    place.mkdir(mode=0o755 if place == self.data else 0o700, parents=True)
                    if self.conf.get("user"):
                        shutil.chown(place, self.conf["user"])
        environment = {
            "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1:exitcode=99",
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99",
            **self.env,
            **(env or {}),
        }
        self.process = self.box.process([*wrap, *self.argv(*extra)], self.name, env=environment)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, seconds=20):
        def ready():
            assert self.process.running(), "chasq ended at start:\n" + self.process.log()
            return can_connect(self.address, self.port)

        wait_for(ready, seconds, f"{self.name} to listen on port {self.port}", 0.01)

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.process.log() if self.process else ""

    def stop(self, seconds=20):
        """SIGTERM; demands a clean end and a log without a sanitizer's report."""
        if self.process is None:
            return
        # Its ports are open before it has a handler for SIGTERM.
        end = time.monotonic() + 2
        while time.monotonic() < end and not catches(self.pid, signal.SIGTERM):
            time.sleep(0.01)
        self.process.kill(signal.SIGTERM)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.end()
            raise AssertionError("chasq did not end on SIGTERM:\n" + self.log()[-4000:]) from None
        self.check_log()
        assert code == 0, f"chasq ended with {code}:\n{self.log()[-4000:]}"
        self.process = None

    def kill(self):
        """kill -9, and reaps it."""
        self.process.kill(signal.SIGKILL)
        self.process.wait()
        self.check_log()

    def restart(self, *extra):
        self.stop()
        return self.start(*extra)

    def check_log(self):
        log = self.log()
        found = SANITIZER_REPORT.search(log)
        assert not found, "a sanitizer's report:\n" + log[max(0, found.start() - 500):][:8000]

    # -- what it holds --

    def ask(self, line, timeout=10):
        """The answer of the control socket to this line; "" when nobody answers."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(timeout)
            answer = b""
            try:
                s.connect(str(self.data / "control"))
                s.sendall(line.encode() + b"\n")
                while piece := s.recv(65536):
                    answer += piece
            except OSError:
                return ""
            return answer.decode()

    def _journaled(self):
        """{ID: text} of what is in the journal; b"" where that is too damaged to tell."""
        if not self.journal:
            return {}
        found = journal.waiting(self.queue)
        if self.process and self.process.running():
            # Whether one of them is gone may not be on the disk yet: the daemon knows, once it has looked.
            if self._scanned != self.pid and " queue scanned " in self.log():
                self._scanned = self.pid
            answer = self.ask("QUEUE") if self._scanned == self.pid else ""
            if answer.endswith("END\n"):
                found = {line.split("\t")[0]: found.get(line.split("\t")[0], b"")
                         for line in answer.splitlines()[1:-1]}
        return found

    def texts(self):
        """{ID: its file's text} of the messages in the queue, be they files or in the journal."""
        found = self._journaled()
        for path in self.queue.glob("m:*"):
            with contextlib.suppress(OSError):
                text = path.read_bytes() if stat.S_ISREG(path.lstat().st_mode) else b""
                if len(text) >= len(found.get(path.name[2:], b"")):
                    found[path.name[2:]] = text
        return found

    def text(self, path):
        """The text of a message, whose file has this path if it has one; b"" when it is gone."""
        return self.texts().get(path.name[2:], b"")

    def attempts(self):
        """How many attempts are recorded for all that is in the queue."""
        return sum(text.count(b"\nattempt") for text in self.texts().values())

    def queued(self):
        """Paths of the messages in the queue: where their files are, or would be."""
        in_journal = {self.queue / f"m:{item}" for item in self._journaled()}
        return sorted(in_journal | set(self.queue.glob("m:*")))

    def wait_queue_empty(self, seconds=30):
        wait_for(lambda: not self.queued(), seconds, f"{self.name}'s queue to become empty")

    def wait_attempt(self, seconds=20):
        """Waits until an attempt is recorded for a message in the queue; returns its text."""

        def attempted():
            return next((text for text in self.texts().values() if b"\nattempt" in text), None)

        return wait_for(attempted, seconds, lambda: "a recorded attempt\n" + self.log()[-3000:])

    def maildir(self, user, domain="here.test"):
        return self.maildirs / domain / user

    def messages(self, user, domain="here.test"):
        """Contents of the messages in a user's Maildir, oldest name first."""
        new = self.maildir(user, domain) / "new"
        return [p.read_bytes() for p in sorted(new.iterdir())] if new.exists() else []

    def wait_messages(self, user, count=1, domain="here.test", seconds=15):
        wait_for(lambda: len(self.messages(user, domain)) >= count, seconds,
                 lambda: f"{count} message(s) for {user}@{domain}\n" + self.log()[-3000:])
        return self.messages(user, domain)

    # -- the operator's side --

    def run(self, *args, input=None, argv0=None, timeout=30, env=None, user=None):
        """Runs the program with arguments as given; argv0 names it differently."""
        # Another user need not be able to reach the tree, which may be in /root.
        program = shutil.copy(self.program, self.dir) if user else self.program
        return subprocess.run(
            [str(argv0 or program), *map(str, args)],
            executable=str(program),
            input=input,
            capture_output=True,
            timeout=timeout,
            env={**os.environ, **self.env, **(env or {})},
            user=user,
            check=False,
        )

    def sendmail(self, *args, input=b"", **kwargs):
        return self.run("-C", self.dir, *args, input=input, argv0="sendmail", **kwargs)

    def mailq(self, **kwargs):
        return self.run("-C", self.dir, argv0="mailq", **kwargs)


def split_message(message):
    """(header, body) of a message with LF or CRLF lines."""
    for sep in (b"\r\n\r\n", b"\n\n"):
        if sep in message:
            head, body = message.split(sep, 1)
            return head, body
    return message, b""


def drop_trace(message):
    """The message without the header fields that servers add on top, to compare contents."""
    head, body = split_message(message.replace(b"\r\n", b"\n"))
    fields = re.split(rb"\n(?![ \t])", head)
    added = (b"received:", b"return-path:", b"delivered-to:", b"envelope-to:", b"delivery-date:")
    while fields and fields[0].lower().startswith(added):
        fields.pop(0)
    return b"\n".join(fields) + b"\n\n" + body
