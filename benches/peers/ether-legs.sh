#!/usr/bin/env bash
# Puts ether legs by AF_XDP beside those by packet sockets: TCP and datagrams of 64 octets between the TAPs of two nodes that one
# leg joins, over veth pairs with an MTU of 1500 and of 9000.
#
#   benches/peers/ether-legs.sh [SECONDS [ROUNDS]]     5 seconds each and 2 rounds, unless told
#
# Needs root, iperf3 and the release build of switch-server. The iperf3 client runs on core 0, the server on core 1;
# the nodes run where they like.
source "$(dirname "$0")/common.sh"
seconds=${1:-5}
rounds=${2:-2}
a=ether-a$$ b=ether-b$$

# pair DEVICE MTU: a veth pair of that name at both ends
pair() {
    ip link add "$1" netns "$a" type veth peer name "$1" netns "$b"
    for name in "$a" "$b"; do ip -n "$name" link set "$1" mtu "$2" up; done
}

# platform OCTET DEVICE DRIVER: a shares its host, and its device, with the control node, whose leg leaves XDP to it
platform() {
    cat <<END
[platform]
name = "peers"
[[fabric]]
name = "a"
[[control-node]]
name = "cn"
serial = 1
host = "h1"
legs = { a = ["unix:run/leg.sock", "ether:$2:af-packet"] }
[[node]]
name = "a"
number = 1
host = "h1"
legs = { a = ["unix", "ether:$2:$3"] }
[[node]]
name = "b"
number = 2
host = "h2"
legs = { a = "ether:$2:$3" }
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

# weft NAME OCTET MTU DRIVER: two nodes of two hosts with a leg on a veth pair of their own
weft() {
    local folder=$work/$1
    mkdir -p "$folder/run"
    platform "$2" "$1" "$4" >"$folder/peers.toml"
    pair "$1" "$3"
    "$release/switch-server" keys "$folder/peers.toml" >>"$work/log"
    namespace "$1-a$$" "$1-b$$"
    control_node "$a" "$folder/peers.toml"
    node "$a" "$folder/peers.toml" a "$1-a$$"
    node "$b" "$folder/peers.toml" b "$1-b$$"
    until_up "$1-a$$" "10.79.$2.2"
}

# both KIND NAME OCTET WAY
both() {
    measure "tcp-$1-gbit $4" tcp "$2-a$$" "$2-b$$" "10.79.$3.2"
    measure "small-$1-kilopackets $4" small "$2-a$$" "$2-b$$" "10.79.$3.2"
}

namespace "$a" "$b"
weft packet1500 1 1500 af-packet
weft xdp1500 2 1500 af-xdp
weft packet9000 3 9000 af-packet
weft xdp9000 4 9000 af-xdp
grep -h "the device of an ether leg" "$work/log" | sed -E 's/.*leg=/leg=/'
for _ in $(seq "$rounds"); do
    both 1500 packet1500 1 af-packet
    both 1500 xdp1500 2 af-xdp
    both 9000 packet9000 3 af-packet
    both 9000 xdp9000 4 af-xdp
done
table to af-packet
