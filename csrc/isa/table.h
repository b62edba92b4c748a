/* The table of the functions included before, with CYL_TABLE, CYL_TABLE_NAME, CYL_TABLE_PRODUCT and
   CYL_TABLE_IS_PACKED defined. */

const CylKernels CYL_TABLE = {
    .name = CYL_TABLE_NAME,
    .real_size = sizeof(REAL),
    .is_packed = CYL_TABLE_IS_PACKED,
    .product = CYL_TABLE_PRODUCT,
    .dense_output = dense_output,
    .activate = activate,
    .log_softmax = log_softmax,
    .flush = flush,
    .merge = merge,
    .scale_shift = scale_shift,
    .moments = moments,
    .normalise = normalise_row,
    .prelu = prelu,
    .gated = gated,
    .depthwise = depthwise,
    .dot = dot,
    .additive = additive,
    .add_scaled = add_scaled,
    .lstm_cell = lstm_cell,
    .lstm_norm_gates = lstm_norm_gates,
    .lstm_norm_cell = lstm_norm_cell,
    .rnn_cell = rnn_cell,
    .state_output = state_output,
    .gru_gates = gru_gates,
    .gru_cell = gru_cell,
};

#undef CYL_TABLE
#undef CYL_TABLE_NAME
#undef CYL_TABLE_PRODUCT
#undef CYL_TABLE_IS_PACKED
