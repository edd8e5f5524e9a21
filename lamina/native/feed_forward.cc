// Two dense layers with GELU between them, as in transformers, whose matrices stay in the cache: what is between the layers is
// worked out for some rows at a time, forward and back again, and is neither written to memory nor read from there.

#include "dense_product.h"

namespace lamina {
namespace {

// So many rows are worked on at once in the backward pass.
constexpr int64_t ROWS_AT_ONCE = 48;

// GELU(x kernel + bias) second_kernel + second_bias + more. What is before the GELU is kept, if there is a place for it.
ffi::Error feed_forward(ffi::ThreadPool pool, Floats x, Floats kernel, Floats bias, Floats second_kernel, Floats second_bias,
                        Floats more, Booleans there, FloatsOut out, FloatsOut before) {
  PresentRows present(x.dimensions()[0], there);
  int64_t rows = present.count(), inputs = kernel.dimensions()[0], hidden = kernel.dimensions()[1];
  int64_t outputs = second_kernel.dimensions()[1];
  const float *given = x.typed_data(), *added = values_or_null(more);
  float *result = out->typed_data(), *kept = values_or_null(*before);
  Finish finish{values_or_null(bias)}, second_finish{values_or_null(second_bias)};
  Product first{given, rows, inputs, hidden, nullptr, finish}, second{nullptr, rows, hidden, outputs, result, second_finish};
  Scratch shared(first.size() + second.size(), true);
  float *weights = shared.take(first.size()), *second_weights = shared.take(second.size());
  int64_t bands = (rows + BAND - 1) / BAND, tasks = std::clamp<int64_t>(bands, 1, TASKS * pool.num_threads());
  parallel_phases(pool, 2, tasks, [&](int64_t phase, int64_t task) {
    if (phase == 0) {
      present.fill_others(result, added, outputs, task, tasks);
      present.fill_others<float>(kept, nullptr, hidden, task, tasks);
      for (int64_t panel = task; panel < first.panels; panel += tasks)
        copy_panel<false>(first, kernel.typed_data(), panel, weights + first.place(panel));
      for (int64_t panel = task; panel < second.panels; panel += tasks)
        copy_panel<false>(second, second_kernel.typed_data(), panel, second_weights + second.place(panel));
      return;
    }
    Scratch scratch(BAND * hidden);
    float* between = scratch.take(BAND * hidden);
    int64_t end = std::min(share(bands, task + 1, tasks) * BAND, rows);
    for (int64_t row = share(bands, task, tasks) * BAND; row < end; row += BAND) {
      int64_t here = std::min(BAND, end - row), next = row + here;
      RowPlaces places = present.places().from(row);
      Product up = Product{given, here, inputs, hidden, between, finish, nullptr, true, kept}.with_rows(places, {});
      for (int64_t panel = 0; panel < up.panels; panel++) {
        fetch_rows(given, inputs, present.places(), next, std::min(BAND, end - next), panel, up.panels);
        up.work(panel, weights + up.place(panel), 0, here);
      }
      Product{between, here, hidden, outputs, result, second_finish, added}.with_rows({}, places).work(second_weights, 0, here);
    }
  });
  return ffi::Error::Success();
}

LAMINA_HANDLER(feed_forward, feed_forward,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                   .Arg<Floats>().Arg<Booleans>().Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>());

// Its gradients: of the input, where there is a place for it, and of both kernels and biases. `before` is what was before the GELU.
ffi::Error feed_forward_gradient(ffi::ThreadPool pool, Floats x, Floats kernel, Floats second_kernel, Floats before,
                                 Floats given, Booleans there, FloatsOut of_x, FloatsOut of_kernel, FloatsOut of_bias,
                                 FloatsOut of_second_kernel, FloatsOut of_second_bias) {
  PresentRows present(x.dimensions()[0], there);
  int64_t rows = present.count(), inputs = kernel.dimensions()[0], hidden = kernel.dimensions()[1];
  int64_t outputs = second_kernel.dimensions()[1];
  const float *input = x.typed_data(), *kept = before.typed_data(), *gradient = given.typed_data();
  float* further = values_or_null(*of_x);
  Product back{nullptr, rows, hidden, inputs, further, {}}, second_back{gradient, rows, outputs, hidden, nullptr, {}};
  int64_t sums_size = SumsInCache::size(inputs, hidden), second_sums_size = SumsInCache::size(hidden, outputs);
  Scratch shared(back.size() + second_back.size() + sums_size + second_sums_size, true);
  float *turned = shared.take(back.size()), *second_turned = shared.take(second_back.size());
  SumsInCache sums{inputs, hidden, shared.take(sums_size)}, second_sums{hidden, outputs, shared.take(second_sums_size)};
  int64_t slices = slices_of(std::min(inputs, hidden), pool.num_threads()), parts = PARTS * slices;

  auto copy = [&](int64_t part) {
    present.fill_others<float>(further, nullptr, inputs, part, parts);
    for (int64_t panel = part; further && panel < back.panels; panel += parts)
      copy_panel<true>(back, kernel.typed_data(), panel, turned + back.place(panel));
    for (int64_t panel = part; panel < second_back.panels; panel += parts)
      copy_panel<true>(second_back, second_kernel.typed_data(), panel, second_turned + second_back.place(panel));
  };
  auto work = [&](int64_t part) {
    int64_t slice = part % slices, here = part / slices;
    int64_t begin = share(inputs, slice, slices), end = share(inputs, slice + 1, slices);
    int64_t blocks = (hidden + INPUTS - 1) / INPUTS;  // of a copy, which are not parted
    int64_t second_begin = share(blocks, slice, slices) * INPUTS;
    int64_t second_end = std::min(share(blocks, slice + 1, slices) * INPUTS, hidden);
    int64_t left_size = SumsInCache::left_size(ROWS_AT_ONCE, begin, end);
    int64_t second_left_size = SumsInCache::left_size(ROWS_AT_ONCE, 0, hidden);
    int64_t right_size = SumsInCache::right_size(ROWS_AT_ONCE);
    Scratch scratch(left_size + second_left_size + right_size + ROWS_AT_ONCE * hidden + LANES);
    float *left = scratch.take(left_size), *second_left = scratch.take(second_left_size), *right = scratch.take(right_size);
    float* undone = scratch.take(ROWS_AT_ONCE * hidden + LANES);  // the gradient in front of the GELU
    int64_t first = share(rows, here, PARTS), last = share(rows, here + 1, PARTS);
    if (first == last && slice == 0) sums.clear(here), second_sums.clear(here);
    RowPlaces all = present.places();
    for (int64_t row = first, block = 0; row < last; row += ROWS_AT_ONCE, block++) {
      int64_t count = std::min(ROWS_AT_ONCE, last - row), next = row + count, ahead = std::min(ROWS_AT_ONCE, last - next);
      RowPlaces places = all.from(row);
      Product{gradient, count, outputs, hidden, undone, {}}.with_rows(places, {}).work(second_turned, 0, count);
      SumsInCache::copy(count, 0, hidden, second_left, [&](int64_t r, int64_t i, int64_t valid) {
        Gelu gelu(load(kept + places[r] * hidden + i, valid));
        float* place = undone + r * hidden + i;
        store(place, load(place, valid) * gelu.slope, valid);
        return gelu.value;
      });
      SumsInCache::copy(count, begin, end, left,
                        [&](int64_t r, int64_t i, int64_t valid) { return load(input + places[r] * inputs + i, valid); });
      second_sums.add_block(second_left + second_begin * count, gradient, places, right, count, second_begin, second_end, here,
                            row > first, slice == 0, [&](int64_t panel, int64_t panels) {
                              fetch_rows(gradient, outputs, all, next, ahead, panel, panels);
                              fetch_rows(input, inputs, all, next, ahead, panel, panels);
                            });
      sums.add_block(left, undone, {}, right, count, begin, end, here, row > first, slice == 0,
                     [&](int64_t panel, int64_t panels) { fetch_rows(kept, hidden, all, next, ahead, panel, panels); });
      if (further && block % slices == slice)
        Product{undone, count, hidden, inputs, further, {}}.with_rows({}, places).work(turned, 0, count);
    }
  };
  parallel_phases(pool, 3, parts, [&](int64_t phase, int64_t part) {
    if (phase == 0) return copy(part);
    if (phase == 1) return work(part);
    sums.add_up(part, parts, of_kernel->typed_data(), of_bias->typed_data());
    second_sums.add_up(part, parts, of_second_kernel->typed_data(), of_second_bias->typed_data());
  });
  return ffi::Error::Success();
}

LAMINA_HANDLER(feed_forward_gradient, feed_forward_gradient,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                   .Arg<Booleans>().Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>()
                   .Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>());

}  // namespace
}  // namespace lamina
