#!/bin/sh
# Instructions per operation in user space, counted with callgrind. Each library runs once with N
# operations and once with 2 N; the difference is divided by N.
# Usage: [ONLY="raw+epoll kodiak"] ./instructions.sh [echo|udp|churn|wake|event] [N] [CONNECTIONS]
# Under valgrind the clock is a system call, so a reading counts about 40 instructions too few. An
# older valgrind lacks `epoll_pwait2`; then kodiak would use `epoll_wait` for waits with a deadline,
# of which these workloads have none.
set -eu
what=${1:-echo}
n=${2:-5000}
bench=${CARGO_TARGET_DIR:-target}/release/kodiak-bench
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
service=tcp
[ "$what" = udp ] && service=udp
count() {
    valgrind --tool=callgrind --callgrind-out-file="$work/out" "$bench" "$@" \
        >"$work/port" 2>"$work/log"
}
echo "| library | instructions per operation ($what) |"
echo "|---|---|"
[ "$what" = udp ] && skipped="raw with features"
all="raw+epoll raw+with+features kodiak mio polling calloop tokio libuv libevent"
for library in ${ONLY:-$all}; do
    library=$(echo "$library" | tr + ' ')
    [ "$library" = "${skipped:-}" ] && continue
    for times in 1 2; do
        case $what in
        wake | event) count turns "$library" "$what" $((n * times)) ;;
        *)
            count serve "$library" $service &
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
    echo "| $library | $((($(cat "$work/collected.2") - $(cat "$work/collected.1")) / n)) |"
done
