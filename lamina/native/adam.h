// Adam's update: moments and weights in one look at each number.
#pragma once

#include "functions.h"

namespace lamina {

// What an update is made of: its size, the share of new in each moment, and what keeps the division finite.
struct Rule {
  float rate, new_1, new_2, epsilon;
};

struct Variable {
  const float *gradient, *value, *first, *second;
  float *next_value, *next_first, *next_second;
  int64_t count;
};

// Two vectors at once, which are read before anything is written: where two arrays lie at about the same place of a page, the
// processor takes what is read for what was just written, and waits.
inline void update(const Variable& of, int64_t begin, int64_t end, Rule rule) {
  constexpr int AT_ONCE = 2;
  auto step = [&](int64_t at, int64_t here) {
    Vector value[AT_ONCE], first[AT_ONCE], second[AT_ONCE];
    for (int n = 0; n < AT_ONCE; n++) {
      int64_t i = at + n * LANES, count = here - n * LANES;
      Vector g = load(of.gradient + i, count), m = load(of.first + i, count), v = load(of.second + i, count);
      first[n] = m + (g - m) * rule.new_1, second[n] = v + (g * g - v) * rule.new_2;
      value[n] = load(of.value + i, count) - first[n] * rule.rate * inverse(root(second[n]) + rule.epsilon);
    }
    for (int n = 0; n < AT_ONCE; n++) {
      int64_t i = at + n * LANES, count = here - n * LANES;
      store(of.next_first + i, first[n], count), store(of.next_second + i, second[n], count);
      store(of.next_value + i, value[n], count);
    }
  };
  for (; begin + AT_ONCE * LANES <= end; begin += AT_ONCE * LANES) step(begin, AT_ONCE * LANES);
  if (begin < end) step(begin, end - begin);
}

}  // namespace lamina
