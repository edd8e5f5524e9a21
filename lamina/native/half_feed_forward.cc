// Two dense layers with GELU between them, as in feed_forward.cc, whose numbers are bfloat16, by products of tiles.

#include "half_dense.h"

#if defined(LAMINA_HAS_TILES)

#include "functions.h"

namespace lamina {
namespace {

// GELU(x kernel + bias) second_kernel + second_bias + more. What is before the GELU is kept, if there is a place for it.
ffi::Error half_feed_forward(ffi::ThreadPool pool, Halves x, Halves kernel, Halves bias, Halves second_kernel, Halves second_bias,
                             Halves more, Booleans there, HalvesOut out, HalvesOut before) {
  PresentRows present(x.dimensions()[0], there);
  Matrix input = matrix(x, present), weights = matrix(kernel), second_weights = matrix(second_kernel);
  int64_t rows = input.rows, hidden = weights.columns, outputs = second_weights.columns;
  int64_t depth = blocks(input.columns), panels = blocks(hidden), second_panels = blocks(outputs), wide = panels * SIDE;
  const Half *given_bias = values_or_null(bias), *given_second_bias = values_or_null(second_bias), *added = values_or_null(more);
  Half *kept = values_or_null(*before), *result = out->typed_data();
  int64_t kernels = panels * depth, all = kernels + second_panels * panels, parts = HALF_TASKS * pool.num_threads();
  HalfScratch shared(all * 2 * TILE, true);
  Half *packed = shared.take(kernels * 2 * TILE), *second_packed = shared.take(second_panels * panels * 2 * TILE);
  parallel_phases(pool, 2, parts, [&](int64_t phase, int64_t part) {
    if (phase == 0) {
      present.fill_others(result, added, outputs, part, parts);
      present.fill_others<Half>(kept, nullptr, hidden, part, parts);
      for (int64_t i = share(all, part, parts); i < share(all, part + 1, parts); i++) {
        if (i < kernels)
          pack_block(weights, false, depth, i, packed);
        else
          pack_block(second_weights, false, panels, i - kernels, second_packed);
      }
      return;
    }
    Tiles tiles;
    HalfScratch scratch(SIDE * (depth * SIDE + wide), false);
    Half *copy = scratch.take(SIDE * depth * SIDE), *between = scratch.take(SIDE * wide);
    std::fill(between, between + SIDE * wide, Half{});
    alignas(64) float sums[SIDE * SIDE];
    for (int64_t b = share(blocks(rows), part, parts); b < share(blocks(rows), part + 1, parts); b++) {
      const Half* left = input.whole_rows(b * SIDE, copy);
      for (int64_t panel = 0; panel < panels; panel++) {
        tiles.multiply(left, input.whole_step(), packed + panel * depth * 2 * TILE, depth, sums);
        each_vector(sums, b * SIDE, rows, panel * SIDE, hidden, [&](int64_t row, int64_t n, int64_t count, Vector value) {
          if (given_bias) value += load(given_bias + n, count);
          if (kept) store_rounded(kept + input.places[row] * hidden + n, value, count);
          store_rounded(between + (row - b * SIDE) * wide + n, Gelu(value).value, count);
        });
      }
      for (int64_t panel = 0; panel < second_panels; panel++) {
        tiles.multiply(between, wide, second_packed + panel * panels * 2 * TILE, panels, sums);
        each_vector(sums, b * SIDE, rows, panel * SIDE, outputs, [&](int64_t row, int64_t n, int64_t count, Vector value) {
          int64_t place = input.places[row] * outputs + n;
          if (given_second_bias) value += load(given_second_bias + n, count);
          if (added) value += load(added + place, count);
          store_rounded(result + place, value, count);
        });
      }
    }
  });
  return ffi::Error::Success();
}

// Its gradients: of the input, where there is a place for it, and of both kernels and biases. `before` is what was before the GELU.
ffi::Error half_feed_forward_gradient(ffi::ThreadPool pool, Halves x, Halves kernel, Halves second_kernel, Halves before,
                                      Halves given, Booleans there, HalvesOut of_x, HalvesOut of_kernel, HalvesOut of_bias,
                                      HalvesOut of_second_kernel, HalvesOut of_second_bias) {
  PresentRows present(x.dimensions()[0], there);
  Matrix input = matrix(x, present), gradient = matrix(given, present);
  Matrix weights = matrix(kernel), second_weights = matrix(second_kernel);
  int64_t rows = input.rows, inputs = weights.rows, hidden = weights.columns, outputs = second_weights.columns;
  int64_t input_blocks = blocks(inputs), hidden_blocks = blocks(hidden), output_blocks = blocks(outputs);
  bool back = of_x->element_count() > 0;
  HalfKernelGradient first{rows, inputs, hidden}, second{rows, hidden, outputs};
  int64_t wide = first.wide, kernels = first.count(), second_kernels = second.count();
  HalfScratch shared((kernels + second_kernels) * 2 * TILE + first.size() + second.size(), true);
  Half *turned = shared.take(kernels * 2 * TILE), *second_turned = shared.take(second_kernels * 2 * TILE);
  first.take(shared), second.take(shared);

  auto prepare_kernels = [&](int64_t i) {
    if (i < second_kernels)
      pack_block(second_weights, true, output_blocks, i, second_turned);
    else if (back)
      pack_block(weights, true, hidden_blocks, i - second_kernels, turned);
  };
  // All that concerns a block of rows alone.
  auto prepare_rows = [&](const Tiles& tiles, int64_t block) {
    HalfScratch scratch(SIDE * (second.wide + 2 * wide), false);
    Half *copy = scratch.take(SIDE * second.wide), *between = scratch.take(SIDE * wide), *undone = scratch.take(SIDE * wide);
    alignas(64) float sums[SIDE * SIDE];
    float *total = first.sums_of_blocks + block * wide, *second_total = second.sums_of_blocks + block * second.wide;
    std::fill(second_total, second_total + second.wide, 0.0f);
    for (int64_t row = block * SIDE; row < std::min(rows, (block + 1) * SIDE); row++)
      for (int64_t n = 0; n < outputs; n += LANES)
        store(second_total + n, load(second_total + n) + load(gradient.at(row) + n, outputs - n));
    const Half* left = gradient.whole_rows(block * SIDE, copy);
    for (int64_t panel = 0; panel < hidden_blocks; panel++) {
      tiles.multiply(left, gradient.whole_step(), second_turned + panel * output_blocks * 2 * TILE, output_blocks, sums);
      for (int64_t n = panel * SIDE; n < (panel + 1) * SIDE; n += LANES) {
        Vector of_column{};
        for (int64_t i = 0; i < SIDE; i++) {
          int64_t row = block * SIDE + i, count = row < rows ? hidden - n : 0;
          Vector value{}, behind{};
          if (count > 0) {
            Gelu gelu(load(before.typed_data() + input.places[row] * hidden + n, count));
            value = load(sums + i * SIDE + n - panel * SIDE) * gelu.slope, behind = gelu.value;
          }
          store_rounded(between + i * wide + n, behind, LANES);
          store_rounded(undone + i * wide + n, value, LANES);
          of_column += value;
        }
        store(total + n, of_column);
      }
    }
    first.prepare_x(input, block * SIDE, block), first.prepare_g({undone, SIDE, wide, wide}, 0, block);
    second.prepare_x({between, SIDE, wide, wide}, 0, block), second.prepare_g(gradient, block * SIDE, block);
    for (int64_t panel = 0; back && panel < input_blocks; panel++) {
      tiles.multiply(undone, wide, turned + panel * hidden_blocks * 2 * TILE, hidden_blocks, sums);
      each_vector(sums, block * SIDE, rows, panel * SIDE, inputs, [&](int64_t row, int64_t n, int64_t count, Vector value) {
        store_rounded(of_x->typed_data() + input.places[row] * inputs + n, value, count);
      });
    }
  };

  int64_t row_blocks = blocks(rows), chunks = std::max<int64_t>(1, (row_blocks + ROW_BLOCKS - 1) / ROW_BLOCKS);
  int64_t parts = HALF_TASKS * pool.num_threads();
  parallel_phases(pool, 1 + 2 * chunks, parts, [&](int64_t phase, int64_t part) {
    auto each = [&](int64_t count, auto body) {
      for (int64_t i = share(count, part, parts); i < share(count, part + 1, parts); i++) body(i);
    };
    if (phase == 0) {
      present.fill_others<Half>(values_or_null(*of_x), nullptr, inputs, part, parts);
      return each(kernels + second_kernels, prepare_kernels);
    }
    int64_t chunk = (phase - 1) / 2, begin = chunk * ROW_BLOCKS, count = std::min(ROW_BLOCKS, row_blocks - begin);
    bool is_first = chunk == 0, is_last = chunk == chunks - 1;
    Tiles tiles;
    if (phase % 2 == 1) return each(count, [&](int64_t i) { prepare_rows(tiles, begin + i); });
    int64_t products = kernels + second_kernels;
    each(products + (is_last ? hidden_blocks + output_blocks : 0), [&](int64_t i) {
      if (i < kernels)
        first.add(tiles, i, count, is_first, is_last, of_kernel->typed_data());
      else if (i < products)
        second.add(tiles, i - kernels, count, is_first, is_last, of_second_kernel->typed_data());
      else if (i < products + hidden_blocks)
        first.add_up(i - products, of_bias->typed_data());
      else
        second.add_up(i - products - hidden_blocks, of_second_bias->typed_data());
    });
  });
  return ffi::Error::Success();
}

LAMINA_HANDLER_IF(has_half_products(), half_feed_forward, half_feed_forward,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Halves>()
                      .Arg<Halves>().Arg<Booleans>().Ret<Halves>().Ret<Halves>());
LAMINA_HANDLER_IF(has_half_products(), half_feed_forward_gradient, half_feed_forward_gradient,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Halves>()
                      .Arg<Booleans>().Ret<Halves>().Ret<Halves>().Ret<Halves>().Ret<Halves>().Ret<Halves>());

}  // namespace
}  // namespace lamina

#endif
