#!/bin/sh
# The Debian package as its user meets it: built, judged by lintian, installed as the
# mail-transport-agent of a fresh system, used by `echo hi | mail root`, removed, installed again,
# purged. Without root, or debootstrap, that is said and nothing is run. Usage: tests/package_deb.sh
set -eu
cd "$(dirname "$0")/.."
. tests/cross_lib.sh

dir=$PWD/build/deb
chroot_dir=$PWD/build/deb-system
cache=$PWD/build/deb-base.tar
suite=bookworm

say()
{
	echo "package: $*"
}

die()
{
	say "$*"
	exit 1
}

# Runs a command in the system, with a loopback interface of its own and none else.
inside()
{
	unshare --net --pid --fork --mount-proc="$chroot_dir/proc" sh -c \
		'ip link set lo up && exec chroot "$0" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"' "$chroot_dir" "$@"
}

# The same with the network, for apt.
inside_net()
{
	chroot "$chroot_dir" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"
}

finish()
{
	umount "$chroot_dir/proc" 2>/dev/null || true
}
trap finish EXIT

if [ "$(id -u)" != 0 ] || ! cross_install debootstrap lintian debhelper dpkg-dev fakeroot; then
	say "skipped: no root, or no tools to install"
	exit 0
fi

say "building and linting"
sh packaging/build-deb.sh "$dir" >build/package_deb.log 2>&1 || {
	cat build/package_deb.log
	die "the build failed"
}
# Who packages it for others has an address and a bug number; this one has not.
lintian --allow-root --fail-on error,warning --suppress-tags \
	bogus-mail-host,bogus-mail-host-in-debian-changelog,initial-upload-closes-no-bugs "$dir"/*.changes ||
	die "lintian complains"

say "making a system"
rm -rf "$chroot_dir"
mkdir -p "$chroot_dir"
if [ -s "$cache" ]; then
	tar -C "$chroot_dir" -xf "$cache"
else
	debootstrap --variant=minbase "$suite" "$chroot_dir" >>build/package_deb.log 2>&1 || {
		tail -n 5 build/package_deb.log
		say "skipped: debootstrap brings no $suite"
		exit 0
	}
	cp /etc/apt/sources.list "$chroot_dir/etc/apt/" 2>/dev/null || true
	cp -R /etc/apt/sources.list.d /etc/apt/apt.conf.d /etc/apt/keyrings "$chroot_dir/etc/apt/" 2>/dev/null || true
	tar -C "$chroot_dir" -cf "$cache.new" . && mv "$cache.new" "$cache"
fi
cp /etc/resolv.conf "$chroot_dir/etc/"
echo box.example.org >"$chroot_dir/etc/mailname"
echo '# local aliases' >"$chroot_dir/etc/aliases"
cp "$dir"/chasq_0*.deb "$chroot_dir/chasq.deb"

say "installing with mail(1), which wants a mail-transport-agent"
inside_net sh -c 'apt-get update -q && apt-get install -q -y --no-install-recommends /chasq.deb bsd-mailx' \
	>>build/package_deb.log 2>&1 || {
	tail -n 30 build/package_deb.log
	die "the installation failed"
}
inside_net dpkg --audit
inside_net chasq -t

say "echo hi | mail root"
inside sh -c '
	chasq >/var/log/chasq.test 2>&1 &
	for i in $(seq 100); do chasq status >/dev/null 2>&1 && break; sleep 0.1; done
	chasq status >/dev/null || exit 1
	echo hi | mail -s "from the package" root || exit 1
	for i in $(seq 100); do ls /var/lib/chasq/mail/box.example.org/root/new/* >/dev/null 2>&1 && break; sleep 0.1; done
	cat /var/lib/chasq/mail/box.example.org/root/new/*
	su -s /bin/sh nobody -c "echo from nobody | sendmail root" || exit 1
	for i in $(seq 100); do [ "$(ls /var/lib/chasq/mail/box.example.org/root/new | wc -l)" = 2 ] && break; sleep 0.1; done
	[ "$(ls /var/lib/chasq/mail/box.example.org/root/new | wc -l)" = 2 ] || exit 1
	[ "$(stat -c %U /proc/$!)" = chasq ] || { echo "not running as chasq"; exit 1; }
	kill $!; wait $!
' >build/package_deb.mail || {
	cat build/package_deb.mail "$chroot_dir/var/log/chasq.test"
	die "the mail did not arrive"
}
grep -q '^hi$' build/package_deb.mail && grep -q '^Subject: from the package$' build/package_deb.mail ||
	die "the mail is not what was sent"

say "removing: configuration, queue and mail stay"
inside_net apt-get remove -q -y chasq >>build/package_deb.log 2>&1
[ -e "$chroot_dir/etc/chasq/chasq.conf" ] && [ -d "$chroot_dir/var/lib/chasq/queue" ] || die "removal took too much"
[ ! -e "$chroot_dir/usr/sbin/chasq" ] && [ ! -e "$chroot_dir/usr/sbin/sendmail" ] || die "removal left programs"

say "installing again, with what was configured"
echo 'max_data_size_mb: 7' >>"$chroot_dir/etc/chasq/chasq.conf"
inside_net dpkg -i /chasq.deb >>build/package_deb.log 2>&1
grep -q 'max_data_size_mb: 7' "$chroot_dir/etc/chasq/chasq.conf" || die "the configuration was written over"

say "purging: delivered mail stays, then nothing does"
inside_net apt-get purge -q -y chasq >>build/package_deb.log 2>&1
[ -d "$chroot_dir/var/lib/chasq/mail" ] || die "the purge took delivered mail"
[ ! -e "$chroot_dir/etc/chasq" ] && [ ! -e "$chroot_dir/var/lib/chasq/queue" ] || die "the purge left something"
inside_net dpkg -i /chasq.deb >>build/package_deb.log 2>&1
rm -rf "$chroot_dir/var/lib/chasq/mail"
inside_net apt-get purge -q -y chasq >>build/package_deb.log 2>&1
left=$(find "$chroot_dir" -xdev -iname '*chasq*' ! -path '*/var/lib/dpkg/*' ! -path '*/var/log/*' ! -path /proc \
	! -name chasq.deb ! -path '*/var/cache/*' ! -path '*/var/lib/apt/*' | head)
[ -z "$left" ] || die "the purge left: $left"
inside_net getent passwd chasq >/dev/null && die "the purge left the user"
cmp -s - "$chroot_dir/etc/aliases" <<-A || die "/etc/aliases was changed"
	# local aliases
A
rm -rf "$chroot_dir"
say "all good"
