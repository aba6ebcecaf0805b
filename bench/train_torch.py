#!/usr/bin/env python3
"""The net of bench/train_speed in PyTorch, for its tokens a second beside ours: Debian's python3-torch (CPU).

    train_torch.py [--threads N] [--seconds S] [--weights float|binary]

The same shape, row lengths and share of tokens in the loss; rows are padded to the longest, as PyTorch has it, and the
head runs only where a token counts. Tokens are counted without padding, and with it beside them. float: float32
throughout. binary: sign times group mean, int8 activations in blocks of 32, straight through. A step is loss and
gradients alone, as net_step(); no optimizer in either."""
import argparse
import math
import time

import torch
from torch import nn
from torch.nn import functional as F

LAYERS, EMBD, FF, HEADS, KV, HEAD, VOCAB = 5, 256, 768, 4, 2, 64, 1280


def rows():
    """As train_speed makes them."""
    lengths, random = [], 1
    for _ in range(64):
        random = (random * 1664525 + 1013904223) & 0xffffffff
        n = 24 + (random >> 16) % 33
        lengths.append(n)
        for _ in range(n):
            random = (random * 1664525 + 1013904223) & 0xffffffff
    return lengths


class Linear(nn.Module):
    def __init__(self, n_in, n_out, binary):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in) * 0.02)
        self.binary = binary

    def forward(self, x):
        w = self.weight
        if self.binary:
            groups = w.view(-1, 128)
            seen = torch.where(groups >= 0, 1.0, -1.0) * groups.abs().mean(1, keepdim=True)
            w = w + (seen.view_as(w) - w).detach()
            blocks = x.reshape(-1, 32)
            d = blocks.abs().amax(1, keepdim=True).clamp(min=1e-30) / 127
            x = x + ((blocks / d).round() * d).view_as(x).detach() - x.detach()
        return F.linear(x, w)


def norm(x, w):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * w


class Layer(nn.Module):
    def __init__(self, binary):
        super().__init__()
        self.qkv = Linear(EMBD, (HEADS + 2 * KV) * HEAD, binary)
        self.o = Linear(HEADS * HEAD, EMBD, binary)
        self.gate_up = Linear(EMBD, 2 * FF, binary)
        self.down = Linear(FF, EMBD, binary)
        self.norms = nn.ParameterList([nn.Parameter(torch.ones(n)) for n in (EMBD, EMBD, HEAD, HEAD)])

    def forward(self, x, cos, sin, mask):
        b, n, _ = x.shape
        qkv = self.qkv(norm(x, self.norms[0])).view(b, n, HEADS + 2 * KV, HEAD)
        q, k, v = qkv.split([HEADS, KV, KV], 2)

        def turn(y):
            first, second = y.chunk(2, -1)
            return torch.cat([first * cos - second * sin, first * sin + second * cos], -1).transpose(1, 2)
        q, k = turn(norm(q, self.norms[2])), turn(norm(k, self.norms[3]))
        k, v = (y.repeat_interleave(HEADS // KV, 1) for y in (k, v.transpose(1, 2)))
        p = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(HEAD) + mask, -1)
        x = x + self.o((p @ v).transpose(1, 2).reshape(b, n, HEADS * HEAD))
        gate, up = self.gate_up(norm(x, self.norms[1])).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Net(nn.Module):
    def __init__(self, binary, n):
        super().__init__()
        self.embd = nn.Parameter(torch.randn(VOCAB, EMBD) * 0.02)
        self.layers = nn.ModuleList([Layer(binary) for _ in range(LAYERS)])
        self.norm = nn.Parameter(torch.ones(EMBD))
        angle = torch.outer(torch.arange(n), 10000.0 ** (-torch.arange(0, HEAD, 2) / HEAD))
        self.cos, self.sin = angle.cos()[:, None], angle.sin()[:, None]
        self.mask = torch.full((n, n), -math.inf).triu(1)

    def forward(self, tokens, wanted, targets):
        x = self.embd[tokens]
        for layer in self.layers:
            x = layer(x, self.cos, self.sin, self.mask)
        return F.cross_entropy(norm(x[wanted], self.norm) @ self.embd.T, targets, reduction='sum')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--seconds', type=float, default=5)
    parser.add_argument('--weights', choices=['float', 'binary'], default='float')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    lengths = rows()
    n = max(lengths)
    tokens = torch.randint(VOCAB, (64, n))
    wanted = torch.tensor([[10 * (j + 1) >= 6 * length and j + 1 < length for j in range(n)] for length in lengths])
    targets = tokens.roll(-1, 1)[wanted]
    net = Net(options.weights == 'binary', n)
    times = []
    begin = time.monotonic()
    while time.monotonic() - begin < options.seconds or len(times) < 3:
        start = time.monotonic()
        net.zero_grad(set_to_none=False)
        (net(tokens, wanted, targets) * 1e-3).backward()
        times.append(time.monotonic() - start)
    times = times[1:]
    mean, best = sum(times) / len(times), min(times)
    print(f'torch {torch.__version__}, {options.threads} threads, {options.weights}: '
          f'{sum(lengths) / mean:.0f} tokens/s (best step {sum(lengths) / best:.0f}), '
          f'{64 * n / mean:.0f} with padding, {1e3 * mean:.1f} ms a step of {sum(lengths)} tokens')


main()
