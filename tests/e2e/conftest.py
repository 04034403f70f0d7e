"""Fixtures. A test takes `box` (a temporary directory that ends its processes) and what it needs."""

import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import harness  # noqa: E402  (needs the path above)
import peers  # noqa: E402
from sink import Sink  # noqa: E402


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    error = call.excinfo.value if call.excinfo else None
    if os.getuid() != 0 and isinstance(error, PermissionError) and str(error.filename).startswith("/proc/"):
        # The server closes its memory to its own user (see sandbox.c): what is measured there takes root.
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1], f"Skipped: only root may read {error.filename}")
    setattr(item, "report_" + report.when, report)


# They measure, and an emulator takes time and memory of its own.
MEASURES = ("test_memory_of_idle_sessions", "test_certificates_swapped_under_load")


# Files that take longest: with several at work, these begin.
LONGEST = ("test_crash_steps", "test_mitm", "test_network", "test_monitor", "test_disk", "test_fail2ban", "test_cli",
           "test_dane", "test_kill", "test_crash", "test_check", "test_remote", "test_reload", "test_soak", "test_sts",
           "test_spool_interop", "test_text_interop", "test_operations", "test_growing")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
    for item in items if os.environ.get("CHASQ_EMULATED") else []:
        if item.originalname in MEASURES:
            item.add_marker(pytest.mark.skip(reason="it would measure the emulator"))


# No test may take longer, in seconds, whatever hangs.
TEST_SECONDS = 3600 if harness.FULL else int(os.environ.get("CHASQ_TEST_SECONDS", "300"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    def expired(signum, frame):
        raise AssertionError(f"{item.name} took more than {TEST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(TEST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pytest_configure(config):
    """Directories of tests that failed are kept for a day."""
    if not hasattr(config, "workerinput"):
        for kept in pathlib.Path(tempfile.gettempdir()).glob(harness.BOX_PREFIX + "*"):
            with contextlib.suppress(OSError):
                if kept.lstat().st_uid == os.getuid() and kept.lstat().st_mtime < time.time() - 86400:
                    shutil.rmtree(kept, ignore_errors=True)


def failed(node):
    return any(getattr(getattr(node, "report_" + when, None), "failed", False)
               for when in ("setup", "call"))


@pytest.fixture
def box(request):
    """The test's sandbox. Logs are shown and the directory is kept when the test failed."""
    b = harness.Sandbox(request.node.name.replace("/", "_").replace("[", "-").rstrip("]"))
    yield b
    if failed(request.node):
        b.keep = True
        print(f"kept: {b.path}")
        for log in sorted(b.path.glob("*.log")):
            text = log.read_text("utf-8", "backslashreplace")
            print(f"---- {log.name}\n{text[-6000:]}")
    b.stop()


@pytest.fixture
def chasq(box, request):
    """A function that starts a chasq; see harness.Chasq. All of them are stopped cleanly at the end
    of the test, and their logs checked."""
    started = []

    def make(name="chasq", start=True, **kwargs):
        c = harness.Chasq(box, name, **kwargs)
        started.append(c)
        return c.start() if start else c

    yield make
    if not failed(request.node):
        for c in reversed(started):
            if c.process is not None and c.process.running():
                c.stop()
            elif c.process is not None:
                c.check_log()


@pytest.fixture
def sink(box):
    """A function that starts a scriptable SMTP server; see sink.Sink."""

    def make(**kwargs):
        s = Sink(**kwargs)
        box.on_stop(s.stop)
        return s

    return make


@pytest.fixture
def exim(box):
    return lambda **kwargs: peers.Exim(box, **kwargs)


@pytest.fixture
def smtp_sink(box):
    return lambda **kwargs: peers.SmtpSink(box, **kwargs)


@pytest.fixture
def dnsmasq(box):
    return lambda **kwargs: peers.Dnsmasq(box, **kwargs)


class Dnsd:
    """tests/tools/dnsd.py with a zone; `server` is what dns_servers takes. wrap goes before its
    command line."""

    def __init__(self, box, zone, address="127.0.0.1", wrap=(), port=0):
        self.zone = box.path / "dnsd.zone"
        self.log = box.path / "dnsd.questions"
        self.write(zone)
        self.process = box.process([*wrap, sys.executable, "-u", harness.TREE / "tests/tools/dnsd.py",
                                    "--address", address, "--port", str(port), "--log", self.log, self.zone],
                                   "dnsd")
        ready = harness.wait_for(lambda: re.search(r"^ready (\d+)$", self.process.log(), re.M), 10,
                                 lambda: "dnsd\n" + self.process.log())
        self.server = f"{address}:{ready[1]}"

    def write(self, zone):
        new = self.zone.with_suffix(".new")
        new.write_text(zone)
        new.rename(self.zone)

    def questions(self):
        """["udp TXT NAME", ...], the type as a number."""
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def dnsd(box):
    return lambda zone, **kwargs: Dnsd(box, zone, **kwargs)


# ---- special builds -----------------------------------------------------------------------------

# What takes minutes in real life takes a second or two here.
SHORT = {
    "COURIER_MDA_MS": "1500",
    "COURIER_PIPE_MS": "1500",
    "HOOK_LONG_MS": "1500",
    "HOOK_SHORT_MS": "1500",
    "PROC_TERM_MS": "500",
    "LISTEN_GRACE_MS": "1000",
    "LISTEN_PROXY_MS": "2000",
    "HTTPD_REQUEST_MS": "3000",
    "CONTROL_LINE_MS": "3000",
    "SMTPD_COMMAND_MS": "1500",
    "SMTPD_CONTENT_MS": "1500",
    "SMTPD_HANDSHAKE_MS": "3000",
    "SMTPD_SESSION_MS": "5000",
    "QUEUE_RETRY_TABLE": "{{2,1},{INT64_MAX,2}}",
    "QUEUE_RETRY_JITTER": "1",
}

# A journal that is turned over after a few messages, which soon become files; of these, what config.h has.
SMALL_JOURNAL = {
    "JOURNAL_BYTES": "8192",
    "JOURNAL_ENTRIES": "64",
    "JOURNAL_SEGMENTS": "3",
    "JOURNAL_KEEP": "2",
    "JOURNAL_MESSAGE_MAX": "2048",
    "JOURNAL_AGE_MS": "300",
    "JOURNAL_RETRY_MS": "200",
    "JOURNAL_AGAIN_MS": "500",
}


def smtpc_limits():
    """The client's time limits, whatever their number: 1.5 s each."""
    text = (harness.TREE / "config.h").read_text()
    return {name: "1500" for name in re.findall(r"#define ((?:SMTPC|REMOTE)_\w*_MS)\b", text)}


def main_is_fresh():
    """Whether build/main is there and not older than the sources: a special build may take from it what is the same."""
    library = harness.TREE / "build/main/libchasq.a"
    return library.exists() and all(f.stat().st_mtime <= library.stat().st_mtime for f in harness.TREE.glob("*.[ch]"))


def special_build(name, options, *tools):
    """A chasq with these options, and tools of tests/tools, built into build/NAME."""
    if os.environ.get("CHASQ_EMULATED"):
        pytest.skip("built for this machine, where another's is tested")
    text = (harness.TREE / "config.h").read_text()
    unknown = [k for k in options if f"#ifndef {k}\n" not in text]
    assert not unknown, f"config.h has no {unknown}"
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    with open(harness.TREE / f"build/{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another pytest may want it at the same time
        subprocess.run(["make", "-s", "-j2", "-C", harness.TREE, f"BUILD=build/{name}", "CFLAGS=-O1 -g",
                        "OVER=build/main" if main_is_fresh() else "OVER=",
                        "OPTIONS=" + " ".join(f"'-D{k}={v}'" for k, v in options.items()),
                        *(f"build/{name}/{t}" for t in ("chasq", *tools))], check=True, env=env,
                       stdin=subprocess.DEVNULL)
    return harness.TREE / f"build/{name}/chasq"


@pytest.fixture(scope="session")
def short_build():
    """A chasq with short time limits, and a small journal."""
    text = (harness.TREE / "config.h").read_text()
    small = {k: v for k, v in SMALL_JOURNAL.items() if f"#ifndef {k}\n" in text}
    return special_build("short", {**SHORT, **smtpc_limits(), **small})


# The port at which sts_build asks for policies.
STS_PORT = 18443


@pytest.fixture(scope="session")
def sts_build():
    """A chasq, and beside it sts_try, that fetches policies from another port and gives up soon."""
    return special_build("sts", {**SHORT, "HTTPS_PORT": str(STS_PORT), "STS_FETCH_MS": "3000",
                                 "STS_RETRY_MS": "2000", "STS_REFRESH_MS": "3000"}, "sts_try")


@pytest.fixture(scope="session")
def spf_build():
    """A chasq that checks senders by SPF on loopback addresses too, and has less patience."""
    return special_build("spf", {"SPF_SKIP_LOOPBACK": "0", "SPF_TOTAL_MS": "5000", "CHASQ_STOP_MS": "1500"})


def preload(tmp_path_factory, name):
    """A library of tests/tools, to preload."""
    out = tmp_path_factory.mktemp("shim") / (name + ".so")
    subprocess.run([os.environ.get("CC", "cc"), "-std=c11", "-D_GNU_SOURCE", "-O2", "-fPIC", "-shared",
                    "-o", out, harness.TREE / f"tests/tools/{name}.c", "-ldl"], check=True)
    return out


@pytest.fixture(scope="session")
def crashshim(tmp_path_factory):
    return preload(tmp_path_factory, "crashshim")


@pytest.fixture(scope="session")
def allocshim(tmp_path_factory):
    return preload(tmp_path_factory, "allocshim")
