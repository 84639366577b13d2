"""What is known of each op: whether it is linear, which family of `repair` it belongs to, which arguments matter.

One table, by the op's common name ("layer_norm"); the type of a module ("LayerNorm") and the name of a node in
autograd's graph ("NativeLayerNormBackward0") lead to the same entry. Needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Kind = Literal[
    "linear", "linear in evaluation", "layer", "product", "quotient", "norm", "softmax", "attention", "activation",
    "function", "pool", "recurrent", "choice", "step", "shape", "index", "composite", "ignored",
]  # fmt: skip
Family = Literal[
    "", "softmax", "attention", "gelu", "norm", "product", "activation", "pooling", "recurrent", "choice"
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Op:
    """An op by its common name.

    `kind`: "linear" in all its tensors together; "linear in evaluation": only there; "layer": a product with a weight;
    "product": linear in each tensor, not in two at once; "quotient": linear unless its `divisor` varies; "choice":
    linear as long as the mask, index or order is the same; "step": constant or linear between jumps; "function": any
    other non-linear one. "shape" moves or repeats elements, "index" picks them by tensors or slices, "composite" is
    Python code around other ops, "ignored" computes no floating-point number that a gradient reaches.
    `family`: what `repair` makes exact together with it; "": it stands alone.
    `factors`: groups of the arguments that multiply one another, by position or keyword; an argument in none of them is
    only added. Empty: each argument is a factor.
    `dim_at`, `training_at`: positions of the argument that names the axes which the op drops, and of the one that says
    whether it is in training mode; 0: it has none.
    """

    name: str
    kind: Kind
    family: Family = ""
    divisor: frozenset[str] = frozenset()
    factors: tuple[frozenset[str], ...] = ()
    dim_at: int = 0
    training_at: int = 0


def _ops(
    kind: Kind,
    family: Family,
    names: str,
    *,
    divisor: str = "",
    factors: str = "",
    dim_at: int = 0,
    training_at: int = 0,
) -> Iterator[Op]:
    """Ops that differ in their name only; groups of `factors` are separated by "|"."""
    groups = tuple(frozenset(group.split()) for group in factors.split("|") if group)
    for name in names.split():
        yield Op(name, kind, family, frozenset(divisor.split()), groups, dim_at, training_at)


_OPS = (
    # Linear.
    *_ops("linear", "", "mean sum nansum nanmean", dim_at=1),
    *_ops("linear", "", """
        dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout native_dropout
        """, training_at=2),
    *_ops("linear", "", """
        add addition sub rsub neg pos positive cumsum diff trace
        cat stack hstack vstack dstack column_stack row_stack block_diag broadcast_tensors meshgrid
        embedding identity
        avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
        pad constant_pad_nd constant_pad zero_pad reflection_pad replication_pad circular_pad pad_sequence
        _pack_padded_sequence _pad_packed_sequence pack_padded_sequence
        interpolate upsample upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d
        upsample_bilinear2d upsample_bicubic2d upsampling_nearest upsampling_bilinear affine_grid
        fold unfold unfold_copy im2col col2im channel_shuffle native_channel_shuffle
        diag diag_embed diagflat diagonal_scatter select_scatter slice_scatter tril triu rot90
        to float double half bfloat16 cfloat cdouble chalf type_as imag complex view_as_real view_as_complex
        resolve_conj resolve_neg lift_fresh copy
        detach_copy fill fill_diagonal zero resize
        fft_fft fft_fft2 fft_fftn fft_ifft fft_ifft2 fft_ifftn fft_rfft fft_rfft2 fft_rfftn fft_irfft fft_irfft2
        fft_irfftn fft_hfft fft_fftshift fft_ifftshift stft istft
        """),
    *_ops("linear in evaluation", "norm", "batch_norm", training_at=5),

    # Products and quotients.
    *_ops("layer", "product", """
        linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution
        """, factors="0 input | 1 weight"),
    *_ops("product", "product", """
        mul matmul rmatmul mm bmm mv dot vdot inner outer ger kron linalg_vecdot cross linalg_cross einsum bilinear
        chain_matmul multi_dot linalg_multi_dot
        """),
    *_ops("product", "product", "addmm addmv addr addbmm baddbmm addcmul", factors="""
        1 mat mat1 vec1 batch1 tensor1 | 2 vec mat2 vec2 batch2 tensor2
        """),
    *_ops("product", "product", "lerp", factors="0 input self 1 end | 2 weight"),
    *_ops("quotient", "product", "div", divisor="1 other"),
    *_ops("quotient", "product", "rdiv", divisor="0"),
    *_ops("quotient", "product", "addcdiv", divisor="2 tensor2"),
    *_ops("product", "product", "embedding_bag", factors="0 weight 1 | 6 per_sample_weights"),
    *_ops("function", "product", "prod", dim_at=1),
    *_ops("function", "product", "glu"),

    # Normalisations, softmax, attention.
    *_ops("norm", "norm", """
        layer_norm native_layer_norm native_batch_norm _native_batch_norm_legit batch_norm_with_update
        rms_norm group_norm instance_norm local_response_norm
        """),
    *_ops("norm", "norm", "var std var_mean std_mean", dim_at=1),
    *_ops("norm", "norm", "norm linalg_norm linalg_vector_norm linalg_matrix_norm vector_norm", dim_at=2),
    *_ops("composite", "norm", "normalize"),
    *_ops("softmax", "softmax", "softmax log_softmax softmin safe_softmax"),
    *_ops("softmax", "softmax", "logsumexp", dim_at=1),
    *_ops("attention", "attention", "scaled_dot_product_attention"),

    # One tensor, element by element.
    *_ops("activation", "gelu", "gelu"),
    *_ops("activation", "activation", """
        relu relu6 leaky_relu prelu prelu_kernel elu celu selu silu mish sigmoid log_sigmoid tanh tanhshrink softplus
        softsign softshrink hardshrink hardsigmoid hardswish hardtanh threshold clamp clamp_min clamp_max abs
        """),
    *_ops("activation", "activation", "rrelu", training_at=3),
    *_ops("function", "", """
        exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal square pow rpow float_power erf erfc erfinv
        sin cos tan sinh cosh asin acos atan atan2 asinh acosh atanh arcsin arccos arctanh arcsinh arccosh
        sinc i0 lgamma digamma logit special_sinc special_erfc special_erfinv special_ndtr special_logit special_expm1
        special_log1p special_exp2 cumprod logcumsumexp cosine_similarity pairwise_distance cdist pdist dist renorm
        polygamma mvlgamma special_entr special_i0e special_i1 special_i1e special_log_ndtr special_ndtri
        special_zeta special_xlog1py hypot logaddexp logaddexp2 xlogy ldexp polar corrcoef
        linalg_inv linalg_inv_ex inverse linalg_solve linalg_solve_ex linalg_solve_triangular
        normal special_polygamma triangular_solve
        cholesky_solve cholesky_inverse lu_solve linalg_lu_solve pinverse linalg_pinv linalg_tensorinv
        logdet slogdet linalg_slogdet linalg_eigvalsh linalg_cond
        linalg_matrix_power matrix_power linalg_tensorsolve linalg_lstsq
        l1_loss mse_loss smooth_l1_loss huber_loss soft_margin_loss hinge_embedding_loss margin_ranking_loss
        multi_margin_loss multilabel_margin_loss triplet_margin_loss poisson_nll_loss kl_div
        binary_cross_entropy binary_cross_entropy_with_logits
        """),
    *_ops("step", "", """
        floor ceil round trunc fix sign sgn heaviside floor_divide frac remainder fmod one_hot angle copysign
        bernoulli frexp
        """),

    # Maxima, and what an index, a mask or an order chooses.
    *_ops("pool", "pooling", "max min amax amin aminmax", dim_at=1),
    *_ops("pool", "pooling", """
        cummax cummin fractional_max_pool2d fractional_max_pool3d
        maximum minimum fmax fmin max_pool1d max_pool2d max_pool3d
        adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
        max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool1d_with_indices
        adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices
        """),
    *_ops("choice", "choice", "median nanmedian mode", dim_at=1),
    *_ops("choice", "choice", "kthvalue", dim_at=2),
    *_ops("choice", "choice", """
        where topk sort msort gather take take_along_dim put setitem index_put index_add index_copy index_fill
        masked_fill masked_select masked_scatter scatter scatter_add scatter_reduce index_reduce quantile
        as_strided_scatter
        max_unpool1d max_unpool2d max_unpool3d
        """),
    *_ops("index", "choice", "getitem index_select"),

    *_ops("recurrent", "recurrent", """
        lstm gru rnn rnn_tanh rnn_relu lstm_cell gru_cell rnn_cell rnn_tanh_cell rnn_relu_cell
        """),

    # Python functions of torch that hold several ops; a reader wants to see into them.
    *_ops("composite", "", "multi_head_attention_forward tensordot cosine_embedding_loss"),

    # Elements that are moved or repeated.
    *_ops("shape", "", """
        view reshape view_as reshape_as flatten unflatten ravel squeeze unsqueeze atleast_1d atleast_2d atleast_3d
        transpose permute t T mT H mH movedim moveaxis swapaxes adjoint
        contiguous clone alias narrow select diagonal as_strided
        chunk split unbind tensor_split unsafe_chunk unsafe_split split_with_sizes hsplit vsplit dsplit
        expand expand_as broadcast_to repeat repeat_interleave tile flip roll real pixel_shuffle pixel_unshuffle
        """),

    # No floating-point computation, or bookkeeping. The names are also those of Python's methods: `__len__`, `__set__`.
    *_ops("ignored", "", """
        detach requires_grad register_hook register_post_accumulate_grad_hook retain_grad backward _set_grad_enabled
        set_grad_enabled is_inference has_names
        size dim numel nelement ndimension stride storage_offset data_ptr element_size get_device dtype shape device
        type is_contiguous is_floating_point is_complex is_same_size is_nonzero is_shared result_type can_cast
        storage untyped_storage share_memory pin_memory record_stream cpu cuda dlpack
        item tolist numpy array len bool int index contains iter hash repr format get set delete deepcopy reduce_ex
        setstate
        zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones new_empty new_full new_tensor
        argmax argmin argsort nonzero count_nonzero searchsorted bucketize isin
        eq ne lt le gt ge isnan isinf isfinite any all equal allclose logical_and logical_or logical_not logical_xor
        bitwise_and bitwise_or bitwise_not bitwise_xor conj
        """),
)  # fmt: skip

TABLE = {op.name: op for op in _OPS}
CAPTUM_TABLE = frozenset({
    "ReLU", "ELU", "LeakyReLU", "Sigmoid", "Tanh", "Softplus", "MaxPool1d", "MaxPool2d", "MaxPool3d", "Softmax",
})  # fmt: skip
"""captum 0.9's own table of module types, `captum.attr._core.deep_lift.SUPPORTED_NON_LINEAR`."""

# Types of modules that are not called as the op which computes them.
_MODULES = {
    "ReLU6": "hardtanh", "Softmin": "softmax", "SyncBatchNorm": "batch_norm", "CrossMapLRN2d": "local_response_norm",
}  # fmt: skip
# Several ops compute these, or one that a setting chooses.
_OF_SEVERAL = frozenset({"LocalResponseNorm", "CrossMapLRN2d", "RNN", "RNNCell"})
_LINEAR: frozenset[Kind] = frozenset({"linear", "linear in evaluation", "shape"})
_PRODUCTS: frozenset[Kind] = frozenset({"layer", "product", "quotient"})
_PICKS: frozenset[Kind] = frozenset({"choice", "index"})
FLOAT_CASTS = frozenset({"to", "type", "type_as", "float", "double", "half", "bfloat16"})
CASTS = FLOAT_CASTS | {"long", "int", "short", "bool"}
"""Ops that give the same numbers in another dtype."""
MOVES = frozenset({op.name for op in _OPS if op.kind == "shape"} | {"getitem", "detach"})
"""Ops that give elements of their tensor: views, copies, repetitions, slices."""


def find(name: str) -> Op | None:
    """The entry of an op, a type of modules or a node of autograd's graph; None for what the table lacks.

    "layer_norm", "LayerNorm" and "NativeLayerNormBackward0" are one op.
    """
    return TABLE.get(name) or _find(name)


@lru_cache(4096)
def _find(name: str) -> Op | None:
    bare = name.rpartition("::")[2].partition("Backward")[0]
    key = re.sub("^(native|safe|thnnfused|mkldnn|cudnn|miopen)(?=.)", "", _key(bare))
    if key.startswith("scaleddotproduct"):  # a node for each of its kernels
        return TABLE["scaled_dot_product_attention"]
    return TABLE.get(_MODULES.get(name, "")) or _BY_KEY.get(key) or _BY_KEY.get(re.sub(r"\dd$", "", key))


def _key(name: str) -> str:
    return name.replace("_", "").lower()


_BY_KEY = {_key(op.name): op for op in _OPS}


def kind(name: str) -> Kind | None:
    """What an op is; None for one that the table lacks."""
    op = find(name)
    return None if op is None else op.kind


def common_name(name: str) -> str:
    """The op's common name, as "softmax" for the module type "Softmax"; `name` itself where the table lacks it."""
    op = find(name)
    return name if op is None else op.name


def op_of_module(module_type: str) -> str:
    """The op that computes a module of this type, as "layer_norm" for "LayerNorm"; "" for several or an unknown one."""
    op = None if module_type in _OF_SEVERAL else find(module_type)
    return "" if op is None else op.name


def is_linear(name: str, varying: Collection[str] = ()) -> bool:
    """Whether an op is linear in its arguments `varying` together, named by position or keyword.

    Without them: whether it is linear in one argument while the others are fixed.
    """
    op = find(name)
    if op is None or op.kind not in _LINEAR | _PRODUCTS:
        return False
    if not op.divisor.isdisjoint(varying):
        return False
    if op.kind in _LINEAR or op.kind == "quotient":
        return True
    if op.factors:
        return sum(not factor.isdisjoint(varying) for factor in op.factors) <= 1
    return len(varying) <= 1


def is_product(name: str) -> bool:
    """Whether an op multiplies or divides its tensors."""
    return kind(name) in _PRODUCTS


def picks(name: str) -> bool:
    """Whether an index, a mask or an order chooses what an op takes or gives: with the same choice it is linear."""
    return kind(name) in _PICKS


def jumps(name: str) -> bool:
    """Whether an op picks, or rounds: no continuous way leads from one result to the next."""
    return picks(name) or kind(name) == "step"


def family(name: str) -> Family:
    """What `repair` makes exact together with an op; "" for an op that stands alone or is not known."""
    op = find(name)
    return "" if op is None else op.family


def captum_module(name: str) -> str:
    """The module type, as "ReLU" for "relu", by which captum rules an op right; "" where it has none.

    Not Softmax and max-pooling: captum has rules for them, but not right ones.
    """
    return _CAPTUM_MODULES.get(name, "")


CAPTUM_POOLS = frozenset(module for module in CAPTUM_TABLE if kind(module) == "pool")
"""The types of captum's table that pool."""
_CAPTUM_MODULES = {op.name: module for module in CAPTUM_TABLE if (op := find(module)) and op.kind == "activation"}
