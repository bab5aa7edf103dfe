#!/bin/sh
# System calls per operation, counted with `strace -c`. Each server runs once with N operations and
# once with 2 N; the difference divided by N leaves out the start.
# Usage: ./calls.sh [echo|udp|churn] [N] [CONNECTIONS]
set -eu
what=${1:-echo}
n=${2:-2000}
bench=${CARGO_TARGET_DIR:-target}/release/kodiak-bench
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
service=tcp
[ "$what" = udp ] && service=udp
echo "| library | system calls per operation ($what) |"
echo "|---|---|"
for library in "raw epoll" kodiak mio polling calloop tokio libuv libevent; do
    for times in 1 2; do
        strace -f -c -U name,calls -o "$work/calls.$times" \
            "$bench" serve "$library" $service >"$work/port" 2>/dev/null &
        tracer=$!
        until [ -s "$work/port" ]; do :; done
        port=$(cat "$work/port")
        case $what in
        echo) "$bench" load echo "$port" "${3:-1}" 64 $((n * times)) >/dev/null ;;
        *) "$bench" load "$what" "$port" $((n * times)) >/dev/null ;;
        esac
        kill -TERM "$(cat /proc/$tracer/task/$tracer/children)"
        wait $tracer || true
        rm "$work/port"
    done
    awk -v n="$n" -v library="$library" '
        $2 ~ /^[0-9]+$/ && $1 != "total" { if (NR == FNR) once[$1] = $2; else {
            d = ($2 - once[$1]) / n
            if (d >= 0.005) { sum += d; text = text sprintf(" %s %.2f,", $1, d) } } }
        END { sub(/,$/, "", text); printf "| %s | %.2f:%s |\n", library, sum, text }
    ' "$work/calls.1" "$work/calls.2"
done
