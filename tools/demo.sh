#!/bin/bash
# Three machines on one desk: a gateway and two clients in network namespaces, driven through what a user would do.
#
#                      wire: a bridge; 192.0.2.0/24 and 2001:db8:5::/64, the "internet" of this demo
#        +---------------------------------+----------------------------------+
#        |                                 |                                  |
#   [ gateway ]                        [ alice ]                           [ bob ]
#   192.0.2.1, 2001:db8:5::1           192.0.2.11                          2001:db8:5::12
#   wss://...:443, TLS 1.3             joins over IPv4                     joins over IPv6
#   tun0  10.100.0.1                   VPN  10.100.0.x                     VPN  10.100.0.y
#         fd42:100::1                       fd42:100::x                         fd42:100::y
#        |                                 |                                  |
#        +--- the virtual LAN: 10.100.0.0/24 and fd42:100::/64 ---------------+
#
# Everything lives in four namespaces (the fourth holds the bridge) and a temporary folder, named after this process, and is
# gone at the end, however it ends. Nothing of the machine's own network is touched. Needs root and /dev/net/tun.
# KEEP=1 leaves the folder with configurations and logs.
set -euo pipefail
cd "$(dirname "$0")/.."

penstock=${PENSTOCK:-$PWD/${BUILD:-build}/penstock}
id=psdemo$$
wire=$id-wire
work=$(mktemp -d "/tmp/$id.XXXXXX")
declare -A pids=()

if [[ -t 1 ]]; then bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' dim=$'\e[2m' plain=$'\e[0m'; else bold='' green='' red='' dim='' plain=''; fi
count=0
failure=
step() { count=$((count + 1)); printf '\n%s%d. %s%s\n' "$bold" "$count" "$*" "$plain"; }
ok() { printf '   %sok%s  %s\n' "$green" "$plain" "$*"; }
note() { printf '   %s%s%s\n' "$dim" "$*" "$plain"; }
die() { failure=$*; exit 1; }

on() {  # HOST COMMAND...: runs it in the host's namespace
  local host=$1
  shift
  ip netns exec "$id-$host" "$@"
}

start() {  # HOST COMMAND...: runs it there in the background, its log in the folder. ip execs, so the pid is the command's.
  local host=$1
  shift
  ip netns exec "$id-$host" "$@" >>"$work/$host.log" 2>&1 &
  pids[$host]=$!
}

has_ended() { ! kill -0 "$1" 2>/dev/null; }

# Asks every tenth of a second until the command succeeds. Fails at once if a gateway or client has died meanwhile.
wait_until() {  # SECONDS WORDS COMMAND...
  local deadline=$((SECONDS + $1)) words=$2 host
  shift 2
  until "$@" >/dev/null 2>&1; do
    for host in "${!pids[@]}"; do
      if has_ended "${pids[$host]}"; then die "$host ended while waiting until $words"; fi
    done
    if ((SECONDS > deadline)); then die "gave up waiting until $words"; fi
    sleep 0.1
  done
}

cleanup() {
  local code=$? host
  trap - EXIT INT TERM
  set +e
  for host in "${!pids[@]}"; do kill "${pids[$host]}" 2>/dev/null; done
  for host in "${!pids[@]}"; do
    for _ in {1..50}; do has_ended "${pids[$host]}" && break; sleep 0.1; done
    kill -9 "${pids[$host]}" 2>/dev/null
    wait "${pids[$host]}" 2>/dev/null
  done
  if ((code != 0)); then
    printf '\n%sFAILED: %s%s\n' "$red" "${failure:-step $count, exit code $code}" "$plain" >&2
    for host in gateway alice bob; do
      [[ -s $work/$host.log ]] && { echo "--- the end of $host's log"; tail -n 15 "$work/$host.log"; } >&2
    done
  fi
  for host in gateway alice bob wire; do ip netns del "$id-$host" 2>/dev/null; done
  if [[ ${KEEP:-} ]]; then echo "Kept $work"; else rm -rf "$work"; fi
  exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

((EUID == 0)) || die "network namespaces take root: sudo make demo"
[[ -c /dev/net/tun ]] || die "there is no /dev/net/tun here (modprobe tun; in a container, pass the device in)"
[[ -x $penstock ]] || die "there is no $penstock: run make build first"

# What the program says about itself; $1 is gateway, alice or bob.
status() { on "$1" "$penstock" status --socket "$work/$1.sock" --json; }
holds() { status "$1" | jq -e "$2"; }  # HOST JQ-CONDITION
attached='[.sessions[] | select(.attached)] | length == 2'
connected='.state == "connected" and .address != null and .address6 != null'

start_gateway() {
  start gateway "$penstock" server --config "$work/gateway.yaml"
  wait_until 20 "the gateway answers" holds gateway '.role == "server"'
}

ping_all() {
  local from to
  for from in alice bob; do
    to=$([[ $from == alice ]] && echo bob || echo alice)
    local address
    for address in "${v4[$to]}" "${v6[$to]}" "${v4[gateway]}" "${v6[gateway]}"; do
      local answer
      answer=$(on "$from" ping -n -q -c 3 -i 0.2 -W 2 "$address" 2>&1) || die "$from gets no answer from $address: $answer"
      ok "$(printf '%-5s -> %-14s %s' "$from" "$address" "$(sed -n 's|^rtt.*= *[0-9.]*/\([0-9.]*\)/.*|\1 ms|p' <<<"$answer")")"
    done
  done
}

sed -n '/^# Three machines/,/^#        +--- the virtual/s/^# \{0,1\}//p' "$0"

step "Three hosts on one wire"
ip netns add "$wire"
ip -n "$wire" link add wire type bridge
ip -n "$wire" link set wire up
while read -r host addresses; do
  ip netns add "$id-$host"
  ip -n "$id-$host" link add eth0 type veth peer name "$host" netns "$wire"
  ip -n "$wire" link set "$host" master wire up
  for address in $addresses; do
    # nodad: nobody else is on this wire, so an IPv6 address can be used at once.
    if [[ $address == *:* ]]; then ip -n "$id-$host" addr add "$address" dev eth0 nodad
    else ip -n "$id-$host" addr add "$address" dev eth0; fi
  done
  ip -n "$id-$host" link set lo up
  ip -n "$id-$host" link set eth0 up
done <<'END'
gateway 192.0.2.1/24 2001:db8:5::1/64
alice 192.0.2.11/24
bob 2001:db8:5::12/64
END
wait_until 10 "alice reaches the gateway's machine" on alice ping -c 1 -W 1 192.0.2.1
wait_until 10 "bob reaches the gateway's machine" on bob ping -c 1 -W 1 2001:db8:5::1
ok "alice has IPv4 only, bob IPv6 only, the gateway both"

step "A certificate, the gateway's configuration, a profile for each client"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj /CN=gateway \
  -addext 'subjectAltName=IP:192.0.2.1,IP:2001:db8:5::1' -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
cat >"$work/gateway.yaml" <<END
server:
  listen_addr: ":443"
  public_url: "wss://192.0.2.1:443/"
  tls_cert: "$work/cert.pem"
  tls_key: "$work/key.pem"
vpn:
  subnet: "10.100.0.0/24"
  subnet6: "fd42:100::/64"
state_dir: "$work/gateway-state"
status_socket: "$work/gateway.sock"
END
"$penstock" check-config --kind server --config "$work/gateway.yaml" | sed 's/^/   /'
for client in alice bob; do
  "$penstock" profile "$client" --config "$work/gateway.yaml" --output "$work/$client.yaml" | sed 's/^/   /'
  # Both clients share this machine's /run and /var/lib, so each gets its own place in the folder.
  sed -i '/^state_dir:/d; /^status_socket:/d' "$work/$client.yaml"
  printf 'state_dir: "%s"\nstatus_socket: "%s"\n' "$work/$client-state" "$work/$client.sock" >>"$work/$client.yaml"
done
ok "profiles pin the gateway's key, so no certificate authority is needed"

step "The gateway starts, the clients join"
start_gateway
start alice "$penstock" client --config "$work/alice.yaml"
# The profiles name the gateway's IPv4 address, which bob cannot reach.
start bob "$penstock" client --config "$work/bob.yaml" --set 'server.url=wss://[2001:db8:5::1]:443/'
declare -A v4 v6
for client in alice bob; do
  wait_until 20 "$client is connected" holds "$client" "$connected"
  v4[$client]=$(status "$client" | jq -r .address)
  v6[$client]=$(status "$client" | jq -r .address6)
  ok "$client is ${v4[$client]} and ${v6[$client]}, by way of $(status "$client" | jq -r .outer)"
done
wait_until 10 "the gateway has both attached" holds gateway "$attached"
v4[gateway]=$(status gateway | jq -r .server_ip)
v6[gateway]=$(status gateway | jq -r .server_ip6)

step "Everybody pings everybody, over IPv4 and IPv6 inside"
ping_all

step "Three seconds of TCP from alice to bob through the gateway"
ip netns exec "$id-bob" iperf3 -s -1 -B "${v4[bob]}" -p 5201 >"$work/iperf-server.log" 2>&1 &
pids[iperf]=$!
wait_until 10 "iperf3 listens" eval 'on bob ss -Hltn sport = :5201 | grep -q .'
on alice iperf3 -c "${v4[bob]}" -p 5201 -t 3 -J >"$work/iperf.json" || die "iperf3: $(jq -r '.error // .' "$work/iperf.json")"
wait "${pids[iperf]}" || true
unset 'pids[iperf]'
ok "$(jq -r '.end.sum_received.bits_per_second / 1e6 | round' "$work/iperf.json") Mbit/s at the receiver"

step "The gateway is killed (-9) and started again"
killed=${pids[gateway]}
unset 'pids[gateway]'
kill -9 "$killed"
wait "$killed" 2>/dev/null || true
for client in alice bob; do
  wait_until 40 "$client notices" holds "$client" '.state != "connected"'
done
note "both clients have noticed: $(status alice | jq -r '.last_error // ""')"
start_gateway
for client in alice bob; do wait_until 40 "$client is back" holds "$client" "$connected"; done
wait_until 10 "the gateway has both attached again" holds gateway "$attached"
for client in alice bob; do
  now="$(status "$client" | jq -r '.address + " " + .address6')"
  [[ $now == "${v4[$client]} ${v6[$client]}" ]] || die "$client was ${v4[$client]} ${v6[$client]} and came back as $now"
  ok "$client is back with the same addresses, $now"
done

step "And the pings again"
ping_all

step "Everybody says goodbye"
for host in alice bob gateway; do
  pid=${pids[$host]}
  unset 'pids[$host]'
  kill -TERM "$pid"
  code=0
  wait "$pid" || code=$?
  ((code == 0)) || die "$host ended with exit code $code"
  ok "$host stopped on SIGTERM, exit code 0"
done
for host in alice bob gateway; do
  left=$(ip -n "$id-$host" -br link | awk '$1 !~ /^(lo|eth0@.*)$/ { print $1 }')
  [[ -z $left ]] || die "$host left the interface $left behind"
done
ok "no interface is left behind"
printf '\n%sAll of it worked.%s\n' "$green$bold" "$plain"
