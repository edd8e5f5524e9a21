"""PyTorch: Adam, pictures with the channels last, tensors on the device; as it is, and through ``torch.compile``.

Its LSTM has a second bias, and so more weights. Attention and its cache are written out as nanoGPT does, since the layers
that come with PyTorch keep no cache. On a GPU, "compiled" is ``mode="reduce-overhead"``, which makes CUDA graphs of the
forward and of the backward pass; "graphed" is a whole step, compiled in the usual mode, as one CUDA graph of ours.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.data import Arrays
from benchmarks.works import LEARNING_RATE, SEED, TOKENS, VOCABULARY, Job, Work

# -- how each kind of work is done -------------------------------------------------------------------------------------


def prepare(work: Work, data: Arrays, way: str) -> Job | None:
    torch.manual_seed(SEED)
    if (
        work.device == "gpu"
    ):  # products of TensorFloat-32, as in JAX; and the fastest convolution is looked for, as by XLA
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    if work.kind == "product":
        return Job(_multiply(work, data))
    if work.network not in NETWORKS:
        return None
    model = NETWORKS[work.network](work).to(device_of(work), memory_format=torch.channels_last)
    run = {"train": _train, "predict": _predict, "generate": _generate}[work.kind]
    if work.network == "dcgan":
        run = _train_gan
    return Job(run(work, data, model, way), lambda: sum(weight.numel() for weight in model.parameters()))


def device_of(work: Work) -> torch.device:
    return torch.device("cuda" if work.device == "gpu" else "cpu")


def peak_memory() -> int:
    """How many bytes of the GPU's memory were in use at most."""
    return torch.cuda.max_memory_allocated()


def in_precision(work: Work) -> Any:
    """Inside, what gains by half precision is computed in it, if the work says so."""
    return torch.autocast(device_of(work).type, torch.bfloat16, enabled=work.precision == "bfloat16")


def compiled(model: nn.Module, work: Work, way: str) -> Any:
    """The model in that way."""
    if not way:
        return model
    return torch.compile(model, mode="reduce-overhead" if work.device == "gpu" and way == "compiled" else None)


def graphed(function: Callable[[Tensor], Tensor], example: Tensor, way: str) -> Callable[[Tensor], Tensor]:
    """The function as one CUDA graph, if that is the way; it is run three times before, as PyTorch's manual has it."""
    if way != "graphed":
        return function
    given, stream, graph = example.clone(), torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function(given)
    torch.cuda.current_stream().wait_stream(stream)
    # on the same stream, which some nodes of the gradients stay with; the backward pass has a thread of its own
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        result = function(given)

    def replayed(new: Tensor, reads: Any = function) -> Tensor:  # what the graph reads has to stay in memory
        given.copy_(new)
        graph.replay()
        return result.clone()

    return replayed


def _adam(model: nn.Module, work: Work) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True, capturable=work.device == "gpu")


def _batches(work: Work, x: Tensor) -> tuple[Tensor, ...]:
    return torch.randperm(len(x), device=x.device).split(work.batch)


def _train(work: Work, data: Arrays, model: nn.Module, way: str) -> Callable[[], float]:
    x, y = (torch.from_numpy(some).to(device_of(work)) for some in data)
    y = y.long() if work.loss == "crossentropy" else y
    optimizer, forward = _adam(model, work), compiled(model, work, way)

    def loss_of(scores: Tensor, wanted: Tensor) -> Tensor:
        if work.loss == "squares":
            return functional.mse_loss(scores.float(), wanted)
        return functional.cross_entropy(scores.reshape(-1, work.classes), wanted.reshape(-1))

    def step(index: Tensor) -> Tensor:
        with in_precision(work):
            loss = loss_of(forward(x[index]), y[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    step = graphed(step, _batches(work, x)[0], way)

    def train() -> float:
        return float(torch.stack([step(index) for index in _batches(work, x)]).mean())

    return train


def _train_gan(work: Work, data: Arrays, model: "DCGAN", way: str) -> Callable[[], float]:
    pictures, device = torch.from_numpy(data[0]).to(device_of(work)), device_of(work)
    ones, zeros = torch.ones(work.batch, device=device), torch.zeros(work.batch, device=device)
    generator, discriminator = model.generator, model.discriminator
    g_optimizer, d_optimizer = _adam(generator, work), _adam(discriminator, work)
    draw, judge = compiled(generator, work, way), compiled(discriminator, work, way)
    loss_of = functional.binary_cross_entropy_with_logits

    def latent() -> Tensor:
        return torch.randn(work.batch, work.size["latent"], device=device)

    def step(index: Tensor) -> Tensor:
        real = channels_first(pictures[index])
        with in_precision(work):
            with torch.no_grad():
                drawn = draw(latent())
            d_loss = loss_of(judge(torch.cat([real, drawn])).flatten(), torch.cat([ones, zeros]))
        d_optimizer.zero_grad(set_to_none=True)
        d_loss.backward()
        d_optimizer.step()
        discriminator.requires_grad_(False)
        with in_precision(work):
            g_loss = loss_of(judge(draw(latent())).flatten(), ones)
        g_optimizer.zero_grad(set_to_none=True)
        g_loss.backward()
        g_optimizer.step()
        discriminator.requires_grad_(True)
        return (d_loss + g_loss).detach()

    step = graphed(step, _batches(work, pictures)[0], way)

    def train() -> float:
        return float(torch.stack([step(index) for index in _batches(work, pictures)]).mean())

    return train


def _predict(work: Work, data: Arrays, model: nn.Module, way: str) -> Callable[[], None]:
    x, device = data[0], device_of(work)
    model.eval()
    forward = compiled(model, work, way)

    @torch.inference_mode()
    def scores(x: Tensor) -> Tensor:
        with in_precision(work):
            return forward(x)

    scores = graphed(scores, torch.from_numpy(x).to(device), way)

    def predict() -> None:
        for _ in range(work.steps):
            scores(torch.from_numpy(x).to(device)).float().cpu().numpy()

    return predict


def _generate(work: Work, data: Arrays, model: "GPT", way: str) -> Callable[[], None]:
    prompt = torch.from_numpy(data[0][:1, : TOKENS["prompt"]]).to(device_of(work))
    shape, like = (
        (2, 1, work.size["heads"], work.shape[0], work.size["width"] // work.size["heads"]),
        model.tokens.weight,
    )
    model.eval()

    @torch.inference_mode()
    def generate() -> None:
        caches = [like.new_empty(shape, dtype=getattr(torch, work.precision)) for _ in range(work.size["blocks"])]
        tokens, position, text = prompt, 0, []
        for _ in range(work.steps):
            with in_precision(work):
                scores = model(tokens, caches, position)[:, -1]
            position += tokens.shape[1]
            tokens = torch.multinomial(torch.softmax(scores, -1), 1)
            text.append(tokens.item())

    return generate


def _multiply(work: Work, data: Arrays) -> Callable[[], None]:
    x = torch.from_numpy(data[0]).to(device_of(work), getattr(torch, work.precision))

    def multiply() -> None:
        for _ in range(work.steps):
            x @ x
        if work.device == "gpu":
            torch.cuda.synchronize()

    return multiply


# -- the networks; pictures come and go with the channels last, as in the other frameworks -----------------------------


def channels_first(x: Tensor) -> Tensor:
    """The same memory, in the order of axes that PyTorch has: its ``channels_last`` format."""
    return x.permute(0, 3, 1, 2)


class Pictures(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(channels_first(x))
        return y.permute(0, 2, 3, 1) if y.ndim == 4 else y


def mlp(work: Work) -> nn.Module:
    layers: list[nn.Module] = []
    width = work.shape[0]
    for hidden in work.size["hidden"]:
        layers += [nn.Linear(width, hidden), nn.ReLU()]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, work.classes))


def cnn(work: Work) -> nn.Module:
    return Pictures(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(5 * 5 * 64, work.classes),
    )


class Residual(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        stride = width // inputs
        self.change = nn.Sequential(
            *convolved(inputs, width, 3, stride), nn.ReLU(inplace=True), *convolved(width, width, 3, 1)
        )
        self.shortcut = nn.Sequential(*convolved(inputs, width, 1, stride)) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.change(x) + self.shortcut(x))


def convolved(inputs: int, width: int, kernel: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, width, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(width)]


def resnet(work: Work) -> nn.Module:
    layers, width = [*convolved(work.shape[2], 16, 3, 1), nn.ReLU(inplace=True)], 16
    for following in (16, 32, 64):
        for _ in range(work.size["blocks"]):
            layers.append(Residual(width, following))
            width = following
    return Pictures(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, work.classes))


class Recurrent(nn.Module):
    def __init__(self, work: Work, layer: type[nn.RNNBase]) -> None:
        super().__init__()
        width = work.size["width"]
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.layer = layer(width, width, batch_first=True)
        self.dense = nn.Linear(width, work.classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.layer(self.embedding(x))[0][:, -1])


def lstm(work: Work) -> nn.Module:
    return Recurrent(work, nn.LSTM)


def gru(work: Work) -> nn.Module:
    return Recurrent(work, nn.GRU)


def autoencoder(work: Work) -> nn.Module:
    return Pictures(
        nn.Conv2d(1, 32, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 3, 2, 1, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 1, 3, 2, 1, output_padding=1),
        nn.Sigmoid(),
    )


class DCGAN(nn.Module):
    def __init__(self, work: Work) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.Linear(work.size["latent"], 7 * 7 * 128, bias=False),
            nn.BatchNorm1d(7 * 7 * 128),
            nn.ReLU(),
            nn.Unflatten(1, (128, 7, 7)),
            nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 1, 4, 2, 1),
            nn.Sigmoid(),
        )
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, 64, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 128, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(7 * 7 * 128, 1),
        )


def twice(inputs: int, width: int) -> nn.Module:
    first, second = nn.Conv2d(inputs, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


class UNet(nn.Module):
    def __init__(self, work: Work) -> None:
        super().__init__()
        self.fine, self.middle, self.coarse = twice(work.shape[2], 16), twice(16, 32), twice(32, 64)
        self.up, self.join = nn.ConvTranspose2d(64, 32, 2, 2), twice(64, 32)
        self.last_up, self.last_join = nn.ConvTranspose2d(32, 16, 2, 2), twice(32, 16)
        self.scores = nn.Conv2d(16, work.classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(channels_first(x))
        middle = self.middle(functional.max_pool2d(fine, 2))
        x = self.coarse(functional.max_pool2d(middle, 2))
        x = self.join(torch.cat([self.up(x), middle], 1))
        x = self.last_join(torch.cat([self.last_up(x), fine], 1))
        return self.scores(x).permute(0, 2, 3, 1)


class Block(nn.Module):
    """Attention and a small network; each normalizes its input, or its sum with the input."""

    def __init__(self, width: int, heads: int, causal: bool, normalize_first: bool) -> None:
        super().__init__()
        self.heads, self.causal, self.normalize_first = heads, causal, normalize_first
        self.project, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, seen: Tensor | None = None, cache: Tensor | None = None, position: int = 0) -> Tensor:
        if self.normalize_first:
            x = x + self.attend(self.attention_norm(x), seen, cache, position)
            return x + self.transform(self.norm(x))
        x = self.attention_norm(x + self.attend(x, seen, cache, position))
        return self.norm(x + self.transform(x))

    def transform(self, x: Tensor) -> Tensor:
        return self.down(functional.gelu(self.up(x), approximate="tanh"))

    def attend(self, x: Tensor, seen: Tensor | None, cache: Tensor | None, position: int) -> Tensor:
        batch, length, width = x.shape
        query, key, value = (
            part.view(batch, length, self.heads, -1).transpose(1, 2) for part in self.project(x).split(width, -1)
        )
        if cache is not None:
            end = position + length
            cache[0][:, :, position:end], cache[1][:, :, position:end] = key, value
            key, value = cache[0][:, :, :end], cache[1][:, :, :end]
        causal = self.causal and length > 1
        taken = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, is_causal=causal)
        return self.merge(taken.transpose(1, 2).reshape(batch, length, width))


class GPT(nn.Module):
    def __init__(self, work: Work) -> None:
        super().__init__()
        width, heads = work.size["width"], work.size["heads"]
        self.tokens, self.positions = nn.Embedding(work.classes, width), nn.Embedding(work.shape[0], width)
        self.blocks = nn.ModuleList(Block(width, heads, True, True) for _ in range(work.size["blocks"]))
        self.norm = nn.LayerNorm(width)
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, tokens: Tensor, caches: list[Tensor] | None = None, position: int = 0) -> Tensor:
        x = self.tokens(tokens) + self.positions.weight[position : position + tokens.shape[1]]
        for i, block in enumerate(self.blocks):
            x = block(x, cache=None if caches is None else caches[i], position=position)
        return functional.linear(self.norm(x), self.tokens.weight)


class BERT(nn.Module):
    def __init__(self, work: Work) -> None:
        super().__init__()
        width, heads = work.size["width"], work.size["heads"]
        self.tokens, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(work.shape[0], width)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads, False, False) for _ in range(work.size["blocks"]))
        self.scores = nn.Linear(width, work.classes)

    def forward(self, tokens: Tensor) -> Tensor:
        seen = tokens >= 0
        x = self.norm(self.tokens(tokens.clamp(min=0)) + self.positions.weight)
        for block in self.blocks:
            x = block(x, seen[:, None, None, :])
        counts = seen[:, :, None].float()
        return self.scores((x * counts).sum(1) / counts.sum(1))


NETWORKS = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet": resnet,
    "lstm": lstm,
    "gru": gru,
    "autoencoder": autoencoder,
    "dcgan": DCGAN,
    "unet": UNet,
    "gpt": GPT,
    "bert": BERT,
}
