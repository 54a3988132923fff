"""Fisher information of torch models by products, against dense matrices, Hessians and Monte Carlo."""

from __future__ import annotations

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from torch.func import functional_call, hessian, jacrev  # noqa: E402

from infogeo.errors import (  # noqa: E402
    ArgumentError,
    ConvergenceError,
    DomainError,
    MissingDependencyError,
    ModelError,
    ShapeError,
)
from infogeo_adapters import (  # noqa: E402
    FisherOperator,
    empirical_fisher,
    generalized_gauss_newton,
    natural_gradient,
)


def network(seed=0, outputs=3):
    torch.manual_seed(seed)
    layers = torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, outputs)
    return torch.nn.Sequential(*layers).double().eval()


@pytest.fixture(scope="module")
def case():
    """A network, inputs, targets, its Jacobian (samples, outputs, n) and the curvature of the softmax."""
    net = network()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(6, 3, dtype=torch.float64, generator=generator)
    y = torch.tensor([0, 2, 1, 1, 0, 2])
    parameters = {k: v.detach() for k, v in net.named_parameters()}
    jacobian = jacrev(lambda p: functional_call(net, p, (x,)))(parameters)
    flat = torch.cat([j.reshape(6, 3, -1) for j in jacobian.values()], -1)
    p = torch.softmax(net(x).detach(), -1)
    return net, x, y, flat, torch.diag_embed(p) - p[:, :, None] * p[:, None]


def gradients(net, x, y):
    rows = []
    for a, b in zip(x, y, strict=True):
        net.zero_grad()
        torch.nn.functional.cross_entropy(net(a[None]), b[None]).backward()
        rows.append(torch.cat([p.grad.reshape(-1) for p in net.parameters()]))
    net.zero_grad(set_to_none=True)
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("differentiation", ["forward", "double_backward"])
@pytest.mark.parametrize("batch_size", [1, 4, 8])
def test_gauss_newton_is_the_dense_product(case, differentiation, batch_size):
    net, x, _, jacobian, curve = case
    operator = generalized_gauss_newton(net, x, batch_size=batch_size, differentiation=differentiation)
    wanted = (jacobian.mT @ curve @ jacobian).mean(0).numpy()
    np.testing.assert_allclose(operator.to_dense(), wanted, atol=1e-15)
    assert (operator.size, operator.observations, operator.scale) == (31, 6, 1 / 6)
    total = generalized_gauss_newton(net, x, reduction="sum")
    v = np.linspace(-1, 1, 31)
    np.testing.assert_allclose(total.matvec(v), 6 * wanted @ v, atol=1e-14)
    assert operator.quadratic_form(v) == pytest.approx(v @ wanted @ v, rel=1e-13)
    np.testing.assert_allclose(operator.linear_operator() @ np.stack([v, v**2], 1), wanted @ np.stack([v, v**2], 1),
                               atol=1e-14)


def test_gauss_newton_of_normal_outputs(case):
    net, x, _, jacobian, _ = case
    operator = generalized_gauss_newton(net, x, output="gaussian", variance=0.25)
    np.testing.assert_allclose(operator.to_dense(), 4 * (jacobian.mT @ jacobian).mean(0).numpy(), atol=1e-14)


@pytest.mark.parametrize("output", ["softmax", "gaussian"])
def test_of_a_linear_model_it_is_the_hessian_of_the_loss(output):
    torch.manual_seed(2)
    net = torch.nn.Linear(3, 4).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 3, 1])
    scores = torch.randn(5, 4, dtype=torch.float64)

    def loss(flat):
        found = x @ flat[:12].reshape(4, 3).T + flat[12:]
        if output == "softmax":
            return torch.nn.functional.cross_entropy(found, y)
        return ((found - scores) ** 2).sum(-1).mean() / 2

    flat = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
    operator = generalized_gauss_newton(net, x, output=output)
    np.testing.assert_allclose(operator.to_dense(), hessian(loss)(flat).numpy(), atol=1e-15)


def test_it_is_the_expectation_of_the_scores_of_targets_drawn_from_the_model(case):
    net, x, *_ = case
    exact = generalized_gauss_newton(net, x[:1]).to_dense()
    p = torch.softmax(net(x[:1]).detach(), -1)[0]
    expected = sum(
        float(p[k]) * empirical_fisher(net, x[:1], torch.tensor([k])).to_dense() for k in range(3)
    )
    np.testing.assert_allclose(exact, expected, atol=1e-15)
    drawn = torch.multinomial(p, 300, replacement=True, generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn, minlength=3).double() / 300
    sampled = sum(float(counts[k]) * empirical_fisher(net, x[:1], torch.tensor([k])).to_dense() for k in range(3))
    assert np.abs(sampled - exact).max() < 0.15 * np.abs(exact).max()


def test_empirical_fisher_is_the_sum_of_outer_products(case):
    net, x, y, *_ = case
    g = gradients(net, x, y)
    operator = empirical_fisher(net, x, y, batch_size=4)
    np.testing.assert_allclose(operator.to_dense(), g.T @ g / 6, atol=1e-15)
    np.testing.assert_allclose(operator.loss_gradient(), g.mean(0), atol=1e-15)
    np.testing.assert_allclose(operator.diagonal(method="exact").value, (g**2).mean(0), atol=1e-15)
    assert operator.trace(method="exact").value == pytest.approx((g**2).sum() / 6, rel=1e-13)
    np.testing.assert_allclose(empirical_fisher(net, x, y, reduction="sum").loss_gradient(), g.sum(0), atol=1e-14)


def test_units_of_samples_with_several_predictions(case):
    net, x, y, *_ = case
    g = gradients(net, x, y).reshape(2, 3, -1)
    pair, aims = x.reshape(2, 3, 3), y.reshape(2, 3)
    each = empirical_fisher(net, pair, aims, reduction="sum").to_dense()
    np.testing.assert_allclose(each, np.einsum("abi,abj->ij", g, g), atol=1e-14)
    whole = empirical_fisher(net, pair, aims, unit="sample", reduction="sum")
    assert whole.observations == 2
    np.testing.assert_allclose(whole.to_dense(), np.einsum("ai,aj->ij", g.sum(1), g.sum(1)), atol=1e-14)
    target = torch.zeros(6, 3, dtype=torch.float64)
    normal = empirical_fisher(net, x, target, output="gaussian", variance=2.0)
    residual = net(x).detach()
    _, _, _, jacobian, _ = case
    scores = torch.einsum("sk,skn->sn", residual, jacobian).numpy() / 2
    np.testing.assert_allclose(normal.to_dense(), scores.T @ scores / 6, atol=1e-14)


@pytest.mark.parametrize("method", ["factor", "hutchinson"])
def test_probes_find_trace_and_diagonal_within_their_errors(case, method):
    net, x, *_ = case
    operator = generalized_gauss_newton(net, x)
    dense = operator.to_dense()
    trace = operator.trace(method=method, probes=150, rng=3)
    assert (trace.probes, trace.method) == (150, method)
    assert 0 < trace.standard_error < 0.2 * trace.value
    assert abs(trace.value - np.trace(dense)) < 4 * trace.standard_error
    again = operator.trace(method=method, probes=150, rng=3)
    assert again.value == trace.value
    diagonal = operator.diagonal(method=method, probes=150, rng=4)
    off = np.abs(diagonal.value - np.diag(dense)) / diagonal.standard_error
    assert off.max() < 5
    assert 0.4 < np.mean(off < 1) < 0.95  # the errors are neither boasts nor excuses
    if method == "factor":
        assert (diagonal.value >= 0).all()


def test_exact_trace_and_diagonal_by_both_routes(case):
    net, x, *_ = case
    for rows in (1, 6):  # fewer outputs than parameters, and more with the bias alone
        for names in (None, "2.bias"):
            operator = generalized_gauss_newton(net, x[:rows], parameters=names)
            dense = operator.to_dense()
            exact = operator.diagonal(method="exact")
            np.testing.assert_allclose(exact.value, np.diag(dense), atol=1e-15)
            assert not exact.standard_error.any()
            assert operator.trace(method="exact").value == pytest.approx(np.trace(dense), rel=1e-13)


def test_eigenpairs_and_their_certificate(case):
    net, x, *_ = case
    small = generalized_gauss_newton(net, x)
    found = small.eigenpairs(3)
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(small.to_dense())[::-1][:3], rtol=1e-12)
    wide = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    operator = generalized_gauss_newton(wide, x)
    assert operator.size > 32  # so that the matrix is not formed
    pairs = operator.eigenpairs(3)
    dense = operator.to_dense()
    np.testing.assert_allclose(pairs.values, np.linalg.eigvalsh(dense)[::-1][:3], rtol=1e-10)
    np.testing.assert_allclose(pairs.residual, np.linalg.norm(dense @ pairs.vectors - pairs.vectors * pairs.values,
                                                              axis=0), atol=1e-14)
    assert pairs.converged
    assert pairs.iterations > 3
    with pytest.raises(ConvergenceError, match="allow more iterations") as caught:
        operator.eigenpairs(3, max_iter=1, tol=1e-18)
    assert not caught.value.result.converged


def test_natural_gradient_solves_the_damped_equation(case):
    net, x, y, *_ = case
    operator = generalized_gauss_newton(net, x)
    gradient = empirical_fisher(net, x, y).loss_gradient()
    found = natural_gradient(operator, gradient, damping=0.01)
    system = operator.to_dense() + 0.01 * np.eye(31)
    np.testing.assert_allclose(found.direction, np.linalg.solve(system, gradient), rtol=1e-6, atol=1e-8)
    residual = np.linalg.norm(system @ found.direction - gradient) / np.linalg.norm(gradient)
    assert found.residual == pytest.approx(residual, rel=1e-3, abs=1e-13)
    assert found.residual <= found.tolerance == 1e-8
    named = operator.split(gradient)
    assert [tuple(v.shape) for v in named.values()] == [(4, 3), (4,), (3, 4), (3,)]
    again = natural_gradient(operator, named, damping=0.01)
    np.testing.assert_array_equal(again.direction, found.direction)
    np.testing.assert_array_equal(operator.join(named), gradient)
    zero = natural_gradient(operator, np.zeros(31), damping=0.0)
    assert (zero.iterations, zero.residual, not zero.direction.any()) == (0, 0.0, True)
    with pytest.raises(ConvergenceError, match="raise the damping") as caught:
        natural_gradient(operator, gradient, damping=1e-9, max_iter=1)
    assert caught.value.result.direction.shape == (31,)


def test_natural_gradient_of_a_normal_model_is_one_newton_step():
    torch.manual_seed(4)
    net = torch.nn.Linear(2, 1).double()
    x, y = torch.randn(9, 2, dtype=torch.float64), torch.randn(9, 1, dtype=torch.float64)
    operator = generalized_gauss_newton(net, x, output="gaussian")
    gradient = empirical_fisher(net, x, y, output="gaussian").loss_gradient()
    step = operator.split(natural_gradient(operator, gradient, damping=0.0, tol=1e-12).direction)
    with torch.no_grad():
        for name, p in net.named_parameters():
            p -= step[name]
    best = np.linalg.lstsq(np.hstack([x.numpy(), np.ones((9, 1))]), y.numpy(), rcond=None)[0][:, 0]
    np.testing.assert_allclose(np.r_[net.weight.detach().numpy()[0], net.bias.detach().numpy()], best, rtol=1e-9)


# -------------------------------------------------------------------------------------------------- kinds of module


def test_attention_dropout_and_recurrent_layers():
    torch.manual_seed(5)
    attention = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.5).double()
    x = torch.randn(3, 4, 8, dtype=torch.float64)
    one = generalized_gauss_newton(attention, x, output="gaussian", parameters="*norm*")
    two = generalized_gauss_newton(
        attention, x, output="gaussian", parameters="*norm*", differentiation="double_backward", batch_size=2)
    v = np.linspace(-1, 1, one.size)
    assert one.observations == 12
    np.testing.assert_allclose(one.matvec(v), two.matvec(v), atol=1e-13)
    assert attention.training
    assert torch.backends.mha.get_fastpath_enabled()
    assert all(p.grad is None and p.requires_grad for p in attention.parameters())


class Odd(torch.autograd.Function):
    """A function that knows its derivative one way only."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


def test_an_operation_without_the_derivative_is_named():
    class Layer(torch.nn.Linear):
        def forward(self, x):
            return Odd.apply(super().forward(x))

    operator = generalized_gauss_newton(Layer(2, 2), torch.randn(1, 2))
    with pytest.raises(ModelError, match=r"Layer has an operation without the derivative.*try differentiation="):
        operator.matvec(np.ones(6))


def test_inputs_by_keyword_and_in_tuples(case):
    net, x, *_ = case

    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, a, b, flag=False):
            return self.net(a * b) if flag else self.net(a)

    b = torch.full((6, 1), 2.0, dtype=torch.float64)
    wanted = generalized_gauss_newton(net, 2 * x).to_dense()
    named = generalized_gauss_newton(Scaled(), {"a": x, "b": b, "flag": True}, batch_size=4)
    np.testing.assert_allclose(named.to_dense(), wanted, atol=1e-15)
    np.testing.assert_allclose(generalized_gauss_newton(Scaled(), (x, b)).to_dense(),
                               generalized_gauss_newton(net, x).to_dense(), atol=1e-15)


def test_single_precision_and_tensors_in_and_out(case):
    net, x, *_ = case
    single = network().float()
    operator = generalized_gauss_newton(single, x.float())
    exact = generalized_gauss_newton(net, x)
    v = torch.linspace(-1, 1, 31, dtype=torch.float64)
    found = operator.matvec(v)
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, exact.matvec(v.numpy()), rtol=1e-4, atol=1e-6)
    assert natural_gradient(operator, v, damping=0.1).tolerance == 1e-4


# --------------------------------------------------------------------------------------------------- language models


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_next_tokens_of_a_language_model(tiny, family):
    model = tiny(family)
    texts = ["The old man ran home.", "She sells shells."]
    norms = "transformer.ln_f*" if family == "gpt2" else "model.norm*"
    operator = generalized_gauss_newton(model, texts, parameters=norms, reduction="sum")
    wanted, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([model.tokenizer(text)["input_ids"]])
        chosen = {n: p.detach() for n, p in model.model.named_parameters() if n in operator.names}
        call = lambda p, ids=ids: functional_call(model.model, p, (), {"input_ids": ids}).logits[0, :-1]  # noqa: E731
        jacobian = torch.cat([j.reshape(*j.shape[:2], -1) for j in jacrev(call)(chosen).values()], -1).double()
        p = torch.softmax(call(chosen).double(), -1)
        wanted = wanted + (jacobian.mT @ (torch.diag_embed(p) - p[:, :, None] * p[:, None]) @ jacobian).sum(0)
        count += len(p)
    assert operator.observations == count
    v = np.random.default_rng(0).standard_normal(operator.size)
    np.testing.assert_allclose(operator.matvec(v), wanted.detach().numpy() @ v, rtol=2e-3, atol=1e-4)
    other = generalized_gauss_newton(
        model, texts, parameters=norms, reduction="sum", differentiation="double_backward", batch_size=1)
    np.testing.assert_allclose(other.matvec(v), operator.matvec(v), rtol=1e-3, atol=1e-4)
    losses = empirical_fisher(model, texts[:1], parameters=norms)
    ids = torch.tensor([model.tokenizer(texts[0])["input_ids"]])
    model.model.zero_grad()
    loss = model.model(input_ids=ids, labels=ids).loss
    grads = torch.autograd.grad(loss, [dict(model.model.named_parameters())[n] for n in losses.names])
    np.testing.assert_allclose(losses.loss_gradient(), torch.cat([g.reshape(-1) for g in grads]), rtol=1e-3, atol=1e-6)


def test_one_sentence_of_the_bundled_model(bundled):
    operator = generalized_gauss_newton(bundled, "The dog ran home.", parameters="model.norm.weight")
    assert operator.size == 160
    assert not bundled.model.training
    assert bundled.model.config._attn_implementation == "sdpa"
    v = np.random.default_rng(1).standard_normal(160)
    assert v @ operator.matvec(v) == pytest.approx(operator.quadratic_form(v), rel=1e-4)
    assert operator.quadratic_form(v) > 0


# ---------------------------------------------------------------------------------------------------------- guards


def test_a_module_that_was_trained_on_is_refused(case):
    _, x, *_ = case
    net = network(7)
    operator = generalized_gauss_newton(net, x)
    with torch.no_grad():
        net[0].weight += 0.1
    with pytest.raises(ModelError, match="changed after the operator was made"):
        operator.matvec(np.zeros(31))


def test_parameters_by_name(case):
    net, x, *_ = case
    assert generalized_gauss_newton(net, x, parameters="*.bias").names == ("0.bias", "2.bias")
    assert generalized_gauss_newton(net, x, parameters=["2.weight", "0.*"]).names == ("0.weight", "0.bias", "2.weight")
    assert generalized_gauss_newton(net, x, parameters=lambda n: n == "2.bias").size == 3
    part = generalized_gauss_newton(net, x, parameters="2.*").to_dense()
    np.testing.assert_allclose(part, generalized_gauss_newton(net, x).to_dense()[16:, 16:], atol=1e-15)
    net = network()
    net[0].requires_grad_(False)
    assert generalized_gauss_newton(net, x).names == ("2.weight", "2.bias")


X, Y = torch.zeros(2, 3, dtype=torch.float64), torch.tensor([0, 1])


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda n: generalized_gauss_newton("net", X), ArgumentError, "wanted a torch.nn.Module or a LanguageModel"),
    (lambda n: generalized_gauss_newton(n, "text"), ArgumentError, "no tensor with an axis of samples"),
    (lambda n: generalized_gauss_newton(n, X[:0]), ShapeError, "at least 1"),
    (lambda n: generalized_gauss_newton(n, (X, X[:1])), ShapeError, "numbers of samples"),
    (lambda n: generalized_gauss_newton(n, X, parameters="head*"), ArgumentError, r"named 'head\*'.*0.weight"),
    (lambda n: generalized_gauss_newton(n, X, parameters=lambda name: False), ArgumentError, "none of the 4"),
    (lambda n: generalized_gauss_newton(n, X, output="poisson"), ArgumentError, "'softmax' or 'gaussian'"),
    (lambda n: generalized_gauss_newton(n, X, reduction="none"), ArgumentError, "'mean' or 'sum'"),
    (lambda n: generalized_gauss_newton(n, X, differentiation="reverse"), ArgumentError, "'double_backward'"),
    (lambda n: generalized_gauss_newton(n, X, variance=0.0), DomainError, "variance"),
    (lambda n: generalized_gauss_newton(n, X, batch_size=0), ArgumentError, "batch_size"),
    (lambda n: generalized_gauss_newton(torch.nn.LSTM(3, 2).double(), X), ModelError, "returned tuple"),
    (lambda n: generalized_gauss_newton(torch.nn.Flatten(0), X), ArgumentError, "none of the 0 parameters"),
    (lambda n: empirical_fisher(n, X), ArgumentError, "targets: found none"),
    (lambda n: empirical_fisher(n, X, Y[:1]), ShapeError, "numbers of samples"),
    (lambda n: empirical_fisher(n, X, Y[:, None]), ShapeError, "targets: found shape"),
    (lambda n: empirical_fisher(n, X, Y.double()), DomainError, "wanted whole numbers"),
    (lambda n: empirical_fisher(n, X, Y - 100), DomainError, "outside 0 to 2"),
    (lambda n: empirical_fisher(n, X, Y, unit="token"), ArgumentError, "'prediction' or 'sample'"),
    (lambda n: empirical_fisher(n, X, [0, 1]), ArgumentError, "targets: found list"),
    (lambda n: generalized_gauss_newton(n, X).matvec(np.zeros(3)), ShapeError, r"wanted \(31,\)"),
    (lambda n: generalized_gauss_newton(n, X).matvec(np.full(31, np.nan)), DomainError, "finite"),
    (lambda n: generalized_gauss_newton(n, X).join({"a": X}), ArgumentError, "not those of the 4"),
    (lambda n: generalized_gauss_newton(n, X).trace(method="guess"), ArgumentError, "'hutchinson'"),
    (lambda n: generalized_gauss_newton(n, X).trace(probes=1), ArgumentError, "at least 2"),
    (lambda n: generalized_gauss_newton(n, X).eigenpairs(32), ArgumentError, "fewer than 31"),
    (lambda n: generalized_gauss_newton(n, X).eigenpairs(tol=2.0), DomainError, "between 0 and 1"),
    (lambda n: generalized_gauss_newton(n, X).to_dense(memory=10), ArgumentError, "never form it"),
    (lambda n: generalized_gauss_newton(n, X).loss_gradient(), ArgumentError, "knows no targets"),
    (lambda n: natural_gradient(n, np.zeros(31), damping=0.1), ArgumentError, "wanted a FisherOperator"),
    (lambda n: natural_gradient(generalized_gauss_newton(n, X), np.zeros(31), damping=-1.0), DomainError, "damping"),
])
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(network())


def test_language_models_without_next_tokens_are_refused(tiny):
    with pytest.raises(ModelError, match="no causal language model"):
        generalized_gauss_newton(tiny("bert"), "The old man.")
    model = tiny("gpt2")
    with pytest.raises(ArgumentError, match="has 1 tokens"):
        generalized_gauss_newton(model, "a")
    with pytest.raises(ArgumentError, match="leave it out"):
        empirical_fisher(model, "The old man.", Y)
    with pytest.raises(ArgumentError, match="found no texts"):
        generalized_gauss_newton(model, [])


def test_torch_is_asked_for_by_the_name_of_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r"generalized_gauss_newton needs torch.*infogeo\[transformers\]"):
        generalized_gauss_newton(None, None)


def test_it_says_what_it_is(case):
    net, x, *_ = case
    operator = generalized_gauss_newton(net, x)
    assert isinstance(operator, FisherOperator)
    assert repr(operator) == (
        "<FisherOperator generalized_gauss_newton, 31 x 31 over 4 parameters, mean over 6 observations>"
    )
