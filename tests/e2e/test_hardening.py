"""What the compiler and linker did against attacks, seen in the program itself."""

import re
import shutil
import subprocess

import pytest

import harness

CROSS = "arm-linux-gnueabihf-gcc"


def readelf(*args):
    return subprocess.run(["readelf", "-W", *map(str, args)], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def program():
    """As users build it: without sanitizers, which would hide what is looked for."""
    path = harness.TREE / "build/main/chasq"
    if not path.exists():
        path = harness.fast_binary()
    if "libasan" in readelf("-d", path):
        pytest.skip("there is no chasq but one with sanitizers")
    return path


def test_segments(program):
    headers = readelf("-l", program)
    rows = re.findall(r"^  (\w+) +(?:0x\w+ ){4,5}0x\w+ ([RWE ]{3}) ", headers, re.M)
    flags = {}
    for kind, rights in rows:
        flags.setdefault(kind, []).append(rights)
    assert len(flags["LOAD"]) >= 3 and "R E" in flags["LOAD"]
    assert not any("W" in f and "E" in f for all_of in flags.values() for f in all_of), flags
    assert flags["GNU_STACK"] == ["RW "]
    assert len(flags["GNU_RELRO"]) == 1


def test_dynamic_section(program):
    dynamic = readelf("-d", program)
    assert "BIND_NOW" in dynamic and re.search(r"FLAGS_1\).*NOW PIE|FLAGS_1\).*PIE", dynamic)
    assert re.search(r"Type: +DYN", readelf("-h", program))
    for never in ("TEXTREL", "RPATH", "RUNPATH"):
        assert never not in dynamic


def test_checks_are_compiled_in(program):
    symbols = readelf("--dyn-syms", program)
    assert "__stack_chk_fail" in symbols
    fortified = set(re.findall(r" (__\w+_chk)\b", symbols)) - {"__stack_chk_fail"}
    assert {"__snprintf_chk", "__vsnprintf_chk"} <= fortified, fortified
    # strcpy may be the compiler's own, for a constant that fits; lint knows the sources.
    assert not re.search(r" (sprintf|vsprintf|strcat|gets)@", symbols)
    # No tables for unwinding, but those of the C library's own start.
    assert int(re.search(r" \.eh_frame +PROGBITS +\w+ \w+ (\w+)", readelf("-S", program))[1], 16) < 1000
    if re.search(r"Machine: .*X86-64", readelf("-h", program)):
        code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", program], capture_output=True, text=True,
                              check=True).stdout
        assert code.count("endbr64") > 500


def compile_line(*args):
    """The command that makes an object, as make would run it."""
    out = subprocess.run(["make", "-n", "-C", harness.TREE, "BUILD=build/hardening", *args, "build/hardening/buf.o"],
                         capture_output=True, text=True, check=True).stdout
    return [line for line in out.splitlines() if " -c -o build/hardening/buf.o" in line][0]


@pytest.mark.parametrize("args, there, not_there", [
    (("CFLAGS=-O2 -g",), ["-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=", "-fstack-clash-protection"], []),
    (("CFLAGS=-Os",), ["-D_FORTIFY_SOURCE="], []),
    (("CFLAGS=-O0 -g",), ["-fstack-protector-strong"], ["_FORTIFY_SOURCE"]),
    (("CFLAGS=",), ["-fPIE"], ["_FORTIFY_SOURCE"]),
    (("CFLAGS=-O1 -fsanitize=address",), ["-fstack-protector-strong"], ["_FORTIFY_SOURCE"]),
    # A distribution's own word stands.
    (("CFLAGS=-D_FORTIFY_SOURCE=2 -O2",), ["-D_FORTIFY_SOURCE=2"], ["-U_FORTIFY_SOURCE", "SOURCE=3"]),
    (("CC=clang", "CFLAGS=-O2"), ["-D_FORTIFY_SOURCE="], []),
    # Where a clash of the stack is checked for by imitation only, frames are small instead.
    ((f"CC={CROSS}", "CFLAGS=-O2"), ["-Wframe-larger-than=", "-D_FORTIFY_SOURCE="],
     ["-fcf-protection", "-fstack-clash-protection"]),
    # No such compiler, or none with a library for its machine: what every compiler has.
    (("CC=clang --target=aarch64-linux-gnu", "CFLAGS=-O2"), ["-fstack-protector-strong"], ["-fcf-protection"]),
])
def test_flags_fit_the_compiler(args, there, not_there):
    line = compile_line(*args)
    for flag in there:
        assert flag in line, line
    for flag in not_there:
        assert flag not in line, line


@pytest.mark.skipif(not shutil.which(CROSS), reason="there is no compiler for armhf")
def test_cross_compiled(tmp_path):
    """The flags chosen for a foreign machine are such that its compiler takes them."""
    line = compile_line(f"CC={CROSS}", "CFLAGS=-O2 -Werror")
    command = line.replace("build/hardening/buf.o", str(tmp_path / "buf.o"))
    done = subprocess.run(["sh", "-c", command], cwd=harness.TREE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    symbols = readelf("-s", tmp_path / "buf.o")
    assert "__vsnprintf_chk" in symbols and "__stack_chk_fail" in symbols
