# What the scripts share that make other systems and run the tests there; sourced, in the root of the repository.
# shellcheck shell=bash

# what is downloaded and built there
EMULATION=$(realpath -m "${EMULATION:-build/emulation}")

step() { echo "== $* [${SECONDS}s]"; }

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# host_packages PACKAGE...: on this machine, by apt
host_packages() {
    [ "$(id -u)" = 0 ] || fail "needs $* on this machine: install them or run this as root"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

# mirror: where this machine's apt has its own release from; other releases and architectures are there too
mirror() {
    local codename found attempt
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    for attempt in 1 2; do
        # shellcheck disable=SC2016 # apt's own variables
        found=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $codename" 'Component: main' | head -1)
        [ -z "$found" ] || break
        [ $attempt = 2 ] || apt-get -qq update # apt knows no codename before
    done
    [ -n "$found" ] || fail "apt has no mirror of $codename/main; this runs on Debian"
    echo "$found"
}

# copy_tree FOLDER: the tree as it is into FOLDER, where setup.py builds in place; what is built there stays
copy_tree() {
    mkdir -p "$1/csrc" "$1/cylstm" "$1/tests"
    # a file that is gone here would still be found there
    find "$1/csrc" "$1/cylstm" "$1/tests" -type f ! -name '*.so' -delete
    # with what Cython made of these very sources, if it did, newer than the NumPy there: emulated, it takes minutes
    local generated=build/cylstm/engine/_engine.c
    [ -e $generated ] && [ -z "$(find cylstm -name '*.p[xy][xd]' -newer $generated)" ] || generated=
    tar --exclude=./.git --exclude=./build --exclude='./.venv*' --exclude='*.so' -cf - . $generated | tar -xf - -C "$1"
    [ -z "$generated" ] || touch "$1/$generated"
}
