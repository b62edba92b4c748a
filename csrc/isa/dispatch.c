/* Which instruction sets this build has and this machine can run. */
#include "kernels/kernels.h"

#if defined(CYL_HAVE_AVX2) || defined(CYL_HAVE_AVX512)
#include <cpuid.h>
#include <stdatomic.h>

/* what the system saves of the registers, bits of XCR0 */
#define AVX_STATE 0x6u
#define AVX512_STATE 0xe6u

/* the instruction sets of x86 beyond SSE2 that the CPU has and the system lets it use: 1 << CylIsa each */
static unsigned ask_cpu(void) {
    unsigned a, b, c, d, extended, state, high;
    const unsigned leaves = __get_cpuid_max(0, NULL);
    if (leaves < 7) {
        return 0;
    }
    __cpuid(1, a, b, c, d);
    __cpuid_count(7, 0, a, extended, high, d);
    if (!(c & bit_OSXSAVE) || !(c & bit_FMA) || !(extended & bit_AVX2)) {
        return 0;
    }
    __asm__ volatile("xgetbv" : "=a"(state), "=d"(high) : "c"(0));
    const bool has_avx2 = (state & AVX_STATE) == AVX_STATE;
    const bool has_avx512 = has_avx2 && (state & AVX512_STATE) == AVX512_STATE && (extended & bit_AVX512F);
    return (unsigned)has_avx2 << CYL_ISA_AVX2 | (unsigned)has_avx512 << CYL_ISA_AVX512;
}

/* asked once: under a hypervisor each cpuid takes microseconds */
static bool has_isa(CylIsa isa) {
    static const unsigned is_known = 1u << CYL_ISA_COUNT;
    static atomic_uint found;
    unsigned isas = atomic_load_explicit(&found, memory_order_relaxed);
    if (!isas) {
        isas = ask_cpu() | is_known;
        atomic_store_explicit(&found, isas, memory_order_relaxed);
    }
    return isas >> isa & 1u;
}
#endif

#if defined(__linux__) && (defined(__aarch64__) || defined(__arm__))
#include <sys/auxv.h>

/* of AT_HWCAP, from the kernel's asm/hwcap.h */
#ifdef __aarch64__
#define HWCAP_NEON (1ul << 1)
#define HWCAP_FP16 (1ul << 10)
#define HWCAP_DOT_PRODUCT (1ul << 20)
#else
#define HWCAP_NEON (1ul << 12 | 1ul << 16) /* with VFPv4's fused multiply-add */
#define HWCAP_FP16 (1ul << 23)
#define HWCAP_DOT_PRODUCT (1ul << 24)
#endif

static bool has_hwcap(unsigned long bits) { return (getauxval(AT_HWCAP) & bits) == bits; }
#elif defined(CYL_HAVE_NEON)
/* other systems run on 64-bit ARM only, where NEON is everywhere */
#define HWCAP_NEON 1
static bool has_hwcap(unsigned long bits) { return bits == HWCAP_NEON; }
#endif

const char *cyl_isa_name(CylIsa isa) {
    static const char *const names[CYL_ISA_COUNT] = {"scalar", "sse2", "avx2", "avx512", "neon"};
    return (unsigned)isa < CYL_ISA_COUNT ? names[isa] : "unknown";
}

int cyl_isa_available(CylIsa isa) {
    switch (isa) {
    case CYL_ISA_SCALAR:
        return 1;
#ifdef CYL_HAVE_SSE2
    case CYL_ISA_SSE2:
        return 1;
#endif
#ifdef CYL_HAVE_AVX2
    case CYL_ISA_AVX2:
        return has_isa(CYL_ISA_AVX2);
#endif
#ifdef CYL_HAVE_AVX512
    case CYL_ISA_AVX512:
        return has_isa(CYL_ISA_AVX512);
#endif
#ifdef CYL_HAVE_NEON
    case CYL_ISA_NEON:
        return has_hwcap(HWCAP_NEON);
#endif
    default:
        return 0;
    }
}

int cyl_feature_available(CylFeature feature) {
    switch (feature) {
#ifdef HWCAP_DOT_PRODUCT
    case CYL_FEATURE_DOT_PRODUCT:
        return has_hwcap(HWCAP_DOT_PRODUCT);
    case CYL_FEATURE_FP16:
        return has_hwcap(HWCAP_FP16);
#endif
    default:
        return 0;
    }
}

int cyl_isa_fuses(CylIsa isa) {
#ifdef CYL_HAVE_FMA
    return cyl_isa_available(isa);
#else
    return isa != CYL_ISA_SCALAR && isa != CYL_ISA_SSE2 && cyl_isa_available(isa);
#endif
}

CylIsa cyl_isa_best(void) {
    for (int isa = CYL_ISA_COUNT - 1; isa > CYL_ISA_SCALAR; isa--) {
        if (cyl_isa_available((CylIsa)isa)) {
            return (CylIsa)isa;
        }
    }
    return CYL_ISA_SCALAR;
}

const CylKernels *cyl_kernels_of(CylEngine engine, CylIsa isa) {
    if (engine == CYL_ENGINE_BLAS64) {
        return &cyl_kernels_blas64;
    }
    const bool is_packed = engine == CYL_ENGINE_PACKED;
    switch (isa) {
#ifdef CYL_HAVE_SSE2
    case CYL_ISA_SSE2:
        return is_packed ? &cyl_kernels_sse2 : &cyl_kernels_blas32_sse2;
#endif
#ifdef CYL_HAVE_AVX2
    case CYL_ISA_AVX2:
        return is_packed ? &cyl_kernels_avx2 : &cyl_kernels_blas32_avx2;
#endif
#ifdef CYL_HAVE_AVX512
    case CYL_ISA_AVX512:
        return is_packed ? &cyl_kernels_avx512 : &cyl_kernels_blas32_avx512;
#endif
#ifdef CYL_HAVE_NEON
    case CYL_ISA_NEON:
        return is_packed ? &cyl_kernels_neon : &cyl_kernels_blas32_neon;
#endif
    default:
        return is_packed ? &cyl_kernels_scalar : &cyl_kernels_blas32_scalar;
    }
}
