/* The kernels for the instruction set "sse2". */
#include "kernels/kernels.h"
#include "layers/gru.h"
#include "layers/lstm.h"
#include "layers/rnn.h"
#include "model/model.h"
#include "platform/ieee.h"
#include "platform/blas.h"
#include "run/recurrent.h"

#include "simd/sse2.h"

#define CYL_ISA sse2
#define CYL_ISA_NAME "sse2"
#include "packed.h"

#include "blas.h"
