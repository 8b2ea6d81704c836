#!/usr/bin/env bash
# A cluster address of a virtual LAN for a client outside, beside nftables that translates addresses, HAProxy in TCP mode, and no balancer at all: three web servers, in one run.
#
#   benches/peers/cluster.sh [SECONDS [ROUNDS]]     5 seconds each and 3 rounds, unless told
#
# New connections and requests on existing ones are wrk's, 32 at a time; packets are iperf's datagrams of 64 octets of one flow, as many as reach the sockets of the servers, with room or without: how fast a
# program reads them is not the balancer's. HAProxy carries none. The peers
# stand between the client's veth pair and a kernel bridge of the servers; without a balancer the kernel forwards there to the first server.
#
# Needs root, iperf (version 2, which sends without being answered), nftables, nginx-light, wrk and haproxy (Debian packages; no service of them is used), and the release build of switch-server.
source "$(dirname "$0")/common.sh"
seconds=${1:-5}
rounds=${2:-3}
client=peer-c$$ middle=peer-m$$ servers=(peer-1$$ peer-2$$ peer-3$$)

# The client's veth pair to the middle, and namespaces of the servers.
site() {
    namespace "$client" "$middle" "${servers[@]}"
    ip link add e0 netns "$client" type veth peer name eth1 netns "$middle"
    ip -n "$client" link set e0 up
    ip -n "$middle" link set eth1 up
}

# serve ADDRESS...: web servers, and whoever takes datagrams at these addresses, one each; the agents set that of the cluster later.
serve() {
    cat >"$work/nginx.conf" <<END
daemon off;
worker_processes 1;
events { worker_connections 4096; }
http {
    access_log off;
    keepalive_requests 100000000;
    server { listen 80; return 200 "here"; }
}
END
    for name in "${servers[@]}"; do
        background ip netns exec "$name" nginx -e "$work/log" -c "$work/nginx.conf" -g "pid $work/$name.pid;"
        ip netns exec "$name" sysctl -qw net.ipv4.ip_nonlocal_bind=1
        background ip netns exec "$name" iperf -s -u -B "$1"
        shift
    done
}

# --- the ways --------------------------------------------------------------------------------------------------

# The servers behind a bridge in the middle, which forwards between it and the client.
routed() {
    site
    ip -n "$client" addr add 10.84.0.1/24 dev e0
    ip -n "$client" route add default via 10.84.0.254
    ip -n "$middle" addr add 10.84.0.254/24 dev eth1
    ip -n "$middle" link add br0 type bridge
    ip -n "$middle" addr add 10.84.1.254/24 dev br0
    ip -n "$middle" link set br0 up
    ip netns exec "$middle" sysctl -qw net.ipv4.ip_forward=1
    for n in 1 2 3; do
        local name=${servers[n - 1]}
        ip link add e0 netns "$name" type veth peer name p$n netns "$middle"
        ip -n "$middle" link set p$n master br0 up
        ip -n "$name" addr add 10.84.1.$n/24 dev e0
        ip -n "$name" link set e0 up
        ip -n "$name" route add default via 10.84.1.254
    done
    serve 10.84.1.1 10.84.1.2 10.84.1.3
}

nftables() {
    routed
    local map='{ 0 : 10.84.1.1, 1 : 10.84.1.2, 2 : 10.84.1.3 }'
    ip netns exec "$middle" nft -f - <<END
table ip balance {
    chain in {
        type nat hook prerouting priority dstnat;
        ip daddr 10.84.2.1 tcp dport 80 dnat to numgen inc mod 3 map $map
        ip daddr 10.84.2.1 dnat to 10.84.1.1
    }
}
END
}

haproxy() {
    routed
    ip -n "$middle" addr add 10.84.2.1/32 dev lo
    cat >"$work/haproxy.cfg" <<END
defaults
    mode tcp
    timeout connect 2s
    timeout client 60s
    timeout server 60s
listen web
    bind 10.84.2.1:80
    balance roundrobin
    server s1 10.84.1.1:80
    server s2 10.84.1.2:80
    server s3 10.84.1.3:80
END
    background ip netns exec "$middle" "$(command -v haproxy)" -db -f "$work/haproxy.cfg"
}

weft() {
    site
    ip -n "$client" addr add 10.83.1.200/24 dev e0
    mkdir -p "$work/run"
    {
        printf '[platform]\nname = "peers"\n[[fabric]]\nname = "a"\n'
        printf '[[control-node]]\nname = "cn"\nserial = 1\nlegs = { a = "unix:run/cn-a.sock" }\n'
        for n in 1 2 3; do printf '[[node]]\nname = "s%d"\nnumber = %d\nlegs = { a = "unix" }\n' $n $n; done
        printf '[[lan]]\nname = "red"\nid = 10\n'
        for n in 1 2 3; do printf '[[lan.member]]\nnode = "s%d"\naddress = "10.83.1.%d/24"\n' $n $n; done
        printf '[lan.uplink]\nmode = "filtered"\nports = [{ control-node = "cn", device = "eth1" }]\n'
        printf '[[lan.cluster]]\naddress = "10.83.1.100"\n'
        for service in tcp/80/round-robin udp/5001/hash; do
            IFS=/ read -r protocol port balance <<<"$service"
            printf '[[lan.cluster.service]]\nprotocol = "%s"\nport = %d\nbalance = "%s"\n' "$protocol" "$port" "$balance"
            printf 'servers = [{ node = "s1" }, { node = "s2" }, { node = "s3" }]\n'
        done
    } >"$work/peers.toml"
    "$release/switch-server" keys "$work/peers.toml" >>"$work/log"
    control_node "$middle" "$work/peers.toml"
    for n in 1 2 3; do node "$middle" "$work/peers.toml" s$n "${servers[n - 1]}"; done
    serve 10.83.1.100 10.83.1.100 10.83.1.100
}

# --- the measurements ------------------------------------------------------------------------------------------

# serves ADDRESS: waits until wrk has answers and no errors
serves() {
    for _ in $(seq 100); do
        if ip netns exec "$client" wrk -t 1 -c 8 -d 1s "http://$1/" 2>&1 | grep -q 'requests in' &&
            ip netns exec "$client" wrk -t 1 -c 8 -d 1s "http://$1/" 2>&1 | awk '/requests in/ { ok = $1 > 100 } /errors/ { bad = 1 } END { exit !(ok && !bad) }'; then
            return
        fi
        sleep 0.2
    done
    echo "error: http://$1/ does not answer" >&2
    tail -20 "$work/log" >&2
    exit 1
}

# requests ADDRESS HEADER: thousands a second
requests() {
    ip netns exec "$client" wrk -t 1 -c 32 -d "${seconds}s" -H "$2" "http://$1/" | awk '/Requests\/sec/ { print $2 / 1000 }'
}

# Datagrams that have reached sockets of the servers.
arrived() {
    for name in "${servers[@]}"; do ip netns exec "$name" cat /proc/net/snmp; done |
        awk '$1 == "Udp:" && $2 ~ /^[0-9]/ { sum += $2 + $6 } END { print sum }'
}

# packets ADDRESS: millions a second that arrive
packets() {
    local before
    before=$(arrived)
    ip netns exec "$client" iperf -c "$1" -u -b 100g -l 64 -t "$seconds" >>"$work/log" 2>&1
    echo "$before $(arrived) $seconds" | awk '{ print ($2 - $1) / $3 / 1e6 }'
}

# way NAME ADDRESS: all figures of one
way() {
    serves "$2"
    measure "kilo-connections $1" requests "$2" 'Connection: close'
    measure "kilo-requests $1" requests "$2" 'Connection: keep-alive'
    if [ "$1" != haproxy ]; then measure "megapackets $1" packets "$2"; fi
    end_all
}

for _ in $(seq "$rounds"); do
    weft
    way weft 10.83.1.100
    nftables
    way nftables 10.84.2.1
    haproxy
    way haproxy 10.84.2.1
    routed
    way none 10.84.1.1
done
table of weft
