/*
 * Networks for the tests: described once, then built as a CylModel of any engine and instruction set, or computed
 * in double precision by the equations themselves. Weights, inputs and states are random, all different, and the
 * same in every run.
 */
#ifndef NETWORK_H
#define NETWORK_H

#include "cylstm.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    MOST_VALUES = 24,
    MOST_NODES = 12,
    MOST_PORTS = 4,
    MOST_OPTIONS = 26,
    MOST_TENSORS = 10,
    MOST_ENDS = 4, /* inputs or outputs of a network */
    MOST_STATES = 12
};

/* ---- random numbers ---- */

void random_seed(uint64_t seed);
uint32_t random_bits(void);
/* evenly in [-scale, scale) */
float random_float(float scale);

/* ---- describing a network ---- */

typedef struct {
    CylLayerSpec spec; /* points into this layer */
    CylPort inputs[MOST_PORTS], outputs[MOST_PORTS];
    CylOption options[MOST_OPTIONS];
    CylTensor tensors[MOST_TENSORS];
    float *weights[MOST_TENSORS]; /* owned */
    int kind;                     /* a RecurrentKind, -1 for none */
} Layer;

typedef struct {
    CylValueKind kinds[MOST_VALUES];
    int32_t features[MOST_VALUES];
    int32_t axes[MOST_VALUES]; /* which input's time a sequence or mask has, -1 for none */
    Layer layers[MOST_NODES];
    int32_t inputs[MOST_ENDS], masks[MOST_ENDS], outputs[MOST_ENDS];
    int32_t state_sizes[MOST_STATES];
    int32_t value_count, layer_count, input_count, output_count, state_count;
} Network;

/* ends the program where memory runs out */
void *need(size_t bytes);

/* owned by the caller */
Network *network_create(void);
void network_free(Network *network);

int32_t network_value(Network *network, CylValueKind kind, int32_t features);
/* an input sequence or vector; with `mask`, a mask value is made for it too */
int32_t network_input(Network *network, CylValueKind kind, int32_t features, int32_t *mask);
void network_output(Network *network, int32_t value);

Layer *network_layer(Network *network, const char *name);
void layer_input(Layer *layer, const char *role, int32_t value);
void layer_output(Layer *layer, const char *role, int32_t value);
void layer_number(Layer *layer, const char *name, double number);
void layer_text(Layer *layer, const char *name, const char *text);
/* random weights up to `scale`; columns 0 for a vector. The result is what may be changed. */
float *layer_tensor(Layer *layer, const char *role, int32_t rows, int32_t columns, float scale);
/* `slot` with the activation's usual parameters */
void layer_activation(Layer *layer, const char *slot, const char *name);

typedef struct {
    const char *name;
    double alpha, beta;
    double (*function)(double x, double alpha, double beta); /* NULL for softmax, which needs a whole row */
} Activation;
extern const Activation ACTIVATIONS[];
extern const int ACTIVATION_COUNT; /* without softmax, which comes after them */

typedef enum {
    LSTM = 0,
    LSTM_PROJECTED,
    LSTM_PEEPHOLES,  /* and clips that are felt */
    LSTM_COUPLED,    /* f = 1 - i */
    LSTM_NORMALISED, /* the carried cell is normalised too where hidden is odd */
    GRU_BEFORE,
    GRU_AFTER,
    RNN,
    RECURRENT_KINDS,
    CONV_LSTM = RECURRENT_KINDS, /* see network_conv_lstm */
} RecurrentKind;
extern const char *const RECURRENT_NAMES[RECURRENT_KINDS];
/* 1, or 2 for h and c */
int state_count_of(RecurrentKind kind);

typedef struct {
    int32_t mask;   /* value, -1 for none */
    int32_t h0, c0; /* values, -1 for none */
    bool is_reverse, repeats_padding;
    const char *activation, *recurrent_activation; /* NULL for tanh and sigmoid */
    float scale; /* of the weights; 0 for one that keeps the states moving and stable */
} RecurrentOptions;

extern const RecurrentOptions PLAIN;

/* `options` may be NULL. The result is the output sequence; h and c, where not NULL, become state values. */
int32_t network_recurrent(Network *network, RecurrentKind kind, int32_t x, int32_t hidden,
                          const RecurrentOptions *options, int32_t *h, int32_t *c);
/* x is an image of rows, columns and channels; a kernel of 2 rows and 3 columns that moves by 2 columns */
int32_t network_conv_lstm(Network *network, int32_t x, int32_t rows, int32_t columns, int32_t filters, bool is_same,
                          const RecurrentOptions *options);
int32_t network_dense(Network *network, int32_t x, int32_t units, const char *activation);
int32_t network_last(Network *network, int32_t x, int32_t mask);
int32_t network_merge(Network *network, const char *mode, const int32_t *values, int32_t count);

/* ---- running it ---- */

/* what one call reads */
typedef struct {
    int64_t rows;
    int64_t times[MOST_ENDS];
    float *inputs[MOST_ENDS];
    uint8_t *masks[MOST_ENDS]; /* NULL for none */
    float *states[MOST_STATES];
} Data;

/* Random; owned by the caller. masks: random ones, among them rows that are all masked, and gaps. */
Data *data_create(const Network *network, int64_t rows, const int64_t *times, bool has_masks);
void data_free(Data *data);

/* What one call writes: the outputs, then the final states, in the precision of the model. */
typedef struct {
    int32_t count;
    size_t real_size;
    size_t sizes[MOST_ENDS + MOST_STATES];
    void *arrays[MOST_ENDS + MOST_STATES];
} Result;

void result_free(Result *result);
bool result_same(const Result *a, const Result *b);
/* carries a hash of bits on over a result's, to compare machines by; start from 0 */
uint64_t result_hash(const Result *result, uint64_t hash);
/* the largest difference within one array, divided by the array's largest magnitude */
double result_error(const Result *result, const Result *reference);

/* a CBLAS of plain loops */
CylBlas plain_blas(void);
/* Owned by the caller; ends the program if the network cannot be built. The BLAS engines use plain_blas. The model's
   threads are OpenMP's where the environment has TEST_THREADS=openmp, else the pool's. */
CylModel *network_model(const Network *network, CylEngine engine, CylIsa isa);
CylModel *network_model_with(const Network *network, CylEngine engine, CylIsa isa, const CylBlas *blas);
/* whether they are OpenMP's */
bool are_threads_openmp(void);

/* each gives a Result, owned by the caller */
Result reference(const Network *network, const Data *data);
/* as CylTrace, in double; NULL for what is not asked for */
typedef struct {
    double *pre, *gates; /* (rows, steps, gates, units) */
    double *cell;        /* (rows, steps, units) */
} ReferenceTrace;
Result reference_traced(const Network *network, const Data *data, const ReferenceTrace *traces /* (layers) or NULL */);
Result predict(const Network *network, const CylModel *model, const Data *data, int threads);
/* one row of the data alone */
Result predict_row(const Network *network, const CylModel *model, const Data *data, int64_t row, int threads);
/* one state array of a stream, which for itself saves and restores all of one moment */
CylStatus get_state(CylStream *stream, int32_t index, void *state);
CylStatus set_state(CylStream *stream, int32_t index, const void *state);
/* a stream over chunks of the steps given, in turn, the list repeated as needed; one sequence input only.
   Sequences are put together; a vector is that of the last chunk. */
Result stream(const Network *network, const CylModel *model, const Data *data, const int64_t *steps, int step_count,
              int threads);
/* one row of a result */
Result result_row(const Result *result, int64_t rows, int64_t row);

#endif
