"""Small file systems for tests: ext4 in a file, tmpfs; filled, remounted read-only, cut off from power.

Needs root, loop devices and ext4 in the kernel; a test that asks for what the host lacks is skipped
with the reason. Everything is unmounted when the sandbox ends, whatever happened.
"""

import ctypes
import errno
import fcntl
import os
import shutil
import struct
import subprocess

import pytest

import harness

# _IOR('X', 125, __u32); without the flush of the log nothing is written but what a flush has seen.
EXT4_IOC_SHUTDOWN = 0x8004587D
SHUTDOWN_NOLOGFLUSH = 2

_libc = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_REMOUNT, MNT_DETACH = 1, 32, 2


def tool(name):
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not path:
        pytest.skip(f"there is no {name} here")
    return path


def run(*argv, ok=(0,)):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False)
    if done.returncode not in ok:
        raise OSError(f"{argv[0]}: {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


class Disk:
    """A mounted file system; `path` is where."""

    def __init__(self, box, name):
        if os.getuid() != 0:
            pytest.skip("mounting needs root")
        self.path = box.dir(name)
        self._fillers = 0
        box.on_stop(self.unmount)

    def mount(self):
        try:
            self._mount()
        except OSError as e:
            pytest.skip(f"cannot mount {type(self).__name__} here: {e}")
        return self

    def unmount(self):
        """Also when it is in use, or not mounted at all."""
        while os.path.ismount(self.path):
            if _libc.umount2(str(self.path).encode(), MNT_DETACH):
                break

    def read_only(self, on=True):
        if _libc.mount(b"none", str(self.path).encode(), None,
                       MS_REMOUNT | (MS_RDONLY if on else 0), None):
            raise OSError(ctypes.get_errno(), "remount")

    def fill(self, leave=0):
        """Takes all space but so many bytes. Returns a function that gives it back."""
        self._fillers += 1
        filler = self.path / f"filler.{self._fillers}"
        with open(filler, "wb", buffering=0) as f:
            size = 1 << 20
            while size >= 1024:
                v = os.statvfs(self.path)
                try:
                    if v.f_bavail * v.f_frsize - size < leave:
                        raise OSError(errno.ENOSPC, "enough")
                    f.write(b"\xaa" * size)
                    os.fsync(f.fileno())
                except OSError:
                    size //= 2
        return filler.unlink

    def fill_inodes(self):
        """Makes empty files until no more can be made. Returns a function that removes them."""
        self._fillers += 1
        made = self.path / f"filler.{self._fillers}"
        made.mkdir()
        try:
            for i in range(100000):
                (made / str(i)).touch()
        except OSError as e:
            assert e.errno == errno.ENOSPC, e
        else:
            raise AssertionError("inodes without end")
        return lambda: shutil.rmtree(made)


class Tmpfs(Disk):
    def __init__(self, box, size, name="tmpfs", inodes=1000):
        super().__init__(box, name)
        self.options = f"size={size},nr_inodes={inodes}".encode()
        self.mount()

    def _mount(self):
        if _libc.mount(b"none", str(self.path).encode(), b"tmpfs", 0, self.options):
            raise OSError(ctypes.get_errno(), "mount")


class Ext4(Disk):
    """ext4 with a journal, in an image file of so many MiB."""

    def __init__(self, box, mib, name="ext4", inodes=None):
        super().__init__(box, name)
        self.image = box.path / f"{name}.img"
        self._ups = 0
        with open(self.image, "wb") as f:
            f.truncate(mib << 20)
        more = ["-N", inodes] if inodes else []
        run(tool("mkfs.ext4"), "-q", "-F", "-J", "size=4" if mib >= 8 else "size=1", "-m", 0, *more,
            self.image)
        self.mount()

    def _mount(self):
        # Written to the image as it comes: what was flushed is there after the cut, the rest is not.
        run(tool("mount"), "-t", "ext4", "-o", "loop,errors=continue", self.image, self.path)

    def cut(self):
        """The power goes: what was not flushed is lost, every later call fails."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", SHUTDOWN_NOLOGFLUSH))
        except OSError as e:
            pytest.skip(f"ext4 cannot be shut down here: {e}")
        finally:
            os.close(fd)

    def _off(self):
        harness.wait_for(lambda: _libc.umount2(str(self.path).encode(), 0) == 0, 20,
                         f"{self.path} to be unmounted", 0.02)

    def power_up(self):
        """After cut(): the journal is played back, and the disk is as it was."""
        self._off()
        # A copy, since somebody's mount namespace may still hold the dead file system and with it the
        # loop device of the old one.
        self._ups += 1
        old, self.image = self.image, self.image.with_suffix(f".{self._ups}")
        run("cp", "--sparse=always", old, self.image)
        old.unlink()
        self._mount()

    def check(self):
        """Unmounts, checks, and mounts again: fails when the file system is damaged."""
        self._off()
        run(tool("e2fsck"), "-p", "-f", self.image, ok=(0, 1))
        self._mount()
