// Adam's update of any number of variables in one call.

#include <algorithm>
#include <vector>

#include "adam.h"
#include "handlers.h"

namespace lamina {
namespace {

// How many numbers are a thread's part, and for how many another thread is worth being awake.
constexpr int64_t PART = 1 << 13, WORTH_THREADS = 1 << 15;

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
