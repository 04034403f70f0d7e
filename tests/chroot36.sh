#!/bin/sh
# Builds and runs the unit tests and fuzz corpora with mbedTLS 3.6 and GCC 14, in a chroot with Debian
# 13; then, outside of it, the daemon's main job and TLS end to end, with that program and its libraries.
# The chroot is made once (half a minute and 500 MB) in build/trixie, and kept. The tree is copied in;
# nothing is mounted but /proc, in a mount namespace that ends with the script. Without root,
# debootstrap or Debian's archive that is said and nothing is run.
# Usage: tests/chroot36.sh [TEST...]: some of the unit tests and fuzz_X, or e2e; without names all of them but
# what needs Python in the chroot.
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
[ -n "$tests" ] || tests="$(cd tests/unit && grep -L 'python3\|dnsd' test_*.c | sed 's/\.c$//')
	$(cd tests/fuzz && printf "%s\n" fuzz_*.c | sed 's/\.c$//') e2e"
outside=$(cd "$root" && pwd)
# shellcheck disable=SC2086
unshare --mount chroot "$root" /bin/sh -eu -s "$outside" $tests <<'EOF'
outside=$1
shift
mount -t proc proc /proc
mkdir -p /dev/pts
mount -t devpts -o newinstance,ptmxmode=666 devpts /dev/pts
ln -sf pts/ptmx /dev/ptmx
cd /src
build()
{
	make -s CFLAGS='-O2 -g -Werror' "$@"
}
build chasq
./chasq -V
bad=0
for t; do
	case $t in
	e2e) continue ;;
	fuzz_*) set -- tests/fuzz/corpus/${t#fuzz_} ;;
	*) set -- ;;
	esac
	build build/main/$t
	if build/main/$t "$@" </dev/null >log 2>&1; then
		grep -E '^\[  PASSED' log | sed "s,\$,  $t (mbedTLS 3.6),"
	else
		cat log
		echo "chroot36: failed: $t"
		bad=1
	fi
done
# Once more for the world outside, where loader and libraries have other names.
loader=$(readelf -l chasq | sed -n 's/.*interpreter: \(.*\)]/\1/p')
libraries=/usr/lib/$(gcc -print-multiarch)
rm build/main/chasq
build LDFLAGS="-Wl,--dynamic-linker=$outside$loader,--disable-new-dtags,-rpath,$outside$libraries" build/main/chasq
exit $bad
EOF
case " $tests " in
*e2e*) ;;
*) exit 0 ;;
esac
if ! sh tests/deps.sh test >build/trixie.log 2>&1; then
	echo "chroot36: skipped: e2e: $(tail -n 1 build/trixie.log)"
	exit 0
fi
export CHASQ="$outside/src/build/main/chasq" CHASQ_FAST="$outside/src/build/main/chasq"
"$CHASQ" -V | head -n 1
# shellcheck disable=SC2046
/usr/bin/python3 -m pytest -q -p no:cacheprovider $(printf 'tests/e2e/%s.py ' $main_job test_tls_client)
