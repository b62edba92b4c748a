/* The kernels for the instruction set "neon". */
#include "kernels/kernels.h"
#include "layers/gru.h"
#include "layers/lstm.h"
#include "layers/rnn.h"
#include "model/model.h"
#include "platform/ieee.h"
#include "platform/blas.h"
#include "run/recurrent.h"

#include "simd/neon.h"

#define CYL_ISA neon
#define CYL_ISA_NAME "neon"
#include "packed.h"

#include "blas.h"
