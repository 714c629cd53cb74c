# The power switch of one lab host. Lives in the host's network namespace; everything else of the host is started anew
# at each boot. Reads "on" from standard input; the end of standard input ends the host, so no host outlives its test.
# Says "ready" once, "up N" (from start.sh) at each boot and "down CODE" when the host is off.
set -u
dir=$1
name=$2
boot=0
ip link set lo up
echo ready
while read -r _; do
    while :; do
        boot=$((boot + 1))
        code=0
        unshare --mount --uts --ipc --pid --fork --kill-child sh "$dir/init.sh" "$dir" "$name" "$boot" || code=$?
        # 129: the host asked for a reboot (see start.sh).
        [ "$code" -eq 129 ] || break
    done
    echo "down $code"
    [ "$code" -ne 0 ] || exit 0
done
