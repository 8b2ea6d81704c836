#!/usr/bin/env bash
# Weft's UDP legs beside what else carries Ethernet or IP over UDP: kernel VXLAN, WireGuard in user space, and a raw
# stream of datagrams. All of them cross the same veth pair between two namespaces, in turn, in one run.
#
#   benches/peers/udp-legs.sh [SECONDS [ROUNDS]]     10 seconds each and 2 rounds, unless told
#
# Needs root, iperf3, ethtool, wireguard-go and wireguard-tools (Debian packages), and the release build of
# switch-server and switch-bench. The iperf3 client runs on core 0, the server on core 1; daemons run where they like.
source "$(dirname "$0")/common.sh"
seconds=${1:-10}
rounds=${2:-2}
a=peer-a$$ b=peer-b$$

# --- the ways --------------------------------------------------------------------------------------------------

# The veth pair. Each leg of Weft has addresses of its own.
underlay() {
    namespace "$a" "$b"
    ip link add u0 netns "$a" type veth peer name u0 netns "$b"
    for leg in 0 1; do
        ip -n "$a" addr add "10.78.$leg.1/24" dev u0
        ip -n "$b" addr add "10.78.$leg.2/24" dev u0
    done
    for name in "$a" "$b"; do ip -n "$name" link set u0 mtu 1500 up; done
}

vxlan() {
    local mtu=1450 # 1500 less the outer headers
    ip -n "$a" link add vx0 mtu $mtu type vxlan id 7 local 10.78.0.1 remote 10.78.0.2 dstport 4789 dev u0
    ip -n "$b" link add vx0 mtu $mtu type vxlan id 7 local 10.78.0.2 remote 10.78.0.1 dstport 4789 dev u0
    ip -n "$a" addr add 10.79.0.1/24 dev vx0
    ip -n "$b" addr add 10.79.0.2/24 dev vx0
    for name in "$a" "$b"; do ip -n "$name" link set vx0 up; done
}

wireguard() {
    local one=wga$$ other=wgb$$
    (umask 077 && wg genkey >"$work/wg-a" && wg genkey >"$work/wg-b")
    background ip netns exec "$a" wireguard-go -f $one
    background ip netns exec "$b" wireguard-go -f $other
    until ip -n "$a" link show $one && ip -n "$b" link show $other; do sleep 0.1; done >/dev/null 2>&1
    ip netns exec "$a" wg set $one listen-port 51820 private-key "$work/wg-a" \
        peer "$(wg pubkey <"$work/wg-b")" endpoint 10.78.0.2:51820 allowed-ips 10.79.1.0/24
    ip netns exec "$b" wg set $other listen-port 51820 private-key "$work/wg-b" \
        peer "$(wg pubkey <"$work/wg-a")" endpoint 10.78.0.1:51820 allowed-ips 10.79.1.0/24
    ip -n "$a" addr add 10.79.1.1/24 dev $one
    ip -n "$b" addr add 10.79.1.2/24 dev $other
    ip -n "$a" link set $one mtu 1420 up
    ip -n "$b" link set $other mtu 1420 up
}

# platform OCTET TRUSTED: a shares its host with the control node, b has one of its own.
platform() {
    cat <<END
[platform]
name = "peers"
[[fabric]]
name = "a"
trusted = $2
[[fabric]]
name = "b"
trusted = $2
[[control-node]]
name = "cn"
serial = 1
host = "h1"
legs = { a = ["unix:run/cn-a.sock", "udp:10.78.0.1:740$1"], b = ["unix:run/cn-b.sock", "udp:10.78.1.1:740$1"] }
[[node]]
name = "a"
number = 1
host = "h1"
legs = { a = ["unix", "udp:10.78.0.1"], b = ["unix", "udp:10.78.1.1"] }
[[node]]
name = "b"
number = 2
host = "h2"
legs = { a = "udp:10.78.0.2", b = "udp:10.78.1.2" }
[[lan]]
name = "red"
id = 10
[[lan.member]]
node = "a"
address = "10.79.$1.1/24"
[[lan.member]]
node = "b"
address = "10.79.$1.2/24"
END
}

# weft NAME OCTET TRUSTED: two nodes of two hosts with a UDP leg on each fabric.
weft() {
    local folder=$work/$1
    mkdir -p "$folder/run"
    platform "$2" "$3" >"$folder/peers.toml"
    "$release/switch-server" keys "$folder/peers.toml" >>"$work/log"
    namespace "$1-a$$" "$1-b$$"
    control_node "$a" "$folder/peers.toml"
    node "$a" "$folder/peers.toml" a "$1-a$$"
    node "$b" "$folder/peers.toml" b "$1-b$$"
}

# --- the measurements ------------------------------------------------------------------------------------------

# bench MODE OPTION...: Gbit/s of a mode of switch-bench over the same veth
bench() {
    "$release/switch-bench" "$@" --seconds "$seconds" --ends "10.78.0.1@$a,10.78.0.2@$b" --json |
        sed -E 's/.*"gigabits_per_second":([0-9.]+).*/\1/'
}

# inner KIND: TCP or small datagrams through each way
inner() {
    measure "$1 vxlan" "${@:2}" "$a" "$b" 10.79.0.2
    measure "$1 weft trusted" "${@:2}" "trusted-a$$" "trusted-b$$" 10.79.2.2
    measure "$1 weft encrypted" "${@:2}" "sealed-a$$" "sealed-b$$" 10.79.3.2
    measure "$1 wireguard-go" "${@:2}" "$a" "$b" 10.79.1.2
}

# offloads on|off: without, each datagram and segment crosses the veth as a frame of its own
offloads() {
    for name in "$a" "$b"; do ip netns exec "$name" ethtool -K u0 tso "$1" gso "$1" gro "$1" >/dev/null 2>&1; done
}

underlay
vxlan
wireguard
weft trusted 2 true
weft sealed 3 false
until_up "$a" 10.79.0.2
until_up "$a" 10.79.1.2
until_up "trusted-a$$" 10.79.2.2
until_up "sealed-a$$" 10.79.3.2
for _ in $(seq "$rounds"); do
    measure "raw-gbit udp-1472" bench udp-raw --size 1472
    measure "raw-gbit association-64KiB" bench udp --size 65536
    inner tcp-gbit tcp
    inner small-kilopackets small
    offloads off
    inner tcp-no-offload-gbit tcp
    offloads on
done
table to vxlan wireguard-go
