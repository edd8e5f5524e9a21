// Products of a few rows with a matrix that is used again and again, as that of a recurrent network is at every step.
// Unlike in product.h, rows lie at equal distances, and no number of them is slow.
#pragma once

#include "product.h"

namespace lamina {

// Rows of numbers that begin `step` apart: such as are read, and such as are written.
struct Rows {
  const float* numbers;
  int64_t step;

  const float* operator[](int64_t row) const { return numbers + row * step; }
};

struct RowsOut {
  float* numbers;
  int64_t step;

  float* operator[](int64_t row) const { return numbers + row * step; }
  operator Rows() const { return {numbers, step}; }
};

// How many rows are worked on at once, such that their sums, of WIDE vectors each, stay in registers.
template <int WIDE>
constexpr int FEW = REGISTERS == 32 ? (WIDE == 4 ? 6 : 8) : (WIDE == 4 ? 3 : WIDE == 3 ? 4 : WIDE == 2 ? 6 : 8);

template <int WIDE, int COUNT>
void multiply_few(Rows left, const float* panel, int64_t depth, Rows start, RowsOut out) {
  Vector total[COUNT][WIDE];
  for (int i = 0; i < COUNT; i++)
    for (int j = 0; j < WIDE; j++) total[i][j] = load(start[i] + j * LANES);
  for (int64_t k = 0; k < depth; k++, panel += WIDE * LANES) {
    Vector right[WIDE];
    for (int j = 0; j < WIDE; j++) right[j] = load(panel + j * LANES);
    for (int i = 0; i < COUNT; i++) {
      Vector value = all(left[i][k]);
      for (int j = 0; j < WIDE; j++) total[i][j] += value * right[j];
    }
  }
  for (int i = 0; i < COUNT; i++)
    for (int j = 0; j < WIDE; j++) store(out[i] + j * LANES, total[i][j]);
}

template <int WIDE, int COUNT = FEW<WIDE>>
void multiply_up_to(int64_t count, Rows left, const float* panel, int64_t depth, Rows start, RowsOut out) {
  if constexpr (COUNT > 1)
    if (count < COUNT) return multiply_up_to<WIDE, COUNT - 1>(count, left, panel, depth, start, out);
  multiply_few<WIDE, COUNT>(left, panel, depth, start, out);
}

template <int WIDE>
void multiply_panel(int64_t count, Rows left, const float* panel, int64_t depth, Rows start, RowsOut out) {
  int64_t parts = (count + FEW<WIDE> - 1) / FEW<WIDE>;
  for (int64_t part = 0, first = 0; part < parts; part++) {
    int64_t end = count * (part + 1) / parts;
    multiply_up_to<WIDE>(end - first, {left[first], left.step}, panel, depth, {start[first], start.step},
                         {out[first], out.step});
    first = end;
  }
}

// out[r][n] = start[r][n] + sum over k of left[r][k] * right[k][n] for r < count. Rows of `start` and `out`, which may
// be the same, are as long as whole vectors.
inline void multiply(int64_t count, Rows left, const Panels& right, Rows start, RowsOut out) {
  for (int64_t panel = 0; panel < right.count(); panel++) {
    const float* numbers = right.values(panel);
    Rows from{start.numbers + right.starts[panel], start.step};
    RowsOut to{out.numbers + right.starts[panel], out.step};
    switch (right.widths[panel]) {
      case 1: multiply_panel<1>(count, left, numbers, right.depth, from, to); break;
      case 2: multiply_panel<2>(count, left, numbers, right.depth, from, to); break;
      case 3: multiply_panel<3>(count, left, numbers, right.depth, from, to); break;
      default: multiply_panel<4>(count, left, numbers, right.depth, from, to); break;
    }
  }
}

// Sets rows of a matrix in panels from columns of another: panels[first + r][n] = from[n][r] for r < count.
inline void set_transposed(Panels& panels, int64_t first, int64_t count, Rows from) {
  for (int64_t panel = 0; panel < panels.count(); panel++)
    for (int64_t part = 0, valid = panels.valid(panel); part < valid; part += LANES) {
      int64_t width = panels.widths[panel] * LANES, columns = std::min<int64_t>(LANES, valid - part);
      for (int64_t row = 0; row < count; row += LANES) {
        float tile[LANES][LANES];  // read along the rows there, written along the rows here
        for (int64_t n = 0; n < columns; n++)
          store(tile[n], load(from[panels.starts[panel] + part + n] + row, count - row));
        float* to = panels.values(panel) + (first + row) * width + part;
        for (int64_t r = 0, rows = std::min<int64_t>(LANES, count - row); r < rows; r++)
          for (int64_t n = 0; n < columns; n++) to[r * width + n] = tile[n][r];
      }
    }
}

}  // namespace lamina
