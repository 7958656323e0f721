#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# init.sh - PID 1 of a User-Mode-Linux guest whose root is the host's file system, read-only (hostfs)
#
# The kernel's command line says arrdout=DIR, a directory of the host: it becomes /mnt/out, the one place that can be
# written. Runs /mnt/out/guest.sh, leaves its exit status in /mnt/out/status, and powers off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/mnt
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mount -t tmpfs tmp /mnt
mkdir -p /mnt/out /run/netns
mount --bind /usr/lib/uml/modules /usr/lib/modules # where modprobe looks
# shellcheck disable=SC2154 # the kernel hands its unknown options to init
mount -t hostfs none /mnt/out -o "$arrdout"
ip link set lo up
bash /mnt/out/guest.sh >/mnt/out/guest.log 2>&1
echo $? >/mnt/out/status
sync
echo o >/proc/sysrq-trigger
sleep 5
