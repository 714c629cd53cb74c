# The boot of a lab host, inside its root: starts sshd and the services that are to start, says so, then waits for the
# end of standard input. SIGHUP to process 1 (tini, which passes it on) is a reboot.
cd /
rm -f /run/sshd.pid
/usr/sbin/sshd -E /var/log/sshd.log </dev/null >/dev/null 2>&1 || exit 70
# It goes into the background before it listens, and writes its pid after that.
tries=0
while [ ! -s /run/sshd.pid ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 1000 ] || exit 70
    sleep 0.02
done
for service in /etc/rc2.d/S*fileshare; do
    [ ! -x "$service" ] || "$service" start </dev/null >/dev/null 2>&1
done
echo "up $1"
exec cat >/dev/null
