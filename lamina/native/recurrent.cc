// Recurrent networks over whole sequences, forward and backward: (batch, steps, features), or rows of a table that are
// looked up, see recurrent_inputs.h.
//
// The examples of a batch do not meet, so each thread runs all steps of its own. A step is two products, x W + b and
// h U, and then the gates, while the sums are in cache. The blocks of the gates lie beside each other, in Keras's
// order; within this file each is filled up with zeros to whole vectors, `padded` numbers.

#include <algorithm>
#include <numeric>

#include "handlers.h"
#include "multiply.h"
#include "recurrent_cells.h"
#include "recurrent_inputs.h"
#include "scratch.h"

namespace lamina {
namespace {

// At most so many examples are run at once. Where they are few, the input of several steps is projected at once, so
// many rows of it. Gradients of the kernels are summed from so many steps of examples at once.
constexpr int64_t EXAMPLES = 64, ROWS_AT_ONCE = 32, TERMS = 128;
// With fewer gates than this, waking another thread takes longer than it saves.
constexpr int64_t FEW_GATES = 1 << 15;

struct Sizes : Places {
  int64_t features, units, gates;

  Sizes(const Places& places, const Floats& x, const Floats& h, int64_t gates)
      : Places(places), features(x.dimensions().back()), units(h.dimensions()[1]), gates(gates) {}

  int64_t padded() const { return vectors(units) * LANES; }
  int64_t width() const { return gates * padded(); }
  int64_t columns() const { return gates * units; }
  int64_t steps_at_once(int64_t examples) const { return std::clamp<int64_t>(ROWS_AT_ONCE / examples, 1, steps); }
  int64_t threads(ffi::ThreadPool& pool) const {
    return batch * steps * width() < FEW_GATES ? 1 : std::max<int64_t>(1, pool.num_threads());
  }
};

// Runs body(first, count) for blocks of examples.
template <class Body>
void parallel_examples(ffi::ThreadPool& pool, const Sizes& s, const Body& body) {
  int64_t threads = s.threads(pool), rounds = (s.batch + threads * EXAMPLES - 1) / (threads * EXAMPLES);
  int64_t blocks = std::min(s.batch, threads * rounds);
  parallel_for(pool, blocks, [&](int64_t block) {
    int64_t first = share(s.batch, block, blocks);
    body(first, share(s.batch, block + 1, blocks) - first);
  });
}

// The states of some examples, or their gradients, as padded rows; and back.
RowsOut take(const float* states, int64_t first, int64_t count, const Sizes& s, float* to) {
  RowsOut rows{to, s.padded()};
  for (int64_t row = 0; row < count; row++) {
    std::copy_n(states + (first + row) * s.units, s.units, rows[row]);
    std::fill(rows[row] + s.units, rows[row] + rows.step, 0.0f);
  }
  return rows;
}

void give(Rows rows, int64_t first, int64_t count, const Sizes& s, float* states) {
  for (int64_t row = 0; row < count; row++) std::copy_n(rows[row], s.units, states + (first + row) * s.units);
}

// A kernel with the blocks of its gates filled up.
Panels padded_kernel(const float* kernel, int64_t rows, const Sizes& s) {
  Panels panels(rows, s.width());
  std::vector<float> row(s.width());
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t gate = 0; gate < s.gates; gate++)
      std::copy_n(kernel + (i * s.gates + gate) * s.units, s.units, &row[gate * s.padded()]);
    panels.set(i, row.data(), 1);
  }
  return panels;
}

struct Forward {
  Inputs inputs;
  const float *h, *c;
  const bool* mask;
  float *outputs, *last_h, *last_c, *gates, *kept;
  std::vector<const float*> projected;  // of each term, if its row is picked more than once
};

// Projects the rows that are picked more than once, for all their terms.
void project_repeats(ffi::ThreadPool& pool, const Sizes& s, const Panels& kernel, const float* bias, float* projected,
                     Forward& f) {
  Repeats repeats(s, f.inputs);
  std::vector<const float*> rows, of_distinct;
  std::vector<float*> to;
  for (const Repeats::First& first : repeats.distinct) {
    if (first.repeated) {
      to.push_back(projected + rows.size() * s.width());
      rows.push_back(f.inputs.row_of_table(first.row));
    }
    of_distinct.push_back(first.repeated ? to.back() : nullptr);
  }
  for (int32_t distinct : repeats.of_term) f.projected.push_back(of_distinct[distinct]);
  int64_t count = rows.size(), parts = (count + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
  parallel_for(pool, parts, [&](int64_t part) {
    int64_t begin = share(count, part, parts);
    product(&rows[begin], &to[begin], share(count, part + 1, parts) - begin, {0}, s.features, kernel, {bias});
  }, s.threads(pool));
}

template <class Cell>
void run(const Sizes& s, const Forward& f, const Panels& kernel, const float* bias, const Panels& recurrent_kernel,
         const float* recurrent_bias, int64_t first, int64_t count) {
  constexpr int GATES = Cell::GATES;
  int64_t padded = s.padded(), width = s.width(), units = s.units, at_once = s.steps_at_once(count);
  Scratch scratch(count * (2 * padded + (at_once + 1) * width));
  RowsOut h = take(f.h, first, count, s, scratch.take(count * padded)), c{};
  if (Cell::HAS_C) c = take(f.c, first, count, s, scratch.take(count * padded));
  float* projected = scratch.take(at_once * count * width);
  RowsOut inner{scratch.take(count * width), width};  // h U
  std::vector<const float*> inputs(at_once * count), rows;
  std::vector<float*> to;

  for (int64_t step = 0; step < s.steps; step++) {
    if (step % at_once == 0) {
      rows.clear(), to.clear();
      for (int64_t i = 0, places = std::min(at_once, s.steps - step) * count; i < places; i++) {
        int64_t example = first + i % count, of_step = step + i / count;
        inputs[i] = f.projected.empty() ? nullptr : f.projected[s.term(example, of_step)];
        if (inputs[i]) continue;
        rows.push_back(f.inputs.row(s.given(example, of_step)));
        to.push_back(projected + i * width);
        inputs[i] = to.back();
      }
      product(rows.data(), to.data(), rows.size(), {0}, s.features, kernel, {bias});
    }
    multiply(count, h, recurrent_kernel, {recurrent_bias, 0}, inner);
    for (int64_t row = 0; row < count; row++) {
      int64_t example = first + row, term = s.term(example, step);
      float* outputs = f.outputs ? f.outputs + s.shown(example, step) * units : nullptr;
      float* kept_gates = f.gates ? f.gates + term * GATES * units : nullptr;
      float* kept_rest = f.kept && Cell::KEEPS ? f.kept + term * units : nullptr;
      if (f.mask && !f.mask[s.given(example, step)]) {
        if (outputs) std::copy_n(h[row], units, outputs);
        if (kept_gates) std::fill_n(kept_gates, GATES * units, 0.0f);
        if (kept_rest && Cell::HAS_C) std::copy_n(c[row], units, kept_rest);
        if (kept_rest && !Cell::HAS_C) std::fill_n(kept_rest, units, 0.0f);
        continue;
      }
      const float* input = inputs[step % at_once * count + row];
      for (int64_t unit = 0; unit < units; unit += LANES) {
        Vector gates[GATES], of_state[GATES], kept{};
        for (int gate = 0; gate < GATES; gate++) {
          gates[gate] = load(input + gate * padded + unit);
          of_state[gate] = load(inner[row] + gate * padded + unit);
        }
        State before{load(h[row] + unit), Cell::HAS_C ? load(c[row] + unit) : Vector{}};
        State after = Cell::forward(gates, of_state, before, kept);
        store(h[row] + unit, after.h);
        if (Cell::HAS_C) store(c[row] + unit, after.c);
        if (outputs) store(outputs + unit, after.h, units - unit);
        if (kept_gates)
          for (int gate = 0; gate < GATES; gate++) store(kept_gates + gate * units + unit, gates[gate], units - unit);
        if (kept_rest) store(kept_rest + unit, kept, units - unit);
      }
    }
  }
  give(h, first, count, s, f.last_h);
  if (Cell::HAS_C) give(c, first, count, s, f.last_c);
}

template <class Cell>
ffi::Error forward(ffi::ThreadPool pool, Floats x, Numbers numbers, Floats kernel, Floats bias, Floats recurrent_kernel,
                   Booleans mask, Floats h, Floats c, FloatsOut outputs, FloatsOut last_h, FloatsOut last_c,
                   FloatsOut gates, FloatsOut kept, FloatsOut projected, bool go_backwards) {
  Sizes s(places(x, numbers, go_backwards), x, h, Cell::GATES);
  Forward f{Inputs(x, numbers), h.typed_data(), c.typed_data(), values_or_null(mask), values_or_null(*outputs),
            last_h->typed_data(), last_c->typed_data(), values_or_null(*gates), values_or_null(*kept), {}};
  // the first row is added to the projected input; the second, which only the GRU has, to h U
  std::vector<float> biases(2 * s.width());
  for (size_t i = 0; i < bias.element_count(); i++)
    biases[i / s.units * s.padded() + i % s.units] = bias.typed_data()[i];
  Panels of_input = padded_kernel(kernel.typed_data(), s.features, s);
  Panels of_state = padded_kernel(recurrent_kernel.typed_data(), s.units, s);
  if (f.inputs.numbers) project_repeats(pool, s, of_input, biases.data(), projected->typed_data(), f);
  parallel_examples(pool, s, [&](int64_t first, int64_t count) {
    run<Cell>(s, f, of_input, biases.data(), of_state, biases.data() + s.width(), first, count);
  });
  return ffi::Error::Success();
}

// In `gates` and `kept`, which forward left, the gradients take the place of what they are computed from.
struct Backward {
  Inputs inputs;
  const float *h, *c, *outputs;
  const bool* mask;
  const float *outputs_gradient, *last_h_gradient, *last_c_gradient;
  float *gates, *kept, *x_gradient, *h_gradient, *c_gradient;

  const float* state_before(const Sizes& s, int64_t example, int64_t step) const {
    return step ? outputs + s.shown(example, step - 1) * s.units : h + example * s.units;
  }
};

// The kernels are given transposed here. The gradient of inputs that are looked up is left to lookup_gradient.
template <class Cell>
void run(const Sizes& s, const Backward& b, const Panels& kernel, const Panels& recurrent_kernel, int64_t first,
         int64_t count) {
  constexpr int GATES = Cell::GATES;
  int64_t padded = s.padded(), width = s.width(), units = s.units, at_once = s.steps_at_once(count);
  Scratch scratch(count * (2 * padded + width));
  RowsOut h = take(b.last_h_gradient, first, count, s, scratch.take(count * padded)), c{};
  if (Cell::HAS_C) c = take(b.last_c_gradient, first, count, s, scratch.take(count * padded));
  RowsOut inner_gradient{scratch.take(count * width), width};  // of h U
  std::vector<const float*> rows;
  std::vector<float*> to;

  for (int64_t step = s.steps - 1; step >= 0; step--) {
    for (int64_t row = 0; row < count; row++) {
      int64_t example = first + row, term = s.term(example, step);
      bool skipped = b.mask && !b.mask[s.given(example, step)];
      const float* shown = b.outputs_gradient ? b.outputs_gradient + s.shown(example, step) * units : nullptr;
      const float* h_before = b.state_before(s, example, step);
      const float* c_before = step ? b.kept + (term - s.batch) * units : b.c + example * units;
      float* kept_gates = b.gates + term * GATES * units;
      float* kept_rest = b.kept + term * units;
      for (int64_t unit = 0; unit < units; unit += LANES) {
        int64_t valid = units - unit;
        State gradient{load(h[row] + unit), Cell::HAS_C ? load(c[row] + unit) : Vector{}};
        if (shown) gradient.h += load(shown + unit, valid);
        Vector gates[GATES]{}, inner[GATES]{};
        if (!skipped) {
          for (int gate = 0; gate < GATES; gate++) {
            gates[gate] = load(kept_gates + gate * units + unit, valid);
            __builtin_prefetch(kept_gates - s.batch * GATES * units + gate * units + unit);  // of the step before
          }
          State before{load(h_before + unit, valid), Cell::HAS_C ? load(c_before + unit, valid) : Vector{}};
          Vector kept = Cell::KEEPS ? load(kept_rest + unit, valid) : Vector{};
          gradient = Cell::backward(gates, inner, kept, before, gradient);
        }
        for (int gate = 0; gate < GATES; gate++) {
          store(kept_gates + gate * units + unit, gates[gate], valid);
          store(inner_gradient[row] + gate * padded + unit, inner[gate]);
        }
        if (Cell::SPLITS) store(kept_rest + unit, inner[GATES - 1], valid);
        store(h[row] + unit, gradient.h);
        if (Cell::HAS_C) store(c[row] + unit, gradient.c);
      }
    }
    multiply(count, inner_gradient, recurrent_kernel, h, h);
    if (b.x_gradient && !b.inputs.numbers && step % at_once == 0) {
      rows.clear(), to.clear();
      for (int64_t i = 0, places = std::min(at_once, s.steps - step) * count; i < places; i++) {
        int64_t example = first + i % count, of_step = step + i / count;
        rows.push_back(b.gates + s.term(example, of_step) * s.columns());
        to.push_back(b.x_gradient + s.given(example, of_step) * s.features);
      }
      product(rows.data(), to.data(), rows.size(), {0}, s.columns(), kernel);
    }
  }
  give(h, first, count, s, b.h_gradient);
  if (Cell::HAS_C) give(c, first, count, s, b.c_gradient);
}

// The gradients of kernels and bias: sums over all steps of all examples of an input, or a state, times the gradient of
// its product. Each number is summed by one thread in one order, so that it does not depend on the number of threads.
// The gradients in `gates` of a row that is picked more than once are summed up there in its first place.
template <class Cell>
void kernel_gradients(ffi::ThreadPool& pool, const Sizes& s, const Backward& b, const Repeats& repeats, float* kernel,
                      float* bias, float* recurrent_kernel) {
  int64_t columns = s.columns(), terms = s.terms(), wide = vectors(columns), threads = s.threads(pool);
  int64_t parts = threads == 1 ? 1 : std::min((wide + WIDEST - 1) / WIDEST, 2 * threads);
  std::vector<int64_t> features(s.features), units(s.units);
  std::iota(features.begin(), features.end(), 0);
  std::iota(units.begin(), units.end(), 0);

  parallel_for(pool, parts, [&](int64_t part) {
    int64_t start = share(wide, part, parts) * LANES, end = std::min(share(wide, part + 1, parts) * LANES, columns);
    int64_t count = end - start;
    int64_t split = Cell::SPLITS ? std::clamp(columns - s.units, start, end) : end;  // from here on `kept` is for h U
    Panels of_input(s.features, count), of_state(s.units, count);
    std::vector<float> input_sums(count), state_sums(count);
    int64_t padded = vectors(count) * LANES;
    Scratch scratch(2 * TERMS * padded);
    RowsOut right{scratch.take(TERMS * padded), padded}, state_right = right;
    if (split < end) state_right.numbers = scratch.take(TERMS * padded);
    const float *inputs[TERMS], *states[TERMS];
    for (int64_t first = 0; first < terms; first += TERMS) {
      int64_t some = std::min(TERMS, terms - first);
      for (int64_t i = 0; i < some; i++) {
        int64_t term = first + i, step = term / s.batch, example = term % s.batch;
        inputs[i] = b.inputs.row(s.given(example, step));
        states[i] = b.state_before(s, example, step);
        for (int64_t k = 0; k < s.features; k += LANES) __builtin_prefetch(inputs[i] + k);
        for (int64_t k = 0; k < s.units; k += LANES) __builtin_prefetch(states[i] + k);
        const float* gradient = b.gates + term * columns;
        std::copy(gradient + start, gradient + end, right[i]);
        for (int64_t k = 0; k < count; k++) input_sums[k] += right[i][k];
        if (split == end) continue;
        std::copy(gradient + start, gradient + split, state_right[i]);
        std::copy_n(b.kept + (term + 1) * s.units - (columns - split), end - split, state_right[i] + split - start);
        for (int64_t k = 0; k < count; k++) state_sums[k] += state_right[i][k];
      }
      add_outer(states, units, state_right.numbers, right.step, some, of_state);
      if (!b.inputs.numbers) add_outer(inputs, features, right.numbers, right.step, some, of_input);
      for (int64_t i = 0; i < some && b.inputs.numbers; i++) {
        if (int64_t place = repeats.first(first + i); place != first + i)
          for (int64_t k = 0; k < count; k++) b.gates[place * columns + start + k] += right[i][k];
      }
    }
    for (int64_t first = 0, distinct = repeats.distinct.size(); first < distinct; first += TERMS) {
      int64_t some = std::min(TERMS, distinct - first);
      for (int64_t i = 0; i < some; i++) {
        inputs[i] = b.inputs.row_of_table(repeats.distinct[first + i].row);
        std::copy_n(b.gates + repeats.distinct[first + i].term * columns + start, count, right[i]);
      }
      add_outer(inputs, features, right.numbers, right.step, some, of_input);
    }
    auto unpack = [&](const Panels& total, float* gradient) {
      for (int64_t panel = 0; panel < total.count(); panel++)
        for (int64_t row = 0; row < total.depth; row++)
          std::copy_n(total.values(panel) + row * total.widths[panel] * LANES, total.valid(panel),
                      gradient + row * columns + start + total.starts[panel]);
    };
    unpack(of_input, kernel);
    unpack(of_state, recurrent_kernel);
    if (split == end) state_sums = input_sums;
    if (bias) std::copy_n(input_sums.data(), count, bias + start);
    if (bias && Cell::SPLITS) std::copy_n(state_sums.data(), count, bias + columns + start);
  });
}

// The gradient of a table whose rows are looked up; in `gates` are the sums that kernel_gradients left.
void lookup_gradient(ffi::ThreadPool& pool, const Sizes& s, const Backward& b, const Repeats& repeats,
                     const Panels& kernel) {
  int64_t rows = b.inputs.rows, count = repeats.distinct.size(), parts = (count + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
  parallel_phases(pool, 2, parts, [&](int64_t phase, int64_t part) {
    if (phase == 0) {
      int64_t begin = share(rows, part, parts), end = share(rows, part + 1, parts);
      std::fill_n(b.x_gradient + begin * s.features, (end - begin) * s.features, 0.0f);
      return;
    }
    std::vector<const float*> from;
    std::vector<float*> to;
    for (int64_t i = share(count, part, parts); i < share(count, part + 1, parts); i++) {
      auto [term, row, repeated] = repeats.distinct[i];
      if (row < 0) continue;
      from.push_back(b.gates + term * s.columns());
      to.push_back(b.x_gradient + row * s.features);
    }
    product(from.data(), to.data(), from.size(), {0}, s.columns(), kernel);
  }, s.threads(pool));
}

// `gates` and `kept` are given as well, in the same place.
template <class Cell>
ffi::Error backward(ffi::ThreadPool pool, Floats x, Numbers numbers, Floats kernel, Floats recurrent_kernel,
                    Booleans mask, Floats h, Floats c, Floats outputs, Floats, Floats, Floats outputs_gradient,
                    Floats last_h_gradient, Floats last_c_gradient, FloatsOut gates, FloatsOut kept,
                    FloatsOut x_gradient, FloatsOut kernel_gradient, FloatsOut bias_gradient,
                    FloatsOut recurrent_kernel_gradient, FloatsOut h_gradient, FloatsOut c_gradient,
                    bool go_backwards) {
  Sizes s(places(x, numbers, go_backwards), x, h, Cell::GATES);
  Backward b{Inputs(x, numbers), h.typed_data(), c.typed_data(), outputs.typed_data(),
             values_or_null(mask), values_or_null(outputs_gradient), last_h_gradient.typed_data(), last_c_gradient.typed_data(),
             gates->typed_data(), kept->typed_data(), values_or_null(*x_gradient), h_gradient->typed_data(),
             c_gradient->typed_data()};
  Panels of_input(s.columns(), b.x_gradient ? s.features : 0), of_state(s.width(), s.units);
  set_transposed(of_input, 0, s.columns(), {kernel.typed_data(), s.columns()});
  for (int64_t gate = 0; gate < s.gates; gate++)
    set_transposed(of_state, gate * s.padded(), s.units, {recurrent_kernel.typed_data() + gate * s.units, s.columns()});
  parallel_examples(pool, s, [&](int64_t first, int64_t count) { run<Cell>(s, b, of_input, of_state, first, count); });
  Repeats repeats;
  if (b.inputs.numbers) repeats = Repeats(s, b.inputs);
  kernel_gradients<Cell>(pool, s, b, repeats, kernel_gradient->typed_data(), values_or_null(*bias_gradient),
                         recurrent_kernel_gradient->typed_data());
  if (b.inputs.numbers && b.x_gradient) lookup_gradient(pool, s, b, repeats, of_input);
  return ffi::Error::Success();
}

auto bind_forward() {
  using Result = ffi::Buffer<ffi::F32>;
  return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Numbers>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
      .Arg<Booleans>().Arg<Floats>().Arg<Floats>().Ret<Result>().Ret<Result>().Ret<Result>().Ret<Result>().Ret<Result>()
      .Ret<Result>().Attr<bool>("go_backwards");
}

auto bind_backward() {
  using Result = ffi::Buffer<ffi::F32>;
  return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Numbers>().Arg<Floats>().Arg<Floats>()
      .Arg<Booleans>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
      .Arg<Floats>().Arg<Floats>().Ret<Result>().Ret<Result>().Ret<Result>().Ret<Result>().Ret<Result>().Ret<Result>()
      .Ret<Result>().Ret<Result>().Attr<bool>("go_backwards");
}

LAMINA_HANDLER(simple_rnn_forward, forward<SimpleCell>, bind_forward());
LAMINA_HANDLER(lstm_forward, forward<LstmCell>, bind_forward());
LAMINA_HANDLER(gru_forward, forward<GruCell>, bind_forward());
LAMINA_HANDLER(simple_rnn_backward, backward<SimpleCell>, bind_backward());
LAMINA_HANDLER(lstm_backward, backward<LstmCell>, bind_backward());
LAMINA_HANDLER(gru_backward, backward<GruCell>, bind_backward());

}  // namespace
}  // namespace lamina
