"""A validating chain on loopback: Knot signs and serves, Unbound validates and answers chasq.

    d = Dnssec(box, {"signed.test": ["signed.test MX 10 mx.signed.test", "mx.signed.test A 127.0.0.2"],
                     "insecure.test": [...], "bogus.test": [...]},
               insecure={"insecure.test"}, bogus={"bogus.test"})
    d.server                                 # "127.0.0.1:PORT", Unbound, for dns_servers
    d.replace("signed.test", [...])          # returns when Unbound gives the new ones
    d.ask("signed.test", "MX")               # Answer(rcode, ad, count)

A record is "NAME TYPE DATA", names without the final dot; every TTL is 0, so nothing is cached. Zones
are signed and their keys are Unbound's trust anchors, but for those in `insecure`, which are not signed,
and those in `bogus`, of which Unbound is given an anchor that their signatures do not lead to.
"""

import collections
import os
import signal
import socket
import struct
import subprocess

from harness import free_port, wait_for
from peers import library_env, program

TYPES = {"A": 1, "CNAME": 5, "MX": 15, "TXT": 16, "AAAA": 28, "TLSA": 52}
FLAG_AD = 0x0020
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3

Answer = collections.namedtuple("Answer", "rcode ad count data")

KNOT_CONF = """
server:
  listen: {address}@{port}
  rundir: "{dir}"
  pidfile: "{dir}/knot.pid"
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
database:
  storage: "{dir}/db"
log:
  - target: stderr
    any: info
policy:
  - id: test
    manual: on
    single-type-signing: on
    algorithm: ECDSAP256SHA256
    dnskey-ttl: 0
    rrsig-lifetime: 10d
template:
  - id: default
    storage: "{dir}/zones"
    file: "%s.zone"
    zonefile-sync: -1
    zonefile-load: difference-no-serial
    journal-content: all
    journal-max-usage: 4M
    serial-policy: increment
zone:
"""

UNBOUND_CONF = """
server:
  verbosity: 1
  use-syslog: no
  logfile: ""
  directory: "{dir}"
  chroot: ""
  username: ""
  pidfile: ""
  do-daemonize: no
  num-threads: 1
  interface: {address}
  port: {port}
  access-control: 127.0.0.0/8 allow
  do-ip6: no
  do-not-query-localhost: no
  local-zone: "test." nodefault
  module-config: "validator iterator"
  cache-min-ttl: 0
  cache-max-ttl: 0
  cache-max-negative-ttl: 0
  val-bogus-ttl: 0
  infra-host-ttl: 0
  aggressive-nsec: no
  qname-minimisation: no
  val-log-level: 1
{anchors}
remote-control:
  control-enable: no
{stubs}
"""


def wire_name(name):
    return b"".join(bytes([len(p)]) + p.encode() for p in name.split(".") if p) + b"\0"


def ask(address, port, name, kind, want_ad=True, seconds=5):
    """Asks over UDP. The answer section is only counted, and kept as it is."""
    flags = 0x0100 | (FLAG_AD if want_ad else 0)
    query = struct.pack("!HHHHHH", 4711, flags, 1, 0, 0, 0) + wire_name(name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(seconds)
        s.connect((address, port))
        s.send(query + struct.pack("!HH", TYPES[kind], 1))
        got = s.recv(65535)
    flags, _, count = struct.unpack("!HHH", got[2:8])
    return Answer(flags & 15, bool(flags & FLAG_AD), count, got[len(query) + 4:])


class Dnssec:
    def __init__(self, box, zones, insecure=(), bogus=(), address="127.0.0.1"):
        self.address = address
        self.insecure = set(insecure)
        self.dir = box.dir("dnssec")
        self.serial = 0
        for name in ("db", "zones"):
            (self.dir / name).mkdir()
        self.knot_port = free_port(address)
        self.conf = self.dir / "knot.conf"
        text = KNOT_CONF.format(dir=self.dir, address=address, port=self.knot_port)
        for zone, records in zones.items():
            text += f"  - domain: {zone}\n"
            if zone not in self.insecure:
                text += "    dnssec-signing: on\n    dnssec-policy: test\n"
            self.write_zone(zone, records)
        self.conf.write_text(text)
        anchors = [a for zone in zones if zone not in self.insecure
                   for a in self.make_anchor(zone, zone in bogus)]
        self.knot = box.process([program("usr/sbin/knotd"), "-c", self.conf], "knotd",
                                env=library_env())
        self.wait_answer(self.knot, self.knot_port, {z: NOERROR for z in zones})
        self.start_unbound(box, zones, anchors)
        self.wait_answer(self.unbound, self.port,
                         {z: SERVFAIL if z in bogus else NOERROR for z in zones})

    def keymgr(self, *args):
        done = subprocess.run([program("usr/sbin/keymgr"), "-c", self.conf, *args], text=True,
                              capture_output=True, timeout=30, check=False,
                              env={**os.environ, **library_env()})
        assert done.returncode == 0, f"keymgr {args}: {done.stdout} {done.stderr}"
        return done.stdout

    def make_anchor(self, zone, wrong):
        """Makes the zone's key; the DS records that lead to it, or wrong ones."""
        self.keymgr(f"{zone}.", "generate", "algorithm=ECDSAP256SHA256", "ksk=yes", "zsk=yes")
        for line in self.keymgr(f"{zone}.", "ds").splitlines():
            head, digest = line.rsplit(None, 1)
            if wrong:
                digest = "".join("0123456789abcdef"[15 - int(c, 16)] for c in digest)
            yield f'  trust-anchor: "{head} {digest}"'

    def start_unbound(self, box, zones, anchors):
        self.port = free_port(self.address)
        conf = self.dir / "unbound.conf"
        conf.write_text(UNBOUND_CONF.format(
            dir=self.dir, address=self.address, port=self.port, anchors="\n".join(anchors),
            stubs="\n".join(f'stub-zone:\n  name: "{z}"\n  stub-addr: {self.address}@{self.knot_port}'
                            for z in zones)))
        self.unbound = box.process([program("usr/sbin/unbound"), "-d", "-p", "-c", conf], "unbound",
                                   env=library_env())

    def write_zone(self, zone, records):
        self.serial += 1
        lines = ["$TTL 0", f"{zone}. SOA ns.{zone}. root.{zone}. {self.serial} 3600 600 86400 0",
                 f"{zone}. NS ns.{zone}.", f"ns.{zone}. A 127.0.0.1",
                 f'serial.{zone}. TXT "{self.serial}"']
        for record in records:
            name, kind, data = record.split(None, 2)
            lines.append(f"{name}. {kind} {data}" + ("." if kind in ("MX", "CNAME") else ""))
        path = self.dir / "zones" / f"{zone}.zone"
        new = path.with_suffix(".new")
        new.write_text("\n".join(lines) + "\n")
        new.rename(path)
        return self.serial

    def wait_answer(self, process, port, zones):
        def ready():
            assert process.running(), "a name server ended at start:\n" + process.log()
            return all(ask(self.address, port, f"serial.{zone}", "TXT", seconds=1).rcode == rcode
                       for zone, rcode in zones.items())

        def patient():
            try:
                return ready()
            except OSError:
                return False

        wait_for(patient, 20, lambda: "the name servers to answer\n" + process.log())

    def replace(self, zone, records):
        """Gives a zone other records. Of a bogus zone there is nothing to be seen."""
        text = str(self.write_zone(zone, records)).encode()
        want = bytes([len(text)]) + text
        self.knot.kill(signal.SIGHUP)
        wait_for(lambda: self.ask(f"serial.{zone}", "TXT").data.endswith(want), 20,
                 lambda: "the new records\n" + self.knot.log()[-3000:])

    def ask(self, name, kind, **kwargs):
        return ask(self.address, self.port, name, kind, **kwargs)

    @property
    def server(self):
        return f"{self.address}:{self.port}"
