/*
 * Time axes: how many steps a value has, from how many the inputs have.
 *
 * A rule makes floor((length + add) / divide) * multiply of a length. A convolution or pooling with stride s that
 * reaches over r steps, p of padding added, has (p - r + s, s, 1); cropping n steps (-n, 1, 1); upsampling (0, 1, k).
 * Rules in a row are joined as far as one can say the same as two, so that axes of the same length are the same axis,
 * however they came about. (a, s, m) and (b, t, k) are (a + u s, s, m) and (b - u m, t, k) for any u; with u = ceil(b /
 * m) nothing stays nothing between them. If g divides m and t, they are (a, s, m/g) and (floor(b / g), t/g, k).
 */
#include "cylstm.h"
#include "model/axes.h"
#include "model/model.h"
#include "platform/memory.h"

#include <stdlib.h>

/* the most steps of an input up to which the lengths of two axes are compared */
#define CYL_MOST_COMPARED ((int64_t)1 << 15)

int64_t cyl_common_divisor(int64_t a, int64_t b) {
    while (b) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

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

/* the steps after which an axis has a whole number of steps more; 0 if they are more than most */
static int64_t period_of(const CylTimeAxis *axis, int64_t most) {
    int64_t period = 1;
    for (int32_t r = 0; r < axis->rule_count && period > 0; r++) {
        period = period * axis->rules[r].divide > most ? 0 : period * axis->rules[r].divide;
    }
    return period;
}

CylStatus cyl_axis_lead(const CylModel *model, int32_t axis, int32_t other, int64_t *least, int64_t *most) {
    const CylTimeAxis *a = &model->axes[axis], *b = &model->axes[other];
    const int64_t first = period_of(a, CYL_MOST_COMPARED), second = period_of(b, CYL_MOST_COMPARED);
    if (a->input != b->input || !first || !second) {
        return CYL_E_VALUE;
    }
    const int64_t period = first / cyl_common_divisor(first, second) * second;
    const int64_t one = cyl_axis_settles(model, axis), two = cyl_axis_settles(model, other);
    const int64_t end = (one > two ? one : two) + 2 * period;
    if (end > CYL_MOST_COMPARED) {
        return CYL_E_VALUE;
    }
    *least = INT64_MAX;
    *most = INT64_MIN;
    int64_t before = 0;
    for (int64_t steps = 0; steps <= end; steps++) {
        const int64_t of_other = cyl_axis_after(model, other, steps);
        const int64_t lead = cyl_axis_after(model, axis, steps) - of_other;
        *least = of_other > 0 && lead < *least ? lead : *least;
        *most = lead > *most ? lead : *most;
        if (steps == end - period) {
            before = lead;
        } else if (steps == end && lead != before) {
            return CYL_E_VALUE;
        }
    }
    return CYL_OK;
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

static bool is_identity(const CylTimeRule *rule) { return rule->add == 0 && rule->divide == 1 && rule->multiply == 1; }

static bool fits(const CylTimeRule *rule) {
    return rule->divide >= 1 && rule->divide <= (1 << 24) && rule->multiply >= 1 && rule->multiply <= CYL_LONGEST &&
           rule->add <= CYL_LONGEST && rule->add >= -CYL_LONGEST;
}

/* floor(a / b) of a positive b */
static int64_t floor_divided(int64_t a, int64_t b) { return a / b - (a % b < 0); }

CylStatus cyl_axis_derive(CylModel *model, int32_t from, CylTimeRule rule, int32_t *axis) {
    if (!fits(&rule)) {
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
    while (derived.rule_count > 0 && !is_identity(&rule)) {
        CylTimeRule *last = &derived.rules[derived.rule_count - 1];
        const int64_t shared = cyl_common_divisor(last->multiply, rule.divide), multiply = last->multiply / shared;
        const int64_t add = floor_divided(rule.add, shared), more = -floor_divided(-add, multiply);
        if (more > CYL_LONGEST / last->divide || more < -CYL_LONGEST / last->divide) {
            return CYL_E_OPTION;
        }
        *last = (CylTimeRule){last->add + more * last->divide, last->divide, multiply};
        rule = (CylTimeRule){add - more * multiply, rule.divide / shared, rule.multiply};
        if (multiply > 1) {
            if (rule.divide == 1 && last->multiply <= CYL_LONGEST / rule.multiply) {
                last->multiply *= rule.multiply;
                rule = (CylTimeRule){rule.add * rule.multiply, 1, 1};
            }
            break;
        }
        rule = (CylTimeRule){last->add, last->divide * rule.divide, rule.multiply};
        *last = (CylTimeRule){0, 0, 0};
        derived.rule_count--;
        if (!fits(&rule)) {
            return CYL_E_OPTION;
        }
    }
    if (!is_identity(&rule)) {
        if (derived.rule_count == CYL_MAX_TIME_RULES) {
            return CYL_E_OPTION;
        }
        derived.rules[derived.rule_count++] = rule;
    }
    for (int32_t r = 0; r < derived.rule_count; r++) {
        if (!fits(&derived.rules[r])) {
            return CYL_E_OPTION;
        }
    }
    return find_axis(model, &derived, axis);
}
