#!/bin/bash
# Inside fresh namespaces (bed.py makes them): lay a throw-away root over this machine's and become
# systemd in it. Nothing outside changes: what is written goes to memory.
#
#   bed.sh BUILD
set -eu
build=$1
new=/tmp/bed.$$

mount --make-rprivate /
mkdir -p "$new"
mount -t tmpfs -o mode=0755 bed "$new"
mkdir "$new/upper" "$new/work" "$new/root"
root=$new/root
mount -t overlay -o "lowerdir=/,upperdir=$new/upper,workdir=$new/work" bed "$root"

mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o ro,mode=0755 cgroups "$root/sys/fs/cgroup"
mount -o remount,rw "$root/sys/fs/cgroup"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=0755 run "$root/run"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
mount -t tmpfs -o mode=0755 dev "$root/dev"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"

# The machine's own services, mounts and devices are none of ours.
: >"$root/etc/fstab"
: >"$root/etc/machine-id"
rm -rf "$root"/etc/systemd/system/*.wants "$root/var/log/journal"
rm -f "$root/usr/sbin/policy-rc.d" # of a container's image: packages start nothing
for unit in systemd-udevd.service systemd-udev-trigger.service systemd-udevd-control.socket \
    systemd-udevd-kernel.socket systemd-modules-load.service systemd-remount-fs.service \
    systemd-random-seed.service systemd-sysctl.service systemd-binfmt.service systemd-firstboot.service \
    systemd-machine-id-commit.service dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount \
    sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount \
    proc-sys-fs-binfmt_misc.automount dbus.socket dbus.service apt-daily.timer; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
printf '%s\n' '[Unit]' 'Requires=basic.target' 'After=basic.target' 'AllowIsolate=yes' \
    >"$root/etc/systemd/system/bed.target"
printf '%s\n' '[Journal]' 'RateLimitBurst=0' 'Storage=volatile' >"$root/etc/systemd/journald.conf"
printf '%s\n' '[Manager]' 'LogLevel=notice' 'DefaultTimeoutStopSec=20s' >"$root/etc/systemd/system.conf"

# What is built, as an installation has it.
if [ "$build" != none ]; then
    DESTDIR=$root meson install -C "$build" --no-rebuild --quiet
    ldconfig -r "$root" 2>/dev/null || true
fi

mkdir "$root/oldroot"
cd "$root"
pivot_root . oldroot
umount -l /oldroot
exec env -i container=bed PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=bed.target \
    </dev/null
