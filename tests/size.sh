#!/bin/sh
# What chasq costs on flash, in bytes.
#
#   tests/size.sh           each module; each option, as what the program is smaller by without it
#   tests/size.sh check     all options on and all off, against tests/size.budget
#   tests/size.sh record    writes tests/size.budget
#
# A program may grow by 2 % over its budget. What grows it by more comes with a new budget, and with
# a line in CHANGES that names it: "size: N KB", N being the budget in units of 1024 bytes, rounded
# down. Budgets are for one compiler and machine, named in the file; elsewhere `check` says that it
# was left out. CC, and JOBS for make, are taken from the environment; so are ON and OFF, directories
# in which the two programs are already.
set -eu
cd "$(dirname "$0")/.."

CC=${CC:-cc}
make="${MAKE:-make} -s -j${JOBS:-$(nproc)}"
switches=$(sed -n 's/^#define \(WITH_[A-Z]*\) 1$/\1/p' config.h)
budget=tests/size.budget
# What a caller of make has set is not for these builds.
unset MAKEFLAGS MFLAGS MAKELEVEL CFLAGS OPTIONS 2>/dev/null || :

# built NAME OPTIONS [DIR]: the program, stripped as build/size/NAME/stripped: made, or from DIR.
built()
{
	dir=${3:-build/size/$1}
	mkdir -p "build/size/$1"
	[ -n "${3:-}" ] || $make BUILD="$dir" CC="$CC" OPTIONS="$2" "$dir/chasq"
	strip -o "build/size/$1/stripped" "$dir/chasq"
}

# loaded NAME: code and data of a program: the size of its file is rounded to pages.
loaded()
{
	size "build/size/$1/stripped" | awk 'NR == 2 { print $1 + $2 }'
}

all_off()
{
	for s in $switches; do
		printf -- '-D%s=0 ' "$s"
	done
}

# By what budgets are told apart.
machine()
{
	kind=gcc
	! $CC --version | grep -q clang || kind=clang
	echo "$($CC -dumpmachine) $kind $($CC -dumpversion | cut -d . -f 1)"
}

totals()
{
	built on "" "${ON:-}"
	built off "$(all_off)" "${OFF:-}"
	echo "on $(loaded on)"
	echo "off $(loaded off)"
}

report()
{
	built on ""
	echo "---- modules: code, constants and data"
	# shellcheck disable=SC2046
	(cd build/size/on && size $(ls ./*.o)) | awk 'NR > 1 { sub(".*/", "", $6); sub("\\.o$", "", $6); printf "%8d  %s\n", $1 + $2, $6 }' | sort -n
	echo "---- options: what the program is smaller by without"
	for s in $switches; do
		built "$s" "-D$s=0"
		printf '%8d  %s\n' $(($(loaded on) - $(loaded "$s"))) "$s"
	done | sort -n
	echo "---- the program, stripped: code and data, and its file"
	built off "$(all_off)"
	printf '%8d %8d  all options\n' "$(loaded on)" "$(wc -c <build/size/on/stripped)"
	printf '%8d %8d  none\n' "$(loaded off)" "$(wc -c <build/size/off/stripped)"
}

check()
{
	if [ "$(sed -n 's/^# for //p' $budget)" != "$(machine)" ]; then
		echo "size: left out: $budget is for $(sed -n 's/^# for //p' $budget)"
		return 0
	fi
	bad=0
	now=$(totals)
	for name in on off; do
		is=$(echo "$now" | sed -n "s/^$name //p")
		may=$(sed -n "s/^$name //p" $budget)
		echo "size: options $name: $is bytes, budget $may"
		if [ "$is" -gt $((may * 102 / 100)) ]; then
			echo "size: over the budget by more than 2 %: make it smaller, or see the head of tests/size.sh"
			bad=1
		fi
		if ! grep -qE "(^|[^a-z])size: $((may / 1024)) KB" CHANGES; then
			echo "size: CHANGES has no \"size: $((may / 1024)) KB\""
			bad=1
		fi
	done
	return $bad
}

record()
{
	now=$(totals)
	printf '# Code and data in bytes, options on and off: tests/size.sh\n# for %s\n%s\n' "$(machine)" "$now" >$budget
	cat $budget
}

case ${1:-report} in
report | check | record) ${1:-report} ;;
*)
	echo "usage: tests/size.sh [check|record]" >&2
	exit 2
	;;
esac
