# First program of a lab host (process 1 of its own process namespace): makes the host's root folder, then becomes tini or systemd.
# The root is the machine's own file tree with a private layer over it, on the host's own btrfs file system: the host
# may change, install and remove what it likes, and nobody else sees it.
set -eu
dir=$1
name=$2
boot=$3
# What becomes process 1 in the end: plain (tini) or systemd.
kind=$4
exec 3<&0 </dev/null
umask 022

mount --make-rprivate /
mkdir -p "$dir/disk" "$dir/root"
mount -o loop,noatime "$dir/disk.img" "$dir/disk"
if [ ! -e "$dir/disk/upper" ]; then
    mkdir "$dir/disk/upper" "$dir/disk/work" "$dir/disk/own"
    for folder in root home tmp srv var/tmp var/log opt mnt; do
        mkdir -p "$dir/disk/own/$folder"
    done
    chmod 700 "$dir/disk/own/root"
    chmod 1777 "$dir/disk/own/tmp" "$dir/disk/own/var/tmp"
    btrfs -q subvolume create "$dir/disk/own/srv/data"
fi
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/disk/upper,workdir=$dir/disk/work" "$dir/root"
cd "$dir/root"
for folder in root home tmp srv var/tmp var/log opt mnt; do
    mkdir -p "$folder"
    mount --bind "$dir/disk/own/$folder" "$folder"
done
# As Debian does at boot.
find tmp -mindepth 1 -delete

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mkdir run/lock run/sshd
chmod 1777 run/lock
mount -t tmpfs -o mode=755 tmpfs dev
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mkdir -m 1777 dev/shm
mkdir dev/pts
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr

# A boot id of its own: the machine's stays the same, a host's changes when it boots.
cat proc/sys/kernel/random/uuid >run/boot_id
mount --bind run/boot_id proc/sys/kernel/random/boot_id
hostname "$name"

if [ ! -e etc/lab-host ]; then
    echo "$name" >etc/hostname
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$name" >etc/hosts
    rm -f usr/sbin/policy-rc.d etc/resolv.conf
    rm -rf etc/ssh/sshd_config.d etc/ssh/ssh_host_* etc/sudoers.d etc/apt/sources.list.d etc/apt/apt.conf.d/*proxy*
    rm -rf var/lib/apt/lists etc/cron.d etc/cron.daily
    mkdir -p var/lib/apt/lists/partial etc/sudoers.d var/lib/lab-repo var/log/nginx
    chmod 750 etc/sudoers.d
    # The archive of a lab host is a folder of its own; nothing comes from a network.
    echo 'deb [trusted=yes] file:/var/lib/lab-repo ./' >etc/apt/sources.list
    printf 'APT::Sandbox::User "root";\nAcquire::Languages "none";\n' >etc/apt/apt.conf.d/99lab
    echo force-unsafe-io >etc/dpkg/dpkg.cfg.d/lab
    # Nobody reads manual pages here.
    rm -f var/lib/man-db/auto-update
    : >var/lib/lab-repo/Packages
    cp "$dir/sshd_config" etc/ssh/sshd_config
    cp "$dir/ca.pub" etc/ssh/lab_ca.pub
    cp "$dir/host_key" etc/ssh/ssh_host_ed25519_key
    cp "$dir/host_key.pub" etc/ssh/ssh_host_ed25519_key.pub
    chmod 600 etc/ssh/ssh_host_ed25519_key
    # Without a program of this name Debian's scripts believe that this is no host, and start no services.
    [ -e usr/sbin/init ] || ln -s /usr/bin/tini usr/sbin/init
    # Debian's own words for these need systemd as process 1.
    for word in reboot shutdown; do
        rm -f "usr/sbin/$word"
        printf '#!/bin/sh\n# All ends at once, as when the reset button is pressed; then the host boots.\nkill -HUP 1\n' >"usr/sbin/$word"
        chmod 755 "usr/sbin/$word"
    done
    rm -f usr/sbin/runlevel
    printf '#!/bin/sh\necho N 2\n' >usr/sbin/runlevel
    chmod 755 usr/sbin/runlevel
    chroot . useradd --create-home --shell /bin/sh --user-group --password '*' maint
    mkdir -m 700 home/maint/.ssh
    cp "$dir/authorized_keys" home/maint/.ssh/authorized_keys
    chmod 600 home/maint/.ssh/authorized_keys
    chroot . chown -R maint:maint /home/maint
    printf 'Defaults !lecture, !use_pty\nmaint ALL=(ALL:ALL) NOPASSWD: ALL\n' >etc/sudoers.d/maint
    printf 'Defaults env_reset, secure_path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"\nroot ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n' >etc/sudoers
    chmod 440 etc/sudoers etc/sudoers.d/maint
    if [ "$kind" = systemd ]; then
        # The machine's own services are not to start here, and what a host in a container has no use for neither.
        rm -rf etc/systemd/system etc/rc[2-5].d/S*
        mkdir -p etc/systemd/system/multi-user.target.wants
        for unit in getty.target console-getty.service systemd-logind.service systemd-udevd.service ldconfig.service; do
            ln -s /dev/null "etc/systemd/system/$unit"
        done
        ln -s /lib/systemd/system/ssh.service etc/systemd/system/multi-user.target.wants/ssh.service
        ln -s /lib/systemd/system/ssh.service etc/systemd/system/sshd.service
        echo 'SSHD_OPTS=-E /var/log/sshd.log' >etc/default/ssh
        tr -d - <proc/sys/kernel/random/uuid >etc/machine-id
        for word in reboot shutdown runlevel init; do
            rm -f "usr/sbin/$word"
        done
        ln -s /bin/systemctl usr/sbin/reboot
        ln -s /bin/systemctl usr/sbin/shutdown
        ln -s /lib/systemd/systemd usr/sbin/init
    fi
    : >etc/lab-host
fi
if [ "$kind" = systemd ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    # The kernel's settings are those of the whole machine.
    mount --bind proc/sys proc/sys
    mount --bind run/boot_id proc/sys/kernel/random/boot_id
    mount -o remount,bind,ro proc/sys
    mkfifo run/lab-news
    mount --bind "$dir/news" run/lab-news
    mkdir -p run/systemd/system/multi-user.target.wants run/before
    printf '[Unit]\nAfter=ssh.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c "echo up %s >/run/lab-news"\n' "$boot" >run/systemd/system/lab-up.service
    ln -s ../lab-up.service run/systemd/system/multi-user.target.wants/lab-up.service
    # A root of its own, not only a changed one: services get mount namespaces of theirs.
    pivot_root . run/before
    umount -l /run/before
    # Nothing in here may set the machine's clock or load modules into its kernel.
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 container=lab \
        setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio \
        /lib/systemd/systemd --unit=multi-user.target --log-target=journal --show-status=no
fi
cp "$dir/start.sh" run/start.sh
exec env -i --default-signal=HUP PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
    chroot . /usr/bin/tini -- /bin/sh /run/start.sh "$boot" <&3 3<&-
