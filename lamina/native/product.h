// Products of matrices whose left one is gathered: each of its rows is made of runs that lie somewhere in memory, at the
// same distances from the row's beginning. Convolutions in all their forms are such products.
#pragma once

#include <algorithm>
#include <vector>

#include "functions.h"

namespace lamina {

// Columns of a product come in panels of up to this many vectors; as many rows are worked on at once as leave the
// registers for them full.
constexpr int WIDEST = REGISTERS == 32 ? 4 : 2;
constexpr int ROWS[] = {0, REGISTERS == 32 ? 14 : 10, REGISTERS == 32 ? 12 : 6, 8, 6};

// The right matrix, (depth, columns), in panels: within a panel the rows follow each other, filled up with zeros.
struct Panels {
  int64_t depth = 0, columns = 0;
  std::vector<int> widths;       // of each panel, in vectors
  std::vector<int64_t> starts;   // each panel's first column
  std::vector<int64_t> offsets;  // where its numbers begin

  Panels() = default;
  Panels(int64_t depth, int64_t columns) : depth(depth), columns(columns) {
    int64_t total = vectors(columns), count = (total + WIDEST - 1) / WIDEST;
    for (int64_t panel = 0, done = 0; panel < count; panel++) {
      int64_t width = (total - done + count - panel - 1) / (count - panel);
      widths.push_back(width);
      starts.push_back(done * LANES);
      offsets.push_back(done * LANES * depth);
      done += width;
    }
    numbers = Aligned(total * LANES * depth);
  }

  float* values(int64_t panel = 0) { return numbers.size() ? numbers.data() + offsets[panel] : nullptr; }
  const float* values(int64_t panel = 0) const { return const_cast<Panels*>(this)->values(panel); }
  int64_t size() const { return numbers.size(); }

  int64_t count() const { return widths.size(); }
  int64_t valid(int64_t panel) const { return std::min<int64_t>(widths[panel] * LANES, columns - starts[panel]); }

  // Sets a row of the matrix; its numbers lie `step` apart.
  void set(int64_t row, const float* from, int64_t step) {
    for (int64_t panel = 0; panel < count(); panel++) {
      float* to = values(panel) + row * widths[panel] * LANES;
      for (int64_t i = 0, n = valid(panel); i < n; i++) to[i] = from[(starts[panel] + i) * step];
    }
  }

 private:
  Aligned numbers;
};

// What is done to a sum before it is stored: a number for its column is added, and what is below zero is multiplied.
struct Finish {
  const float* bias = nullptr;
  float slope = 1.0f;
};

// Several places at once for narrow panels: the rows' addresses are then read less often than their numbers.
template <int MR, int NV, int STEPS>
inline void add_steps(const float* const* row, int64_t at, const float* w, Vector (&total)[MR][NV]) {
  Vector right[STEPS][NV];
  for (int s = 0; s < STEPS; s++)
    for (int j = 0; j < NV; j++) right[s][j] = load(w + (s * NV + j) * LANES);
  for (int i = 0; i < MR; i++) {
    const float* left = row[i] + at;
    for (int s = 0; s < STEPS; s++)
      for (int j = 0; j < NV; j++) total[i][j] += left[s] * right[s][j];
  }
}

// Loops over the registers are unrolled by hand, or GCC takes the sums through memory at the end.
template <int MR, int NV>
void product_panel(const float* const* rows, float* const* out, int64_t count, const int64_t* runs, int64_t run_count,
                   int64_t length, const float* weights, int64_t start, int64_t valid, Finish finish) {
  Vector bias[NV];
  constexpr int STEPS = NV == 1 ? 4 : NV == 2 ? 2 : 1;
#pragma GCC unroll 16
  for (int j = 0; j < NV; j++) bias[j] = finish.bias ? load(finish.bias + start + j * LANES, valid - j * LANES) : Vector{};
  for (int64_t first = 0; first < count; first += MR) {
    if constexpr (MR > 1)
      if (count - first <= MR / 2)
        return product_panel<MR / 2, NV>(rows + first, out + first, count - first, runs, run_count, length, weights, start,
                                         valid, finish);
    if constexpr (MR == 12)  // as of batches of 32, 64 and so on
      if (count - first <= 8)
        return product_panel<8, NV>(rows + first, out + first, count - first, runs, run_count, length, weights, start, valid,
                                    finish);
    // rows past the last one are the last one again, and not stored
    const float* row[MR];
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) row[i] = rows[std::min<int64_t>(first + i, count - 1)];
    Vector total[MR][NV];
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 16
      for (int j = 0; j < NV; j++) total[i][j] = bias[j];
    // what is written at the end is asked for now
    for (int i = 0; i < MR; i++)
      for (int j = 0; j < NV; j++) __builtin_prefetch(out[std::min<int64_t>(first + i, count - 1)] + start + j * LANES, 1);
    const float* w = weights;
    for (int64_t run = 0; run < run_count; run++) {
      int64_t at = runs[run], end = at + length;
      for (; at + STEPS <= end; at += STEPS, w += STEPS * NV * LANES) add_steps<MR, NV, STEPS>(row, at, w, total);
      for (; at < end; at++, w += NV * LANES) add_steps<MR, NV, 1>(row, at, w, total);
    }
    int64_t stored = std::min<int64_t>(MR, count - first);
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) {
      if (i >= stored) break;
      float* to = out[first + i] + start;
#pragma GCC unroll 16
      for (int j = 0; j < NV; j++) store(to + j * LANES, activated(total[i][j], finish.slope), valid - j * LANES);
    }
  }
}

// One panel of the product below, `width` vectors wide, whose columns begin at `start`; the first `valid` are stored.
inline void product_of_panel(int width, const float* const* rows, float* const* out, int64_t count, const int64_t* runs,
                             int64_t run_count, int64_t length, const float* weights, int64_t start, int64_t valid,
                             Finish finish) {
  auto run = [&](auto kernel) { kernel(rows, out, count, runs, run_count, length, weights, start, valid, finish); };
  switch (width) {
    case 1: run(product_panel<ROWS[1], 1>); break;
    case 2: run(product_panel<ROWS[2], 2>); break;
    case 3: run(product_panel<ROWS[3], 3>); break;
    default: run(product_panel<ROWS[4], 4>); break;
  }
}

// out[m][n] = finish(sum over runs r and places k in them of rows[m][runs[r] + k] * right[r * length + k][n])
inline void product(const float* const* rows, float* const* out, int64_t count, const std::vector<int64_t>& runs,
                    int64_t length, const Panels& right, Finish finish = {}) {
  for (int64_t panel = 0; panel < right.count(); panel++)
    product_of_panel(right.widths[panel], rows, out, count, runs.data(), runs.size(), length, right.values(panel),
                     right.starts[panel], right.valid(panel), finish);
}

template <int MR, int NV>
void outer_panel(const float* const* left, const int64_t* places, int64_t place_count, const float* right, int64_t step,
                 int64_t count, float* total_of_panel) {
  for (int64_t first = 0; first < place_count; first += MR) {
    int64_t place[MR];
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) place[i] = places[std::min<int64_t>(first + i, place_count - 1)];
    Vector total[MR][NV];
    float* to = total_of_panel + first * NV * LANES;
    int64_t kept = std::min<int64_t>(MR, place_count - first);
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 16
      for (int j = 0; j < NV; j++) total[i][j] = i < kept ? load(to + (i * NV + j) * LANES) : Vector{};
    for (int64_t p = 0; p < count; p++) {
      const float* row = left[p];
      Vector column[NV];
#pragma GCC unroll 16
      for (int j = 0; j < NV; j++) column[j] = load(right + p * step + j * LANES);
#pragma GCC unroll 16
      for (int i = 0; i < MR; i++) {
        Vector value = all(row[place[i]]);
#pragma GCC unroll 16
        for (int j = 0; j < NV; j++) total[i][j] += value * column[j];
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) {
      if (i >= kept) break;
#pragma GCC unroll 16
      for (int j = 0; j < NV; j++) store(to + (i * NV + j) * LANES, total[i][j]);
    }
  }
}

// total[q][n] += sum over p < count of left[p][places[q]] * right[p * step + n], with `total` in panels. The rows of `right`
// are read up to whole vectors.
inline void add_outer(const float* const* left, const std::vector<int64_t>& places, const float* right, int64_t step,
                      int64_t count, Panels& total) {
  for (int64_t panel = 0; panel < total.count(); panel++) {
    float* to = total.values(panel);
    auto run = [&](auto kernel) {
      kernel(left, places.data(), places.size(), right + total.starts[panel], step, count, to);
    };
    switch (total.widths[panel]) {
      case 1: run(outer_panel<ROWS[1], 1>); break;
      case 2: run(outer_panel<ROWS[2], 2>); break;
      case 3: run(outer_panel<ROWS[3], 3>); break;
      default: run(outer_panel<ROWS[4], 4>); break;
    }
  }
}

}  // namespace lamina
