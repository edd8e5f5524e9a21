// The gradient of a table that rows were picked from: what the picks of each row were given, added up in their order.

#include <cstring>

#include "handlers.h"
#include "vector.h"

namespace lamina {
namespace {

// Fewer numbers are added before another thread is awake.
constexpr int64_t WORTH_THREADS = 1 << 15;

ffi::Error embedding_gradient(ffi::ThreadPool pool, Numbers numbers, Floats gradient, FloatsOut table) {
  int64_t count = gradient.dimensions()[0], features = gradient.dimensions()[1], rows = table->dimensions()[0];
  int64_t threads = (count + rows) * features < WORTH_THREADS ? 1 : pool.num_threads(), wide = vectors(features);
  // Rows are set to zero in equal parts; then, as some are picked much more often than others, each thread takes some columns.
  parallel_phases(pool, 2, threads, [&](int64_t phase, int64_t part) {
    if (phase == 0) {
      int64_t first = share(rows, part, threads), end = share(rows, part + 1, threads);
      std::memset(table->typed_data() + first * features, 0, (end - first) * features * sizeof(float));
      return;
    }
    int64_t first = share(wide, part, threads) * LANES, end = std::min(share(wide, part + 1, threads) * LANES, features);
    for (int64_t i = 0; i < count; i++) {
      int64_t row = numbers.typed_data()[i];
      if (row < 0) row += rows;
      if (row < 0 || row >= rows) continue;  // such a pick is NaN whatever the table is
      float* to = table->typed_data() + row * features;
      const float* from = gradient.typed_data() + i * features;
      for (int64_t n = first; n < end; n += LANES) store(to + n, load(to + n, end - n) + load(from + n, end - n), end - n);
    }
  });
  return ffi::Error::Success();
}

LAMINA_HANDLER(embedding_gradient, embedding_gradient,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Numbers>().Arg<Floats>()
                   .Ret<ffi::Buffer<ffi::F32>>());

}  // namespace
}  // namespace lamina
