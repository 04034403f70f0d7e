#!/bin/sh
# Builds and runs the unit tests with mbedTLS 3.6 and GCC 14: Debian 13 in a chroot.
# The chroot is made once (half a minute and 500 MB) in build/trixie, and kept. The tree is copied in;
# nothing is mounted but /proc, in a mount namespace that ends with the script. Without root,
# debootstrap or Debian's archive that is said and nothing is run.
# Usage: tests/chroot36.sh [TEST...]; without names, all of tests/unit that need no Python.
set -eu
cd "$(dirname "$0")/.."
. tests/cross_lib.sh

root=${CHASQ_TRIXIE:-build/trixie}
packages=gcc,libc6-dev,make,pkg-config,libmbedtls-dev,libidn2-dev,libc-ares-dev,libcmocka-dev
packages=$packages,openssl,ca-certificates
mirror=${CHASQ_MIRROR:-$(apt-get indextargets --format "\$(REPO_URI)" | head -n 1)}

if [ "$(id -u)" != 0 ] || ! cross_install debootstrap; then
	echo "chroot36: skipped: no root, or no debootstrap"
	exit 0
fi
if [ ! -e "$root/made" ]; then
	rm -rf "$root"
	mkdir -p "$root"
	echo "chroot36: making a Debian 13 in $root"
	PATH=$PATH:/usr/sbin debootstrap --variant=minbase --include=$packages trixie "$root" \
		"$mirror" >build/trixie.log 2>&1 || {
		tail -n 5 build/trixie.log
		echo "chroot36: skipped: debootstrap brings no Debian 13 from $mirror"
		exit 0
	}
	touch "$root/made"
fi

rm -rf "$root/src"
mkdir -p "$root/src/tests"
cp Makefile ./*.c ./*.h "$root/src/"
cp -r tests/unit tests/fuzz tests/tools "$root/src/tests/"
[ -c "$root/dev/null" ] || mknod -m 666 "$root/dev/null" c 1 3

tests=$*
[ -n "$tests" ] || tests=$(cd tests/unit && grep -L 'python3\|dnsd' test_*.c | sed 's/\.c$//')
unshare --mount chroot "$root" /bin/sh -eu -s $tests <<'EOF'
mount -t proc proc /proc
mkdir -p /dev/pts
mount -t devpts -o newinstance,ptmxmode=666 devpts /dev/pts
ln -sf pts/ptmx /dev/ptmx
cd /src
make -s CFLAGS='-O2 -g -Werror' chasq
./chasq -V
for t; do
	make -s CFLAGS='-O2 -g -Werror' build/main/$t
done
bad=0
for t; do
	if build/main/$t </dev/null >log 2>&1; then
		grep -E '^\[  PASSED' log | sed "s,\$,  $t (mbedTLS 3.6),"
	else
		cat log
		echo "chroot36: failed: $t"
		bad=1
	fi
done
exit $bad
EOF
