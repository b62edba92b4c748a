"""Parts of networks: the same bits as in the whole, and errors that say which names there are."""

import numpy as np
import pytest

import cylstm
from cylstm.graph.builder import GraphBuilder

RNG = np.random.default_rng(17)
FEATURES, HIDDEN, WORDS = 3, 6, 5


def arrays(*shapes):
    return [(0.5 * RNG.standard_normal(shape)).astype(np.float32) for shape in shapes]


def lstm(builder, name, x, size, hidden, **inputs):
    roles = ("weight_ih", "weight_hh", "bias")
    weights = dict(zip(roles, arrays((4 * hidden, size), (4 * hidden, hidden), (4 * hidden,)), strict=True))
    return builder.add("lstm", name, {"x": x, **inputs}, weights)


def dense(builder, name, x, size, units):
    weights = dict(zip(("weight", "bias"), arrays((units, size), (units,)), strict=True))
    return builder.add("dense", name, {"x": x}, weights)["y"]


def translator(masked=False):
    """An encoder whose last states a decoder starts from, and two layers behind it."""
    builder = GraphBuilder()
    x, words = builder.input("x", (None, FEATURES)), builder.input("words", (None, WORDS))
    if masked:
        x = builder.add("masking", "masking", {"x": x}, options={"mask_value": 0.0})["y"]
    first = lstm(builder, "first", x, FEATURES, 4)
    encoder = lstm(builder, "encoder", first["y"], 4, HIDDEN)
    decoder = lstm(builder, "decoder", words, WORDS, HIDDEN, h0=encoder["h"], c0=encoder["c"])
    hidden = dense(builder, "hidden", decoder["y"], HIDDEN, 7)
    hidden = builder.add("dropout", "drop", {"x": hidden}, options={"rate": 0.5})["y"]
    builder.output(builder.add("activation", "soft", {"x": dense(builder, "out", hidden, 7, WORDS)},
                               options={"activation": "softmax"})["y"])  # fmt: skip
    return cylstm.Model(builder.build({"units": "words"}))


def data(steps=8):
    x = RNG.standard_normal((3, steps, FEATURES)).astype(np.float32)
    return x, RNG.standard_normal((3, 5, WORDS)).astype(np.float32)


def split(model):
    encoder = model.extract(outputs=["encoder.h", "encoder.c"])
    decoder = model.extract(["words", "encoder.h", "encoder.c"], ["soft", "decoder.h", "decoder.c"])
    return encoder, decoder


def test_an_encoder_and_a_decoder_give_the_bits_of_the_whole():
    model = translator()
    x, words = data()
    encoder, decoder = split(model)
    assert encoder.inputs == ("x",) and decoder.inputs == ("words", "encoder.h", "encoder.c")
    whole = model.predict([x, words])
    y, _, _ = decoder.predict([words, *encoder.predict(x)])
    assert (y == whole).all()


def test_a_decoder_goes_on_from_its_own_states():
    model = translator()
    x, words = data()
    encoder, decoder = split(model)
    states = encoder.predict(x)
    found = []
    for t in range(words.shape[1]):
        y, *states = decoder.predict([words[:, t : t + 1], *states])
        found.append(y)
    assert (np.concatenate(found, axis=1) == model.predict([x, words])).all()


def test_features_of_a_layer_are_those_of_the_trace():
    model = translator()
    x, words = data()
    part = model.extract(outputs="hidden")
    assert part.inputs == ("x", "words") and part.outputs == ("hidden",)
    rest = model.extract("hidden")
    assert (rest.predict(part.predict([x, words])) == model.predict([x, words])).all()
    assert [layer.name for layer in rest.graph.layers] == ["drop", "out", "soft"]


def test_a_part_has_its_own_weights_metadata_and_options_alone(tmp_path):
    model = cylstm.Model(translator().graph, weights="float16")
    encoder, decoder = split(model)
    assert encoder.graph.parameters() + decoder.graph.parameters() == model.graph.parameters()
    assert encoder.metadata == {"units": "words"} and decoder.provenance["part"]["outputs"][0] == "soft"
    assert {name for name, _ in encoder.graph.weight_types} == {"first", "encoder"}
    x, words = data()
    decoder.save(tmp_path / "decoder.cylstm")
    again = cylstm.load(tmp_path / "decoder.cylstm")
    assert (again.predict([words, *encoder.predict(x)])[0] == model.predict([x, words])).all()


def test_a_part_keeps_what_is_said_of_its_own_layers_alone():
    graph = translator().graph
    noise = {"encoder": {"dropout": 0.25}, "decoder": {"recurrent_dropout": 0.5}}
    model = cylstm.Model(graph._replace(stateful=("encoder", "decoder"), noise=noise))
    encoder = model.extract("x", ["encoder.h", "encoder.c"]).graph
    assert (encoder.stateful, dict(encoder.noise)) == (("encoder",), {"encoder": noise["encoder"]})


def test_a_part_of_a_double_model_is_double():
    model = cylstm.Model(translator().graph, dtype="float64")
    encoder, decoder = split(model)
    x, words = data()
    y = decoder.predict([words, *encoder.predict(x)])[0]
    assert y.dtype == np.float64 and (y == model.predict([x, words])).all()


def test_a_mask_that_a_layer_computed_is_given_to_the_part_and_said_so():
    model = translator(masked=True)
    x, _ = data()
    x[1, 5:] = 0.0
    first = model.extract("x", ["first"])
    with pytest.warns(cylstm.CylstmWarning, match="which steps of 'first' count is found by layer 'masking'"):
        second = model.extract(["first"], ["encoder.h", "encoder.c"])
    states = second.predict(first.predict(x), lengths=[8, 5, 8])
    whole = model.extract("x", ["encoder.h", "encoder.c"]).predict(x)
    for a, b in zip(states, whole, strict=True):
        assert (a == b).all()
    assert (second.predict(first.predict(x))[0] != whole[0]).any()


def test_the_mask_of_an_input_stays_with_it():
    model = translator()
    x, _ = data()
    encoder, _ = split(model)
    states = encoder.predict(x, lengths=[8, 5, 3])
    alone = [encoder.predict(x[k : k + 1, :n]) for k, n in enumerate((8, 5, 3))]
    assert all((states[i][k] == alone[k][i][0]).all() for i in range(2) for k in range(3))


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        (None, ["hiden"], "outputs: no layer and no value is named 'hiden'; near: 'hidden'; there are 'x', 'words', "),
        (["y"], ["soft"], "inputs: no layer and no value is named 'y'"),
        (["words"], ["soft"], "'soft' also depends on 'x'; name that too, or a value between; given are 'words'"),
        (["words", "encoder.h"], ["soft"], "'soft' also depends on 'x'"),
        (["x", "words"], ["encoder.h"], "inputs: 'words' is not needed for 'encoder.h'"),
        (["x"], ["x"], "outputs: 'x' is an input too"),
        (None, ["x"], "outputs: 'x' is an input too"),
        (None, [], "outputs: expected a list of names"),
        (None, [3], "outputs: expected a list of names"),
        (None, ["soft", "soft"], "outputs: a name twice"),
        (None, ["x.mask"], "'x.mask' is a mask"),
        (3, None, "inputs: expected a list of names, found 3"),
    ],
)
def test_a_cut_that_is_none_is_refused_with_the_names_that_there_are(inputs, outputs, message):
    with pytest.raises(cylstm.ArgumentError, match=message):
        translator().extract(inputs, outputs)


def test_the_whole_is_a_part_of_itself():
    model = translator()
    x, words = data()
    part = model.extract()
    assert part.inputs == model.inputs and part.outputs == model.outputs
    assert (part.predict([x, words]) == model.predict([x, words])).all()


def test_axes_of_a_user_stay_those_of_the_part():
    builder = GraphBuilder()
    x = builder.input("x", (None, FEATURES))
    y = dense(builder, "a", x, FEATURES, 4)
    builder.output(y)
    builder.output(dense(builder, "b", y, 4, 2))
    model = cylstm.Model(builder.build()._replace(layouts={"x": "10", "a": "10"}))
    x, _ = data()
    x = np.swapaxes(x, 1, 2).copy()
    a, b = model.predict(x)
    assert a.shape == (3, 4, 8) and (model.extract(outputs="a").predict(x) == a).all()
    assert (model.extract("a", "b").predict(a) == b).all()


def test_a_layer_that_reads_no_mask_reads_none_in_a_part():
    builder = GraphBuilder()
    x = builder.input("x", (None, FEATURES))
    first = lstm(builder, "first", x, FEATURES, 4)["y"]
    builder.output(lstm(builder, "second", first, 4, 3, mask=None)["y"])
    model = cylstm.Model(builder.build())
    assert [dict(layer.inputs) for layer in model.extract().graph.layers] == [
        {"x": "x", "mask": "x.mask"},
        {"x": "first"},
    ]


def test_two_values_of_one_time_are_inputs_of_one_time():
    builder = GraphBuilder()
    x = builder.input("x", (None, FEATURES))
    a = lstm(builder, "a", x, FEATURES, 4)["y"]
    b = lstm(builder, "b", x, FEATURES, 4)["y"]
    builder.output(builder.add("merge", "added", {"x": a, "x1": b}, options={"mode": "sum"})["y"])
    model = cylstm.Model(builder.build())
    x, _ = data()
    first, second = model.extract("x", ["a", "b"]), model.extract(["a", "b"])
    a, b = first.predict(x)
    assert (second.predict([a, b]) == model.predict(x)).all()
    with pytest.raises(cylstm.ShapeError, match="steps"):
        second.predict([a, b[:, :4]])


def test_a_value_of_a_fixed_number_of_steps_is_an_input_of_as_many():
    builder = GraphBuilder()
    x = builder.input("x", (6,))
    square = builder.add("reshape", "square", {"x": x}, options={"shape": "2,3"})["y"]
    builder.output(dense(builder, "fc", square, 3, 4))
    model = cylstm.Model(builder.build())
    x = RNG.standard_normal((3, 6)).astype(np.float32)
    assert (model.extract("square").predict(x.reshape(3, 2, 3)) == model.predict(x)).all()
