// Adam's update: moments and weights in one look at each number, of any number of variables in one call.

#include <algorithm>
#include <vector>

#include "functions.h"
#include "handlers.h"

namespace lamina {
namespace {

// How many numbers are a thread's part, and for how many another thread is worth being awake.
constexpr int64_t PART = 1 << 13, WORTH_THREADS = 1 << 15;

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
void update(const Variable& of, int64_t begin, int64_t end, Rule rule) {
  constexpr int AT_ONCE = 2;
  for (int64_t at = begin; at < end; at += AT_ONCE * LANES) {
    Vector value[AT_ONCE], first[AT_ONCE], second[AT_ONCE];
    for (int n = 0; n < AT_ONCE; n++) {
      int64_t i = at + n * LANES, count = end - i;
      Vector g = load(of.gradient + i, count), m = load(of.first + i, count), v = load(of.second + i, count);
      first[n] = m + (g - m) * rule.new_1, second[n] = v + (g * g - v) * rule.new_2;
      value[n] = load(of.value + i, count) - first[n] * rule.rate / (sqrt(second[n]) + rule.epsilon);
    }
    for (int n = 0; n < AT_ONCE; n++) {
      int64_t i = at + n * LANES, count = end - i;
      store(of.next_first + i, first[n], count), store(of.next_second + i, second[n], count);
      store(of.next_value + i, value[n], count);
    }
  }
}

ffi::Error adam(ffi::ThreadPool pool, Floats rate, ffi::RemainingArgs given, ffi::RemainingRets results, float new_1,
                float new_2, float epsilon) {
  std::vector<Variable> all(results.size() / 3);
  int64_t count = 0;
  for (size_t i = 0; i < all.size(); i++) {
    const float* from[4];
    float* to[3];
    for (int n = 0; n < 4; n++) {
      auto buffer = given.get<Floats>(4 * i + n);
      if (buffer.has_error()) return buffer.error();
      from[n] = buffer->typed_data(), all[i].count = buffer->element_count();
    }
    for (int n = 0; n < 3; n++) {
      auto buffer = results.get<Floats>(3 * i + n);
      if (buffer.has_error()) return buffer.error();
      to[n] = (*buffer)->typed_data();
    }
    all[i] = {from[0], from[1], from[2], from[3], to[0], to[1], to[2], all[i].count};
    count += all[i].count;
  }
  Rule rule{*rate.typed_data(), new_1, new_2, epsilon};
  auto body = [&](int64_t part) {
    int64_t begin = part * PART, end = std::min(count, begin + PART), start = 0;  // of all variables in a row
    for (const Variable& of : all) {
      if (begin < start + of.count && start < end)
        update(of, std::max<int64_t>(begin - start, 0), std::min(end - start, of.count), rule);
      start += of.count;
    }
  };
  parallel_for(pool, (count + PART - 1) / PART, body, count < WORTH_THREADS ? 1 : pool.num_threads());
  return ffi::Error::Success();
}

LAMINA_HANDLER(adam, adam,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().RemainingArgs().RemainingRets()
                   .Attr<float>("new_1").Attr<float>("new_2").Attr<float>("epsilon"));

}  // namespace
}  // namespace lamina
