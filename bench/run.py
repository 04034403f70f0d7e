#!/usr/bin/python3
"""Mail servers side by side on this machine: `bench/run.py [TABLE...]`, as root.

Prints Markdown: the tables named, or all. Every server of a table runs at the same time as the others,
each on a fresh ext4 of its own; they are measured in turns, as many rounds as --rounds says, and a cell
is the median of its rounds with the least and the most in brackets. `bare` is bench/bare.c. A server
that cannot take part is left out by name, with the reason. docs/PERFORMANCE.md says how to read it."""

import argparse
import os
import pathlib
import platform
import re
import signal
import sys
import time

import servers
import tables
from field import Bench

QUICK = {"rounds": 1, "seconds": 0.2, "held": 200, "queued": 500, "peers_queued": 200, "settle": 1, "counted": 100}
USUAL = {"rounds": 3, "seconds": 1.2, "held": 10000, "queued": 100000, "peers_queued": 10000, "settle": 30,
         "counted": 500}


def print_head(options):
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    print("    " + " ".join(["bench/run.py", *sys.argv[1:]]))
    print(f"\n{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, Linux {platform.release()}, "
          f"{os.cpu_count()} x {cpu[1] if cpu else platform.machine()}; load average at the start "
          f"{os.getloadavg()[0]:.1f}; {options.rounds} rounds of about {options.seconds:g} s.\n")
    for name, text in servers.versions(options.chasq).items():
        print(f"- {name} {text}")
    sys.stdout.flush()


def parse():
    p = argparse.ArgumentParser(description="Mail servers side by side.",
                                epilog="Tables: " + ", ".join(tables.TABLES))
    p.add_argument("tables", nargs="*", metavar="TABLE", help="all by default")
    p.add_argument("--chasq", type=pathlib.Path, default=servers.TREE / "build/main/chasq",
                   help="the program")
    p.add_argument("--servers", nargs="+", choices=[*servers.ALL, "bare mbedTLS", "openssl s_server"],
                   help="only these")
    p.add_argument("--rows", nargs="+", default=[""], help="of the races, only those with one of these texts")
    p.add_argument("--quick", action="store_true", help="tiny counts: does it all work?")
    p.add_argument("--budget", type=float, default=0, help="seconds after which nothing new is begun; 0: none")
    p.add_argument("--rounds", type=int)
    p.add_argument("--seconds", type=float, help="about what a run takes")
    p.add_argument("--held", type=int, help="messages of a run with 100 sessions")
    p.add_argument("--queued", type=int, help="messages of the table queue")
    p.add_argument("--peers-queued", type=int, help="the most of them for other servers than chasq")
    p.add_argument("--settle", type=float, help="seconds at most before it counts as idle")
    p.add_argument("--counted", type=int, help="messages where calls or bytes are counted")
    options = p.parse_args()
    for name, value in (QUICK if options.quick else USUAL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    unknown = [t for t in options.tables if t not in tables.TABLES]
    if unknown:
        p.error(f"no such table: {', '.join(unknown)}; there are {', '.join(tables.TABLES)}")
    return options


def main():
    options = parse()
    if os.getuid() != 0:
        sys.exit("must be root: loop devices, Postfix's master, Exim's user")
    if not options.chasq.exists():
        sys.exit(f"{options.chasq} is missing: make BUILD=build/main build/main/chasq")
    # Ended from outside, it still puts everything away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    servers.build()
    print_head(options)
    b = Bench(options)
    start = time.monotonic()
    for name in options.tables or tables.TABLES:
        begun = time.monotonic()
        if b.is_over():
            b.leave_out(name, "all", "the time that was given is over")
            continue
        tables.TABLES[name](b)
        print(f"({name}: {time.monotonic() - begun:.0f} s)", file=sys.stderr, flush=True)
    b.goals.print()
    print(f"\nIt took {time.monotonic() - start:.0f} s.")
    if b.left_out:
        print("\nLeft out: " + "; ".join(f"{k}: {v}" for k, v in b.left_out.items()) + ".")


if __name__ == "__main__":
    main()
