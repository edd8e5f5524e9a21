// Dense layers whose numbers are bfloat16, by products of tiles.

#include "half_tiles.h"

#if defined(LAMINA_HAS_TILES)

#include "functions.h"

namespace lamina {
namespace {

// So many tasks for each thread; so many blocks of rows are worked on at a time in the backward pass, to be in the cache.
constexpr int64_t TASKS = 8, ROW_BLOCKS = 16, ROWS = ROW_BLOCKS * SIDE;

// activated(x kernel + bias + more), maybe with the kernel turned over; or GELU of it, which itself is kept if there is a place for it.
void dense(ffi::ThreadPool& pool, const Matrix& x, const Matrix& kernel, bool turned, const Half* bias, const Half* more,
           float slope, Half* out, bool gelu = false, Half* before = nullptr) {
  int64_t rows = x.rows, columns = turned ? kernel.rows : kernel.columns, depth = blocks(x.columns), panels = blocks(columns);
  int64_t panel_size = depth * 2 * TILE, parts = TASKS * pool.num_threads();
  HalfScratch shared(panels * panel_size, true);
  Half* packed = shared.take(panels * panel_size);
  parallel_phases(pool, 2, parts, [&](int64_t phase, int64_t part) {
    if (phase == 0) {
      for (int64_t i = share(panels * depth, part, parts); i < share(panels * depth, part + 1, parts); i++) {
        int64_t k = i % depth * SIDE, column = i / depth * SIDE;
        Half* to = packed + i * 2 * TILE;
        turned ? kernel.pack_turned(column, k, to) : kernel.pack(k, column, to);
      }
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
          int64_t place = row * columns + n;
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

ffi::Error half_dense(ffi::ThreadPool pool, Halves x, Halves kernel, Halves bias, Halves more, HalvesOut out, float slope) {
  dense(pool, matrix(x), matrix(kernel), false, values_or_null(bias), values_or_null(more), slope, out->typed_data());
  return ffi::Error::Success();
}

ffi::Error half_dense_transposed(ffi::ThreadPool pool, Halves x, Halves kernel, HalvesOut out) {
  dense(pool, matrix(x), matrix(kernel), true, nullptr, nullptr, 1.0f, out->typed_data());
  return ffi::Error::Success();
}

ffi::Error half_dense_gelu(ffi::ThreadPool pool, Halves x, Halves kernel, Halves bias, HalvesOut out, HalvesOut before) {
  dense(pool, matrix(x), matrix(kernel), false, values_or_null(bias), nullptr, 1.0f, out->typed_data(), true,
        values_or_null(*before));
  return ffi::Error::Success();
}

// The gradients of a layer: of the input, where there is a place for it, of the kernel and of the bias. `result` is what
// was before the GELU, with `gelu`; none, if there was no activation.
ffi::Error half_dense_gradient(ffi::ThreadPool pool, Halves x, Halves kernel, Halves result, Halves given, HalvesOut of_x,
                               HalvesOut of_kernel, HalvesOut of_bias, float slope, bool gelu) {
  Matrix input = matrix(x), weights = matrix(kernel);
  int64_t rows = input.rows, inputs = weights.rows, outputs = weights.columns, parts = TASKS * pool.num_threads();
  int64_t row_blocks = blocks(rows), input_blocks = blocks(inputs), output_blocks = blocks(outputs);
  int64_t deep = input_blocks * SIDE, wide = output_blocks * SIDE, kernels = input_blocks * output_blocks;
  const Half* other = values_or_null(result);
  bool back = of_x->element_count() > 0;
  // of some rows: the gradient in front of the activation, the same as a right factor, and the input turned over
  HalfScratch shared(ROWS * (2 * wide + deep) + 3 * deep * wide + 2 * row_blocks * wide, true);
  Half *undone = shared.take(ROWS * wide), *right = shared.take(ROWS * wide), *turned = shared.take(deep * ROWS);
  Half* packed = shared.take(deep * wide);  // the kernel turned over
  float *totals = shared.scratch.take(deep * wide), *sums_of_blocks = shared.scratch.take(row_blocks * wide);
  Matrix gradient{undone, ROWS, wide, wide};

  auto prepare_rows = [&](int64_t block) {
    int64_t local = block % ROW_BLOCKS;
    float* total = sums_of_blocks + block * wide;
    std::fill(total, total + wide, 0.0f);
    for (int64_t i = 0; i < SIDE; i++)
      for (int64_t n = 0; n < wide; n += LANES) {
        int64_t row = block * SIDE + i, count = row < rows ? outputs - n : 0, place = row * outputs + n;
        Vector value = count > 0 ? load(given.typed_data() + place, count) : Vector{};
        if (other && count > 0) {
          Vector beside = load(other + place, count);
          value = gelu ? value * Gelu(beside).slope : unactivated(value, beside, slope);
        }
        store_rounded(undone + (local * SIDE + i) * wide + n, value, LANES);
        store(total + n, load(total + n) + value);
      }
    for (int64_t panel = 0; panel < output_blocks; panel++)
      gradient.pack(local * SIDE, panel * SIDE, right + (panel * ROW_BLOCKS + local) * 2 * TILE);
    for (int64_t i = 0; i < input_blocks; i++)
      input.turn(block * SIDE, i * SIDE, turned + i * SIDE * ROWS + local * SIDE, ROWS);
  };
  auto prepare_kernel = [&](int64_t i) {
    int64_t panel = i / output_blocks, block = i % output_blocks;
    weights.pack_turned(panel * SIDE, block * SIDE, packed + i * 2 * TILE);
  };
  auto input_gradient = [&](const Tiles& tiles, int64_t block) {
    alignas(64) float sums[SIDE * SIDE];
    const Half* left = undone + block % ROW_BLOCKS * SIDE * wide;
    for (int64_t panel = 0; panel < input_blocks; panel++) {
      tiles.multiply(left, wide, packed + panel * output_blocks * 2 * TILE, output_blocks, sums);
      each_vector(sums, block * SIDE, rows, panel * SIDE, inputs, [&](int64_t row, int64_t n, int64_t count, Vector value) {
        store_rounded(of_x->typed_data() + row * inputs + n, value, count);
      });
    }
  };
  // What `count` blocks of rows add to a block of the kernel's gradient.
  auto kernel_gradient = [&](const Tiles& tiles, int64_t i, int64_t count, bool first, bool last) {
    int64_t panel = i / input_blocks, block = i % input_blocks;
    float* sums = totals + i * SIDE * SIDE;
    tiles.multiply(turned + block * SIDE * ROWS, ROWS, right + panel * ROW_BLOCKS * 2 * TILE, count, sums, SIDE, !first);
    if (!last) return;
    each_vector(sums, block * SIDE, inputs, panel * SIDE, outputs, [&](int64_t row, int64_t n, int64_t count, Vector value) {
      store_rounded(of_kernel->typed_data() + row * outputs + n, value, count);
    });
  };
  auto bias_gradient = [&](int64_t block) {
    for (int64_t n = block * SIDE; n < std::min(outputs, (block + 1) * SIDE); n += LANES) {
      Vector total{};
      for (int64_t i = 0; i < row_blocks; i++) total += load(sums_of_blocks + i * wide + n);
      store_rounded(of_bias->typed_data() + n, total, outputs - n);
    }
  };

  int64_t chunks = (row_blocks + ROW_BLOCKS - 1) / ROW_BLOCKS;
  parallel_phases(pool, 2 * chunks, parts, [&](int64_t phase, int64_t part) {
    int64_t chunk = phase / 2, begin = chunk * ROW_BLOCKS, count = std::min(ROW_BLOCKS, row_blocks - begin);
    bool first = chunk == 0, last = chunk == chunks - 1;
    if (phase % 2 == 0) {
      int64_t all = count + (back && first ? kernels : 0);
      for (int64_t i = part; i < all; i += parts) i < count ? prepare_rows(begin + i) : prepare_kernel(i - count);
      return;
    }
    Tiles tiles;
    int64_t products = kernels + (back ? count : 0), all = products + (last ? output_blocks : 0);
    for (int64_t i = share(all, part, parts); i < share(all, part + 1, parts); i++) {
      if (i < kernels)
        kernel_gradient(tiles, i, count, first, last);
      else if (i < products)
        input_gradient(tiles, begin + i - kernels);
      else
        bias_gradient(i - products);
    }
  });
  return ffi::Error::Success();
}

LAMINA_HANDLER_IF(has_tiles(), half_dense, half_dense,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Ret<Halves>()
                      .Attr<float>("slope"));
LAMINA_HANDLER_IF(has_tiles(), half_dense_transposed, half_dense_transposed,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>().Ret<Halves>());
LAMINA_HANDLER_IF(has_tiles(), half_dense_gelu, half_dense_gelu,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Ret<Halves>().Ret<Halves>());
LAMINA_HANDLER_IF(has_tiles(), half_dense_gradient, half_dense_gradient,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Arg<Halves>().Ret<Halves>()
                      .Ret<Halves>().Ret<Halves>().Attr<float>("slope").Attr<bool>("gelu"));

}  // namespace
}  // namespace lamina

#endif
