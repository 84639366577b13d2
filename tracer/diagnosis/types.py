"""Types of modules and names of ops, by what DeepLIFT has to know about them."""

from __future__ import annotations

import re
from functools import lru_cache

# captum 0.9's own table, `captum.attr._core.deep_lift.SUPPORTED_NON_LINEAR`.
CAPTUM_TABLE = frozenset({
    "ReLU", "ELU", "LeakyReLU", "Sigmoid", "Tanh", "Softplus", "MaxPool1d", "MaxPool2d", "MaxPool3d", "Softmax",
})  # fmt: skip
MAX_POOLS = frozenset({"MaxPool1d", "MaxPool2d", "MaxPool3d"})
SOFTMAX = frozenset({"Softmax", "softmax"})
# A function that captum has a right rule for as soon as it is a module.
AS_MODULE = {
    "relu": "nn.ReLU", "elu": "nn.ELU", "leaky_relu": "nn.LeakyReLU", "sigmoid": "nn.Sigmoid", "tanh": "nn.Tanh",
    "softplus": "nn.Softplus",
}  # fmt: skip
PROBABILITIES = frozenset({"Softmax", "softmax", "Sigmoid", "sigmoid"})

# Linear in the tensors that depend on the input, as long as what else they take is the same in both runs.
LINEAR = frozenset({
    "Linear", "Bilinear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d",
    "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout", "Identity", "Flatten",
    "Unflatten", "Embedding", "EmbeddingBag", "AvgPool1d", "AvgPool2d", "AvgPool3d", "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm",
    "ZeroPad1d", "ZeroPad2d", "ZeroPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d", "ReflectionPad1d",
    "ReflectionPad2d", "ReplicationPad1d", "ReplicationPad2d", "Upsample", "UpsamplingNearest2d",
    "UpsamplingBilinear2d", "PixelShuffle", "PixelUnshuffle", "Fold", "Unfold",
    "linear", "add", "sub", "rsub", "neg", "cat", "stack", "hstack", "vstack", "sum", "mean", "cumsum", "pad", "to",
    "float", "half", "double", "bfloat16", "type_as", "dropout", "feature_dropout", "embedding", "conv1d", "conv2d",
    "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "batch_norm", "addmm", "baddbmm",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "interpolate", "tril",
    "triu", "fill", "zero", "copy", "mul", "matmul", "bmm", "mm", "mv", "dot", "div", "einsum", "rmatmul",
    "repeat", "expand", "roll", "flip", "clone", "unfold", "fold", "lerp", "trace", "diag", "diag_embed",
})  # fmt: skip
# Products: linear in each operand, not in two at once.
PRODUCTS = frozenset({
    "mul", "matmul", "rmatmul", "mm", "bmm", "mv", "dot", "vdot", "inner", "outer", "ger", "kron", "div", "rdiv",
    "einsum", "addmm", "addmv", "addr", "addbmm", "baddbmm", "addcmul", "addcdiv", "tensordot", "linalg_vecdot",
    "chain_matmul", "multi_dot", "cross", "linalg_cross", "bilinear", "linear", "conv1d", "conv2d", "conv3d",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "lerp", "glu", "prod", "Bilinear",
})  # fmt: skip
# What these take or give is chosen by an index, a mask, an order or a rounding that jumps between the runs.
CHOICES = frozenset({
    "where", "topk", "sort", "msort", "kthvalue", "median", "nanmedian", "mode", "gather", "take", "take_along_dim",
    "getitem", "setitem", "index", "index_select", "index_put", "index_add", "index_copy", "index_fill",
    "masked_select", "masked_fill", "masked_scatter", "scatter", "scatter_add", "scatter_reduce", "round", "floor",
    "ceil", "trunc", "fix", "sign", "sgn", "heaviside", "floor_divide", "one_hot", "bucketize",
})  # fmt: skip

_NORM_OPS = frozenset({
    "layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm", "norm", "linalg_norm",
    "linalg_vector_norm", "std", "var", "var_mean", "std_mean", "normalize",
})  # fmt: skip
_NORM_MODULES = frozenset({
    "LayerNorm", "GroupNorm", "RMSNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "LocalResponseNorm",
    "CrossMapLRN2d",
})  # fmt: skip
# Ops of which normalisations are written out: (x − mean)·rsqrt(var + eps).
_NORM_PARTS = frozenset({"pow", "square", "rsqrt", "sqrt", "reciprocal", "mul", "div", "rdiv"})


@lru_cache(1024)
def norm_of(kind: str, type_name: str, module_type: str) -> str:
    """The name of the normalisation that a call is, or is a part of; "" for none.

    Batch norm is none: it divides by a constant. A module that is named a norm and computes one from other ops is one.
    """
    if type_name in _NORM_MODULES or type_name in _NORM_OPS:
        return type_name
    own = kind != "module" and type_name in _NORM_PARTS and re.search(r"Norm([A-Z]\w*|\d?d)?$", module_type)
    return module_type if own and "BatchNorm" not in module_type else ""


@lru_cache(1024)
def linearised_fault(kind: str, name: str, module_type: str, several: bool, observed: bool) -> str:
    """The fault of a leaking call through which the plain gradient went; "" for what ought to be linear.

    `several`: more than one of its operands varies; `observed`: captum itself ran, and rules what is in its table.
    """
    if norm_of(kind, name, module_type):
        return "linearised-norm"
    if name in CHOICES:
        return ""
    if name in PRODUCTS and several:
        return "linearised-product"
    if name in LINEAR:
        return ""
    if kind == "op":
        return "unseen-op"
    return "" if observed and name in CAPTUM_TABLE else "unsupported-module"
