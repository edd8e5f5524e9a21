// Rows picked out of arrays by their numbers, from several arrays at once.

#include <cstring>

#include "handlers.h"

namespace lamina {
namespace {

// Copies of fewer bytes are done before another thread is awake; and so many rows ahead are sent for.
constexpr int64_t WORTH_THREADS = 1 << 18, AHEAD = 8;

// out[i] = arrays[number[i]] for each of the arrays; numbers past the ends are those of the ends.
ffi::Error gather_rows(ffi::ThreadPool pool, ffi::Buffer<ffi::S32> numbers, ffi::RemainingArgs arrays, ffi::RemainingRets out) {
  int64_t count = numbers.element_count();
  for (size_t a = 0; a < arrays.size(); a++) {
    ffi::AnyBuffer from = arrays.get<ffi::AnyBuffer>(a).value(), to = *out.get<ffi::AnyBuffer>(a).value();
    int64_t rows = from.dimensions()[0], size = from.size_bytes() / rows;
    auto row = [&](int64_t i) {
      int64_t number = std::clamp<int64_t>(numbers.typed_data()[i], 0, rows - 1);
      return static_cast<const char*>(from.untyped_data()) + number * size;
    };
    int64_t parts = count * size < WORTH_THREADS ? 1 : std::min<int64_t>(count, 4 * pool.num_threads());
    auto body = [&](int64_t part) {
      for (int64_t i = share(count, part, parts), end = share(count, part + 1, parts); i < end; i++) {
        if (i + AHEAD < end) __builtin_prefetch(row(i + AHEAD));
        std::memcpy(static_cast<char*>(to.untyped_data()) + i * size, row(i), size);
      }
    };
    parallel_for(pool, parts, body);
  }
  return ffi::Error::Success();
}

LAMINA_HANDLER(gather_rows, gather_rows,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<ffi::Buffer<ffi::S32>>().RemainingArgs().RemainingRets());

}  // namespace
}  // namespace lamina
