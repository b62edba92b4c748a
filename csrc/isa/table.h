/* The table of one instruction set: included last, after the kernels, with CYL_TABLE and CYL_TABLE_NAME defined. */

const CylKernels CYL_TABLE = {
    .name = CYL_TABLE_NAME,
    .real_size = sizeof(REAL),
    .is_packed = CYL_TABLE_IS_PACKED,
    .product = product,
    .dense_output = dense_output,
    .activate = activate,
    .flush = flush,
    .merge = merge,
    .lstm_cell = lstm_cell,
    .lstm_norm_gates = lstm_norm_gates,
    .lstm_norm_cell = lstm_norm_cell,
    .rnn_cell = rnn_cell,
    .state_output = state_output,
    .gru_gates = gru_gates,
    .gru_cell = gru_cell,
};
