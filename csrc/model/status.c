/* The words for the status codes. */
#include "cylstm.h"

const char *cyl_status_text(CylStatus status) {
    switch (status) {
    case CYL_OK:
        return "ok";
    case CYL_E_MEMORY:
        return "out of memory, or a size that does not fit";
    case CYL_E_ARGUMENT:
        return "an argument is out of its range";
    case CYL_E_LAYER:
        return "no such kind of layer";
    case CYL_E_OPTION:
        return "an option is missing, unknown or out of range";
    case CYL_E_TENSOR:
        return "a tensor is missing or of another shape";
    case CYL_E_VALUE:
        return "a value is missing or of another kind or size";
    case CYL_E_ISA:
        return "this CPU or this build lacks the instruction set";
    case CYL_E_BLAS:
        return "the BLAS engine was asked for without a BLAS";
    case CYL_E_STREAM:
        return "the model cannot run step by step";
    case CYL_E_BUSY:
        return "another thread is inside the stream";
    case CYL_E_INDEX:
        return "an index is out of the range of what it chooses from";
    case CYL_E_TIME:
        return "the model cannot run this number of steps";
    case CYL_E_LAYOUT:
        return "packed arrays that do not fit the layer";
    case CYL_E_STOPPED:
        return "the caller ended the call";
    case CYL_E_RANGE:
        return "a weight is beyond what its type can hold";
    case CYL_STATUS_COUNT:
        break;
    }
    return "unknown status";
}
