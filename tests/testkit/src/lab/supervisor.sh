# The power switch of one lab host. Lives in the host's network namespace; everything else of the host is started anew
# at each boot. Reads "on" from standard input; the end of standard input ends the host, so no host outlives its test.
# Says "ready" once, "up N" (from start.sh or lab-up.service) at each boot and "down CODE" when the host is off.
set -u
dir=$1
name=$2
# The control group of a host with systemd; nothing for others.
group=$3
boot=0

# Once from on to off; its end is the code.
boot_plain() {
    unshare --mount --uts --ipc --pid --fork --kill-child sh "$dir/init.sh" "$dir" "$name" "$boot" plain
}

# systemd keeps no standard input or output: another process watches the input, and news comes through a pipe.
boot_systemd() {
    mkdir -p "$group"
    rm -f "$dir/news"
    mkfifo "$dir/news"
    cat "$dir/news" &
    news=$!
    # shellcheck disable=SC2016 # for the inner shell
    sh -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' sh "$group" \
        unshare --mount --uts --ipc --pid --cgroup --fork --kill-child sh "$dir/init.sh" "$dir" "$name" "$boot" systemd </dev/null &
    machine=$!
    { read -r _ || kill -KILL "$machine"; } <&3 &
    watch=$!
    wait "$machine"
    code=$?
    kill "$news" "$watch" 2>/dev/null
    wait "$news" "$watch" 2>/dev/null
    # Processes of the host that are on their way out still hold their groups for a moment.
    tries=0
    until find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || [ "$tries" -ge 250 ]; do
        tries=$((tries + 1))
        sleep 0.02
    done
    return "$code"
}

ip link set lo up
echo ready
exec 3<&0
while read -r _; do
    while :; do
        boot=$((boot + 1))
        code=0
        if [ -n "$group" ]; then
            boot_systemd || code=$?
        else
            boot_plain || code=$?
        fi
        # 129: the host asked for a reboot (see start.sh; systemd says it so, too).
        [ "$code" -eq 129 ] || break
    done
    echo "down $code"
    [ "$code" -ne 0 ] || exit 0
done
