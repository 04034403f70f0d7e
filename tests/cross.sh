#!/bin/sh
# Cross-builds chasq for other machines and runs its unit tests and fuzz corpora there: under
# qemu-user, or natively for i386. Byte order, sizes of types, signedness of char and alignment
# differ; what passes on one machine by luck does not pass on all of them.
#
#   tests/cross.sh [TARGET...]    s390x (big-endian) i386 i386-asan (clang's sanitizers) armhf arm64 mipsel
#   TESTS="test_crc fuzz_dns e2e" tests/cross.sh s390x     some of the tests; TESTS=- none
#
# "e2e" is the daemon's main job in tests/e2e: mail in, into Maildirs and on to other servers, bounces,
# restarts, TLS. It is among the tests of the big-endian machines; named, it runs on any that is emulated (the
# sandbox of i386 lets its children make no calls of 64 bits, as this machine's procmail and sh do).
#
# The compilers are installed by apt, as root; the libraries of the target are unpacked under
# build/cross/TARGET/root by an apt with a state of its own: the system does not learn of the
# architecture. Then nothing but `make CC=... PKG_CONFIG=...` is used. What a host lacks is skipped,
# by name; the last line counts. A target takes four minutes on two cores.
set -eu
cd "$(dirname "$0")/.."
. tests/cross_lib.sh

jobs=$(nproc 2>/dev/null || echo 2)
make=${MAKE:-make}
limit=${CHASQ_CROSS_LIMIT:-600}
export ASAN_OPTIONS="detect_stack_use_after_return=1:strict_string_checks=1"
export CROSS_RESULTS="${CROSS_RESULTS:-build/cross/results.$$}"
results=$CROSS_RESULTS

# The daemon's main job, with the program of $dir as one that this machine can start.
end_to_end()
{
	program=$PWD/$dir/bin/chasq
	if [ -n "$emulator" ]; then
		program=$PWD/$dir/e2e/chasq
		mkdir -p "$dir/e2e"
		gcc -O2 -DRUN="\"$(echo "$emulator" | sed 's/ /", "/g')\"" -DPROGRAM="\"$PWD/$dir/bin/chasq\"" \
			-o "$program" tests/cross_run.c || return
	fi
	# shellcheck disable=SC2086
	CHASQ=$program CHASQ_FAST=$program timeout $((limit * 3)) /usr/bin/python3 -m pytest -v -p no:cacheprovider \
		$(printf 'tests/e2e/%s.py ' $main_job)
}

# Runs one program of $dir, tells and notes how it ended: run_one TARGET NAME. Single tests that look
# for what qemu-user lacks (vfork, limits of its own process, subreapers, seccomp, Landlock) find
# that out themselves, as under valgrind: they are named.
run_one()
{
	target=$1
	name=$2
	dir=build/cross/$target
	cross_names "$target"
	[ -z "$qemu" ] || export CHASQ_EMULATED=1
	if [ "$name" = e2e ]; then
		if ! sh tests/deps.sh test >"$dir/deps.log" 2>&1; then
			echo "skipped: $target e2e: $(tail -n 1 "$dir/deps.log")" | tee -a "$results"
			return 0
		fi
		echo "$target: e2e (some minutes)"
	fi
	case $name in
	fuzz_*) set -- timeout "$limit" $emulator "$dir/bin/$name" "tests/fuzz/corpus/${name#fuzz_}" ;;
	e2e) set -- end_to_end ;;
	*) set -- timeout "$limit" $emulator "$dir/bin/$name" ;;
	esac
	if "$@" >"$dir/$name.log" 2>&1 </dev/null; then
		left_out=$(sed -n 's/^\[  SKIPPED \] \(test_[^ ,]*\)$/\1/p; s/^[^ ]*::\([^ ]*\) SKIPPED.*/\1/p' \
			"$dir/$name.log" | sort -u | tr '\n' ' ')
		many=$(sed -n 's/^=.* \([0-9]* passed\).* in .*/: \1/p' "$dir/$name.log")
		echo "passed: $target $name$many${left_out:+ (without $left_out)}"
	else
		code=$?
		tail -n 40 "$dir/$name.log"
		echo "failed: $target $name (exit $code)"
	fi | tee -a "$results"
}

# The tests of $target.
programs()
{
	if [ "${TESTS:-}" = - ]; then
		:
	elif [ -n "${TESTS:-}" ]; then
		printf '%s\n' $TESTS
	else
		case $target in
		s390x | musl-mips) echo e2e ;;
		esac
		for t in tests/unit/test_*.c tests/fuzz/fuzz_*.c; do
			basename "$t" .c
		done
	fi
}

cross_target()
{
	target=$1
	dir=build/cross/$target
	if ! cross_settle "$target"; then
		echo "skipped: $target: $cross_lacks" | tee -a "$results"
		return 0
	fi
	# shellcheck disable=SC2046
	if ! $make -s -j"$jobs" BUILD="$dir/bin" CC="$cc" PKG_CONFIG="$pkg_config" CFLAGS="$cflags -Werror" \
		"$dir/bin/chasq" $(programs | grep -vx e2e | sed "s,^,$dir/bin/,") >"$dir/make.log" 2>&1; then
		tail -n 40 "$dir/make.log"
		echo "failed: $target: the build" | tee -a "$results"
		return 0
	fi
	$emulator "$dir/bin/chasq" -V | head -n 1
	"$triplet-strip" -o "$dir/chasq.stripped" "$dir/bin/chasq"
	echo "$target: $(stat -c %s "$dir/chasq.stripped") bytes stripped"
	programs | xargs -r -P "$jobs" -n 1 sh tests/cross.sh one "$target"
}

if [ "${1:-}" = one ]; then
	run_one "$2" "$3"
	exit
fi
mkdir -p build/cross
: >"$results"
for t in ${*:-s390x i386 i386-asan armhf arm64 mipsel}; do
	cross_target "$t"
done
count()
{
	grep -c "^$1: " "$results" || :
}
[ "${TESTS:-}" = - ] ||
	echo "cross: $(count passed) passed, $(count failed) failed, $(count skipped) skipped"
bad=0
! grep "^failed: " "$results" || bad=1
rm -f "$results"
exit $bad
