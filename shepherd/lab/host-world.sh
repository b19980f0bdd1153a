#!/bin/sh
# Becomes the anchor of one lab host: a process in namespaces of its own that everything of the host joins.
# Usage: nsenter --net=/run/netns/<name> sh host-world.sh <folder> <host name> <cgroup path> <QEMU to use: a folder, or empty>
#
# Order matters. The cgroups are made and entered first, in the machine's view, so that the new cgroup namespace has
# its root there: libvirt then finds a cgroup tree of its own (quota works), and two hosts can never share a machine's
# cgroup, not even in a migration. Under cgroup v2 a cgroup with children may not hold processes, hence the leaf `daemons`.
# The mounts are made afterwards: `ip netns exec` would remount sysfs and hide the cgroups.
set -eu
folder=$1 name=$2 cgroup=$3 qemu=$4

if [ "${5:-}" != inside ]; then
	while read -r _ _ _ _ point _ rest; do
		case " $rest" in # without optional fields the separator stands first
		*" - cgroup "*)
			mkdir -p "$point/$cgroup"
			if [ -e "$point/cpuset.cpus" ]; then # empty in a new cgroup, and then nothing may enter
				for level in "$point/${cgroup%/*}" "$point/$cgroup"; do
					cat "$point/cpuset.cpus" >"$level/cpuset.cpus"
					cat "$point/cpuset.mems" >"$level/cpuset.mems"
					echo 1 >"$level/cgroup.clone_children"
				done
			fi
			echo $$ >"$point/$cgroup/cgroup.procs"
			;;
		*" - cgroup2 "*)
			mkdir -p "$point/$cgroup"
			for level in "$point" "$point/${cgroup%/*}"; do
				for controller in $(cat "$level/cgroup.controllers"); do
					case $controller in
					# what libvirt uses; one that cannot be passed on is missing below, and libvirt copes
					cpu | cpuset | memory | io | pids) echo "+$controller" 2>/dev/null >"$level/cgroup.subtree_control" || true ;;
					esac
				done
			done
			echo $$ >"$point/$cgroup/cgroup.procs"
			;;
		esac
	done </proc/self/mountinfo
	exec unshare --mount --uts --cgroup --propagation private sh "$0" "$folder" "$name" "$cgroup" "$qemu" inside
fi

hostname "$name"
# which hierarchies there are, before the new sysfs covers them
hierarchies=$(sed -n 's/^[^ ]* [^ ]* [^ ]* [^ ]* \([^ ]*\) .* - \(cgroup2\{0,1\}\) [^ ]* \(.*\)$/\1 \2 \3/p' /proc/self/mountinfo)
mount -t sysfs sysfs /sys
case $hierarchies in
*" cgroup "*) mount -t tmpfs -o mode=755 cgroups /sys/fs/cgroup ;;
esac
echo "$hierarchies" | while read -r point type options; do
	mkdir -p "$point"
	case $type in
	cgroup2)
		mount -t cgroup2 cgroup2 "$point"
		mkdir -p "$point/daemons"
		echo $$ >"$point/daemons/cgroup.procs"
		;;
	*)
		controllers=$(echo "$options" | sed 's/^rw,//; s/\(^\|,\)\(xattr\|clone_children\|release_agent=[^,]*\)//g; s/^name=/none,name=/')
		mount -t cgroup -o "$controllers" cgroup "$point"
		;;
	esac
done

# The host's own files over the distribution's. A private /run hides the machine's D-Bus, so that libvirt makes its
# cgroups by itself instead of asking the machine's systemd for them; and no name service of the machine is asked.
mount --bind "$folder/run" /run
for pair in lib:/var/lib/libvirt etc:/etc/libvirt log:/var/log/libvirt cache:/var/cache/libvirt; do
	mkdir -p "${pair#*:}"
	mount --bind "$folder/${pair%%:*}" "${pair#*:}"
done
mount --bind "$folder/hosts" /etc/hosts
# root's home is the host's own: a login must not run the start-up files of whoever raised the lab, nor use their keys
mount --bind "$folder/passwd" /etc/passwd
if [ -n "$qemu" ]; then
	for part in usr/bin/qemu-system-x86_64 usr/lib/x86_64-linux-gnu/qemu usr/share/qemu usr/share/seabios; do
		mount --bind "$qemu/$part" "/$part"
	done
fi
ip link set lo up
echo ready >"$folder/ready"
exec sleep infinity
