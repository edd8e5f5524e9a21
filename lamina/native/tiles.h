// Products of small matrices that are read and written where they are.
#pragma once

#include <array>
#include <utility>

#include "vector.h"

namespace lamina {

// Rows of numbers in memory: where the first begins, and the distance between neighbours.
template <typename T>
struct Rows {
  T* values;
  int64_t step;

  Rows from(int64_t row) const { return {values + row * step, step}; }
};

// How the left matrix lies in memory: the numbers of its rows, or of its columns, follow each other.
enum class Contiguous { ROWS, COLUMNS };

// The result is worked out in tiles of 1, 2, ... vectors by as many rows as leave registers for the rest. Where it is known
// when this is compiled how long rows of the left matrix are, no registers are needed to say where they lie.
constexpr int WIDEST_TILE = REGISTERS == 32 ? 4 : 2;
constexpr int HIGHEST_TILE[] = {0, 8, REGISTERS == 32 ? 10 : 6, 8, 6};
constexpr int HIGHEST_KNOWN_TILE[] = {0, REGISTERS == 32 ? 12 : 8, REGISTERS == 32 ? 12 : 6, 8, 6};

// With a LENGTH, that of the left matrix' rows, which follow each other.
template <Contiguous LEFT, int ROWS, int VECTORS, int LENGTH = 0>
void tile(const float* left, int64_t left_step, int64_t depth, const float* right, int64_t right_step, float* out,
          int64_t out_step, bool add) {
  if (LENGTH) depth = left_step = LENGTH;
  const int64_t row_step = LEFT == Contiguous::ROWS ? left_step : 1;
  const int64_t depth_step = LEFT == Contiguous::ROWS ? 1 : left_step;
  Vector total[ROWS][VECTORS];
  for (int i = 0; i < ROWS; i++)
    for (int j = 0; j < VECTORS; j++) total[i][j] = Vector{};
  for (int64_t k = 0; k < depth; k++, left += depth_step, right += right_step) {
    Vector row[VECTORS];
    for (int j = 0; j < VECTORS; j++) row[j] = load(right + j * LANES);
    for (int i = 0; i < ROWS; i++) {
      Vector value = all(left[i * row_step]);
      for (int j = 0; j < VECTORS; j++) total[i][j] += value * row[j];
    }
  }
// unrolled early, or GCC takes the sums through memory
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 16
    for (int j = 0; j < VECTORS; j++) {
      if (add) total[i][j] += load(out + i * out_step + j * LANES);
      store(out + i * out_step + j * LANES, total[i][j]);
    }
}

using Tile = void (*)(const float*, int64_t, int64_t, const float*, int64_t, float*, int64_t, bool);
using TilesOfWidth = std::array<Tile, 11>;  // by the number of rows

template <Contiguous LEFT, int VECTORS, int... ROWS>
constexpr TilesOfWidth tiles_of_width(std::integer_sequence<int, ROWS...>) {
  return {nullptr, tile<LEFT, ROWS + 1, VECTORS>...};
}

template <Contiguous LEFT, int... VECTORS>
constexpr std::array<TilesOfWidth, WIDEST_TILE + 1> tiles(std::integer_sequence<int, VECTORS...>) {
  return {TilesOfWidth{}, tiles_of_width<LEFT, VECTORS + 1>(std::make_integer_sequence<int, HIGHEST_TILE[VECTORS + 1]>())...};
}

// As many whole tiles as there are; gives the number of their rows.
template <int LENGTH, int VECTORS>
int64_t multiply_tiles(const float* left, Rows<const float> right, int64_t rows, Rows<float> out) {
  constexpr int HEIGHT = HIGHEST_KNOWN_TILE[VECTORS];
  int64_t row = 0;
  for (; row + HEIGHT <= rows; row += HEIGHT)
    tile<Contiguous::ROWS, HEIGHT, VECTORS, LENGTH>(left + row * LENGTH, LENGTH, LENGTH, right.values, right.step,
                                                    out.values + row * out.step, out.step, false);
  return row;
}

template <int LENGTH>
int64_t multiply_tiles(const float* left, Rows<const float> right, int64_t rows, int64_t vectors, Rows<float> out) {
  if (vectors == 1) return multiply_tiles<LENGTH, 1>(left, right, rows, out);
  if (vectors == 2) return multiply_tiles<LENGTH, 2>(left, right, rows, out);
  if constexpr (WIDEST_TILE == 4)
    if (vectors == 4) return multiply_tiles<LENGTH, 4>(left, right, rows, out);
  return 0;
}

// out[r][c] = (add ? out[r][c] : 0) + sum over k < depth of left[r][k] * right[k][c], for `rows` rows and `vectors`
// vectors of columns. Where the columns of `left` are contiguous, it is these that are a step apart.
template <Contiguous LEFT>
void multiply(Rows<const float> left, Rows<const float> right, int64_t rows, int64_t depth, int64_t vectors,
              Rows<float> out, bool add) {
  if (LEFT == Contiguous::ROWS && left.step == depth && !add) {
    int64_t done = depth == 16   ? multiply_tiles<16>(left.values, right, rows, vectors, out)
                   : depth == 32 ? multiply_tiles<32>(left.values, right, rows, vectors, out)
                   : depth == 64 ? multiply_tiles<64>(left.values, right, rows, vectors, out)
                                 : 0;
    left = left.from(done), out = out.from(done), rows -= done;
  }
  static constexpr auto TILES = tiles<LEFT>(std::make_integer_sequence<int, WIDEST_TILE>());
  int64_t panels = (vectors + WIDEST_TILE - 1) / WIDEST_TILE;
  for (int64_t panel = 0; panel < panels; panel++) {
    int64_t begin = vectors * panel / panels, width = vectors * (panel + 1) / panels - begin, column = begin * LANES;
    int64_t parts = (rows + HIGHEST_TILE[width] - 1) / HIGHEST_TILE[width];
    for (int64_t part = 0; part < parts; part++) {
      int64_t row = rows * part / parts, height = rows * (part + 1) / parts - row;
      TILES[width][height](left.values + row * (LEFT == Contiguous::ROWS ? left.step : 1), left.step, depth,
                           right.values + column, right.step, out.values + row * out.step + column, out.step, add);
    }
  }
}

}  // namespace lamina
