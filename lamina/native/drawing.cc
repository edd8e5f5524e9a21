// Drawing one of several by their scores: the first up to which the exponentials sum up to more than a given share of all.

#include <cfloat>

#include "functions.h"
#include "handlers.h"
#include "scratch.h"

namespace lamina {
namespace {

// Numbers whose sum is looked at before they are looked at one by one.
constexpr int64_t CHUNK = 16 * LANES;

ffi::Error draw(Floats scores, Floats chance, Floats temperature, ffi::Result<ffi::Buffer<ffi::S32>> drawn) {
  int64_t count = scores.element_count(), chunks = (count + CHUNK - 1) / CHUNK;
  const float* x = scores.typed_data();
  float heat = *temperature.typed_data();
  if (!(heat > 0.0f)) {
    *drawn->typed_data() = std::max_element(x, x + count) - x;
    return ffi::Error::Success();
  }
  Scratch scratch(chunks * (CHUNK + 1));
  float *weights = scratch.take(chunks * CHUNK), *sums = scratch.take(chunks), total = 0.0f;
  Vector highest = all(-FLT_MAX);
  for (int64_t i = 0; i < count; i += LANES) highest = maximum(highest, count - i < LANES ? highest : load(x + i));
  float top = largest(highest), factor = 1.0f / std::max(heat, 1e-6f);
  for (int64_t i = count / LANES * LANES; i < count; i++) top = std::max(top, x[i]);
  for (int64_t chunk = 0; chunk < chunks; chunk++) {
    Vector sum_of_chunk{};
    for (int64_t i = chunk * CHUNK; i < (chunk + 1) * CHUNK; i += LANES) {
      Vector weight = exp((load(x + i, count - i) - top) * factor);
      for (int64_t lane = std::max<int64_t>(count - i, 0); lane < LANES; lane++) weight[lane] = 0.0f;
      sum_of_chunk += weight;
      store(weights + i, weight);
    }
    total += sums[chunk] = sum(sum_of_chunk);
  }
  float wanted = *chance.typed_data() * total, before = 0.0f;
  int64_t chunk = 0, found = 0;
  while (chunk + 1 < chunks && before + sums[chunk] <= wanted) before += sums[chunk++];
  for (int64_t i = chunk * CHUNK; i < std::min(count, (chunk + 1) * CHUNK); i++) {
    if (weights[i] > 0.0f) found = i;  // the last one, where sums in another order are rounded up to less
    before += weights[i];
    if (before > wanted) break;
  }
  *drawn->typed_data() = found;
  return ffi::Error::Success();
}

LAMINA_HANDLER(draw, draw,
               ffi::Ffi::Bind().Arg<Floats>().Arg<Floats>().Arg<Floats>().Ret<ffi::Buffer<ffi::S32>>());

}  // namespace
}  // namespace lamina
