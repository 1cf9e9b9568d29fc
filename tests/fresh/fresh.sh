#!/usr/bin/env bash
# The README's commands on a fresh machine: a bare Debian 12 made by debootstrap, an ordinary user, a clone of this repository's HEAD.
# Prints seconds and disk space of each step. `make fresh` calls it; it needs root and debootstrap.
#
#   tests/fresh/fresh.sh [TARGET…]   targets of make, default: demo test
#
# Settings, all optional:
#   FRESH_ROOT        folder of the machine, default build/fresh; removed at the end unless FRESH_KEEP=1
#   FRESH_MIRROR      Debian's packages, default http://deb.debian.org/debian
#   FRESH_CA          certificates that the machine trusts, for a network with an authority of its own: /etc/ssl/certs/ca-certificates.crt
#   FRESH_JAVA_CA     the same for Java: /etc/ssl/certs/java/cacerts
#   FRESH_PACKAGES    Debian packages besides those that the README names, e.g. chromium
# Settings of package indexes and proxies (PIP_INDEX_URL, UV_DEFAULT_INDEX, https_proxy and others) are passed on.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { printf 'fresh: %s\n' "$@" >&2; exit 1; }
((EUID == 0)) || fail "debootstrap and chroot need root"
command -v debootstrap >/dev/null || fail "debootstrap is missing: apt-get install debootstrap"
# Mounts and processes of a namespace of its own: nothing of them is left, however this ends.
[[ -n ${FRESH_INSIDE:-} ]] || FRESH_INSIDE=1 exec unshare --mount --pid --fork --kill-child "$0" "$@"

targets=("$@")
((${#targets[@]})) || targets=(demo test)
mkdir -p "${FRESH_ROOT:=build/fresh}"
root=$(realpath "$FRESH_ROOT")
[[ -z $(ls -A "$root") ]] || fail "$root is not empty: remove it, or name another folder by FRESH_ROOT"
machine=$root/machine log=$root/log
mkdir "$machine"
packages=$(grep -m 1 -o 'apt-get install [^`]*' README.md) # the README's own line
home=/home/reader

passed=(HOME=$home USER=reader LOGNAME=reader LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin)
for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL UV_DEFAULT_INDEX UV_INDEX UV_INDEX_URL {http,https,no}_proxy {HTTP,HTTPS,NO}_PROXY; do
    [[ -z ${!name:-} ]] || passed+=("$name=${!name}")
done
[[ -z ${FRESH_CA:-} ]] || passed+=(SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt)

inside() { chroot "$machine" /usr/bin/env -i "${passed[@]}" "$@"; }
reader() { chroot --userspec=reader:reader "$machine" /usr/bin/env -i "${passed[@]}" sh -c 'cd "$HOME/nightlog" && exec "$@"' sh "$@"; }
megabytes() { du -sxm "$@" 2>/dev/null | tail -n 1 | cut -f 1; }

# timed WHAT COMMAND…: its seconds, and how much the machine grew.
before=0
timed() {
    local what=$1 start=$SECONDS now
    shift
    "$@" </dev/null >>"$log" 2>&1 || { tail -n 40 "$log" >&2; fail "$what failed; $log has its output"; }
    now=$(megabytes "$machine")
    printf '%-32s %5d s %7d MB\n' "$what" $((SECONDS - start)) $((now - before))
    before=$now
}

bare() {
    debootstrap --variant=minbase --include=ca-certificates,adduser bookworm "$machine" "${FRESH_MIRROR:-http://deb.debian.org/debian}"
    cp /etc/resolv.conf /etc/hosts "$machine/etc/"
    mount -t proc proc "$machine/proc"
    mount --rbind /dev "$machine/dev"
    mount --make-rslave "$machine/dev"
    mount -t tmpfs tmpfs "$machine/dev/shm"
}
install_packages() {
    inside DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c "apt-get update && $packages -y --no-install-recommends ${FRESH_PACKAGES:-}"
    [[ -z ${FRESH_CA:-} ]] || cp "$FRESH_CA" "$machine/etc/ssl/certs/ca-certificates.crt"
    [[ -z ${FRESH_JAVA_CA:-} ]] || cp "$FRESH_JAVA_CA" "$machine/etc/ssl/certs/java/cacerts"
}
clone() {
    inside /usr/sbin/useradd --create-home reader
    git clone --quiet --no-hardlinks . "$machine$home/nightlog"
    inside chown -R reader:reader "$home/nightlog"
}

timed "bare Debian 12" bare
timed "packages of the README" install_packages
timed "clone" clone
timed "make setup" reader make setup
for target in "${targets[@]}"; do timed "make $target" reader make "$target"; done

printf '\n%-32s %7s    %7s MB\n' "in all" "" "$(megabytes "$machine")"
for part in .venv .venv-airflow .uv build; do
    printf '  %-30s %7s    %7s MB\n' "nightlog/$part" "" "$(megabytes "$machine$home/nightlog/$part")"
done
printf '  %-30s %7s    %7s MB\n' "cache of uv (most is .venv, too)" "" "$(megabytes "$machine$home/.cache")"
printf '\n%s\n' "The last lines:"
tail -n 15 "$log"
[[ -n ${FRESH_KEEP:-} ]] || { umount -R "$machine/proc" "$machine/dev" && rm -rf "$root"; }
