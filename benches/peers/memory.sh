#!/usr/bin/env bash
# Weft's paths over shared memory beside the switches of DPDK: testpmd between memif ports, which looks nothing up, and
# Open vSwitch with DPDK between vhost-user ports, which learns MACs. All of them in turn, in one run.
#
#   benches/peers/memory.sh [SECONDS [ROUNDS]]     3 seconds each and 3 rounds, unless told
#
# Needs root, dpdk-testpmd, openvswitch-switch-dpdk (Debian packages; where `dpdk` has no testpmd, `dpdk-dev` has), and
# the release build of switch-bench. The switch runs on core 1, what makes and takes the frames on core 0, as the two
# ends of `direct` do. 2 GiB of huge pages are taken and given back.
source "$(dirname "$0")/common.sh"
seconds=${1:-3}
rounds=${2:-3}
bench=$release/switch-bench
huge_before=$(cat /proc/sys/vm/nr_hugepages)

cleanup_more() {
    umount "$work/huge" 2>/dev/null
    echo "$huge_before" >/proc/sys/vm/nr_hugepages
}

huge_pages() {
    echo 1024 >/proc/sys/vm/nr_hugepages
    mkdir "$work/huge"
    mount -t hugetlbfs none "$work/huge"
}

# testpmd PREFIX CORE OPTION... reads its commands from standard input.
testpmd() {
    local prefix=$1 core=$2
    shift 2
    timeout -k 3 60 dpdk-testpmd --huge-dir "$work/huge" -m 256 --file-prefix="$prefix" --no-pci \
        --lcores "(0)@$core,(1)@$core" "$@" -- -i --nb-cores=1 --total-num-mbufs=32768 2>&1
}

# What the generator counts as it comes back, in millions of frames a second: the sum of both ports.
received() {
    awk '/Rx-pps/ { rate[n++] = $2 } END { printf "%.2f\n", (rate[n - 1] + rate[n - 2]) / 1e6 }'
}

# generator MODE SIZE WARM-UP START DEVICE...
generator() {
    local mode=$1 size=$2 warm=$3 start=$4
    shift 4
    {
        sleep 1.5
        printf 'set fwd %s\nset txpkts %s\n%s\n' "$mode" "$size" "$start"
        sleep "$warm"
        echo 'show port stats all'
        sleep "$seconds"
        printf 'show port stats all\nstop\nquit\n'
    } | testpmd weftgen 0 --single-file-segments "${@/#/--vdev=}" | tee "$work/generator.log" | received
}

# --- the ways --------------------------------------------------------------------------------------------------

memif() {
    local size=$1 forwarder
    local ports=("net_memif0,role=server,id=0,socket=$work/m0,socket-abstract=no"
        "net_memif1,role=server,id=1,socket=$work/m1,socket-abstract=no")
    rm -f "$work/m0" "$work/m1"
    { printf 'set fwd io\nstart\n'; sleep $((seconds + 6)); printf 'stop\nquit\n'; } |
        testpmd weftfwd 1 "${ports[@]/#/--vdev=}" >"$work/forwarder.log" &
    forwarder=$!
    until grep -q 'Start automatic\|testpmd> ' "$work/forwarder.log" && [ -S "$work/m1" ]; do sleep 0.1; done
    generator flowgen "$size" 1 start "${ports[@]/server/client}"
    wait $forwarder || true
}

open_vswitch() {
    export OVS_RUNDIR=$work/ovs OVS_DBDIR=$work/ovs OVS_LOGDIR=$work/ovs
    mkdir "$OVS_RUNDIR"
    ovsdb-tool create "$OVS_RUNDIR/conf.db" /usr/share/openvswitch/vswitch.ovsschema
    ovsdb-server "$OVS_RUNDIR/conf.db" --remote=punix:"$OVS_RUNDIR/db.sock" >>"$work/log" 2>&1 &
    pids+=($!)
    until ovs-vsctl --no-wait init 2>/dev/null; do sleep 0.1; done
    ovs-vsctl --no-wait set Open_vSwitch . other_config:dpdk-init=true other_config:dpdk-socket-mem=512 \
        other_config:dpdk-lcore-mask=1 other_config:pmd-cpu-mask=2 other_config:dpdk-hugepage-dir="$work/huge" \
        other_config:dpdk-extra=--no-pci
    /usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk "unix:$OVS_RUNDIR/db.sock" >>"$work/log" 2>&1 &
    vswitchd=$!
    pids+=("$vswitchd")
    ovs-vsctl -t 20 add-br br0 -- set bridge br0 datapath_type=netdev
    for port in 0 1; do
        ovs-vsctl -t 20 add-port br0 vh$port -- \
            set interface vh$port type=dpdkvhostuserclient options:vhost-server-path="$work/v$port"
    done
    kill -STOP "$vswitchd" # its thread spins on core 1
}

# Frames that carry each port's own MAC to the other: the switch learns both, and 512 frames go round.
vhost_user() {
    local size=$1
    kill -CONT "$vswitchd"
    rm -f "$work/v0" "$work/v1"
    generator mac "$size" 5 'start tx_first 8' \
        "net_virtio_user0,mac=02:00:00:00:00:01,path=$work/v0,server=1,queues=1,queue_size=1024" \
        "net_virtio_user1,mac=02:00:00:00:00:00,path=$work/v1,server=1,queues=1,queue_size=1024"
    kill -STOP "$vswitchd"
}

# weft MODE SIZE
weft() {
    "$bench" "$1" --size "$2" --seconds "$seconds" --json |
        python3 -c 'import json, sys; print("%.2f" % (json.load(sys.stdin)["frames_per_second"] / 1e6))'
}

# --- the run ---------------------------------------------------------------------------------------------------

huge_pages
open_vswitch
for round in $(seq "$rounds"); do
    for size in 64 1500; do
        flock 9
        m=$(memif $size)
        d=$(weft direct $size)
        o=$(vhost_user $size)
        r=$(weft relay $size)
        flock -u 9
        awk -v n="$round" -v s=$size -v m="$m" -v d="$d" -v o="$o" -v r="$r" 'BEGIN {
            printf "round %d, %4d octets, millions of frames a second:  ", n, s
            printf "memif %5.2f  direct %5.2f (%.2f)   OVS-DPDK %5.2f  relay %5.2f (%.2f)\n", m, d, d / m, o, r, r / o
        }'
    done
done
