#!/bin/bash
# Puts ether legs by AF_XDP beside those by packet sockets: TCP and datagrams of 64 octets between the TAPs of two nodes that one
# leg joins, over veth pairs with an MTU of 1500 and of 9000.
#
#   benches/peers/ether-legs.sh [SECONDS [ROUNDS]]     5 seconds each and 2 rounds, unless told
#
# Needs root, iperf3 and the release build of switch-server. The iperf3 client runs on core 0, the server on core 1;
# the nodes run where they like. Measurements hold BENCH_LOCK, so that several jobs on one machine do not measure each other.
set -euo pipefail

seconds=${1:-5}
rounds=${2:-2}
release=${CARGO_TARGET_DIR:-$(dirname "$0")/../../target}/release
release=$(realpath "$release")
lock=${BENCH_LOCK:-${TMPDIR:-/tmp}/bench.lock}
work=$(mktemp -d)
a=ether-a$$ b=ether-b$$
pids=() namespaces=()

cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    for name in "${namespaces[@]}"; do ip netns del "$name" || true; done
    rm -rf "$work"
}
trap cleanup EXIT

background() {
    "$@" >>"$work/log" 2>&1 &
    pids+=($!)
}

# namespace NAME...
namespace() {
    for name in "$@"; do
        ip netns add "$name"
        namespaces+=("$name")
        ip -n "$name" link set lo up
    done
}

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
    background ip netns exec "$a" "$release/switch-server" run "$folder/peers.toml" --name cn
    for end in a b; do
        local underlay=$a
        if [ $end = b ]; then underlay=$b; fi
        # The same program plays a node under this name.
        background ip netns exec "$underlay" bash -c 'exec -a switch-node "$@"' _ \
            "$release/switch-server" run "$folder/peers.toml" --name $end --netns "$1-$end$$"
    done
    until_up "$1-a$$" "10.79.$2.2"
}

# until_up NAMESPACE ADDRESS
until_up() {
    for _ in $(seq 100); do
        if ip netns exec "$1" ping -c 1 -W 1 "$2" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    echo "error: $2 does not answer" >&2
    cat "$work/log" >&2
    exit 1
}

# iperf NAME OCTET OPTION...: the server's summary line
iperf() {
    local name=$1 octet=$2
    shift 2
    ip netns exec "$name-b$$" taskset -c 1 iperf3 -s -1 >/dev/null 2>&1 &
    local server=$!
    until ip netns exec "$name-b$$" ss -Hltn 'sport = :5201' | grep -q .; do sleep 0.05; done
    ip netns exec "$name-a$$" taskset -c 0 iperf3 -c "10.79.$octet.2" -t "$seconds" -f m "$@" | grep receiver
    wait $server || true
}

# tcp NAME OCTET: Gbit/s
tcp() { iperf "$@" | awk '{ for (i = 1; i < NF; i++) if ($(i + 1) == "Mbits/sec") print $i / 1000 }'; }

# small NAME OCTET: thousands of datagrams of 64 octets that arrive in a second
small() {
    iperf "$@" -u -b 0 -l 64 | awk -v seconds="$seconds" '
        { for (i = 1; i <= NF; i++) if ($i ~ /^[0-9]+\/[0-9]+$/) { split($i, n, "/"); print (n[2] - n[1]) / seconds / 1000 } }'
}

declare -A values
order=()

# measure NAME COMMAND...: once in each round
measure() {
    local name=$1 value
    shift
    flock 9
    value=$(printf '%.4g' "$("$@")")
    flock -u 9
    if [[ -z ${values[$name]-} ]]; then order+=("$name"); fi
    values[$name]+=" $value"
    printf '%-40s %s\n' "$name" "$value"
}

# The mean of each figure, its spread, and its ratio to that of packet sockets.
table() {
    printf '\n| what | mean | least to most | to af-packet |\n|---|---|---|---|\n'
    for name in "${order[@]}"; do
        awk -v name="$name" -v own="${values[$name]}" -v other="${values[${name%% *} af-packet]}" '
            function mean(text, n, of, i, sum) { n = split(text, of); for (i in of) sum += of[i]; return sum / n }
            BEGIN {
                n = split(own, of); least = most = of[1]
                for (i in of) { if (of[i] + 0 < least + 0) least = of[i]; if (of[i] + 0 > most + 0) most = of[i] }
                printf "| %s | %.3g | %.3g to %.3g | %.2f |\n", name, mean(own), least, most, mean(own) / mean(other)
            }'
    done
}

exec 9>"$lock"
namespace "$a" "$b"
weft packet1500 1 1500 af-packet
weft xdp1500 2 1500 af-xdp
weft packet9000 3 9000 af-packet
weft xdp9000 4 9000 af-xdp
grep -h "the device of an ether leg" "$work/log" | sed -E 's/.*leg=/leg=/'
for _ in $(seq "$rounds"); do
    for mtu in 1500 9000; do
        measure "tcp-$mtu-gbit af-packet" tcp packet$mtu $((mtu == 1500 ? 1 : 3))
        measure "tcp-$mtu-gbit af-xdp" tcp xdp$mtu $((mtu == 1500 ? 2 : 4))
        measure "small-$mtu-kilopackets af-packet" small packet$mtu $((mtu == 1500 ? 1 : 3))
        measure "small-$mtu-kilopackets af-xdp" small xdp$mtu $((mtu == 1500 ? 2 : 4))
    done
done
table
