#!/bin/sh
# `make run`: chasq with a configuration of its own under ./run, and a first message through it.
set -eu
cd "$(dirname "$0")/.."

dir=$PWD/run
port=1025
user=${USER:-$(id -un)}
mkdir -p "$dir/domains/localhost" "$dir/bin"
if [ ! -f "$dir/chasq.conf" ]; then
	cat >"$dir/chasq.conf" <<-CONF
		# Made by "make run". Change it as you like: it is not written again. See chasq.conf(5).
		hostname: "localhost"
		smtp_address: "127.0.0.1:$port"
		data_dir: "$dir/data"
		maildir: "$dir/mail/%to_user%"
	CONF
	cat >"$dir/domains/localhost/users" <<-USERS
		users: { key: "$user" value: { denied: {} } }
	USERS
	cat >"$dir/domains/localhost/aliases" <<-ALIASES
		# name: address, address | a program
		postmaster: $user
		root: $user
	ALIASES
fi
# Nobody trusts it, but it shows STARTTLS.
if [ ! -d "$dir/certs" ] && command -v openssl >/dev/null; then
	mkdir -p "$dir/certs/localhost"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=localhost \
		-addext subjectAltName=DNS:localhost -keyout "$dir/certs/localhost/privkey.pem" \
		-out "$dir/certs/localhost/fullchain.pem" 2>/dev/null || rm -rf "$dir/certs"
fi
ln -sf ../../chasq "$dir/bin/sendmail"
ln -sf ../../chasq "$dir/bin/mailq"

if "$dir/bin/mailq" -C "$dir" >/dev/null 2>&1; then
	echo "chasq is running already with the configuration in run/: end that one first"
	exit 1
fi
./chasq -c "$dir" &
pid=$!
trap 'kill $pid 2>/dev/null; wait $pid 2>/dev/null || true' EXIT
# A hangup means "read again" to chasq: a closed terminal has to end it in our words.
trap 'exit 0' HUP INT TERM

n=0
until "$dir/bin/mailq" -C "$dir" >/dev/null 2>&1; do
	n=$((n + 1))
	kill -0 $pid 2>/dev/null || exit 1
	[ $n -lt 100 ] || { echo "chasq did not start"; exit 1; }
	sleep 0.1
done

before=$(ls "$dir/mail/$user/new" 2>/dev/null | wc -l)
printf 'Subject: hello from chasq\n\nIt works. This message went through the queue in run/data.\n' |
	"$dir/bin/sendmail" -C "$dir" "$user@localhost"
n=0
while [ "$(ls "$dir/mail/$user/new" 2>/dev/null | wc -l)" -le "$before" ] && [ $n -lt 100 ]; do
	n=$((n + 1))
	sleep 0.1
done
file=$(ls -t "$dir/mail/$user/new/"* 2>/dev/null | head -n 1)
[ -n "$file" ] || { echo "the message did not arrive"; exit 1; }

echo
echo "---- delivered: run/${file#"$dir"/}"
cat "$file"
cat <<LOOK
---- chasq is running (pid $pid) until you press Ctrl-C
  configuration      run/chasq.conf, run/domains/localhost/
  send a message     printf 'Subject: hi\n\nhi\n' | run/bin/sendmail -C run root@localhost
  talk to it         nc 127.0.0.1 $port     (EHLO me, MAIL FROM:<>, ...)
  see its TLS        ./chasq dialog -C run -s localhost 127.0.0.1:$port
  look at the queue  run/bin/mailq -C run
  mail               run/mail/$user/new/
LOOK
wait $pid
