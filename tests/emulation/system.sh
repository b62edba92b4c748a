#!/usr/bin/env bash
# system.sh arm64|armhf: what an emulated CPU runs, unpacked into a folder whose name it prints: Debian for that CPU
# with Python, NumPy, a BLAS and the packages of the tests in its folder system, and python, which runs it on the CPU
# that $CPU names, with the plugin that $QEMU_PLUGIN names, if any.
#
# $DEBIAN is the release, 12 or 13; if not set 13 on 64 bits and 12 on 32. The folder is $EMULATION/arm64 and the like,
# build/emulation if not set. On Debian, as root. The host gets an emulator and a cross compiler, nothing of the foreign
# system; apt's own mirror is used. What is there already is kept.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/debian/common.sh
exec 3>&1 >&2
ARCHITECTURE=$1
case $ARCHITECTURE in
arm64) TRIPLET=aarch64-linux-gnu QEMU=qemu-aarch64 USUAL=13 ;;
armhf) TRIPLET=arm-linux-gnueabihf QEMU=qemu-arm USUAL=12 ;;
*) fail "$ARCHITECTURE: expected arm64 or armhf" ;;
esac
FOLDER=$EMULATION/$ARCHITECTURE
[ "${DEBIAN:=$USUAL}" = $USUAL ] || FOLDER+=-debian-$DEBIAN
SYSTEM=$FOLDER/system STATE=$FOLDER/apt
PACKAGES=(python3 libpython3-dev libgomp1 libstdc++6)
case $DEBIAN in
12) SUITE=bookworm && PACKAGES+=(python3-distutils) ;;
13) SUITE=trixie ;;
*) fail "Debian $DEBIAN: expected 12 or 13" ;;
esac

if ! command -v $QEMU >/dev/null || ! command -v $TRIPLET-gcc >/dev/null; then
    host_packages qemu-user gcc-$TRIPLET "libc6-dev-$ARCHITECTURE-cross"
fi

# armhf has NumPy and h5py from Debian only, whose BLAS is in libblas3; on arm64 OpenBLAS is for bench/instructions.py
if [ $ARCHITECTURE = arm64 ]; then PACKAGES+=(libopenblas0-pthread); else PACKAGES+=(python3-numpy python3-h5py libblas3 liblapack3); fi
WANTED="$(date +%Y-%m) $SUITE ${PACKAGES[*]}"
if [ "$(cat "$FOLDER/complete" 2>/dev/null)" != "$WANTED" ]; then
    step "$ARCHITECTURE: Debian $DEBIAN with Python, NumPy and the packages of the tests"
    rm -rf "$FOLDER"
    mkdir -p "$STATE/state/lists/partial" "$STATE/cache/archives/partial"
    : >"$STATE/status"
    MIRROR=$(mirror)
    echo "deb [arch=$ARCHITECTURE signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $MIRROR $SUITE main" >"$STATE/sources.list"
    apt() {
        apt-get -qq -o APT::Architecture="$ARCHITECTURE" -o APT::Architectures="$ARCHITECTURE" -o Dir::State="$STATE/state" \
            -o Dir::State::status="$STATE/status" -o Dir::Cache="$STATE/cache" -o Dir::Etc::sourcelist="$STATE/sources.list" \
            -o Dir::Etc::sourceparts=/dev/null -o APT::Sandbox::User=root -o APT::Install-Recommends=0 \
            -o Acquire::Languages=none -o Debug::NoLocking=1 "$@"
    }
    apt update
    apt -y --download-only install "${PACKAGES[@]}"
    for folder in bin sbin lib; do
        mkdir -p "$SYSTEM/usr/$folder"
        [ -e "$SYSTEM/$folder" ] || ln -s usr/$folder "$SYSTEM/$folder"
    done
    for package in "$STATE"/cache/archives/*.deb; do
        dpkg-deb --extract "$package" "$SYSTEM"
    done
    rm -r "$STATE"
    # what update-alternatives would do
    for library in blas lapack; do
        [ ! -e "$SYSTEM/usr/lib/$TRIPLET/$library/lib$library.so.3" ] ||
            ln -sf $library/lib$library.so.3 "$SYSTEM/usr/lib/$TRIPLET/lib$library.so.3"
    done
    PYTHON=$(readlink "$SYSTEM/usr/bin/python3")
    SITE=$SYSTEM/usr/local/lib/$PYTHON/dist-packages
    mkdir -p "$SITE"
    # Debian's own Python has no pip outside of a virtual environment
    [ -x "$EMULATION/tools/bin/pip" ] || python3 -m venv "$EMULATION/tools"
    PIP=("$EMULATION/tools/bin/pip" install --quiet --root-user-action=ignore --target "$SITE" --only-binary=:all: --python-version "${PYTHON#python}")
    "${PIP[@]}" --platform any --no-deps cython setuptools wheel pytest iniconfig packaging pluggy pygments threadpoolctl \
        hypothesis sortedcontainers
    if [ $ARCHITECTURE = arm64 ]; then
        "${PIP[@]}" --implementation cp --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
            --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 numpy h5py
    fi
    # so that subprocesses are emulated too
    echo "import sys; sys.executable = sys._base_executable = '$FOLDER/python'" >"$SITE/emulated.pth"
    cat >"$FOLDER/python" <<END
#!/bin/sh
exec $QEMU -cpu "\${CPU:?}" \${QEMU_PLUGIN:+-plugin "\$QEMU_PLUGIN"} -L $SYSTEM $SYSTEM/usr/bin/$PYTHON "\$@"
END
    chmod +x "$FOLDER/python"
    echo "$WANTED" >"$FOLDER/complete"
fi
echo "$FOLDER" >&3
