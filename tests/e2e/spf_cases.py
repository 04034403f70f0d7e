"""SPF records with the verdicts that RFC 7208 gives, for test_spf_records.py.

Each case has a domain of its own, {d}, and its record there; lines of more zone may follow (tests/
tools/dnsd.py says how). A line of verdicts is "IP result, IP result". `differs` tells where
python3-spf comes to another result, and why that is not ours.
"""

# Hosts for all cases. host.test and v6.test are clients with good names.
ZONE = """
host.test A 192.0.2.1
host.test AAAA 2001:db8::1
two.test A 192.0.2.2
two.test A 198.51.100.2
v4.test A 192.0.2.4
v6.test AAAA 2001:db8::6
mx.test MX 10 host.test
mx.test MX 20 two.test
mx4.test MX 10 v4.test
nullmx.test MX 0 .
www.test CNAME host.test
mxcname.test MX 10 www.test
bad.test ! servfail
badmx.test MX 10 bad.test
badmx.test MX 20 host.test
halfmx.test MX 10 host.test
halfmx.test MX 20 bad.test
refused.test ! refused
1.2.0.192.in-addr.arpa PTR host.test
2.2.0.192.in-addr.arpa PTR sub.two.test
sub.two.test A 192.0.2.2
3.2.0.192.in-addr.arpa PTR host.test
4.2.0.192.in-addr.arpa ! servfail
5.2.0.192.in-addr.arpa PTR bad.test
5.2.0.192.in-addr.arpa PTR five.host.test
five.host.test A 192.0.2.5
6.2.0.192.in-addr.arpa PTR nohost.test
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR host.test
pass.test TXT "v=spf1 +all"
fail.test TXT "v=spf1 -all"
softfail.test TXT "v=spf1 ~all"
neutral.test TXT "v=spf1 ?all"
empty.test TXT "v=spf1"
none.test TXT "hello"
only1.test TXT "v=spf1 ip4:192.0.2.1 -all"
syntax.test TXT "v=spf1 ip4:1.2.3"
double.test TXT "v=spf1 +all"
double.test TXT "v=spf1 -all"
*.wild.test A 127.0.0.2
why.test TXT "See http://%{d}/why?s=%{S}&i=%{I}"
""" + "".join(f"ten.test MX {i} h{i}.ten.test\nh{i}.ten.test A 192.0.2.{100 + i}\n" for i in range(10)) \
    + "".join(f"eleven.test MX {i} host.test{i}.test\n" for i in range(11)) \
    + "".join(f"7.2.0.192.in-addr.arpa PTR n{i}.many.test\nn{i}.many.test A 192.0.2.7\n" for i in range(9))


class Case:
    def __init__(self, record, verdicts, zone="", sender="strong-bad@{d}", helo="mx.example.org",
                 differs=None, why="", explanation=None):
        self.record = record
        self.verdicts = [v.split() for v in verdicts.split(",")]
        self.zone = zone
        self.sender = sender
        self.helo = helo
        # {IP: their result, "explanation": theirs}; why says by which words of the RFC ours is right.
        self.differs = differs or {}
        self.why = why
        self.explanation = explanation


# RFC 7208 appendix A.
APPENDIX = """
{d} MX 10 mail-a.{d}
{d} MX 20 mail-b.{d}
{d} A 192.0.2.10
{d} A 192.0.2.11
amy.{d} A 192.0.2.65
bob.{d} A 192.0.2.66
mail-a.{d} A 192.0.2.129
mail-b.{d} A 192.0.2.130
org.{d}.test MX 10 mail-c.org.{d}.test
mail-c.org.{d}.test A 192.0.2.140
"""
REVERSE = """
65.2.0.192.in-addr.arpa PTR amy.{d}
140.2.0.192.in-addr.arpa PTR mail-c.org.{d}.test
4.0.0.10.in-addr.arpa PTR bob.{d}
"""
C = Case
CASES = [
    C("v=spf1 +all", "192.0.2.1 pass, 10.0.0.4 pass, 2001:db8::9 pass", APPENDIX),
    C("v=spf1 a -all", "192.0.2.10 pass, 192.0.2.11 pass, 192.0.2.12 fail", APPENDIX),
    C("v=spf1 a:org.{d}.test -all", "192.0.2.10 fail, 192.0.2.140 fail", APPENDIX),
    C("v=spf1 mx -all", "192.0.2.129 pass, 192.0.2.130 pass, 192.0.2.10 fail", APPENDIX),
    C("v=spf1 mx:org.{d}.test -all", "192.0.2.140 pass, 192.0.2.129 fail", APPENDIX),
    C("v=spf1 mx mx:org.{d}.test -all", "192.0.2.129 pass, 192.0.2.130 pass, 192.0.2.140 pass", APPENDIX),
    C("v=spf1 mx/30 mx:org.{d}.test/30 -all",
      "192.0.2.128 pass, 192.0.2.131 pass, 192.0.2.143 pass, 192.0.2.144 fail, 192.0.2.127 fail", APPENDIX),
    C("v=spf1 ptr -all", "192.0.2.65 pass, 192.0.2.140 fail, 10.0.0.4 fail", APPENDIX + REVERSE),
    C("v=spf1 ip4:192.0.2.128/28 -all", "192.0.2.65 fail, 192.0.2.129 pass", APPENDIX),
    C("v=spf1 include:com.{d} include:net.{d} -all",
      "192.0.2.1 pass, 198.51.100.9 pass, 203.0.113.1 fail",
      'com.{d} TXT "v=spf1 a:host.test -all"\nnet.{d} TXT "v=spf1 ip4:198.51.100.0/24 -all"'),
    C("v=spf1 redirect=org.{d}", "192.0.2.1 pass, 203.0.113.1 fail",
      'org.{d} TXT "v=spf1 include:only1.test -all"'),
    C("v=spf1 mx include:mobile._spf.%{{d}} include:remote._spf.%{{d}} -all",
      "192.168.15.15 pass, 192.168.15.17 fail",
      'mobile._spf.{d} TXT "v=spf1 exists:%{{l1r+}}.%{{d}}"\n{d} MX 1 host.test\n'
      'remote._spf.{d} TXT "v=spf1 exists:%{{ir}}.%{{l1r+}}.%{{d}}"\n'
      '15.15.168.192.joel.remote._spf.{d} A 127.0.0.2', sender="joel@{d}"),
    C("v=spf1 mx include:mobile._spf.%{{d}} -all", "203.0.113.1 pass",
      'mobile._spf.{d} TXT "v=spf1 exists:%{{l1r+}}.%{{d}}"\n{d} MX 1 host.test\n'
      'fred.mobile._spf.{d} A 127.0.0.2', sender="fred+list@{d}"),
    C("v=spf1 -include:ip4._spf.%{{d}} -include:ptr._spf.%{{d}} +all",
      "192.0.2.1 pass, 198.51.100.1 fail, 192.0.2.3 fail",
      'ip4._spf.{d} TXT "v=spf1 -ip4:192.0.2.0/24 +all"\nptr._spf.{d} TXT "v=spf1 -ptr:host.test +all"'),

    # Records and their choice (3, 4.5).
    C("v=spf1", "192.0.2.1 neutral"),
    C("V=SPF1 -ALL", "192.0.2.1 fail"),
    C("v=spf1  -all  ", "192.0.2.1 fail"),
    C("v=spf10 -all", "192.0.2.1 none"),
    C("v=spf1-all", "192.0.2.1 none"),
    C(" v=spf1 -all", "192.0.2.1 none"),
    C("v=spf2 -all", "192.0.2.1 none"),
    C("hello", "192.0.2.1 none"),
    C("v=spf1 -all", "192.0.2.1 fail", '{d} TXT "another text"\n{d} TXT "v=spf10 +all"'),
    C("v=spf1 -all", "192.0.2.1 permerror", '{d} TXT "v=spf1 -all "'),
    C("v=spf1 +all", "192.0.2.1 none", sender="a@nowhere.test"),
    C("v=spf1 +all", "192.0.2.1 pass", "alias.{d} CNAME {d}", sender="a@alias.{d}"),
    C("v=spf1 +all", "192.0.2.1 temperror", sender="a@bad.test"),
    C("v=spf1 +all", "192.0.2.1 temperror", sender="a@refused.test"),
    C("v=spf1 +all", "192.0.2.1 none", sender="a@test"),
    C("v=spf1 +all", "192.0.2.1 none", sender="a@a..test"),
    C("v=spf1 +all", "192.0.2.1 none", sender="a@" + "x" * 64 + ".test"),
    C("v=spf1 +all", "192.0.2.1 none", sender="a@[192.0.2.1]"),
    C("v=spf1 ip4:192.0.2.1 -all", "192.0.2.1 pass, 192.0.2.2 fail", sender="", helo="{d}"),
    C("v=spf1 exists:%{{s}}.x.wild.test -all", "192.0.2.1 pass", sender="", helo="{d}"),
    C("v=spf1 exists:%{{l}}.{d} -all", "192.0.2.1 pass", "postmaster.{d} A 127.0.0.1", sender="@{d}"),
    C("v=spf1 exists:%{{l}}.{d} -all", "192.0.2.1 pass", "postmaster.{d} A 127.0.0.1", sender="", helo="{d}"),
    C("v=spf1 +all", "192.0.2.1 none", sender="", helo="localhost"),
    C("v=spf1 +all", "192.0.2.1 none", sender="", helo="[192.0.2.1]"),

    # Syntax: an error anywhere is a permerror (4.6).
    *[C(record, "192.0.2.1 permerror") for record in (
        "v=spf1 ip4:192.0.2.1 moo", "v=spf1 +all moo", "v=spf1 all:x.test", "v=spf1 all/8",
        "v=spf1 +all -all,", "v=spf1 a:", "v=spf1 a/33", "v=spf1 a//129", "v=spf1 a/24/64",
        "v=spf1 a/024", "v=spf1 a/", "v=spf1 a:host.test/", "v=spf1 a:192.0.2.1", "v=spf1 a:test",
        "v=spf1 a:host.test.. +all", "v=spf1 a:host.1", "v=spf1 a:host.-x", "v=spf1 mx: +all",
        "v=spf1 mx/x", "v=spf1 ptr: +all", "v=spf1 ptr/24 +all", "v=spf1 ip4 +all",
        "v=spf1 ip4:1.2.3 +all", "v=spf1 ip4:1.2.3.256 +all", "v=spf1 ip4:01.2.3.4 +all",
        "v=spf1 ip4:1.2.3.4/33 +all", "v=spf1 ip4:1.2.3.4//32 +all", "v=spf1 ip4:host.test +all",
        "v=spf1 ip6:1.2.3.4 +all", "v=spf1 ip6:::1/129 +all", "v=spf1 ip6:2001::db8::1 +all",
        "v=spf1 ip6:12345:: +all", "v=spf1 ip:1.2.3.4 +all", "v=spf1 include +all",
        "v=spf1 include: +all", "v=spf1 exists +all", "v=spf1 exists: +all",
        "v=spf1 exists:host.test/24 +all", "v=spf1 redirect= +all",
        "v=spf1 redirect=pass.test redirect=pass.test", "v=spf1 +all exp=why.test exp=why.test",
        "v=spf1 -redirect=pass.test", "v=spf1 redirect:pass.test", "v=spf1 a:%{{x}}.test +all",
        "v=spf1 a:%{{d +all", "v=spf1 a:%d.test +all", "v=spf1 a:%{{d}}% +all", "v=spf1 a:%(d).test +all",
        "v=spf1 exists:%{{c}}.test +all", "v=spf1 exists:%{{r}}.test +all", "v=spf1 exists:%{{t}}.test +all",
        "v=spf1 exists:%{{d}}test +all", "v=spf1 x=%{{z}} +all", "v=spf1 x=%a +all", "v=spf1 =x +all",
        "v=spf1 1x=y +all", "v=spf1 *all", "v=spf1 --all", "v=spf1 +all\\xe9")],
    C("v=spf1 a:%{{d0}}.test +all", "192.0.2.1 permerror", differs={"192.0.2.1": "pass"},
      why="7.3: the number of parts must not be zero"),
    C("v=spf1 exists:%{{l+r}}.x.wild.test -all", "192.0.2.1 permerror", differs={"192.0.2.1": "pass"},
      why="7.1: transformers stand before delimiters"),

    # Qualifiers and addresses.
    C("v=spf1 -ip4:192.0.2.1 ~ip4:192.0.2.2 ?ip4:192.0.2.3 +ip4:192.0.2.4",
      "192.0.2.1 fail, 192.0.2.2 softfail, 192.0.2.3 neutral, 192.0.2.4 pass, 192.0.2.5 neutral"),
    C("v=spf1 ip4:192.0.2.77/25 -all", "192.0.2.127 pass, 192.0.2.128 fail"),
    C("v=spf1 ip4:0.0.0.0/0 -all", "192.0.2.1 pass, 2001:db8::1 fail"),
    C("v=spf1 IP4:192.0.2.1/32 -all", "192.0.2.1 pass, 192.0.2.0 fail"),
    C("v=spf1 ip6:2001:db8::/33 -all", "2001:db8:7fff::1 pass, 2001:db8:8000:: fail, 192.0.2.1 fail"),
    C("v=spf1 ip6:2001:DB8::192.0.2.1 -all", "2001:db8::c000:201 pass, 2001:db8::c000:202 fail"),
    C("v=spf1 ip6:::/0 ~all", "2001:db8::1 pass, 192.0.2.1 softfail"),
    C("v=spf1 ip4:192.0.2.1 ip6:::ffff:192.0.2.2 -all", "::ffff:192.0.2.1 pass, ::ffff:192.0.2.2 fail"),

    # a, mx.
    C("v=spf1 a:www.test -all", "192.0.2.1 pass, 192.0.2.3 fail, 2001:db8::1 pass"),
    C("v=spf1 A:HOST.TEST -all", "192.0.2.1 pass, 192.0.2.3 fail"),
    C("v=spf1 a:host.test. -all", "192.0.2.1 pass"),
    C("v=spf1 a:two.test/25 -all", "192.0.2.127 pass, 198.51.100.1 pass, 192.0.2.128 fail"),
    C("v=spf1 a:host.test/0 -all", "10.0.0.1 pass, 2001:db8::1 pass, 2001:db8::2 fail"),
    C("v=spf1 a:host.test//64 -all", "2001:db8::99 pass, 2001:db8:0:1::1 fail, 192.0.2.1 pass, 192.0.2.2 fail"),
    C("v=spf1 a:host.test/24//127 -all", "2001:db8:: pass, 2001:db8::2 fail, 192.0.2.99 pass"),
    C("v=spf1 a:nowhere.test -all", "192.0.2.1 fail"),
    C("v=spf1 a:bad.test +all", "192.0.2.1 temperror"),
    C("v=spf1 a:refused.test +all", "192.0.2.1 temperror"),
    C("v=spf1 ip4:192.0.2.1 a:bad.test +all", "192.0.2.1 pass, 192.0.2.2 temperror"),
    C("v=spf1 mx:mx.test -all", "192.0.2.1 pass, 198.51.100.2 pass, 192.0.2.3 fail, 2001:db8::1 pass"),
    C("v=spf1 mx:mx.test/24 -all", "192.0.2.250 pass, 198.51.101.2 fail"),
    C("v=spf1 mx:mxcname.test -all", "192.0.2.1 pass"),
    C("v=spf1 mx:host.test -all", "192.0.2.1 fail"),
    C("v=spf1 mx:nullmx.test -all", "192.0.2.1 fail"),
    C("v=spf1 mx:badmx.test -all", "192.0.2.1 temperror"),
    C("v=spf1 mx:halfmx.test -all", "192.0.2.1 pass, 192.0.2.2 temperror",
      differs={"192.0.2.1": "temperror"},
      why="5.4: hosts are checked in order and the first that matches ends it; they look up all first"),
    C("v=spf1 mx:ten.test -all", "192.0.2.109 pass, 192.0.2.110 fail"),
    C("v=spf1 mx:eleven.test +all", "192.0.2.1 permerror"),
    C("v=spf1 mx:mx4.test mx:mx4.test ~all", "192.0.2.4 pass, 2001:db8::4 softfail"),

    # ptr.
    C("v=spf1 ptr:host.test -all", "192.0.2.1 pass, 192.0.2.2 fail, 192.0.2.3 fail"),
    C("v=spf1 ptr:two.test -all", "192.0.2.2 pass"),
    C("v=spf1 ptr:o.test -all", "192.0.2.2 fail"),
    C("v=spf1 PTR:HOST.test -all", "2001:db8::1 pass, 2001:db8::2 fail"),
    C("v=spf1 ptr:host.test -all", "192.0.2.5 pass", differs={"192.0.2.5": "temperror"},
      why="5.5: a name whose address cannot be looked up is skipped"),
    C("v=spf1 ptr:host.test ~all", "192.0.2.4 softfail", differs={"192.0.2.4": "temperror"},
      why="5.5: if the PTR look-up fails, the mechanism does not match"),
    C("v=spf1 ptr:many.test -all", "192.0.2.7 pass"),
    C("v=spf1 ptr:nohost.test -all", "192.0.2.6 fail"),

    # include, redirect.
    C("v=spf1 include:pass.test -all", "192.0.2.1 pass"),
    C("v=spf1 -include:pass.test +all", "192.0.2.1 fail"),
    C("v=spf1 include:fail.test ~all", "192.0.2.1 softfail"),
    C("v=spf1 include:softfail.test include:neutral.test include:empty.test -all", "192.0.2.1 fail"),
    C("v=spf1 include:none.test +all", "192.0.2.1 permerror"),
    C("v=spf1 include:nowhere.test +all", "192.0.2.1 permerror"),
    C("v=spf1 include:bad.test +all", "192.0.2.1 temperror"),
    C("v=spf1 include:syntax.test +all", "192.0.2.1 permerror"),
    C("v=spf1 include:double.test +all", "192.0.2.1 permerror"),
    C("v=spf1 ~include:only1.test -all", "192.0.2.1 softfail, 192.0.2.2 fail"),
    C("v=spf1 include:{d} +all", "192.0.2.1 permerror"),
    C("v=spf1 include:a.{d} -all", "192.0.2.1 permerror", 'a.{d} TXT "v=spf1 include:{d}"'),
    C("v=spf1 include:%{{d1}} +all", "192.0.2.1 permerror"),
    C("v=spf1 redirect=pass.test", "192.0.2.1 pass"),
    C("v=spf1 redirect=only1.test", "192.0.2.1 pass, 192.0.2.2 fail"),
    C("v=spf1 redirect=fail.test ip4:192.0.2.1", "192.0.2.1 pass, 192.0.2.2 fail"),
    C("v=spf1 ?all redirect=fail.test", "192.0.2.1 neutral"),
    C("v=spf1 redirect=fail.test ?all", "192.0.2.1 neutral"),
    C("v=spf1 redirect=nowhere.test", "192.0.2.1 permerror"),
    C("v=spf1 redirect=none.test", "192.0.2.1 permerror"),
    C("v=spf1 redirect=bad.test", "192.0.2.1 temperror"),
    C("v=spf1 redirect=syntax.test", "192.0.2.1 permerror"),
    C("v=spf1 redirect={d}", "192.0.2.1 permerror"),
    C("v=spf1 REDIRECT=pass.test", "192.0.2.1 pass", differs={"192.0.2.1": "neutral"},
      why="ABNF strings have no case (RFC 5234 2.3), so this is the modifier redirect"),
    C("v=spf1 redirect=a.{d} redirect=b.{d}", "192.0.2.1 permerror"),
    C("v=spf1 include:a.{d} -all", "192.0.2.1 pass, 192.0.2.2 fail", 'a.{d} TXT "v=spf1 redirect=only1.test"'),

    # exists, macros.
    C("v=spf1 exists:host.test -all", "203.0.113.1 pass, 2001:db8::99 pass"),
    C("v=spf1 exists:v6.test -all", "2001:db8::6 fail"),
    C("v=spf1 exists:nowhere.test -all", "192.0.2.1 fail"),
    C("v=spf1 exists:bad.test +all", "192.0.2.1 temperror"),
    C("v=spf1 exists:%{{ir}}.%{{v}}._spf.%{{d}} -all", "192.0.2.3 pass, 192.0.2.4 fail",
      "3.2.0.192.in-addr._spf.{d} A 127.0.0.2"),
    C("v=spf1 exists:%{{ir}}.%{{v}}._spf.%{{d}} -all", "2001:db8::cb01 pass, 2001:db8::cb02 fail",
      "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.{d} A 127.0.0.2"),
    C("v=spf1 exists:%{{lr-}}.lp._spf.%{{d}} -all", "192.0.2.3 pass", "bad.strong.lp._spf.{d} A 127.0.0.2"),
    C("v=spf1 exists:%{{l1r-}}.lp._spf.%{{d}} -all", "192.0.2.3 pass", "strong.lp._spf.{d} A 127.0.0.2"),
    C("v=spf1 exists:%{{l1-}}.lp._spf.%{{d}} -all", "192.0.2.3 pass", "bad.lp._spf.{d} A 127.0.0.2"),
    C("v=spf1 exists:%{{o}}.%{{h2}}.wild.test -all", "192.0.2.3 pass"),
    C("v=spf1 exists:%{{h1r}}.{d} -all", "192.0.2.3 pass", "mx.{d} A 127.0.0.1"),
    C("v=spf1 exists:%{{h1R}}.{d} -all", "192.0.2.3 pass", "mx.{d} A 127.0.0.1",
      differs={"192.0.2.3": "fail"}, why="ABNF strings have no case (RFC 5234 2.3)"),
    C("v=spf1 exists:%{{p}}.{d} -all", "192.0.2.1 pass, 192.0.2.9 pass, 192.0.2.3 pass, 192.0.2.2 fail",
      "host.test.{d} A 127.0.0.1\nunknown.{d} A 127.0.0.1"),
    C("v=spf1 exists:%{{p1}}.{d} -all", "192.0.2.1 pass", "test.{d} A 127.0.0.1"),
    C("v=spf1 exists:%{{l}}.{d} -all", "192.0.2.1 pass", "a-_b.{d} A 127.0.0.1", sender="a-_b@{d}"),
    C("v=spf1 exists:%{{l}}.{d} -all", "192.0.2.1 fail", "a.{d} A 127.0.0.1", sender="a..b@{d}"),
    C("v=spf1 exists:%{{D2}}.wild.test -all", "192.0.2.1 pass"),
    C("v=spf1 exists:a%-b.{d} -all", "192.0.2.1 fail"),
    C("v=spf1 exists:%{{d200}}.wild.test -all", "192.0.2.1 pass"),
    C("v=spf1 exists:" + "abcdefghij." * 23 + "wild.test -all", "192.0.2.1 pass"),
    C("v=spf1 exists:" + "%{{s}}." * 18 + "wild.test -all", "192.0.2.1 pass", differs={"192.0.2.1": "fail"},
      why="7.3: labels are removed until the name fits; they remove one"),
    C("v=spf1 exists:" + "x" * 64 + ".wild.test ~all", "192.0.2.1 softfail"),

    # Limits (4.6.4).
    C("v=spf1" + " a:two.test" * 10 + " -all", "192.0.2.1 fail"),
    C("v=spf1" + " a:two.test" * 11 + " -all", "192.0.2.1 permerror, 192.0.2.2 pass"),
    C("v=spf1" + " a:two.test" * 10 + " redirect=pass.test", "192.0.2.1 permerror"),
    C("v=spf1 a:host.test redirect=pass.test", "192.0.2.1 pass, 192.0.2.2 pass"),
    C("v=spf1" + " a:two.test" * 10 + " redirect=pass.test", "192.0.2.2 pass"),
    C("v=spf1" + " include:fail.test" * 10 + " -all", "192.0.2.1 fail"),
    C("v=spf1" + " include:fail.test" * 11 + " -all", "192.0.2.1 permerror"),
    C("v=spf1" + " include:i.{d}" * 5 + " -all", "192.0.2.1 fail", 'i.{d} TXT "v=spf1 a:two.test"'),
    C("v=spf1" + " include:i.{d}" * 5 + " a:two.test -all", "192.0.2.1 permerror", 'i.{d} TXT "v=spf1 a:two.test"'),
    C("v=spf1" + " ip4:10.0.0.1" * 30 + " -all", "192.0.2.1 fail"),
    C("v=spf1" + " a:two.test" * 9 + " exists:%{{p}}.{d} -all", "192.0.2.1 permerror",
      differs={"192.0.2.1": "fail"}, why="4.6.4: the PTR look-up of %{p} is one of the ten"),
    C("v=spf1 a:v1.{d} a:v2.{d} -all", "192.0.2.1 fail"),
    C("v=spf1 a:v1.{d} mx:v2.{d} exists:v3.{d} -all", "192.0.2.1 permerror"),
    C("v=spf1 a:v6.test a:v6.test a:v6.test -all", "192.0.2.1 permerror"),
    C("v=spf1 mx -all", "192.0.2.1 pass, 192.0.2.2 fail",
      "{d} MX 1 a.{d}\n{d} MX 2 b.{d}\n{d} MX 3 c.{d}\n{d} MX 4 host.test",
      differs={"192.0.2.1": "permerror", "192.0.2.2": "permerror"},
      why="4.6.4: void are terms whose look-ups bring nothing; this mx brought an address"),
    C("v=spf1 exists:%{{p}}.a.{d} exists:%{{p}}.b.{d} -all", "192.0.2.9 fail",
      differs={"192.0.2.9": "permerror"}, why="4.6.4: two terms, each of which counts once"),
    C("v=spf1 a:" + "x" * 64 + ".test a:" + "x" * 64 + ".test a:" + "x" * 64 + ".test -all", "192.0.2.1 fail"),
    C("v=spf1 ip4:10.0.0.1 -all " + "x=" + "y" * 1500, "192.0.2.1 fail"),

    # Explanations (6.2).
    C("v=spf1 -all exp=why.test", "192.0.2.1 fail",
      explanation="See http://{d}/why?s=strong-bad%40{d}&i=192.0.2.1"),
    C("v=spf1 -all exp=e.{d}", "192.0.2.1 fail", 'e.{d} TXT "%{{c}} is" " not %{{l}}%_and%%."',
      explanation="192.0.2.1 is not strong-bad and%."),
    C("v=spf1 -all exp=e.{d}", "192.0.2.1 fail", 'e.{d} TXT "100%%"', explanation="100%",
      differs={"explanation": ""}, why="7.1: %% is a macro wherever it stands, also at the end"),
    C("v=spf1 -all exp=nowhere.test", "192.0.2.1 fail", explanation=""),
    C("v=spf1 -all exp=double.test", "192.0.2.1 fail", explanation=""),
    C("v=spf1 -all exp=bad.test", "192.0.2.1 fail", explanation=""),
    C("v=spf1 -all exp=e.{d}", "192.0.2.1 fail", 'e.{d} TXT "bad %{{x}}"', explanation=""),
    C("v=spf1 -all exp=e.{d}", "192.0.2.1 fail", 'e.{d} TXT "caf\\xe9"', explanation=""),
    C("v=spf1 exp=why.test redirect=r.{d}", "192.0.2.1 fail", 'r.{d} TXT "v=spf1 -all"', explanation=""),
    C("v=spf1 redirect=r.{d}", "192.0.2.1 fail", 'r.{d} TXT "v=spf1 -all exp=e.{d}"\ne.{d} TXT "%{{d}} %{{o}}"',
      explanation="r.{d} {d}"),
    C("v=spf1 -include:i.{d} exp=e.{d}", "192.0.2.1 fail",
      'i.{d} TXT "v=spf1 ip4:192.0.2.1 -all exp=why.test"\ne.{d} TXT "ours"', explanation="ours"),
    C("v=spf1 exp=why.test ~all", "192.0.2.1 softfail", explanation=""),
]
