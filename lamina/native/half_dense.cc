// Dense layers whose numbers are bfloat16, by products of tiles.

#include "half_dense.h"

#if defined(LAMINA_HAS_TILES)

#include "functions.h"

namespace lamina {
namespace {

// activated(x kernel + bias + more) of the rows that are there, maybe with the kernel turned over; or GELU of it, which itself is
// kept if there is a place for it.
void dense(ffi::ThreadPool& pool, const Halves& given, const PresentRows& present, const Matrix& kernel, bool turned,
           const Half* bias, const Half* more, float slope, Half* out, bool gelu = false, Half* before = nullptr) {
  Matrix x = matrix(given, present);
  int64_t rows = x.rows, columns = turned ? kernel.rows : kernel.columns, depth = blocks(x.columns), panels = blocks(columns);
  int64_t panel_size = depth * 2 * TILE, parts = HALF_TASKS * pool.num_threads();
  HalfScratch shared(panels * panel_size, true);
  Half* packed = shared.take(panels * panel_size);
  parallel_phases(pool, 2, parts, [&](int64_t phase, int64_t part) {
    if (phase == 0) {
      present.fill_others(out, more, columns, part, parts);
      present.fill_others<Half>(before, nullptr, columns, part, parts);
      for (int64_t i = share(panels * depth, part, parts); i < share(panels * depth, part + 1, parts); i++)
        pack_block(kernel, turned, depth, i, packed);
      return;
    }
    Tiles tiles;
    HalfScratch scratch(SIDE * depth * SIDE, false);
    Half* copy = scratch.take(SIDE * depth * SIDE);
    alignas(64) float sums[SIDE * SIDE];
    for (int64_t b = share(blocks(rows), part, parts); b < share(blocks(rows), part + 1, parts); b++) {
      const Half* left = x.whole_rows(b * SIDE, copy);
      for (int64_t panel = 0; panel < panels; panel++) {
        tiles.multiply(left, x.whole_step(), packed + panel * panel_size, depth, sums);
        each_vector(sums, b * SIDE, rows, panel * SIDE, columns, [&](int64_t row, int64_t n, int64_t count, Vector value) {
          int64_t place = x.places[row] * columns + n;
          if (bias) value += load(bias + n, count);
          if (more) value += load(more + place, count);
          value = activated(value, slope);
          if (before) store_rounded(before + place, value, count);
          store_rounded(out + place, gelu ? Gelu(value).value : value, count);
        });
      }
    }
  });
}

ffi::Error half_dense(ffi::ThreadPool pool, Halves x, Halves kernel, Halves bias, Halves more, Booleans there, HalvesOut out,
                      float slope) {
  PresentRows present(x.dimensions()[0], there);
  dense(pool, x, present, matrix(kernel), false, values_or_null(bias), values_or_null(more), slope, out->typed_data());
  return ffi::Error::Success();
}

ffi::Error half_dense_transposed(ffi::ThreadPool pool, Halves x, Halves kernel, HalvesOut out) {
  dense(pool, x, {x.dimensions()[0]}, matrix(kernel), true, nullptr, nullptr, 1.0f, out->typed_data());
  return ffi::Error::Success();
}

ffi::Error half_dense_gelu(ffi::ThreadPool pool, Halves x, Halves kernel, Halves bias, Booleans there, HalvesOut out,
                           HalvesOut before) {
  PresentRows present(x.dimensions()[0], there);
  dense(pool, x, present, matrix(kernel), false, values_or_null(bias), nullptr, 1.0f, out->typed_data(), true,
        values_or_null(*before));
  return ffi::Error::Success();
}

// The gradients of a layer: of the input, where there is a place for it, of the kernel and of the bias. `result` is what
// was before the GELU, with `gelu`; none, if there was no activation.
ffi::Error half_dense_gradient(ffi::ThreadPool pool, Halves x, Halves kernel, Halves result, Halves given, Booleans there,
                               HalvesOut of_x, HalvesOut of_kernel, HalvesOut of_bias, float slope, bool gelu) {
  PresentRows present(x.dimensions()[0], there);
  Matrix input = matrix(x, present), weights = matrix(kernel);
  int64_t rows = input.rows, inputs = weights.rows, outputs = weights.columns, parts = HALF_TASKS * pool.num_threads();
  int64_t row_blocks = blocks(rows), input_blocks = blocks(inputs), output_blocks = blocks(outputs);
  const Half* other = values_or_null(result);
  bool back = of_x->element_count() > 0;
  HalfKernelGradient of_matrix{rows, inputs, outputs};
  int64_t wide = of_matrix.wide, kernels = of_matrix.count();
  HalfScratch shared(ROWS_IN_CACHE * wide + of_matrix.deep * wide + of_matrix.size(), true);
  Half* undone = shared.take(ROWS_IN_CACHE * wide);  // of some rows, the gradient in front of the activation
  Half* packed = shared.take(of_matrix.deep * wide);  // the kernel turned over
  of_matrix.take(shared);
  Matrix gradient{undone, ROWS_IN_CACHE, wide, wide};

  auto prepare_rows = [&](int64_t block) {
    int64_t local = block % ROW_BLOCKS;
    float* total = of_matrix.sums_of_blocks + block * wide;
    std::fill(total, total + wide, 0.0f);
    for (int64_t i = 0; i < SIDE; i++)
      for (int64_t n = 0; n < wide; n += LANES) {
        int64_t row = block * SIDE + i, count = row < rows ? outputs - n : 0;
        int64_t place = count > 0 ? input.places[row] * outputs + n : 0;
        Vector value = count > 0 ? load(given.typed_data() + place, count) : Vector{};
        if (other && count > 0) {
          Vector beside = load(other + place, count);
          value = gelu ? value * Gelu(beside).slope : unactivated(value, beside, slope);
        }
        store_rounded(undone + (local * SIDE + i) * wide + n, value, LANES);
        store(total + n, load(total + n) + value);
      }
    of_matrix.prepare_g(gradient, local * SIDE, block);
    of_matrix.prepare_x(input, block * SIDE, block);
  };
  auto input_gradient = [&](const Tiles& tiles, int64_t block) {
    alignas(64) float sums[SIDE * SIDE];
    const Half* left = undone + block % ROW_BLOCKS * SIDE * wide;
    for (int64_t panel = 0; panel < input_blocks; panel++) {
      tiles.multiply(left, wide, packed + panel * output_blocks * 2 * TILE, output_blocks, sums);
      each_vector(sums, block * SIDE, rows, panel * SIDE, inputs, [&](int64_t row, int64_t n, int64_t count, Vector value) {
        store_rounded(of_x->typed_data() + input.places[row] * inputs + n, value, count);
      });
    }
  };

  int64_t chunks = std::max<int64_t>(1, (row_blocks + ROW_BLOCKS - 1) / ROW_BLOCKS);
  parallel_phases(pool, 2 * chunks, parts, [&](int64_t phase, int64_t part) {
    int64_t chunk = phase / 2, begin = chunk * ROW_BLOCKS, count = std::min(ROW_BLOCKS, row_blocks - begin);
    bool first = chunk == 0, last = chunk == chunks - 1;
    if (phase % 2 == 0) {
      if (back && first) present.fill_others<Half>(of_x->typed_data(), nullptr, inputs, part, parts);
      int64_t all = count + (back && first ? kernels : 0);
      for (int64_t i = part; i < all; i += parts) {
        if (i < count)
          prepare_rows(begin + i);
        else
          pack_block(weights, true, output_blocks, i - count, packed);
      }
      return;
    }
    Tiles tiles;
    int64_t products = kernels + (back ? count : 0), all = products + (last ? output_blocks : 0);
    for (int64_t i = share(all, part, parts); i < share(all, part + 1, parts); i++) {
      if (i < kernels)
        of_matrix.add(tiles, i, count, first, last, of_kernel->typed_data());
      else if (i < products)
        input_gradient(tiles, begin + i - kernels);
      else
        of_matrix.add_up(i - products, of_bias->typed_data());
    }
  });
  return ffi::Error::Success();
}

LAMINA_HANDLER_IF(has_half_products(), half_dense, half_dense,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Booleans>()
                      .Ret<Halves>().Attr<float>("slope"));
LAMINA_HANDLER_IF(has_half_products(), half_dense_transposed, half_dense_transposed,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>().Ret<Halves>());
LAMINA_HANDLER_IF(has_half_products(), half_dense_gelu, half_dense_gelu,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Booleans>().Ret<Halves>()
                      .Ret<Halves>());
LAMINA_HANDLER_IF(has_half_products(), half_dense_gradient, half_dense_gradient,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Booleans>()
                      .Ret<Halves>().Ret<Halves>().Ret<Halves>().Attr<float>("slope").Attr<bool>("gelu"));

}  // namespace
}  // namespace lamina

#endif
