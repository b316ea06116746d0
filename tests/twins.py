"""Networks for tests: narrow ones, ones in float64, their weights in PyTorch's modules, and a batch learned by heart."""

import numpy as np
from tolerances import assert_close

import minicnn
from minicnn import functional, models, nn, optim
from minicnn.models.alexnet import form_of as alexnet_form
from minicnn.models.googlenet import GoogLeNet
from minicnn.models.googlenet import form_of as googlenet_form
from minicnn.models.network import narrow, with_hidden_layers
from minicnn.models.nin import form_of as nin_form
from minicnn.models.nin import of_rows
from minicnn.models.resnet import form_of as resnet_form
from minicnn.models.resnet import of_form
from minicnn.models.vgg import form_of as vgg_form
from minicnn.tensor import GradSlot

VGG_LETTERS = {"vgg11": "a", "vgg13": "b", "vgg16": "d", "vgg19": "e"}


def network(name: str, image_size: int, divisor: int, hidden=12, num_classes=10, in_channels=3, **options):
    """The network `name` with a `divisor`-th of its filters and no dropout; for AlexNet and VGG, `hidden` units a hidden
    layer. LeNets are narrow as they are."""
    options |= {"num_classes": num_classes, "image_size": image_size, "in_channels": in_channels, "dropout": 0.0}
    if name.startswith("lenet"):
        made = models.find(name)(num_classes, image_size, in_channels)
    elif name == "nin":
        form, rows = nin_form(image_size)
        made = of_rows(name, form, narrow(rows, divisor), options)
    elif name.startswith("googlenet"):
        made = GoogLeNet(name, googlenet_form(name, image_size).narrowed(divisor), options)
    elif name.startswith(("resnet", "plain")):
        options = ({"shortcut": "B"} if name.startswith("resnet") else {}) | options
        made = of_form(name, resnet_form(image_size).narrowed(divisor), options)
    else:
        letter = VGG_LETTERS.get(name.removesuffix("_bn"), name.removeprefix("vgg_"))
        is_vgg, batch_norm = name.startswith("vgg"), name.endswith("_bn")
        form = vgg_form(letter, image_size, batch_norm) if is_vgg else alexnet_form(name, image_size)
        form = form._replace(features=narrow(form.features, divisor), hidden=hidden)
        made = with_hidden_layers(name, form, options)
    return without_dropout(made)


# torchvision/models/googlenet.py: what its inception modules are given.
MODULES = {
    "inception3a": (192, 64, 96, 128, 16, 32, 32),
    "inception3b": (256, 128, 128, 192, 32, 96, 64),
    "inception4a": (480, 192, 96, 208, 16, 48, 64),
    "inception4b": (512, 160, 112, 224, 24, 64, 64),
    "inception4c": (512, 128, 128, 256, 24, 64, 64),
    "inception4d": (512, 112, 144, 288, 32, 64, 64),
    "inception4e": (528, 256, 160, 320, 32, 128, 128),
    "inception5a": (832, 256, 160, 320, 32, 128, 128),
    "inception5b": (832, 384, 192, 384, 48, 128, 128),
}


def torchvision_googlenet(torch, divisor=1, classes=1000, heads=True, channels_last=False):
    """torchvision/models/googlenet.py by its layers' names, with a divisor-th of the filters and without dropout; in training
    the heads' logits in their order. channels_last: fc1 reads its map in our order, not in PyTorch's."""
    t = torch.nn

    class BasicConv2d(t.Module):
        def __init__(self, inputs, outputs, kernel_size, **options):
            super().__init__()
            self.conv = t.Conv2d(inputs, outputs, kernel_size, bias=False, **options)
            self.bn = t.BatchNorm2d(outputs, eps=0.001)

        def forward(self, x):
            return torch.relu(self.bn(self.conv(x)))

    class Inception(t.Module):
        def __init__(self, inputs, direct, reduce3, out3, reduce5, out5, projected):
            super().__init__()
            self.branch1 = BasicConv2d(inputs, direct, 1)
            self.branch2 = t.Sequential(BasicConv2d(inputs, reduce3, 1), BasicConv2d(reduce3, out3, 3, padding=1))
            self.branch3 = t.Sequential(BasicConv2d(inputs, reduce5, 1), BasicConv2d(reduce5, out5, 3, padding=1))
            self.branch4 = t.Sequential(t.MaxPool2d(3, 1, 1, ceil_mode=True), BasicConv2d(inputs, projected, 1))

        def forward(self, x):
            return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)

    class InceptionAux(t.Module):
        def __init__(self, inputs):
            super().__init__()
            self.conv = BasicConv2d(inputs, 128 // divisor, 1)
            self.fc1, self.fc2 = t.Linear(2048 // divisor, 1024 // divisor), t.Linear(1024 // divisor, classes)

        def forward(self, x):
            x = self.conv(t.functional.adaptive_avg_pool2d(x, (4, 4)))
            x = x.permute(0, 2, 3, 1) if channels_last else x
            return self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))

    class GoogLeNet(t.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = BasicConv2d(3, 64 // divisor, 7, stride=2, padding=3)
            self.conv2 = BasicConv2d(64 // divisor, 64 // divisor, 1)
            self.conv3 = BasicConv2d(64 // divisor, 192 // divisor, 3, padding=1)
            for name, filters in MODULES.items():
                setattr(self, name, Inception(*(count // divisor for count in filters)))
            self.fc = t.Linear(1024 // divisor, classes)
            if heads:
                self.aux1, self.aux2 = InceptionAux(512 // divisor), InceptionAux(528 // divisor)

        def forward(self, x):
            pool = t.MaxPool2d(3, stride=2, ceil_mode=True)
            x = pool(self.conv3(self.conv2(pool(self.conv1(x)))))
            a = self.inception4a(pool(self.inception3b(self.inception3a(x))))
            d = self.inception4d(self.inception4c(self.inception4b(a)))
            x = t.functional.max_pool2d(self.inception4e(d), 2, stride=2, ceil_mode=True)
            logits = self.fc(self.inception5b(self.inception5a(x)).mean((2, 3)))
            return (logits, self.aux1(a), self.aux2(d)) if heads and self.training else logits

    return GoogLeNet()


def without_dropout(model):
    for _, layer in model.named_modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return model


def as_float64(model):
    """Parameters, their gradients and floating-point buffers in float64, where they are."""
    for p in model.parameters():
        p.data = p.data.astype(np.float64)
        p.slot = GradSlot(p.device, p.shape, p.dtype)
    for _, buffer in model.named_buffers():
        if buffer.dtype.kind == "f":
            buffer.data = buffer.data.astype(np.float64)
    return model


def to_torch(ours, theirs, torch):
    """Our parameters and running statistics into a PyTorch module that makes its layers in the same order, in float64.
    PyTorch's weights are (K, C, R, S). A layer behind a flattened map must read it in our order: H, W, C."""
    theirs.double()
    running = [values for path, values in ours.named_buffers() if "running" in path]
    their_running = [values for path, values in theirs.named_buffers() if "running" in path]
    with torch.no_grad():
        for own, other in zip([*ours.parameters(), *running], [*theirs.parameters(), *their_running], strict=True):
            values = own.numpy()
            values = values.transpose(0, 3, 1, 2) if values.ndim == 4 else values
            other.copy_(torch.tensor(np.ascontiguousarray(values)))
    return theirs


def spread(model, rng):
    """Biases, scales and running statistics other than 0 and 1, so that a wrong place for one of them shows."""
    for path, values in [*model.named_parameters(), *model.named_buffers()]:
        if values.ndim == 1 and values.dtype.kind == "f" and not path.endswith("running_var"):
            values.copy_(values.numpy() + 0.2 * rng.standard_normal(values.shape))
        elif path.endswith("running_var"):
            values.copy_(rng.uniform(0.5, 2.0, values.shape))
    return model


def images_for_torch(x, torch):
    return torch.tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def learn_by_heart(model, lr: float, steps: int, images=4, seed=1) -> list[float]:
    """The losses of a network of four classes that trains on one batch of noise (images, 28, 28, 1)."""
    rng = np.random.default_rng(seed)
    x = minicnn.tensor(rng.standard_normal((images, 28, 28, 1)).astype(np.float32))
    target = minicnn.tensor(np.arange(images) % 4)
    loss_of = getattr(model, "loss", functional.cross_entropy)
    optimizer = optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def check_against_torch(ours, theirs, x, rng, torch):
    """Outputs in float32 within its tolerance of PyTorch's in float64, with the same weights; then, in float64, outputs and
    every gradient. x (N, H, W, C) float32."""
    images = images_for_torch(x.astype(np.float64), torch)
    with minicnn.no_grad():
        got, state = ours.eval()(minicnn.tensor(x)).numpy(), ours.state_dict()
    expected = theirs.eval()(images).detach().numpy()
    assert_close(got, expected, what="float32", atol=2e-5 * np.abs(expected).max())
    as_float64(ours).load_state_dict(state)
    y, expected = ours.train()(minicnn.tensor(x.astype(np.float64))), theirs.train()(images)
    ys, expecteds = (v if isinstance(v, tuple) else (v,) for v in (y, expected))
    dys = [rng.standard_normal(each.shape) for each in ys]
    for each, other in zip(ys, expecteds, strict=True):
        assert_close(each.numpy(), other.detach().numpy(), what="float64", rtol=1e-9, atol=1e-9)
    sum((each * minicnn.tensor(dy)).sum() for each, dy in zip(ys, dys, strict=True)).backward()
    sum((other * torch.tensor(dy)).sum() for other, dy in zip(expecteds, dys, strict=True)).backward()
    for (path, own), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        grad, expected = own.grad.numpy(), other.grad.numpy()
        grad = grad.transpose(0, 3, 1, 2) if grad.ndim == 4 else grad
        assert_close(grad, expected, what=path, rtol=1e-8, atol=1e-9 * np.abs(expected).max())
