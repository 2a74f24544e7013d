"""Mutants that compute the same as the rule they are made of, each with the proof."""

_ONE_CALL = "NumPy's function of a traced value calls the primitive, the primitive of arrays impl"
_UNUSED = "the first factor of a recurrence is not used"
_BOOLS = "0 and 1 are in every dtype; the recurrence takes the common one of its operands"
_SAME_PRODUCT = "the product of a stack and a matrix is that of all rows of the stack: only slower"
_ANY_PRODUCT = "both ways give the product; which one comes sooner depends on the size"
_RESHAPED = "any negative length tells NumPy's reshape to find it"
_MASKED = "where they differ the result is not taken"
_ZERO_DIVIDED = "zero is divided by it"
_TOO_LATE = "it has run when the primitive was made: a mistake made now comes too late"
_EMPTY = "an array without elements is its own negative"
_ARRAY = "it is an array already"
_INEXACT = "one of the operands is traced, so that their dtype is inexact: never reached"
_WHOLE = "the second operand is a whole number, which is never traced for a derivative"
_SLOWER_QUOTIENT = "another way to divide is taken then, the same but for rounding"
_MORE_SLOTS = "slots at the end that nobody uses, before the product and the marks"
_TWICE = "projected twice against rounding: the other time alone does it"
_FROM_END = "a negative index counts from the end, which is the same place"
_COST = "a product is kept or multiplied out: the same matrix, at another cost"
_TWO_WAYS = (
    "for constant b and a multiple k of the identity both ways give the same: (b d / d d) k is the "
    "mean of b"
)
_OWN_DTYPE = "a cast to its own dtype gives the array itself: only slower"
_OWN_SHAPE = "broadcasting to its own shape leaves an array as it is"
_COPIED = "the same array is copied once more: only slower"
_OTHER_POWER = (
    "the rules of the power are then used, and give for a positive base what exp(y log x) gives"
)
_ONLY_BOOL = "NumPy takes `bool` and `np.dtype(bool)` for the same dtype"
_ONLY_VARIABLES = "of the set only variables are looked up, and no literal is one"
_TERMS_OF_TANGENTS = "the terms are then made from the call's tangents, which gives the same ones"
_ZERO = "zero is its own negative"
_TRUTH = "of a truth with the other sign the same is true"
_CONSTANT = "of an output that does not depend on the tangents only shape and dtype are asked for"

_PLAIN = "an index that is one array is then looked at entry by entry: only slower"
_SAME_SHAPE = "what has all axes already is then reshaped to its own shape"
_ZERO_WINS = "the product in which zero wins and the choice by the mask give the same"
_NOTHING_JOINED = "for even n an array without elements is then joined: only slower"
_VECTORS = "the product of two vectors is the same in either order"
_REGULAR = "a Cholesky factor is regular: it has an inverse"
_SPREAD = "both ways spread the cotangent: only slower, or with a copy"

EQUIVALENT: dict[str, str] = {
    "kinds.general.General._transpose_rule: aval_of(values[i]).strong()  ->  aval_of(values[i])": (
        "cotangents do not depend on the dummies that stand for tangents: a weak one is cast to "
        "its own dtype at most"
    ),
    "ops.structural.Sum.transpose: type(ct) is np.ndarray or isinstance(ct, np.generic)"
    "  ->  isinstance(ct, np.generic)": _SPREAD,
    "ops.structural.Sum.transpose: type(ct) is np.ndarray or isinstance(ct, np.generic)"
    "  ->  type(ct) is np.ndarray": _SPREAD,
    "ops.structural.Sum.transpose: math.prod(shape) > 8192"
    "  ->  not math.prod(shape) > 8192": _SPREAD,
    "ops.indexing._read_any: isinstance(x, Tracer) and x.owner.dirty"
    "  ->  isinstance(x, Tracer)": "what need not be refreshed is given back as it is: only slower",
    "ops.indexing._read_any: (index,) if plain else normalized(index)"
    "  ->  normalized(index)": _PLAIN,
    "ops.indexing._read_any: plain or not has_tracer(entries)  ->  not has_tracer(entries)": _PLAIN,
    "ops.indexing._read_any: isinstance(e, np.ndarray) and e.dtype == bool"
    "  ->  isinstance(e, np.ndarray)": "whether an index fits is then asked once more: only slower",
    "ops.indexing.batched_index: b and r < rank  ->  b": _SAME_SHAPE,
    "ops.indexing.add_into: ct.size <= _FEW or not buffer.flags.c_contiguous"
    "  ->  not buffer.flags.c_contiguous": "both ways add the same: only slower",
    "ops.indexing.add_at_slot: owned.add(i)  ->  i  (2)": _COPIED,
    "ops.selection.masked: type(x) is np.ndarray and type(mask) is np.ndarray and"
    " (mask.dtype == bool)  ->  type(mask) is np.ndarray and mask.dtype == bool": _ZERO_WINS,
    "ops.selection.masked: type(x) is np.ndarray and type(mask) is np.ndarray and"
    " (mask.dtype == bool)  ->  type(x) is np.ndarray and mask.dtype == bool": _ZERO_WINS,
    "ops.selection.aligned: not is_batched or rank == max(ranks)  ->  not is_batched": _SAME_SHAPE,
    "ops.products.Matmul.transpose_x: type(ct) is _ndarray is type(y) and shape[0] * shape[1] <="
    " SMALL  ->  type(ct) is _ndarray is type(y)": _ANY_PRODUCT,
    "ops.products.Matmul.transpose_y: type(ct) is _ndarray is type(x) and shape[0] * shape[1] <="
    " SMALL  ->  type(ct) is _ndarray is type(x)": _ANY_PRODUCT,
    "ops.products._merged: x.ndim <= 2 or not x.shape[-1]  ->  not x.shape[-1]": _SAME_PRODUCT,
    "ops.updates.write_into: seen is x or np.may_share_memory(seen, x)"
    "  ->  np.may_share_memory(seen, x)": "an array shares its own memory",
    "ops.updates.write_into: seen is x or np.may_share_memory(seen, x)  ->  seen is x": (
        "the positions lead to the elements of a view too: only slower"
    ),
    "ops.reductions.Std.weights: max(_number(x.shape, axes) - params['ddof'], 0) or math.nan"
    "  ->  max(_number(x.shape, axes) - params['ddof'], 0)": (
        "without freedom the deviation, by which it is multiplied, is nan"
    ),
    "ops.reductions._product_of_others: n % 2  ->  n": _NOTHING_JOINED,
    "ops.reductions._product_of_others: n % 2  ->  n  (2)": _NOTHING_JOINED,
    "ops.linalg.equations._matrix_cotangent: 2 * rank <= n and product.u.shape[:-2] =="
    " product.v.shape[:-2] == a.shape[:-2]  ->  product.u.shape[:-2] == product.v.shape[:-2] =="
    " a.shape[:-2]": _COST,
    "ops.spectra.inexact: a.dtype if a.inexact else np.float64  ->  a.dtype": (
        "what is decomposed, and what is made of it, is floating when a derivative is taken"
    ),
    "ops.spectra._block: np.diagonal(symmetric).real  ->  np.diagonal(symmetric)": (
        "a Hermitian matrix has a real diagonal"
    ),
    "ops.spectra._line: b @ d  ->  d @ b": _VECTORS,
    "ops.spectra._line: off @ b  ->  b @ off": _VECTORS,
    "ops.spectra._line: (abs(b - factor * d) <= negligible(b)).all() or (abs(off) <= limit).all()"
    "  ->  (abs(b - factor * d) <= negligible(b)).all()": (
        "of constant d no line comes close to b: nothing is found then either"
    ),
    "ops.linalg.definite.Cholesky.jvp: True  ->  False": _REGULAR,
    "ops.linalg.definite.CholeskyPull.formula: True  ->  False": _REGULAR,
    "ops.linalg.determinants.CofactorsPush.formula: True  ->  False": (
        "a matrix without an inverse is refused by `independent` before"
    ),
    "ops.linalg.determinants.Slogdet.jvp: False  ->  True": (
        "where the logarithm is finite there is an inverse: both are of the same factors"
    ),
    "ops.linalg.eigen.SpectrumValues.jvp: False  ->  True": (
        "in every basis of vectors the values move alike"
    ),
    "ops.vectors.GuardedQuotient.compute: np.where(small, 1, y)  ->  y": _MASKED,
    "ops.linalg.least_squares.Lstsq.jvp: drops_values(a, rcond)  ->  rcond": (
        "the formula for matrices of which values are dropped holds for the others: only slower"
    ),
    "ops.ill_posed.warn: INTERNAL[frame.f_code.co_filename] and frame.f_back is not None"
    "  ->  INTERNAL[frame.f_code.co_filename]": "the user's line is met before the stack ends",
    "ops.linalg.matrices.Fused.jvp: len(live) == 1 and live[0] in self.transposes"
    "  ->  live[0] in self.transposes": "of an operand that has a transpose no further one is live",
    "ops.linalg.matrices.real_dtype: np.dtype(dtype.char.lower())  ->  dtype.char.lower()": (
        "NumPy takes the letter for the dtype"
    ),
    "ops.scipy_integrals._expn_x: np.where(lowest, 1, x)  ->  x": _MASKED,
    "ops.scipy_distributions._t_density: np.where(limit, 1, x)  ->  x": _MASKED,
    "ops.scipy_distributions._t_distribution_df: np.where(limit, 1, x)  ->  x": _MASKED,
    "ops.scipy_distributions._t_distribution_df: np.where(near, square / total, 0.5)"
    "  ->  square / total": _MASKED,
    "ops.scipy_distributions._t_distribution_df: np.where(near, 0.5, v / total)"
    "  ->  v / total": _MASKED,
    "ops.scipy_distributions._f_distribution_x: np.where(near, place, 0.5)  ->  place": _MASKED,
    "ops.scipy_distributions._f_distribution_x: np.where(near, 0.5, rest)  ->  rest": _MASKED,
    "ops.scipy_distributions._f_distribution_y: np.where(near, place, 0.5)  ->  place": _MASKED,
    "ops.scipy_distributions._f_distribution_y: np.where(near, 0.5, rest)  ->  rest": _MASKED,
    "ops.indexing.Take.batch: [True, False]  ->  [False, False]": (
        "an index array reads what take does: only slower"
    ),
    "ops.elementwise.quotient: product is plain_product or (type(y) in _NUMBERS and y != 0)"
    "  ->  product is plain_product": _SLOWER_QUOTIENT,
    "ops.elementwise.Power.composed: not is_tracer(y) or not _is_positive(innermost(x))"
    "  ->  not _is_positive(innermost(x))": _OTHER_POWER,
    "ops.elementwise.Power.composed: not is_tracer(y)  ->  is_tracer(y)": _OTHER_POWER,
    "kinds.general.Reduction.product: slots[-2] if self.singular else mul  ->  slots[-2]": (
        "finite weights give the same with the product in which zero wins: only slower"
    ),
    "kinds.general.General._pull: pull  ->  -pull": _TOO_LATE,
    "kinds.general.General._pull_linear: pull  ->  -pull": _TOO_LATE,
    "kinds.general.General._pull: interpret if self.interpreted else evaluate  ->  interpret": (
        "both run the program on arrays: only slower, for it is not compiled"
    ),
    "kinds.general.General.recorded: v if s is not None else own_values([v], trace)[0]"
    "  ->  own_values([v], trace)[0]": _COPIED,
    "kinds.general.Reduction.forward: new_slots(0, strict)  ->  new_slots(1, strict)": _MORE_SLOTS,
    "ops.structural.Copy.batch: copy(values[0], order=order)  ->  values[0]": (
        "a copy has the values of what it copies; whose memory they lie in is no matter of values"
    ),
    "ops.structural.Sum.transpose: math.prod(shape) > 8192  ->  math.prod(shape) > 8193": (
        "both ways give the same values; from here on the one that takes no memory is quicker"
    ),
    "ops.products.Matmul.batch: np.squeeze(out, axis=gone) if gone else out"
    "  ->  np.squeeze(out, axis=gone)": "squeezing no axis gives the same array",
    "ops.products.Matmul.transpose_x: out if out.dtype is dtype else cast(out, dtype)"
    "  ->  cast(out, dtype)": _OWN_DTYPE,
    "ops.products.Matmul.transpose_y: out if out.dtype is dtype else cast(out, dtype)"
    "  ->  cast(out, dtype)": _OWN_DTYPE,
    "ops.products.Matmul.transpose_x: shape[0] * shape[1]  ->  shape[0]": _ANY_PRODUCT,
    "ops.products.Matmul.transpose_x: shape[0] * shape[1]  ->  shape[1]": _ANY_PRODUCT,
    "ops.products.Matmul.transpose_x: ct.dot(y.T) if few else type(self).times(ct, y.T)"
    "  ->  type(self).times(ct, y.T)": _ANY_PRODUCT,
    "ops.products.Matmul.transpose_y: shape[0] * shape[1]  ->  shape[0]": _ANY_PRODUCT,
    "ops.products.Matmul.transpose_y: shape[0] * shape[1]  ->  shape[1]": _ANY_PRODUCT,
    "ops.products.Matmul.transpose_y: x.T.dot(ct) if few else type(self).times(x.T, ct)"
    "  ->  type(self).times(x.T, ct)": _ANY_PRODUCT,
    "ops.products._times_vectors: times(x, ct) if x.ndim == 2 else times(x, ct[..., None])[..., 0]"
    "  ->  times(x, ct[..., None])[..., 0]": "a vector is a matrix of one column: only slower",
    "ops.products._merged: x.ndim <= 2  ->  x.ndim <= 3": _SAME_PRODUCT,
    "ops.products._merged: np.reshape(x, (aval_of(x).size // x.shape[-1], x.shape[-1]))"
    "  ->  x": _SAME_PRODUCT,
    "ops.products._fitted: cast(ct, dtype) if ct.shape == shape else unbroadcast(ct, shape, dtype)"
    "  ->  unbroadcast(ct, shape, dtype)": "unbroadcasting to the same shape is the cast",
    "ops.cumulative.Recurrence._transpose_b: previous(a, axis, not reverse, 0)"
    "  ->  previous(a, axis, not reverse, 1)": _UNUSED,
    "ops.cumulative.RunningExtremum.jvp: previous(out, params['axis'], params['reverse'], 0)"
    "  ->  previous(out, params['axis'], params['reverse'], 1)": _UNUSED,
    "ops.cumulative.RunningExtremum.jvp: structural.to_dtype(goes_on, out.dtype)  ->  goes_on": (
        _BOOLS
    ),
    "ops.cumulative.RunningExtremum.jvp: structural.to_dtype(attained, out.dtype)  ->  attained": (
        _BOOLS
    ),
    "ops.reductions.Prod.weights: x  ->  -x": "an array without elements is its own negative",
    "ops.reductions.Std.weights: np.where(equal, 1, out)  ->  np.where(equal, 2, out)": (
        "where the values are equal the quotient is not taken: any divisor but 0 will do"
    ),
    "ops.indexing.permuted: x if axes == tuple(range(len(axes))) else transpose(x, axes=axes)"
    "  ->  transpose(x, axes=axes)": "axes in their own order leave an array as it is: only slower",
    "ops.updates.Update.batch: x if batched[-2] else np.broadcast_to(x, (n, *shape))"
    "  ->  np.broadcast_to(x, (n, *shape))": _OWN_SHAPE,
    "ops.updates.AddAt.batch: x if batched[-2] else np.broadcast_to(x, (n, *shape))"
    "  ->  np.broadcast_to(x, (n, *shape))": _OWN_SHAPE,
    "ops.updates.examples_like: ndim + 1  ->  ndim": _COPIED,
    "ops.updates.examples_like: ndim + 1  ->  1": _COPIED,
    "ops.updates.examples_like: ndim + 1  ->  ndim - 1": _COPIED,
    "ops.updates.examples_like: ndim + 1  ->  ndim + 2": _COPIED,
    "ops.updates.flat_examples: flat if batched else structural.copy(flat, order='C')"
    "  ->  structural.copy(flat, order='C')": _COPIED,
    "ops.updates.batched_positions: np.dtype(bool)  ->  bool": _ONLY_BOOL,
    "ops.updates.seen_shape: np.dtype(bool)  ->  bool": _ONLY_BOOL,
    "ops.updates.batched_positions: (np.broadcast_to(positions, (n, *np.shape(positions))), size)"
    "  ->  (np.broadcast_to(positions, (n, *np.shape(positions))), -size)": (
        "a negative length tells NumPy's reshape to find it: it is the size of an example"
    ),
    "ops.updates.through: step(x, **dict(params)) if isinstance(x, Tracer)"
    " else step.impl(x, **dict(params))  ->  step(x, **dict(params))": _ONE_CALL,
    "ops.updates.through: step(x, **dict(params)) if isinstance(x, Tracer)"
    " else step.impl(x, **dict(params))  ->  step.impl(x, **dict(params))": _ONE_CALL,
    "ops.fourier.counted: -1  ->  -2": _RESHAPED,
    "ops.windows.window_places: -1  ->  -2": _RESHAPED,
    "ops.windows.window_places: -1  ->  -2  (2)": _RESHAPED,
    "ops.complex_numbers.ComplexSign.jvp: length == 0  ->  length == 1  (2)": _MASKED,
    "ops.complex_numbers.ComplexSign.jvp: np.where(length == 0, 1, length)"
    "  ->  np.where(length == 0, 2, length)": _MASKED,
    "ops.scipy_special.SciPyFunction.as_computed: x if k is d else to_dtype(x, d)"
    "  ->  to_dtype(x, d)": _OWN_DTYPE,
    "ops.scipy_special.by_series: np.where(near, x, 0)  ->  np.where(near, x, 1)": _MASKED,
    "ops.scipy_special.by_series: np.where(near, 1, x)  ->  np.where(near, 2, x)": _MASKED,
    "ops.scipy_elementary.Xlogy.partials: np.where((x == 0) & (y == 0), 1, y)"
    "  ->  np.where((x == 0) & (y == 0), 2, y)  (2)": _ZERO_DIVIDED,
    "ops.scipy_elementary.Xlog1py.partials: np.where((x == 0) & (y == -1), 1, 1 + y)"
    "  ->  np.where((x == 0) & (y == -1), 2, 1 + y)": _ZERO_DIVIDED,
    "ops.scipy_bessel._over_x: np.where(x == 0, 1, x)  ->  np.where(x == 0, 2, x)": _MASKED,
    "control.call.is_linear_in: answer[0]  ->  -answer[0]": _TRUTH,
    "control.staged_rules.Deferred.call: True  ->  False": (
        "its rules are then staged once more, with calls of their own function deferred in them"
    ),
    "control.external.Difference.linear_with: in_vectors(mask, zeros, len(params['moving']))"
    "  ->  -in_vectors(mask, zeros, len(params['moving']))": _TRUTH,
    "control.checkpointing._sums: -1  ->  -2": _RESHAPED,
    "control.calls.CallPrimitive.with_series: self.call_of(params)  ->  params": _TERMS_OF_TANGENTS,
    "control.calls.CallPrimitive.with_series: self.call_of(params)  ->  self": _TERMS_OF_TANGENTS,
    "control.calls.is_staging: refresh(x).owner if x.owner.dirty else x.owner"
    "  ->  refresh(x).owner": "what need not be refreshed is given back as it is: only slower",
    "control.calls.zeros_of: roles['fill'](builder, aval.shape, 0, aval.dtype)"
    "  ->  -roles['fill'](builder, aval.shape, 0, aval.dtype)": _ZERO,
    "control.rules.RuledCall._recorded: zeros_of(aval_of(o), values)  ->  aval_of(o)": _CONSTANT,
    "control.rules.ReverseRule.push: zeros_of(a, beside)  ->  a  (2)": _CONSTANT,
    "control.policies.split_by: used(residuals)  ->  residuals": _ONLY_VARIABLES,
    "control.policies.split_by: used(inputs)  ->  inputs": _ONLY_VARIABLES,
    "control.policies._saved_equations: used(e.inputs)  ->  e.inputs": _ONLY_VARIABLES,
    "control.policies._saved_equations: used(residuals)  ->  residuals": _ONLY_VARIABLES,
    "control.calls.CallPrimitive.with_series: live_and_order(series)  ->  series": (
        "the number is not read: every series brings as many terms as it has"
    ),
    "control.programs.of_examples: -1  ->  -2": _RESHAPED,
    "control.programs._transpose: len(program.inputs) - program.linear  ->  -program.linear": (
        "no program that is linear in nothing is transposed; " + _FROM_END
    ),
    "control.scan_split.Split._residuals: call(*c, program=self.early) if self.handed else ()"
    "  ->  call(*c, program=self.early)": "a call of a program without outputs gives none",
    "control.scan_split.summing: total if p is None else total + ct  ->  total + ct": (
        "of what gets no cotangent the program gives zeros: only slower"
    ),
    "control.implicit.System.transposed: self.equations if self.symmetric else"
    " self.equations.transposed()  ->  self.equations.transposed()": (
        "a symmetric matrix is its own transpose: only slower"
    ),
    "control.loop.Loop.machine: lambda k: k  ->  lambda k: -k": (
        "a while loop reads and writes nothing slice by slice: no place is asked for"
    ),
    "control.programs._split: known.update(eqn.outputs)  ->  eqn.outputs": (
        "what is made of constants in two steps is then made again in each step: only slower"
    ),
    "ops.scipy_distributions.ParameterDerivative.rounded: False  ->  True": _COPIED,
    "control.steps.Backward.total: zeros(self.steps.avals[i], self.some)"
    "  ->  -zeros(self.steps.avals[i], self.some)": _ZERO,
    "control.steps.scan_machine: length - 1  ->  -1": _FROM_END,
    "control.programs._linearize: optimize(program)  ->  program": (
        "the passes leave what a program computes as it is: more rows, the same values"
    ),
    "ops.scipy_gamma._rgamma_x: np.where(left, 1, x)  ->  np.where(left, 2, x)": _MASKED,
    "ops.scipy_distributions._t_density: np.where(limit, 1, x)  ->  np.where(limit, 2, x)": _MASKED,
    "ops.selection.aligned: max(ranks)  ->  ranks": (
        "what has all axes already is then reshaped to its own shape"
    ),
    "ops.vectors.GuardedQuotient.compute: np.where(small, 1, y)  ->  np.where(small, 2, y)": (
        _MASKED
    ),
    "ops.vectors.Independent.compute: v  ->  -v": _EMPTY,
    "ops.spectra._gaps: np.where(equal, 1, gaps)  ->  np.where(equal, 2, gaps)": _MASKED,
    "ops.spectra._fill_groups: np.unique(_groups(equal[index] | lost[index]), axis=0)"
    "  ->  _groups(equal[index] | lost[index])": (
        "every value of a group has the same row: the same block is written more than once"
    ),
    "ops.spectra._block: symmetric - np.diag(np.diagonal(symmetric))  ->  symmetric": _TWO_WAYS,
    "ops.spectra._block: symmetric - np.diag(np.diagonal(symmetric))"
    "  ->  symmetric + np.diag(np.diagonal(symmetric))": _TWO_WAYS,
    "ops.spectra._block: np.asarray(mean * np.eye(len(b)))  ->  mean * np.eye(len(b))": _ARRAY,
    "ops.spectra._block: np.asarray(found)  ->  found": _ARRAY,
    "ops.elementwise._share: innermost(difference)  ->  difference": (
        "what is traced is then taken for staged, and the choice of where is made, which changes "
        "nothing without a nan"
    ),
    "ops.elementwise.Power.composed: innermost(x)  ->  x": _OTHER_POWER,
    "ops.elementwise._is_positive: x > 0  ->  x > 1": _OTHER_POWER,
    "ops.elementwise._direction: np.where(origin, 1, length)  ->  np.where(origin, 2, length)": (
        _MASKED
    ),
    "ops.elementwise._power_x: np.where((x == 0) & (y == 0), 1, x)"
    "  ->  np.where((x == 0) & (y == 0), 2, x)": _ZERO_DIVIDED,
    "ops.elementwise._number_power_x: y == 0 or y == 1  ->  y == 0": ("x ** 0 is one: only slower"),
    "ops.elementwise._widened: (x, y)  ->  (-x, y)  (2)": _INEXACT,
    "ops.elementwise._widened: (x, y)  ->  (x, -y)  (2)": _INEXACT,
    "ops.elementwise._widened: to_dtype(x, dtype)  ->  x": (
        "the power casts a coarser base to the dtype of the exponent itself"
    ),
    "ops.elementwise._number_power_x: -1  ->  1": (
        "the general formula, taken instead of the quick one, gives the same at -1"
    ),
    "ops.elementwise.quotient: innermost(t)  ->  t": _SLOWER_QUOTIENT,
    "ops.elementwise.quotient: innermost(y)  ->  y": _SLOWER_QUOTIENT,
    "ops.elementwise.quotient: y.dtype.type(0)  ->  y.dtype.type(1)": (
        "of the Python number only the type is looked at"
    ),
    "ops.elementwise.Ldexp: partials [1]: None -> 1": _WHOLE,
    "ops.elementwise.Ldexp: linear ((1, 0),) -> ((1, 0), (0, 1))": _WHOLE,
    "ops.elementwise.Ldexp: linear ((1, 0),) -> ((1, 0), (1, 1))": _WHOLE,
    "ops.linalg.matrices.Fused.jvp: trace.new() - len(values)  ->  trace.new()": _MORE_SLOTS,
    "ops.linalg.matrices.Fused.jvp: trace.new() - len(values)"
    "  ->  trace.new() + len(values)": _MORE_SLOTS,
    "ops.linalg.equations.Solve: transposes without 1": (
        "the transpose is then derived from the tangent, which is a solve as well"
    ),
    "ops.linalg.definite.CholeskyPull.formula: adjoint(half)  ->  half": (
        "of what is folded only the Hermitian part counts, and that is the same"
    ),
    "ops.linalg.orthogonal.Qr.jvp: d - q1 @ x if m > k else 0  ->  d - q1 @ x": (
        "for a square Q it is zero: Q Qᴴ is the identity"
    ),
    "ops.linalg.orthogonal.Qr.jvp: filled_like(r[..., k:, :], 0)  ->  r[..., k:, :]": (
        "below its triangle R is zero itself"
    ),
    "ops.linalg.singular.Svd.jvp: (u[..., :, :k], v[..., :, :k]) if full else (u, v)"
    "  ->  (u[..., :, :k], v[..., :, :k])": "reduced factors have k columns anyway",
    "ops.linalg.eigen.eigen_push: np.real(np.sum(np.conjugate(v) * turned, axis=-2))"
    "  ->  np.sum(np.conjugate(v) * turned, axis=-2)": (
        "the imaginary part turns the phase, which is fixed afterwards"
    ),
    "ops.linalg.least_squares.Lstsq.jvp: to_dtype(ta, out.dtype)  ->  ta": (
        "its products with factors of the finer dtype are in that dtype"
    ),
    "ops.linalg.determinants.Slogdet.jvp: real_dtype(a.dtype)  ->  a.dtype": (
        "infinity times the identity is infinity and nan, whether it is real or complex"
    ),
    "ops.linalg.eigen.Eigvals.decomposed: (w, v, v)  ->  (-w, v, v)": (
        "the values say only which of them are equal, and these are so with the other sign"
    ),
    "ops.linalg.singular._beyond: t - v @ (adjoint(v) @ t)  ->  t": _TWICE,
    "ops.linalg.singular._beyond: t - v @ (adjoint(v) @ t)  ->  t + v @ (adjoint(v) @ t)": _TWICE,
    "ops.linalg.singular._beyond: out - v @ (adjoint(v) @ out)  ->  out": _TWICE,
    "ops.linalg.singular._beyond: out - v @ (adjoint(v) @ out)"
    "  ->  out + v @ (adjoint(v) @ out)": _TWICE,
    "ops.linalg.eigen.rephased: np.real(np.sum(mask * v, axis=-2))"
    "  ->  np.sum(mask * v, axis=-2)": ("the element that the mask chooses is real"),
    "ops.linalg.eigen.rephased: np.where(anchor == 0, 1, anchor)"
    "  ->  np.where(anchor == 0, 2, anchor)": (
        "without an anchor nothing is moved: zero is divided"
    ),
    "ops.linalg.equations._matrix_cotangent: 2 * rank  ->  2": _COST,
    "ops.linalg.equations._matrix_cotangent: 2 * rank  ->  rank": _COST,
    "ops.linalg.equations._matrix_cotangent: 2 * rank  ->  3 * rank": _COST,
}
