r"""The Fisher-Rao geodesic of two normals in reduced form, by minimization along a fibre.

The pair is :math:`N(0, I)` and :math:`N(m, \mathrm{diag}\,e^\ell)` in k dimensions (``_normal_pairs`` gets there).
Normals are the base of a Riemannian submersion from the symmetric space of SO(k+1, k). A normal lifts to
:math:`T T^\top` with

.. math:: T = \begin{pmatrix} 1 & & \\ m^\top & 1 & \\ c & -m & 1 \end{pmatrix}
          \mathrm{diag}(e^{-\ell/2}, 1, e^{\ell/2}), \qquad c + c^\top = - m m^\top,

where the skew part of c is free: it moves along the fibre. In the basis that splits :math:`\mathbb R^{k+1,k}` into its
positive and its negative part T has diagonal blocks with singular values :math:`\cosh\theta_i` and an off-diagonal
block with singular values :math:`\sinh\theta_i`. That block is the k by k + 1 matrix

.. math:: C = \bigl[\,-\sinh(\ell/2) - \tfrac12 c\, e^{-\ell/2},\; m / \sqrt2\,\bigr]

(its first part with the hyperbolic sines on the diagonal), linear in the unknown, and

.. math:: d^2 = \min_{\text{skew part of } c} 2 \sum_i \theta_i^2, \qquad \sinh\theta_i = \sigma_i(C).

So one singular value decomposition of order k is an evaluation; nothing cancels for close normals, where C is small;
and gradient and Hessian of the spectral function are closed forms in its factors. The minimizer's C has the geodesic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from infogeo._arrays import Array, namespace

MAX_HALVINGS = 40
"""Halvings of a step before the search along it is given up."""

MAX_DOUBLINGS = 100
"""Doublings of a step where the curvature is not positive."""

SUFFICIENT = 1e-4
"""Fraction of the decrease a step promises that it must bring."""

FAR = 8.0
"""Distance from which the minimum over the fibre may not be the only one; the least found was at 11.8."""

RIVAL_STEPS = 50
"""Steps that the other starts of a far pair are given to get below the first one."""

DENSE = 500
"""Unknowns up to which Newton's equations are solved by elimination where conjugate gradients do not end."""

RESOLUTION = 1e-15
"""A promised decrease of the energy below this fraction is no more than rounding."""

Decomposition = Callable[[Array], tuple[Array, Array, Array]]
"""Matrices (n, k, k+1) to U (n, k, k), singular values (n, k) and V transposed (n, k+1, k+1)."""


@dataclass(frozen=True)
class Fibre:
    """Minimum over the fibre of n reduced pairs of dimension k."""

    energy: Array
    """(n,) sum of the squared angles; the squared distance is twice this."""
    initial_rates: Array
    """(n, k, k+1): the geodesic's velocity, [-B, sqrt(2) x] for rates x of the mean and B of the covariance."""
    final_rates: Array
    """(n, k, k+1): the same at the second normal, in units of its own standard deviations."""
    residual: Array
    """(n,) horizontality: norm of the skew part of B relative to the norm of the velocity."""
    decrement: Array
    """(n,) what another Newton step promises to take off the energy."""
    rounding: Array
    """(n,) estimated rounding error of the energy."""
    iterations: Array
    """(n,) Newton steps, of all starts together."""
    converged: Array
    """(n,) whether the decrement is below the resolution, or below the rounding error, of the energy."""


def full_svd(x: Array) -> tuple[Array, Array, Array]:
    """The decomposition in working precision, by the array's own library."""
    found = namespace(x).linalg.svd(x, full_matrices=True)
    return found[0], found[1], found[2]


def minimize(log_ratios: Array, shift: Array, *, max_iter: int, decompose: Decomposition = full_svd) -> Fibre:
    """Minimize over the fibre for a batch of reduced pairs, by Newton's method with conjugate gradients.

    Parameters
    ----------
    log_ratios : array, shape (n, k)
        Logarithms of the variances, in descending order.
    shift : array, shape (n, k)
        Mean of the second normal.
    max_iter : int
        Newton steps at most.
    decompose : callable
        The singular value decomposition; another one for other precisions.

    Returns
    -------
    Fibre
    """
    if shift.shape[-1] == 0:
        return _nothing(shift)
    problem = _Problem(log_ratios, shift, decompose)
    if problem.rows.shape[0] == 0:
        return problem.result(_at_rest(problem, problem.products))
    xp = problem.xp
    starts = problem.starts()
    if decompose is not full_svd:
        # the wells are told apart in double precision, which is so much faster; those it cannot order are all refined
        plain = _Problem(xp.astype(log_ratios, xp.float64), xp.astype(shift, xp.float64), full_svd)
        starts = _least(plain, [xp.astype(start, xp.float64) for start in starts], max_iter)[1]
        starts = [xp.astype(start, shift.dtype) for start in starts]
    return problem.result(_least(problem, starts, max_iter)[0])


def _least(problem: _Problem, starts: list[Array], max_iter: int) -> tuple[_Run, list[Array]]:
    """The least minimum that a start leads to, and where the runs ended that may have found it, one for each start.

    Near pairs have one minimum, and one start is enough.
    """
    xp = problem.xp
    first = xp.argmin(xp.stack([problem.energies(start) for start in starts]), axis=0)
    tried = [_pick(xp, starts, first)]
    best = _descend(problem, tried[0], max_iter)
    rivals = []
    far = xp.nonzero(best.state.energy > FAR**2 / 2)[0]
    for start in starts if far.shape[0] else []:
        fresh = ~xp.any(xp.stack([xp.all(start == other, axis=-1) for other in tried]), axis=0)
        tried.append(start)
        index = far[fresh[far]]
        if index.shape[0]:
            part = problem.take(index)
            rival = _descend(part, start[index], min(max_iter, RIVAL_STEPS))
            ahead = xp.nonzero(~rival.converged & (rival.state.energy < best.state.energy[index]))[0]
            if ahead.shape[0]:
                rival.replace(ahead, _descend(part.take(ahead), rival.unknown[ahead], max_iter))
            rivals.append((index, rival))
            best.replace(index, rival)
    ends = [best.unknown]
    for index, rival in rivals:
        level = best.state.energy[index] + 4 * best.state.rounding[index]
        end = xp.asarray(best.unknown, copy=True)
        end[index] = xp.where((rival.state.energy <= level)[:, None], rival.unknown, end[index])
        ends.append(end)
    return best, ends


class _Run:
    """Where the iteration stands, for a batch of pairs."""

    __slots__ = ("converged", "decrement", "iterations", "state", "unknown")

    def __init__(self, state: _State, unknown: Array, decrement: Array, iterations: Array, converged: Array) -> None:
        self.state, self.unknown = state, unknown
        self.decrement, self.iterations, self.converged = decrement, iterations, converged

    def replace(self, index: Array, rival: _Run) -> None:
        """Take over the pairs for which the rival found less energy; count its steps in any case.

        A rival that did not converge has to be lower by more than rounding.
        """
        self.iterations[index] += rival.iterations
        energy, converged = self.state.energy[index], self.converged[index]
        lower = rival.state.energy < energy - 4 * self.state.rounding[index]
        better = lower | ((rival.state.energy < energy) & (rival.converged | ~converged))
        chosen = index[better]
        for name in _State.__slots__:
            getattr(self.state, name)[chosen] = getattr(rival.state, name)[better]
        for name in ("unknown", "decrement", "converged"):
            getattr(self, name)[chosen] = getattr(rival, name)[better]


def _pick(xp: Any, starts: list[Array], which: Array) -> Array:
    chosen = starts[0]
    for number in range(1, len(starts)):
        chosen = xp.where((which == number)[:, None], starts[number], chosen)
    return chosen


def _at_rest(problem: _Problem, unknown: Array) -> _Run:
    """A run that has not begun: no step taken, nothing left to gain as far as it knows."""
    xp, n = problem.xp, unknown.shape[0]
    state = problem.state(unknown)
    device = _device(unknown)
    return _Run(
        state, xp.asarray(unknown, copy=True), xp.zeros_like(state.energy),
        xp.zeros(n, dtype=xp.int64, device=device), xp.ones(n, dtype=xp.bool, device=device),
    )  # fmt: skip


def _descend(problem: _Problem, start: Array, max_iter: int) -> _Run:
    """Newton's method from one start for all pairs; those that are done drop out."""
    xp = problem.xp
    run = _at_rest(problem, start)
    state, unknown = run.state, run.unknown
    active = xp.arange(start.shape[0], device=_device(start))
    best_decrement = xp.full_like(state.energy, float("inf"))
    for step_number in range(max_iter + 1):
        part, local = problem.take(active), state.take(active)
        gradient = part.gradient(local)
        direction, bent = part.direction(local, gradient)
        promised = -xp.sum(gradient * direction, axis=-1) / 2
        run.decrement[active] = promised
        enough = xp.maximum(RESOLUTION * local.energy, local.rounding)
        # below the rounding of the energy a step is still worth taking while the promise falls
        stalled = (promised <= enough) & (promised >= best_decrement[active] / 4)
        settled = ~bent & ((promised <= RESOLUTION**1.5 * local.energy) | stalled)
        best_decrement[active] = xp.minimum(best_decrement[active], promised)
        # the promise is that of Newton's method only where the curvature is positive
        run.converged[active] = ~bent & (promised <= enough)
        going = ~settled
        if step_number == max_iter or not bool(xp.any(going)):
            break
        chosen = active[going]
        moved, accepted = problem.take(chosen).search(
            unknown[chosen], local.take(going), direction[going], promised[going], bent[going]
        )
        unknown[chosen] = moved
        active = chosen[accepted]
        run.iterations[active] += 1
        if active.shape[0] == 0:
            break
        fresh = problem.take(active).state(unknown[active])
        for name in _State.__slots__:
            getattr(state, name)[active] = getattr(fresh, name)
    return run


def length_without_search(log_ratios: Array, shift: Array) -> Array:
    """The lesser of the lengths (n,) of two lifts that take no search: an upper bound of the distance."""
    xp = namespace(log_ratios, shift)
    order = xp.argsort(-log_ratios, axis=1, stable=True)
    rows = xp.arange(shift.shape[0], device=_device(shift))[:, None]
    problem = _Problem(log_ratios[rows, order], shift[rows, order], full_svd)
    values = xp.stack([problem.energies(start) for start in problem.simple_starts()])
    return xp.sqrt(2 * xp.min(values, axis=0))


def _nothing(shift: Array) -> Fibre:
    """The end of the iteration for pairs of dimension zero, which have no coordinate that carries a mean."""
    xp, n = namespace(shift), shift.shape[0]
    zero = xp.zeros(n, dtype=shift.dtype, device=_device(shift))
    rates = xp.zeros((n, 0, 1), dtype=shift.dtype, device=_device(shift))
    return Fibre(
        zero, rates, rates, zero, zero, zero, xp.zeros(n, dtype=xp.int64, device=_device(shift)),
        xp.ones(n, dtype=xp.bool, device=_device(shift)),
    )  # fmt: skip


class _State:
    """Value and factors at one point of the fibre, for a batch of pairs."""

    __slots__ = ("angles", "energy", "left", "right", "rounding", "scale")

    def __init__(
        self, left: Array, angles: Array, right: Array, energy: Array, rounding: Array, scale: Array
    ) -> None:
        self.left, self.angles, self.right = left, angles, right
        self.energy, self.rounding, self.scale = energy, rounding, scale

    def take(self, index: Array) -> _State:
        """The same point for some of the pairs."""
        names = ("left", "angles", "right", "energy", "rounding", "scale")
        return _State(*(getattr(self, name)[index] for name in names))


class _Problem:
    r"""Energy, gradient and Hessian over the fibre of a batch of reduced pairs.

    The unknown is the part of c above the diagonal, :math:`z_{ij} = c_{ij}` for :math:`i < j`, with
    :math:`c_{ji} = -m_i m_j - z_{ij}`. As the variances fall with the index, z is the part with the large weights
    :math:`e^{-\ell_j/2}`: it is held itself, not as a difference that cancels.
    """

    def __init__(self, log_ratios: Array, shift: Array, decompose: Decomposition) -> None:
        self.xp = xp = namespace(log_ratios, shift)
        self.log_ratios, self.shift, self.decompose = log_ratios, shift, decompose
        self.k = k = shift.shape[-1]
        above = [(i, j) for i in range(k) for j in range(i + 1, k)]
        self.rows = xp.asarray([i for i, _ in above], dtype=xp.int64, device=_device(shift))
        self.columns = xp.asarray([j for _, j in above], dtype=xp.int64, device=_device(shift))
        self.weights = xp.exp(-log_ratios / 2)
        self.products = shift[:, self.rows] * shift[:, self.columns]

    def take(self, index: Array, *, copies: bool = False) -> _Problem:
        """The same problem for some of the pairs, in their order, or for copies of them."""
        if index.shape[0] == self.shift.shape[0] and not copies:
            return self
        part = object.__new__(_Problem)
        part.__dict__.update(self.__dict__)
        for name in ("log_ratios", "shift", "weights", "products"):
            setattr(part, name, getattr(self, name)[index])
        return part

    def simple_starts(self) -> tuple[Array, Array]:
        """No skew part, and the minimizer of the sum of squares of C."""
        gap = self.log_ratios[:, self.rows] - self.log_ratios[:, self.columns]
        return -self.products / 2, -self.products / (1 + self.xp.exp(gap))

    def starts(self) -> list[Array]:
        """No skew part; the minimizer of the sum of squares of C; and for each unknown alone the better of these two.

        The last takes each pair of coordinates as if there were no others.
        """
        xp, i, j = self.xp, self.rows, self.columns
        plain, squares = self.simple_starts()
        if self.k == 2:
            return [plain, squares]
        shape = (-1, 2)
        pair = _Problem(
            xp.reshape(xp.stack([self.log_ratios[:, i], self.log_ratios[:, j]], axis=-1), shape),
            xp.reshape(xp.stack([self.shift[:, i], self.shift[:, j]], axis=-1), shape),
            self.decompose,
        )
        values = [xp.reshape(pair.energies(xp.reshape(x, (-1, 1))), plain.shape) for x in (plain, squares)]
        return [plain, squares, xp.where(values[1] < values[0], squares, plain)]

    def matrix(self, unknown: Array) -> Array:
        """The matrices C, (n, k, k + 1)."""
        xp, k, m = self.xp, self.k, self.shift
        c = xp.zeros((*m.shape, k + 1), dtype=m.dtype, device=_device(m))
        diagonal = xp.arange(k, device=_device(m))
        c[:, self.rows, self.columns] = -unknown / 2 * self.weights[:, self.columns]
        c[:, self.columns, self.rows] = (self.products + unknown) / 2 * self.weights[:, self.rows]
        c[:, diagonal, diagonal] = m * m / 4 * self.weights - xp.sinh(self.log_ratios / 2)
        c[:, :, k] = m / 2**0.5
        return c

    def energies(self, unknown: Array) -> Array:
        angles = self.xp.asinh(self.decompose(self.matrix(unknown))[1])
        return self.xp.sum(angles * angles, axis=-1)

    def state(self, unknown: Array) -> _State:
        xp = self.xp
        left, singular, right = self.decompose(self.matrix(unknown))
        angles = xp.asinh(singular)
        error = 2 * float(xp.finfo(singular.dtype).eps) * xp.max(singular, axis=-1, keepdims=True)
        # curvature of the majorizer along each unknown alone: the metric in which steps are measured
        load = xp.sum(left * left * _slack(xp, angles)[:, None, :], axis=-1)
        i, j, w = self.rows, self.columns, self.weights
        curvature = (load[:, i] * w[:, j] ** 2 + load[:, j] * w[:, i] ** 2) / 2
        return _State(
            left, angles, right, xp.sum(angles * angles, axis=-1),
            xp.sum(2 * angles * error / xp.hypot(xp.ones_like(singular), singular), axis=-1), 1 / xp.sqrt(curvature),
        )  # fmt: skip

    def pull(self, slope: Array, scale: Array) -> Array:
        """From the derivative by the first k columns of C to the derivative by the scaled unknown."""
        i, j, w = self.rows, self.columns, self.weights
        return (slope[:, j, i] * w[:, i] - slope[:, i, j] * w[:, j]) / 2 * scale

    def push(self, change: Array, scale: Array) -> Array:
        """Change of the first k columns of C with a change of the scaled unknown."""
        i, j, w = self.rows, self.columns, self.weights
        half = change * scale / 2
        c = self.xp.zeros((*self.shift.shape, self.k), dtype=change.dtype, device=_device(change))
        c[:, i, j] = -half * w[:, j]
        c[:, j, i] = half * w[:, i]
        return c

    def gradient(self, at: _State) -> Array:
        slopes = 2 * at.angles / self.xp.cosh(at.angles)
        return self.pull((at.left * slopes[:, None, :]) @ at.right[:, : self.k, : self.k], at.scale)

    def direction(self, at: _State, gradient: Array) -> tuple[Array, Array]:
        """Newton's step by conjugate gradients, and for which pairs they met a direction without positive curvature.

        There they end with a step along that direction, downhill, as long as if its curvature had the other sign. Far
        from the minimum they are ended early. Where they do not end, the equations are solved by elimination.
        """
        xp = self.xp
        hessian = self._hessian(at)
        norm = xp.linalg.vector_norm(gradient, axis=-1)
        relative = norm / xp.sqrt(xp.where(at.energy > 0, at.energy, xp.ones_like(at.energy)))
        goal = norm * xp.clip(relative, 1e-8, 0.1)
        solution, rest = xp.zeros_like(gradient), -gradient
        search, square = rest, norm * norm
        live = norm > 0
        negative = xp.zeros_like(live)
        for _ in range(gradient.shape[-1] + 4):
            image = hessian(search)
            curvature = xp.sum(search * image, axis=-1)
            bent = live & (curvature <= 0)
            size = xp.where(curvature != 0, xp.abs(curvature), xp.ones_like(curvature))
            along = xp.where(live, square / size, xp.zeros_like(square))
            solution = solution + along[:, None] * search
            rest = rest - along[:, None] * image
            fresh = xp.sum(rest * rest, axis=-1)
            negative = negative | bent
            live = live & ~bent & (xp.sqrt(fresh) > goal)
            if not bool(xp.any(live)):
                break
            ratio = xp.where(live, fresh / xp.where(square > 0, square, xp.ones_like(square)), xp.zeros_like(fresh))
            search, square = rest + ratio[:, None] * search, fresh
        if gradient.shape[-1] > DENSE:
            return solution, negative | live  # what the step promises is not known then
        for i in xp.nonzero(live)[0]:
            solution[i], negative[i] = self._eliminated(at, gradient, int(i))
        return solution, negative

    def _hessian(self, at: _State) -> Callable[[Array], Array]:
        """The second derivative by the scaled unknown, times a vector."""
        xp = self.xp
        symmetric, skew = self._second_derivatives(at.angles)
        left_t, right = _transpose(xp, at.left), at.right[:, :, : self.k]
        right_t = _transpose(xp, right)

        def product(v: Array) -> Array:
            r = left_t @ self.push(v, at.scale) @ right_t
            square, last = r[:, :, : self.k], r[:, :, self.k :]
            mirrored = _transpose(xp, square)
            even = symmetric[:, :, : self.k] * (square + mirrored) / 2
            odd = skew[:, :, : self.k] * (square - mirrored) / 2
            whole = xp.concat([even + odd, symmetric[:, :, self.k :] * last], axis=-1)
            return self.pull(at.left @ whole @ right, at.scale)

        return product

    def _eliminated(self, at: _State, gradient: Array, i: int) -> tuple[Array, bool]:
        """The same step of pair i from the eigenvalues of its Hessian, in which no flat direction is lost."""
        xp, size, device = self.xp, gradient.shape[-1], _device(gradient)
        one, portions = xp.eye(size, dtype=gradient.dtype, device=device), []
        for start in range(0, size, self.k):
            unit = one[start : start + self.k]
            index = xp.full(unit.shape[0], i, dtype=xp.int64, device=device)
            portions.append(self.take(index, copies=True)._hessian(at.take(index))(unit))
        rows = xp.concat(portions, axis=0)
        rows = (rows + rows.T) / 2
        # in units of its own diagonal, which can span more digits than a number has
        diagonal = xp.abs(xp.linalg.diagonal(rows))
        unit = 1 / xp.sqrt(xp.where(diagonal > 0, diagonal, xp.ones_like(diagonal)))
        values, vectors = xp.linalg.eigh(xp.astype(unit[:, None] * rows * unit, xp.float64))
        floor = size * float(xp.finfo(xp.float64).eps) * float(xp.max(xp.abs(values)))
        slope = xp.astype(vectors, gradient.dtype).T @ (unit * gradient[i])
        step = vectors @ (slope / xp.clip(xp.abs(values), floor, None))
        return -unit * step, bool(values[0] < -100 * floor)

    def _second_derivatives(self, angles: Array) -> tuple[Array, Array]:
        """Second derivatives of the sum of squared angles by C in the basis of its singular vectors, (n, k, k + 1).

        For the symmetric and the skew part of a change; the last column belongs to the null vector, of angle zero.
        """
        xp = self.xp
        a = angles[:, :, None]
        b = xp.concat([angles, xp.zeros_like(angles[:, :1])], axis=-1)[:, None, :]
        middle, half = (a + b) / 2, xp.abs(a - b) / 2
        both = xp.cosh(a) * xp.cosh(b)
        symmetric = 2 * (_x_coth(xp, half) - middle * xp.tanh(middle)) / both
        skew = 2 * (_x_coth(xp, middle) - half * xp.tanh(half)) / both
        return symmetric, skew

    def search(
        self, unknown: Array, at: _State, direction: Array, promised: Array, bent: Array
    ) -> tuple[Array, Array]:
        """Points with less energy along the directions, and for which pairs there was one.

        Where the curvature is not positive the step is too short as a rule: it is doubled while that helps.
        """
        xp = self.xp
        moved = xp.asarray(unknown, copy=True)
        waiting = xp.arange(unknown.shape[0], device=_device(unknown))
        accepted = xp.zeros(unknown.shape[0], dtype=xp.bool, device=_device(unknown))
        way = direction * at.scale
        step = 1.0
        for _ in range(MAX_HALVINGS):
            trial = unknown[waiting] + step * way[waiting]
            value = self.take(waiting).energies(trial)
            allowed = at.energy[waiting] - SUFFICIENT * step * 2 * promised[waiting] + 2 * at.rounding[waiting]
            good = value <= allowed
            moved[waiting[good]] = trial[good]
            accepted[waiting[good]] = True
            waiting = waiting[~good]
            if waiting.shape[0] == 0:
                break
            step /= 2
        growing = xp.nonzero(bent)[0]
        best = self.take(growing).energies(moved[growing]) if growing.shape[0] else None
        for _ in range(MAX_DOUBLINGS):
            if growing.shape[0] == 0:
                break
            trial = 2 * moved[growing] - unknown[growing]
            value = self.take(growing).energies(trial)
            better = value < best
            growing, best = growing[better], value[better]
            moved[growing] = trial[better]
            accepted[growing] = True
        return moved, accepted

    def result(self, run: _Run) -> Fibre:
        """Everything about the end of the iteration, with the velocity of the geodesic and its residual."""
        xp, k, state = self.xp, self.k, run.state
        slopes = 2 * state.angles / xp.cosh(state.angles)
        slope = (state.left * slopes[:, None, :]) @ state.right[:, :k, :]
        positive, negative = self._blocks(run.unknown)
        rates = slope @ _transpose(xp, positive)
        square = rates[:, :, :k]
        skew = (square - _transpose(xp, square)) / 2
        size = xp.sqrt(xp.sum(rates * rates, axis=(-2, -1)))
        residual = xp.sqrt(xp.sum(skew * skew, axis=(-2, -1))) / xp.where(size > 0, size, xp.ones_like(size))
        final = _transpose(xp, negative) @ slope
        return Fibre(
            state.energy, rates, final, residual, run.decrement, state.rounding, run.iterations, run.converged
        )

    def _blocks(self, unknown: Array) -> tuple[Array, Array]:
        """The diagonal blocks of T, of orders k + 1 and k: they take the factors of C from one end to the other."""
        xp, k, m = self.xp, self.k, self.shift
        block = xp.zeros((m.shape[0], k + 1, k + 1), dtype=m.dtype, device=_device(m))
        diagonal = xp.arange(k, device=_device(m))
        block[:, self.rows, self.columns] = unknown / 2 * self.weights[:, self.columns]
        block[:, self.columns, self.rows] = -(self.products + unknown) / 2 * self.weights[:, self.rows]
        block[:, diagonal, diagonal] = xp.cosh(self.log_ratios / 2) - m * m / 4 * self.weights
        block[:, :k, k] = -m / 2**0.5
        block[:, k, :k] = m * self.weights / 2**0.5
        block[:, k, k] = 1.0
        negative = xp.asarray(block[:, :k, :k], copy=True)
        negative[:, self.rows, self.columns] *= -1.0
        negative[:, self.columns, self.rows] *= -1.0
        negative[:, diagonal, diagonal] = xp.cosh(self.log_ratios / 2) + m * m / 4 * self.weights
        return block, negative


def _slack(xp: Any, angles: Array) -> Array:
    r"""Derivative of :math:`\theta^2` by :math:`\sinh^2\theta`: what a unit of the squared singular value weighs."""
    small = angles < 1e-6
    safe = xp.where(small, xp.ones_like(angles), angles)
    return xp.where(small, xp.ones_like(angles), 4 * safe * xp.exp(-2 * safe) / -xp.expm1(-4 * safe))


def _x_coth(xp: Any, x: Array) -> Array:
    small = x < 1e-3
    safe = xp.where(small, xp.ones_like(x), x)
    return xp.where(small, 1 + x * x / 3, safe / xp.tanh(safe))


def _transpose(xp: Any, x: Array) -> Array:
    return xp.permute_dims(x, (0, 2, 1))


def _device(x: Array) -> Any:
    return getattr(x, "device", None)
