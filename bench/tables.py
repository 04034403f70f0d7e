"""The tables: each function measures one and prints it."""

import contextlib
import os
import pathlib
import re
import socket
import ssl
import statistics
import subprocess
import tempfile
import time

import servers
from servers import Missing

import certs
import harness
import report
from field import FAILURES, PATIENCE, REAL, SINK_STEP, Load, tree, tree_cpu, tree_pss_mb
from report import figure
from smtpclient import Client

SLOW_FLUSH_US = 5000
# Not sync_file_range: what it has written is durable only when one of these comes behind it.
# An io_submit of chasq is one flush, which the kernel makes.
FLUSHES = "fsync,fdatasync,syncfs,sync,msync,io_submit"
ALL = list(servers.ALL)
ONE_CORE = [n for n in ALL if n not in ("bare file", "bare syncfs", "bare none")]

RATE, CPU = ("messages a second", "rate", None, True), ("CPU seconds per 1000 messages", "cpu", None, False)
P50, P99 = ("ms to 250, half of them", "p50", None, False), ("ms to 250, 99 of 100", "p99", None, False)


def accepts(options):
    """The loads of the first table. At 100 sessions each server keeps the same number of messages."""
    return [Load("100 sessions kept", 100, count=options.held), Load("10 sessions kept", 10), Load("1 session", 1),
            Load("10 sessions, one message a connection", 10, one_each=True),
            Load("100 KB, 10 sessions", 10, 100 << 10), Load("5 MB, 10 sessions", 10, 5 << 20)]


PASS = [Load("1 KB, 10 sessions kept", 10), Load("100 KB, 10 sessions kept", 10, 100 << 10)]


def show(b, title, found, names, columns, peers=report.PEERS):
    report.races(found, names, [(f"{title}: {text}", *rest) for text, *rest in columns], peers)


# ---- throughput -----------------------------------------------------------------------------------


def accept(b):
    loads = accepts(b.options)
    found = [(load.text, b.race("accept", "accept", load, ALL)) for load in loads]
    show(b, "Durable accept", found, ALL, [RATE, CPU, P50, P99,
                                            ("refused for now, a run", "refused", None, None)], report.DURABLE)
    hundred, ten, one, _, _, big = (samples for _, samples in found)

    def rate(samples, peers=report.DURABLE):
        return report.ratio(samples, "rate", peers)

    g = b.goals
    g.least("accept, 100 sessions: times the best durable peer", rate(hundred), 8)
    g.least("accept, 100 sessions: of bare log", rate(hundred, ["bare log"]), 0.75)
    g.least("accept, 10 sessions: times the best durable peer", rate(ten), 5)
    g.least("accept, 1 session: times the best durable peer", rate(one), 2.5)
    g.least("accept, 5 MB: times the best durable peer", rate(big), 2.5)
    g.most("accept, 100 sessions: CPU, of the best durable peer's", report.ratio(hundred, "cpu", report.DURABLE, False),
           0.2)
    g.most("accept, 100 sessions: ms to 250, 99 of 100, of the best durable peer's",
           report.ratio(hundred, "p99", report.DURABLE, False), 1 / 12)


def pass_on(b, table, job, title, loads, names, columns, goal):
    found = [(load.text, b.race(table, job, load, names)) for load in loads]
    show(b, title, found, names, columns)
    for (text, samples), least in zip(found, goal):
        b.goals.least(f"{table}, {text}: times the best peer", report.ratio(samples, "rate", report.PEERS), least)
    return found


def relay(b):
    found = pass_on(b, "relay", "relay", "Relay, end to end", PASS, REAL,
                    [RATE, CPU, ("outgoing connections a message", "connections", None, False)], (4, 2))
    small = found[0][1]
    b.goals.most("relay, 1 KB: CPU, of the best peer's", report.ratio(small, "cpu", report.PEERS, False), 0.2)
    if small.get("chasq"):
        b.goals.most("relay, 1 KB: outgoing connections a message", report.median(small["chasq"], "connections"), 0.01)


def maildir(b):
    pass_on(b, "maildir", "maildir", "Maildir, accepted and delivered",
            [*PASS, Load("1 KB, 100 sessions kept", 100)], REAL, [RATE, CPU, P50], (3, 3))


def mda(b):
    pass_on(b, "mda", "mda", "Delivered by a program, procmail", PASS[:1], ["chasq", "Postfix"], [RATE, CPU], (1,))


def onecore(b):
    if os.cpu_count() < 2:
        b.leave_out("onecore", "all", "one core is all there is")
        return
    b.pin_server, b.pin_load = ["taskset", "-c", "0"], ["taskset", "-c", "1"]
    try:
        found = [(load.text, b.race("one core, accept", "accept", load, ONE_CORE)) for load in accepts(b.options)[:2]]
        show(b, "Server and load on a core each, accept", found, ONE_CORE, [RATE], report.DURABLE)
        found = [(load.text, b.race("one core, relay", "relay", load, REAL)) for load in PASS[:1]]
        show(b, "Server and load on a core each, relay", found, REAL, [RATE])
    finally:
        b.pin_server, b.pin_load = [], []


def only_flushes(trace):
    """argv of an strace around a server that stops at its flushes alone, and writes them to a file."""
    return [harness.shutil.which("strace") or "strace", "-f", "--seccomp-bpf", "-qq", "-o", trace,
            "-e", f"trace={FLUSHES}"]


def slow_flush(b):
    # The sandbox of a server must not mind being traced.
    with tempfile.TemporaryDirectory() as d:
        wrap = [*only_flushes(f"{d}/trace"), "-e", f"inject={FLUSHES}:delay_enter={SLOW_FLUSH_US}"]
        load = Load("100 sessions kept", 100)
        found = [(load.text, b.race("slow flush", "accept", load, [n for n in ALL if n != "bare none"], wrap=wrap))]
    show(b, f"Each flush takes {SLOW_FLUSH_US / 1000:.0f} ms more", found, ALL, [RATE, P50, P99], report.DURABLE)
    b.goals.least("accept, a flush of 5 ms: times the best durable peer",
                  report.ratio(found[0][1], "rate", report.DURABLE), 15)


# ---- one by one -----------------------------------------------------------------------------------


def count_calls(c, load, count):
    """(system calls, flushes) a message."""
    out = c.server.disk.base / "strace"
    c.measure(load, SINK_STEP)
    argv = ["strace", "-f", "-c", "-o", out]
    for pid in tree(c.server.pid):
        argv += ["-p", pid]
    tracer = c.server.disk.process(argv, "strace")
    harness.wait_for(lambda: "attached" in tracer.log(), 20, "strace to attach")
    c.measure(load, count)
    # strace ends with the last it traces; to let go of many threads can take it for ever.
    c.server.process.end()
    tracer.wait(60)
    line = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", re.M)
    calls = {m[2]: int(m[1]) for m in line.finditer(out.read_text())}
    calls.pop("total", None)
    return sum(calls.values()) / count, sum(calls.get(n, 0) for n in FLUSHES.split(",")) / count


def count_flushes(c, load, count, trace):
    """Flushes a message, at nearly full speed: no other call stops."""
    begun = re.compile(rf"\b(?:{FLUSHES.replace(',', '|')})\(")
    c.measure(load, SINK_STEP)
    before = len(begun.findall(trace.read_text()))
    c.measure(load, count)
    return (len(begun.findall(trace.read_text())) - before) / count


def syscalls(b):
    loads = accepts(b.options)
    rows = []
    for text, job, load, names in (("accept, 100 sessions", "accept", loads[0], ALL),
                                   ("accept, 10 sessions", "accept", loads[1], REAL),
                                   ("relay, 10 sessions", "relay", PASS[0], REAL),
                                   ("Maildir, 10 sessions", "maildir", PASS[0], REAL)):
        found = b.each("syscalls", job, names, lambda c, load=load: count_calls(c, load, b.options.counted))
        rows.append((text, {n: f"{figure(calls)}, {figure(flushes)}" for n, (calls, flushes) in found.items()}))
        if "chasq" in found and job in ("accept", "relay"):
            b.goals.most(f"system calls a message: {text}", found["chasq"][0], 50 if job == "relay" else 15)
    report.table("System calls a message, flushes a message", ALL, rows)
    # Servers that are stopped at each call have fewer messages ready when they flush.
    with tempfile.TemporaryDirectory() as d:
        trace = pathlib.Path(d) / "trace"
        found = b.each("flushes", "accept", ALL, lambda c: count_flushes(c, loads[0], b.options.held, trace),
                       wrap=[*only_flushes(trace), "-e", "signal=none"])
    report.table("Flushes a message, nothing else counted", ALL,
                 [("accept, 100 sessions", {n: figure(flushes) for n, flushes in found.items()})])
    if "chasq" in found:
        b.goals.most("flushes a message, 100 sessions", found["chasq"], 0.03)


def connect(c, number):
    client = Client(c.server.port, address=c.server.address, timeout=120,
                    source=f"127.0.1.{number % 20 + 1}")
    client.send("EHLO bench.test\r\n")
    client.read()
    return client


def starttls(client):
    client.cmd("STARTTLS", 220)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client.sock = context.wrap_socket(client.sock)
    client.buffer = b""
    client.send("EHLO bench.test\r\n")
    client.read()


def sessions_pss(c, prepare):
    """PSS in MB while 100 sessions are where prepare(client) brings them."""
    with contextlib.ExitStack() as stack:
        for i in range(100):
            client = connect(c, i)
            stack.callback(client.close)
            prepare(client)
        time.sleep(1)
        return tree_pss_mb(c.server.pid)


def into_data(client, to):
    client.cmd("MAIL FROM:<load@client.test>", 250)
    client.cmd(f"RCPT TO:<{to}>", 250)
    client.cmd("DATA", 354)
    line = b"X" * 72 + b"\r\n"
    for _ in range(10):
        client.sock.sendall(line * ((1 << 20) // len(line)))


@contextlib.contextmanager
def certificate(kind):
    """One for mx.test that every server may read."""
    with tempfile.TemporaryDirectory() as d:
        os.chmod(d, 0o755)
        cert = certs.make_cert(pathlib.Path(d), ["mx.test"], key=kind)
        for p in pathlib.Path(d).iterdir():
            p.chmod(0o644)
        yield cert


# So long nobody has asked a server that is called idle: it has just been probed whether it answers.
AT_REST_S = 3


def memory(b):
    found, tls = {}, {}

    def plain(c):
        time.sleep(AT_REST_S)
        found[c.name] = row = [tree_pss_mb(c.server.pid)]
        row.append(sessions_pss(c, lambda client: None))
        row.append(sessions_pss(c, lambda client: into_data(client, c.server.to)))

    def secured(c):
        time.sleep(AT_REST_S)
        tls[c.name] = row = [tree_pss_mb(c.server.pid)]
        row.append(sessions_pss(c, starttls))

    b.each("memory", "accept", [*REAL, "bare file"], plain)
    with certificate("ec") as cert:
        b.each("memory with TLS", "maildir", REAL, secured, cert=cert)
    rows = []
    for values, texts in ((found, ("idle", "100 idle sessions", "100 sessions, 10 MB into DATA")),
                          (tls, ("idle, with a certificate", "100 idle TLS sessions"))):
        for i, text in enumerate(texts):
            rows.append((text, {n: figure(v[i]) for n, v in values.items() if len(v) > i}))
    report.table("Memory: PSS of all processes, MB", ALL, rows)
    for values, i, text, goal in ((found, 0, "idle", 1), (found, 1, "100 idle sessions", 2),
                                  (found, 2, "100 sessions, 10 MB into DATA", 3), (tls, 0, "idle, with TLS", 2)):
        if len(values.get("chasq", [])) > i:
            b.goals.most(f"memory, MB: {text}", values["chasq"][i], goal)
    if len(tls.get("chasq", [])) > 1:
        b.goals.most("memory, KB: a TLS session", (tls["chasq"][1] - tls["chasq"][0]) * 1024 / 100, 45)


def kill_seconds(c):
    start = time.monotonic()
    c.server.kill()
    return time.monotonic() - start


def banner_seconds(c):
    start = time.monotonic()
    c.server.start_again()
    while True:
        with contextlib.suppress(OSError):
            with socket.create_connection((c.server.address, c.server.port), timeout=PATIENCE) as s:
                if s.recv(3) == b"220":
                    return time.monotonic() - start
        if time.monotonic() - start > PATIENCE:
            raise Missing(f"no banner within {PATIENCE} s")
        time.sleep(0.002)


# What a server puts off, in s: chasq makes messages files when they are so old.
PUT_OFF_S = {"chasq": 31}


def wait_until_quiet(c, seconds):
    """Until it has used next to nothing for a while; returns the share of a core that it used then."""
    end, cpu = time.monotonic() + seconds, 1.0
    while cpu > 0.02 and time.monotonic() < end:
        cpu = tree_cpu(c.server.pid)
        time.sleep(3)
        cpu = (tree_cpu(c.server.pid) - cpu) / 3
    return cpu


def full_queue(b, empty, c, count, row):
    """With so many messages that wait, beside one that has none; fills the row as far as it comes."""
    load, new = Load("", 10), 3 * b.options.counted
    row["messages"] = str(count)
    c.load(Load("", 100), count)
    row["s to be gone after kill -9"] = kill_seconds(c)
    row["s from the start to the banner"] = banner_seconds(c)
    if b.options.settle > 1:
        time.sleep(PUT_OFF_S.get(c.name, 0))
    row["CPU at idle, %"] = 100 * wait_until_quiet(c, b.options.settle)
    row["PSS, MB"] = tree_pss_mb(c.server.pid)
    rates = {empty: [], c: []}
    for _ in range(3 * b.options.rounds):
        for one, found in rates.items():
            found.append(one.measure(load, new)["rate"])
    row["new mail's rate, of the empty queue's"] = statistics.median(rates[c]) / statistics.median(rates[empty])


def queue(b):
    """Those that are slow at it have fewer messages: to fill 100,000 takes them minutes."""
    rows = {}
    for name in REAL:
        # They wait untried, as in `accept`, but for Postfix's, which have been deferred: its hold queue is
        # looked at by nobody.
        job = "relay" if name == "Postfix" else "accept"
        count = b.options.queued if name == "chasq" else min(b.options.queued, b.options.peers_queued)
        if name == "chasquid":
            b.leave_out("queue", name, "its queue has 200 places")
            continue
        with b.field("queue", job, [name, name], dead=True) as field:
            if len(field) < 2:
                continue
            rows[name] = {}
            try:
                full_queue(b, *field, count, rows[name])
            except FAILURES as e:
                b.leave_out("queue", name, e)
    texts = list(dict.fromkeys(t for r in rows.values() for t in r))
    report.table("A full queue", REAL,
                 [(t, {n: r[t] if t == "messages" else figure(r[t]) for n, r in rows.items() if t in r}) for t in texts])
    mine = rows.get("chasq", {})
    for text, goal, most in (("s from the start to the banner", 0.05, True), ("PSS, MB", 8, True),
                             ("CPU at idle, %", 0.5, True), ("new mail's rate, of the empty queue's", 0.98, False)):
        if text in mine:
            (b.goals.most if most else b.goals.least)(f"queue of {mine['messages']}: {text}", mine[text], goal)


def flash(b):
    load = Load("4 KB", 10, 4096)

    def written(c):
        count = b.options.counted * (1 if c.name == "OpenSMTPD" else 4) // SINK_STEP * SINK_STEP
        c.measure(load, SINK_STEP)
        before = c.server.disk.written()
        c.measure(load, count)
        return (c.server.disk.written() - before) / count / 1024

    found = b.each("flash", "relay", REAL, written)
    report.table("KB written to the device for a relayed message of 4 KB", REAL,
                 [("10 sessions", {n: figure(v) for n, v in found.items()})])
    if "chasq" in found and "Postfix" in found:
        b.goals.most("bytes written a relayed message, of Postfix's", found["chasq"] / found["Postfix"], 1 / 3)


# ---- TLS ------------------------------------------------------------------------------------------

CLIENTS = 3
MODES = (("-new", "full"), ("-reuse", "taken up again"))
KINDS = {"rsa": ("RSA-2048", "ECDHE-RSA-AES128-GCM-SHA256"), "ec": ("P-256", "ECDHE-ECDSA-AES128-GCM-SHA256")}


def handshakes(b, c, kind, mode):
    """One run of several openssl s_time side by side."""
    seconds = max(1, round(b.options.seconds))
    cpu, start = tree_cpu(c.server.pid), time.monotonic()
    argv = [*b.pin_load, "openssl", "s_time", "-connect", f"{c.server.address}:{c.server.tls_port}", mode, "-tls1_2",
            "-cipher", KINDS[kind][1], "-time", str(seconds)]
    clients = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
               for _ in range(CLIENTS)]
    count = 0
    for p in clients:
        done = re.findall(r"(\d+) connections in \d+ real seconds", p.communicate(timeout=PATIENCE)[0])
        count += int(done[-1]) if done else 0
    if not count:
        raise Missing("openssl s_time came to nothing")
    cpu = tree_cpu(c.server.pid) - cpu
    return {"rate": count / (time.monotonic() - start), "ms": 1000 * cpu / count}


def tls(b):
    """Server on one core, clients on another."""
    if os.cpu_count() > 1:
        b.pin_server, b.pin_load = ["taskset", "-c", "0"], ["taskset", "-c", "1"]
    rows, costs = [], {}
    try:
        for kind, (text, _) in KINDS.items():
            with certificate(kind) as cert, b.field(f"tls, {text}", "tls", list(servers.TLS), cert=cert) as field:
                # To take up a session again costs the same with each key.
                for mode, how in MODES[:1] if kind == "rsa" else MODES:
                    found = {}
                    for _ in range(min(b.options.rounds, 2)):
                        for c in field:
                            if mode == "-reuse" and c.name == "bare mbedTLS":
                                continue  # it keeps no sessions
                            try:
                                found.setdefault(c.name, []).append(handshakes(b, c, kind, mode))
                            except FAILURES as e:
                                b.leave_out(f"tls, {text}, {how}", c.name, e)
                    rows.append((f"{text}, {how}: a second", {n: report.cell(s, "rate") for n, s in found.items()}))
                    rows.append((f"{text}, {how}: ms of CPU", {n: report.cell(s, "ms") for n, s in found.items()}))
                    if mode == "-new":
                        costs[text] = report.ratio(found, "ms", ["bare mbedTLS"], False)
    finally:
        b.pin_server, b.pin_load = [], []
    report.table("TLS 1.2 handshakes, server and clients on a core each", list(servers.TLS), rows)
    for text, cost in costs.items():
        # The loop waits for its one client now and then, so CPU tells what a core can do.
        b.goals.most(f"CPU of a full handshake, {text}: of a bare mbedTLS loop's", cost, 1.1)
    if b.options.quick:
        return
    speed = subprocess.run(["openssl", "speed", "-seconds", "1", "rsa2048", "ecdsap256"], capture_output=True,
                           text=True, check=False).stdout
    for line in speed.splitlines():
        if re.match(r"\s*(rsa|256 bits ecdsa)\b.*\d$|.*sign/s", line):
            print("    " + line)


# ---- size -----------------------------------------------------------------------------------------


def size(b):
    """Bytes of programs and of the libraries that they need beyond libc and its loader."""
    def libraries(program, env):
        told = subprocess.run(["ldd", str(program)], capture_output=True, text=True, env=env, check=False).stdout
        paths = {pathlib.Path(p).resolve() for p in re.findall(r"(/\S+) \(0x", told)}
        return sum(p.stat().st_size for p in paths
                   if p.exists() and not re.match(r"(libc|ld-linux.*|libm|libpthread|libdl)[-.]", p.name))

    rows = ("program, KB", "libraries beyond libc, KB")
    cells = [{}, {}]
    for name, programs, env in servers.programs(b.options.chasq):
        if name not in b.names or not programs:
            continue
        total = 0
        for p in programs:
            with tempfile.TemporaryDirectory() as d:
                subprocess.run(["strip", "-o", f"{d}/stripped", str(p)], check=False, capture_output=True)
                stripped = pathlib.Path(d, "stripped")
                total += (stripped if stripped.exists() else p).stat().st_size
        cells[0][name] = figure(total / 1024)
        cells[1][name] = figure(max(libraries(p, env) for p in programs) / 1024)
        if name == "chasq":
            b.goals.most("stripped program, KB", total / 1024, 200)
    report.table("Size", ALL, list(zip(rows, cells)))


# Should the time run out: last are those that a busy machine does not disturb.
TABLES = {"accept": accept, "relay": relay, "maildir": maildir, "slow-flush": slow_flush, "queue": queue, "tls": tls,
          "onecore": onecore, "mda": mda, "size": size, "flash": flash, "syscalls": syscalls, "memory": memory}
