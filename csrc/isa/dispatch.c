/* Which instruction sets this build has and this machine can run. */
#include "kernels/kernels.h"
#include "platform/ieee.h"

#include <stdatomic.h>

/* ---- the sets ---- */

typedef struct {
    const char *name;
    bool fuses;
    const CylKernels *packed, *blas32; /* NULL if the build lacks the set */
} Set;

#define TABLES_0(name, base) NULL, NULL
#define TABLES_1(name, base) &cyl_kernels_##name, &cyl_kernels_blas32_##base
#define TABLES_(have, name, base) TABLES_##have(name, base)
#define TABLES(have, name, base) TABLES_(have, name, base)

/* a set with dot products is there where the set is that it is made of */
#define CYL_HAVE_AVX_VNNI CYL_HAVE_AVX2
#define CYL_HAVE_AVX512_VNNI CYL_HAVE_AVX512
#ifdef __aarch64__
#define CYL_HAVE_NEON_DOT CYL_HAVE_NEON
#else
#define CYL_HAVE_NEON_DOT 0
#endif

static const Set sets[CYL_ISA_COUNT] = {
#define CYL_ISA(name, NAME, machine, fuses, ...) {#name, fuses, TABLES(CYL_HAVE_##NAME, name, name)},
#define CYL_ISA_DOTS(name, NAME, base, BASE) {#name, 1, TABLES(CYL_HAVE_##NAME, name, base)},
#include "cylstm_isa.def"
};

/* ---- what the CPU says ---- */

/* one instruction set, in a mask of them */
#define BIT(NAME) (1u << CYL_ISA_##NAME)

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

/* what the system saves of the registers, bits of XCR0 */
#define AVX_STATE 0x6u
#define AVX512_STATE 0xe6u
/* of leaf 7: bits of ecx, and of eax of its second part */
#define AVX512_VNNI (1u << 11)
#define AVX_VNNI (1u << 4)

/* the sets that the CPU has and the system lets it use */
static unsigned ask_cpu(void) {
    unsigned a, b, c, d, extended, more, state, high, found = BIT(SCALAR) | BIT(SSE2);
    if (__get_cpuid_max(0, NULL) < 7) {
        return found;
    }
    __cpuid(1, a, b, c, d);
    __cpuid_count(7, 0, a, extended, more, d);
    if (!(c & bit_OSXSAVE) || !(c & bit_FMA) || !(c & bit_F16C) || !(extended & bit_AVX2)) {
        return found;
    }
    __asm__ volatile("xgetbv" : "=a"(state), "=d"(high) : "c"(0));
    if ((state & AVX_STATE) == AVX_STATE) {
        found |= BIT(AVX2);
        unsigned dots = 0, unused_b, unused_c, unused_d;
        if (a >= 1) { /* leaf 7 has a second part */
            __cpuid_count(7, 1, dots, unused_b, unused_c, unused_d);
        }
        found |= dots & AVX_VNNI ? BIT(AVX_VNNI) : 0;
        if ((state & AVX512_STATE) == AVX512_STATE && (extended & bit_AVX512F)) {
            found |= BIT(AVX512) | (more & AVX512_VNNI ? BIT(AVX512_VNNI) : 0);
        }
    }
    return found;
}
#elif defined(__aarch64__) || defined(__arm__)
#ifdef __linux__
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
#else
/* other systems run on 64-bit ARM only, where NEON is everywhere */
#define HWCAP_NEON 1
static bool has_hwcap(unsigned long bits) { return bits == HWCAP_NEON; }
#endif

static unsigned ask_cpu(void) {
    unsigned found = BIT(SCALAR) | (has_hwcap(HWCAP_NEON) ? BIT(NEON) : 0);
#ifdef HWCAP_DOT_PRODUCT
    found |= has_hwcap(HWCAP_NEON | HWCAP_DOT_PRODUCT) ? BIT(NEON_DOT) : 0;
#elif defined(__APPLE__)
    found |= BIT(NEON_DOT); /* every Mac has them */
#endif
    return found;
}
#else
static unsigned ask_cpu(void) { return BIT(SCALAR); }
#endif

/* asked once: under a hypervisor each cpuid takes microseconds */
static bool has_cpu(CylIsa isa) {
    static atomic_uint found; /* 0 until it is known: scalar code is everywhere */
    unsigned known = atomic_load_explicit(&found, memory_order_relaxed);
    if (!known) {
        known = ask_cpu();
        atomic_store_explicit(&found, known, memory_order_relaxed);
    }
    return known >> isa & 1u;
}

/* ---- the public functions ---- */

const char *cyl_isa_name(CylIsa isa) { return (unsigned)isa < CYL_ISA_COUNT ? sets[isa].name : "unknown"; }

int cyl_isa_available(CylIsa isa) { return (unsigned)isa < CYL_ISA_COUNT && sets[isa].packed && has_cpu(isa); }

int cyl_isa_fuses(CylIsa isa) {
#ifdef CYL_HAVE_FMA
    return cyl_isa_available(isa);
#else
    return cyl_isa_available(isa) && sets[isa].fuses;
#endif
}

CylIsa cyl_isa_best(void) {
    int isa = CYL_ISA_COUNT - 1;
    while (isa > CYL_ISA_SCALAR && !cyl_isa_available((CylIsa)isa)) {
        isa--;
    }
    return (CylIsa)isa;
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

const CylKernels *cyl_kernels_of(CylEngine engine, CylIsa isa) {
    if (engine == CYL_ENGINE_BLAS64) {
        return &cyl_kernels_blas64;
    }
    return engine == CYL_ENGINE_PACKED ? sets[isa].packed : sets[isa].blas32;
}
