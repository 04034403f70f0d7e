#!/bin/sh
# What `make lint` checks: format, the floors, sizes, forbidden words, clang-tidy, cppcheck, man pages.
# FLOORS names the modules of each floor, lowest first, separated by '|' (the Makefile says which).
set -eu
cd "$(dirname "$0")/.."

# lint.sh analyze FILE: what gcc -fanalyzer finds in it, in the form of tests/analyzer.known.
analyze()
{
	LC_ALL=C gcc -std=c11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DCHASQ_VERSION='"0"' -I. -O0 -fanalyzer -c "$1" \
		-o "build/lint-$1.o" 2>&1 | awk -v file="$1" -v q="'" '/: In function / || /^In function / {
			f = $0; sub(".*In function " q, "", f); sub(q ".*", "", f) }
		/warning: .*-Wanalyzer/ { check = $NF; gsub(/[][]/, "", check); print file, f, check }'
}
if [ "${1:-}" = analyze ]; then
	analyze "$2"
	exit
fi

bad=0
sources=$(git ls-files '*.c' '*.h' 2>/dev/null || ls ./*.c ./*.h tests/*/*.c tests/*/*.h)
daemon=$(ls ./*.c ./*.h)

complain()
{
	echo "lint: $*"
	bad=1
}

step()
{
	echo "---- $*"
}

step format
# shellcheck disable=SC2086
clang-format --dry-run -Werror $sources || complain "clang-format"

step floors
floor_of()
{
	# The floor of a module: private headers (x_int) belong to x.
	echo "$FLOORS" | tr '|' '\n' | awk -v m="${1%_int}" '{ for (i = 1; i <= NF; i++) if ($i == m) print NR - 1 }'
}
for c in *.c; do
	m=${c%.c}
	[ "$m" = chasq ] && continue
	mine=$(floor_of "$m")
	if [ -z "$mine" ]; then
		complain "$c is on no floor: add it to the Makefile"
		continue
	fi
	for h in $(sed -n 's/^#include "\([a-z0-9_]*\)\.h"$/\1/p' "$c" "$m.h" 2>/dev/null | sort -u); do
		[ "$h" = config ] && continue
		theirs=$(floor_of "$h")
		[ -n "$theirs" ] && [ "$theirs" -le "$mine" ] || complain "$m (floor $mine) includes $h.h (floor ${theirs:-none})"
	done
done

step "the table of floors"
# In docs/INTERNALS.md: "x (a, b)" is x, x_a and x_b. Here each file on its floor; chasq is on the highest, private headers on none.
awk -F'|' '/^## / { here = $0 == "## The floors" } here && /^\| [0-5] / {
	while (match($3, /[a-z0-9_]+( \([a-z0-9_, ]+\))?/)) {
		n = split(substr($3, RSTART, RLENGTH), part, /[ (),]+/)
		for (i = 1; i <= n; i++)
			if (part[i] != "")
				print substr($2, 2, 1), i == 1 ? part[1] : part[1] "_" part[i]
		$3 = substr($3, RSTART + RLENGTH)
	}
}' docs/INTERNALS.md | sort >build/lint-told
for m in $(ls ./*.c ./*.h | sed 's,^\./,,; s,\.[ch]$,,' | sort -u | grep -vxE 'config|.*_int'); do
	floor=$(floor_of "$m")
	[ "$m" != chasq ] || floor=5
	echo "$floor $m"
done | sort | diff - build/lint-told || complain "modules in docs/INTERNALS.md (<: not there, >: no such file or floor)"

step sizes
for f in $daemon; do
	n=$(wc -l <"$f")
	case $f in
	*/config.h) ;;
	*.h) [ "$n" -le 120 ] || complain "$f: $n lines, a header has 120 at most" ;;
	*.c) [ "$n" -le 800 ] || complain "$f: $n lines, a module has 800 at most" ;;
	esac
	awk -v f="$f" '/^{/ { s = FNR } /^}/ && s { if (FNR - s > 100) { print "lint: " f ":" s ": a function of " FNR - s " lines"; e = 1 } s = 0 }
		length($0) > 110 { print "lint: " f ":" FNR ": over 110 columns"; e = 1 } END { exit e }' "$f" || bad=1
done

step words
grep -l '<mbedtls/' $daemon | grep -vE '^\./(tls(_[a-z]+)?|kdf)\.[ch]$' && complain "mbedTLS outside tls and kdf"
grep -nE '(^|[^a-zA-Z_])(strcpy|strcat|sprintf|vsprintf|strtok|alloca|gets|atoi)\(' $daemon && complain "forbidden function"
grep -nE '(^|[^a-zA-Z_])(exit|_exit|abort|err|errx|die)\(' $daemon | grep -vE '^\./(chasq|cli[a-z_]*)\.c:' |
	grep -vE '^\./(auth|proc_spawn|spool_filing)\.c:[0-9]+:[[:space:]]*_exit\(' | # of their children
	grep -vE '/\*.*(exit|abort)\(' && complain "a way to end the daemon at run time"
# shellcheck disable=SC2086
grep -nE '(^|[^A-Za-z])(TODO|FIXME|XXX)([^A-Za-z]|$)' $sources Makefile && complain "unfinished"
grep -nE '^#if(n?def) ' $daemon | grep -vE '#ifndef [A-Z0-9_]+_H$' | grep -v '^\./config\.h:' | grep -v '^\./log\.h:.*LOG_KIND$' &&
	complain "options are tested with #if"
git grep -nE '(^|[" =])/(work|root)/' -- . ':!tests/lint.sh' && complain "a path of somebody's machine"

step openbsd
# That system is not here: the part that is for it alone is compiled against its declarations.
cc -std=c11 -D_GNU_SOURCE -D__OpenBSD__ -U__linux__ -Itests/tools/openbsd -I. -Wall -Wextra -Wundef -Wshadow -Wconversion \
	-Werror -fsyntax-only sandbox*.c || complain "sandbox on OpenBSD"

step "man pages"
mandoc -T lint -W warning man/* || complain "mandoc"

step scripts
# Words are split on purpose.
shellcheck -x -S warning -e SC2046,SC2048,SC2011 tests/*.sh .ci/run || complain "shellcheck"
shellcheck -s dash tests/tools/uci.sh || complain "shellcheck"

step packaging
units=build/lint-units
rm -rf $units
mkdir -p $units/usr/sbin $units/etc/systemd/system
cp /bin/true $units/usr/sbin/chasq
cp packaging/systemd/*.service packaging/systemd/*.socket $units/etc/systemd/system/
# What the units need beside themselves is not in this empty system.
systemd-analyze verify --root="$PWD/$units" --man=no packaging/systemd/*.service packaging/systemd/*.socket 2>&1 |
	grep -vE 'sysinit.target not found' | grep . && complain "systemd-analyze verify"
# In tenths, as the tool wants it: 2.0.
systemd-analyze security --offline=true --threshold=20 packaging/systemd/chasq.service >build/lint-security 2>&1 ||
	complain "the service's exposure: $(tail -n 1 build/lint-security)"
shellcheck -s sh packaging/build-deb.sh packaging/debian/chasq.postinst packaging/debian/chasq.postrm \
	packaging/buildroot/package/chasq/S60chasq packaging/alpine/chasq.initd packaging/alpine/chasq.pre-install \
	packaging/openwrt/chasq/files/chasq.iface packaging/openwrt/chasq/files/chasq.ntp || complain "shellcheck"
shellcheck -s dash packaging/openwrt/chasq/files/chasq.init || complain "shellcheck"
# abuild gives these names and reads those.
shellcheck -s dash -e SC2034,SC2154 packaging/alpine/APKBUILD || complain "shellcheck"
version=$(sed -n 's/^VERSION = //p' Makefile)
grep -q "^chasq ($version-" packaging/debian/changelog && grep -q "^pkgver=$version$" packaging/alpine/APKBUILD &&
	grep -q "^PKG_VERSION:=$version$" packaging/openwrt/chasq/Makefile &&
	grep -q "^CHASQ_VERSION = $version$" packaging/buildroot/package/chasq/chasq.mk || complain "packages of another version"

step "gcc -fanalyzer"
case $(gcc -dumpversion) in
12*)
	ls -- *.c | xargs -P "$(nproc)" -n 1 sh tests/lint.sh analyze | sort -u >build/lint-analyzer
	grep -v '^#' tests/analyzer.known | sort -u | diff - build/lint-analyzer || complain "-fanalyzer (<: has gone, >: is new)"
	;;
*) echo "left out: tests/analyzer.known is of version 12" ;;
esac

step cppcheck
cppcheck --quiet --error-exitcode=1 --std=c11 -D_GNU_SOURCE -DCHASQ_VERSION='"0"' --inline-suppr \
	--enable=style,warning,portability,performance --suppressions-list=tests/cppcheck.known \
	--suppress=missingIncludeSystem -j2 -I. ./*.c || complain "cppcheck"

step clang-tidy
# One file a run: with several, version 14 finds uninitialised va_lists where there are none.
ls ./*.c | xargs -P 2 -n 1 sh -c 'clang-tidy --quiet --warnings-as-errors="*" "$@" -- -std=c11 -D_GNU_SOURCE \
	-DCHASQ_VERSION="\"0\"" -I. 2>/dev/null' tidy || complain "clang-tidy"

[ "$bad" = 0 ] && echo "lint: all good"
exit "$bad"
