// Recurrent networks over whole sequences, as in recurrent.cc, whose numbers are bfloat16, by products of tiles.
//
// The input of a step and the state before it stand side by side in one row, so that one product of tiles gives x W + h U. What
// goes from step to step, states and their gradients, is float32: it is rounded where it is multiplied, kept or given, but not
// where it is only passed on, so that small changes of a state that lasts are not lost.

#include "half_tiles.h"

#if defined(LAMINA_HAS_TILES)

#include "recurrent_cells.h"
#include "recurrent_inputs.h"

namespace lamina {
namespace {

// So many tasks for each thread. Gradients of the kernels are summed up from about so many steps of examples at once.
constexpr int64_t TASKS = 8, TERMS = 1024;

// Sizes of a network. Features, and the units of each gate, are filled up with zeros to blocks. The sums of gates have places
// beside each other; a gate whose two products are not added up has two of them, that of the input's first, that of the
// state's last.
template <class Cell>
struct Network : Places {
  static constexpr int64_t GATES = Cell::GATES, SPLITS = Cell::SPLITS, PLACES = GATES + SPLITS;
  int64_t features, units, input_blocks, unit_blocks;

  Network(const Halves& x, const Halves& h, bool go_backwards)
      : Places{x.dimensions()[0], x.dimensions()[1], go_backwards}, features(x.dimensions()[2]), units(h.dimensions()[1]),
        input_blocks(blocks(features)), unit_blocks(blocks(units)) {}

  static int64_t place_of_input(int64_t gate) { return SPLITS ? (gate + 1) % GATES : gate; }
  static int64_t gate_of_input(int64_t place) { return SPLITS ? (place + GATES - 1) % GATES : place; }
  static int64_t place_of_state(int64_t gate) { return gate + SPLITS; }
  static int64_t gate_of_state(int64_t place) { return place - SPLITS; }

  int64_t columns() const { return GATES * units; }
  int64_t panels() const { return PLACES * unit_blocks; }
  int64_t depth() const { return input_blocks + unit_blocks; }
  int64_t padded_features() const { return input_blocks * SIDE; }
  int64_t padded_units() const { return unit_blocks * SIDE; }
  // How far rows of input and state lie apart, and rows of gates: not a power of two, for which caches have little room.
  int64_t left_step() const { return (depth() + 1) * SIDE; }
  int64_t gates_step() const { return (panels() + 1) * SIDE; }

  // The columns of a gate of a kernel.
  Matrix of_gate(const Halves& kernel, int64_t gate) const {
    return {kernel.typed_data() + gate * units, static_cast<int64_t>(kernel.dimensions()[0]), units, columns()};
  }

  // Examples are run in blocks of pairs, by as many threads as there are.
  int64_t pairs() const { return (batch + 1) / 2; }
  int64_t example_blocks(int64_t threads) const {
    int64_t rounds = (pairs() + threads * LANES - 1) / (threads * LANES);
    return std::min(pairs(), threads * rounds);
  }
};

// States of an example, or their gradients, as a row of float32 that is filled up; and back.
void take(const Half* states, int64_t count, int64_t padded, float* to) {
  for (int64_t n = 0; n < padded; n += LANES) store(to + n, load(states + n, count - n));
}

void give(const float* from, int64_t count, Half* states) {
  for (int64_t n = 0; n < count; n += LANES) store(states + n, load(from + n), count - n);
}

// Pairs of rows, `step` apart, in a panel of a right factor, from a place of its depth on.
void pack_pairs(const Half* rows, int64_t count, int64_t step, int64_t place, Half* panel) {
  for (int64_t i = 0; i < count; i += 2, place += 2)
    for (int64_t n = 0; n < SIDE; n += LANES) {
      Words both = words(rows + i * step + n, LANES) | words(rows + (i + 1) * step + n, LANES) << 16;
      std::memcpy(panel + place / SIDE * 2 * TILE + n / LANES * TILE + place % SIDE * LANES, &both, sizeof(both));
    }
}

// SIDE columns of SIDE rows, of which some are there, as rows, `to_step` apart; zeros for others, and for rows that are null.
void turn_rows(const Half* const* rows, int64_t column, int64_t count, Half* to, int64_t to_step) {
  for (int64_t n = 0; n < SIDE; n += LANES) {
    auto numbers = [&](int64_t i) { return rows[i] ? words(rows[i] + column + n, count - n) : Words{}; };
    Square square;
    for (int64_t i = 0; i < LANES; i++) square[i] = reinterpret_cast<Vector>(numbers(2 * i) | numbers(2 * i + 1) << 16);
    transpose(square);
    for (int64_t i = 0; i < LANES; i++) std::memcpy(to + (n + i) * to_step, &square[i], sizeof(Vector));
  }
}

struct Forward {
  const Half *x, *h, *c;
  const bool* mask;
  Half *outputs, *last_h, *last_c, *gates, *kept;
};

// All steps of `2 * half` examples; the last one may not be there.
template <class Cell>
void run(const Network<Cell>& s, const Forward& f, const Half* packed, const float* biases, int64_t first, int64_t half) {
  constexpr int64_t GATES = s.GATES, PLACES = s.PLACES;
  int64_t rows = 2 * half, padded = s.padded_units(), units = s.units, count = std::min(rows, s.batch - first);
  int64_t left_step = s.left_step(), panel_size = s.depth() * 2 * TILE;
  HalfScratch scratch(2 * rows * left_step + 4 * rows * padded, false);
  Half* left[2] = {scratch.take(rows * left_step), scratch.take(rows * left_step)};  // of this step, and of the next
  float *h = scratch.scratch.take(rows * padded), *c = scratch.scratch.take(rows * padded);
  std::fill_n(left[0], rows * left_step, Half{});
  std::fill_n(left[1], rows * left_step, Half{});
  for (int64_t row = 0; row < count; row++) {
    int64_t example = first + row;
    std::copy_n(f.h + example * units, units, left[0] + row * left_step + s.padded_features());
    take(f.h + example * units, units, padded, h + row * padded);
    if (Cell::HAS_C) take(f.c + example * units, units, padded, c + row * padded);
  }
  Tiles tiles(half);
  alignas(64) float sums[PLACES][SIDE * SIDE];

  for (int64_t step = 0; step < s.steps; step++) {
    Half *now = left[step % 2], *next = left[(step + 1) % 2];
    for (int64_t row = 0; row < count; row++)
      std::copy_n(f.x + s.given(first + row, step) * s.features, s.features, now + row * left_step);
    for (int64_t block = 0; block < s.unit_blocks; block++) {
      for (int64_t place = 0; place < PLACES; place++) {
        int64_t begin = place < GATES ? 0 : s.input_blocks, end = place < s.SPLITS ? s.input_blocks : s.depth();
        const Half* right = packed + (place * s.unit_blocks + block) * panel_size;
        tiles.multiply(now + begin * SIDE, left_step, right + begin * 2 * TILE, end - begin, sums[place]);
      }
      for (int64_t row = 0; row < count; row++) {
        int64_t example = first + row, term = s.term(example, step), of_row = row * padded;
        bool skipped = f.mask && !f.mask[s.given(example, step)];
        for (int64_t n = 0; n < SIDE; n += LANES) {
          int64_t unit = block * SIDE + n, valid = units - unit;
          if (valid <= 0) break;
          Vector gates[GATES]{}, of_state[GATES]{};
          State before{load(h + of_row + unit), Cell::HAS_C ? load(c + of_row + unit) : Vector{}}, after = before;
          Vector kept = before.c;
          if (!skipped) {
            auto sum = [&](int64_t place) {
              return load(sums[place] + row * SIDE + n) + load(biases + place * padded + unit);
            };
            for (int64_t gate = 0; gate < GATES; gate++) gates[gate] = sum(s.place_of_input(gate));
            if (s.SPLITS) of_state[GATES - 1] = sum(PLACES - 1);
            after = Cell::forward(gates, of_state, before, kept);
          }
          store(h + of_row + unit, after.h);
          if (Cell::HAS_C) store(c + of_row + unit, after.c);
          store(next + row * left_step + s.padded_features() + unit, after.h, valid);
          if (f.outputs) store(f.outputs + s.shown(example, step) * units + unit, after.h, valid);
          for (int64_t gate = 0; f.gates && gate < GATES; gate++)
            store(f.gates + (term * GATES + gate) * units + unit, gates[gate], valid);
          if (f.kept && Cell::KEEPS) store(f.kept + term * units + unit, kept, valid);
        }
      }
    }
  }
  for (int64_t row = 0; row < count; row++) {
    give(h + row * padded, units, f.last_h + (first + row) * units);
    if (Cell::HAS_C) give(c + row * padded, units, f.last_c + (first + row) * units);
  }
}

template <class Cell>
ffi::Error forward(ffi::ThreadPool pool, Halves x, Halves kernel, Halves bias, Halves recurrent_kernel, Booleans mask, Halves h,
                   Halves c, HalvesOut outputs, HalvesOut last_h, HalvesOut last_c, HalvesOut gates, HalvesOut kept,
                   bool go_backwards) {
  Network<Cell> s(x, h, go_backwards);
  Forward f{x.typed_data(), h.typed_data(), values_or_null(c), values_or_null(mask), values_or_null(*outputs), last_h->typed_data(),
            values_or_null(*last_c), values_or_null(*gates), values_or_null(*kept)};
  int64_t depth = s.depth(), wide = s.PLACES * s.padded_units(), parts = s.example_blocks(pool.num_threads());
  HalfScratch shared(s.panels() * depth * 2 * TILE + 2 * wide, true);
  Half* packed = shared.take(s.panels() * depth * 2 * TILE);
  float* biases = shared.scratch.take(wide);

  auto pack = [&](int64_t i) {
    int64_t panel = i / depth, k = i % depth, place = panel / s.unit_blocks, column = panel % s.unit_blocks * SIDE;
    Half* to = packed + i * 2 * TILE;
    if (k < s.input_blocks && place < s.GATES) s.of_gate(kernel, s.gate_of_input(place)).pack(k * SIDE, column, to);
    if (k >= s.input_blocks && place >= s.SPLITS)
      s.of_gate(recurrent_kernel, s.gate_of_state(place)).pack((k - s.input_blocks) * SIDE, column, to);
  };
  auto set_biases = [&] {
    std::fill_n(biases, wide, 0.0f);
    for (int64_t row = 0, given = bias.element_count() / s.columns(); row < given; row++)
      for (int64_t gate = 0; gate < s.GATES; gate++)
        for (int64_t n = 0; n < s.units; n += LANES) {
          int64_t place = row ? s.place_of_state(gate) : s.place_of_input(gate);
          float* to = biases + place * s.padded_units() + n;
          store(to, load(to) + load(bias.typed_data() + row * s.columns() + gate * s.units + n, s.units - n));
        }
  };
  parallel_phases(pool, 2, parts, [&](int64_t phase, int64_t part) {
    if (phase == 0) {
      for (int64_t i = part; i < s.panels() * depth; i += parts) pack(i);
      if (part == 0) set_biases();
      return;
    }
    int64_t begin = share(s.pairs(), part, parts);
    run(s, f, packed, biases, 2 * begin, share(s.pairs(), part + 1, parts) - begin);
  });
  return ffi::Error::Success();
}

struct Backward {
  const Half *x, *h, *c, *outputs, *gates, *kept;
  const bool* mask;
  const Half* outputs_gradient;
  Half* x_gradient;

  template <class Cell>
  const Half* state_before(const Network<Cell>& s, int64_t example, int64_t step) const {
    return step ? outputs + s.shown(example, step - 1) * s.units : h + example * s.units;
  }
};

// What goes back from step to step: the gradients of the states, (examples, units). `input` and `state` are the kernels, turned
// over. The gradients of the gates, a right factor of `depth` blocks for each panel, are written.
struct Back {
  float *h, *c;
  const Half *input, *state;
  Half* right;
  int64_t depth;
};

// The gradients of a step of `2 * half` examples, whose gates begin at `term` of the right factor. There is room in `work` for
// a row of gates for each.
template <class Cell>
void step_back(const Network<Cell>& s, const Backward& b, const Back& to, const Tiles& tiles, int64_t step, int64_t first,
               int64_t half, int64_t term, Half* work) {
  constexpr int64_t GATES = s.GATES;
  int64_t rows = 2 * half, count = std::min(rows, s.batch - first), units = s.units, padded = s.padded_units();
  int64_t depth = GATES * s.unit_blocks;
  for (int64_t i = 0; i < count; i++) {
    int64_t example = first + i, term = s.term(example, step);
    Half* of_gates = work + i * s.gates_step();
    bool skipped = b.mask && !b.mask[s.given(example, step)];
    const Half* shown = b.outputs_gradient ? b.outputs_gradient + s.shown(example, step) * units : nullptr;
    const Half* h_before = b.state_before(s, example, step);
    const Half* c_before = step ? b.kept + (term - s.batch) * units : b.c + example * units;
    const Half *kept_gates = b.gates + term * s.columns(), *kept_rest = b.kept + term * units;
    for (int64_t unit = 0; unit < padded; unit += LANES) {
      int64_t valid = units - unit;
      float *h = to.h + example * padded + unit, *c = to.c + example * padded + unit;
      State gradient{load(h), Cell::HAS_C ? load(c) : Vector{}};
      if (shown) gradient.h += load(shown + unit, valid);
      Vector gates[GATES]{}, inner[GATES]{};
      if (!skipped) {
        for (int64_t gate = 0; gate < GATES; gate++) {
          gates[gate] = load(kept_gates + gate * units + unit, valid);
          __builtin_prefetch(kept_gates - s.batch * s.columns() + gate * units + unit);  // of the step before
        }
        State before{load(h_before + unit, valid), Cell::HAS_C ? load(c_before + unit, valid) : Vector{}};
        Vector kept = Cell::KEEPS ? load(kept_rest + unit, valid) : Vector{};
        gradient = Cell::backward(gates, inner, kept, before, gradient);
      }
      for (int64_t gate = 0; gate < GATES; gate++) store(of_gates + s.place_of_input(gate) * padded + unit, gates[gate], LANES);
      if (s.SPLITS) store(of_gates + s.place_of_state(GATES - 1) * padded + unit, inner[GATES - 1], LANES);
      store(h, gradient.h);
      if (Cell::HAS_C) store(c, gradient.c);
    }
  }
  for (int64_t panel = 0; panel < s.panels(); panel++)
    pack_pairs(work + panel * SIDE, rows, s.gates_step(), term, to.right + panel * to.depth * 2 * TILE);
  alignas(64) float sums[SIDE * SIDE];
  for (int64_t block = 0; block < s.unit_blocks; block++) {
    tiles.multiply(work + s.place_of_state(0) * padded, s.gates_step(), to.state + block * depth * 2 * TILE, depth, sums);
    each_vector(sums, 0, count, block * SIDE, padded, [&](int64_t i, int64_t unit, int64_t, Vector value) {
      float* h = to.h + (first + i) * padded + unit;
      store(h, load(h) + value);
    });
  }
  for (int64_t block = 0; b.x_gradient && block < s.input_blocks; block++) {
    tiles.multiply(work, s.gates_step(), to.input + block * depth * 2 * TILE, depth, sums);
    each_vector(sums, 0, count, block * SIDE, s.features, [&](int64_t i, int64_t n, int64_t valid, Vector value) {
      store(b.x_gradient + s.given(first + i, step) * s.features + n, value, valid);
    });
  }
}

// The steps are gone back in chunks. When the gradients of its gates are there, what a chunk adds to the gradients of the kernels
// is worked out, from its inputs and states, turned over: each number is summed up in one order, so that it does not depend on
// the number of threads.
template <class Cell>
ffi::Error backward(ffi::ThreadPool pool, Halves x, Halves kernel, Halves recurrent_kernel, Booleans mask, Halves h, Halves c,
                    Halves outputs, Halves gates, Halves kept, Halves outputs_gradient, Halves last_h_gradient,
                    Halves last_c_gradient, HalvesOut x_gradient, HalvesOut kernel_gradient, HalvesOut bias_gradient,
                    HalvesOut recurrent_kernel_gradient, HalvesOut h_gradient, HalvesOut c_gradient, bool go_backwards) {
  Network<Cell> s(x, h, go_backwards);
  Backward b{x.typed_data(), h.typed_data(), values_or_null(c), outputs.typed_data(), gates.typed_data(), values_or_null(kept),
             values_or_null(mask), values_or_null(outputs_gradient), values_or_null(*x_gradient)};
  Half* of_bias = values_or_null(*bias_gradient);
  // a chunk has so many terms at most, pairs of examples for each step; they are the depth of the products
  int64_t padded = s.padded_units(), high = 2 * s.pairs(), gate_blocks = s.GATES * s.unit_blocks;
  int64_t most_steps = std::clamp<int64_t>(TERMS / high, 1, s.steps), depth = blocks(most_steps * high);
  int64_t chunks = (s.steps + most_steps - 1) / most_steps, turned_step = (depth + 1) * SIDE;
  int64_t threads = pool.num_threads(), example_blocks = s.example_blocks(threads), parts = TASKS * threads;
  int64_t products = s.depth() * gate_blocks, vectors_of_bias = of_bias ? s.panels() * SIDE / LANES : 0;

  int64_t state_size = s.unit_blocks * gate_blocks * 2 * TILE;
  int64_t input_size = b.x_gradient ? s.input_blocks * gate_blocks * 2 * TILE : 0;
  int64_t right_size = s.panels() * depth * 2 * TILE, turned_size = s.depth() * SIDE * turned_step;
  int64_t floats = 2 * high * padded + products * SIDE * SIDE + s.panels() * SIDE;
  HalfScratch shared(state_size + input_size + right_size + turned_size + 2 * floats, true);
  Half *of_state = shared.take(state_size), *of_input = shared.take(input_size);
  Half *right = shared.take(right_size), *turned = shared.take(turned_size);
  float *totals = shared.scratch.take(products * SIDE * SIDE), *bias_totals = shared.scratch.take(s.panels() * SIDE);
  Back back{shared.scratch.take(high * padded), shared.scratch.take(high * padded), of_input, of_state, right, depth};

  auto prepare = [&](int64_t part) {
    for (int64_t i = part; i < s.depth() * gate_blocks; i += parts) {
      int64_t panel = i / gate_blocks, k = i % gate_blocks, gate = k / s.unit_blocks, column = k % s.unit_blocks * SIDE;
      if (panel < s.unit_blocks)
        s.of_gate(recurrent_kernel, gate).pack_turned(panel * SIDE, column, of_state + i * 2 * TILE);
      else if (b.x_gradient)
        s.of_gate(kernel, s.gate_of_input(gate)).pack_turned((panel - s.unit_blocks) * SIDE, column,
                                                             of_input + (i - s.unit_blocks * gate_blocks) * 2 * TILE);
    }
    for (int64_t example = share(s.batch, part, parts); example < share(s.batch, part + 1, parts); example++) {
      take(last_h_gradient.typed_data() + example * s.units, s.units, padded, back.h + example * padded);
      if (Cell::HAS_C) take(last_c_gradient.typed_data() + example * s.units, s.units, padded, back.c + example * padded);
    }
  };
  auto go_back = [&](int64_t block, int64_t begin, int64_t end) {
    int64_t pair = share(s.pairs(), block, example_blocks), half = share(s.pairs(), block + 1, example_blocks) - pair;
    HalfScratch scratch(2 * half * s.gates_step(), false);
    Half* work = scratch.take(2 * half * s.gates_step());
    std::fill_n(work, 2 * half * s.gates_step(), Half{});
    Tiles tiles(half);
    for (int64_t step = end - 1; step >= begin; step--)
      step_back(s, b, back, tiles, step, 2 * pair, half, (step - begin) * high + 2 * pair, work);
    for (int64_t example = 2 * pair; begin == 0 && example < std::min(2 * (pair + half), s.batch); example++) {
      give(back.h + example * padded, s.units, h_gradient->typed_data() + example * s.units);
      if (Cell::HAS_C) give(back.c + example * padded, s.units, c_gradient->typed_data() + example * s.units);
    }
  };
  // Inputs and states of a block of terms as columns; zeros for terms that are not there, and for their gates.
  auto turn = [&](int64_t block, int64_t begin, int64_t terms) {
    const Half *inputs[SIDE], *states[SIDE];
    for (int64_t i = 0; i < SIDE; i++) {
      int64_t term = block * SIDE + i, step = begin + term / high, example = term % high;
      bool is_there = term < terms && example < s.batch;
      inputs[i] = is_there ? b.x + s.given(example, step) * s.features : nullptr;
      states[i] = is_there ? b.state_before(s, example, step) : nullptr;
    }
    Half* to = turned + block * SIDE;
    for (int64_t i = 0; i < s.depth(); i++) {
      bool is_input = i < s.input_blocks;
      int64_t column = (is_input ? i : i - s.input_blocks) * SIDE;
      turn_rows(is_input ? inputs : states, column, (is_input ? s.features : s.units) - column, to + i * SIDE * turned_step,
                turned_step);
    }
    for (int64_t tile = 0, there = terms - block * SIDE; there < SIDE && tile < 2 * s.panels(); tile++) {
      Half* of_gates = right + (tile / 2 * depth + block) * 2 * TILE + tile % 2 * TILE;
      std::fill(of_gates + there * LANES, of_gates + TILE, Half{});
    }
  };
  // One block of the gradient of a kernel.
  auto add_product = [&](const Tiles& tiles, int64_t i, int64_t begin, int64_t end) {
    int64_t panel = i / s.depth(), of_left = i % s.depth(), place = panel / s.unit_blocks, column = panel % s.unit_blocks * SIDE;
    bool is_input = of_left < s.input_blocks;
    int64_t gate = is_input ? s.gate_of_input(place) : place;
    if (!is_input) panel += s.SPLITS * s.unit_blocks;
    alignas(64) float sums[SIDE * SIDE];
    tiles.multiply(turned + of_left * SIDE * turned_step, turned_step, right + panel * depth * 2 * TILE,
                   blocks((end - begin) * high), sums);
    float* total = totals + i * SIDE * SIDE;
    for (int64_t n = 0; n < SIDE * SIDE; n += LANES) {
      Vector value = load(sums + n);
      store(total + n, end < s.steps ? load(total + n) + value : value);
    }
    if (begin > 0) return;
    Half* to = (is_input ? kernel_gradient : recurrent_kernel_gradient)->typed_data() + gate * s.units;
    int64_t row = (is_input ? of_left : of_left - s.input_blocks) * SIDE;
    each_vector(total, row, is_input ? s.features : s.units, column, s.units,
                [&](int64_t row, int64_t n, int64_t count, Vector value) { store(to + row * s.columns() + n, value, count); });
  };
  auto add_biases = [&](int64_t i, int64_t begin, int64_t end) {
    int64_t place = i * LANES / padded, unit = i * LANES % padded;
    const Half* from = right + i / 2 * depth * 2 * TILE + i % 2 * TILE;
    float* total = bias_totals + i * LANES;
    Vector sum = end < s.steps ? load(total) : Vector{};
    for (int64_t term = 0; term < (end - begin) * high; term += 2) {
      Words both;
      std::memcpy(&both, from + term / SIDE * 2 * TILE + term % SIDE * LANES, sizeof(both));
      sum += reinterpret_cast<Vector>(both << 16) + reinterpret_cast<Vector>(both & 0xffff0000);
    }
    store(total, sum);
    if (begin > 0) return;
    if (place < s.GATES) store(of_bias + s.gate_of_input(place) * s.units + unit, sum, s.units - unit);
    if (s.SPLITS && place >= s.SPLITS)
      store(of_bias + s.columns() + s.gate_of_state(place) * s.units + unit, sum, s.units - unit);
  };

  parallel_phases(pool, 1 + 3 * chunks, parts, [&](int64_t phase, int64_t part) {
    if (phase == 0) return prepare(part);
    int64_t number = chunks - 1 - (phase - 1) / 3, begin = number * most_steps, end = std::min(begin + most_steps, s.steps);
    int64_t terms = (end - begin) * high;
    if ((phase - 1) % 3 == 0) {
      for (int64_t block = part; block < example_blocks; block += parts) go_back(block, begin, end);
      return;
    }
    if ((phase - 1) % 3 == 1) {
      for (int64_t block = part; block < blocks(terms); block += parts) turn(block, begin, terms);
      return;
    }
    Tiles tiles;
    for (int64_t i = share(products, part, parts); i < share(products, part + 1, parts); i++) add_product(tiles, i, begin, end);
    for (int64_t i = part; i < vectors_of_bias; i += parts) add_biases(i, begin, end);
  });
  return ffi::Error::Success();
}

auto bind_forward() {
  return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Booleans>()
                      .Arg<Halves>()
      .Arg<Halves>().Ret<Halves>().Ret<Halves>().Ret<Halves>().Ret<Halves>().Ret<Halves>().Attr<bool>("go_backwards");
}

auto bind_backward() {
  return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Booleans>().Arg<Halves>()
                      .Arg<Halves>()
      .Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Halves>()
                      .Arg<Halves>().Ret<Halves>().Ret<Halves>().Ret<Halves>().Ret<Halves>()
      .Ret<Halves>().Ret<Halves>().Attr<bool>("go_backwards");
}

LAMINA_HANDLER_IF(has_half_products(), half_simple_rnn_forward, forward<SimpleCell>, bind_forward());
LAMINA_HANDLER_IF(has_half_products(), half_lstm_forward, forward<LstmCell>, bind_forward());
LAMINA_HANDLER_IF(has_half_products(), half_gru_forward, forward<GruCell>, bind_forward());
LAMINA_HANDLER_IF(has_half_products(), half_simple_rnn_backward, backward<SimpleCell>, bind_backward());
LAMINA_HANDLER_IF(has_half_products(), half_lstm_backward, backward<LstmCell>, bind_backward());
LAMINA_HANDLER_IF(has_half_products(), half_gru_backward, backward<GruCell>, bind_backward());

}  // namespace
}  // namespace lamina

#endif
