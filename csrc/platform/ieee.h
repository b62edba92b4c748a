/* The numbers that all layers compute with, and the floating-point mode (ieee.c). */
#ifndef CYL_IEEE_H
#define CYL_IEEE_H

#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64) || defined(__SSE2__)
#include <xmmintrin.h>
#endif

#ifdef __FAST_MATH__
#error "CyLSTM promises the same bits everywhere: build it without -ffast-math"
#endif

/*
 * The subnormal rule. Weights and inputs on entry, states and layer outputs when stored, become +0 where their
 * magnitude is below 2^-40 (9.1e-13). What remains is a multiple of 2^-63, a product of two such numbers a
 * multiple of 2^-126, and a rounded sum of such products again one: so no multiply-add of a layer can make a
 * subnormal number, and none costs the hundred cycles that one costs on many CPUs.
 */
#define CYL_TINY 0x1p-40f

/* Defined if a multiply-add is one instruction even in code compiled without the flags of an instruction set. */
#if defined(__FP_FAST_FMAF) || defined(FP_FAST_FMAF) || defined(__ARM_FEATURE_FMA)
#define CYL_HAVE_FMA
#endif

typedef struct {
    uint64_t control;
} CylIeee;

/* cyl_ieee_enter sets round to nearest, keeps subnormals and traps nothing; cyl_ieee_leave restores what the caller
   had. */
#if defined(__x86_64__) || defined(_M_X64) || defined(__SSE2__)
/* The flags that have been raised stay as they are. Nothing between the two changes the modes, so that one reading
   of the register will do. */
#define CYL_MXCSR_FLAGS 0x3fu
#define CYL_MXCSR_WANTED 0x1f80u /* exceptions masked, nearest, no FTZ, no DAZ */

static inline CylIeee cyl_ieee_enter(void) {
    const unsigned found = _mm_getcsr();
    if ((found & ~CYL_MXCSR_FLAGS) != CYL_MXCSR_WANTED) {
        _mm_setcsr((found & CYL_MXCSR_FLAGS) | CYL_MXCSR_WANTED);
    }
    return (CylIeee){found};
}

static inline void cyl_ieee_leave(CylIeee saved) {
    const unsigned modes = (unsigned)saved.control & ~CYL_MXCSR_FLAGS;
    if (modes != CYL_MXCSR_WANTED) {
        _mm_setcsr(modes | (_mm_getcsr() & CYL_MXCSR_FLAGS));
    }
}
#else
CylIeee cyl_ieee_enter(void);
void cyl_ieee_leave(CylIeee saved);
#endif

#endif
