#!/usr/bin/env bash
# Runs the tests on a release of Debian, in a root of its own; on Debian, as root:
#
#   run.sh 12 [COMMAND...]       Python 3.11
#   run.sh 13 [COMMAND...]       Python 3.13, the system of today's Raspberry Pi OS
#   run.sh testing [COMMAND...]  the release after it: Python 3.14 and GCC 16
#
# COMMAND runs in a copy of the tree; what it makes there is kept for the next run. Without one: make demo, make test,
# and what docs/install.md says to install the package, in another copy. The root is kept in $EMULATION, build/emulation if
# not set, and made anew in another month.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/debian/common.sh
RELEASE=${1:-}
case $RELEASE in
12) SUITE=bookworm ;;
13) SUITE=trixie ;;
testing) SUITE=testing ;;
*)
    sed -n '2,/^set/{/^#/s/^# \?//p}' "$0" >&2
    exit 2
    ;;
esac
if [ -z "${MOUNTS_APART:-}" ]; then
    [ "$(id -u)" = 0 ] || fail "a root of Debian $RELEASE is made and entered by root alone: run this as root"
    unshare --mount true 2>/dev/null || fail "this machine allows no mounts (a container needs --privileged), so no root of Debian $RELEASE"
    # mounts that end with this process
    MOUNTS_APART=1 exec unshare --mount "$0" "$@"
fi
shift
FOLDER=$EMULATION/debian-$RELEASE
SYSTEM=$FOLDER/system
PACKAGES=python3,python3-dev,python3-venv,gcc,libc6-dev,make

WANTED="$(date +%Y-%m) $PACKAGES"
if [ "$(cat "$FOLDER/complete" 2>/dev/null)" != "$WANTED" ]; then
    step "Debian $RELEASE with $PACKAGES"
    command -v mmdebstrap >/dev/null || host_packages mmdebstrap
    rm -rf "$FOLDER"
    mkdir -p "$FOLDER"
    MIRROR=$(mirror)
    # a proxy and the like
    apt-config dump | grep -E '^Acquire::(https?::|Check-)' >"$FOLDER/apt.conf" || true
    mmdebstrap --quiet --variant=minbase --include=$PACKAGES --aptopt="$FOLDER/apt.conf" $SUITE "$SYSTEM" "$MIRROR"
    echo "$WANTED" >"$FOLDER/complete"
fi

# lend PATH: a file or folder of this machine, seen at the same place there
lend() {
    [ -e "$1" ] || return 0
    if [ -d "$1" ]; then
        mkdir -p "$SYSTEM/$1"
        mount -o bind,ro "$1" "$SYSTEM/$1"
    else
        mkdir -p "$(dirname "$SYSTEM/$1")"
        cp --dereference --remove-destination "$1" "$SYSTEM/$1"
    fi
}

mount --bind "$SYSTEM" "$SYSTEM" # so that / is a mount there, which unshare asks for
mount -t proc proc "$SYSTEM/proc"
mount --rbind /sys "$SYSTEM/sys"
mount --rbind /dev "$SYSTEM/dev"
for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do lend "$file"; done
# pip's settings, and the local files that they name; the files of a local index lie beside its folder "simple"
SETTINGS=(/etc/xdg/pip/pip.conf /etc/pip.conf "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf" "${PIP_CONFIG_FILE:-}")
for file in "${SETTINGS[@]}"; do lend "$file"; done
{ cat "${SETTINGS[@]}" 2>/dev/null && env | grep '^PIP_' || true; } | grep -oE '(^|[ =])(file://)?/[^ ]+' |
    sed 's|^[ =]*||; s|^file://||; s|/simple/*$||' | sort -u | while read -r path; do lend "$path"; done

# run_in FOLDER COMMAND...: in a copy of the tree there
run_in() {
    step "Debian $RELEASE, $1: ${*:2}"
    copy_tree "$SYSTEM/srv/$1"
    # shellcheck disable=SC2016 # of the inner shell
    env -u PYTHONPATH -u PYTHONHOME -u VIRTUAL_ENV -u TMPDIR -u MOUNTS_APART PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin \
        chroot "$SYSTEM" sh -c 'cd "/srv/$0" && exec "$@"' "$@"
}
run_in cylstm sh -c 'python3 --version && gcc --version | head -1'
if [ $# -gt 0 ]; then
    run_in cylstm "$@"
else
    run_in cylstm make demo test
    rm -rf "$SYSTEM/srv/newcomer"
    INSTALL=$(sed -n '/^<!-- begin install -->/,/^<!-- end install -->/{/^<!--/d; /^```/d; p}' docs/install.md)
    [ -n "$INSTALL" ] || fail "docs/install.md has no section install"
    run_in newcomer sh -ec "$INSTALL"
    # a machine where something is missing, which tmpfs hides, says what
    run_in newcomer .venv/bin/pip install --quiet 'setuptools>=77' cython
    COMPILER=$(dirname "$(chroot "$SYSTEM" gcc -print-prog-name=cc1)")
    HEADERS=/usr/include/$(ls "$SYSTEM/usr/include" | grep '^python3' | head -1)
    for missing in "a C compiler:$COMPILER" "the header files of Python:$HEADERS"; do
        mount -t tmpfs none "$SYSTEM/${missing#*:}"
        run_in newcomer sh -ec '! .venv/bin/pip install --no-build-isolation . >log 2>&1 && grep "error: cylstm needs $0" log' "${missing%%:*}"
        umount "$SYSTEM/${missing#*:}"
    done
fi
step "done"
