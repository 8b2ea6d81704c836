#!/usr/bin/env bash
# The way from a virtual LAN to a network outside, beside a kernel bridge and Open vSwitch in user space (AF_XDP and AF_PACKET ports), over
# veth pairs, in one run.
#
#   benches/peers/uplink.sh [SECONDS [ROUNDS]]     5 seconds each and 3 rounds, unless told
#
# Ours by packet sockets, and by AF_XDP beside it. Frames of 64 and 1500 octets: ours from a node's control RVI to the far end of the device; the peers' from a packet socket to the far
# end of their second port. TCP: iperf3 from a member (a TAP) to a host outside, or between two hosts at the peer's ports. The sender is on
# core 0, the receiver on core 1, and whatever forwards where it likes, but for Open vSwitch's AF_XDP thread, which has core 1.
#
# Needs root, iperf3, openvswitch-switch (Debian packages; no service of it is used), and the release build of switch-server and
# switch-bench.
source "$(dirname "$0")/common.sh"
seconds=${1:-5}
rounds=${2:-3}
host=peer-o$$ inside=peer-i$$ outside=peer-x$$ under=peer-u$$ flat=peer-f$$

# quiet NAME...: namespaces that say nothing by themselves
quiet() {
    namespace "$@"
    for name in "$@"; do ip netns exec "$name" sysctl -qw net.ipv6.conf.all.disable_ipv6=1; done
}

# --- the ways --------------------------------------------------------------------------------------------------

# Two hosts, each with a veth pair to the namespace in which a switch is.
hosts() {
    quiet "$host" "$inside" "$outside"
    ip link add e0 netns "$inside" type veth peer name p1 netns "$host"
    ip link add e0 netns "$outside" type veth peer name p2 netns "$host"
    ip -n "$inside" addr add 10.83.0.1/24 dev e0
    ip -n "$outside" addr add 10.83.0.2/24 dev e0
    for name in "$inside" "$outside"; do ip -n "$name" link set e0 up; done
    for port in p1 p2; do ip -n "$host" link set $port up; done
}

no_hosts() {
    for name in "$host" "$inside" "$outside"; do ip netns del "$name"; done
}

bridge() {
    hosts
    ip -n "$host" link add br0 type bridge
    for port in p1 p2; do ip -n "$host" link set $port master br0; done
    ip -n "$host" link set br0 up
    # Else it looks into IP packets, where the kernel can, and drops those of the generator, whose sums are left out.
    for family in ip ip6 arp; do
        ip netns exec "$host" sysctl -qw "net.bridge.bridge-nf-call-${family}tables=0" 2>/dev/null || true
    done
}

# switch TYPE: Open vSwitch of our own, with ports of this type
switch() {
    hosts
    # Its ports cut nothing up themselves and complete no sums.
    for name in "$inside" "$outside"; do
        ip netns exec "$name" ethtool -K e0 tx off tso off gso off >/dev/null 2>&1
    done
    export OVS_RUNDIR=$work/ovs OVS_DBDIR=$work/ovs OVS_LOGDIR=$work/ovs
    rm -rf "$work/ovs"
    mkdir -p "$work/ovs"
    ovsdb-tool create "$work/ovs/conf.db" /usr/share/openvswitch/vswitch.ovsschema
    background ovsdb-server "$work/ovs/conf.db" --remote="punix:$work/ovs/db.sock"
    until [ -S "$work/ovs/db.sock" ]; do sleep 0.1; done
    ovs-vsctl --no-wait init
    ovs-vsctl --no-wait set Open_vSwitch . other_config:pmd-cpu-mask=2
    background ip netns exec "$host" ovs-vswitchd "unix:$work/ovs/db.sock"
    ovs-vsctl -t 10 add-br br0 -- set bridge br0 datapath_type=netdev
    for port in p1 p2; do ovs-vsctl -t 10 add-port br0 $port -- set interface $port "type=$1"; done
    local error
    error=$(ovs-vsctl -t 10 get interface p1 error)
    if [ "$error" != "[]" ]; then echo "error: Open vSwitch: $error" >&2; exit 1; fi
}

no_switch() {
    stop 2
    no_hosts
}

# weft DRIVER: a platform with one member, whose LAN is bridged to a host outside
weft() {
    mkdir -p "$work/run"
    cat >"$work/peers.toml" <<END
[platform]
name = "peers"
[[fabric]]
name = "a"
[[control-node]]
name = "cn"
serial = 1
legs = { a = "unix:run/cn-a.sock" }
[[node]]
name = "a"
number = 1
legs = { a = "unix" }
[[lan]]
name = "red"
id = 10
[[lan.member]]
node = "a"
address = "10.83.1.1/24"
[lan.uplink]
mode = "filtered"
driver = "$1"
ports = [ { control-node = "cn", device = "eth1" } ]
END
    "$release/switch-server" keys "$work/peers.toml" >>"$work/log"
    quiet "$under" "$flat" "$outside"
    ip link add eth1 netns "$under" type veth peer name e0 netns "$outside"
    ip -n "$under" link set eth1 up
    ip -n "$outside" addr add 10.83.1.2/24 dev e0
    ip -n "$outside" link set e0 up
    control_node "$under" "$work/peers.toml"
    node "$under" "$work/peers.toml" a "$flat"
}

no_weft() {
    stop 2
    for name in "$under" "$flat" "$outside"; do ip netns del "$name"; done
}

# --- the measurements ------------------------------------------------------------------------------------------

# bench NAMESPACE MODE OPTION...: millions of frames that arrive in a second
bench() {
    ip netns exec "$1" "$release/switch-bench" "${@:2}" --seconds "$seconds" --json |
        sed -E 's/.*"frames_per_second":([0-9.]+).*/\1/' | awk '{ print $1 / 1e6 }'
}

# peer NAME: both kinds of figures of the switch that is there
peer() {
    until_up "$inside" 10.83.0.2
    measure "tcp-gbit $1" tcp "$inside" "$outside" 10.83.0.2
    measure "tcp-in-gbit $1" tcp "$outside" "$inside" 10.83.0.1
    # Who sends and who counts is one program: the first host's device moves to the second.
    ip -n "$inside" link set e0 netns "$outside" name g0
    ip -n "$outside" link set g0 up
    local mac
    mac=$(ip netns exec "$outside" cat /sys/class/net/e0/address)
    for size in 64 1500; do
        measure "megaframes-$size $1" bench "$outside" frames --devices g0,e0 --to "$mac" --size $size
    done
}

for _ in $(seq "$rounds"); do
    quiet "$host"
    ip -n "$host" link add up0 type veth peer name up1
    for device in up0 up1; do ip -n "$host" link set $device up; done
    for size in 64 1500; do
        measure "megaframes-$size weft" bench "$host" uplink --size $size
        measure "megaframes-$size weft-af-xdp" bench "$host" uplink --size $size --driver af-xdp
    done
    ip netns del "$host"
    for driver in auto af-xdp; do
        weft $driver
        until_up "$flat" 10.83.1.2
        name=weft-$driver
        measure "tcp-gbit ${name%-auto}" tcp "$flat" "$outside" 10.83.1.2
        measure "tcp-in-gbit ${name%-auto}" tcp "$outside" "$flat" 10.83.1.1
        no_weft
    done
    bridge
    peer bridge
    no_hosts
    for kind in afxdp system; do
        switch $kind
        peer "ovs-$kind"
        no_switch
    done
done
table of weft
