#!/bin/sh
# Installs what building and testing need, on Debian and its relatives.
#
#   tests/deps.sh build   what `make` needs
#   tests/deps.sh test    that, what `make check` and `make lint` need, and the mail servers to test against
#
# Fast when nothing is missing. Packages come from apt, as root or through sudo; without either, the
# line to type is printed. The mail servers conflict with each other and with whatever this machine
# uses, and would start as services: they are only unpacked under build/peers, and of their packages
# nothing but libraries is installed.
set -eu

cd "$(dirname "$0")/.."
what=${1:-test}
peers=build/peers
stamp=build/deps.$what.ok

build_packages="gcc libc6-dev make pkg-config libc-ares-dev libidn2-dev libmbedtls-dev"
test_packages="libcmocka-dev clang clang-format clang-tidy llvm afl++ cppcheck valgrind python3 python3-pytest python3-pytest-xdist
	python3-protobuf protobuf-compiler dnsmasq-base swaks libnet-ssleay-perl mandoc strace faketime iproute2 e2fsprogs
	util-linux procps file openssl ca-certificates debootstrap python3-spf unicode-data
	python3-prometheus-client
	shellcheck tmux bash-completion chromium systemd lintian debhelper dpkg-dev fakeroot
	gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"
peer_packages="exim4-daemon-light exim4-base postfix procmail maildrop courier-authlib
	libcourier-unicode4 msmtp dovecot-core dovecot-lmtpd nginx knot unbound rspamd
	librust-idna-dev prometheus fail2ban haproxy"

say()
{
	echo "deps: $*" >&2
}

die()
{
	say "$*"
	exit 1
}

# The answer of the last full run still holds if this script has not changed and the programs it
# brought are there.
still_good()
{
	[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(cksum <"$0")" ] || return 1
	programs="gcc make pkg-config"
	files="/usr/include/ares.h /usr/include/idn2.h /usr/include/mbedtls/ssl.h"
	if [ "$what" = test ]; then
		programs="$programs clang clang-format clang-tidy cppcheck valgrind protoc dnsmasq swaks
			mandoc strace faketime unshare openssl shellcheck tmux chromium mkfs.ext4
			systemd-analyze lintian dpkg-buildpackage dh debootstrap
			arm-linux-gnueabihf-gcc afl-fuzz afl-clang-fast llvm-cov llvm-profdata"
		files="$files /usr/include/cmocka.h $peers/root/usr/sbin/exim4
			$peers/root/usr/sbin/smtp-source $peers/root/usr/bin/maildrop
			$peers/root/usr/bin/procmail $peers/root/usr/bin/msmtp
			$peers/root/usr/sbin/dovecot $peers/root/usr/sbin/nginx
			$peers/root/usr/sbin/knotd $peers/root/usr/sbin/unbound
			$peers/root/usr/lib/dovecot/lmtp $peers/root/usr/bin/rspamd
			$peers/root/usr/bin/prometheus $peers/root/usr/bin/promtool
			$peers/root/usr/bin/fail2ban-regex
			$peers/root/usr/sbin/haproxy"
	fi
	for p in $programs; do
		PATH=$PATH:/usr/sbin command -v "$p" >/dev/null || return 1
	done
	for f in $files; do
		[ -e "$f" ] || return 1
	done
	[ "$what" = build ] || /usr/bin/python3 -c 'import pytest, xdist, google.protobuf, spf, prometheus_client' 2>/dev/null
}

# Those of the named packages that are not installed.
missing()
{
	for p in "$@"; do
		case $(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null) in
		installed) ;;
		*) printf '%s ' "$p" ;;
		esac
	done
}

# Sets $root to the prefix that makes a command run as root; fails when there is none.
find_root()
{
	root=
	[ "$(id -u)" = 0 ] && return 0
	command -v sudo >/dev/null || return 1
	if [ -t 0 ] || sudo -n true 2>/dev/null; then
		root=sudo
		return 0
	fi
	return 1
}

updated=no
apt_update()
{
	[ $updated = no ] || return 0
	say "updating apt's lists"
	$root apt-get update -q >&2
	updated=yes
}

# Installs packages, updating the lists only if that is what it takes. No package may start a
# service: policy-rc.d is not touched, none of these has one.
install()
{
	[ $# -gt 0 ] || return 0
	if ! find_root; then
		set -- $(missing $(printf '%s\n' "$@" $(later_packages) | awk '!seen[$0]++'))
		say "missing: $*"
		say "type this, then try again:"
		echo "su -c 'apt-get update && apt-get install -y --no-install-recommends $*'"
		exit 1
	fi
	say "installing: $*"
	set -- env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -q -y \
		--no-install-recommends install "$@"
	$root "$@" </dev/null >&2 || {
		apt_update
		$root "$@" </dev/null >&2
	}
}

# Fetches the peers' packages into $peers/deb without installing them.
fetch_peers()
{
	rm -rf "$peers/deb"
	mkdir -p "$peers/deb"
	(cd "$peers/deb" && apt-get -q -o APT::Sandbox::User=root download $peer_packages >&2)
}

# What else the tests will turn out to need, guessed from apt's lists: for the one line to type.
later_packages()
{
	[ "$what" = test ] || return 0
	apt-cache depends clang 2>/dev/null | sed -n 's/^ *Depends: clang-\([0-9]*\)$/libclang-rt-\1-dev/p'
	# Of alternatives the first: the line with the bar.
	apt-cache depends $peer_packages 2>/dev/null |
		awk '/Depends: lib/ && !/-dev$/ { if (!more) print $NF; more = /\|/; next } { more = 0 }' |
		grep -vxF "$(printf '%s\n' $peer_packages)"
}

unpack_peers()
{
	say "fetching servers to test against: $(echo $peer_packages)"
	fetch_peers || {
		find_root || die "apt's lists are old: run 'apt-get update' as root"
		apt_update
		fetch_peers
	}
	rm -rf "$peers/root"
	mkdir -p "$peers/root"
	needed=
	for deb in "$peers"/deb/*.deb; do
		dpkg -x "$deb" "$peers/root"
		# Of "a | b (>= 1), c" the first names.
		needed="$needed $(dpkg -f "$deb" Depends Pre-Depends | sed 's/^[A-Za-z-]*: //' |
			tr ',' '\n' | awk '$1 ~ /^lib/ && $1 !~ /-dev$/ { print $1 }')"
	done
	# Nothing here may gain rights by being run.
	find "$peers/root" -type f -perm /6000 -exec chmod ug-s {} +
	wanted=
	for p in $(echo $needed | tr ' ' '\n' | sort -u); do
		case " $(echo $peer_packages) " in
		*" $p "*) ;;
		*) wanted="$wanted $p" ;;
		esac
	done
	install $(missing $wanted)
	check_peers
}

# Every library of the programs used is found.
check_peers()
{
	r=$PWD/$peers/root
	libs=$(find "$r/usr/lib" -name '*.so*' -exec dirname {} + | sort -u | tr '\n' ':')
	for p in usr/sbin/exim4 usr/sbin/smtp-source usr/sbin/smtp-sink usr/bin/procmail \
		usr/bin/maildrop usr/bin/msmtp usr/sbin/dovecot usr/lib/dovecot/auth \
		usr/lib/dovecot/anvil usr/lib/dovecot/lmtp usr/sbin/nginx usr/sbin/knotd \
		usr/sbin/keymgr usr/sbin/unbound usr/bin/rspamd usr/bin/rspamc \
		usr/sbin/haproxy; do
		lost=$(LD_LIBRARY_PATH=$libs ldd "$r/$p" | grep 'not found' || true)
		[ -z "$lost" ] || die "$p lacks libraries: $lost"
	done
}

case $what in
build) packages=$build_packages ;;
test)
	packages="$build_packages $test_packages"
	;;
*) die "usage: $0 [build|test]" ;;
esac

still_good && exit 0
command -v apt-get >/dev/null || die "this system has no apt-get. Needed: $(echo $packages)"
mkdir -p build
install $(missing $packages)
if [ "$what" = test ]; then
	clang_rt=$(clang --version | sed -n 's/.*clang version \([0-9]*\).*/libclang-rt-\1-dev/p;1q')
	install $(missing $clang_rt)
	unpack_peers
fi
cksum <"$0" >"$stamp"
still_good || die "something is still missing after the installation"
say "all there"
