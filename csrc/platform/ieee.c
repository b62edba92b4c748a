/* The floating-point mode of the calling thread. */
#include "platform/ieee.h"

#include "cylstm.h"

#if defined(__x86_64__) || defined(_M_X64) || defined(__SSE2__)
/* ieee.h has these */

#elif defined(__aarch64__)

CylIeee cyl_ieee_enter(void) {
    CylIeee saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved.control));
    if (saved.control != 0) {
        __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    }
    return saved;
}

void cyl_ieee_leave(CylIeee saved) {
    if (saved.control != 0) {
        __asm__ volatile("msr fpcr, %0" : : "r"(saved.control));
    }
}

#elif defined(__arm__) && defined(__ARM_FP)

/* of FPSCR: the modes (alternative half, default NaN, flush to zero, rounding) and traps; the rest are flags */
#define MODES 0x07c09f00u

static uint32_t read_fpscr(void) {
    uint32_t fpscr;
    __asm__ volatile("vmrs %0, fpscr" : "=r"(fpscr));
    return fpscr;
}
static void write_fpscr(uint32_t fpscr) { __asm__ volatile("vmsr fpscr, %0" : : "r"(fpscr)); }

CylIeee cyl_ieee_enter(void) {
    CylIeee saved = {read_fpscr()};
    if (saved.control & MODES) {
        write_fpscr((uint32_t)saved.control & ~MODES);
    }
    return saved;
}

void cyl_ieee_leave(CylIeee saved) {
    if (saved.control & MODES) {
        write_fpscr((read_fpscr() & ~MODES) | ((uint32_t)saved.control & MODES));
    }
}

#else
#include <fenv.h>

CylIeee cyl_ieee_enter(void) {
    CylIeee saved = {(uint64_t)fegetround()};
    fesetround(FE_TONEAREST);
    return saved;
}

void cyl_ieee_leave(CylIeee saved) { fesetround((int)saved.control); }

#endif

uint64_t cyl_mode_enter(void) { return cyl_ieee_enter().control; }
void cyl_mode_leave(uint64_t mode) { cyl_ieee_leave((CylIeee){mode}); }
