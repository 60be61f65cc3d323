"""The arithmetic of the decoder's layers on a CPU, as loops that numba compiles: a step through them is some
hundred small operations, and starting one in torch or NumPy takes longer than the operation itself. No rule
of what is drawn is here.

Shapes: B batch, R rows (B of each view of the guidance), D model width, H heads, W slots of the kv cache, d =
D/H, L layers, P width of a layer's conditioning, V voices, F features of the budget. All arrays are
C-contiguous float32, but for matrices in 8 bits and slots.

All compiled code is in this file: numba's cache on disk looks no further than a function's own file for
changes.
"""

import math

import numpy as np
from numba import njit

f32 = np.float32


def compiled(function):
    """function, compiled by numba when it is first called, and kept on disk for the next process where
    possible. Sums may be reordered, so that several numbers are added at a time."""
    how = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
    try:
        return njit(cache=True, **how)(function)
    except RuntimeError:  # neither the folder of this file nor that of the user can be written to
        return njit(**how)(function)


@compiled
def dot(row, x):
    total = f32(0)
    for i in range(len(x)):
        total += f32(row[i]) * x[i]
    return total


@compiled
def two_dots(row, x, y):
    """dot of one row of a matrix, which is read once, with x and with y."""
    of_x, of_y = f32(0), f32(0)
    for i in range(len(x)):
        number = f32(row[i])
        of_x += number * x[i]
        of_y += number * y[i]
    return of_x, of_y


@compiled
def multiply(x, matrix, layer, y):
    """x (R, n_in) times the Matrix of a layer (0 where there is but one) -> y (R, n_out)."""
    numbers, scale = matrix.numbers[layer], matrix.scale[layer]
    for r in range(0, len(x) - 1, 2):
        for out in range(len(numbers)):
            of_x, of_y = two_dots(numbers[out], x[r], x[r + 1])
            y[r, out], y[r + 1, out] = of_x * scale[out], of_y * scale[out]
    if len(x) % 2:
        for out in range(len(numbers)):
            y[-1, out] = dot(numbers[out], x[-1]) * scale[out]


@compiled
def add(x, y):
    """y (rows, n) is added to x (rows, n), in place."""
    for r in range(len(x)):
        for i in range(x.shape[1]):
            x[r, i] += y[r, i]


@compiled
def add_bias(x, bias):
    """bias (n) is added to x (rows, n), in place."""
    for r in range(len(x)):
        for i in range(len(bias)):
            x[r, i] += bias[i]


@compiled
def silu(x):
    return x / (f32(1) + math.exp(-x))


@compiled
def activate(x):
    """silu of x (R, n), in place."""
    for r in range(len(x)):
        for i in range(x.shape[1]):
            x[r, i] = silu(x[r, i])


@compiled
def normed(x, weight, eps, out):
    """RMSNorm of x (R, D), into out."""
    for r in range(len(x)):
        scale = f32(1) / f32(math.sqrt(dot(x[r], x[r]) / f32(len(weight)) + eps))
        for i in range(len(weight)):
            out[r, i] = x[r, i] * scale * weight[i]


@compiled
def modulate(x, modulation, layer):
    """See phi3_arch_model: x (R, D), in place; modulation (R, L, P)."""
    R, D = x.shape
    film = modulation.shape[2] > D
    for r in range(R):
        here = modulation[r, layer]
        for i in range(D):
            x[r, i] += here[i] + (x[r, i] * here[D + i] if film else f32(0))


@compiled
def gated(gate_up, out):
    """gate_up (R, 2F) -> out (R, F)."""
    R, F = out.shape
    for r in range(R):
        for i in range(F):
            out[r, i] = silu(gate_up[r, i]) * gate_up[r, F + i]


@compiled
def attend(qkv, position, cache, layer, first_row, out):
    """Attention of one step: qkv (R, 3 D); position: see run_layers; cache (L, 2, rows, H, W, d), of which
    the R rows from first_row on get the step's key and value -> out (R, D)."""
    cos, sin, slot, unseen = position
    H, W, d = cache.shape[3:]
    n_seen = 0
    while n_seen < W and unseen[n_seen] == 0:
        n_seen += 1
    q, scores = np.empty(d, np.float32), np.empty(W, np.float32)
    for r in range(len(qkv)):
        for h in range(H):
            keys, values = cache[layer, 0, first_row + r, h], cache[layer, 1, first_row + r, h]
            for part in range(3):
                turned = q if part == 0 else (keys[slot[0]] if part == 1 else values[slot[0]])
                start = (part * H + h) * d
                for half in range(2):
                    mine, other = start + half * d // 2, start + (1 - half) * d // 2
                    for i in range(d // 2):
                        j = half * d // 2 + i
                        turned[j] = qkv[r, mine + i] * cos[part, j] + qkv[r, other + i] * sin[part, j]
            highest = f32(-np.inf)
            for w in range(n_seen):
                scores[w] = dot(keys[w], q)
                highest = max(highest, scores[w])
            total = f32(0)
            for w in range(n_seen):
                scores[w] = math.exp(scores[w] - highest)
                total += scores[w]
            seen = out[r, h * d : (h + 1) * d]
            for i in range(d):
                seen[i] = f32(0)
            for w in range(n_seen):
                share = scores[w] / total
                for i in range(d):
                    seen[i] += share * values[w, i]


@compiled
def run_layers(weights, eps, x, modulation, features, position, cache, first_row, hidden):
    """Phi3Decoder.step with the budget's matrices: x (R, D), modulation (R, L, P), features (R, F), of no
    columns without a budget -> hidden (R, D).

    position: cos and sin (3, d) of query, key and value, the slot (1) of the cache that is written, and which
    slots are not seen (W): 0 for those that are, a prefix. cache (L, 2, rows, H, W, d): its rows from
    first_row on are used.
    """
    R, D = x.shape
    F, (L, P) = features.shape[1], modulation.shape[1:]
    if F:
        inner, budget = (
            np.empty((R, len(weights.features_bias)), np.float32),
            modulation.copy().reshape(R, L * P),
        )
        multiply(features, weights.features, 0, inner)
        add_bias(inner, weights.features_bias)
        activate(inner)
        of_budget = np.empty((R, L * P), np.float32)
        multiply(inner, weights.budget, 0, of_budget)
        add_bias(of_budget, weights.budget_bias)
        add(budget, of_budget)
        modulation = budget.reshape(R, L, P)
    reading, qkv = np.empty((R, D), np.float32), np.empty((R, 3 * D), np.float32)
    seen, update = np.empty((R, D), np.float32), np.empty((R, D), np.float32)
    gate_up = np.empty((R, weights.gate_up.scale.shape[1]), np.float32)
    inner = np.empty((R, gate_up.shape[1] // 2), np.float32)
    x = x.copy()
    for layer in range(L):
        modulate(x, modulation, layer)
        normed(x, weights.norms[2 * layer], eps, reading)
        multiply(reading, weights.qkv, layer, qkv)
        attend(qkv, position, cache, layer, first_row, seen)
        multiply(seen, weights.o, layer, update)
        add(x, update)
        normed(x, weights.norms[2 * layer + 1], eps, reading)
        multiply(reading, weights.gate_up, layer, gate_up)
        gated(gate_up, inner)
        multiply(inner, weights.down, layer, update)
        add(x, update)
    normed(x, weights.norms[2 * L], eps, hidden)


@compiled
def bin_logits(prepared, between, between_bias, out, out_bias):
    """See model.heads.bin_logits: prepared (n, d_head), changed in place; between (d_head, d_head) and out
    (K, d_head) -> logits (n, K)."""
    activate(prepared)
    inner, logits = np.empty(len(between), np.float32), np.empty((len(prepared), len(out)), np.float32)
    for r in range(len(prepared)):
        for i in range(len(between)):
            inner[i] = silu(dot(between[i], prepared[r]) + between_bias[i])
        for k in range(len(out)):
            logits[r, k] = dot(out[k], inner) + out_bias[k]
    return logits


@compiled
def velocity_logits(x, past, into, bias, head):
    """See model.heads.VoiceHits: x (n, D + V), past (n, 2 d_head) or of no rows, into (2 d_head, D + V),
    head: the matrices and biases that bin_logits takes -> logits (n, K), for_offset (n, d_head)."""
    n, d_head = len(x), len(bias) // 2
    for_velocity, for_offset = np.empty((n, d_head), np.float32), np.empty((n, d_head), np.float32)
    for r in range(n):
        for i in range(2 * d_head):
            prepared = dot(into[i], x[r]) + bias[i]
            if len(past):
                prepared += past[r, i]
            if i < d_head:
                for_velocity[r, i] = prepared
            else:
                for_offset[r, i - d_head] = prepared
    return bin_logits(for_velocity, *head), for_offset


@compiled
def offset_logits(for_offset, own_velocity, velocity_bin, head):
    """See model.heads.VoiceHits: for_offset (n, d_head), own_velocity (K, d_head), velocity_bin (n)."""
    prepared = for_offset.copy()
    for r in range(len(prepared)):
        for i in range(prepared.shape[1]):
            prepared[r, i] += own_velocity[velocity_bin[r], i]
    return bin_logits(prepared, *head)


@compiled
def embed(rolls, rolls_bias, mix, mix_bias, onset, vel, timeoffset, out):
    """RollEmbedding: rolls (3, V, D), the matrices of onset, vel and timeoffset, rolls_bias (3, D), mix a
    Matrix; onset, vel, timeoffset (B, V) -> out (R, D), the same for every view."""
    (B, V), (R, D) = onset.shape, out.shape
    inner, mixed = np.empty((B, 3 * D), np.float32), np.empty((B, D), np.float32)
    for part, roll in enumerate((onset, vel, timeoffset)):
        for b in range(B):
            here = inner[b, part * D : (part + 1) * D]
            here[:] = rolls_bias[part]
            for v in range(V):
                if roll[b, v] != 0:
                    for i in range(D):
                        here[i] += roll[b, v] * rolls[part, v, i]
    activate(inner)
    multiply(inner, mix, 0, mixed)
    add_bias(mixed, mix_bias)
    for r in range(R):
        out[r] = mixed[r % B]


@compiled
def checksum(bits):
    """A sum of bits (n) uint32, modulo 2^64, that every change of a single number changes, and a change of
    order too."""
    total = np.uint64(0)
    for i in range(len(bits)):
        total += np.uint64(bits[i]) * np.uint64(2 * i + 1)
    return total
