#!/usr/bin/env bash
# Builds CyLSTM for other CPUs and runs its tests on them, emulated (qemu-user); on Debian, as root the first time:
#
#   run.sh arm64 [CPU...]    64-bit ARM: cortex-a53 (Pi 3, Zero 2 W), cortex-a72 (Pi 4), cortex-a76 (Pi 5)
#   run.sh armhf [CPU...]    32-bit ARM with NEON: cortex-a7 (Pi 2)
#   run.sh armv6 [CPU...]    32-bit ARM without, the C tests only: arm1176 (Pi 1, Zero)
#   run.sh old-x86 [CPU...]  x86 without AVX: Nehalem, for which NumPy is made too; the C tests also on the plainest CPU
#
# The ARM systems are Debian's: 13 (Python 3.13, NumPy 2) on 64 bits, 12 (Python 3.11, NumPy 1.24) on 32; $DEBIAN=12 or
# 13 chooses. The C tests take nine minutes of CPU time on arm1176 and eight on qemu64, most of it for the scheduler's.
#
# $PYTEST_ARGS chooses tests, $PYTHON is a host Python with the packages of the tests (old-x86 only). What is
# downloaded and built stays in $EMULATION, build/emulation if not set.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/debian/common.sh
TARGET=${1:-}
[ $# -gt 0 ] && shift

# c_tests TARGET TRIPLET NAME EMULATOR [compiler flag...]
c_tests() {
    local target=$1 triplet=$2 name=$3 emulator=$4
    shift 4
    step "C tests: $emulator"
    make -C csrc "$target" BUILD="$EMULATION/$name" CC="$triplet-gcc $*" AR="$triplet-ar" EMULATOR="$emulator"
}

# qemu-user itself fails (cpu_exec: assertion failed) where a forked child makes threads
EMULATOR_FAILS="--deselect tests/test_model.py::test_a_forked_child_predicts_after_a_parallel_call
--deselect tests/engine/test_openmp.py::test_a_child_forked"

# python_tests PYTHON: on $CPU
python_tests() {
    step "Python tests on $CPU"
    # shellcheck disable=SC2086 # several words
    OPENBLAS_NUM_THREADS=1 "$1" -m pytest -p no:cacheprovider -q -m "not frameworks" -o faulthandler_timeout=6000 \
        ${PYTEST_ARGS:-} $EMULATOR_FAILS
}

# arm ARCHITECTURE TRIPLET CPU...: copies the tree, since setup.py builds in place
arm() {
    local architecture=$1 triplet=$2 folder
    shift 2
    folder=$(tests/emulation/system.sh "$architecture")
    step "$architecture: build"
    copy_tree "$folder/source"
    cd "$folder/source"
    rm -f cylstm/engine/*.so # other flags alone would not build it anew
    # what Cython made with NumPy 2 calls what older headers lack
    case $(CPU=$1 "$folder/python" -c 'import numpy; print(numpy.__version__)') in 1.*) rm -f build/cylstm/engine/_engine.c ;; esac
    local include
    include=$(echo "$folder"/system/usr/include/python3*)
    CPU=$1 CYLSTM_WERROR=1 CYLSTM_SYMBOLS=1 CC=$triplet-gcc LDSHARED="$triplet-gcc -shared" \
        CFLAGS="-O2 -I$include -idirafter $folder/system/usr/include" \
        "$folder/python" setup.py -q build_ext --inplace
    # Debian's NumPy has its BLAS beside it, where a search without ldconfig finds none
    [ "$architecture" = arm64 ] || export CYLSTM_BLAS=$folder/system/usr/lib/$triplet/libblas.so.3
    for CPU in "$@"; do
        export CPU
        "$folder/python" -c 'import cylstm; cylstm.show_config()'
        python_tests "$folder/python"
    done
}

case $TARGET in
arm64)
    [ $# -gt 0 ] || set -- cortex-a53 cortex-a72 cortex-a76
    arm arm64 aarch64-linux-gnu "$@"
    ;;
armhf)
    [ $# -gt 0 ] || set -- cortex-a7
    # arm goes elsewhere
    (arm armhf arm-linux-gnueabihf "$@")
    # sizes of 32 bits
    c_tests test-sizes arm-linux-gnueabihf armhf-c "qemu-arm -cpu $1 -L /usr/arm-linux-gnueabihf"
    ;;
armv6)
    [ $# -gt 0 ] || set -- arm1176
    # of Debian's architectures the one without NEON; its libraries count without a floating-point unit, we with one
    command -v arm-linux-gnueabi-gcc >/dev/null && command -v qemu-arm >/dev/null || {
        host_packages qemu-user gcc-arm-linux-gnueabi libc6-dev-armel-cross
    }
    for CPU in "$@"; do
        c_tests test arm-linux-gnueabi armv6 "qemu-arm -cpu $CPU -L /usr/arm-linux-gnueabi" \
            -march=armv6 -mfpu=vfp -mfloat-abi=softfp -marm
    done
    ;;
old-x86)
    [ $# -gt 0 ] || set -- Nehalem
    command -v qemu-x86_64 >/dev/null || host_packages qemu-user
    c_tests test x86_64-linux-gnu x86 "qemu-x86_64 -cpu qemu64"
    PYTHON=$(realpath -s "${PYTHON:-.venv/bin/python}") FOLDER=$EMULATION/x86
    mkdir -p "$FOLDER/site"
    printf '#!/bin/sh\nexec qemu-x86_64 -cpu "$CPU" %s "$@"\n' "$PYTHON" >"$FOLDER/python"
    chmod +x "$FOLDER/python"
    # so that subprocesses are emulated too
    echo "import sys; sys.executable = sys._base_executable = '$FOLDER/python'" >"$FOLDER/site/sitecustomize.py"
    for CPU in "$@"; do
        export CPU
        # OpenBLAS takes the host's kernels otherwise
        OPENBLAS_CORETYPE=Nehalem PYTHONPATH=$FOLDER/site python_tests "$FOLDER/python"
    done
    ;;
*)
    sed -n '2,/^set/{/^#/s/^# \?//p}' "$0" >&2
    exit 2
    ;;
esac
step "done"
