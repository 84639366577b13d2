"""Solutions of linear systems as products with an inverse, and determinants in other forms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def inverse_of(a: Tensor) -> Tensor:
    """A⁻¹."""
    found: Tensor = torch.linalg.inv(a)
    return found


def solve(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> Tensor:
    """A⁻¹·B, or B·A⁻¹ unless `left`; `B` may be a vector."""
    inverse = inverse_of(A)
    vector = B.dim() == 1 or (B.dim() == A.dim() - 1 and B.shape == A.shape[:-1])
    right = B.unsqueeze(-1) if vector else B
    found = inverse @ right if left else right @ inverse
    return found.squeeze(-1) if vector else found


def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> tuple[Tensor]:
    """`solve` in a tuple, as torch gives it beside an error code."""
    return (solve(A, B, left=left),)


def solve_triangular(
    input: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """`solve` by one triangle of `input`, its diagonal 1 if `unitriangular`."""
    inverse = inverse_of(triangle(input, upper, unitriangular))
    return inverse @ B if left else B @ inverse


def triangular_solve(
    input: Tensor, A: Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> tuple[Tensor, Tensor]:
    """`torch.triangular_solve`, which gives back the matrix too."""
    inverse = inverse_of(triangle(A, upper, unitriangular))
    return (inverse.transpose(-2, -1) if transpose else inverse) @ input, A.clone()


def triangle(a: Tensor, upper: bool, unitriangular: bool) -> Tensor:
    """One triangle of a matrix, with ones on its diagonal if `unitriangular`."""
    if not unitriangular:
        return a.triu() if upper else a.tril()
    return (a.triu(1) if upper else a.tril(-1)) + torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)


def cholesky_solve(input: Tensor, input2: Tensor, upper: bool = False) -> Tensor:
    """(L·Lᵀ)⁻¹·input, the factor L being `input2`."""
    return cholesky_inverse(input2, upper) @ input


def cholesky_inverse(input: Tensor, upper: bool = False) -> Tensor:
    """(L·Lᵀ)⁻¹."""
    inverse = inverse_of(triangle(input, upper, False))
    return inverse @ inverse.transpose(-2, -1) if upper else inverse.transpose(-2, -1) @ inverse


def lu_solve(LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False) -> Tensor:
    """The solution by a factorisation P·L·U."""
    order = torch.lu_unpack(torch.zeros_like(LU), pivots, unpack_data=False)[0]
    inverse = inverse_of(triangle(LU, True, False)) @ inverse_of(triangle(LU, False, True))
    inverse = inverse @ order.transpose(-2, -1).to(LU.dtype)
    inverse = inverse.transpose(-2, -1) if adjoint else inverse
    return inverse @ B if left else B @ inverse


def lu_solve_old(input: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """`torch.lu_solve`, which takes the right side first."""
    return lu_solve(LU_data, LU_pivots, input)


def symmetric(a: Tensor, lower: bool = True) -> Tensor:
    """The matrix that an op reads from one triangle; torch's own derivative takes it for symmetric to begin with."""
    half = a.tril() if lower else a.triu()
    return half + (a.tril(-1) if lower else a.triu(1)).transpose(-2, -1)


def eigvalsh(input: Tensor, UPLO: str = "L") -> Tensor:
    """Eigenvalues of a symmetric matrix."""
    values: Tensor = torch.linalg.eigh(symmetric(input, UPLO.upper() == "L"))[0]
    return values


def cond(input: Tensor, p: float | str | None = None) -> Tensor:
    """The largest singular value over the smallest; by an inverse for other norms."""
    if p in (None, 2, -2):
        values: Tensor = torch.linalg.svdvals(input)
        large, small = values[..., 0], values[..., -1]
        return small / large if p == -2 else large / small
    first, second = (torch.linalg.matrix_norm(t, p) for t in (input, inverse_of(input)))
    return first * second  # type: ignore[no-any-return]


def pinv(input: Tensor, *_settings: object, hermitian: bool = False, **_named: object) -> Tensor:
    """The pseudo-inverse of a matrix whose rows, or columns, are independent."""
    if hermitian:
        return inverse_of(symmetric(input))
    turned = input.transpose(-2, -1)
    if input.shape[-1] == input.shape[-2]:
        return inverse_of(input)
    if input.shape[-2] > input.shape[-1]:
        return inverse_of(turned @ input) @ turned
    return turned @ inverse_of(input @ turned)


def tensorinv(input: Tensor, ind: int = 2) -> Tensor:
    """The inverse of a tensor read as a matrix of its first `ind` axes by the others."""
    return inverse_of(input.reshape(math.prod(input.shape[:ind]), -1)).reshape(*input.shape[ind:], *input.shape[:ind])


def logdet(input: Tensor) -> Tensor:
    """log det A."""
    found: Tensor = torch.linalg.det(input)
    return found.log()


def slogdet(input: Tensor) -> tuple[Tensor, Tensor]:
    """(sign, log of the size) of the determinant."""
    found = torch.linalg.det(input)
    return found.sign(), found.abs().log()


def linalg_slogdet(A: Tensor) -> tuple[Tensor, Tensor]:
    """The same by the name that `torch.linalg` gives the matrix."""
    return slogdet(A)


def matrix_power(input: Tensor, n: int) -> Tensor:
    """The product of n matrices, or of −n inverses: squared at each binary digit of n, and multiplied at each 1."""
    base = inverse_of(input) if n < 0 else input
    if n == 0:
        return torch.eye(input.shape[-1], dtype=input.dtype, device=input.device).expand_as(input).clone()
    found = base
    for digit in f"{abs(n):b}"[1:]:
        found = found @ found
        if digit == "1":
            found = found @ base
    return found


def tensorsolve(input: Tensor, other: Tensor, dims: Sequence[int] | None = None) -> Tensor:
    """The solution of a system in tensors, `input` read as a matrix of as many rows as `other` has elements."""
    if dims is not None:
        input = input.movedim(list(dims), list(range(input.dim() - len(dims), input.dim())))
    shape = input.shape[other.dim() :]
    return (inverse_of(input.reshape(other.numel(), -1)) @ other.reshape(-1)).reshape(shape)


def lstsq(input: Tensor, b: Tensor, *_settings: object, **_named: object) -> tuple[Tensor, ...]:
    """(solution of least squares where rows or columns are independent[, squared distances that are left])."""
    found = pinv(input) @ b
    return (found, (input @ found - b).square().sum(-2)) if input.shape[-2] > input.shape[-1] else (found,)
