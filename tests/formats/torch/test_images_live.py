"""Convolutions, poolings and normalisations of images, and of steps that are rows, against PyTorch."""

import copy

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError
from cylstm.formats.torch.live import convert_module

torch = pytest.importorskip("torch")
nn = torch.nn
F = nn.functional

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]


class Net(nn.Module):
    """A function of a tensor as a module."""

    def __init__(self, function, layer=None):
        super().__init__()
        self.function = function
        self.layer = layer

    def forward(self, x):
        return self.function(x) if self.layer is None else self.function(self.layer, x)


def randomised(net):
    generator = torch.Generator().manual_seed(3)
    for parameter in net.parameters():
        parameter.data.uniform_(-0.8, 0.8, generator=generator)
    for buffer in net.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.3, 1.5, generator=generator)
    return net.eval()


def check(net, shape, *inputs):
    """What is predicted is what PyTorch gives in float64; the comparison of `from_torch` is left out, as files do."""
    net = randomised(net)
    x = np.random.default_rng(sum(shape)).normal(size=(3, *shape)).astype(np.float32)
    with torch.no_grad():
        expected = copy.deepcopy(net).double()(torch.from_numpy(x).double()).numpy()
    for given in inputs:
        model = cylstm.Model(convert_module(net, [("N", *given)])[0])
        found = model.predict(x)
        assert found.shape == expected.shape, given
        np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * max(1.0, np.abs(expected).max()))


def apply(layer, x):
    return layer(x)


#: name -> function, its layer, shape without batch; each with known sizes, and with rows and columns of any number
IMAGES = {
    "conv": (apply, nn.Conv2d(3, 5, (3, 2), (2, 1), (1, 2), (1, 2)), (3, 9, 8)),
    "conv same": (apply, nn.Conv2d(3, 5, (3, 4), 1, "same"), (3, 9, 8)),
    "conv in groups": (apply, nn.Conv2d(4, 6, (3, 2), (1, 2), groups=2, bias=False), (4, 9, 8)),
    "conv depthwise": (apply, nn.Conv2d(4, 8, (3, 2), groups=4, padding=(2, 0)), (4, 9, 8)),
    "causal rows": (lambda c, x: c(F.pad(x, (1, 1, 2, 0))), nn.Conv2d(4, 6, 3), (4, 9, 8)),
    "causal columns": (lambda c, x: c(F.pad(x, (2, 0, 1, 1))), nn.Conv2d(4, 6, 3), (4, 9, 8)),
    "rows cut off": (lambda c, x: c(x)[:, :, :-2], nn.Conv2d(4, 6, 3, padding=(2, 1)), (4, 9, 8)),
    "columns cut off": (lambda c, x: c(x)[:, :, :, :-2], nn.Conv2d(4, 6, 3, padding=(1, 2)), (4, 9, 8)),
    "spectrogram": (lambda c, x: c(x[:, None]), nn.Conv2d(1, 4, (5, 3), padding=(0, 1)), (9, 8)),
    "transposed": (
        apply,
        nn.ConvTranspose2d(4, 6, (3, 4), (2, 3), (1, 0), (1, 2), groups=2, dilation=(1, 2)),
        (4, 9, 8),
    ),
    "max": (lambda x: F.max_pool2d(x, (3, 2), (2, 3), (1, 1)), None, (4, 9, 8)),
    "max ceil_mode": (lambda x: F.max_pool2d(x, 3, 2, (1, 0), ceil_mode=True), None, (4, 9, 8)),
    "max dilation": (lambda x: F.max_pool2d(x, 2, 1, 1, dilation=2), None, (4, 9, 8)),
    "max of all rows": (lambda x: F.max_pool2d(x, (x.shape[2], 1)), None, (4, 9, 8)),
    "average": (lambda x: F.avg_pool2d(x, (3, 2), (2, 3), (1, 1)), None, (4, 9, 8)),
    "average without padding": (
        lambda x: F.avg_pool2d(x, (3, 2), (2, 3), (1, 1), count_include_pad=False),
        None,
        (4, 9, 8),
    ),
    "average ceil_mode": (lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), None, (4, 8, 10)),
    "average ceil_mode without padding": (
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        None,
        (4, 8, 10),
    ),
    "average with a divisor": (lambda x: F.avg_pool2d(x, (3, 2), (2, 1), (1, 0), divisor_override=5), None, (4, 9, 8)),
    "average of all": (lambda x: F.avg_pool2d(x, x.shape[2:]), None, (4, 9, 8)),
    "lp": (lambda x: F.lp_pool2d(x, 2, 3, 2), None, (4, 9, 8)),
    "adaptive average to one": (lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1), None, (4, 9, 8)),
    "adaptive maximum of the columns": (lambda x: F.adaptive_max_pool2d(x, (None, 1)), None, (4, 9, 8)),
    "adaptive average of the rows": (lambda x: F.adaptive_avg_pool2d(x, (1, None)), None, (4, 9, 8)),
    "batch norm": (apply, nn.BatchNorm2d(4), (4, 9, 8)),
    "group norm": (apply, nn.GroupNorm(2, 4), (4, 9, 8)),
    "instance norm": (apply, nn.InstanceNorm2d(4, affine=True), (4, 9, 8)),
    "prelu": (apply, nn.PReLU(4), (4, 9, 8)),
    "dropout": (apply, nn.Dropout2d(), (4, 9, 8)),
    "zeros": (apply, nn.ZeroPad2d((1, 2, 3, 0)), (4, 9, 8)),
    "replicate": (apply, nn.ReplicationPad2d((1, 2, 3, 0)), (4, 9, 8)),
    "constant": (lambda x: F.pad(x, (1, 2, 3, 0), value=1.5), None, (4, 9, 8)),
    "upsample": (lambda x: F.interpolate(x, scale_factor=(3, 2)), None, (4, 9, 8)),
    "pixel shuffle": (lambda x: F.pixel_shuffle(x, 2), None, (12, 4, 5)),
}
#: those that need to know the sizes
FIXED = {
    "reflect": (apply, nn.ReflectionPad2d((1, 2, 3, 0)), (4, 9, 8)),
    "conv reflect": (apply, nn.Conv2d(4, 8, (3, 5), padding=(1, 2), padding_mode="reflect"), (4, 9, 8)),
    "conv of circular columns": (apply, nn.Conv2d(1, 4, (1, 3), padding=(0, 1), padding_mode="circular"), (1, 9, 8)),
    "adaptive average": (lambda x: F.adaptive_avg_pool2d(x, (4, 3)), None, (4, 9, 8)),
    "upsample to a size": (lambda x: F.interpolate(x, size=(18, 24)), None, (4, 9, 8)),
    "nearest of other sizes": (lambda x: F.interpolate(x, size=(5, 20)), None, (4, 9, 8)),
    "nearest by factors": (lambda x: F.interpolate(x, scale_factor=(1.5, 0.7)), None, (4, 9, 8)),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), None, (4, 9, 8)),
    "bilinear to a size": (lambda x: F.interpolate(x, size=(5, 20), mode="bilinear"), None, (4, 9, 8)),
    "bilinear from corner to corner": (
        lambda x: F.interpolate(x, scale_factor=(1.7, 3), mode="bilinear", align_corners=True),
        None,
        (4, 9, 8),
    ),
    "pixel unshuffle": (lambda x: F.pixel_unshuffle(x, 2), None, (3, 4, 6)),
    "pixel shuffle of more axes": (lambda x: F.pixel_shuffle(x, 2), None, (2, 12, 4, 5)),
    "pixel unshuffle of more axes": (lambda x: F.pixel_unshuffle(x, 2), None, (2, 3, 4, 6)),
    "a batch taken as channels": (lambda x: F.max_pool2d(x, 2), None, (9, 8)),
    # the last window, of ceil_mode, begins within the image for these sizes and not for any
    "max ceil_mode with gaps": (lambda x: F.max_pool2d(x, 2, (4, 5), ceil_mode=True), None, (4, 9, 8)),
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_gives_torchs_numbers_with_sizes_known_or_open(name):
    function, layer, shape = IMAGES[name]
    check(Net(function, layer), shape, shape, (*shape[:-2], "T", shape[-1]), (*shape[:-1], "T"))


@pytest.mark.parametrize("name", FIXED)
def test_an_image_of_known_sizes_gives_torchs_numbers(name):
    function, layer, shape = FIXED[name]
    check(Net(function, layer), shape, shape)


#: name -> function, its layer, shape of one step
STEPS = {
    "conv2d": (apply, nn.Conv2d(2, 5, (3, 2), (2, 1), (1, 2)), (2, 9, 8)),
    "conv2d, batch norm and pool": (
        lambda m, x: F.max_pool2d(m(x), 2),
        nn.Sequential(nn.Conv2d(2, 5, (3, 2)), nn.BatchNorm2d(5), nn.ReLU()),
        (2, 9, 8),
    ),
    "transposed 2d": (apply, nn.ConvTranspose2d(2, 5, (3, 2), (2, 1), (1, 0)), (2, 9, 8)),
    "adaptive": (lambda x: F.adaptive_avg_pool2d(x, (2, 1)), None, (3, 9, 8)),
    "upsample": (lambda x: F.interpolate(x, scale_factor=2), None, (2, 3, 4)),
    "conv1d": (apply, nn.Conv1d(6, 4, 3, 2, 1), (6, 7)),
    "transposed 1d": (apply, nn.ConvTranspose1d(6, 4, 3, 2), (6, 7)),
    "max 1d": (lambda x: F.max_pool1d(x, 3, 2), None, (6, 7)),
    "group norm of images": (apply, nn.GroupNorm(2, 4), (4, 3, 5)),
    "group norm of sequences": (apply, nn.GroupNorm(2, 6), (6, 7)),
    "group norm of rows": (apply, nn.GroupNorm(3, 6), (6,)),
    "instance norm": (apply, nn.InstanceNorm1d(6, affine=True), (6, 7)),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_that_are_rows_are_each_computed_for_itself(name):
    function, layer, shape = STEPS[name]

    def by_step(*given):
        x = given[-1]
        y = function(*given[:-1], x.reshape(-1, *x.shape[2:]))
        return y.reshape(x.shape[0], x.shape[1], -1)

    check(Net(by_step, layer), (5, *shape), (5, *shape), ("T", *shape))


def test_a_sequence_of_any_length_keeps_its_time_beside_rows_of_known_number():
    conv = nn.Conv1d(1, 4, 3, padding=1)

    def each(layer, x):
        return layer(x.reshape(x.shape[0] * x.shape[1], 1, x.shape[2])).reshape(x.shape[0], x.shape[1], 4, x.shape[2])

    check(Net(each, conv), (5, 7), (5, "T"))


@pytest.mark.parametrize(
    "options",
    [{"kernel_size": 4, "stride": 2}, {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
     {"kernel_size": 2, "stride": 3, "groups": 3, "dilation": 2}],
)  # fmt: skip
def test_transposed_convolutions_over_time_are_torchs(options):
    check(Net(apply, nn.ConvTranspose1d(6, 9, **options)), (6, 11), (6, 11), (6, "T"))


def test_a_known_number_of_steps_is_cut_off_once():
    check(Net(lambda c, x: c(x)[:, :, :-2], nn.Conv1d(3, 4, 3, padding=2)), (3, 11), (3, 11), (3, "T"))


def test_steps_made_of_features_are_a_time_of_its_own():
    def shuffled(conv, x):
        return conv(x.reshape(x.shape[0], 2, 3, x.shape[2]).permute(0, 1, 3, 2).reshape(x.shape[0], 2, -1))

    check(Net(shuffled, nn.Conv1d(2, 3, 3)), (6, 5), (6, 5), (6, "T"))


def random_layer(rng, channels):
    """A layer of images of so many channels, and how many its result has."""
    pick = lambda *choices: choices[rng.integers(len(choices))]  # noqa: E731
    pair = lambda least, most: tuple(int(one) for one in rng.integers(least, most + 1, 2))  # noqa: E731
    filters, kernel = int(rng.integers(1, 5)), pair(1, 3)
    pads = tuple(int(rng.integers(0, one // 2 + 1)) for one in kernel)
    groups = pick(1, channels)
    kind = pick("conv", "transposed", "max", "average", "norm", "group norm", "up", "prelu", "pad")
    if kind == "conv":
        same = pick(True, False)
        options = {"padding": "same"} if same else {"padding": pads, "stride": pair(1, 2)}
        return nn.Conv2d(
            channels, groups * filters, kernel, dilation=pair(1, 2), groups=groups, **options
        ), groups * filters
    if kind == "transposed":
        options = {"stride": pair(1, 3), "padding": pads, "groups": groups, "dilation": pair(1, 2)}
        return nn.ConvTranspose2d(channels, groups * filters, kernel, **options), groups * filters
    if kind in ("max", "average"):
        layer = nn.MaxPool2d if kind == "max" else nn.AvgPool2d
        return layer(kernel, pick(None, 1, 2), pads), channels
    layers = {
        "norm": nn.BatchNorm2d(channels),
        "group norm": nn.GroupNorm(pick(1, channels), channels),
        "up": nn.Upsample(scale_factor=pair(1, 2)),
        "prelu": nn.PReLU(channels),
        "pad": nn.ZeroPad2d((*pair(0, 2), *pair(0, 2))),
    }
    return layers[kind], channels


@pytest.mark.parametrize("seed", range(24))
def test_random_layers_of_images_one_after_the_other_give_torchs_numbers(seed):
    rng = np.random.default_rng(seed)
    channels, layers = int(rng.integers(1, 4)), []
    shape = (channels, 13, 14)
    for _ in range(rng.integers(3, 6)):
        layer, channels = random_layer(rng, channels)
        layers += [layer, nn.Tanh()]
    net = nn.Sequential(*layers)
    try:
        net.eval()(torch.zeros(3, *shape))
    except RuntimeError:
        pytest.skip("too small for PyTorch")
    open_axis = (*shape[:-2], "T", shape[-1]) if seed % 2 else (*shape[:-1], "T")
    frames = Net(lambda net, x: net(x.reshape(-1, *x.shape[2:])).reshape(x.shape[0], x.shape[1], -1), net)
    try:
        check(net, shape, shape, open_axis)
        check(frames, (4, *shape), ("T", *shape))
    except CylstmError as error:
        # an axis follows from the time by a few rules only
        assert "rules" in str(error) or "number of steps" in str(error), error


def test_a_module_of_images_that_is_given_no_shape_says_how_to_give_it():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(7, 2))
    with pytest.raises(CylstmError, match=r"for example inputs=\[\('N', 3, 32, 'T'\)\] of \(batch, channels, rows"):
        cylstm.from_torch(net.eval())


@pytest.mark.parametrize(
    "function, layer, message",
    [
        (lambda x: F.avg_pool2d(x, 3, 2, (1, 0), True, divisor_override=5), None, "divisor_override with windows"),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), None, "mode='bicubic' is not supported"),
        (lambda x: F.max_pool2d(x, 2, return_indices=True)[1], None, "return_indices is not supported"),
        (lambda c, x: c(x[:, :, :, None]), nn.Conv3d(4, 2, (3, 1, 2)), "over volumes"),
        (
            lambda x: F.interpolate(F.interpolate(x, size=(3000, 8)), size=(6000, 8), mode="bilinear"),
            None,
            "interpolation of 3000 steps to 6000 is",
        ),
    ],
)
def test_what_is_not_computed_is_refused_by_name(function, layer, message):
    with pytest.raises(CylstmError, match=message):
        convert_module(randomised(Net(function, layer)), [("N", 4, 9, 8)])


class Cut(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.down, self.up = nn.Conv1d(3, 4, 2, 2), nn.ConvTranspose1d(4, 3, 3, 2)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def test_what_comes_back_may_be_cut_to_the_steps_of_the_input():
    module = randomised(Cut(lambda m, x: x + m.up(m.down(x))[..., : x.shape[-1]]))
    model = cylstm.from_torch(module)
    for time in range(2, 12):
        x = np.random.default_rng(time).standard_normal((3, 3, time)).astype("f")
        with torch.no_grad():
            np.testing.assert_allclose(model.predict(x), module(torch.from_numpy(x)).numpy(), rtol=0, atol=1e-5)


def test_a_network_that_needs_its_number_of_steps_says_how_with_its_own_shape():
    module = Cut(lambda m, x: m.down(x[..., : x.shape[-1] // 5 * 5])).eval()
    for given in ({}, {"inputs": [("N", 3, "T")]}):
        with pytest.raises(cylstm.ShapeError, match=r"from_torch\(module, inputs=\[\('N', 3, 20\)\]\)"):
            cylstm.from_torch(module, **given)
    assert cylstm.from_torch(module, inputs=[("N", 3, 20)]).predict(np.ones((2, 3, 20), "f")).shape == (2, 4, 10)
