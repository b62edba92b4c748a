"""Builds the extension: plain C from csrc/, each instruction set with its own flags, behind one Cython module.

OpenMP's threads are a library of their own beside it, where the compiler has OpenMP (`cylstm.engine.openmp` loads it).
"""

import os
import re
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.errors import PlatformError

#: -ffp-contract=off: a fused multiply-add stands where the code says so and nowhere else, so that bits agree
FLAGS = ["-std=c11", "-O2", "-g0", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden"]
#: csrc/isa, but for the sets that are as fast without, in less code; what is around the kernels gains nothing from it
KERNEL_FLAGS = ["-O3"]
#: of all sets: where a kernel's loops lie in the lines of the instruction cache does not depend on what lies before it
KERNEL_ALIGNMENT = ["-falign-functions=64"]
SMALL_SETS = ("avx512", "sse2", "blas32")
#: Where another instruction set is always there, the scalar one runs only if asked for: in a quarter of the code.
SPARE_FLAGS = ["-Os"]
#: No exception passes through csrc or Cython's module. Windows needs these tables, and so do tools that show where a
#: program is.
LINUX_FLAGS = ["-fno-asynchronous-unwind-tables"]
#: csrc without the kernels on Linux
UNALIGNED = ["-fno-align-loops", "-fno-align-jumps", "-fno-align-labels"]
#: Cython's module on Linux, which has few loops
MODULE_FLAGS = [*UNALIGNED, "-fno-align-functions"]
#: of it too, where the compiler is GCC: what makes code longer, and calls no faster
SHORT_FLAGS = ["-freorder-blocks-algorithm=simple", "-fno-thread-jumps", "-fno-tree-pre", "-fno-tree-vectorize"]
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
#: The lines of this list: name, NAME, machine, flags, flags of 32 bits.
ISA_LIST = Path("csrc/include/cylstm_isa.def")
ISA_LINE = re.compile(r'^CYL_ISA\((\w+), (\w+), (\w+), [01], "(.*?)", "(.*?)"\)$', re.MULTILINE)
#: all of the library beside the extension
OPENMP_SOURCE = "csrc/threads/openmp.c"


def read_sets():
    """Return, for each instruction set of the list, the flags of its file, or None if this machine does not have it."""
    machine = sysconfig.get_platform().rpartition("-")[2].lower()
    if machine == "amd64":
        machine = "x86_64"
    elif machine == "aarch64" or machine.startswith("arm"):
        machine = "arm"
    # a 32-bit Python on a 64-bit kernel says aarch64
    is_32_bit = sys.maxsize < 2**32
    sets = {
        name: (flags + " " + flags_of_32_bits if is_32_bit else flags).split() if of in ("any", machine) else None
        for name, _, of, flags, flags_of_32_bits in ISA_LINE.findall(ISA_LIST.read_text())
    }
    if machine in ("x86_64", "arm") and not is_32_bit:
        sets["scalar"] = [*sets["scalar"], *SPARE_FLAGS]
    return sets


class Build(build):
    """Compiles first, so that what is missing is said before pages of copied files."""

    sub_commands = sorted(build.sub_commands, key=lambda command: command[0] != "build_ext")


class BuildExtension(build_ext):
    """Compiles each file of csrc/isa with the flags of its instruction set."""

    def build_extensions(self):
        self.is_msvc = self.compiler.compiler_type == "msvc"
        if self.is_msvc:
            # Microsoft's own compiler lacks GNU C and C11's atomics; clang-cl, which is installed beside it, has both
            self.compiler.initialize()
            self.compiler.cc = shutil.which("clang-cl") or "clang-cl"
        self.check_tools()
        super().build_extensions()

    def check_tools(self):
        """Give a clear error message if there is no C compiler or if Python's headers are missing."""
        install = "on Debian and Raspberry Pi OS, sudo apt install gcc python3-dev"
        with tempfile.TemporaryDirectory() as folder:
            for header, missing in {
                "stdlib.h": "a C compiler and the headers of the C library",
                "Python.h": f"the header files of Python {sys.version_info[0]}.{sys.version_info[1]} (Python.h)",
            }.items():
                source = Path(folder, "probe.c")
                source.write_text(f"#include <{header}>\n")
                try:
                    self.compiler.compile([str(source)], output_dir=folder)
                except Exception as error:  # each compiler class raises its own
                    print(error, file=sys.stderr)
                    raise PlatformError(f"cylstm needs {missing}: {install}") from None

    def spelled(self, flags):
        """The flags as the compiler wants them."""
        return [f"/clang:{flag}" for flag in flags] if self.is_msvc else flags

    def build_extension(self, ext):
        common = FLAGS + (WARNINGS if os.environ.get("CYLSTM_WERROR") else [])
        if ext.sources == [OPENMP_SOURCE]:
            # compiled for OpenMP, but linked to no runtime: nothing may be left for one to define
            ext.extra_compile_args, ext.extra_link_args = [*common, "-fopenmp"], ["-s", "-Wl,-z,defs"]
            super().build_extension(ext)
            return
        sets = {
            name: flags if flags is not None and self.can_compile(flags) else None
            for name, flags in read_sets().items()
        }
        macros = [(f"CYL_HAVE_{name.upper()}", str(int(flags is not None))) for name, flags in sets.items()]
        if not self.is_msvc:
            macros.append(("CYL_HAVE_POOL", "1"))
        keeps_symbols = os.environ.get("CYLSTM_SYMBOLS")  # for tools that say which function an address is in
        is_stripped = sys.platform == "linux" and not keeps_symbols
        of_linux = LINUX_FLAGS if is_stripped else []
        objects = []
        for source in sorted(Path("csrc").glob("**/*.c")):
            flags = UNALIGNED if sys.platform == "linux" else []
            if source.parent.name == "isa":
                flags = sets.get(source.stem, [])
            if flags is None or source == Path(OPENMP_SOURCE):
                continue
            if source.parent.name == "isa":
                flags = [*KERNEL_ALIGNMENT, *(KERNEL_FLAGS if source.stem not in SMALL_SETS else []), *flags]
            objects += self.compiler.compile(
                [str(source)],
                output_dir=self.build_temp,
                macros=macros,
                include_dirs=["csrc", "csrc/include"],
                extra_postargs=self.spelled(common + of_linux + flags),
                depends=[str(path) for path in Path("csrc").glob("**/*.[hd]*")],
            )
        ext.extra_objects = objects
        ext.depends = objects  # linked again when one of them is newer
        module = [flag for flag in common if flag not in WARNINGS] + of_linux
        if sys.platform == "linux":
            module += MODULE_FLAGS + (SHORT_FLAGS if self.can_compile(SHORT_FLAGS) else [])
        ext.extra_compile_args = self.spelled(module)
        ext.extra_link_args = ["-s"] if is_stripped else []
        super().build_extension(ext)

    def can_compile(self, flags):
        """Whether the compiler takes the flags and links what it makes with them."""
        key = tuple(flags)
        known = self.__dict__.setdefault("_known_flags", {})
        if key not in known:
            with tempfile.TemporaryDirectory() as folder:
                source = Path(folder, "probe.c")
                source.write_text("int main(void) { return 0; }\n")
                try:
                    objects = self.compiler.compile(
                        [str(source)], output_dir=folder, extra_postargs=self.spelled(flags)
                    )
                    self.compiler.link_executable(objects, str(Path(folder, "probe")), extra_postargs=flags)
                    known[key] = True
                except Exception as error:  # each compiler class raises its own
                    print(f"the compiler does not take {' '.join(flags)}: {error}", file=sys.stderr)
                    known[key] = False
        return known[key]


extensions = cythonize(
    [
        Extension(
            "cylstm.engine._engine",
            ["cylstm/engine/_engine.pyx"],
            include_dirs=["csrc/include", numpy.get_include()],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
            libraries=[] if os.name == "nt" else ["m", "pthread"],
        )
    ],
    build_dir="build",
    # lines of the .pyx for tools that count them
    emit_linenums=bool(os.environ.get("CYLSTM_SYMBOLS")),
)
if sys.platform == "linux":
    # no Python module, but built and installed like one; left out where the compiler has no OpenMP or not GCC's
    extensions.append(
        Extension(
            "cylstm.engine._openmp",
            [OPENMP_SOURCE],
            include_dirs=["csrc"],
            depends=["csrc/threads/openmp.h"],
            optional=True,
        )
    )
setup(cmdclass={"build": Build, "build_ext": BuildExtension}, ext_modules=extensions)
