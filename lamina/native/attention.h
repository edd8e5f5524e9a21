// What attention is asked for: queries, keys and values, and which of them may see which.
#pragma once

#include <cmath>
#include <functional>

#include "handlers.h"
#include "shuffles.h"
#include "sight.h"
#include "tiles.h"

namespace lamina {

// Some heads of an array (batch, length, heads, dim).
template <typename T>
struct Heads {
  T* values;
  int64_t length, row, dim;

  Heads(T* values, ffi::Span<const int64_t> shape, int64_t first)
      : values(values + first * shape[3]), length(shape[1]), row(shape[2] * shape[3]), dim(shape[3]) {}
  // What one head has at a place and after.
  Rows<T> at(int64_t example, int64_t place, int64_t head) const {
    return {values + (example * length + place) * row + head * dim, row};
  }
};

template <ffi::DataType TYPE>
struct AttentionProblem {
  using Number = ffi::NativeType<TYPE>;
  using Numbers = ffi::Buffer<TYPE>;
  int64_t batch, queries, keys, heads, key_heads;
  Heads<const Number> query, key, value;
  Sight sight;
  float scale;
  bool padded;  // whether queries after the last key that may be seen get zeros

  AttentionProblem(const Numbers& query, const Numbers& key, const Numbers& value, const Booleans& mask, Integers first,
                   Integers heads, Integers band, float scale, bool padded)
      : batch(query.dimensions()[0]), queries(query.dimensions()[1]), keys(key.dimensions()[1]), heads(heads[0]),
        key_heads(heads[1]), query(query.typed_data(), query.dimensions(), first[0]),
        key(key.typed_data(), key.dimensions(), first[1]), value(value.typed_data(), value.dimensions(), first[2]),
        sight{band[0], band[1]}, scale(scale), padded(padded) {
    if (!mask.element_count()) return;
    auto shape = mask.dimensions();
    auto step = [&](int axis, int64_t distance) { return shape[axis] == 1 ? 0 : distance; };
    sight = {band[0], band[1], mask.typed_data(), step(0, shape[1] * shape[2] * shape[3]), step(1, shape[2] * shape[3]),
             step(2, shape[3]), step(3, 1)};
  }

  int64_t group() const { return heads / key_heads; }

  // The block of up to `size` queries from `first` on that get an answer; maybe none.
  Block block(int64_t example, int64_t head, int64_t first, int64_t size) const {
    int64_t end = queries;
    if (padded && sight.mask) {
      const bool* mask = sight.mask_at(example, head, 0, 0);
      while (end > 0 && !mask[(end - 1) * sight.by_key]) end--;
    }
    return {example, head, first, std::clamp<int64_t>(end - first, 0, size)};
  }

  // Runs body(i) for each i in [0, count), on this thread alone where there is little to do.
  void share_out(ffi::ThreadPool& pool, int64_t count, const std::function<void(int64_t)>& body) const {
    constexpr int64_t FEW_PRODUCTS = 1 << 20;  // not worth waking other threads
    if (batch * heads * queries * keys * (query.dim + value.dim) >= FEW_PRODUCTS) return parallel_for(pool, count, body);
    for (int64_t i = 0; i < count; i++) body(i);
  }
};

// What the way back is given, and the gradients that are wanted, which may be in one array, that of the query's.
template <ffi::DataType TYPE>
struct AttentionGradients {
  using Number = ffi::NativeType<TYPE>;
  using Result = ffi::Result<ffi::Buffer<TYPE>>;
  Heads<const Number> out, out_gradient;
  const float* logarithms;
  Heads<Number> query, key, value;

  AttentionGradients(const ffi::Buffer<TYPE>& out, const ffi::Buffer<TYPE>& gradient, const Floats& logarithms, Result query,
                     Result key, Result value, Integers first)
      : out(out.typed_data(), out.dimensions(), 0), out_gradient(gradient.typed_data(), gradient.dimensions(), 0),
        logarithms(logarithms.typed_data()), query(query->typed_data(), query->dimensions(), first[0]),
        key(part_of(key, query, first[1])), value(part_of(value, query, first[2])) {}

 private:
  static Heads<Number> part_of(Result own, Result joined, int64_t first) {
    Result& array = own->element_count() ? own : joined;
    return {array->typed_data(), array->dimensions(), first};
  }
};

// to[i][d] = factors[i] * from[d][i]
template <typename T>
void scatter(Rows<const float> from, const Vector* factors, int64_t count, int64_t dim, Rows<T> to) {
  for (int64_t i = 0; i < count; i += LANES)
    for (int64_t d = 0; d < dim; d += LANES) {
      Square square;
      load(from.values + d * from.step + i, from.step, dim - d, LANES, square);
      for (Vector& vector : square) vector *= factors[i / LANES];
      transpose(square);
      for (int64_t j = 0; j < std::min<int64_t>(count - i, LANES); j++)
        store(to.values + (i + j) * to.step + d, square[j], dim - d);
    }
}

// The results, and the logarithms where wanted, of queries [first, end) of a block that get no answer.
template <typename T>
void leave_out(const Block& block, int64_t end, const Heads<T>& out, float* logarithms) {
  for (int64_t i = block.count; i < end; i++) {
    std::fill_n(out.at(block.example, block.first + i, block.head).values, out.dim, T{});
    if (logarithms) logarithms[i] = 0.0f;
  }
}

// The logarithm of a sum of exponentials; 0 where nothing was summed up.
inline float logarithm_of(float sum, float largest) { return sum == 0.0f ? 0.0f : largest + std::log(sum); }

}  // namespace lamina
