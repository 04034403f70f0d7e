#!/bin/sh
# Makes a C library and the libraries chasq needs for a small machine, and chasq on them, in one
# static program: musl, mbedTLS, c-ares and libidn2, from Debian's source packages. Then runs the
# unit tests and fuzz corpora as tests/cross.sh does.
#
#   tests/musl.sh TARGET...    mips (big-endian: OpenWrt's ath79) mipsel armhf
#   TESTS="test_crc fuzz_dns" tests/musl.sh mips       some of the tests; TESTS=- none
#   MBEDTLS=debian tests/musl.sh mips                  mbedTLS with all that Debian's build has
#
# mbedTLS has what chasq uses of it (packaging/mbedtls_config.h), libidn2 what it asks its own tables
# for (packaging/libidn2_tables.c).
# A target takes three minutes the first time; what was made stays in build/cross/musl-TARGET/root.
set -eu
cd "$(dirname "$0")/.."
. tests/cross_lib.sh

sources=$PWD/build/cross/sources
# Each function in a section of its own: what is not called is left out.
small="-Os -fPIE -ffunction-sections -fdata-sections"
MBEDTLS=${MBEDTLS:-lean}
jobs=$(nproc 2>/dev/null || echo 2)
make=${MAKE:-make}

# The source packages, unpacked, by an apt with a state of its own.
fetch_sources()
{
	[ ! -e "$sources/made" ] || return 0
	state=$sources/apt
	rm -rf "$sources"
	mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
	: >"$state/status"
	mirror=$(apt-get indextargets --format "\$(REPO_URI)" | head -n 1)
	keys=/usr/share/keyrings/debian-archive-keyring.gpg
	echo "deb-src [signed-by=$keys] $mirror bookworm main" >"$state/sources.list"
	(
		cd "$sources"
		apt="apt-get -q -o Dir::State=$state -o Dir::State::lists=$state/lists
			-o Dir::State::status=$state/status -o Dir::Cache=$state/cache
			-o Dir::Etc::sourcelist=$state/sources.list -o Dir::Etc::sourceparts=/dev/null
			-o APT::Sandbox::User=root -o Acquire::Languages=none"
		$apt update
		$apt source --only-source musl mbedtls libidn2 c-ares cmocka
	) >"$sources/log" 2>&1 || {
		tail -n 5 "$sources/log" >&2
		return 1
	}
	rm -rf "$state"
	touch "$sources/made"
}

# A fresh copy of one source package in $work. The times are kept: files made from others are there
# already, and made again only by programs that run on the target.
unpacked()
{
	rm -rf "$work"
	cp -a "$sources/$1"-[0-9]*[0-9] "$work"
	cd "$work"
}

# The C library, and a compiler that knows it. musl's specs are for what a dynamic loader starts;
# here every program is static, and still loaded anywhere.
make_libc()
{
	unpacked musl
	./configure --prefix="$root" --syslibdir="$root/lib" --target="$triplet" --disable-shared \
		--enable-wrapper=gcc CC="$triplet-gcc" CROSS_COMPILE="$triplet-" CFLAGS="$small"
	$make -s -j"$jobs"
	$make -s install
	sed -i 's,/Scrt1\.o,/rcrt1.o,; s,-dynamic-linker [^ ]*,-static -pie --no-dynamic-linker -z text --gc-sections,' \
		"$root/lib/musl-gcc.specs"
	# The compiler's own library calls raise() on ARM: the C library once more behind it.
	sed -i 's,^libgcc\.a.*,& -lc,' "$root/lib/musl-gcc.specs"
	sed 's,-specs ,-isystem '"$root/include"' -specs ,' "$root/bin/musl-gcc" >"$root/bin/cc"
	chmod 755 "$root/bin/cc"
	# The kernel's own headers belong to no C library.
	for d in linux asm asm-generic; do
		ln -sfn "/usr/$triplet/include/$d" "$root/include/$d"
	done
}

make_mbedtls()
{
	unpacked mbedtls
	[ "$MBEDTLS" = debian ] || cp "$top/packaging/mbedtls_config.h" include/mbedtls/config.h
	$make -s -j"$jobs" -C library CC="$cc" AR="$triplet-ar" CFLAGS="$small" static
	cp library/*.a "$root/lib/"
	rm -rf "$root/include/mbedtls" "$root/include/psa"
	cp -r include/mbedtls include/psa "$root/include/"
}

make_cares()
{
	unpacked c-ares
	./configure --host="$triplet" --prefix="$root" --disable-shared --disable-tests \
		CC="$cc" CFLAGS="$small"
	$make -s -j"$jobs" install
}

make_idn()
{
	unpacked libidn2
	./configure --host="$triplet" --prefix="$root" --disable-shared --disable-doc --disable-nls \
		--with-included-libunistring CC="$cc" CFLAGS="$small"
	gcc -O2 -Iunistring -o "$work/tables" "$top/packaging/libidn2_tables.c"
	(cd unistring && "$work/tables")
	for d in gl unistring lib; do
		$make -s -j"$jobs" -C $d
	done
	$make -s -C lib install
	$make -s install-pkgconfigDATA
}

# The library with the smaller tables, on the target, against the system's own of the same version, here: of
# each code point they say the same. A minute under qemu, each time the library is made.
compare_idn()
{
	here=$dir/idn_sum.here
	there=$dir/idn_sum.there
	if ! gcc -O2 -o "$dir/idn_sum" tests/idn_sum.c -lidn2 >"$dir/idn_sum.log" 2>&1; then
		echo "musl: $target: skipped: idn_sum: no libidn2 here"
		return 0
	fi
	"$dir/idn_sum" >"$here"
	"$cc" -O2 -o "$dir/idn_sum" tests/idn_sum.c -L"$root/lib" -lidn2
	$emulator "$dir/idn_sum" >"$there"
	if cmp "$here" "$there"; then
		echo "musl: $target: passed: idn_sum"
	elif [ "$(head -n 1 "$here")" = "$(head -n 1 "$there")" ]; then
		echo "musl: $target: failed: idn_sum: the tables of libidn2"
		exit 1
	else
		echo "musl: $target: skipped: idn_sum: another version here: $(head -n 1 "$here")"
	fi
}

make_cmocka()
{
	unpacked cmocka
	has="-DHAVE_SIGNAL_H -DHAVE_STRUCT_TIMESPEC -DHAVE_CLOCK_REALTIME
		-DHAVE_MALLOC_H -DHAVE_INTTYPES_H -DHAVE_STDINT_H -DHAVE_STRINGS_H -DHAVE_UNISTD_H"
	$cc $small -Iinclude $has -c src/cmocka.c -o cmocka.o
	$triplet-ar rcs "$root/lib/libcmocka.a" cmocka.o
	cp include/cmocka*.h "$root/include/"
}

# What a library is made by, beside this script.
recipe()
{
	case $1 in
	mbedtls) echo "$MBEDTLS $(cksum <packaging/mbedtls_config.h)" ;;
	idn) cksum <packaging/libidn2_tables.c ;;
	*) echo made ;;
	esac
}

# Is a library there as it is wanted? If not, the program is made anew, too.
is_made()
{
	[ "$(cat "$root/made.$1" 2>/dev/null)" != "$(recipe "$1")" ] || return 0
	rm -rf "${dir:?}/bin"
	return 1
}

make_libraries()
{
	work=$PWD/$dir/work
	top=$PWD
	for what in libc mbedtls cares idn cmocka; do
		! is_made $what || continue
		echo "musl: $target: making $what" >&2
		# In no condition: there the shell would go on after what fails.
		set +e
		(set -e; make_$what) >"$dir/$what.log" 2>&1 </dev/null
		code=$?
		set -e
		if [ $code != 0 ]; then
			tail -n 20 "$dir/$what.log"
			echo "musl: $target: failed: $what"
			exit 1
		fi
		[ $what != idn ] || compare_idn
		recipe $what >"$root/made.$what"
	done
	rm -rf "$work"
}

musl_target()
{
	target=musl-$1
	cross_names "$1"
	dir=build/cross/$target
	root=$PWD/$dir/root
	mkdir -p "$root"
	cross_install gcc-$triplet libc6-dev-$arch-cross qemu-user-static dpkg-dev || {
		echo "musl: $1: skipped: no compiler for $1, and no root to install it"
		return 0
	}
	fetch_sources || {
		echo "musl: $1: skipped: no source packages from apt"
		return 0
	}
	cc=$root/bin/cc
	make_libraries
	cross_pkg_config "$dir/pkg-config" "$root/lib/pkgconfig" --static
	CROSS_CC=$cc CROSS_PKG_CONFIG=$PWD/$dir/pkg-config sh tests/cross.sh "$target"
}

for t in ${*:-mips}; do
	musl_target "$t"
done
