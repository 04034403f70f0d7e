"""Growing past one board, on a private internet of network namespaces: a primary that keeps mail in two Dovecots
by LMTP, two secondaries that hold mail for it, one Prometheus over all three; the primary dies under load.

    10.77.0.1        the world: who sends, dnsmasq, Prometheus
    10.77.0.11       mx1.here.test, MX 10
    10.77.0.12, .13  mx2 and mx3.here.test, MX 20 and 30
    10.77.0.21, .22  Dovecot, both as lmtp.here.test, on one mail store
"""

import collections
import itertools
import json
import re
import signal
import socket
import struct
import threading
import time

import pytest

from dnssec import wire_name
from dovecot import Dovecot
from harness import wait_for
from netns import Network
from smtpclient import Client, Closed, Crowd
from test_metrics import Prometheus

WORLD = "10.77.0.1"
MX = {"mx1": "10.77.0.11", "mx2": "10.77.0.12", "mx3": "10.77.0.13"}
STORES = ["10.77.0.21", "10.77.0.22"]
USERS = ["anna", "ben", "carl"]
MONITOR = 1099


# ---- the world ------------------------------------------------------------------------------------


def read_name(answer, at):
    """(the name, where it ends) in a DNS answer."""
    labels = []
    while answer[at]:
        if answer[at] >= 0xC0:
            rest = read_name(answer, struct.unpack("!H", answer[at:at + 2])[0] & 0x3FFF)[0]
            return ".".join([*labels, rest]), at + 2
        labels.append(answer[at + 1:at + 1 + answer[at]].decode())
        at += 1 + answer[at]
    return ".".join(labels), at + 1


def mail_hosts(dns, domain):
    """The domain's MX hosts in the order of preference, as dnsmasq has them."""
    question = struct.pack("!HHHHHH", 1, 0x0100, 1, 0, 0, 0) + wire_name(domain) + struct.pack("!HH", 15, 1)
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.connect((dns.address, dns.port))
        s.send(question)
        answer = s.recv(4096)
    found, at = [], len(question)
    for _ in range(struct.unpack("!H", answer[6:8])[0]):
        _, at = read_name(answer, at)
        size, preference = struct.unpack("!HH", answer[at + 8:at + 12])
        found.append((preference, read_name(answer, at + 12)[0]))
        at += 10 + size
    return [host for _, host in sorted(found)]


class World(Crowd):
    """Senders who go through hosts in order until one has said 250, and then send the next message. What was
    sent without an answer goes to the next host under the same name, as any server would do it."""

    patience = 40

    def __init__(self, hub):
        self.hub = hub
        self.lock = threading.Lock()
        self.acknowledged = {}  # name of a message: the host that took it
        self.cut = set()  # sent at least in part to a host that did not answer any more
        self.errors = []
        self.over = threading.Event()
        self.threads = []

    def add(self, count, *hosts):
        for _ in range(count):
            self.threads.append(threading.Thread(target=self.run, args=(len(self.threads), hosts)))

    def run(self, number, hosts):
        with self.hub:
            try:
                for turn in itertools.count():
                    if self.over.is_set():
                        return
                    self.one(f"m{number}-{turn}x", USERS[(number + turn) % len(USERS)], hosts)
                    self.over.wait(0.05)
            except Exception as error:
                self.errors.append(f"{number}: {error!r}")

    def one(self, name, user, hosts):
        end = time.monotonic() + 30
        for host in itertools.cycle(hosts):
            assert time.monotonic() < end, f"nobody takes {name}"
            try:
                with Client(25, MX[host.split(".")[0]], timeout=20) as client:
                    client.hello("client.test")
                    client.cmd("MAIL FROM:<a@client.test>", 250)
                    client.cmd(f"RCPT TO:<{user}@here.test>", 250)
                    client.cmd("DATA", 354)
                    try:
                        client.send(f"Subject: {name}\r\n\r\n".encode() + b"text\r\n" * 30 + b".\r\n")
                        reply = client.read()
                    except (OSError, Closed):
                        with self.lock:
                            self.cut.add(name)
                        continue
                    assert reply.code == 250, reply
                    with self.lock:
                        self.acknowledged[name] = host
                    return
            except (OSError, Closed):
                time.sleep(0.02)

    def count(self, *hosts):
        """How many messages these hosts have taken."""
        with self.lock:
            return sum(1 for host in self.acknowledged.values() if host.split(".")[0] in hosts)


# ---- ours -----------------------------------------------------------------------------------------


@pytest.fixture
def net(box):
    network = Network()
    box.on_stop(network.close)
    return network


class Site:
    def __init__(self, box, chasq, dnsmasq, net):
        self.net = net
        self.places = {name: net.host(address) for name, address in MX.items()}
        self.stores = []
        for address in STORES:
            with net.host(address):
                store = Dovecot(box, {f"{u}@here.test": "x" for u in USERS}, lmtp=True, address=address, port=24,
                                mail=self.stores[0][1].mail if self.stores else None)
                self.stores.append((net.hosts[-1], store.start()))
        self.mail = self.stores[0][1].mail
        with net.hub:
            self.dns = dnsmasq(
                address=WORLD, mx={"here.test": [(10 * i, f"{n}.here.test") for i, n in enumerate(MX, 1)]},
                hosts={**{f"{n}.here.test": [a] for n, a in MX.items()}, "lmtp.here.test": STORES},
                extra=[f"--txt-record=client.test,v=spf1 ip4:{WORLD} -all"])
        self.mx = {}
        for name, address in MX.items():
            conf = {"hostname": f"{name}.here.test", "dns_servers": self.dns.server, "log_level": "debug",
                    "monitoring_address": f"{address}:{MONITOR}", "monitoring_password_file": "monitoring"}
            if name == "mx1":
                # What the secondaries bring has been judged there: SPF knows nothing of them.
                conf.update({"lmtp_address": "lmtp.here.test:24",
                             "trusted_network": [MX["mx2"], MX["mx3"]]})
                domain = {"users": USERS}
            else:
                # They know who there is, so what the primary would refuse is refused at once.
                domain = {"aliases": "".join(f"{u}: {u}@here.test via mx1.here.test\n" for u in USERS)}
            with self.places[name]:
                c = chasq(name, start=False, address=address, port=25, conf=conf, domains={"here.test": domain})
                (c.dir / "monitoring").write_text("prometheus:secret\n")
                (c.dir / "monitoring").chmod(0o600)
                self.mx[name] = c.start()

    def start(self, name):
        with self.places[name]:
            self.mx[name].start()

    def in_queue(self, *names):
        """Names of the messages that wait there."""
        texts = b"".join(text for name in names for text in self.mx[name].texts().values())
        return {f.decode() for f in re.findall(rb"Subject: (m\d+-\d+x)", texts)}

    def delivered(self):
        """How often each message is in the mail store."""
        counts = collections.Counter()
        for user in USERS:
            for path in (self.mail / "here.test" / user / "new").glob("*"):
                counts[re.search(rb"^Subject: (m\d+-\d+x)", path.read_bytes(), re.M)[1].decode()] += 1
        return counts

    def total(self):
        return sum(1 for _ in self.mail.glob("here.test/*/new/*"))

    def stop_primary(self, sig):
        self.mx["mx1"].process.kill(sig)


# ---- the test ---------------------------------------------------------------------------------------


def test_three_servers_one_of_them_dies(box, chasq, dnsmasq, net):
    site = Site(box, chasq, dnsmasq, net)
    up = {name: f'up{{instance="{address}:{MONITOR}"}}' for name, address in MX.items()}
    world = World(net.hub)
    with net.hub:
        prometheus = Prometheus(box, [f"{address}:{MONITOR}" for address in MX.values()],
                                basic_auth={"username": "prometheus", "password": "secret"})
        hosts = mail_hosts(site.dns, "here.test")
        for name in MX:
            prometheus.wait_value(up[name], [1.0])
        for address in MX.values():
            with Client(25, address) as client:
                client.hello("client.test")
                client.cmd("MAIL FROM:<a@client.test>", 250)
                client.cmd("RCPT TO:<nobody@here.test>", 550)
    assert hosts == ["mx1.here.test", "mx2.here.test", "mx3.here.test"]

    world.add(8, *hosts)
    # Some of the world always goes to secondaries, hoping for less care there.
    world.add(2, "mx2")
    world.add(2, "mx3")
    forced = set()
    with world:
        wait_for(lambda: world.count("mx1") >= 50 and site.total() >= 60, 30, "the first messages")
        assert site.delivered().keys() & {n for n, h in world.acknowledged.items() if h == "mx2"}

        # One of the stores dies: LMTP goes to the other. What was on its way may come twice.
        site.stop_primary(signal.SIGSTOP)
        used = [site.mx["mx1"].log().count(f"lmtp.here.test [{address}]:24") for address in STORES]
        place, store = site.stores[used.index(max(used))]
        assert max(used) > 20, used
        forced |= site.in_queue("mx1")
        store.process.end()
        before = site.total()
        site.stop_primary(signal.SIGCONT)
        wait_for(lambda: site.total() >= before + 100, 30, "messages at the other store")
        with place:
            store.start()

        # The primary dies. What it had in its queue may be delivered already, and what it was just
        # given may be in its queue without anybody having been told.
        site.stop_primary(signal.SIGSTOP)
        forced |= site.in_queue("mx1", "mx2", "mx3")
        taken = {name: world.count(name) for name in MX}
        site.mx["mx1"].kill()
        with net.hub:
            prometheus.wait_value(up["mx1"], [0.0])
            assert prometheus.query("sum(up)") == [2.0]
        wait_for(lambda: world.count("mx2") >= taken["mx2"] + 60 and world.count("mx3") >= taken["mx3"] + 10, 30,
                 "the secondaries to take over")
        waiting = {name: len(site.mx[name].queued()) for name in ("mx2", "mx3")}
        assert waiting["mx2"] > 40 and waiting["mx3"] > 5
        with net.hub:
            prometheus.wait_value(f'chasq_queue_length{{instance="{MX["mx2"]}:{MONITOR}"}} > bool 40', [1.0])

        site.start("mx1")
        with net.hub:
            prometheus.wait_value(up["mx1"], [1.0])
        back = world.count("mx1")
        wait_for(lambda: world.count("mx1") >= back + 30, 30, "the primary to be the first again")
    assert not world.errors, world.errors[:5]
    # Who goes by preference never needed the third.
    assert {h for h in world.acknowledged.values()} == {"mx1.here.test", "mx2.here.test", "mx2", "mx3"}

    # The primary may have a message that the store left it with.
    for name, c in site.mx.items():
        assert c.queued() or name == "mx1", f"{name} has tried by itself: the flush would show nothing"
        done = c.run("flush", "-C", c.dir)
        assert done.returncode == 0, done.stderr
    for name in ("mx2", "mx3", "mx1"):
        wait_for(lambda c=site.mx[name]: not c.queued(), 60, lambda n=name: (
            f"{n}'s queue to drain\n" + site.mx[n].run("queue", "-C", site.mx[n].dir).stdout.decode()[:3000]), 0.1)

    counts = site.delivered()
    lost = world.acknowledged.keys() - counts.keys()
    doubled = {name for name, n in counts.items() if n > 1}
    print(json.dumps({"acknowledged": len(world.acknowledged), "delivered": sum(counts.values()),
                      "doubled": len(doubled), "may be doubled": len(forced | world.cut), "waited": waiting,
                      "by": collections.Counter(world.acknowledged.values())}))
    assert not lost, f"{len(lost)} lost, such as {sorted(lost)[:5]}"
    assert counts.keys() == world.acknowledged.keys()
    assert doubled <= forced | world.cut, f"doubled without need: {sorted(doubled - forced - world.cut)[:5]}"
    # The sender's address has come through all of it.
    assert b"Return-Path: <a@client.test>" in site.stores[0][1].messages("anna")[0]
    with net.hub:
        for name in MX:
            prometheus.wait_value(f'chasq_queue_length{{instance="{MX[name]}:{MONITOR}"}}', [0.0])
