#!/bin/bash
# Installs the packages that the named purposes need: tools/install-packages.sh build|test|lint|deep|windows|bench|peers|run|demo ...
#
# dpkg is asked first; only when something is missing is apt-get called, and only as root. Without root the missing names
# and the command to type are printed. On a system without dpkg the packages are the reader's business.
# Optional packages are welcome but not needed: where one cannot be had, a line says so and all goes on.
# PENSTOCK_SKIP_PACKAGES=1 skips all of it.
set -euo pipefail

[[ -n ${PENSTOCK_SKIP_PACKAGES:-} ]] && exit 0
if ! command -v dpkg-query >/dev/null; then
  echo "No dpkg here: install the packages named in $0 by their names on this system." >&2
  exit 0
fi

# Debian 12's default Boost is 1.74, too old for our coroutines; later releases have 1.83 as the default.
boost=libboost-dev
# shellcheck source=/dev/null
source /etc/os-release
[[ ${ID:-} == debian && ${VERSION_ID:-} == 12 ]] && boost=libboost1.81-dev

# Programs that tests start themselves, and that shall not become services of this machine.
servers=(avahi-daemon nginx-light haproxy tinyproxy openvpn ocserv tinc openssh-server)

packages=()
optional=()
for purpose in "$@"; do
  case $purpose in
    build) packages+=(g++ cmake ninja-build ccache "$boost" libssl-dev libyaml-cpp-dev nlohmann-json3-dev libspdlog-dev
                      libcli11-dev libmnl-dev libnftables-dev libseccomp-dev)
           # AES-GCM for processors with VAES; there is none for others.
           [[ $(dpkg --print-architecture) == amd64 ]] && optional+=(libipsec-mb-dev) ;;
    test) packages+=(libgtest-dev libgmock-dev python3 python3-pytest python3-websockets python3-cryptography openssl
                     iproute2 iputils-ping iperf3 nftables jq procps python3-pytest-xdist nodejs node-ws bind9-dnsutils traceroute
                     curl wrk openssh-client "${servers[@]}") ;;
    lint) packages+=(clang-format-19 clang-tidy-19 python3 git) ;;
    deep) packages+=(clang-19 libclang-rt-19-dev llvm-19) ;;
    run) packages+=(openssl iproute2) ;;
    windows) packages+=(g++-mingw-w64-x86-64-posix wine64 googletest cmake ninja-build ccache nlohmann-json3-dev libspdlog-dev
                        libfmt-dev) ;;
    bench) packages+=(iproute2 libbenchmark-dev openssl python3 util-linux valgrind) ;;
    peers) packages+=(iperf3 iputils-ping nftables)
           optional+=(openvpn ocserv openconnect vpnc-scripts wireguard-go wireguard-tools tinc passt) ;;
    demo) packages+=(openssl iproute2 iputils-ping iperf3 jq) ;;
    *) echo "$0: no such purpose: $purpose" >&2; exit 2 ;;
  esac
done

is_installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

missing=()
for package in "${packages[@]}"; do is_installed "$package" || missing+=("$package"); done
wanted=()
for package in "${optional[@]}"; do is_installed "$package" || wanted+=("$package"); done
if (( EUID != 0 && ${#wanted[@]} )); then
  echo "Going on without ${wanted[*]}" >&2
  wanted=()
fi
(( ${#missing[@]} + ${#wanted[@]} )) || exit 0

if (( EUID != 0 )); then
  echo "Missing packages. As root:  apt-get install ${missing[*]}" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
policy=/usr/sbin/policy-rc.d  # asked by packages before they start a service
if [[ -e $policy ]]; then
  trap 'rm -f "$log"' EXIT
else
  trap 'rm -f "$log" "$policy"' EXIT
  install -m 755 <(printf '#!/bin/sh\nexit 101\n') "$policy"
fi
apt=(apt-get -qq -o DPkg::Lock::Timeout=300)
install=("${apt[@]}" install -y --no-install-recommends)
# The package lists may be absent or old, so they are fetched before, and a failure of that counts only if installing fails too.
"${apt[@]}" update >"$log" 2>&1 </dev/null || true
if (( ${#missing[@]} )); then
  echo "Installing ${missing[*]}"
  if ! "${install[@]}" "${missing[@]}" >>"$log" 2>&1 </dev/null; then
    tail -n 30 "$log" >&2
    echo "Could not install ${missing[*]}" >&2
    exit 1
  fi
fi
# One at a time: what this distribution lacks keeps none of the others away.
for package in "${wanted[@]}"; do
  if "${install[@]}" "$package" >>"$log" 2>&1 </dev/null; then
    echo "Installed $package"
    missing+=("$package")
  else
    echo "Going on without $package" >&2
  fi
done
if command -v systemctl >/dev/null; then
  for server in "${servers[@]}"; do
    unit=${server%-light}
    unit=${unit/openssh-server/ssh}
    if [[ " ${missing[*]} " == *" $server "* ]]; then systemctl -q disable "$unit" >/dev/null 2>&1 || true; fi
  done
fi
