# shellcheck shell=sh disable=SC2034
# For tests/cross.sh, musl.sh, board.sh, chroot36.sh and package_deb.sh: packages that are missing, what a
# target is called by whom, and its libraries in a sysroot.

# The daemon's main job, in tests/e2e: mail in, into Maildirs and on to others, bounces, restarts, TLS.
main_job="test_local test_remote test_dsn test_kill test_relaying test_sendmail test_tls_server"

# Sets $arch (Debian's name), $triplet (the compiler's), $multiarch (the directories') and $qemu
# (the emulator's suffix; empty when the machine runs it) and $emulator (what programs are run by).
cross_names()
{
	qemu=
	case ${1#musl-} in
	armhf) arch=armhf triplet=arm-linux-gnueabihf qemu=arm ;;
	arm64) arch=arm64 triplet=aarch64-linux-gnu qemu=aarch64 ;;
	mips) arch=mips triplet=mips-linux-gnu qemu=mips ;;
	mipsel) arch=mipsel triplet=mipsel-linux-gnu qemu=mipsel ;;
	s390x) arch=s390x triplet=s390x-linux-gnu qemu=s390x ;;
	i386*) arch=i386 triplet=i686-linux-gnu ;;
	*)
		echo "cross: no such target: $1" >&2
		exit 2
		;;
	esac
	emulator=${qemu:+qemu-$qemu-static -L /usr/$triplet}
	# Signed return addresses, with a cipher that is ten times as fast to emulate as the architecture's own.
	[ $arch != arm64 ] || emulator="$emulator -cpu max,pauth-impdef=on"
	multiarch=$triplet
	[ $arch != i386 ] || multiarch=i386-linux-gnu
}

cross_have()
{
	PATH=$PATH:/usr/sbin command -v "$1" >/dev/null
}

# Installs what is missing of the packages named, as root; fails otherwise.
cross_install()
{
	for p; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] && continue
		[ "$(id -u)" = 0 ] || return 1
		echo "cross: installing $*" >&2
		set -- env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -q -y \
			--no-install-recommends install "$@"
		"$@" >&2 </dev/null || { apt-get -q update >&2 && "$@" >&2 </dev/null; }
		return
	done
}

# Unpacks packages of architecture $arch into a directory, by an apt with a state of its own.
# A name that ends in "->" stands for the package that it depends on first. cross_unpack ROOT PACKAGE...
cross_unpack()
{
	into=$1
	shift
	wanted=$(echo "$arch $*" | cksum)
	[ "$(cat "$into.made" 2>/dev/null)" != "$wanted" ] || return 0
	state=$PWD/$into.apt
	rm -rf "$into" "$state"
	mkdir -p "$into" "$state/lists/partial" "$state/cache/archives/partial" "$state/deb"
	: >"$state/status"
	(
		cd "$state/deb"
		own="-q -o APT::Architecture=$arch -o APT::Architectures::=$arch -o Dir::State=$state
			-o Dir::State::lists=$state/lists -o Dir::State::status=$state/status
			-o Dir::Cache=$state/cache -o APT::Sandbox::User=root -o Acquire::Languages=none"
		# One list may fail while its mirror is being filled; the packages decide.
		apt-get $own update || :
		for p; do
			case $p in
			*'->') p=$(apt-cache $own depends "${p%->}" | sed -n 's/^ *Depends: //p;') && p=${p%% *} ;;
			esac
			apt-get $own download "$p"
		done
	) >"$state/log" 2>&1 || {
		tail -n 5 "$state/log" >&2
		return 1
	}
	for deb in "$state"/deb/*.deb; do
		dpkg -x "$deb" "$into"
	done
	rm -rf "$state"
	echo "$wanted" >"$into.made"
}

# A pkg-config that knows the libraries of one directory only: its directories are the compiler's
# matter, so it says no more than their names.
cross_pkg_config()
{
	cat >"$1" <<END
#!/bin/sh
export PKG_CONFIG_LIBDIR='$2' PKG_CONFIG_SYSROOT_DIR=
exec pkg-config ${3:-} "\$@"
END
	chmod 755 "$1"
}

# Everything for one target: $cc, $pkg_config and $cflags, and the names above. Fails with the
# reason in $cross_lacks.
cross_settle()
{
	cross_names "$1"
	root=build/cross/$1/root
	mkdir -p "build/cross/$1"
	cflags="-O2 -g"
	# tests/musl.sh has made everything itself.
	if [ -n "${CROSS_CC:-}" ]; then
		cc=$CROSS_CC pkg_config=$CROSS_PKG_CONFIG cflags="-Os -g"
		return 0
	fi
	cross_lacks="no apt-get"
	cross_have apt-get || return 1
	cross_lacks="no compiler for $arch, and no root to install it"
	# shellcheck disable=SC2046
	cross_install gcc-$triplet libc6-dev-$arch-cross ${qemu:+qemu-user-static} \
		$([ "$1" != i386-asan ] || echo clang libclang-rt-14-dev) || return 1
	cross_lacks="no libraries for $arch from apt"
	cross_unpack "$root" libmbedtls-dev libmbedtls14 libmbedx509-1 libmbedcrypto7 libidn2-dev \
		libidn2-0 libunistring-dev libunistring2 libc-ares-dev libc-ares2 libcmocka-dev libcmocka0 ||
		return 1
	cross_pkg_config "build/cross/$1/pkg-config" "$PWD/$root/usr/lib/$multiarch/pkgconfig"
	pkg_config=$PWD/build/cross/$1/pkg-config
	lib=$PWD/$root/usr/lib/$multiarch
	# The run path names the sysroot, for libraries of libraries, too: no variable that children inherit.
	compiler=$triplet-gcc
	if [ "$1" = i386-asan ]; then
		compiler="clang --target=$triplet -Wno-unused-command-line-argument -isystem /usr/$triplet/include -L/usr/$triplet/lib"
		cflags="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
	fi
	cc="$compiler -isystem $PWD/$root/usr/include -isystem $PWD/$root/usr/include/$multiarch
		-L$lib -Wl,-rpath-link,$lib -Wl,--disable-new-dtags,-rpath,$lib:/usr/$triplet/lib"
	case $1 in
	i386*) cc="$cc -Wl,-dynamic-linker,/usr/$triplet/lib/ld-linux.so.2" ;;
	esac
	cc=$(echo $cc)
}
