# What an init script of OpenWrt finds in /lib/functions.sh and procd.sh, over one UCI file named in
# UCI_FILE: enough for packaging/openwrt. Calls of procd are written to standard output.
# shellcheck shell=dash disable=SC2034,SC2154
config_load()
{
	sections=
	count=0
	section=
	while IFS= read -r line || [ -n "$line" ]; do
		line=$(printf '%s' "$line" | sed 's/^[[:space:]]*//')
		case $line in
		"" | "#"*) continue ;;
		esac
		eval "set -- $line"
		case $1 in
		config)
			count=$((count + 1))
			section=${3:-cfg$count}
			sections="$sections $section"
			eval "type_$section=\$2"
			;;
		option) eval "option_${section}_$2=\$3" ;;
		list)
			eval "n=\${listn_${section}_$2:-0}"
			n=$((n + 1))
			eval "listn_${section}_$2=$n; list_${section}_$2_$n=\$3"
			;;
		esac
	done <"$UCI_FILE"
}

config_get()
{
	eval "$1=\${option_$2_$3:-${4:-}}"
}

config_get_bool()
{
	config_get "$@"
	eval "case \$$1 in 1|on|true|yes|enabled) $1=1 ;; *) $1=0 ;; esac"
}

config_list_foreach()
{
	_section=$1 _key=$2 _call=$3
	shift 3
	eval "_n=\${listn_${_section}_$_key:-0}"
	_i=0
	while [ "$_i" -lt "$_n" ]; do
		_i=$((_i + 1))
		eval "_value=\$list_${_section}_${_key}_$_i"
		"$_call" "$_value" "$@"
	done
}

config_foreach()
{
	for _s in $sections; do
		eval "_t=\$type_$_s"
		[ "$_t" != "$2" ] || "$1" "$_s"
	done
}

logger()
{
	shift 4
	echo "logger: $*" >&2
}

for _f in procd_open_instance procd_close_instance procd_set_param procd_add_jail \
	procd_add_jail_mount procd_add_jail_mount_rw procd_send_signal procd_add_reload_trigger; do
	eval "$_f() { echo $_f \"\$@\"; }"
done
