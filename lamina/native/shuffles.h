// Numbers that change places within vectors.
#pragma once

#include <algorithm>
#include <utility>

#include "vector.h"

namespace lamina {

template <int FIRST, int... I>
Vector interleaved(Vector a, Vector b, std::integer_sequence<int, I...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, (FIRST + I / 2 + I % 2 * LANES)...);
#else
  return __builtin_shuffle(a, b, Mask{(FIRST + I / 2 + I % 2 * LANES)...});
#endif
}

// The first, or the last, halves of two vectors, their numbers in turns.
inline Vector first_halves(Vector a, Vector b) {
  return interleaved<0>(a, b, std::make_integer_sequence<int, LANES>());
}
inline Vector last_halves(Vector a, Vector b) {
  return interleaved<LANES / 2>(a, b, std::make_integer_sequence<int, LANES>());
}

// LANES rows of a vector each.
using Square = Vector[LANES];

// The `rows` rows and `columns` columns that are there, zeros for the others.
inline void load(const float* from, int64_t step, int64_t rows, int64_t columns, Square& square) {
  if (rows >= LANES && columns >= LANES)
    for (int i = 0; i < LANES; i++) square[i] = load(from + i * step);
  else
    for (int i = 0; i < LANES; i++) square[i] = i < rows ? load(from + i * step, columns) : Vector{};
}

inline void store(float* to, int64_t step, const Square& square, int64_t rows, int64_t columns) {
  if (rows >= LANES && columns >= LANES)
    for (int i = 0; i < LANES; i++) store(to + i * step, square[i]);
  else
    for (int i = 0; i < std::min<int64_t>(rows, LANES); i++) store(to + i * step, square[i], columns);
}

// Rows become columns.
inline void transpose(Square& square) {
  for (int step = 1; step < LANES; step *= 2) {
    Square moved;
    for (int i = 0; i < LANES / 2; i++) {
      moved[2 * i] = first_halves(square[i], square[i + LANES / 2]);
      moved[2 * i + 1] = last_halves(square[i], square[i + LANES / 2]);
    }
    for (int i = 0; i < LANES; i++) square[i] = moved[i];
  }
}

// The sum of each row; the rows are lost.
inline Vector sums(Square& square) {
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++)
      square[i] = first_halves(square[i], square[i + half]) + last_halves(square[i], square[i + half]);
  return square[0];
}

}  // namespace lamina
