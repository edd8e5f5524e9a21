"""The Optimizer: one pure function from values, gradients and state to the next ones, and the variables around it."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import registry
from lamina.core.errors import ConfigError, StateError, nearest
from lamina.core.module import Module
from lamina.core.state import Array, Variable
from lamina.core.transforms import Gradients
from lamina.optimizers.rules import Arrays, Transformation, advance, cast_like, check, check_whole, lift, shorten


class Optimizer(Module):
    r"""The base of every optimizer: :math:`w \leftarrow w + \Delta(g, w, s)`, with a state :math:`s` that it keeps.

    An optimizer of your own says what :math:`\Delta` is, as an ``optax`` transformation; the rest follows.

    Args:
        learning_rate: a number, which may be assigned later; a schedule from ``lm.schedules``; or a function of the
            step.
        weight_decay: the share of each weight, times the learning rate, that is taken off before each update.
        clipnorm: the greatest norm that the gradient of one variable may have; a longer one is shortened.
        clipvalue: the greatest size that any entry of a gradient may have.
        global_clipnorm: the greatest norm that all gradients together may have.
        use_ema: whether to keep an exponential moving average of the weights.
        ema_momentum: the share of the average that stays at each update.
        ema_overwrite_frequency: replace the weights by their average every so many updates; if ``None``, only
            :meth:`finalize_variable_values` does.
        loss_scale_factor: a number by which :meth:`scale_loss` multiplies the loss, and the gradients are divided.
        gradient_accumulation_steps: update once in so many calls, with the mean of their gradients.
        name: its name.

    Raises:
        ConfigError: for an argument that is unknown or out of its range.

    >>> import optax
    >>> class SignDescent(Optimizer):
    ...     def transform(self, learning_rate, step):
    ...         return optax.chain(optax.scale_by_sign(), optax.scale(-learning_rate))
    >>> w = Variable(jnp.array([1.0, 2.0]), name="w")
    >>> SignDescent(0.5).apply_gradients([(jnp.array([3.0, -4.0]), w)])
    >>> w.numpy().tolist()
    [0.5, 2.5]
    """

    built = False
    #: the names that fields of an optax state have among the slots
    slot_names: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **unknown: Any,
    ) -> None:
        owner = type(self).__name__
        if unknown:
            wrong = next(iter(unknown))
            raise ConfigError(f"{owner} has no argument {wrong!r}. {nearest(wrong, self.config_names())}")
        if sum(clip is not None for clip in (clipnorm, clipvalue, global_clipnorm)) > 1:
            raise ConfigError(f"{owner} takes one of clipnorm, clipvalue and global_clipnorm, not several")
        for option, value in (
            ("clipnorm", clipnorm),
            ("clipvalue", clipvalue),
            ("global_clipnorm", global_clipnorm),
            ("loss_scale_factor", loss_scale_factor),
        ):
            check(self, option, value, lambda x: x is None or x > 0, "a number above 0")
        check(self, "weight_decay", weight_decay, lambda x: x is None or x >= 0, "a number of at least 0")
        check(self, "ema_momentum", ema_momentum, lambda x: 0 <= x <= 1, "a number from 0 to 1")
        check_whole(self, "ema_overwrite_frequency", ema_overwrite_frequency, 1)
        check_whole(self, "gradient_accumulation_steps", gradient_accumulation_steps, 2)
        self.name = name or registry.snake_case(owner)
        self.weight_decay = weight_decay
        self.clipnorm, self.clipvalue, self.global_clipnorm = clipnorm, clipvalue, global_clipnorm
        self.use_ema, self.ema_momentum = use_ema, ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.loss_scale_factor = loss_scale_factor
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.iterations = new_variable(0, int, "iterations")
        self._learning_rate: Any = self._rate_from(learning_rate)
        if gradient_accumulation_steps:
            self.pending = new_variable(0, int, "pending")
        self.slots: dict[str, Variable] = {}
        # Variables stand here as keys only, so that the model's are not taken for the optimizer's own.
        self._paths: dict[Variable, str] = {}
        self._decay: dict[str, float] = {}
        self._undecayed: Callable[[str, Variable], bool] = lambda path, variable: False

    # -- what an optimizer of one's own overrides ------------------------------------------------------------------

    def transform(self, learning_rate: Any, step: Any) -> Transformation:
        """The rule, as a transformation from gradients to the changes that are added to the variables.

        Args:
            learning_rate: its value now; a number or a traced array.
            step: the number of this update, from 1; a number or a traced array.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no rule. Write:  def transform(self, learning_rate, step): ..."
        )

    def decay_of(self, path: str, variable: Variable) -> float | None:
        """The weight decay of a variable that is not excluded from it."""
        return self.weight_decay

    # -- settings --------------------------------------------------------------------------------------------------

    def _rate_from(self, rate: Any) -> Any:
        """A number as a Variable; a schedule, its name or saved configuration, or a function as itself."""
        if isinstance(rate, Variable):
            return rate
        if isinstance(rate, bool) or not isinstance(rate, int | float | np.number | np.ndarray | jax.Array):
            rate = registry.get("schedules", rate)
            if not callable(rate):
                raise ConfigError(
                    f"{type(self).__name__} expects learning_rate as a number, a schedule or a function of the step; "
                    f"received {rate!r}"
                )
            return rate
        if not isinstance(rate, jax.core.Tracer):
            check(self, "learning_rate", rate, lambda x: np.ndim(x) == 0 and x >= 0, "one number of at least 0")
        return new_variable(rate, float, "learning_rate")

    @property
    def learning_rate(self) -> Any:
        """The learning rate now. Assign a number, or a schedule, to change it."""
        if isinstance(self._learning_rate, Variable):
            return self._learning_rate
        return self._learning_rate(
            self._calls({name: variable.raw for name, variable in self.named_variables().items()})
        )

    @learning_rate.setter
    def learning_rate(self, new: Any) -> None:
        found = self._rate_from(new)
        if not isinstance(found, Variable):
            self._learning_rate = found
        elif isinstance(self._learning_rate, Variable):
            self._learning_rate.assign(new)
        else:
            raise ConfigError(
                f"the learning rate of {self.name!r} follows a schedule, so it cannot be set to {new!r}.\n"
                f"Write:  {type(self).__name__}(learning_rate={new!r})"
            )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        rate = self._learning_rate
        # NumPy prints a float32 as the shortest decimal that gives it back: 0.001, not 0.0010000000474974513.
        config["learning_rate"] = float(str(rate.numpy())) if isinstance(rate, Variable) else registry.serialize(rate)
        return config

    def exclude_from_weight_decay(
        self, var_list: Iterable[Variable] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Leave some variables out of weight decay; called before the first update.

        Args:
            var_list: the variables themselves.
            var_names: regular expressions, as ``"bias"``; a variable is left out if one is found in its path.
        """
        if self.built:
            raise StateError(
                "exclude_from_weight_decay comes too late: the optimizer is already built.\n"
                "Call it right after the optimizer is made."
            )
        excluded = frozenset(var_list or ())
        pattern = re.compile("|".join(var_names)) if var_names else None
        self._undecayed = lambda path, variable: variable in excluded or bool(pattern and pattern.search(path))

    def scale_loss(self, loss: Any) -> Any:
        """The loss that gradients are to be taken of: ``loss`` times the loss scale."""
        return loss * self.loss_scale_factor if self.loss_scale_factor else loss

    def _calls(self, state: Arrays) -> Array:
        """How often ``apply`` was called, which is what schedules count."""
        steps = self.gradient_accumulation_steps
        return state["iterations"] * steps + state["pending"] if steps else state["iterations"]

    # -- state -----------------------------------------------------------------------------------------------------

    def build(self, variables: Mapping[str, Variable] | Iterable[Variable]) -> None:
        """Make the slots for these variables, as far as they have none; :meth:`apply` does it at its first call.

        Args:
            variables: the variables by path, or a list of them.

        Raises:
            StateError: for a variable whose path another one has, as in another model.
        """
        named = dict(variables) if isinstance(variables, Mapping) else _by_path(variables)
        named = {path: variable for path, variable in named.items() if variable not in self._paths}
        if self.built and not named:
            return
        if taken := set(named) & set(self._paths.values()):
            raise self._unknown(sorted(taken))
        with jax.ensure_compile_time_eval():
            values = {path: variable.stored for path, variable in named.items()}
            rule = self.transform(0.0, 1)
            if not (hasattr(rule, "init") and hasattr(rule, "update")):
                raise ConfigError(
                    f"{type(self).__name__}.transform gives a transformation with init and update; received {rule!r}.\n"
                    "Write:  return optax.scale(-learning_rate)  or another one of optax."
                )
            slots = self._slots_of(rule.init(values))
            if self.gradient_accumulation_steps:
                slots |= {f"gradient_accumulator/{path}": jnp.zeros_like(value) for path, value in values.items()}
            if self.use_ema:
                slots |= {f"average/{path}": value for path, value in values.items()}
            # Copies, since a state may share an array with the variable, and both are donated.
            self.slots |= {
                name: Variable(
                    jax.device_put(value, may_alias=False), name=f"slots/{name}", trainable=False, autocast=False
                )
                for name, value in slots.items()
                if name not in self.slots
            }
        self._paths |= {variable: path for path, variable in named.items()}
        self._decay |= {
            path: decay
            for path, variable in named.items()
            if (decay := self.decay_of(path, variable)) and not self._undecayed(path, variable)
        }
        self.built = True
        if self.path is not None:
            self.adopt(self.path)

    def _slots_of(self, state: Any) -> Arrays:
        """The leaves of an optax state by readable names, as ``"momentum/dense/kernel"``."""
        leaves = jax.tree_util.tree_flatten_with_path(state)[0]
        long = ["/".join(map(self._part, path)) for path, _ in leaves]
        # The position in a chain says nothing to a reader; it stays only where the name is not clear without it.
        short = [name.lstrip("0123456789/") for name in long]
        clear = all(short) and len(set(short)) == len(short)
        return {name: leaf for name, (_, leaf) in zip(short if clear else long, leaves, strict=True)}

    def _part(self, key: Any) -> str:
        if hasattr(key, "name"):
            return self.slot_names.get(key.name, key.name)
        return str(getattr(key, "key", getattr(key, "idx", key)))

    # -- the step --------------------------------------------------------------------------------------------------

    def apply(
        self, gradients: Gradients | Sequence[Any], trainable_variables: Sequence[Variable] | None = None
    ) -> None:
        """Change the variables by their gradients.

        Args:
            gradients: what ``lm.value_and_grad`` returned; or arrays, in the order of ``trainable_variables``.
            trainable_variables: the variables, if ``gradients`` is a plain list.

        Raises:
            StateError: for variables that the optimizer was not built with.
        """
        if not isinstance(gradients, Gradients):
            if trainable_variables is None or len(gradients) != len(trainable_variables):
                raise ConfigError(
                    "apply expects the gradients that lm.value_and_grad returns, or a list of arrays and the list of "
                    f"as many variables; received {type(gradients).__name__}"
                )
            named = _by_path(trainable_variables)
            gradients = Gradients(dict(zip(named, gradients, strict=True)), named)
        if not gradients:
            return
        if not self.built:
            self.build(gradients.variables)
        self._check_known(gradients.variables)
        targets = {self._paths[variable]: variable for variable in gradients.variables.values()}
        own = self.named_variables()
        state = {name: variable.raw for name, variable in own.items()}
        values, new = self.step(
            {path: variable.raw for path, variable in targets.items()},
            {self._paths[variable]: jnp.asarray(gradients[key]) for key, variable in gradients.variables.items()},
            state,
        )
        for path, variable in targets.items():
            variable.assign(values[path] if variable.constraint is None else variable.constraint(values[path]))
        for name, variable in own.items():
            if new[name] is not state[name]:
                variable.assign(new[name])

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> None:
        """As :meth:`apply`, for pairs of a gradient and a variable."""
        gradients, variables = zip(*grads_and_vars, strict=True)
        self.apply(gradients, variables)

    def _check_known(self, variables: Mapping[str, Variable]) -> None:
        unknown = [path for path, variable in variables.items() if variable not in self._paths]
        if unknown:
            raise self._unknown(unknown)

    def _unknown(self, paths: Sequence[str]) -> StateError:
        return StateError(
            f"optimizer {self.name!r} was built for {_listed(self._paths.values())}; it cannot update "
            f"{_listed(paths)}.\nMake another optimizer for these variables, or compile the model again."
        )

    def step(self, values: Arrays, gradients: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        """One call as a pure function.

        Args:
            values: the variables' values, by the path that they were built with.
            gradients: their gradients, by the same paths.
            state: the value of each of the optimizer's own variables, by its path in the optimizer.

        Returns:
            The next values and the next state.
        """
        if self.loss_scale_factor:
            gradients = jax.tree.map(lambda g: g / self.loss_scale_factor, gradients)
        steps = self.gradient_accumulation_steps
        if not steps:
            return self._update(values, gradients, state)
        names = {path: f"slots/gradient_accumulator/{path}" for path in gradients}
        sums = {names[path]: state[names[path]] + g for path, g in gradients.items()}

        def update() -> tuple[Arrays, Arrays]:
            mean = {path: sums[name] / steps for path, name in names.items()}
            new, after = self._update(values, mean, state)
            cleared = {name: jnp.zeros_like(value) for name, value in (sums | {"pending": state["pending"]}).items()}
            return cast_like(new, values), cast_like(after | cleared, state)

        def keep() -> tuple[Arrays, Arrays]:
            return values, cast_like(state | sums | {"pending": state["pending"] + 1}, state)

        return jax.lax.cond(state["pending"] == steps - 1, update, keep)

    def _update(self, values: Arrays, gradients: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
        """One update, after loss scaling and accumulation; half types are computed in float32."""
        shapes, values, gradients = values, lift(values), self._clip(lift(gradients))
        iterations, rate = state["iterations"], self._learning_rate
        rate = state["learning_rate"] if isinstance(rate, Variable) else rate(self._calls(state))
        values = {
            path: value - value * (self._decay[path] * rate) if path in self._decay else value
            for path, value in values.items()
        }
        transform = self.transform(rate, iterations + 1)
        template = jax.eval_shape(transform.init, shapes)
        slots = {name: lift(state[f"slots/{name}"]) for name in self._slots_of(template)}
        before = jax.tree.unflatten(jax.tree.structure(template), list(slots.values()))
        values, after = advance(transform, gradients, before, values)
        new = {f"slots/{name}": slot for name, slot in self._slots_of(after).items()}
        if self.use_ema:
            momentum = jnp.where(iterations > 0, self.ema_momentum, 0.0)
            for path, value in values.items():
                average = momentum * state[f"slots/average/{path}"] + (1 - momentum) * value
                new[f"slots/average/{path}"] = average
                if self.ema_overwrite_frequency:
                    due = (iterations + 1) % self.ema_overwrite_frequency == 0
                    values[path] = jnp.where(due, average, value)
        return values, state | new | {"iterations": iterations + 1}

    def _clip(self, gradients: Arrays) -> Arrays:
        value, each, together = self.clipvalue, self.clipnorm, self.global_clipnorm
        if value is not None:
            return {path: jnp.clip(g, -value, value) for path, g in gradients.items()}
        if each is not None:
            return {path: g * shorten(_norm(g), each) for path, g in gradients.items()}
        if together is not None:
            factor = shorten(_norm(gradients), together)
            return {path: g * factor for path, g in gradients.items()}
        return gradients

    def finalize_variable_values(self, variables: Mapping[str, Variable] | Iterable[Variable]) -> None:
        """Give the variables their moving averages, if the optimizer keeps any; called when training ends."""
        if self.use_ema and self.built:
            named = variables if isinstance(variables, Mapping) else _by_path(variables)
            self._check_known(named)
            for variable in named.values():
                variable.assign(self.slots[f"average/{self._paths[variable]}"].raw)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def new_variable(value: Any, kind: type, name: str) -> Variable:
    """A Variable for one number of an optimizer's own state."""
    return Variable(value, dtype=jnp.result_type(kind), name=name, trainable=False, autocast=False)


def _by_path(variables: Iterable[Variable]) -> dict[str, Variable]:
    variables = list(variables)
    named = {variable.path: variable for variable in variables}
    if len(named) != len(variables):
        raise ConfigError("two of the variables have the same path. Give the layers that hold them different names.")
    return named


def _listed(paths: Iterable[str]) -> str:
    paths = list(paths)
    return ", ".join(repr(path) for path in paths[:4]) + (f" and {len(paths) - 4} more" if len(paths) > 4 else "")


def _norm(tree: Any) -> Array:
    import optax  # which takes a while

    return optax.tree.norm(tree)
