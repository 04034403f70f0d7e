#!/bin/sh
# Fuzzes: sh tests/fuzz.sh [SECONDS [TARGET...]]
#
# Builds the targets of tests/fuzz, each for libFuzzer and for AFL++, under the address and the
# undefined behaviour sanitizers, and runs each for SECONDS (300): four fifths with libFuzzer, the rest
# with AFL++, from the corpus in tests/fuzz/corpus and what earlier runs found (build/fuzz/found).
# TARGET is a name without "fuzz_"; all by default. As many run at a time as there are processors
# (JOBS=1 takes one). An input that fails is kept in build/fuzz/failed, and the script fails.
#
#   ENGINES="libfuzzer afl"   which engines
#   KEEP=1                    afterwards adds to the corpus in the tree what reaches new code
set -eu
cd "$(dirname "$0")/.."

out=build/fuzz
make=${MAKE:-make}
engines=${ENGINES:-libfuzzer afl}
sanitize="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
export UBSAN_OPTIONS=print_stacktrace=1

# Bytes an input has at most: enough for each limit in the parsers, small enough for speed.
longest()
{
	case $1 in
	smtpd | spool | text | httpd | smtpc) echo 8192 ;;
	*) echo 4096 ;;
	esac
}

all_targets()
{
	for f in tests/fuzz/fuzz_*.c; do
		f=${f##*/fuzz_}
		echo "${f%.c}"
	done
}

# $1 engine, then targets. An input is run by the engine's own main.
build()
{
	engine=$1
	shift
	programs=$(printf "$out/$engine/fuzz_%s " "$@")
	case $engine in
	libfuzzer)
		# shellcheck disable=SC2086
		$make -s -j"$(nproc)" BUILD="$out/$engine" CC=clang FUZZ_MAIN= \
			CFLAGS="-O1 -g $sanitize -fsanitize=fuzzer-no-link" LDFLAGS=-fsanitize=fuzzer $programs
		;;
	afl)
		# shellcheck disable=SC2086
		AFL_QUIET=1 AFL_USE_ASAN=1 AFL_USE_UBSAN=1 $make -s -j"$(nproc)" BUILD="$out/$engine" \
			CC=afl-clang-fast FUZZ_MAIN= CFLAGS="-O1 -g -fno-omit-frame-pointer" \
			LDFLAGS=-fsanitize=fuzzer $programs
		;;
	esac
}

# Keeps the files named as inputs that failed.
keep_failed()
{
	for f in "$@"; do
		[ -s "$f" ] || continue
		cp "$f" "$out/failed/$target-${f##*/}"
		echo "fuzz: $target failed: $out/failed/$target-${f##*/}"
		bad=1
	done
}

dictionary()
{
	dict=tests/fuzz/dict/$target.dict
	[ ! -f "$dict" ] || echo "$1$dict"
}

run_libfuzzer()
{
	[ "$1" -gt 0 ] || return 0
	# The time-out outside is for a target that stops the clock.
	# shellcheck disable=SC2046
	timeout -s INT $(($1 + 60)) "$out/libfuzzer/fuzz_$target" -max_total_time="$1" \
		-max_len="$(longest "$target")" -timeout=20 -rss_limit_mb=1024 -print_final_stats=1 \
		-detect_leaks=1 -artifact_prefix="$work/" -reload=0 $(dictionary -dict=) \
		"$out/found/$target" "tests/fuzz/corpus/$target" >"$log" 2>&1 || tail -n 60 "$log"
	keep_failed "$work"/crash-* "$work"/leak-* "$work"/timeout-* "$work"/oom-*
	[ -n "$bad" ] || sed -n "s/^stat::number_of_executed_units: */fuzz: $target libfuzzer: runs /p" "$log"
	grep -q '^stat::number_of_executed_units' "$log" || [ -n "$bad" ] || {
		echo "fuzz: $target did not run: $log"
		bad=1
	}
}

run_afl()
{
	[ "$1" -gt 0 ] || return 0
	rm -rf "$work/afl"
	# shellcheck disable=SC2046
	AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_NO_UI=1 AFL_NO_AFFINITY=1 \
		AFL_IGNORE_PROBLEMS=1 AFL_FAST_CAL=1 AFL_CMPLOG_ONLY_NEW=1 \
		timeout -s INT $(($1 + 120)) afl-fuzz -V "$1" -t 5000+ -m none \
		-G "$(longest "$target")" $(dictionary "-x ") -i "tests/fuzz/corpus/$target" -o "$work/afl" \
		-- "$out/afl/fuzz_$target" >"$log.afl" 2>&1 || tail -n 30 "$log.afl"
	keep_failed "$work"/afl/default/crashes/id* "$work"/afl/default/hangs/id*
	stats=$work/afl/default/fuzzer_stats
	if [ -f "$stats" ]; then
		sed -n "s/^execs_done *: */fuzz: $target afl: runs /p" "$stats"
		cp "$work"/afl/default/queue/id* "$out/found/$target/" 2>/dev/null || true
	else
		echo "fuzz: $target did not run: $log.afl"
		bad=1
	fi
}

# One target: sh tests/fuzz.sh --one SECONDS TARGET
run_one()
{
	target=$2
	bad=
	work=$out/work/$target
	log=$out/$target.log
	mkdir -p "$work/tmp" "$out/found/$target" "$out/failed"
	rm -f "$work"/crash-* "$work"/leak-* "$work"/timeout-* "$work"/oom-*
	TMPDIR=$PWD/$work/tmp
	[ ! -w /dev/shm ] || TMPDIR=$(mktemp -d /dev/shm/chasq-fuzz.XXXXXX)
	export TMPDIR
	trap 'rm -rf "$TMPDIR"' EXIT
	afl_time=0
	case $engines in
	"libfuzzer afl") afl_time=$(($1 / 5)) ;;
	afl) afl_time=$1 ;;
	esac
	run_libfuzzer $(($1 - afl_time))
	run_afl "$afl_time"
	[ -z "$KEEP" ] || merge
	[ -z "$bad" ]
}

# Adds to the tree's corpus what reaches code that it does not reach.
merge()
{
	[ -x "$out/libfuzzer/fuzz_$target" ] || return 0
	"$out/libfuzzer/fuzz_$target" -merge=1 -use_counters=0 -max_len="$(longest "$target")" -artifact_prefix="$work/" \
		"tests/fuzz/corpus/$target" "$out/found/$target" >"$log.merge" 2>&1 || tail -n 20 "$log.merge"
}

KEEP=${KEEP:-}
if [ "${1:-}" = --one ]; then
	run_one "$2" "$3"
	exit
fi
seconds=${1:-300}
[ $# -eq 0 ] || shift
# shellcheck disable=SC2046
[ $# -gt 0 ] || set -- $(all_targets)
for engine in $engines; do
	echo "fuzz: building for $engine"
	build "$engine" "$@"
done
jobs=${JOBS:-$(nproc)}
echo "fuzz: $# targets, $seconds s each, $jobs at a time"
export KEEP
printf '%s\n' "$@" | xargs -P "$jobs" -n 1 sh tests/fuzz.sh --one "$seconds"
echo "fuzz: no failure"
