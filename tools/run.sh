#!/bin/bash
# Starts a gateway on this machine and says how others join. `make run` builds first and calls this.
#
# Everything it needs is made on the first run in RUN_DIR (./run) and used again after that: a self-signed certificate, the
# gateway's configuration, and a profile for a first client. Delete the folder to begin anew. Without root there is no TUN
# device here and the port is 8443; clients then still reach each other through the gateway.
#
# Started by root, the gateway becomes somebody else once it is open: whoever owns this checkout; if that is root, the user
# `penstock`, if there is one and it can get at RUN_DIR. process.user in the configuration says who, and can be changed.
#
#   PORT=9443 make run           another port; it is written into the configuration
#   RUN_DIR=/srv/vpn make run    another folder, for a second gateway together with the next two
#   SUBNET=10.101.0.0/24 INTERFACE=penstock1 make run    on its first run
set -euo pipefail
cd "$(dirname "$0")/.."
umask 077

say() { printf '%s\n' "$*" >&2; }

penstock=$PWD/${BUILD:-build}/penstock
folder=${RUN_DIR:-run}
mkdir -p "$folder"
if [[ ! -r $folder || ! -w $folder || ! -x $folder || (-e $folder/server.yaml && ! -r $folder/server.yaml) ]]; then
  say "$folder belongs to $(stat -c %U "$folder"), who ran a gateway there before, and $(id -un) may not use it. Either of:"
  say "  sudo make run                     go on with that one, as $(stat -c %U "$folder")"
  say "  RUN_DIR=run-$(id -un) make run    another one, in a folder of its own"
  say "  sudo chown -R $(id -un) $folder   make that one yours"
  exit 5
fi
run=$(cd "$folder" && pwd)
config=$run/server.yaml
profile=$run/first-client.yaml

if [[ -n ${PORT:-} ]] && ! [[ $PORT =~ ^[0-9]{1,5}$ && $((10#$PORT)) -ge 1 && $((10#$PORT)) -le 65535 ]]; then
  say "PORT=$PORT is no port: 1 to 65535."
  exit 2
fi

port_is_free() {
  ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

tun_is_usable() {
  ((EUID == 0)) || return 1
  [[ -c /dev/net/tun ]] || return 1
  # Root in a container may have the device and yet not the right to make an interface.
  ip tuntap add dev "pstry$$" mode tun 2>/dev/null && ip tuntap del dev "pstry$$" mode tun
}

# The address by which other machines most likely reach this one: the one it would itself send from. Nothing is sent.
own_address() {
  local address
  address=$(ip -4 route get 192.0.2.1 2>/dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p')
  [[ $address ]] || address=$(ip -6 route get 2001:db8::1 2>/dev/null | sed -n 's/.* src \([0-9a-f:]*\).*/\1/p')
  printf '%s\n' "${address:-127.0.0.1}"
}

# Whose process a gateway started by root is to become; nothing: the gateway does what it does when nothing is said.
gateway_user() {
  local owner
  owner=$(stat -c %u:%g .)
  # 65534 is also what a container shows for those whom it does not know.
  if [[ $owner != 0:* && $owner != 65534:* ]]; then
    printf '%s\n' "$owner"
  elif id penstock >/dev/null 2>&1; then
    if setpriv --reuid=penstock --regid="$(id -g penstock)" --clear-groups test -x "${run%/*}"; then
      printf 'penstock\n'
    else
      say "User penstock cannot get at ${run%/*}: the gateway stays root, with CAP_NET_ADMIN only."
      printf 'root\n'
    fi
  fi
}

# What root makes here others than the gateway's user cannot read, and nobody but root can change.
share_with_gateway() {
  local user group=0
  user=$(sed -n -E 's/^  user: "([^"]*)"$/\1/p' "$config")
  case $user in
    *:*) group=${user#*:} ;;
    ?*) group=$(id -g "$user" 2>/dev/null || printf "%s" "$user") ;;
  esac
  chown -h "0:$group" "$run" "$config" "$run/server.key" "$run/server.crt"
  chmod 750 "$run"
  chmod 640 "$config" "$run/server.key" "$run/server.crt"
}

in_url() { if [[ $1 == *:* ]]; then printf '[%s]' "$1"; else printf '%s' "$1"; fi; }

make_certificate() {
  local names="DNS:localhost" address name
  name=$(hostname)
  [[ $name =~ ^[A-Za-z0-9.-]+$ && $name != localhost ]] && names+=",DNS:$name"
  for address in 127.0.0.1 ::1 $(ip -o addr show scope global 2>/dev/null | awk '{ sub("/.*", "", $4); print $4 }' | sort -u); do
    names+=",IP:$address"
  done
  say "Making a self-signed certificate for $names"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256 -days 825 -subj "/CN=${name:0:64}" \
    -addext "subjectAltName=$names" -keyout "$run/server.key.new" -out "$run/server.crt" 2>/dev/null
  # The key gets its name last: an interrupted run leaves no half of a pair behind.
  mv "$run/server.key.new" "$run/server.key"
}

make_config() {
  local port=$1 tun=$2 socket=$run/status/penstock.sock
  # A Unix socket's path has room for 107 bytes.
  ((${#socket} < 100)) || socket=/tmp/penstock-$(printf '%s' "$run" | sha256sum | cut -c 1-12).sock
  cat >"$config.new" <<END
# Made by \`make run\`; edit it as you like. docs/configuration.md tells every key.
server:
  listen_addr: ":$port"
  public_url: "wss://$(in_url "$(own_address)"):$port/"
  tls_cert: "$run/server.crt"
  tls_key: "$run/server.key"
vpn:
  subnet: "${SUBNET:-10.100.0.0/24}"
  tun: "$tun"
  interface_name: "${INTERFACE:-penstock0}"
state_dir: "$run/state"
status_socket: "$socket"
END
  mv "$config.new" "$config"
}

[[ -x $penstock ]] || { say "There is no $penstock: run \`make build\` first."; exit 1; }
[[ -f $run/server.key && -f $run/server.crt ]] || make_certificate
if [[ ! -f $config ]]; then
  port=${PORT:-8443}
  if [[ -z ${PORT:-} ]] && ((EUID == 0)) && port_is_free 443; then port=443; fi
  tun=off
  if tun_is_usable; then tun=on; fi
  make_config "$port" "$tun"
  say "Wrote $config (port $port, TUN $tun)"
elif [[ -n ${PORT:-} ]]; then
  # Profiles made later read the port from there too.
  sed -i -E "s/^(  listen_addr: \").*(\")/\1:$PORT\2/; s#^(  public_url: \"wss://.*):[0-9]+/\"#\1:$PORT/\"#" "$config"
  public_url=$(sed -n -E 's/^  public_url: "(.*)"/\1/p' "$config")
  [[ ! -f $profile ]] || sed -i "s#^  url: .*#  url: $public_url#" "$profile"
fi
if ((EUID == 0)); then
  if ! grep -q '^process:' "$config"; then
    user=$(gateway_user)
    [[ ! $user ]] || printf 'process:\n  user: "%s"\n' "$user" >>"$config"
  fi
  share_with_gateway
fi
"$penstock" check-config --kind server --config "$config" >&2
if [[ ! -f $profile ]]; then
  "$penstock" profile first-client --config "$config" --output "$profile" >&2
fi

# The packages of the libraries it uses that not every machine has: on Debian and Ubuntu they are called after the soname.
packages=$(ldd "$penstock" | tr '[:upper:]_' '[:lower:]-' |
  sed -nE 's/^\s*(libipsec-mb|libmnl|libnftables|libseccomp|libspdlog|libyaml-cpp)\.so\.([0-9.]+) .*/\1\2/p' | sort -u | paste -sd ' ')
# shellcheck disable=SC1091
system=$(. /etc/os-release 2>/dev/null && printf '%s' "$PRETTY_NAME") || system="this system"

cat >&2 <<END

$(sed 's/^/    /' "$profile")

How another machine joins
  1. Copy this profile and the executable to it (the profile holds its token: keep it secret):
       scp $profile $penstock OTHER:
  2. There, if it runs $system too:
       sudo apt-get install $packages
     On another system build it from a clone with \`make build\` instead; the executable is then build/penstock.
  3. There:
       sudo ./penstock client --config ${profile##*/}
  4. See who is here:
       $penstock status --config $config
  Another machine needs a profile of its own:
       $penstock profile NAME --config $config --output $run/NAME.yaml
END
if grep -q '^ *tun: *"\?off' "$config"; then
  say "  This gateway has no TUN device (that takes root), so it is no member itself; clients reach each other."
fi
say ""
say "The gateway runs until Ctrl-C, or kill $$."
exec "$penstock" server --config "$config"
