"""The arithmetic of a decoder's step on a CPU, as loops that numba compiles: a step is some hundreds of small operations,
and to begin one in torch or NumPy takes longer than it lasts.

Shapes: B batch, N views of the guidance, R = B N rows, the views of an item side by side; D model width, H heads, W steps in
the ring, d = D/H, L layers, P what a layer is told, V voices, Q d_head, K bins. All arrays are contiguous, and float32 but
for matrices in 8 bits, tokens, limits and what is known.

All that is compiled stands here: numba looks no further than a function's own file to see whether what it kept of it holds.
"""

import functools
import math

import numpy as np
from numba import njit

f32 = np.float32


def compiled(function, order_of_sums=False):
    """function, compiled by numba when it is first called, and kept for the next process where there is a place to write.

    order_of_sums: whether sums are done one after the other, to the last bit as they are written, or many at a time.
    """
    how = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": set() if order_of_sums else {"reassoc", "contract", "nsz"},
    }
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
    """The row of a matrix is read once."""
    of_x, of_y = f32(0), f32(0)
    for i in range(len(x)):
        number = f32(row[i])
        of_x += number * x[i]
        of_y += number * y[i]
    return of_x, of_y


@compiled
def multiply(x, matrix, layer, y):
    """x (R, n_in) times a Matrix (of the only layer, 0, where there is but one) -> y (R, n_out)."""
    numbers, scale, bias = matrix.numbers[layer], matrix.scale[layer], matrix.bias[layer]
    for r in range(0, len(x) - 1, 2):
        for out in range(len(numbers)):
            of_x, of_y = two_dots(numbers[out], x[r], x[r + 1])
            y[r, out], y[r + 1, out] = of_x * scale[out] + bias[out], of_y * scale[out] + bias[out]
    if len(x) % 2:
        for out in range(len(numbers)):
            y[-1, out] = dot(numbers[out], x[-1]) * scale[out] + bias[out]


@compiled
def add(x, y):
    """y (rows, n) is added to x (rows, n), in place."""
    for r in range(len(x)):
        for i in range(x.shape[1]):
            x[r, i] += y[r, i]


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
def modulate(x, told, layer):
    """See phi3_arch_model.tell: x (R, D), in place; told (R, L, P)."""
    R, D = x.shape
    film = told.shape[2] > D
    for r in range(R):
        here = told[r, layer]
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
def attend(qkv, cos, sin, cache, layer, slot, n_seen, out):
    """Attention of one step: qkv (R, 3 D); cos and sin (3, d), see Phi3Decoder.positions; cache (R, L, 2, H, W, d), the slot of
    which gets the step's key and value, and of which the first n_seen slots are looked at -> out (R, D)."""
    R, _, _, H, W, d = cache.shape
    q, scores = np.empty(d, np.float32), np.empty(W, np.float32)
    for r in range(R):
        for h in range(H):
            for part in range(3):
                place = q if part == 0 else cache[r, layer, part - 1, h, slot]
                start = (part * H + h) * d
                for half in range(2):
                    mine, other = start + half * d // 2, start + (1 - half) * d // 2
                    for i in range(d // 2):
                        j = half * d // 2 + i
                        place[j] = qkv[r, mine + i] * cos[part, j] + qkv[r, other + i] * sin[part, j]
            keys, values = cache[r, layer, 0, h], cache[r, layer, 1, h]
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
def budget_features(asked, played_onset, played_vel, steps_per_bar, out):
    """Budget.features: asked (R, 6 + 2V), played_onset and played_vel (B, V) -> out (R, 7 + 3V)."""
    B, V = played_onset.shape
    R = len(asked)
    for r in range(R):
        b = r // (R // B)
        wanted_hits, wanted_vel, has_density, has_intensity, has_both, steps_left = asked[r, :6]
        hits, vel = f32(0), f32(0)
        for v in range(V):
            hits += played_onset[b, v]
            vel += played_vel[b, v]
        hits_over = wanted_hits - hits
        deficit = (wanted_vel * hits - vel) * has_intensity
        needed_vel = (wanted_vel * wanted_hits - vel) / max(hits_over, f32(1))
        out[r, 0] = hits_over * has_density / f32(8)
        out[r, 1] = hits_over * has_density / steps_left
        out[r, 2] = deficit
        out[r, 3] = deficit / (hits + f32(1))
        out[r, 4] = min(max(needed_vel, f32(-0.5)), f32(1.5)) * has_both
        out[r, 5] = has_density
        out[r, 6] = steps_left / steps_per_bar
        for v in range(V):
            has_voice = asked[r, 6 + V + v]
            left = (asked[r, 6 + v] - played_onset[b, v]) * has_voice
            out[r, 7 + v] = left / f32(4)
            out[r, 7 + V + v] = left / steps_left
            out[r, 7 + 2 * V + v] = has_voice


@compiled
def embed_rolls(onset, vel, timeoffset, weight, bias, out):
    """The first half of RollEmbedding: rolls (B, V) -> out (B, 3 D); weight (3, V, D), bias (3, D)."""
    _, V, D = weight.shape
    for b in range(len(onset)):
        for part in range(3):
            here = out[b, part * D : (part + 1) * D]
            for i in range(D):
                here[i] = bias[part, i]
            for v in range(V):
                value = onset[b, v] if part == 0 else (vel[b, v] if part == 1 else timeoffset[b, v])
                if value != 0:
                    for i in range(D):
                        here[i] += value * weight[part, v, i]
    activate(out)


# ------------------------------------------------------------------------- what is drawn


@compiled
def blend(by_view, guide, out):
    """Guide.blend of one item: by_view (N, K), guide (N - 1) the weights of all views but the last -> out (K)."""
    for k in range(len(out)):
        least = by_view[-1, k]
        out[k] = least
        for view in range(len(guide)):
            out[k] += guide[view] * (by_view[view, k] - least)


@compiled
def draw_onsets(parts, threshold, onset):
    """The chain of one item: parts (V + V V) as OnsetChain.parts has them, threshold (V) -> onset (V); the first V of parts
    become the logits given all voices, above their thresholds."""
    V = len(onset)
    for v in range(V):
        parts[v] -= threshold[v]
    for v in range(V):
        onset[v] = parts[v] > 0
        if onset[v]:
            for later in range(v + 1, V):
                parts[later] += parts[V + later * V + v]


@compiled
def keep_within(onset, above, limit, known):
    """decoding.keep_within of one item: onset, above (V), limit (rules, V), known (V): hits that stay."""
    V = len(onset)
    for rule in range(len(limit)):
        while True:
            counted, most, weakest = 0, V, -1
            for v in range(V):
                if onset[v] and limit[rule, v] < V:
                    counted, most = counted + 1, limit[rule, v]
                    if not known[v] and (weakest < 0 or above[v] <= above[weakest]):
                        weakest = v
            if counted <= most or weakest < 0:
                break
            onset[weakest] = f32(0)


@compiled
def pick(logits, uniform, temperature):
    """decoding.pick: logits (K), which are written over -> token."""
    highest, total = logits[0], f32(0)
    for k in range(1, len(logits)):
        highest = max(highest, logits[k])
    for k in range(len(logits)):
        logits[k] = math.exp((logits[k] - highest) / temperature)
        total += logits[k]
    cumulative = f32(0)
    for k in range(len(logits) - 1):
        cumulative += logits[k]
        if cumulative >= uniform * total:
            return k
    return len(logits) - 1


@compiled
def bin_logits(hidden, onset, past, head, voice, first, second, out):
    """VoiceBins.logits of one row: hidden (D), onset (V), past (Q) -> out (K); first and second (Q) are written over."""
    for q in range(len(first)):
        x = (
            head.bias[voice, q]
            + past[q]
            + dot(head.from_hidden[voice, q], hidden)
            + dot(head.from_onset[voice, q], onset)
        )
        first[q] = silu(x)
    for q in range(len(first)):
        second[q] = silu(head.between_bias[q] + dot(head.between[q], first))
    for k in range(len(out)):
        out[k] = head.out_bias[voice, k] + dot(head.out[k], second)


@functools.partial(compiled, order_of_sums=True)
def velocity_in(velocity_bin, within, n_bin):
    """heads.bin_to_velocity."""
    return max((f32(velocity_bin + 1) - within) / f32(n_bin), f32(1 / 127))


@functools.partial(compiled, order_of_sums=True)
def offset_in(offset_bin, within, n_bin):
    """heads.bin_to_offset."""
    return min((f32(offset_bin) + within) / f32(n_bin) - f32(0.5), f32(0.5 - 1e-6))


@compiled
def draw_hits(hits, told, t, b, hidden, guide, temperature, onset, vel, timeoffset):
    """decoding.draw_hits of item b at step t: hidden (N, D), guide (N - 1), see blend, onset (V) -> vel, timeoffset (V)."""
    V, D, n_view, Q = len(onset), hidden.shape[1], len(guide) + 1, len(hits.velocity.between)
    K_velocity, K_offset = hits.velocity.out_bias.shape[1], hits.offset.out_bias.shape[1]
    heard, first, second = np.empty((n_view, D), np.float32), np.empty(Q, np.float32), np.empty(Q, np.float32)
    K = max(K_velocity, K_offset)
    by_view, logits = np.empty((n_view, K), np.float32), np.empty(K, np.float32)
    past_velocity, past_offset, own = (
        np.zeros(Q, np.float32),
        np.zeros(Q, np.float32),
        np.empty(Q, np.float32),
    )
    for view in range(n_view):
        for i in range(D):
            heard[view, i] = hidden[view, i] + told.tap_tokens[t, b * n_view + view, i]
    for v in range(V):
        vel[v] = timeoffset[v] = f32(0)
        if not onset[v]:
            continue
        known, chance = told.known_vel.size and told.known_vel[t, b, v], told.uniform[t, b, v]

        for view in range(n_view):
            bin_logits(
                heard[view], onset, past_velocity, hits.velocity, v, first, second, by_view[view, :K_velocity]
            )
        blend(by_view, guide, logits[:K_velocity])
        velocity_bin = (
            told.velocity_bin[t, b, v] if known else pick(logits[:K_velocity], chance[1], temperature)
        )
        for q in range(Q):
            own[q] = past_offset[q] + hits.own_velocity[v, velocity_bin, q]
        for view in range(n_view):
            bin_logits(heard[view], onset, own, hits.offset, v, first, second, by_view[view, :K_offset])
        blend(by_view, guide, logits[:K_offset])
        offset_bin = told.offset_bin[t, b, v] if known else pick(logits[:K_offset], chance[3], temperature)
        for q in range(Q):
            past_velocity[q] += hits.velocity_token[v, velocity_bin, q] + hits.offset_token[v, offset_bin, q]
            past_offset[q] += (
                hits.velocity_token[v, velocity_bin, Q + q] + hits.offset_token[v, offset_bin, Q + q]
            )

        if known:
            vel[v], timeoffset[v] = told.vel[t, b, v], told.timeoffset[t, b, v]
        elif velocity_bin == told.tap_velocity_bin[t, b] and offset_bin == told.tap_offset_bin[t, b]:
            vel[v], timeoffset[v] = told.tap_vel[t, b], told.tap_timeoffset[t, b]
        else:
            vel[v] = velocity_in(velocity_bin, chance[2], K_velocity)
            timeoffset[v] = offset_in(offset_bin, chance[4], K_offset)


@compiled
def draw(hits, told, t, hidden, parts, guide, temperature, onset, vel, timeoffset):
    """What is played at step t: hidden (R, D), parts (R, V + V V) of the onset head -> onset, vel, timeoffset (B, V)."""
    B, V = onset.shape
    n_view = len(guide) + 1
    blended, unknown = np.empty(parts.shape[1], np.float32), np.zeros(V, np.bool_)
    for b in range(B):
        rows = slice(b * n_view, (b + 1) * n_view)
        blend(parts[rows], guide, blended)
        draw_onsets(blended, told.threshold[t, b], onset[b])
        if told.limit.size:
            known = told.known_hit[t, b] if told.known_hit.size else unknown
            keep_within(onset[b], blended[:V], told.limit[t, b], known)
        draw_hits(hits, told, t, b, hidden[rows], guide, temperature, onset[b], vel[b], timeoffset[b])


@compiled
def play_bar(
    weights, hits, told, guide, temperature, first, cos, sin, x, cache, hidden, onset, vel, timeoffset
):
    """The steps of a bar, the first of which is number `first` of the piece; see Decoding.play.

    guide (N - 1): see blend. cos, sin (n, 3, d): see Phi3Decoder.positions. x (R, D), what the first step reads, becomes
    what the next bar's will; cache (R, L, 2, H, W, d) is written. Into hidden (n, R, D) go the hidden states, into onset,
    vel, timeoffset (n, B, V) the drums.
    """
    n, R, L, P = told.modulation.shape
    B, V = onset.shape[1:]
    n_view = R // B
    D, W = x.shape[1], cache.shape[4]
    features_in, features = (
        np.empty((R, 7 + 3 * V), np.float32),
        np.empty((R, weights.features.bias.shape[1]), np.float32),
    )
    budget = np.empty((R, L * P), np.float32)
    reading, qkv = np.empty((R, D), np.float32), np.empty((R, 3 * D), np.float32)
    seen, update = np.empty((R, D), np.float32), np.empty((R, D), np.float32)
    gate_up = np.empty((R, weights.gate_up.scale.shape[1]), np.float32)
    inner = np.empty((R, gate_up.shape[1] // 2), np.float32)
    parts = np.empty((R, V + V * V), np.float32)
    rolls, mixed = np.empty((B, 3 * D), np.float32), np.empty((B, D), np.float32)
    played_onset, played_vel = np.zeros((B, V), np.float32), np.zeros((B, V), np.float32)
    for t in range(n):
        if told.budget_targets.size:
            budget_features(
                told.budget_targets[t], played_onset, played_vel, weights.steps_per_bar, features_in
            )
            multiply(features_in, weights.features, 0, features)
            activate(features)
            multiply(features, weights.budget, 0, budget)
            add(budget, told.modulation[t].reshape(R, L * P))
            told_now = budget.reshape(R, L, P)
        else:
            told_now = told.modulation[t]
        slot, n_seen = (first + t) % W, min(first + t + 1, W)
        for layer in range(L):
            modulate(x, told_now, layer)
            normed(x, weights.attention_norm[layer], weights.eps, reading)
            multiply(reading, weights.qkv, layer, qkv)
            attend(qkv, cos[t], sin[t], cache, layer, slot, n_seen, seen)
            multiply(seen, weights.o, layer, update)
            add(x, update)
            normed(x, weights.mlp_norm[layer], weights.eps, reading)
            multiply(reading, weights.gate_up, layer, gate_up)
            gated(gate_up, inner)
            multiply(inner, weights.down, layer, update)
            add(x, update)
        normed(x, weights.norm, weights.eps, hidden[t])
        multiply(hidden[t], weights.onset, 0, parts)
        draw(hits, told, t, hidden[t], parts, guide, temperature, onset[t], vel[t], timeoffset[t])
        add(played_onset, onset[t])
        add(played_vel, vel[t])
        embed_rolls(onset[t], vel[t], timeoffset[t], weights.rolls, weights.rolls_bias, rolls)
        multiply(rolls, weights.mix, 0, mixed)
        for r in range(R):
            for i in range(D):
                x[r, i] = mixed[r // n_view, i]
