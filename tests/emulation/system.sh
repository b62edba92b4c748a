#!/usr/bin/env bash
# system.sh arm64|armhf FOLDER: what an emulated CPU runs, unpacked into FOLDER: Debian for that CPU with
# Python, NumPy, a BLAS and the packages of the tests, and FOLDER/python, which runs it on the CPU that $CPU names,
# with the plugin that $QEMU_PLUGIN names, if any.
#
# On Debian, as root. The host gets an emulator and a cross compiler, nothing of the foreign system; apt's own mirror
# and release are used. What is there already is kept.
set -euo pipefail
ARCHITECTURE=$1 FOLDER=$(realpath -m "$2")
case $ARCHITECTURE in
arm64) TRIPLET=aarch64-linux-gnu QEMU=qemu-aarch64 ;;
armhf) TRIPLET=arm-linux-gnueabihf QEMU=qemu-arm ;;
*) echo "system.sh: $ARCHITECTURE: expected arm64 or armhf" >&2 && exit 2 ;;
esac
SYSTEM=$FOLDER/system STATE=$FOLDER/apt
export DEBIAN_FRONTEND=noninteractive

if ! command -v $QEMU >/dev/null || ! command -v $TRIPLET-gcc >/dev/null; then
    apt-get -qq update
    apt-get -qq install -y --no-install-recommends qemu-user gcc-$TRIPLET "libc6-dev-$ARCHITECTURE-cross" >/dev/null
fi

PACKAGES=(python3 libpython3-dev python3-distutils libgomp1 libstdc++6)
# armhf has NumPy and h5py from Debian only, whose BLAS is in libblas3; on arm64 OpenBLAS is for bench/instructions.py
if [ $ARCHITECTURE = arm64 ]; then PACKAGES+=(libopenblas0-pthread); else PACKAGES+=(python3-numpy python3-h5py libblas3 liblapack3); fi
WANTED="$(date +%Y-%m) ${PACKAGES[*]}"
if [ "$(cat "$FOLDER/complete" 2>/dev/null)" != "$WANTED" ]; then
    rm -rf "$SYSTEM" "$STATE" "$FOLDER/complete"
    mkdir -p "$STATE/state/lists/partial" "$STATE/cache/archives/partial"
    : >"$STATE/status"
    CODENAME=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # shellcheck disable=SC2016 # apt's own variables
    MIRROR=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $CODENAME" 'Component: main' | head -1)
    [ -n "$MIRROR" ] || { echo "system.sh: apt has no mirror of $CODENAME/main" >&2 && exit 1; }
    echo "deb [arch=$ARCHITECTURE signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $MIRROR $CODENAME main" >"$STATE/sources.list"
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
    PIP=(python3 -m pip install --quiet --root-user-action=ignore --target "$SITE" --only-binary=:all: --python-version "${PYTHON#python}")
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
