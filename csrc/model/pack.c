/*
 * Packed arrays: where each number of a canonical tensor lies in the layout that the kernels read.
 *
 * A layer's `prepare` asks for its packed arrays one after the other and so says where each of its tensors lies in
 * them (CylPlace). Copying, either way, follows from that: cyl_model_write_tensor packs, cyl_model_read_tensor gives
 * back what was packed, and arrays packed before (a file's) are taken as they are. The layout depends on the shapes
 * alone, never on the instruction set; whoever changes it raises CYL_LAYOUT_VERSION.
 */
#include "cylstm.h"
#include "model/matrix.h"
#include "model/model.h"
#include "model/pack.h"
#include "model/spec.h"
#include "model/weight_types.h"
#include "platform/memory.h"

#include <stdlib.h>
#include <string.h>

/* of a matrix, and rows: their products stay far from what 64 bits hold */
#define MOST_COLUMNS (1 << 24)

/* Full blocks of 16 units, or of 64 where there is one gate: four chains hide the latency of a multiply-add. */
static int32_t block_width(int32_t gates) { return gates == 1 ? 64 : 16; }

/* The last block's width: narrow where padding would waste much. `units` of its width are used. */
static int32_t tail_block_width(int32_t units, int32_t gates, bool is_packed) {
    if (!is_packed) {
        return units;
    }
    if (gates == 1) {
        return (units + 15) / 16 * 16;
    }
    return units <= 4 ? 4 : units <= 8 ? 8 : 16;
}

CylStatus cyl_typed_array_prepare(const CylModel *model, CylLayer *layer, const CylLayerSpec *spec, CylWeightType type,
                                  int64_t size, void **data) {
    const size_t real_size = model->kernels->real_size;
    const char *name = cyl_weight_array_type(type, real_size);
    int32_t index = layer->array_count;
    const CylArray *given = NULL;
    if (spec->arrays) {
        given = index < spec->array_count ? &spec->arrays[index] : NULL;
        if (!given || given->size != size || !given->data || (uintptr_t)given->data % CYL_ALIGNMENT != 0 ||
            strcmp(given->type ? given->type : cyl_weight_array_type(CYL_WEIGHTS_REAL, real_size), name) != 0) {
            return CYL_E_LAYOUT;
        }
    }
    CylArray *grown = cyl_resize(layer->arrays, (int64_t)index + 1, sizeof *grown);
    if (!grown) {
        return CYL_E_MEMORY;
    }
    layer->arrays = grown;
    /* what is given is never written: see cyl_model_write_tensor */
    *data =
        given ? (void *)given->data : cyl_aligned_alloc(cyl_size_mul((uint64_t)size, cyl_weight_size(type, real_size)));
    if (!*data) {
        return CYL_E_MEMORY;
    }
    grown[layer->array_count++] = (CylArray){*data, size, name};
    return CYL_OK;
}

CylStatus cyl_array_prepare(const CylModel *model, CylLayer *layer, const CylLayerSpec *spec, int64_t size,
                            void **data) {
    return cyl_typed_array_prepare(model, layer, spec, CYL_WEIGHTS_REAL, size, data);
}

CylStatus cyl_tensor_place(CylLayer *layer, CylPlace place) {
    CylPlace *grown = cyl_resize(layer->places, (int64_t)layer->place_count + 1, sizeof *grown);
    if (!grown) {
        return CYL_E_MEMORY;
    }
    layer->places = grown;
    grown[layer->place_count++] = place;
    return CYL_OK;
}

CylStatus cyl_vector_place(CylLayer *layer, const CylTensor *tensor, const char *role, void *data) {
    return cyl_tensor_place(layer, (CylPlace){.role = role, .rows = tensor->shape[0], .columns = 1, .data = data});
}

CylStatus cyl_vector_prepare(const CylModel *model, CylLayer *layer, const CylLayerSpec *spec, const char *role,
                             int64_t size, void **vector) {
    const CylTensor *tensor = cyl_spec_tensor(spec, role);
    CylStatus status = cyl_check_tensor(tensor, size, -1);
    if (status == CYL_OK) {
        status = cyl_array_prepare(model, layer, spec, cyl_state_stride(size), vector);
    }
    return status == CYL_OK ? cyl_vector_place(layer, tensor, role, *vector) : status;
}

CylStatus cyl_row_prepare(const CylModel *model, CylLayer *layer, const CylLayerSpec *spec, const CylMatrix *m,
                          const char *role, void **row) {
    CylStatus status = cyl_array_prepare(model, layer, spec, m->row_size, row);
    if (status != CYL_OK || !role || !cyl_spec_tensor(spec, role)) {
        return status;
    }
    return cyl_tensor_place(layer, (CylPlace){.role = role,
                                              .rows = (int64_t)m->gates * m->units,
                                              .columns = 1,
                                              .matrix = m,
                                              .is_row = true,
                                              .data = *row});
}

/* numbers of one row of a tensor; more than MOST_COLUMNS of any that has too many */
static int64_t columns_of(const CylTensor *tensor) {
    int64_t columns = 1;
    for (int32_t axis = 1; axis < tensor->rank && columns <= MOST_COLUMNS; axis++) {
        columns *= tensor->shape[axis];
    }
    return columns;
}

/* the type that all parts have; -1 if there is none */
static int type_of_parts(const CylModel *model, const CylLayerSpec *spec, const CylPart *parts, int32_t part_count) {
    int found = -1;
    for (int32_t p = 0; p < part_count; p++) {
        const int type =
            cyl_weight_type_from_name(cyl_spec_tensor(spec, parts[p].role)->type, model->kernels->real_size);
        if (type < 0 || (p > 0 && type != found)) {
            return -1;
        }
        found = type;
    }
    return found;
}

CylStatus cyl_matrix_prepare(const CylModel *model, CylLayer *layer, const CylLayerSpec *spec, CylMatrix *m,
                             int32_t units, int32_t gates, const CylPart *parts, int32_t part_count, const char *bias) {
    bool is_packed = model->kernels->is_packed;
    const int type = type_of_parts(model, spec, parts, part_count);
    if (type < 0 || (type != CYL_WEIGHTS_REAL && !is_packed) ||
        (cyl_weight_formats[type].has_scales && part_count > 1)) {
        return CYL_E_OPTION;
    }
    memset(m, 0, sizeof *m);
    m->type = (CylWeightType)type;
    int64_t columns = 0;
    for (int32_t p = 0; p < part_count; p++) {
        int64_t part_columns = columns_of(cyl_spec_tensor(spec, parts[p].role));
        columns = part_columns > MOST_COLUMNS ? MOST_COLUMNS + 1 : columns + part_columns;
    }
    if (units < 1 || gates < 1 || columns < 1 || units > MOST_COLUMNS || columns > MOST_COLUMNS) {
        return CYL_E_TENSOR;
    }
    m->units = units;
    m->gates = gates;
    m->columns = (int32_t)columns;
    const int32_t at_once = cyl_weight_formats[type].columns_at_once;
    m->stored_columns = (m->columns + at_once - 1) / at_once * at_once;
    m->width = block_width(gates);
    m->blocks = (units + m->width - 1) / m->width;
    m->tail_width = tail_block_width(units - (m->blocks - 1) * m->width, gates, is_packed);
    m->block_rows = (int64_t)gates * m->width;
    m->tail_rows = (int64_t)gates * m->tail_width;
    if (is_packed) {
        m->tail_rows = (m->tail_rows + 15) / 16 * 16;
    }
    int64_t rows = (m->blocks - 1) * m->block_rows + m->tail_rows;
    m->row_size = (rows + 15) / 16 * 16 + CYL_ROW_PADDING;
    int64_t size = rows * m->stored_columns;
    if (is_packed) { /* the next array in a file is aligned too; a multiple of 16 numbers it is anyway */
        int64_t of_line = CYL_ALIGNMENT / (int64_t)cyl_weight_size(m->type, sizeof(float));
        size = (size + of_line - 1) / of_line * of_line;
    }
    CylStatus status = cyl_typed_array_prepare(model, layer, spec, m->type, size, &m->weights);
    if (cyl_weight_formats[type].has_scales) {
        const int64_t pieces = (columns + CYL_INT8_PIECE - 1) / CYL_INT8_PIECE;
        status = status == CYL_OK ? cyl_array_prepare(model, layer, spec, m->row_size, &m->scales) : status;
        status = status == CYL_OK ? cyl_array_prepare(model, layer, spec, pieces * m->row_size, &m->sums) : status;
    }
    int32_t column = 0;
    for (int32_t p = 0; status == CYL_OK && p < part_count; p++) {
        int64_t part_columns = columns_of(cyl_spec_tensor(spec, parts[p].role));
        status = cyl_tensor_place(layer, (CylPlace){.role = parts[p].role,
                                                    .first_row = parts[p].first_row,
                                                    .rows = (int64_t)gates * units,
                                                    .columns = part_columns,
                                                    .matrix = m,
                                                    .first_column = column,
                                                    .type = m->type,
                                                    .data = m->weights});
        column += (int32_t)part_columns;
    }
    return status == CYL_OK ? cyl_row_prepare(model, layer, spec, m, bias, &m->bias) : status;
}

/* Where row `row` of a place is packed: index of its first number, and how far its columns lie apart. Of a matrix,
 *in_row is its place among the accumulators. */
static int64_t find_row(const CylPlace *place, int64_t row, bool is_packed, int64_t *stride, int64_t *in_row) {
    const CylMatrix *m = place->matrix;
    *stride = 1;
    *in_row = 0;
    if (!m) {
        *stride = place->is_transposed ? place->rows : 1;
        return place->is_transposed ? row : row * place->columns;
    }
    int32_t gate = (int32_t)(row / m->units), unit = (int32_t)(row % m->units), block = unit / m->width;
    int64_t in_block = (int64_t)gate * cyl_block_width(m, block) + unit % m->width;
    int64_t first_row = cyl_block_offset(m, block);
    *in_row = first_row + in_block;
    if (place->is_row) {
        return *in_row;
    }
    if (!is_packed) {
        return *in_row * m->columns;
    }
    *stride = block == m->blocks - 1 ? m->tail_rows : m->block_rows;
    return first_row * m->stored_columns + in_block * cyl_weight_formats[m->type].columns_at_once;
}

/* a row of a place, whose numbers have `type` */
static CylPackedRow packed_row(const CylModel *model, const CylPlace *place, CylWeightType type, int64_t row) {
    CylPackedRow found = {.first = place->is_row ? 0 : place->first_column};
    int64_t in_row;
    const int64_t at = find_row(place, row, model->kernels->is_packed, &found.stride, &in_row);
    found.numbers = (char *)place->data + (size_t)at * cyl_weight_size(type, model->kernels->real_size);
    if (cyl_weight_formats[type].has_scales) {
        const CylMatrix *m = place->matrix;
        found.scale = (float *)m->scales + in_row;
        found.sums = (float *)m->sums + in_row;
        found.sums_stride = m->row_size;
    }
    return found;
}

/* numbers kept as they are */
static void copy_exactly(size_t real_size, char *packed, int64_t stride, const char *source, int64_t count) {
    for (int64_t j = 0; j < count; j++) {
        memcpy(packed + (size_t)(j * stride) * real_size, source + (size_t)j * real_size, real_size);
    }
}

/* rows [first, first + rows) of a tensor: from `source` where there is one, else to `target` */
static CylStatus copy_tensor(const CylModel *model, int32_t layer, const char *role, int64_t first, int64_t rows,
                             const void *source, void *target) {
    if (layer < 0 || layer >= model->layer_count || first < 0 || rows < 0) {
        return CYL_E_ARGUMENT;
    }
    const size_t real_size = model->kernels->real_size;
    int64_t copied = 0;
    for (int32_t p = 0; p < model->layers[layer].place_count; p++) {
        const CylPlace *place = &model->layers[layer].places[p];
        if (strcmp(place->role, role) != 0) {
            continue;
        }
        const CylWeightType type = place->type;
        const CylWeightFormat *format = &cyl_weight_formats[type];
        int64_t begin = first > place->first_row ? first : place->first_row;
        int64_t last = place->first_row + place->rows, end = rows < last - first ? first + rows : last;
        for (int64_t row = begin; row < end; row++, copied++) {
            const CylPackedRow packed = packed_row(model, place, type, row - place->first_row);
            const int64_t from = (row - first) * place->columns;
            if (!source) {
                format->unpack(real_size, &packed, cyl_at(model, target, from), place->columns);
            } else if (place->is_exact) {
                copy_exactly(real_size, packed.numbers, packed.stride, cyl_at(model, source, from), place->columns);
            } else if (format->pack(real_size, &packed, cyl_at(model, source, from), place->columns) != CYL_OK) {
                return CYL_E_RANGE;
            }
        }
    }
    return copied == rows ? CYL_OK : CYL_E_TENSOR;
}

CylStatus cyl_model_write_tensor(CylModel *model, int32_t layer, const char *role, int64_t first_row, int64_t rows,
                                 const void *data) {
    if (model->is_finished || !data || layer < 0 || layer >= model->layer_count || model->layers[layer].keeps_arrays) {
        return CYL_E_ARGUMENT;
    }
    return copy_tensor(model, layer, role, first_row, rows, data, NULL);
}

CylStatus cyl_model_read_tensor(const CylModel *model, int32_t layer, const char *role, int64_t first_row, int64_t rows,
                                void *data) {
    return data ? copy_tensor(model, layer, role, first_row, rows, NULL, data) : CYL_E_ARGUMENT;
}

int32_t cyl_model_array_count(const CylModel *model, int32_t layer) {
    return layer >= 0 && layer < model->layer_count ? model->layers[layer].array_count : 0;
}

CylArray cyl_model_array(const CylModel *model, int32_t layer, int32_t index) {
    return index >= 0 && index < cyl_model_array_count(model, layer) ? model->layers[layer].arrays[index]
                                                                     : (CylArray){NULL, 0, NULL};
}

void cyl_arrays_free(CylLayer *layer) {
    for (int32_t i = 0; i < layer->array_count && !layer->keeps_arrays; i++) {
        cyl_aligned_free((void *)layer->arrays[i].data);
    }
    free(layer->arrays);
    free(layer->places);
}
