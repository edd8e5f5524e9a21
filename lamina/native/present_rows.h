// Which rows of a matrix are there: others, as of padding, are left out of products.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "handlers.h"

namespace lamina {

// Where rows lie that are worked on one after the other: at places that are given, or each behind the last.
struct RowPlaces {
  const int32_t* places = nullptr;
  int64_t first = 0;

  int64_t operator[](int64_t row) const { return places ? places[first + row] : first + row; }
  RowPlaces from(int64_t row) const { return {places, first + row}; }
};

// The rows that are there, by a truth value for each of them; all, if none are given.
class PresentRows {
 public:
  PresentRows(int64_t rows) : count_(rows) {}
  PresentRows(int64_t rows, const Booleans& present) : count_(rows) {
    if (present.element_count() == 0) return;
    const bool* is_there = present.typed_data();
    count_ = std::count(is_there, is_there + rows, true);
    if (count_ == rows) return;
    places_.reserve(count_ + 1), absent_.reserve(rows - count_);
    for (int64_t row = 0; row < rows; row++) (is_there[row] ? places_ : absent_).push_back(row);
  }

  int64_t count() const { return count_; }
  bool all() const { return absent_.empty(); }
  RowPlaces places() const { return {all() ? nullptr : places_.data()}; }

  // What stands in a share of the other rows of a result: zeros, or what was to be added to it.
  template <typename T>
  void fill_others(T* out, const T* more, int64_t columns, int64_t part, int64_t parts) const {
    int64_t count = absent_.size(), size = columns * sizeof(T);
    for (int64_t i = share(count, part, parts); out && i < share(count, part + 1, parts); i++) {
      T* to = out + absent_[i] * columns;
      more ? std::memcpy(to, more + absent_[i] * columns, size) : std::memset(to, 0, size);
    }
  }

 private:
  int64_t count_;
  std::vector<int32_t> places_, absent_;
};

}  // namespace lamina
