#!/bin/sh
# Instructions per operation in user space, counted with callgrind: each once with N operations and once with 2 N, and the
# difference divided by N. Usage: [PEERS="raw+epoll kodiak"] ./instructions.sh [echo|udp|churn|wake|event] [N] [CONNECTIONS]
# (Under valgrind the clock is a system call, so that a reading counts some 40 instructions less than it takes, and a valgrind that does
# not know `epoll_pwait2` has kodiak fall back to `epoll_wait` where it waits with a deadline; none of these workloads does.)
set -eu
what=${1:-echo}
n=${2:-5000}
bench=${CARGO_TARGET_DIR:-target}/release/kodiak-bench
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
service=tcp
[ "$what" = udp ] && service=udp
count() {
    valgrind --tool=callgrind --callgrind-out-file="$work/out" "$bench" "$@" >"$work/port" 2>"$work/log"
}
echo "| peer | instructions per operation ($what) |"
echo "|---|---|"
for peer in ${PEERS:-raw+epoll raw+with+duties kodiak mio polling calloop tokio libuv libevent}; do
    peer=$(echo "$peer" | tr + ' ')
    for times in 1 2; do
        case $what in
        wake | event) count turns "$peer" "$what" $((n * times)) ;;
        *)
            count serve "$peer" $service &
            counter=$!
            until [ -s "$work/port" ]; do :; done
            port=$(cat "$work/port")
            case $what in
            echo) "$bench" load echo "$port" "${3:-1}" 64 $((n * times)) >/dev/null ;;
            *) "$bench" load "$what" "$port" $((n * times)) >/dev/null ;;
            esac
            kill -TERM "$(cat /proc/$counter/task/$counter/children)"
            wait $counter || true
            ;;
        esac
        rm -f "$work/port"
        awk '/Collected/ { print $NF }' "$work/log" >"$work/collected.$times"
    done
    echo "| $peer | $((($(cat "$work/collected.2") - $(cat "$work/collected.1")) / n)) |"
done
