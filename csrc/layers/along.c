/* Layers along one axis: how a value lies around it, and how threads share its lines. */
#include "layers/along.h"

#include "cylstm.h"
#include "model/model.h"
#include "model/spec.h"
#include "model/status.h"
#include "run/stop.h"
#include "run/workspace.h"

CylStatus cyl_along_read(const CylModel *model, const CylLayer *layer, const CylLayerSpec *spec, CylAlong *along) {
    const CylValue *x = &model->values[layer->x];
    CYL_TRY(cyl_spec_whole(spec, "axis", 0, x->rank + x->has_time - 1, &along->axis));
    const int32_t axis = along->axis;
    along->over_time = x->has_time && axis == 0;
    along->outer = along->inner = 1;
    for (int32_t i = 0; i < x->rank; i++) {
        int32_t at = i + x->has_time;
        if (at < axis) {
            along->outer *= x->shape[i];
        } else if (at > axis) {
            along->inner *= x->shape[i];
        } else {
            along->size = x->shape[i];
        }
    }
    return CYL_OK;
}

/* how often CYL_LINES lines are taken for one piece */
static int64_t groups_of(const CylAlong *along) { return (along->outer * along->inner + CYL_LINES - 1) / CYL_LINES; }

CylLines cyl_along_lines(const CylAlong *along, int64_t pieces, int64_t j) {
    int64_t groups = groups_of(along), group = j % groups, lines = along->outer * along->inner;
    CylLines found = {.row = j / groups / pieces, .piece = j / groups % pieces, .first = group * CYL_LINES};
    found.count = (int32_t)(lines - found.first < CYL_LINES ? lines - found.first : CYL_LINES);
    return found;
}

int64_t cyl_along_items(CylItems *items, const CylAlong *along, const CylLayer *layer, const CylWorkspace *workspace,
                        const CylTeam *team) {
    int64_t pieces = cyl_along_pieces(along, layer, workspace), size = cyl_along_size(along, layer, workspace);
    return cyl_items(items, workspace, team, workspace->rows * pieces * groups_of(along), size * CYL_LINES);
}
