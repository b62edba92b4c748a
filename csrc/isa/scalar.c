/* The kernels for the instruction set "scalar". */
#include "kernels/kernels.h"
#include "layers/gru.h"
#include "layers/lstm.h"
#include "layers/rnn.h"
#include "model/model.h"
#include "platform/ieee.h"
#include "platform/blas.h"
#include "run/recurrent.h"

#include "simd/scalar.h"

#define CYL_ISA scalar
#define CYL_ISA_NAME "scalar"
#include "packed.h"
