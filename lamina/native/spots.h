// Matrices of weights, one for each spot of a tile, as minimal filtering multiplies with.
#pragma once

#include "shuffles.h"

namespace lamina {

// `count` matrices; their rows are whole vectors.
struct Spots {
  int64_t count, rows, columns, step;
  Aligned numbers;

  Spots(int64_t count, int64_t rows, int64_t columns)
      : count(count), rows(rows), columns(columns), step(vectors(columns) * LANES), numbers(count * rows * step) {}
  float* operator[](int64_t spot) { return numbers.data() + spot * rows * step; }
  const float* operator[](int64_t spot) const { return numbers.data() + spot * rows * step; }

  // The transposed matrices: of the spot `from(spot)` for each spot.
  template <typename From>
  Spots transposed(From from) const {
    Spots to(count, columns, rows);
    for (int64_t spot = 0; spot < count; spot++) {
      const float* here = (*this)[from(spot)];
      for (int64_t r = 0; r < rows; r += LANES)
        for (int64_t c = 0; c < columns; c += LANES) {
          Square square;
          load(here + r * step + c, step, rows - r, LANES, square);
          transpose(square);
          store(to[spot] + c * to.step + r, to.step, square, columns - c, LANES);
        }
    }
    return to;
  }
};

}  // namespace lamina
