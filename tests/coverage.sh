#!/bin/sh
# Line and branch coverage, by clang's source-based coverage.
#
#   tests/coverage.sh corpus   what the fuzz corpora alone reach of the modules they are for, the table
#                              below: fails when one is below LEAST per cent of its lines
#   tests/coverage.sh suite    what unit tests, corpora and end-to-end tests reach of the whole
#                              program: fails when that is below LEAST per cent of its lines. The
#                              tests' own verdict is make check's; here it is only told
#
# The counters are mapped from a file that all processes of a program share: what a child counts, and a
# daemon until SIGKILL, under another user or in a sandbox, is not lost. PYTEST_ARGS chooses among
# the end-to-end tests. MODULE=spool writes that module with the counts of its lines to
# build/coverage/spool.txt.
set -eu
cd "$(dirname "$0")/.."

LEAST=${LEAST:-90}
build=build/coverage
profiles=$PWD/$build/profiles
make=${MAKE:-make}

# Target of tests/fuzz, and the modules that it is for.
targets="
addr         addr addr_idn
alias        alias alias_system alias_walk
authres      authres
certs        tls_certs tls_roots tls
conf         conf conf_keys conf_take conf_reload conf_smarthost confvalue
control      control control_ask control_queue
dane         dane tls_chain
dns          dns_answer
domaininfo   domaininfo_file
dsn          dsn dsn_form
header       header
hold         hold
hook         smtpd_hook
httpd        httpd_request
https        https_answer
masquerade   masquerade
proxyproto   proxyproto
reply        smtpreply smtpbody smtp status
smtpc        smtpc smtpc_open
smtpd        smtpd smtpd_cmd smtpd_mail smtpd_rcpt smtpd_tls smtpd_auth smtpd_spf smtpd_log smtpd_reply
spf          spf spf_term spf_record spf_macro
spool        spool_read spool_text spool_history
srs          srs
sts          sts_policy
text         text textfield
user         user usersecret
"

build()
{
	mkdir -p "$profiles"
	chmod 1777 "$profiles"
	# What says nothing of a place counts as end-to-end.
	$make -s -j"$(nproc)" BUILD=$build CC=clang CFLAGS="-O1 -g -fcoverage-mapping \
		-fprofile-instr-generate=$profiles/e2e-%m%c.profraw -mllvm -runtime-counter-relocation \
		-Wno-unused-command-line-argument" "$@"
}

# Runs a program with counters of its own.
counted()
{
	LLVM_PROFILE_FILE=$profiles/${1##*/}%c.profraw "$@" >"$build/${1##*/}.log" 2>&1 && return 0
	echo "coverage: failed: $*"
	failures=$((failures + 1))
}

fuzz_programs()
{
	echo "$targets" | awk -v b="$build" 'NF { print b "/fuzz_" $1 }'
}

unit_programs()
{
	for t in tests/unit/test_*.c; do
		t=${t##*/}
		echo "$build/${t%.c}"
	done
}

run_corpora()
{
	for p in $(fuzz_programs); do
		counted "$p" "tests/fuzz/corpus/${p##*/fuzz_}"
	done
}

# Prints "module lines missed branches missed" for each module, from programs named.
measure()
{
	llvm-profdata merge -sparse -o $build/all.profdata "$profiles"/*.profraw
	first=$1
	shift
	# shellcheck disable=SC2046
	set -- "$first" $(printf -- '-object %s ' "$@") -instr-profile=$build/all.profdata
	llvm-cov report "$@" -ignore-filename-regex='(^|/)tests/|\.h$' 2>/dev/null |
		awk '$1 ~ /\.c$/ { sub(/.*\//, "", $1); sub(/\.c$/, "", $1); print $1, $8, $9, $11, $12 }'
	[ -z "${MODULE:-}" ] || llvm-cov show "$@" "$MODULE.c" 2>/dev/null >"$build/$MODULE.txt"
}

# Reads what measure prints: a table, the sum, and who is below LEAST. $1: the modules that count
# and of which each must come up to it; empty: the sum must.
judge()
{
	awk -v least="$LEAST" -v wanted=" $(echo "$1" | tr '\n' ' ') " '
	function percent(all, missed) { return all ? 100 * (all - missed) / all : 100 }
	BEGIN { gsub(/ +/, " ", wanted) }
	wanted != " " && !index(wanted, " " $1 " ") { next }
	{
		seen[$1] = 1
		printf "%-18s %5d lines %6.1f %%  branches %6.1f %%\n", $1, $2, percent($2, $3), percent($4, $5)
		lines += $2; missed += $3; branches += $4; untaken += $5
		if (percent($2, $3) < least)
			low = low " " $1
	}
	END {
		printf "%-18s %5d lines %6.1f %%  branches %6.1f %%\n", "all", lines, percent(lines, missed),
			percent(branches, untaken)
		n = split(wanted, name, " ")
		for (i = 1; i <= n; i++)
			if (!(name[i] in seen))
				low = low " " name[i] "(not measured)"
		if (low != "")
			print "coverage: below " least " % of the lines:" low
		exit lines == 0 || (wanted != " " ? low != "" : percent(lines, missed) < least)
	}'
}

corpus()
{
	# shellcheck disable=SC2046
	build $(fuzz_programs)
	rm -f "$profiles"/*
	run_corpora
	[ $failures = 0 ]
	# shellcheck disable=SC2046
	measure $(fuzz_programs) >$build/table
	judge "$(echo "$targets" | awk '{ $1 = ""; print }')" <$build/table
}

end_to_end()
{
	unset LLVM_PROFILE_FILE
	CHASQ=$PWD/$build/chasq
	CHASQ_FAST=$CHASQ
	export CHASQ CHASQ_FAST
	# The file is there, and anybody's, before somebody else starts the program.
	"$CHASQ" -V >/dev/null
	chmod 666 "$profiles"/e2e-*
	if [ -n "${PYTEST_ARGS:-}" ]; then
		# shellcheck disable=SC2086
		pytest 1 $PYTEST_ARGS tests/e2e
		return
	fi
	# Halves side by side, as in check.sh.
	pytest 2 tests/e2e/test_[m-z]*.py &
	pytest 1 tests/e2e/test_[a-l]*.py
	wait
}

# $1: which log. A test that fails here and not in check.sh does so for what it measures.
pytest()
{
	log=$build/e2e.$1.log
	shift
	/usr/bin/python3 -m pytest -q -p no:cacheprovider "$@" >"$log" 2>&1 ||
		grep -E '^(FAILED|ERROR)' "$log" | cut -c 1-100 | head -n 20 || true
	tail -n 1 "$log"
}

suite()
{
	build tests
	rm -f "$profiles"/*
	for p in $(unit_programs); do
		counted "$p"
	done
	run_corpora
	end_to_end
	# shellcheck disable=SC2046
	measure $build/chasq $(unit_programs) $(fuzz_programs) >$build/table
	judge "" <$build/table
}

failures=0
case ${1:-} in
corpus | suite) "$1" ;;
*)
	echo "usage: $0 corpus|suite" >&2
	exit 2
	;;
esac
