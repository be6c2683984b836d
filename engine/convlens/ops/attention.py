"""Attention in one operator: ONNX's own, onnxruntime's fused ones, and rotary position embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod, sqrt
from typing import TYPE_CHECKING

from convlens.graph.graph import Node
from convlens.ops.given import up_to
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor, dtype

_MASKED = 2  # the stage of the scores behind the mask


def _macs(_node: Node, inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> int:
    """Scores and their weighted sum; the length of the keys is that of the second input."""
    length = inputs[1][-2] + (inputs[4][-2] if len(inputs) > 4 and len(inputs[4]) == 4 else 0)
    return (prod(inputs[0]) + prod(output)) * length


def _projected_macs(_node: Node, inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> int:
    """The projections of the input as well."""
    return prod(inputs[0][:2]) * prod(inputs[1]) + 2 * prod(output) * inputs[0][1]


def _heads(x: Tensor, count: int) -> Tensor:
    """(batch, length, heads and width) as (batch, heads, length, width)."""
    return x.reshape(*x.shape[:2], count, -1).transpose(1, 2)


@dataclass(frozen=True)
class Scores:
    """How queries and keys become weights: the scale, a soft cap, the precision of the softmax."""

    scale: float | None
    softcap: float = 0.0
    precision: dtype | None = None

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The values (batch, heads, length, width) weighted, and every stage of the weights.

        ``bias`` is added to the scores; a row of it that allows nothing gives zeros.
        """
        import torch

        groups = q.shape[1] // k.shape[1]
        if groups > 1:
            k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        root = sqrt(1 / sqrt(q.shape[-1]) if self.scale is None else self.scale)
        raw = (q * root) @ (k * root).transpose(-1, -2)
        capped = self.softcap * torch.tanh(raw / self.softcap) if self.softcap > 0 else raw
        total = capped if bias is None else capped + bias
        logits, dead = total, None
        if bias is not None:
            dead = bias.detach().amax(dim=-1, keepdim=True) == -inf
            logits = torch.where(dead, torch.zeros_like(total), total)
        weights = torch.softmax(logits if self.precision is None else logits.to(self.precision), dim=-1)
        weights = weights.to(q.dtype)
        if dead is not None:
            weights = torch.where(dead, torch.zeros_like(weights), weights)
        return weights @ v, (raw, capped, total, weights)


def _added(mask: Tensor, like: Tensor, length: int) -> Tensor:
    """A mask as what is added to the scores; keys behind its end are not attended to."""
    import torch
    from torch.nn import functional as F

    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=like.dtype).masked_fill(~mask, -inf)
    short = max(length - mask.shape[-1], 0)
    return F.pad(mask.to(like.device, like.dtype), (0, short), value=-inf)


@operator("Attention", kind="attention", macs=_macs)
def attention(node: TorchNode) -> Forward:
    """ONNX Attention: softmax(Q K^T + mask) V, with grouped heads, a cache, and windows."""
    import torch

    mode, causal = int(node.attr("qk_matmul_output_mode", 0)), bool(node.attr("is_causal", 0))
    left, right = int(node.attr("left_window_size", -1)), int(node.attr("right_window_size", -1))
    precision = node.attr("softmax_precision")
    scores = Scores(
        node.attr("scale"),
        float(node.attr("softcap", 0.0)),
        None if precision is None else node.dtype(int(precision)),
    )

    def forward(q: Tensor, k: Tensor, v: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
        mask, past_k, past_v, filled = up_to(4, rest)
        flat = q.dim() == 3
        if flat:
            own, shared = int(node.attr("q_num_heads")), int(node.attr("kv_num_heads"))
            q, k, v = _heads(q, own), _heads(k, shared), _heads(v, shared)
        if past_k is not None and past_v is not None:
            k, v = torch.cat([past_k, k], dim=2), torch.cat([past_v, v], dim=2)
        length, steps = k.shape[2], q.shape[2]
        offset = torch.zeros(1, dtype=torch.int64, device=q.device)
        if past_k is not None:
            offset = offset + past_k.shape[2]
        elif filled is not None:
            offset = filled.to(q.device).reshape(-1) - steps
        keys = torch.arange(length, device=q.device)
        # how far a key is behind its query: (batch or 1, 1, queries, keys)
        behind = (offset[:, None] + torch.arange(steps, device=q.device))[:, None, :, None] - keys
        allowed = torch.ones_like(behind, dtype=torch.bool)
        if causal:
            allowed = allowed & (behind >= 0)
        if left >= 0:
            allowed = allowed & (behind <= left)
        if right >= 0:
            allowed = allowed & (-behind <= right)
        if filled is not None:
            allowed = allowed & (keys < filled.to(q.device).view(-1, 1, 1, 1))
        bias = None if mask is None else _added(mask, q, length)
        if causal or left >= 0 or right >= 0 or filled is not None:
            bias = (q.new_zeros(1) if bias is None else bias) + _added(allowed, q, length)
        out, stages = scores.attend(q, k, v, bias)
        if flat:
            out = out.transpose(1, 2).flatten(2)
        shown = stages[mode].expand(*q.shape[:3], length)
        if mode == _MASKED:  # onnxruntime shows what is off as the least number, not as -inf
            off = ~allowed
            if mask is not None and mask.dtype == torch.bool:
                off = off | (_added(mask, q, length) < 0)
            shown = shown.masked_fill(off, torch.finfo(q.dtype).min)
        return out, k, v, shown

    return forward


def _padding(mask: Tensor, length: int, filter_value: float, like: Tensor) -> Tensor:
    """onnxruntime's masks of keys as what is added: lengths, or one number a key that is zero where off."""
    import torch

    if mask.dim() == 1:
        if mask.shape[0] != like.shape[0]:
            raise ValueError("masks that give the start of the padding as well are not covered")
        kept = torch.arange(length, device=like.device) < mask.to(like.device)[:, None]
    else:
        kept = mask.to(like.device) != 0
    kept = kept[:, None, None, :] if kept.dim() == 2 else kept[:, None] if kept.dim() == 3 else kept
    return like.new_zeros(kept.shape).masked_fill(~kept, filter_value)


def _fused_bias(
    q: Tensor, length: int, one_way: bool, filter_value: float, mask: Tensor | None, extra: Tensor | None
) -> Tensor | None:
    """What the fused operators add to the scores: key mask, causal mask and the bias that they are given."""
    import torch

    bias = None if mask is None else _padding(mask, length, filter_value, q)
    if one_way:
        ahead = torch.ones(q.shape[2], length, dtype=torch.bool, device=q.device)
        ahead = ahead.triu(length - q.shape[2] + 1)
        future = q.new_zeros(ahead.shape).masked_fill(ahead, torch.finfo(q.dtype).min)
        # a padded key in the future is off, not off twice, which would be beyond the smallest number
        bias = future if bias is None else torch.where(ahead, future, bias)
    if extra is not None:
        bias = extra if bias is None else bias + extra
    return bias


@operator("com.microsoft.MultiHeadAttention", kind="attention", macs=_macs)
def multi_head_attention(node: TorchNode) -> Forward:
    """onnxruntime's MultiHeadAttention: separate or packed inputs, masks, a bias and a cache."""
    import torch

    heads, one_way = int(node.attr("num_heads")), bool(node.attr("unidirectional", 0))
    filter_value = float(node.attr("mask_filter_value", -10000.0))
    scores = Scores(node.attr("scale") or None)
    if any(node.has(i) for i in (8, 9)):
        raise node.refuse("a cache that is shared between past and present")

    def forward(
        q: Tensor, k: Tensor | None = None, v: Tensor | None = None, *rest: Tensor | None
    ) -> tuple[Tensor, ...]:
        bias, mask, extra, past_k, past_v = up_to(5, rest)
        if q.dim() == 5:
            q, k, v = (part.flatten(2) for part in q.unbind(3))
        elif k is not None and k.dim() == 5:
            k, v = (part.flatten(2) for part in k.unbind(3))
        assert k is not None
        assert v is not None
        split = k.dim() == 4
        if bias is not None:
            first, second, third = bias.tensor_split([q.shape[-1], 2 * q.shape[-1]])
            q = q + first
            if not split:
                k, v = k + second, v + third
        q = _heads(q, heads)
        if not split:
            k, v = _heads(k, heads), _heads(v, heads)
        if past_k is not None and past_v is not None:
            k, v = torch.cat([past_k, k], dim=2), torch.cat([past_v, v], dim=2)
        added = _fused_bias(q, k.shape[2], one_way, filter_value, mask, extra)
        out, stages = scores.attend(q, k, v, added)
        return out.transpose(1, 2).flatten(2), k, v, stages[0]

    return forward


@operator("com.microsoft.Attention", kind="attention", macs=_projected_macs)
def fused_attention(node: TorchNode) -> Forward:
    """onnxruntime's Attention: the projections to queries, keys and values, and self-attention."""
    import torch

    heads, one_way = int(node.attr("num_heads")), bool(node.attr("unidirectional", 0))
    filter_value = float(node.attr("mask_filter_value", -10000.0))
    scores, widths = Scores(node.attr("scale") or None), node.attr("qkv_hidden_sizes")
    if node.attr("do_rotary", 0) or node.attr("past_present_share_buffer", 0):
        raise node.refuse("a rotary embedding inside, or a shared cache,")

    def forward(x: Tensor, w: Tensor, b: Tensor | None = None, *rest: Tensor | None) -> tuple[Tensor, ...]:
        mask, past, extra = up_to(3, rest)[:3]
        projected = x @ w if b is None else x @ w + b
        each = list(widths) if widths else [w.shape[1] // 3] * 3
        parts = projected.tensor_split([each[0], each[0] + each[1]], dim=2)
        q, k, v = (_heads(part, heads) for part in parts)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        added = _fused_bias(q, k.shape[2], one_way, filter_value, mask, extra)
        out, _ = scores.attend(q, k, v, added)
        present = torch.stack([k, v]) if k.shape == v.shape else k
        return out.transpose(1, 2).flatten(2), present

    return forward


@operator("RotaryEmbedding", "com.microsoft.RotaryEmbedding", kind="attention")
def rotary_embedding(node: TorchNode) -> Forward:
    """Pairs of numbers turned by an angle that grows with the position (Su et al. 2021)."""
    import torch

    interleaved, heads = bool(node.attr("interleaved", 0)), int(node.attr("num_heads", 0))
    fused, part = node.version < 23, int(node.attr("rotary_embedding_dim", 0))
    if float(node.attr("scale", 1.0)) != 1.0 or node.attr("is_packed_batching", 0):
        raise node.refuse("a scale or packed batching")

    def forward(x: Tensor, *rest: Tensor | None) -> Tensor:
        places, cos, sin = rest if fused else ((*rest, None)[2], rest[0], rest[1])
        assert cos is not None
        assert sin is not None
        flat = x.dim() == 3
        if flat:
            x = _heads(x, heads or x.shape[2] // (part or 2 * cos.shape[-1]))
        if places is not None:
            places = places.to(x.device, torch.int64)
            if places.dim() < 2:  # the first position of all sequences
                places = places.reshape(-1, 1) + torch.arange(x.shape[2], device=x.device)
            cos, sin = cos[places], sin[places]
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        width = part or x.shape[-1]
        turned, rest_of = x[..., :width], x[..., width:]
        if interleaved:
            a, b = turned[..., 0::2], turned[..., 1::2]
        else:
            a, b = turned.chunk(2, dim=-1)
        cos, sin = cos[..., : a.shape[-1]], sin[..., : a.shape[-1]]
        pair = (a * cos - b * sin, a * sin + b * cos)
        new = torch.stack(pair, dim=-1).flatten(-2) if interleaved else torch.cat(pair, dim=-1)
        out = torch.cat([new, rest_of], dim=-1)
        return out.transpose(1, 2).flatten(2) if flat else out

    return forward
