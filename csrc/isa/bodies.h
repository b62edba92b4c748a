/*
 * All kernels, compiled for the logical vector included before, with the product of CYL_PRODUCT_BODY, a header of
 * kernels/. Where kernels/functions_libm.h is included before too, kernels/functions.h has no effect.
 */
#include "kernels/kernels.h"
#include "layers/gru.h"
#include "layers/lstm.h"
#include "layers/rnn.h"
#include "model/model.h"
#include "model/recurrent.h"

#include "kernels/functions.h"

#include "kernels/activation.h"

#include "kernels/lanes.h"

#include CYL_PRODUCT_BODY

/* what double precision seldom needs takes a third of the code there, and up to half as much time again */
#if defined(CYL_SMALL) && defined(__GNUC__) && !defined(__clang__)
#define CYL_SELDOM __attribute__((cold))
#else
#define CYL_SELDOM
#endif
#include "kernels/cells.h"

#if defined(CYL_SMALL) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("Os")
#endif
#include "kernels/elementwise.h"

#include "kernels/layers.h"
