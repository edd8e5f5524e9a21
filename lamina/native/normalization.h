// What normalizations of rows and of columns have in common: how a matrix is cut, and sums over its rows.
#pragma once

#include <algorithm>
#include <cmath>

#include "functions.h"
#include "half.h"
#include "handlers.h"

namespace lamina {

// Rows are cut into blocks of this many, whatever the number of threads, so that sums over them do not depend on it; and where
// columns are worked on apart, they into strips of this many.
constexpr int64_t BLOCK = 256, STRIP = 512;

inline int64_t blocks(int64_t rows) { return (rows + BLOCK - 1) / BLOCK; }

// Where the rows of a matrix lie, and how its columns fall into vectors.
struct Matrix {
  int64_t rows, columns;
  template <typename Buffer>
  explicit Matrix(const Buffer& x) : columns(x.dimensions().back()) {
    rows = columns ? x.element_count() / columns : 0;
  }
  int64_t padded() const { return vectors(columns) * LANES; }  // to whole vectors
  template <typename Body>
  void each_block(ffi::ThreadPool& pool, const Body& body) const {
    parallel_for(pool, blocks(rows), [&](int64_t b) { body(b, b * BLOCK, std::min(rows, (b + 1) * BLOCK)); });
  }
  // body(block, first row, last row, first column, last column)
  template <typename Body>
  void each_part(ffi::ThreadPool& pool, const Body& body) const {
    int64_t strips = (columns + STRIP - 1) / STRIP;
    parallel_for(pool, blocks(rows) * strips, [&](int64_t part) {
      int64_t b = part / strips, start = part % strips * STRIP;
      body(b, b * BLOCK, std::min(rows, (b + 1) * BLOCK), start, std::min(columns, start + STRIP));
    });
  }
  template <typename Body>
  void each_vector(const Body& body) const {
    for (int64_t c = 0; c < columns; c += LANES) body(c, std::min<int64_t>(LANES, columns - c));
  }
};

// Adds the rows of `parts`, one for each block, into one.
inline void add_up(const Aligned& parts, int64_t count, int64_t columns, float* total) {
  std::fill(total, total + columns, 0.0f);
  for (int64_t part = 0; part < count; part++)
    for (int64_t c = 0; c < columns; c++) total[c] += parts[part * columns + c];
}

}  // namespace lamina
