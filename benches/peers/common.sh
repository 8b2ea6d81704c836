# What the scripts of this folder have in common; they source it. Arguments: SECONDS and ROUNDS, of which each has its own defaults.
#
# Measurements hold BENCH_LOCK, so that several jobs on one machine do not measure each other.
set -euo pipefail

release=${CARGO_TARGET_DIR:-$(dirname "${BASH_SOURCE[0]}")/../../target}/release
release=$(realpath "$release")
lock=${BENCH_LOCK:-${TMPDIR:-/tmp}/bench.lock}
work=$(mktemp -d)
pids=() namespaces=()

# Everything in the background ends, and its namespaces go.
end_all() {
    # One that was stopped on purpose hears the signal when it goes on.
    for pid in "${pids[@]}"; do kill "$pid" && kill -CONT "$pid" || true; done 2>/dev/null
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    for name in "${namespaces[@]}"; do ip netns del "$name" 2>/dev/null || true; done
    pids=() namespaces=()
}

cleanup() {
    end_all
    if declare -F cleanup_more >/dev/null; then cleanup_more || true; fi
    rm -rf "$work"
}
trap cleanup EXIT
exec 9>"$lock"

# --- processes and namespaces ----------------------------------------------------------------------------------

background() {
    "$@" >>"$work/log" 2>&1 &
    pids+=($!)
}

# stop COUNT: the last of those in the background
stop() {
    for pid in "${pids[@]: -$1}"; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done
    pids=("${pids[@]:0:${#pids[@]}-$1}")
}

# namespace NAME...
namespace() {
    for name in "$@"; do
        ip netns add "$name"
        namespaces+=("$name")
        ip -n "$name" link set lo up
    done
}

# control_node NAMESPACE FILE
control_node() {
    background ip netns exec "$1" "$release/switch-server" run "$2" --name cn
}

# node NAMESPACE FILE NAME INTERFACES: a node whose legs are in the one namespace and whose interfaces are in the other
node() {
    # The same program plays a node under this name.
    background ip netns exec "$1" bash -c 'exec -a switch-node "$@"' _ \
        "$release/switch-server" run "$2" --name "$3" --netns "$4"
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

# --- what is measured ------------------------------------------------------------------------------------------

# iperf FROM TO ADDRESS OPTION...: the server's summary line; the client runs on core 0, the server on core 1
iperf() {
    local from=$1 to=$2 address=$3
    shift 3
    ip netns exec "$to" taskset -c 1 iperf3 -s -1 >/dev/null 2>&1 &
    local server=$!
    until ip netns exec "$to" ss -Hltn 'sport = :5201' | grep -q .; do sleep 0.05; done
    ip netns exec "$from" taskset -c 0 iperf3 -c "$address" -t "$seconds" -f m "$@" | grep receiver
    wait $server || true
}

# tcp FROM TO ADDRESS: Gbit/s
tcp() { iperf "$@" | awk '{ for (i = 1; i < NF; i++) if ($(i + 1) == "Mbits/sec") print $i / 1000 }'; }

# small FROM TO ADDRESS: thousands of datagrams of 64 octets that arrive in a second
small() {
    iperf "$@" -u -b 0 -l 64 | awk -v seconds="$seconds" '
        { for (i = 1; i <= NF; i++) if ($i ~ /^[0-9]+\/[0-9]+$/) { split($i, n, "/"); print (n[2] - n[1]) / seconds / 1000 } }'
}

declare -A values
order=()

# measure "KIND WAY" COMMAND...: once in each round
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

# table to|of WAY...: the mean of each figure, its spread, and for each WAY the ratio of the figure to that of the same kind by that way,
# or the other way round
table() {
    local ratio=$1 columns=
    shift
    for way in "$@"; do
        if [ "$ratio" = to ]; then columns+=" to $way |"; else columns+=" $way to it |"; fi
    done
    printf '\n| what | mean | least to most |%s\n|---|---|---|%s\n' "$columns" "$(printf -- '---|%.0s' "$@")"
    for name in "${order[@]}"; do
        local others=()
        for way in "$@"; do others+=("${values[${name%% *} $way]-}"); done
        awk -v name="$name" -v ratio="$ratio" '
            function mean(text, n, of, i, sum) { n = split(text, of); for (i in of) sum += of[i]; return n ? sum / n : 0 }
            BEGIN {
                own = ARGV[1]
                n = split(own, of); least = most = of[1]
                for (i in of) { if (of[i] + 0 < least + 0) least = of[i]; if (of[i] + 0 > most + 0) most = of[i] }
                printf "| %s | %.3g | %.3g to %.3g |", name, mean(own), least, most
                for (i = 2; i < ARGC; i++) {
                    other = mean(ARGV[i])
                    if (!other) printf " |"
                    else printf " %.2f |", ratio == "to" ? mean(own) / other : other / mean(own)
                }
                print ""
            }' "${values[$name]}" "${others[@]}"
    done
}
