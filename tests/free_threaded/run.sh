#!/usr/bin/env bash
# Builds CPython without its GIL, the package with it, and runs the tests that need no framework; on Debian:
#
#   run.sh [COMMAND...]   COMMAND in the environment of that Python; without one the tests
#
# PYTHON is an interpreter to take that is there already. Else the newest source package of RELEASES (newest first) that
# the mirror of this machine's apt has is configured with --disable-gil: python3.14 of Debian testing, and where that
# cannot be fetched python3.13. All of it is kept in $FREE_THREADED, build/free-threaded if not set. The machine needs a C
# compiler, make and the headers of the libraries that the standard modules are for, which root installs here.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/debian/common.sh
FOLDER=$(realpath -m "${FREE_THREADED:-build/free-threaded}")
RELEASES=${RELEASES:-python3.14 python3.13}
LIBRARIES="libffi-dev libssl-dev zlib1g-dev libbz2-dev liblzma-dev libsqlite3-dev"

# fetch PACKAGE: its source, unpacked, into $FOLDER/source; fails where the mirror has none
fetch() {
    local apt=(-o Dir::Etc::SourceList="$FOLDER/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::State::Lists="$FOLDER/lists" -o Dir::Cache="$FOLDER/cache" -o APT::Sandbox::User=root)
    mkdir -p "$FOLDER/lists/partial" "$FOLDER/cache/archives/partial" "$FOLDER/download"
    echo "deb-src $(mirror) testing main" >"$FOLDER/sources.list"
    apt-get "${apt[@]}" -qq update || return
    rm -f "$FOLDER/download/"*
    (cd "$FOLDER/download" && apt-get "${apt[@]}" -qq --download-only source "$1" >/dev/null) || return
    rm -rf "$FOLDER/source"
    mkdir "$FOLDER/source"
    tar -xf "$FOLDER/download/$1"_*.orig.tar.* --strip-components=1 -C "$FOLDER/source"
}

build() {
    local release
    step "the source of CPython"
    for release in $RELEASES; do
        if fetch "$release"; then
            step "$release without GIL"
            for package in $LIBRARIES; do
                dpkg-query -W "$package" >/dev/null 2>&1 || host_packages "$package"
            done
            # without the profile-guided optimisation, which takes half an hour
            (cd "$FOLDER/source" && ./configure --quiet --disable-gil --prefix="$FOLDER/python" &&
                make --silent -j"$(nproc)" && make --silent install) >"$FOLDER/log" 2>&1 ||
                fail "$release could not be built: see $FOLDER/log"
            rm -rf "$FOLDER/source" "$FOLDER/download"
            return
        fi
        echo "run.sh: $release cannot be fetched from the mirror" >&2
    done
    fail "no source package of $RELEASES can be fetched; give PYTHON, an interpreter without GIL"
}

if [ -z "${PYTHON:-}" ]; then
    ls "$FOLDER"/python/bin/python3.*t >/dev/null 2>&1 || build
    PYTHON=$(ls "$FOLDER"/python/bin/python3.*t | tail -1)
fi
"$PYTHON" -c 'import sysconfig; raise SystemExit(not sysconfig.get_config_var("Py_GIL_DISABLED"))' ||
    fail "$PYTHON was built with a GIL"
"$PYTHON" --version

VENV=$FOLDER/venv-$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_config_var("SOABI"))')
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
step "the package"
"$VENV/bin/python" -m pip install --quiet --upgrade pip
# no package is compiled here, which takes an hour for NumPy: the newest that has a wheel for this Python
"$VENV/bin/python" -m pip install --quiet --only-binary :all: "setuptools>=77" "cython>=3.1" numpy threadpoolctl "pytest>=9" "hypothesis>=6" pytest-xdist
for optional in h5py matplotlib paho-mqtt; do
    "$VENV/bin/python" -m pip install --quiet --only-binary :all: $optional ||
        echo "run.sh: $optional has no wheel for this Python; its tests are skipped" >&2
done
. "$VENV/bin/activate"
python setup.py --quiet build_ext --inplace

if [ $# -gt 0 ]; then
    "$@"
    exit
fi
step "importing"
python -W error -c '
import sys, cylstm, cylstm.engine.openmp
assert not sys._is_gil_enabled(), "importing cylstm turned the GIL on"
print("the GIL is off once cylstm is imported")'
step "the tests"
# what turns it on (a library without the mark, such as h5py) would only hide races
# shellcheck disable=SC2086 # several arguments
PYTHON_GIL=0 python -m pytest -n "$(nproc)" -m "not frameworks" ${PYTEST_ARGS:-}
