"""Solutions of linear systems as products with an inverse, and determinants in other forms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def inverse_of(a: Tensor) -> Tensor:
    """A⁻¹."""
    found: Tensor = torch.linalg.inv(a)
    return found


def solve(a: Tensor, b: Tensor, *, left: bool = True, check_errors: bool = False) -> Tensor:
    """A⁻¹·b, or b·A⁻¹ unless `left`; `b` may be a vector."""
    inverse = inverse_of(a)
    vector = b.dim() == 1 or (b.dim() == a.dim() - 1 and b.shape == a.shape[:-1])
    right = b.unsqueeze(-1) if vector else b
    found = inverse @ right if left else right @ inverse
    return found.squeeze(-1) if vector else found


def solve_ex(a: Tensor, b: Tensor, *, left: bool = True, check_errors: bool = False) -> tuple[Tensor]:
    """The same beside a code of success."""
    return (solve(a, b, left=left),)


def solve_triangular(a: Tensor, b: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """The same of one triangle of `a`, its diagonal 1 if `unitriangular`."""
    inverse = inverse_of(triangle(a, upper, unitriangular))
    return inverse @ b if left else b @ inverse


def triangular_solve(
    b: Tensor, a: Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> tuple[Tensor, Tensor]:
    """`torch.triangular_solve`, which gives back the matrix too."""
    inverse = inverse_of(triangle(a, upper, unitriangular))
    return (inverse.transpose(-2, -1) if transpose else inverse) @ b, a.clone()


def triangle(a: Tensor, upper: bool, unitriangular: bool) -> Tensor:
    """One triangle of a matrix, with ones on its diagonal if `unitriangular`."""
    if not unitriangular:
        return a.triu() if upper else a.tril()
    return (a.triu(1) if upper else a.tril(-1)) + torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)


def cholesky_solve(b: Tensor, factor: Tensor, upper: bool = False) -> Tensor:
    """(L·Lᵀ)⁻¹·b."""
    return cholesky_inverse(factor, upper) @ b


def cholesky_inverse(factor: Tensor, upper: bool = False) -> Tensor:
    """(L·Lᵀ)⁻¹."""
    inverse = inverse_of(triangle(factor, upper, False))
    return inverse @ inverse.transpose(-2, -1) if upper else inverse.transpose(-2, -1) @ inverse


def lu_solve(lu: Tensor, pivots: Tensor, b: Tensor, *, left: bool = True, adjoint: bool = False) -> Tensor:
    """The solution by a factorisation P·L·U."""
    order = torch.lu_unpack(torch.zeros_like(lu), pivots, unpack_data=False)[0]
    inverse = inverse_of(triangle(lu, True, False)) @ inverse_of(triangle(lu, False, True))
    inverse = inverse @ order.transpose(-2, -1).to(lu.dtype)
    inverse = inverse.transpose(-2, -1) if adjoint else inverse
    return inverse @ b if left else b @ inverse


def lu_solve_old(b: Tensor, lu: Tensor, pivots: Tensor) -> Tensor:
    """`torch.lu_solve`, which takes the right side first."""
    return lu_solve(lu, pivots, b)


def symmetric(a: Tensor, lower: bool = True) -> Tensor:
    """The matrix that an op reads from one triangle; torch's own derivative takes it for symmetric to begin with."""
    half = a.tril() if lower else a.triu()
    return half + (a.tril(-1) if lower else a.triu(1)).transpose(-2, -1)


def eigvalsh(a: Tensor, UPLO: str = "L") -> Tensor:
    """Eigenvalues of a symmetric matrix."""
    values: Tensor = torch.linalg.eigh(symmetric(a, UPLO.upper() == "L"))[0]
    return values


def cond(a: Tensor, p: float | str | None = None) -> Tensor:
    """The largest singular value over the smallest; by an inverse for other norms."""
    if p in (None, 2, -2):
        values: Tensor = torch.linalg.svdvals(a)
        large, small = values[..., 0], values[..., -1]
        return small / large if p == -2 else large / small
    first, second = (torch.linalg.matrix_norm(t, p) for t in (a, inverse_of(a)))
    return first * second  # type: ignore[no-any-return]


def pinv(a: Tensor, *_settings: object, hermitian: bool = False, **_named: object) -> Tensor:
    """The pseudo-inverse of a matrix whose rows, or columns, are independent."""
    if hermitian:
        return inverse_of(symmetric(a))
    turned = a.transpose(-2, -1)
    if a.shape[-1] == a.shape[-2]:
        return inverse_of(a)
    if a.shape[-2] > a.shape[-1]:
        return inverse_of(turned @ a) @ turned
    return turned @ inverse_of(a @ turned)


def tensorinv(a: Tensor, ind: int = 2) -> Tensor:
    """The inverse of a tensor read as a matrix of its first `ind` axes by the others."""
    rows = 1
    for size in a.shape[:ind]:
        rows *= size
    return inverse_of(a.reshape(rows, -1)).reshape(*a.shape[ind:], *a.shape[:ind])


def logdet(a: Tensor) -> Tensor:
    """log det A."""
    found: Tensor = torch.linalg.det(a)
    return found.log()


def slogdet(a: Tensor) -> tuple[Tensor, Tensor]:
    """(sign, log of the size) of the determinant."""
    found = torch.linalg.det(a)
    return found.sign(), found.abs().log()


def matrix_power(a: Tensor, n: int) -> Tensor:
    """A multiplied by itself, or its inverse by itself."""
    base = inverse_of(a) if n < 0 else a
    if n == 0:
        return torch.eye(a.shape[-1], dtype=a.dtype, device=a.device).expand_as(a).clone()
    found = None
    for digit in bin(abs(n))[2:]:
        found = base if found is None else (found @ found) @ base if digit == "1" else found @ found
    assert found is not None
    return found


def tensorsolve(a: Tensor, b: Tensor, dims: Sequence[int] | None = None) -> Tensor:
    """The solution of a system in tensors, `a` read as a matrix of as many rows as `b` has elements."""
    if dims is not None:
        a = a.movedim(list(dims), list(range(a.dim() - len(dims), a.dim())))
    shape = a.shape[b.dim() :]
    return (inverse_of(a.reshape(b.numel(), -1)) @ b.reshape(-1)).reshape(shape)


def lstsq(a: Tensor, b: Tensor, *_settings: object, **_named: object) -> tuple[Tensor, ...]:
    """(solution of least squares where rows or columns are independent[, squared distances that are left])."""
    found = pinv(a) @ b
    return (found, (a @ found - b).square().sum(-2)) if a.shape[-2] > a.shape[-1] else (found,)
