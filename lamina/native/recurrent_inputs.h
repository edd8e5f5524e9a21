// The inputs of recurrent networks: sequences, (batch, steps, features), or rows of a table, (rows, features), that
// numbers, (batch, steps), pick. For a row that is picked more than once, products are worked out once.
#pragma once

#include <limits>
#include <vector>

#include "handlers.h"

namespace lamina {

// A term is one step of one example; terms are counted by steps, in the order in which these are run.
struct Places {
  int64_t batch, steps;
  bool go_backwards;

  int64_t terms() const { return batch * steps; }
  int64_t term(int64_t example, int64_t step) const { return step * batch + example; }

  // Where the input and the mask of a step are, and its outputs.
  int64_t given(int64_t example, int64_t step) const {
    return example * steps + (go_backwards ? steps - 1 - step : step);
  }
  int64_t shown(int64_t example, int64_t step) const { return example * steps + step; }
};

inline Places places(const Floats& x, const Numbers& numbers, bool go_backwards) {
  auto sizes = numbers.element_count() ? numbers.dimensions() : x.dimensions();
  return {static_cast<int64_t>(sizes[0]), static_cast<int64_t>(sizes[1]), go_backwards};
}

struct Inputs {
  const float* x;
  const int32_t* numbers;  // null if x are sequences
  int64_t rows, features;
  std::vector<float> outside;  // stands for the rows of numbers that the table does not have

  Inputs(const Floats& x, const Numbers& numbers)
      : x(x.typed_data()), numbers(values_or_null(numbers)), rows(x.dimensions()[0]),
        features(x.dimensions().back()), outside(features, std::numeric_limits<float>::quiet_NaN()) {}

  // Which row of the table is picked at a place; numbers below zero count from its end. -1 if there is none.
  int64_t picked(int64_t place) const {
    int64_t row = numbers[place] < 0 ? numbers[place] + rows : numbers[place];
    return row < rows ? std::max<int64_t>(row, -1) : -1;
  }
  const float* row_of_table(int64_t row) const { return row < 0 ? outside.data() : x + row * features; }

  const float* row(int64_t place) const { return numbers ? row_of_table(picked(place)) : x + place * features; }
};

// Which terms pick the same row of a table.
struct Repeats {
  struct First {
    int64_t term, row;
    bool repeated;
  };
  std::vector<First> distinct;   // the first term for each row, -1 for none
  std::vector<int32_t> of_term;  // which of them picks the same row as a term

  Repeats() = default;
  Repeats(const Places& places, const Inputs& inputs) {
    std::vector<int32_t> known(inputs.rows + 1, -1);  // of each row, and of none
    for (int64_t step = 0; step < places.steps; step++)
      for (int64_t example = 0; example < places.batch; example++) {
        int64_t row = inputs.picked(places.given(example, step));
        int32_t& first = known[row < 0 ? inputs.rows : row];
        if (first < 0) {
          first = distinct.size();
          distinct.push_back({places.term(example, step), row, false});
        } else {
          distinct[first].repeated = true;
        }
        of_term.push_back(first);
      }
  }

  // The first term with the same row.
  int64_t first(int64_t term) const { return distinct[of_term[term]].term; }
};

}  // namespace lamina
