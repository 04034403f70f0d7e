"""addr against published data: UTS 46's IdnaTestV2.txt, and each code point of Unicode by RFC 8264.

Where addr differs, a rule here says why: stricter by IDNA2008 and PRECIS, or by intention. What no
rule explains fails. -s shows the figures.
"""

import collections
import re
import subprocess
import unicodedata

import pytest

import harness

ROOT = harness.TREE / "build/peers/root/usr/share"
AGES = "/usr/share/unicode/DerivedAge.txt"

# RFC 5892 2.6 and RFC 8264 9.6: exceptions to what the properties say.
PVALID = {0xDF, 0x3C2, 0x6FD, 0x6FE, 0xF0B, 0x3007}
CONTEXT = {0xB7, 0x375, 0x5F3, 0x5F4, 0x30FB, 0x200C, 0x200D,
           *range(0x660, 0x66A), *range(0x6F0, 0x6FA)}
NEVER = {0x640, 0x7FA, 0x302E, 0x302F, *range(0x3031, 0x3036), 0x303B}
IGNORABLE = {0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810),
             *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0x3164,
             *range(0xFE00, 0xFE10), 0xFEFF, 0xFFA0, *range(0xFFF0, 0xFFF9),
             *range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B), *range(0xE0000, 0xE1000)}
OLD_HANGUL = {*range(0x1100, 0x1200), *range(0xA960, 0xA97D), *range(0xD7B0, 0xD7FC)}
IGNORABLE_BLOCKS = {*range(0x20D0, 0x2100), *range(0x1D100, 0x1D250)}
LETTERS_DIGITS = {"Ll", "Lu", "Lo", "Nd", "Lm", "Mn", "Mc"}


def common(c):
    """What the two derivations have in common: a verdict, or None."""
    n = ord(c)
    if n in PVALID:
        return "valid"
    if n in CONTEXT:
        return "context"
    if n in NEVER or n in IGNORABLE or n in OLD_HANGUL or n & 0xFFFE == 0xFFFE:
        return "disallowed"
    if unicodedata.category(c) == "Cn":
        return "unassigned"
    return None


def idna2008(c):
    """The derived property of RFC 5892 3."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", c).casefold())
    if c in "abcdefghijklmnopqrstuvwxyz0123456789-":
        return "valid"
    if common(c):
        return common(c)
    if folded != c or ord(c) in IGNORABLE_BLOCKS:
        return "disallowed"
    return "valid" if unicodedata.category(c) in LETTERS_DIGITS else "disallowed"


def precis(c):
    """The derived property of RFC 8264 8 for the IdentifierClass."""
    if common(c):
        return common(c)
    if 0x21 <= ord(c) <= 0x7E:
        return "valid"
    if unicodedata.normalize("NFKC", c) != c:
        return "disallowed"
    return "valid" if unicodedata.category(c) in LETTERS_DIGITS else "disallowed"


def username(s):
    """UsernameCaseMapped of RFC 8265 3.3, without the classes and the Bidi rule."""
    def narrow(c):
        kind, _, rest = unicodedata.decomposition(c).partition(" ")
        return "".join(chr(int(x, 16)) for x in rest.split()) if kind in (
            "<wide>", "<narrow>") else c

    return unicodedata.normalize("NFC", "".join(map(narrow, s)).lower())


def hexed(s):
    return s.encode("utf-8", "surrogatepass").hex()


class Addr:
    def __init__(self, path):
        self.tool = path / "addr_try"
        # Without sanitizers: unit tests and fuzzer have them, this is a matter of millions.
        subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-O1", "-I.",
                        "tests/tools/addr_try.c", "addr.c", "addr_idn.c", "status.c", "buf.c", "bytes.c",
                        "-lidn2", "-o", str(self.tool)], cwd=harness.TREE, check=True)

    def ask(self, kind, names):
        """For each name a list of strings, or None where it is refused."""
        text = "".join(f"{kind} {hexed(n)}\n" for n in names)
        p = subprocess.run([self.tool], input=text, capture_output=True, text=True, timeout=300,
                           check=True)
        answers = p.stdout.splitlines()
        assert len(answers) == len(names)
        return [None if a == "-" else [bytes.fromhex(x).decode() for x in a.split()]
                for a in answers]


@pytest.fixture(scope="module")
def addr(tmp_path_factory):
    return Addr(tmp_path_factory.mktemp("addr"))


def report(title, counts):
    print(f"\n{title}: {sum(counts.values())}")
    for what, n in counts.most_common():
        print(f"  {n:7} {what}")


# ---- IdnaTestV2.txt -----------------------------------------------------------------------------


def unescape(s):
    return re.sub(r"\\u([0-9A-Fa-f]{4})|\\x\{([0-9A-Fa-f]+)\}",
                  lambda m: chr(int(m[1] or m[2], 16)), s.strip(" \t\n"))


def idna_lines():
    """(source, toUnicode, toAsciiN, the status codes of both) of each line."""
    files = sorted(ROOT.glob("cargo/registry/idna-*/tests/IdnaTestV2.txt"))
    assert files, "no IdnaTestV2.txt: run tests/deps.sh test"
    for line in files[0].read_text("utf-8").split("\n"):
        fields = line.split("#")[0]
        if not fields.strip():
            continue
        source, to_u, st_u, to_a, st_a = map(unescape, fields.split(";")[:5])
        to_u = to_u or source
        st_a = st_a or st_u
        yield source, to_u, to_a or to_u, set(re.findall(r"\w+", st_u + " " + st_a))


def why_refused(unicode):
    """Why a name is refused that UTS 46 takes."""
    bad = {idna2008(c) for c in unicode if c != "."} - {"valid", "context"}
    return f"stricter: {bad.pop()} by IDNA2008" if bad else None


def why_taken(unicode, status):
    """Why a name is taken that UTS 46 refuses."""
    labels = unicode.split(".")
    if status <= {"V2", "V3"} and all(x.isascii() for x in labels if x[2:4] == "--"):
        return "looser: hyphens in third and fourth place of an ASCII label"
    if status == {"B6"} and any(unicodedata.bidirectional(x[-1]) == "ON" for x in labels):
        return "looser: beside right to left, a label ends in a modifier letter"
    return None


def test_idna_test_v2(addr):
    lines = list(idna_lines())
    counts = collections.Counter()
    odd = []
    for (source, to_u, to_a, status), got in zip(lines, addr.ask("d", [x[0] for x in lines])):
        if not status and got:
            # The name of the root is dropped.
            same = got == [to_u.removesuffix("."), to_a.removesuffix(".")]
            why = "the same names" if same else None
        elif not status:
            why = why_refused(to_u)
        elif got:
            why = why_taken(to_u, status)
        else:
            why = "refused by both"
        counts[why] += 1
        if not why:
            odd.append((ascii(source), ascii(to_u), to_a, status, got))
    report("IdnaTestV2", counts)
    assert not odd, odd[:20]
    assert len(lines) > 6000 and counts["the same names"] > 300


# ---- all of Unicode -----------------------------------------------------------------------------

# UTS 46 has no mapping for these capitals and ideographs (up to Unicode 15: disallowed, as they
# were mapped differently in IDNA2003).
UNMAPPED = {0x4C0, *range(0x10A0, 0x10C6), 0x2132, 0x2183,
            0x2F868, 0x2F874, 0x2F91F, 0x2F95F, 0x2F9BF}


def code_points():
    """All that have a meaning, and of the rest the ends of the planes."""
    for n in range(0x80, 0x110000):
        if 0xD800 <= n < 0xE000:
            continue
        if unicodedata.category(chr(n)) not in ("Cn", "Co") or n & 0xFFFF < 0x100 \
                or n & 0xFFFF >= 0xFF00 or n < 0x20000:
            yield chr(n)


def ages():
    """The version of Unicode in which each code point was assigned."""
    found = {}
    for line in open(AGES, encoding="utf-8"):
        m = re.match(r"([0-9A-F]+)(?:\.\.([0-9A-F]+))? *; *(\d+)\.", line)
        if m:
            for n in range(int(m[1], 16), int(m[2] or m[1], 16) + 1):
                found[n] = int(m[3])
    return found


def library_version(addr, age):
    """The version of Unicode that the library knows: of the latest letter it takes."""
    letters = [c for c in map(chr, range(0x80, 0x20000)) if unicodedata.category(c) == "Lo"]
    return max(age[ord(c)] for c, got in zip(letters, addr.ask("u", letters)) if got)


def in_context(c):
    """A mark needs a letter before it."""
    return "a" + c if unicodedata.category(username(c)[0])[0] == "M" else c


def why_key_refused(c, key, age, version):
    if any(age.get(ord(x), 99) > version for x in c + key):
        return "refused: newer than the library"
    if key.isascii():
        return "refused: wide or other forms of ASCII punctuation"
    if ord(c) in UNMAPPED:
        return "refused: no mapping in UTS 46"
    if any(idna2008(x) == "disallowed" for x in key):
        return "refused: disallowed by IDNA2008, not by PRECIS"
    if unicodedata.bidirectional(c) == "AN":
        return "refused: an Arabic digit first (Bidi rule)"
    return None


def judge_key(c, got, age, version):
    key = username(in_context(c))
    classes = {precis(x) for x in key}
    if "context" in classes:
        return "only in context"
    if classes != {"valid"}:
        return "refused by both" if got is None else None
    if got is None:
        return why_key_refused(c, key, age, version)
    if got == [key]:
        return "the same key"
    folded = unicodedata.normalize("NFC", key.casefold())
    return "folded, not only lower case" if got == [folded] else None


def test_local_part_of_each_code_point(addr):
    points = list(code_points())
    age = ages()
    version = library_version(addr, age)
    counts = collections.Counter()
    odd = []
    for c, got in zip(points, addr.ask("u", [in_context(c) for c in points])):
        why = judge_key(c, got, age, version)
        counts[why] += 1
        if not why:
            odd.append((f"{ord(c):04X}", got))
    report(f"code points as local parts, library of Unicode {version}", counts)
    assert not odd, odd[:50]
    assert counts["the same key"] > 100000


def test_each_code_point_has_one_spelling(addr):
    """Normal forms, keys and A-labels are their own."""
    names = [in_context(c) + ".test" for c in code_points()]
    taken = [got for got in addr.ask("d", names) if got]
    assert len(taken) > 100000
    assert addr.ask("d", [unicode for unicode, _ in taken]) == taken
    assert addr.ask("d", [ascii.upper() for _, ascii in taken]) == taken
    keys = [got for got in addr.ask("u", [in_context(c) for c in code_points()]) if got]
    assert addr.ask("u", [key for key, in keys]) == keys
