// Batches: rows picked by their numbers out of arrays that lie in the host's memory.

#include <cstring>

#include "handlers.h"

namespace lamina {
namespace {

// Copies of fewer bytes are done before another thread is awake; and so many rows ahead, or the next step's, are sent for.
constexpr int64_t WORTH_THREADS = 1 << 18, AHEAD = 8, LINE = 64;
// What tells where an array is: the lower and the upper half of its address, and its number of rows.
constexpr int64_t PLACE = 3;

// out[a][i] = row numbers[step][i] of the array at places[a]; numbers past the ends are those of the ends.
ffi::Error gather_rows(ffi::ThreadPool pool, Numbers numbers, Numbers step,
                       ffi::Buffer<ffi::U32> places, ffi::RemainingRets out) {
  int64_t steps = numbers.dimensions()[0], count = numbers.dimensions()[1];
  const int32_t* number = numbers.typed_data() + std::clamp<int64_t>(step.typed_data()[0], 0, steps - 1) * count;
  for (size_t a = 0; a < out.size(); a++) {
    const uint32_t* place = places.typed_data() + a * PLACE;
    auto from = reinterpret_cast<const char*>(static_cast<uintptr_t>(place[0]) | static_cast<uint64_t>(place[1]) << 32);
    ffi::AnyBuffer result = *out.get<ffi::AnyBuffer>(a).value();
    auto to = static_cast<char*>(result.untyped_data());
    int64_t rows = place[2], size = result.size_bytes() / count;
    auto row = [&](int64_t i) { return from + std::clamp<int64_t>(number[i], 0, rows - 1) * size; };
    if (count * size < WORTH_THREADS) {
      bool is_last = number + count == numbers.typed_data() + steps * count;
      for (int64_t i = 0; i < count; i++) {
        std::memcpy(to + i * size, row(i), size);
        for (int64_t at = 0; at < size + LINE && !is_last; at += LINE)
          __builtin_prefetch(row(count + i) + std::min(at, size - 1), 0, 2);
      }
      continue;
    }
    int64_t parts = std::min<int64_t>(count, 4 * pool.num_threads());
    parallel_for(pool, parts, [&](int64_t part) {
      for (int64_t i = share(count, part, parts), end = share(count, part + 1, parts); i < end; i++) {
        if (i + AHEAD < end) __builtin_prefetch(row(i + AHEAD));
        std::memcpy(to + i * size, row(i), size);
      }
    });
  }
  return ffi::Error::Success();
}

LAMINA_HANDLER(gather_rows, gather_rows,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Numbers>().Arg<Numbers>()
                   .Arg<ffi::Buffer<ffi::U32>>().RemainingRets());

}  // namespace
}  // namespace lamina
