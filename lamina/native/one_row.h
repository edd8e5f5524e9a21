// What is worked out for a single row: its product with a matrix, and the attention of a single query.
#pragma once

#include <cfloat>
#include <cmath>

#include "functions.h"
#include "shuffles.h"
#include "tiles.h"

namespace lamina {

using Places = Rows<const float>;

// So many vectors of a row of the matrix are read in one go.
constexpr int RUN = REGISTERS == 32 ? 16 : 8;

// out = row * kernel, of so many whole vectors of columns.
inline void row_product(const float* row, Rows<const float> kernel, int64_t depth, int64_t vectors, float* out) {
  auto run = [&](auto width) {
    constexpr int WIDTH = width;
    for (; vectors >= WIDTH; vectors -= WIDTH, kernel.values += WIDTH * LANES, out += WIDTH * LANES) {
      const float* from = kernel.values;
      Vector total[WIDTH]{};
      for (int64_t k = 0; k < depth; k++, from += kernel.step) {
        Vector value = all(row[k]);
#pragma GCC unroll 16
        for (int j = 0; j < WIDTH; j++) total[j] += value * load(from + j * LANES);
      }
      for (int j = 0; j < WIDTH; j++) store(out + j * LANES, total[j]);
    }
  };
  run(std::integral_constant<int, RUN>{});
  if constexpr (RUN > 8) run(std::integral_constant<int, 8>{});
  run(std::integral_constant<int, 4>{});
  run(std::integral_constant<int, 1>{});
}

// The sum of the products of a row of `a` and a row of `b`, for up to LANES of them.
inline Vector products_of_rows(Places a, Places b, int64_t count, int64_t dim) {
  Square products;
  int64_t whole = dim / LANES * LANES;
  for (int64_t i = 0; i < LANES; i++) {
    products[i] = Vector{};
    if (i >= count) continue;
    const float *left = a.values + i * a.step, *right = b.values + i * b.step;
    for (int64_t d = 0; d < whole; d += LANES) products[i] += load(left + d) * load(right + d);
    if (whole < dim) products[i] += load(left + whole, dim - whole) * load(right + whole, dim - whole);
  }
  return sums(products);
}

// Which keys count, each `step` after the one before; all, without one.
struct Counted {
  const bool* keys;
  int64_t step;
};

// What a softmax was made with: the largest score, and the sum of the exponentials of what the others are below it.
struct Softmax {
  float largest, total;
};

// out = softmax(scale * keys query) values of a single query, with keys in lanes; `scores` has place for whole vectors.
inline Softmax attend(const float* query, Places keys, Places values, int64_t count, int64_t dim, int64_t value_dim,
                      float scale, Counted counted, float* scores, float* out) {
  Vector best = all(-FLT_MAX);
  for (int64_t k = 0; k < count; k += LANES) {
    store(scores + k, products_of_rows(keys.from(k), {query, 0}, count - k, dim) * scale);
    for (int64_t i = k; counted.keys && i < std::min(k + LANES, count); i++)
      if (!counted.keys[i * counted.step]) scores[i] = -INFINITY;
    for (int64_t i = count; i < k + LANES; i++) scores[i] = -INFINITY;
    best = maximum(best, load(scores + k));
  }
  Vector total{};
  best = all(largest(best));
  for (int64_t k = 0; k < count; k += LANES) {
    Vector weight = exp(load(scores + k) - best);
    total += weight;
    store(scores + k, weight);
  }
  int64_t whole = value_dim / LANES * LANES;
  multiply<Contiguous::ROWS>({scores, 0}, values, 1, count, whole / LANES, {out, 0}, false);
  for (int64_t d = whole; d < value_dim; d++) {
    out[d] = 0;
    for (int64_t k = 0; k < count; k++) out[d] += scores[k] * values.values[k * values.step + d];
  }
  float all_weights = sum(total), factor = all_weights == 0.0f ? 0.0f : 1.0f / all_weights;
  for (int64_t d = 0; d < value_dim; d++) out[d] *= factor;
  return {best[0], all_weights};
}

}  // namespace lamina
