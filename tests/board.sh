#!/bin/sh
# `make board`: chasq on a router of 25 MB, emulated: tests/board/test_board.py. Here what it needs
# is made: the static program for mipsel (tests/musl.sh), Debian's kernel for the Malta board, and
# busybox. Without qemu, or root to install it, or apt's archives, that is said and nothing is run.
set -eu
cd "$(dirname "$0")/.."
. tests/cross_lib.sh

if ! cross_install qemu-system-mips e2fsprogs python3-pytest openssl; then
	echo "board: skipped: no qemu-system-mipsel, and no root to install it"
	exit 0
fi
# shellcheck disable=SC2034
arch=mipsel
if ! cross_unpack build/cross/board "linux-image-4kc-malta->" busybox-static; then
	echo "board: skipped: no kernel for the board from apt"
	exit 0
fi
TESTS=- sh tests/musl.sh mipsel
export CHASQ_BOARD="$PWD/build/cross/board" CHASQ="$PWD/build/cross/musl-mipsel/chasq.stripped"
/usr/bin/python3 -m pytest -q -s -p no:cacheprovider tests/board
