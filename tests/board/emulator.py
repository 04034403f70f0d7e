"""A MIPS router with 40 MB, of which Debian's kernel leaves 25: boots from memory, has a disk and a network card.

The root file system is an archive in memory: busybox, the kernel's modules for disk and card, and the chasq
under test. What lasts is on the disk: configuration, queue and mail, under /data.
"""

import contextlib
import gzip
import os
import pathlib
import re
import subprocess
import threading

from harness import wait_for

MEMORY_MB = 40  # with 36 the kernel does not come up, nor with 40 if it may choose its own place (nokaslr)
MODULES = ["ata_piix", "ext4", "pcnet32"]

INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /data /tmp /var/run /run
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
stty -echo clocal -F /dev/ttyS0
for m in %(modules)s; do insmod /lib/$m.ko; done
n=0
until [ -b /dev/sda ] || [ $n = 100 ]; do n=$((n + 1)); usleep 100000; done
mount -t ext4 -o data=ordered /dev/sda /data
ifconfig lo 127.0.0.1 up
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
hostname board.test
chown -R mail:mail /data/chasq/certs /data/queue /data/mail
chasq -c /data/chasq </dev/null >>/data/log 2>&1 &
echo $! >/run/chasq.pid
while :; do setsid cttyhack sh </dev/ttyS0 >/dev/ttyS0 2>&1; done
"""

PASSWD = "root:x:0:0:root:/:/bin/sh\nmail:x:8:8:mail:/data:/bin/sh\n"
GROUP = "root:x:0:\nmail:x:8:\n"


# ---- the root file system -----------------------------------------------------------------------


def _entry(number, name, mode, data=b""):
    fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def make_archive(files):
    """A cpio archive (newc) of {name: (mode, bytes)}, with the directories that they need."""
    out = []
    seen = set()
    for name, (mode, data) in files.items():
        for parent in reversed(pathlib.PurePath(name).parents):
            if str(parent) not in seen | {"."}:
                seen.add(str(parent))
                out.append(_entry(len(out) + 1, str(parent), 0o040755))
        out.append(_entry(len(out) + 1, name, 0o100000 | mode, data))
    return b"".join(out) + _entry(0, "TRAILER!!!", 0)


def modules_for(root, names):
    """The modules and what they depend on, in the order of loading."""
    files = {p.stem: p for p in root.glob("lib/modules/*/kernel/**/*.ko")}
    found = {}

    def add(name):
        if name in found:
            return
        data = files[name].read_bytes()
        needed = re.search(rb"\0depends=([^\0]*)\0", data)[1].decode()
        # ext4 asks for its checksum by name at mount time.
        for other in filter(None, needed.split(",") + (["crc32c_generic"] if name == "ext4" else [])):
            add(other.replace("-", "_") if other.replace("-", "_") in files else other)
        found[name] = data

    for name in names:
        add(name)
    return found


def make_root(board, chasq):
    modules = modules_for(board, MODULES)
    files = {
        "init": (0o755, (INIT % {"modules": " ".join(modules)}).encode()),
        "bin/busybox": (0o755, (board / "bin/busybox").read_bytes()),
        "sbin/chasq": (0o755, chasq.read_bytes()),
        "etc/passwd": (0o644, PASSWD.encode()),
        "etc/group": (0o644, GROUP.encode()),
        "etc/hosts": (0o644, b"127.0.0.1 localhost\n"),
    }
    files.update({f"lib/{name}.ko": (0o644, data) for name, data in modules.items()})
    return gzip.compress(make_archive(files))


def make_disk(path, tree, megabytes=64):
    """An ext4 image that holds what is under tree."""
    env = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", tree, path, f"{megabytes}M"], check=True, env=env,
                   stdout=subprocess.DEVNULL)


# ---- the machine --------------------------------------------------------------------------------


class Board:
    """Runs from start() to power_off(); `console` is all that it said since."""

    def __init__(self, kernel, root, disk, port):
        self.argv = ["qemu-system-mipsel", "-M", "malta", "-m", str(MEMORY_MB), "-nographic", "-vga", "none",
                     "-no-reboot", "-kernel", str(kernel), "-initrd", str(root),
                     "-append", "console=ttyS0 rdinit=/init panic=1 quiet nokaslr",
                     "-drive", f"file={disk},format=raw,if=ide",
                     "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{port}-:25",
                     "-device", "pcnet,netdev=net,romfile="]
        self.popen = None
        self.console = ""
        self.count = 0

    def start(self):
        self.console = ""
        self.popen = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT)
        threading.Thread(target=self._listen, args=(self.popen,), daemon=True).start()

    def _listen(self, popen):
        while data := os.read(popen.stdout.fileno(), 65536):
            self.console += data.decode("utf-8", "backslashreplace").replace("\r", "")

    def runs(self):
        return self.popen.poll() is None

    def sh(self, command, seconds=60):
        """What a command on the console prints."""
        self.count += 1
        wait_for(lambda: "built-in shell" in self.console or not self.runs(), seconds,
                 lambda: "a shell on the board: " + self.console, step=0.2)
        assert self.runs(), self.console
        mark = f"{self.count:06d}"
        self.popen.stdin.write(f"echo be'gin'{mark}; {command}; echo e'nd'{mark}\n".encode())
        self.popen.stdin.flush()
        found = wait_for(lambda: re.search(f"begin{mark}\n(.*?)end{mark}", self.console, re.S), seconds,
                         lambda: f"{command!r} on the board: {self.console[-3000:]}", step=0.1)
        return found[1]

    def power_off(self):
        """As if the plug were pulled: what was not on the disk is lost."""
        if self.popen:
            self.popen.kill()
            self.popen.wait()
            with contextlib.suppress(OSError):
                self.popen.stdin.close()
            self.popen = None
