#!/bin/sh
# Builds the Debian package of the tree that this file is in, into DIR (default: build/deb).
# Usage: packaging/build-deb.sh [DIR]
set -eu
cd "$(dirname "$0")/.."
if ! command -v dpkg-buildpackage >/dev/null || ! command -v dh >/dev/null || ! dpkg-checkbuilddeps packaging/debian/control; then
	echo "build-deb: type this first, as root:" >&2
	echo "apt-get install build-essential debhelper $(sed -n 's/^Build-Depends: debhelper[^,]*, //p' packaging/debian/control | tr -d ,)"
	exit 1
fi >&2
out=${1:-build/deb}
version=$(sed -n 's/^VERSION = //p' Makefile)
rm -rf "$out"
mkdir -p "$out/chasq-$version"
out=$(cd "$out" && pwd)
# What git knows, or all but what is built, when this is no clone.
if git ls-files --error-unmatch Makefile >/dev/null 2>&1; then
	git ls-files -z --cached --others --exclude-standard
else
	find . -path ./build -prune -o -path ./run -prune -o -type f -print0
fi | tar -c --null -T - -f - | tar -x -C "$out/chasq-$version" -f -
cd "$out/chasq-$version"
tar -C .. --exclude=packaging/debian -czf "../chasq_$version.orig.tar.gz" "chasq-$version"
cp -R packaging/debian debian
dpkg-buildpackage -us -uc "${DEB_BUILD:--b}"
