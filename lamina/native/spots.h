// What minimal filtering works with at the spots of a tile: weights for each of them, and sums for the gradient of a kernel.
#pragma once

#include "handlers.h"
#include "shuffles.h"
#include "tiles.h"

namespace lamina {

// A matrix for each spot, whose rows are whole vectors. They lie a little further apart than that takes, so that theirs do not
// all fall on the same lines of the cache.
template <int SPOTS>
struct Spots {
  int64_t rows, columns, step = vectors(columns) * LANES, apart = rows * step + 16;
  Aligned numbers;

  Spots(int64_t rows, int64_t columns) : rows(rows), columns(columns), numbers(SPOTS * apart, false) {}
  float* operator[](int64_t spot) { return numbers.data() + spot * apart; }
  const float* operator[](int64_t spot) const { return numbers.data() + spot * apart; }

  // The transposed matrices.
  Spots transposed(ffi::ThreadPool& pool) const {
    Spots to(columns, rows);
    auto one = [&](int64_t spot) {
      const float* here = (*this)[spot];
      for (int64_t r = 0; r < rows; r += LANES)
        for (int64_t c = 0; c < columns; c += LANES) {
          Square square;
          load(here + r * step + c, step, rows - r, LANES, square);
          transpose(square);
          store(to[spot] + c * to.step + r, to.step, square, columns - c, LANES);
        }
    };
    parallel_for(pool, SPOTS, one, threads_for(SPOTS * rows * columns));
    return to;
  }

  // How many threads so many numbers are worth.
  static int64_t threads_for(int64_t numbers) { return 1 + numbers / (1 << 15); }
};

// Sums for the gradient of a kernel and of a bias, in parts that are added up at the end.
template <int SPOTS>
class KernelTotals {
 public:
  KernelTotals(int64_t parts, int64_t rows, int64_t filters) : begun_(parts) {
    for (int64_t part = 0; part < parts; part++) {
      totals_.emplace_back(rows, filters);
      biases_.emplace_back(vectors(filters) * LANES);
    }
  }

  int64_t parts() const { return totals_.size(); }
  // The numbers to which a part adds the gradient of the bias.
  float* bias(int64_t part) { return biases_[part].data(); }

  // Adds seen[spot]' given[spot] to a part; sizes(spot) are how many columns of what is seen are taken, and how many rows of both.
  template <typename Sizes>
  void add(int64_t part, Rows<const float> seen, int64_t seen_apart, Rows<const float> given, int64_t given_apart, Sizes sizes) {
    Spots<SPOTS>& total = totals_[part];
    for (int spot = 0; spot < SPOTS; spot++) {
      auto [columns, rows] = sizes(spot);
      multiply<Contiguous::COLUMNS>({seen.values + spot * seen_apart, seen.step},
                                    {given.values + spot * given_apart, given.step}, columns, rows, total.step / LANES,
                                    {total[spot], total.step}, begun_[part]);
    }
    begun_[part] = true;
  }

  // finish(row, column, sums) is called for each vector of the sums of all spots; row_of(spot, row) is which of a spot's rows that
  // is, less than 0 if it has none.
  template <typename RowOf, typename Finish>
  void finish(ffi::ThreadPool& pool, float* bias, RowOf row_of, Finish finish) {
    Spots<SPOTS>& first = totals_[0];
    parallel_for(pool, first.rows, [&](int64_t row) {
      for (int64_t k = 0; k < first.columns; k += LANES) {
        Vector sums[SPOTS];
        for (int spot = 0; spot < SPOTS; spot++) {
          int64_t own = row_of(spot, row), place = own * first.step + k;
          sums[spot] = own < 0 ? Vector{} : load(first[spot] + place);
          for (int64_t part = 1; own >= 0 && part < parts(); part++) sums[spot] += load(totals_[part][spot] + place);
        }
        finish(row, k, sums);
      }
    });
    if (bias)
      for (int64_t k = 0; k < first.columns; k++) {
        bias[k] = biases_[0][k];
        for (int64_t part = 1; part < parts(); part++) bias[k] += biases_[part][k];
      }
  }

 private:
  std::vector<Spots<SPOTS>> totals_;
  std::vector<Aligned> biases_;
  std::vector<char> begun_;  // whether there are sums yet
};

}  // namespace lamina
