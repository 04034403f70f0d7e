#!/bin/sh
# Everything `make check` runs, after tests/deps.sh: builds with both compilers, unit tests and fuzz
# corpora under the sanitizers and valgrind, then the end-to-end tests with real peers.
# Usage: tests/check.sh [STEP...]; the steps are the functions named step_* below.
set -eu
cd "$(dirname "$0")/.."

jobs=$(nproc 2>/dev/null || echo 2)
make=${MAKE:-make}
sanitize="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
export ASAN_OPTIONS="detect_stack_use_after_return=1:strict_string_checks=1:abort_on_error=0"
export UBSAN_OPTIONS="print_stacktrace=1"
log=build/check.log

# Runs a command quietly; shows its output when it fails.
quietly()
{
	if ! "$@" >"$log" 2>&1; then
		cat "$log"
		echo "check: failed: $*"
		exit 1
	fi
}

# build DIR CC CFLAGS OPTIONS TARGET...
build()
{
	(
		dir=$1 cc=$2 cflags=$3 options=$4
		shift 4
		quietly $make -s -j"$jobs" BUILD="$dir" CC="$cc" CFLAGS="$cflags -Werror" OPTIONS="$options" "$@"
	)
}

step_build()
{
	build build/main gcc "-Os -g" "" tests chasq
}

step_clang()
{
	build build/clang clang -O2 "" build/clang/chasq
	build build/clang-tests clang "-O2 -fsyntax-only" "" test-objects
}

step_asan()
{
	build build/asan gcc "$sanitize" "" tests
}

switches=$(sed -n 's/^#define \(WITH_[A-Z]*\) 1$/\1/p' config.h)

# A build without what can be left out, and what of the tests applies.
step_small()
{
	off=$(for s in $switches; do printf -- '-D%s=0 ' "$s"; done)
	tests=$(printf 'build/small/test_%s ' addr io spool queue dsn dsn_form header smtp hook lmtp confdomain)
	# shellcheck disable=SC2086
	build build/small gcc "-Os -g" "$off" build/small/chasq $tests
	for t in $tests; do
		quietly env TMPDIR="$work" "$t"
	done
	quietly env CHASQ=build/small/chasq /usr/bin/python3 -m pytest -q -p no:cacheprovider \
		tests/e2e/test_dialogue.py -k 'rfc5321 or smuggling or rfc2920 or rfc1870 or rfc6531'
}

# Each switch alone. One that no header but config.h knows concerns few modules: they are compiled without it, and
# win over those of the main build. The others take a build of their own.
step_switches()
{
	for s in $switches; do
		dir=build/without/$s
		over=OVER=build/main
		if grep -l "$s" -- *.h | grep -qv '^config.h$'; then
			[ -n "${CHASQ_FULL:-}" ] || continue
			over=OVER=
		fi
		build "$dir" gcc "-O2 -g" "-D$s=0" "$over" "$dir/chasq"
		"$dir/chasq" -V | grep -q "$s=0"
	done
}

# The program has a budget, with everything and with nothing.
step_size()
{
	CC=gcc ON=build/main OFF=build/small sh tests/size.sh check
}

# Runs step STEP_of for each unit test, twice as many at a time as there are processors, for they wait, too. Those of
# long sources take long: they begin.
each_unit_test()
{
	ls -S tests/unit/test_*.c | sed 's,.*/\(.*\)\.c$,\1,' | TMPDIR=$work xargs -P $((2 * jobs)) -n 1 sh tests/check.sh "$1"
}

# cmocka's closing lines go to the output: they are what CI counts.
run_unit()
{
	for program; do :; done
	if "$@" >"$log.unit" 2>&1; then
		grep -E '^\[  (PASSED|FAILED)  \] [0-9]+' "$log.unit" | sed "s,\$,  ${program##*/},"
	else
		cat "$log.unit"
		echo "check: failed: $*"
		exit 1
	fi
}

step_unit()
{
	each_unit_test unit_of
}

unit_of()
{
	log=$log.$1
	run_unit build/asan/"$1"
	rm -f "$log.unit"
}

step_valgrind()
{
	each_unit_test valgrind_of
}

valgrind_of()
{
	log=$log.$1
	run_unit valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect \
		--errors-for-leak-kinds=definite,indirect --trace-children=no --child-silent-after-fork=yes \
		build/main/"$1"
	rm -f "$log.unit"
}

step_fuzz()
{
	for f in tests/fuzz/fuzz_*.c; do
		name=$(basename "$f" .c)
		corpus=tests/fuzz/corpus/${name#fuzz_}
		[ -d "$corpus" ] || corpus=tests/fuzz/corpus/$name
		TMPDIR=$work build/asan/"$name" "$corpus"
	done
}

step_install()
{
	rm -rf build/root
	build build/main gcc "-Os -g" "" install DESTDIR="$PWD/build/root" PREFIX=/usr # compiled as step_build does
	test "$(build/root/usr/sbin/chasq -V | head -n 1)" = "$(build/main/chasq -V | head -n 1)"
	build/root/usr/sbin/sendmail --help >"$log"
	test -s build/root/usr/share/man/man8/chasq.8
	hook=$(sed -n 's/^\.Pa \(.*post-data\)$/\1/p' build/root/usr/share/man/man5/hooks.5 | grep /)
	test -s "build/root$hook"
}

pytest()
{
	/usr/bin/python3 -m pytest -q -p no:cacheprovider "$@"
}

# Twice as many at once as there are processors, for half of the time they wait; what measures, or counts what load
# changes, comes last, alone.
step_e2e()
{
	if [ -n "${PYTEST_ARGS:-}" ]; then
		# shellcheck disable=SC2086
		pytest $PYTEST_ARGS tests/e2e
		return
	fi
	measures="tests/e2e/test_load.py tests/e2e/test_memory.py tests/e2e/test_relay_reuse.py tests/e2e/test_slow.py tests/e2e/test_turns.py"
	# shellcheck disable=SC2086
	pytest -n $((2 * jobs)) --dist loadfile tests/e2e $(printf -- '--deselect %s ' $measures)
	# shellcheck disable=SC2086
	pytest $measures
}

case ${1:-} in
unit_of | valgrind_of)
	"$@"
	exit
	;;
esac
# Here unit tests and corpora work (temp_dir.h), in memory: what one leaves that was killed goes with it.
work=$(mktemp -d /dev/shm/chasq.XXXXXX 2>/dev/null || mktemp -d /tmp/chasq.XXXXXX)
chmod 711 "$work" # tests that become another user come to their sockets
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
steps=${*:-build clang asan small switches size unit fuzz valgrind install e2e}
started=$(date +%s)
for s in $steps; do
	echo "---- $s ($(($(date +%s) - started)) s)"
	step_"$s"
done
echo "---- all good after $(($(date +%s) - started)) s"
