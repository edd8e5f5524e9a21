// The products of a dense layer with many rows: rows times its matrix, or times the matrix turned over; and the gradient of
// the matrix. A matrix that stays in a core's second cache is copied once and rows are read once; of a larger one, each
// thread copies panels, and reads all rows for each.
#pragma once

#include <algorithm>

#include "handlers.h"
#include "present_rows.h"
#include "product.h"
#include "scratch.h"
#include "shuffles.h"
#include "tiles.h"

namespace lamina {

// A matrix of up to so many numbers stays in the cache beside the rows that are at work, if there are enough of these to be
// worth a copy of it.
constexpr int64_t IN_CACHE = 1 << 17, ENOUGH_ROWS = 512;
// So many rows are multiplied at once; a product is cut into about so many tasks for each thread.
constexpr int64_t BAND = 48, TASKS = 4;
// A panel has so many vectors: it is read anew for each of the blocks of rows that fill the registers, which are the higher
// the narrower it is.
constexpr int NARROW = 2, FIRST = ROWS[NARROW];
// For the gradient of the matrix, so many rows are at work at once, and about so many inputs: x is copied in such blocks.
constexpr int64_t AT_ONCE = 96, INPUTS = 48;
// A matrix is asked for so many rows before they are copied: what lies between is skipped, which no processor foresees; and so
// many columns before, where it is turned over.
constexpr int64_t AHEAD = 32, COLUMNS_AHEAD = 64;

inline bool stays_in_cache(int64_t rows, int64_t inputs, int64_t outputs) {
  return rows >= ENOUGH_ROWS && std::max(inputs * vectors(outputs), outputs * vectors(inputs)) * LANES <= IN_CACHE;
}

// Asks for numbers that are far away to come into the second cache.
inline void fetch(const float* numbers, int64_t begin, int64_t end) {
  for (; begin < end; begin += 16) __builtin_prefetch(numbers + begin, 0, 2);
}

// A share of `count` rows from `row` on, which lie close together.
inline void fetch_rows(const float* matrix, int64_t columns, const RowPlaces& rows, int64_t row, int64_t count, int64_t part,
                       int64_t parts) {
  int64_t numbers = count * columns;
  if (count > 0) fetch(matrix + rows[row] * columns, share(numbers, part, parts), share(numbers, part + 1, parts));
}

// How a gradient in front of an activation is made of the one behind it: times a slope where the result is below zero, or times
// that of GELU.
struct Before {
  const float* gradient;
  const float* result = nullptr;  // or what is before a GELU; none if there was no activation
  float slope = 1.0f;
  bool gelu = false;

  Vector at(int64_t place, int64_t count) const {
    Vector given = load(gradient + place, count), other = load(result + place, count);
    return gelu ? given * Gelu(other).slope : unactivated(given, other, slope);
  }
};

// out = finish(left right): (rows, depth) times (depth, columns), with the right matrix in panels; finish(left right + more), if
// there is more; or GELU of that, which itself is kept if there is a place for it.
struct Product {
  const float* left;
  int64_t rows, depth, columns;
  float* out;
  Finish finish;
  const float* more = nullptr;
  bool gelu = false;
  float* before = nullptr;
  RowPlaces source{}, target{};  // where rows of `left` and `before` lie, and those of `out` and `more`
  int64_t total = vectors(columns), panels = (total + NARROW - 1) / NARROW;

  // The same of rows that lie at those places.
  Product with_rows(const RowPlaces& from, const RowPlaces& to) const {
    Product found = *this;
    found.source = from, found.target = to;
    return found;
  }

  // How large a panel is and where it begins, in columns, in numbers, and in vectors.
  int64_t begin(int64_t panel) const { return share(total, panel, panels) * LANES; }
  int64_t width(int64_t panel) const { return (begin(panel + 1) - begin(panel)) / LANES; }
  int64_t valid(int64_t panel) const { return std::min(begin(panel + 1), columns) - begin(panel); }
  int64_t place(int64_t panel) const { return begin(panel) * depth; }
  int64_t size() const { return place(panels); }

  void work(int64_t panel, const float* weights, int64_t first, int64_t last) const {
    const float* from[BAND];
    float* to[BAND];
    int64_t run = 0;
    for (int64_t row = first; row < last; row += BAND) {
      int64_t here = std::min(BAND, last - row);
      for (int64_t i = 0; i < here; i++) {
        int64_t place = source[row + i], result = target[row + i];
        from[i] = left + place * depth, to[i] = out + result * columns;
        for (int64_t n = begin(panel), end = n + valid(panel); n < end; n += LANES) {  // what is read or written afterwards
          if (before) __builtin_prefetch(before + place * columns + n, 1, 2);
          if (more) __builtin_prefetch(more + result * columns + n, 0, 2);
        }
      }
      product_of_panel(width(panel), from, to, here, &run, 1, depth, weights, begin(panel), valid(panel),
                       {finish.bias, more ? 1.0f : finish.slope});
      if (gelu || more)
        for (int64_t i = row; i < row + here; i++)
          for (int64_t n = begin(panel), end = n + valid(panel); n < end; n += LANES) finish_later(i, n, end - n);
    }
  }

  // The same of FIRST rows from `first` on, each behind the last, while a panel of NARROW vectors is copied from the matrix:
  // what is far away is waited for less.
  void work_and_copy(int64_t panel, const float* matrix, int64_t first, float* weights) const {
    int64_t start = begin(panel), count = valid(panel);
    const float *from = left + first * depth, *row = matrix + start;
    Vector total[FIRST][NARROW];
#pragma GCC unroll 16
    for (int i = 0; i < FIRST; i++)
#pragma GCC unroll 4
      for (int j = 0; j < NARROW; j++)
        total[i][j] = finish.bias ? load(finish.bias + start + j * LANES, count - j * LANES) : Vector{};
    for (int64_t k = 0; k < depth; k++, row += columns, weights += NARROW * LANES) {
      Vector right[NARROW];
#pragma GCC unroll 4
      for (int j = 0; j < NARROW; j++) {
        __builtin_prefetch(row + AHEAD * columns + j * LANES, 0, 2);
        right[j] = load(row + j * LANES, count - j * LANES);
        store(weights + j * LANES, right[j]);
      }
#pragma GCC unroll 16
      for (int i = 0; i < FIRST; i++)
#pragma GCC unroll 4
        for (int j = 0; j < NARROW; j++) total[i][j] += from[i * depth + k] * right[j];
    }
#pragma GCC unroll 16
    for (int i = 0; i < FIRST; i++)
#pragma GCC unroll 4
      for (int j = 0; j < NARROW; j++) {
        if (j * LANES >= count) break;
        int64_t column = start + j * LANES;
        store(out + (first + i) * columns + column, activated(total[i][j], more ? 1.0f : finish.slope), count - j * LANES);
        if (gelu || more) finish_later(first + i, column, count - j * LANES);
      }
  }

  void finish_later(int64_t row, int64_t column, int64_t count) const {
    int64_t place = target[row] * columns + column;
    Vector value = load(out + place, count);
    if (more) value = activated(value + load(more + place, count), finish.slope);
    if (before) store(before + source[row] * columns + column, value, count);
    store(out + place, gelu ? Gelu(value).value : value, count);
  }

  // The same for all panels, which follow each other in memory.
  void work(const float* weights, int64_t first, int64_t last) const {
    for (int64_t row = first; row < last; row += BAND)
      for (int64_t panel = 0; panel < panels; panel++) {
        fetch_rows(left, depth, source, row + BAND, std::min(BAND, last - row - BAND), panel, panels);
        work(panel, weights + place(panel), row, std::min(row + BAND, last));
      }
  }
};

// The matrix of a product as it is, or turned over, copied into a panel.
template <bool TURNED>
void copy_panel(const Product& product, const float* matrix, int64_t panel, float* to) {
  int64_t start = product.begin(panel), width = product.width(panel), valid = product.valid(panel), depth = product.depth;
  if constexpr (!TURNED) {
    for (int64_t k = 0; k < depth; k++, to += width * LANES)
      for (int64_t n = 0; n < width * LANES; n += LANES) {
        const float* from = matrix + k * product.columns + start + n;
        __builtin_prefetch(from + AHEAD * product.columns, 0, 2);
        store(to + n, load(from, valid - n));
      }
  } else {
    for (int64_t k = 0; k < depth; k += LANES)
      for (int64_t n = 0; n < width * LANES; n += LANES) {
        Square square;
        for (int i = 0; i < LANES; i++) __builtin_prefetch(matrix + (start + n + i) * depth + k + COLUMNS_AHEAD, 0, 2);
        load(matrix + (start + n) * depth + k, depth, valid - n, depth - k, square);
        transpose(square);
        store(to + k * width * LANES + n, width * LANES, square, depth - k, LANES);
      }
  }
}

// A product as tasks by panel, and by rows within it.
struct ByPanels {
  Product product;
  int64_t bands;

  ByPanels(Product product, int64_t threads)
      : product(product),
        bands(std::max<int64_t>(1, std::min((TASKS * threads + product.panels - 1) / product.panels, product.rows / BAND))) {}

  int64_t tasks() const { return product.panels * bands; }

  template <bool TURNED>
  void work(const float* matrix, int64_t task) const {
    int64_t panel = task / bands, band = task % bands, size = product.depth * product.width(panel) * LANES;
    int64_t first = share(product.rows, band, bands), last = share(product.rows, band + 1, bands);
    Scratch scratch(size);
    float* weights = scratch.take(size);
    if (!TURNED && !product.source.places && product.width(panel) == NARROW && last - first >= FIRST)
      product.work_and_copy(panel, matrix, first, weights), first += FIRST;
    else
      copy_panel<TURNED>(product, matrix, panel, weights);
    product.work(panel, weights, first, last);
  }
};

// finish(x matrix), where the matrix, which may be turned over, stays in the cache. meanwhile(task, tasks) is run beside it.
template <bool TURNED, typename Meanwhile>
void multiply_in_cache(ffi::ThreadPool& pool, const Product& product, const float* matrix, const Meanwhile& meanwhile) {
  Scratch scratch(product.size(), true);
  float* weights = scratch.take(product.size());
  int64_t bands = (product.rows + BAND - 1) / BAND, tasks = std::min(bands, TASKS * pool.num_threads());
  parallel_phases(pool, 2, tasks, [&](int64_t phase, int64_t task) {
    if (phase == 1)
      return product.work(weights, share(bands, task, tasks) * BAND,
                          std::min(share(bands, task + 1, tasks) * BAND, product.rows));
    meanwhile(task, tasks);
    for (int64_t panel = task; panel < product.panels; panel += tasks)
      copy_panel<TURNED>(product, matrix, panel, weights + product.place(panel));
  });
}

// The gradients of a matrix and of what is added behind it, x^T g and the sums of the rows of g, where the matrix stays in the
// cache: partial sums, of blocks of rows.
struct SumsInCache {
  int64_t inputs, outputs;
  float* sums;  // of each of the PARTS of the rows; the bias' follow the matrix'
  int64_t padded = vectors(outputs) * LANES;

  static int64_t size(int64_t inputs, int64_t outputs) { return PARTS * (inputs + 1) * vectors(outputs) * LANES; }
  float* of_part(int64_t part) const { return sums + part * (inputs + 1) * padded; }
  // Memory for a block of `count` rows of x, of inputs from `begin` to `end`, and of a panel of g.
  static int64_t left_size(int64_t count, int64_t begin, int64_t end) { return count * (end - begin) + LANES; }
  static int64_t right_size(int64_t count) { return count * WIDEST_TILE * LANES; }

  // Copies a block of x, whose numbers number(row, input, valid) gives in vectors.
  template <typename Number>
  static void copy(int64_t count, int64_t begin, int64_t end, float* left, const Number& number) {
    for (int64_t i = begin; i < end; i += INPUTS)
      for (int64_t r = 0, width = std::min(INPUTS, end - i); r < count; r++)
        for (int64_t k = 0; k < width; k += LANES)
          store(left + (i - begin) * count + r * width + k, number(r, i + k, width - k));
  }

  // The sums of a part without rows.
  void clear(int64_t part) const { std::fill(of_part(part), of_part(part + 1), 0.0f); }

  // Adds the products of `count` rows, of which `left` is such a copy, and of `gradient` at those places. Before each panel,
  // meanwhile(panel, panels) is told how far it has come.
  template <typename Meanwhile>
  void add_block(const float* left, const float* gradient, const RowPlaces& places, float* right, int64_t count, int64_t begin,
                 int64_t end, int64_t part, bool add, bool with_bias, const Meanwhile& meanwhile) const {
    float *to = of_part(part), *of_bias = to + inputs * padded;
    int64_t panels = (padded / LANES + WIDEST_TILE - 1) / WIDEST_TILE;
    for (int64_t panel = 0; panel < panels; panel++) {
      meanwhile(panel, panels);
      int64_t start = share(padded / LANES, panel, panels), width = share(padded / LANES, panel + 1, panels) - start;
      start *= LANES;
      for (int64_t n = 0; n < width * LANES; n += LANES) {
        const float* from = gradient + start + n;
        Vector total = with_bias && add ? load(of_bias + start + n) : Vector{};
        for (int64_t r = 0; r < count; r++) {
          Vector value = load(from + places[r] * outputs, outputs - start - n);
          store(right + r * width * LANES + n, value);
          total += value;
        }
        if (with_bias) store(of_bias + start + n, total);
      }
      for (int64_t i = begin; i < end; i += INPUTS) {
        int64_t here = std::min(INPUTS, end - i);
        multiply<Contiguous::COLUMNS>({left + (i - begin) * count, here}, {right, width * LANES}, here, count, width,
                                      {to + i * padded + start, padded}, add);
      }
    }
  }

  // A share of the sums of all parts.
  void add_up(int64_t share_of, int64_t shares, float* of_matrix, float* of_bias) const {
    for (int64_t i = share(inputs + 1, share_of, shares); i < share(inputs + 1, share_of + 1, shares); i++)
      for (int64_t n = 0; n < outputs; n += LANES) {
        Vector total{};
        for (int64_t p = 0; p < PARTS; p++) total += load(of_part(p) + i * padded + n);
        store(i < inputs ? of_matrix + i * outputs + n : of_bias + n, total, outputs - n);
      }
  }
};

// In how many slices the inputs of a layer fall for such sums, so that all threads have work.
inline int64_t slices_of(int64_t inputs, int64_t threads) {
  return std::min((threads + PARTS - 1) / PARTS, (inputs + INPUTS - 1) / INPUTS);
}

// The gradients of x matrix + bias, where the matrix stays in the cache. The rows that are there fall into as many parts as there
// are partial sums, and inputs into as many as give each thread work.
struct GradientInCache {
  const float *x, *matrix;
  Before before;
  const PresentRows& present;
  int64_t inputs, outputs;
  float *of_x, *of_matrix, *of_bias;
  int64_t threads;

  int64_t rows = present.count(), slices = slices_of(inputs, threads);
  Product back{before.gradient, rows, outputs, inputs, of_x, {}};
  Scratch scratch{(of_x ? back.size() : 0) + SumsInCache::size(inputs, outputs), true};
  float* turned = scratch.take(of_x ? back.size() : 0);
  SumsInCache sums{inputs, outputs, scratch.take(SumsInCache::size(inputs, outputs))};

  int64_t parts() const { return PARTS * slices; }

  void copy(int64_t part) const {
    present.fill_others<float>(of_x, nullptr, inputs, part, parts());
    for (int64_t panel = part; of_x && panel < back.panels; panel += parts())
      copy_panel<true>(back, matrix, panel, turned + back.place(panel));
  }

  void work(int64_t part) const {
    int64_t slice = part % slices, begin = share(inputs, slice, slices), end = share(inputs, slice + 1, slices);
    part /= slices;
    int64_t first = share(rows, part, PARTS), last = share(rows, part + 1, PARTS);
    int64_t left_size = sums.left_size(AT_ONCE, begin, end), right_size = sums.right_size(AT_ONCE);
    Scratch memory(left_size + right_size + (before.result ? AT_ONCE * outputs : 0));
    float *left = memory.take(left_size), *right = memory.take(right_size);
    float* undone = memory.take(before.result ? AT_ONCE * outputs : 0);
    RowPlaces all = present.places();
    for (int64_t row = first, block = 0; row < last; row += AT_ONCE, block++) {
      int64_t count = std::min(AT_ONCE, last - row), next = row + count, ahead = std::min(AT_ONCE, last - next);
      RowPlaces places = all.from(row), of_gradient = before.result ? RowPlaces{} : places;
      const float* gradient = before.result ? undone : before.gradient;
      for (int64_t r = 0; before.result && r < count; r++)
        for (int64_t n = 0; n < outputs; n += LANES)
          store(undone + r * outputs + n, before.at(places[r] * outputs + n, outputs - n), outputs - n);
      sums.copy(count, begin, end, left,
                [&](int64_t r, int64_t i, int64_t valid) { return load(x + places[r] * inputs + i, valid); });
      sums.add_block(left, gradient, of_gradient, right, count, begin, end, part, row > first, slice == 0,
                     [&](int64_t panel, int64_t panels) {
                       fetch_rows(x, inputs, all, next, ahead, panel, panels);
                       fetch_rows(before.gradient, outputs, all, next, ahead, panel, panels);
                       if (before.result) fetch_rows(before.result, outputs, all, next, ahead, panel, panels);
                     });
      if (of_x && block % slices == slice)
        Product{gradient, count, outputs, inputs, of_x, {}}.with_rows(of_gradient, places).work(turned, 0, count);
    }
  }

  void add_up(int64_t part) const { sums.add_up(part, parts(), of_matrix, of_bias); }
};

}  // namespace lamina
