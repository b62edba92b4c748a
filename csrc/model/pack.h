/* Packed arrays: what a layer keeps of its weights, and where each tensor lies in it (pack.c). */
#ifndef CYL_PACK_H
#define CYL_PACK_H

#include "cylstm.h"
#include "model/matrix.h"
#include "model/weight_types.h"
#include "platform/rare.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct CylLayer CylLayer;

/* Rows [first_row, first_row + gates*units) of a tensor that is in the spec. Axes after the first are flattened into
   one. */
typedef struct {
    const char *role;
    int64_t first_row;
} CylPart;

/* Where some rows of a tensor lie in a packed array. Every element of a layer's tensors has exactly one place. */
typedef struct {
    const char *role; /* a string literal */
    int64_t first_row, rows, columns;
    const CylMatrix *matrix; /* in its weights from first_column on, or in a row of its accumulators; NULL: plain */
    int32_t first_column;
    bool is_row;
    bool is_transposed; /* plain, as (columns, rows) */
    bool is_exact;      /* kept without the subnormal rule */
    CylWeightType type; /* of the numbers at data */
    void *data;         /* real, or in a matrix's weights of its type */
} CylPlace;

/*
 * What `prepare` calls for each of its packed arrays, in an order that depends on the spec alone: each becomes the
 * layer's, zeroed and of `size` reals, or is the next of spec->arrays. A role that may be absent from the spec leaves
 * zeros; the shapes of all others must have been checked.
 */
CYL_RARE CylStatus cyl_array_prepare(const CylModel *model, CylLayer *layer, const CylLayerSpec *spec, int64_t size,
                                     void **data);
/* as cyl_array_prepare, of `size` numbers of a type without scales, rounded up to whole lines of CYL_ALIGNMENT bytes */
CYL_RARE CylStatus cyl_typed_array_prepare(const CylModel *model, CylLayer *layer, const CylLayerSpec *spec,
                                           CylWeightType type, int64_t size, void **data);
/* The parts side by side (their columns follow each other), and bias (gates*units), NULL for none. The weights are of
   the type that the spec says; an array of them fills whole lines of CYL_ALIGNMENT bytes in the packed engine. */
CYL_RARE CylStatus cyl_matrix_prepare(const CylModel *model, CylLayer *layer, const CylLayerSpec *spec, CylMatrix *m,
                                      int32_t units, int32_t gates, const CylPart *parts, int32_t part_count,
                                      const char *bias);
/* a tensor of gates*units numbers as a row of m's accumulators; role may be NULL, for zeros */
CYL_RARE CylStatus cyl_row_prepare(const CylModel *model, CylLayer *layer, const CylLayerSpec *spec, const CylMatrix *m,
                                   const char *role, void **row);
/* a tensor of rank 1 and this size, whose shape is checked here, padded */
CYL_RARE CylStatus cyl_vector_prepare(const CylModel *model, CylLayer *layer, const CylLayerSpec *spec,
                                      const char *role, int64_t size, void **vector);
/* Records where rows of a tensor lie in an array of the layer. */
CYL_RARE CylStatus cyl_tensor_place(CylLayer *layer, CylPlace place);
/* Records that a tensor of rank 1 lies number by number at `data`, in an array of the layer. */
CYL_RARE CylStatus cyl_vector_place(CylLayer *layer, const CylTensor *tensor, const char *role, void *data);
CYL_RARE void cyl_arrays_free(CylLayer *layer);

#endif
