/* The kernels for the instruction set "avx512". */
#include "kernels/kernels.h"
#include "layers/gru.h"
#include "layers/lstm.h"
#include "layers/rnn.h"
#include "model/model.h"
#include "platform/ieee.h"
#include "platform/blas.h"
#include "run/recurrent.h"

#include "simd/avx512.h"

#define CYL_ISA avx512
#define CYL_ISA_NAME "avx512"
#include "packed.h"

#include "blas.h"
