/* Canonical matrices into the layout that the kernels read. */
#include "internal.h"

#include <math.h>
#include <string.h>

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

static double read_real(const void *data, int64_t index, size_t real_size) {
    return real_size == sizeof(float) ? (double)((const float *)data)[index] : ((const double *)data)[index];
}

static void write_real(void *data, int64_t index, double value, size_t real_size, bool is_packed) {
    if (is_packed && fabs(value) < (double)CYL_TINY) {
        value = 0.0; /* the subnormal rule */
    }
    if (real_size == sizeof(float)) {
        ((float *)data)[index] = (float)value;
    } else {
        ((double *)data)[index] = value;
    }
}

void *cyl_row_pack(const CylModel *model, const CylMatrix *m, const void *source) {
    size_t real = model->kernels->real_size;
    void *row = cyl_aligned_alloc((size_t)m->row_size * real);
    if (!row || !source) {
        return row;
    }
    for (int32_t gate = 0; gate < m->gates; gate++) {
        for (int64_t unit = 0; unit < m->units; unit++) {
            int32_t block = (int32_t)(unit / m->width);
            int64_t at = cyl_block_offset(m, block) + (int64_t)gate * cyl_block_width(m, block) + unit % m->width;
            write_real(row, at, read_real(source, (int64_t)gate * m->units + unit, real), real,
                       model->kernels->is_packed);
        }
    }
    return row;
}

CylStatus cyl_matrix_pack(const CylModel *model, CylMatrix *m, int32_t units, int32_t gates, const CylPart *parts,
                          int32_t part_count, const void *bias) {
    size_t real = model->kernels->real_size;
    bool is_packed = model->kernels->is_packed;
    memset(m, 0, sizeof *m);
    int64_t columns = 0;
    for (int32_t p = 0; p < part_count; p++) {
        columns += parts[p].columns;
    }
    if (units < 1 || gates < 1 || columns < 1 || units > (1 << 24) || columns > (1 << 24)) {
        return CYL_E_TENSOR;
    }
    m->units = units;
    m->gates = gates;
    m->columns = (int32_t)columns;
    m->width = block_width(gates);
    m->blocks = (units + m->width - 1) / m->width;
    m->tail_width = tail_block_width(units - (m->blocks - 1) * m->width, gates, is_packed);
    m->block_rows = (int64_t)gates * m->width;
    int64_t tail_rows = (int64_t)gates * m->tail_width;
    if (is_packed) {
        tail_rows = (tail_rows + 15) / 16 * 16;
    }
    int64_t rows = (m->blocks - 1) * m->block_rows + tail_rows;
    m->row_size = (rows + 15) / 16 * 16 + CYL_ROW_PADDING;
    m->bytes = (rows * columns + m->row_size) * (int64_t)real;
    m->weights = cyl_aligned_alloc((size_t)(rows * columns) * real);
    m->bias = cyl_row_pack(model, m, bias);
    if (!m->weights || !m->bias) {
        cyl_matrix_free(m);
        return CYL_E_MEMORY;
    }
    for (int32_t block = 0; block < m->blocks; block++) {
        int32_t width = cyl_block_width(m, block);
        int64_t block_rows = block == m->blocks - 1 ? tail_rows : m->block_rows;
        int64_t first_row = cyl_block_offset(m, block);
        for (int32_t gate = 0; gate < gates; gate++) {
            for (int32_t lane = 0; lane < width; lane++) {
                int64_t unit = (int64_t)block * m->width + lane;
                if (unit >= units) {
                    break;
                }
                int64_t source_row = (int64_t)gate * units + unit, row = (int64_t)gate * width + lane;
                int64_t k = 0;
                for (int32_t p = 0; p < part_count; p++) {
                    for (int32_t j = 0; j < parts[p].columns; j++, k++) {
                        double w = read_real(parts[p].data, source_row * parts[p].columns + j, real);
                        int64_t at =
                            is_packed ? first_row * columns + k * block_rows + row : (first_row + row) * columns + k;
                        write_real(m->weights, at, w, real, is_packed);
                    }
                }
            }
        }
    }
    return CYL_OK;
}

void cyl_matrix_free(CylMatrix *m) {
    cyl_aligned_free(m->weights);
    cyl_aligned_free(m->bias);
    memset(m, 0, sizeof *m);
}
