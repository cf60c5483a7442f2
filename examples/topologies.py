"""Networks of the usual shapes, small: what removing units has to cope with.

Residual streams, bottlenecks, depthwise and grouped convolutions, concatenation, attention with separate
and with fused projections, gated perceptrons. Perceptrons, VGG-16 and ResNet-20 are in
:mod:`examples.networks`. Forward passes take the number of heads and of pixels from the tensors and not
from attributes, so that they run at any width; attributes hold what removal does not change, such as the
width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch.nn import functional

from examples.networks import Residual

__all__ = [
    "Attention",
    "Bert",
    "Bottleneck",
    "DenseNet",
    "FusedAttention",
    "GatedPerceptron",
    "InvertedResidual",
    "VisionTransformer",
    "bottleneck_resnet",
    "mlp",
    "mobilenet_v2",
    "resnet56",
    "resnext",
]


def mlp(sizes: Sequence[int] = (16, 12, 8, 4)) -> torch.nn.Sequential:
    """A perceptron with layers of these sizes, input and output included."""
    layers: list[torch.nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def _convolution(
    before: int, after: int, size: int, stride: int = 1, groups: int = 1
) -> list[torch.nn.Module]:
    return [
        torch.nn.Conv2d(before, after, size, stride, padding=size // 2, groups=groups, bias=False),
        torch.nn.BatchNorm2d(after),
    ]


def _classifier(width: int, classes: int) -> list[torch.nn.Module]:
    return [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(width, classes)]


def resnet56(classes: int = 10, *, width: int = 16) -> torch.nn.Sequential:
    """Nine residual blocks in each of three stages, where ResNet-20 has three."""
    blocks: list[torch.nn.Module] = []
    before = width
    for stage in range(3):
        for turn in range(9):
            after = width * 2**stage
            blocks.append(Residual(before, after, 2 if stage > 0 and turn == 0 else 1))
            before = after
    return torch.nn.Sequential(
        *_convolution(3, width, 3), torch.nn.ReLU(), *blocks, *_classifier(before, classes)
    )


class Bottleneck(torch.nn.Module):
    """Narrow, 3 by 3, wide, with a shortcut around them; the middle one may be grouped (ResNeXt)."""

    def __init__(self, before: int, inner: int, after: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            *_convolution(before, inner, 1),
            torch.nn.ReLU(),
            *_convolution(inner, inner, 3, stride, groups),
            torch.nn.ReLU(),
            *_convolution(inner, after, 1),
        )
        same = before == after and stride == 1
        self.shortcut = (
            torch.nn.Identity() if same else torch.nn.Sequential(*_convolution(before, after, 1, stride))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (n, before, h, w) to images (n, after, h / stride, w / stride)."""
        return functional.relu(self.body(x) + self.shortcut(x))


def bottleneck_resnet(
    classes: int = 10, *, width: int = 8, stages: Sequence[int] = (2, 2, 2), groups: int = 1
) -> torch.nn.Sequential:
    """Bottlenecks as in ResNet-50: a block ends four times as wide as its middle."""
    layers: list[torch.nn.Module] = [*_convolution(3, width, 3), torch.nn.ReLU()]
    before = width
    for stage, blocks in enumerate(stages):
        inner = width * 2**stage
        for turn in range(blocks):
            layers.append(Bottleneck(before, inner, 4 * inner, 2 if stage > 0 and turn == 0 else 1, groups))
            before = 4 * inner
    return torch.nn.Sequential(*layers, *_classifier(before, classes))


def resnext(classes: int = 10, *, width: int = 8, groups: int = 4) -> torch.nn.Sequential:
    """Two stages of one bottleneck whose middle convolution is grouped."""
    return bottleneck_resnet(classes, width=width, stages=(1, 1), groups=groups)


class InvertedResidual(torch.nn.Module):
    """Wide, depthwise, narrow without a nonlinearity; a shortcut where the shape stays."""

    def __init__(self, before: int, after: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = before * expansion
        widen = [*_convolution(before, inner, 1), torch.nn.ReLU6()] if expansion > 1 else []
        self.body = torch.nn.Sequential(
            *widen,
            *_convolution(inner, inner, 3, stride, groups=inner),
            torch.nn.ReLU6(),
            *_convolution(inner, after, 1),
        )
        self.shortcut = before == after and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (n, before, h, w) to images (n, after, h / stride, w / stride)."""
        return x + self.body(x) if self.shortcut else self.body(x)


def mobilenet_v2(classes: int = 10, *, width: int = 8) -> torch.nn.Sequential:
    """MobileNetV2 for 32 by 32 pixels, with fewer blocks: (expansion, width, blocks, stride) a stage."""
    stages = ((1, 1, 1, 1), (6, 2, 2, 1), (6, 3, 2, 2), (6, 4, 1, 2))
    layers: list[torch.nn.Module] = [*_convolution(3, width, 3), torch.nn.ReLU6()]
    before = width
    for expansion, factor, blocks, stride in stages:
        for turn in range(blocks):
            layers.append(InvertedResidual(before, factor * width, stride if turn == 0 else 1, expansion))
            before = factor * width
    last = 8 * width
    return torch.nn.Sequential(
        *layers, *_convolution(before, last, 1), torch.nn.ReLU6(), *_classifier(last, classes)
    )


class _DenseLayer(torch.nn.Module):
    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(before)
        self.conv = torch.nn.Conv2d(before, growth, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.conv(functional.relu(self.norm(x)))], 1)


class DenseNet(torch.nn.Module):
    """Two dense blocks with a transition: every layer reads all that came before it in its block."""

    def __init__(self, classes: int = 10, *, width: int = 8, growth: int = 4, layers: int = 3) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.first = torch.nn.Sequential(*(_DenseLayer(width + i * growth, growth) for i in range(layers)))
        before = width + layers * growth
        self.transition = torch.nn.Sequential(
            torch.nn.BatchNorm2d(before),
            torch.nn.ReLU(),
            torch.nn.Conv2d(before, before // 2, 1, bias=False),
            torch.nn.AvgPool2d(2),
        )
        middle = before // 2
        self.second = torch.nn.Sequential(*(_DenseLayer(middle + i * growth, growth) for i in range(layers)))
        last = middle + layers * growth
        self.head = torch.nn.Sequential(
            torch.nn.BatchNorm2d(last), torch.nn.ReLU(), *_classifier(last, classes)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (n, 3, h, w) to logits (n, classes)."""
        return self.head(self.second(self.transition(self.first(self.stem(x)))))


def _heads(x: torch.Tensor, width: int) -> torch.Tensor:
    """Tokens (n, t, heads * width) as (n, heads, t, width), whatever the number of heads."""
    return x.view(*x.shape[:2], -1, width).transpose(1, 2)


class Attention(torch.nn.Module):
    """Self-attention with a projection each for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head_width = width // heads
        self.query = torch.nn.Linear(width, width)
        self.key = torch.nn.Linear(width, width)
        self.value = torch.nn.Linear(width, width)
        self.output = torch.nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (n, t, width) to tokens."""
        query, key, value = (_heads(part(x), self.head_width) for part in (self.query, self.key, self.value))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.output(mixed.transpose(1, 2).flatten(2))


class FusedAttention(torch.nn.Module):
    """Self-attention whose three projections are one layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head_width = width // heads
        self.projections = torch.nn.Linear(width, 3 * width)
        self.output = torch.nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (n, t, width) to tokens."""
        query, key, value = (_heads(part, self.head_width) for part in self.projections(x).chunk(3, -1))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.output(mixed.transpose(1, 2).flatten(2))


class _Layer(torch.nn.Module):
    """Attention and a perceptron, each behind a normalisation and with a shortcut around it."""

    def __init__(self, attention: torch.nn.Module, width: int, perceptron: torch.nn.Module) -> None:
        super().__init__()
        self.first, self.second = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.attention, self.perceptron = attention, perceptron

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.first(x))
        return x + self.perceptron(self.second(x))


def _perceptron(width: int, hidden: int) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(width, hidden), torch.nn.GELU(), torch.nn.Linear(hidden, width)
    )


class VisionTransformer(torch.nn.Module):
    """Patches, a class token, learnt positions, normalisation first; separate or fused projections."""

    def __init__(
        self, classes: int = 10, *, width: int = 16, heads: int = 4, layers: int = 2, fused: bool = False
    ) -> None:
        super().__init__()
        attention = FusedAttention if fused else Attention
        self.patches = torch.nn.Conv2d(3, width, 4, stride=4)
        self.token = torch.nn.Parameter(0.1 * torch.randn(1, 1, width))
        self.positions = torch.nn.Parameter(0.1 * torch.randn(1, 17, width))
        self.layers = torch.nn.Sequential(
            *(_Layer(attention(width, heads), width, _perceptron(width, 2 * width)) for _ in range(layers))
        )
        self.norm = torch.nn.LayerNorm(width)
        self.head = torch.nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (n, 3, 16, 16) to logits (n, classes)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], 1) + self.positions
        return self.head(self.norm(self.layers(tokens))[:, 0])


class Bert(torch.nn.Module):
    """An encoder of tokens as BERT is: normalisation after the sum, mean of the tokens classified."""

    def __init__(
        self, classes: int = 4, *, width: int = 16, heads: int = 4, words: int = 20, length: int = 8
    ) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(words, width)
        self.positions = torch.nn.Embedding(length, width)
        self.attention = Attention(width, heads)
        self.first = torch.nn.LayerNorm(width)
        self.hidden = torch.nn.Linear(width, 2 * width)
        self.back = torch.nn.Linear(2 * width, width)
        self.second = torch.nn.LayerNorm(width)
        self.classifier = torch.nn.Linear(width, classes)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Token numbers (n, t), and a mask of 0 and 1 of the same shape, to logits (n, classes)."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.words(input_ids) + self.positions(places)
        x = self.first(x + self.attention(x))
        x = self.second(x + self.back(functional.gelu(self.hidden(x))))
        shares = mask[:, :, None].to(x.dtype)
        return self.classifier((x * shares).sum(1) / shares.sum(1))


class GatedPerceptron(torch.nn.Module):
    """Blocks of a gated perceptron with a shortcut, as in language models (SwiGLU): down(silu(gate) * up)."""

    def __init__(self, width: int = 8, hidden: int = 24, *, fused: bool = False) -> None:
        super().__init__()
        self.stem = torch.nn.Linear(width, width)
        self.fused = fused
        if fused:
            self.both = torch.nn.Linear(width, 2 * hidden, bias=False)
        else:
            self.gate = torch.nn.Linear(width, hidden, bias=False)
            self.up = torch.nn.Linear(width, hidden, bias=False)
        self.down = torch.nn.Linear(hidden, width, bias=False)
        self.head = torch.nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Vectors (n, width), or tokens (n, t, width), to (..., 4)."""
        x = self.stem(x)
        gate, up = self.both(x).chunk(2, -1) if self.fused else (self.gate(x), self.up(x))
        return self.head(x + self.down(functional.silu(gate) * up))
