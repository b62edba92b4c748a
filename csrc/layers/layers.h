/* All kinds of layers (layers.def). */
#ifndef CYL_LAYERS_LAYERS_H
#define CYL_LAYERS_LAYERS_H

#include "model/model.h"

#define CYL_LAYER(kind) extern const CylLayerKind cyl_layer_##kind;
#include "layers/layers.def"

#endif
