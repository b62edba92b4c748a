/*
 * Time axes: how many steps a value has, from how many the inputs have.
 *
 * A rule makes floor((length + add) / divide) * multiply of a length. A convolution or pooling with stride s that
 * reaches over r steps, p of padding added, has (p - r + s, s, 1); cropping n steps (-n, 1, 1); upsampling (0, 1, k).
 * Rules in a row with multiply 1 become one, (a, s, 1) and (b, t, k) being (a + b s, s t, k), so that axes of the same
 * length are the same axis, however they came about.
 */
#include "cylstm.h"
#include "model/axes.h"
#include "model/model.h"
#include "platform/memory.h"

#include <stdlib.h>

int64_t cyl_axis_after(const CylModel *model, int32_t index, int64_t steps) {
    const CylTimeAxis *axis = &model->axes[index];
    if (axis->input < 0) {
        return axis->constant;
    }
    int64_t length = steps <= CYL_LONGEST ? steps : -1;
    for (int32_t r = 0; r < axis->rule_count && length > 0; r++) {
        const CylTimeRule *rule = &axis->rules[r];
        int64_t sum = length + rule->add;
        if (sum < rule->divide) {
            return 0;
        }
        if (sum / rule->divide > CYL_LONGEST / rule->multiply) {
            return -1;
        }
        length = sum / rule->divide * rule->multiply;
    }
    return length;
}

int64_t cyl_axis_length(const CylModel *model, int32_t index, const int64_t *times) {
    const int32_t input = model->axes[index].input;
    return cyl_axis_after(model, index, input < 0 ? 0 : times[input]);
}

int64_t cyl_axis_gain(const CylModel *model, int32_t index, int64_t before, int64_t steps) {
    const int64_t length = cyl_axis_after(model, index, before + steps);
    return model->axes[index].input < 0 || length < 0 ? length : length - cyl_axis_after(model, index, before);
}

int64_t cyl_axis_settles(const CylModel *model, int32_t index) {
    const CylTimeAxis *axis = &model->axes[index];
    int64_t least = 0;
    for (int32_t r = axis->rule_count - 1; r >= 0; r--) {
        const CylTimeRule *rule = &axis->rules[r];
        const int64_t sum = (least + rule->multiply - 1) / rule->multiply * rule->divide;
        least = sum > rule->add ? sum - rule->add : 0;
    }
    return least;
}

static bool equal(const CylTimeAxis *a, const CylTimeAxis *b) {
    bool same = a->input == b->input && a->constant == b->constant && a->rule_count == b->rule_count;
    for (int32_t r = 0; same && r < a->rule_count; r++) {
        const CylTimeRule *p = &a->rules[r], *q = &b->rules[r];
        same = p->add == q->add && p->divide == q->divide && p->multiply == q->multiply;
    }
    return same;
}

bool cyl_axis_same(const CylModel *model, int32_t a, int32_t b) {
    return a == b || (a >= 0 && b >= 0 && equal(&model->axes[a], &model->axes[b]));
}

static CylStatus find_axis(CylModel *model, const CylTimeAxis *axis, int32_t *index) {
    for (int32_t i = 0; i < model->axis_count; i++) {
        if (equal(&model->axes[i], axis)) {
            *index = i;
            return CYL_OK;
        }
    }
    CylTimeAxis *grown = cyl_resize(model->axes, (int64_t)model->axis_count + 1, sizeof *grown);
    if (!grown) {
        return CYL_E_MEMORY;
    }
    model->axes = grown;
    grown[model->axis_count] = *axis;
    *index = model->axis_count++;
    return CYL_OK;
}

CylStatus cyl_axis_constant(CylModel *model, int64_t steps, int32_t *axis) {
    if (steps < 1 || steps > CYL_LONGEST) {
        return CYL_E_VALUE;
    }
    CylTimeAxis constant = {.input = -1, .constant = steps};
    return find_axis(model, &constant, axis);
}

CylStatus cyl_axis_derive(CylModel *model, int32_t from, CylTimeRule rule, int32_t *axis) {
    const int64_t most = 1 << 24;
    if (rule.divide < 1 || rule.divide > most || rule.multiply < 1 || rule.multiply > most || rule.add > most ||
        rule.add < -most) {
        return CYL_E_OPTION;
    }
    CylTimeAxis derived = model->axes[from];
    if (derived.input < 0) {
        int64_t sum = derived.constant + rule.add;
        if (sum < rule.divide || sum / rule.divide > CYL_LONGEST / rule.multiply) {
            return CYL_E_VALUE;
        }
        return cyl_axis_constant(model, sum / rule.divide * rule.multiply, axis);
    }
    CylTimeRule *last = derived.rule_count ? &derived.rules[derived.rule_count - 1] : NULL;
    if (rule.add == 0 && rule.divide == 1 && rule.multiply == 1) {
        *axis = from;
        return CYL_OK;
    }
    if (last && last->multiply == 1) {
        *last = (CylTimeRule){last->add + rule.add * last->divide, last->divide * rule.divide, rule.multiply};
        if (last->divide > most || last->add > most || last->add < -most) {
            return CYL_E_OPTION;
        }
        if (last->add == 0 && last->divide == 1 && last->multiply == 1) {
            derived.rules[--derived.rule_count] = (CylTimeRule){0, 0, 0};
        }
    } else if (derived.rule_count == CYL_MAX_TIME_RULES) {
        return CYL_E_OPTION;
    } else {
        derived.rules[derived.rule_count++] = rule;
    }
    return find_axis(model, &derived, axis);
}
