/* The kinds of layers by name. */
#include "layers/layers.h"

#include <string.h>

static const struct {
    const char *name;
    const CylLayerKind *kind;
} kinds[] = {
#define CYL_LAYER(kind) {#kind, &cyl_layer_##kind},
#include "layers/layers.def"
};

const CylLayerKind *cyl_layer_kind(const char *name) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return kinds[i].kind;
        }
    }
    return NULL;
}
