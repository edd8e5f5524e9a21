// What the backward passes of dense layers of bfloat16 have in common: the gradient of a kernel, of some rows at a time.
#pragma once

#include "half_tiles.h"

#if defined(LAMINA_HAS_TILES)

namespace lamina {

// So many tasks for each thread; so many blocks of rows are worked on at a time in the backward pass, to be in the cache.
constexpr int64_t HALF_TASKS = 8, ROW_BLOCKS = 16, ROWS_IN_CACHE = ROW_BLOCKS * SIDE;

// x^T g and the sums of the rows of g. x is turned over, g laid out as a right factor, block by block of rows, and then both are
// multiplied.
struct HalfKernelGradient {
  int64_t rows, inputs, outputs;
  int64_t input_blocks = blocks(inputs), output_blocks = blocks(outputs), deep = input_blocks * SIDE, wide = output_blocks * SIDE;
  Half *turned = nullptr, *right = nullptr;
  float *totals = nullptr, *sums_of_blocks = nullptr;

  void take(HalfScratch& memory) {
    turned = memory.take(deep * ROWS_IN_CACHE), right = memory.take(ROWS_IN_CACHE * wide);
    totals = memory.scratch.take(deep * wide), sums_of_blocks = memory.scratch.take(blocks(rows) * wide);
  }
  // In halves.
  int64_t size() const { return ROWS_IN_CACHE * (deep + wide) + 2 * deep * wide + 2 * blocks(rows) * wide; }
  // How many blocks the kernel has.
  int64_t count() const { return input_blocks * output_blocks; }

  // Lays out a block of rows of x, which begin at `row` there, and of g.
  void prepare_x(const Matrix& x, int64_t row, int64_t block) const {
    for (int64_t i = 0; i < input_blocks; i++)
      x.turn(row, i * SIDE, turned + i * SIDE * ROWS_IN_CACHE + block % ROW_BLOCKS * SIDE, ROWS_IN_CACHE);
  }
  void prepare_g(const Matrix& g, int64_t row, int64_t block) const {
    for (int64_t panel = 0; panel < output_blocks; panel++)
      g.pack(row, panel * SIDE, right + (panel * ROW_BLOCKS + block % ROW_BLOCKS) * 2 * TILE);
  }

  // What `row_blocks` blocks of rows add to block `i` of the kernel's gradient, which is written behind the last ones.
  void add(const Tiles& tiles, int64_t i, int64_t row_blocks, bool first, bool last, Half* of_kernel) const {
    int64_t panel = i / input_blocks, block = i % input_blocks;
    float* sums = totals + i * SIDE * SIDE;
    tiles.multiply(turned + block * SIDE * ROWS_IN_CACHE, ROWS_IN_CACHE, right + panel * ROW_BLOCKS * 2 * TILE, row_blocks, sums,
                   SIDE, !first);
    if (!last) return;
    each_vector(sums, block * SIDE, inputs, panel * SIDE, outputs, [&](int64_t row, int64_t n, int64_t count, Vector value) {
      store_rounded(of_kernel + row * outputs + n, value, count);
    });
  }

  // A block of the bias' gradient, from the sums of all blocks of rows.
  void add_up(int64_t block, Half* of_bias) const {
    for (int64_t n = block * SIDE; n < std::min(outputs, (block + 1) * SIDE); n += LANES) {
      Vector total{};
      for (int64_t i = 0; i < blocks(rows); i++) total += load(sums_of_blocks + i * wide + n);
      store_rounded(of_bias + n, total, outputs - n);
    }
  }
};

// A matrix as right factors, in panels of SIDE columns, as it is or turned over: one block of it, of `panels` by `depth`.
inline void pack_block(const Matrix& matrix, bool turned, int64_t depth, int64_t i, Half* packed) {
  int64_t k = i % depth * SIDE, column = i / depth * SIDE;
  Half* to = packed + i * 2 * TILE;
  turned ? matrix.pack_turned(column, k, to) : matrix.pack(k, column, to);
}

}  // namespace lamina

#endif
