// Dense layers. The gradients of a large one's kernel and bias, x^T g and the sum of the rows of g, in one pass over both,
// without writing either of them the other way round; and small layers forward and back, whole in one call each.

#include <algorithm>

#include "adam.h"
#include "dense_product.h"
#include "one_row.h"

namespace lamina {
namespace {

// Products of fewer numbers are done before another thread is awake.
constexpr int64_t WORTH_THREADS = 1 << 17;
// The same for a matrix that few rows are multiplied with: from how many numbers on it is worth waking a thread, and from how
// many handing a part to one that is awake.
constexpr int64_t WORTH_WAKING = 1 << 20, WORTH_HANDING = 1 << 17;
// From so many rows on, a matrix is copied before it is multiplied with.
constexpr int64_t MANY_ROWS = 32;
// For the gradient of a matrix that does not stay in the cache, so many rows are worked on at once.
constexpr int64_t ROWS_AT_ONCE = 256;

// How many parts the gradient of a kernel is worked on in.
int64_t parts_of_kernel(int64_t inputs, int64_t threads) {
  return std::min(inputs, (inputs + threads * INPUTS - 1) / (threads * INPUTS) * threads);
}

// The gradient of a kernel that does not stay in the cache, x^T g.
struct KernelGradient {
  const float *x, *gradient;
  int64_t rows, inputs, outputs;
  RowPlaces places{};
  int64_t padded = vectors(outputs) * LANES;

  bool ragged() const { return padded > outputs; }  // rows of g are read, and those of the result written, in whole vectors
  bool copies() const { return ragged() || places.places; }
  int64_t scratch_size(int64_t width) const { return ROWS_AT_ONCE * (width + (copies() ? padded : 0)); }

  // `width` rows of it from `begin` on. Before each tile, meanwhile(part, parts) is told how far it has come.
  template <typename Meanwhile>
  void work(int64_t begin, int64_t width, Rows<float> out, float* scratch, const Meanwhile& meanwhile) const {
    int64_t panels = (padded / LANES + WIDEST_TILE - 1) / WIDEST_TILE;
    float *left = scratch, *right = scratch + ROWS_AT_ONCE * width;
    for (int64_t first = 0; first == 0 || first < rows; first += ROWS_AT_ONCE) {  // zeros, if there are no rows
      int64_t count = std::min(ROWS_AT_ONCE, rows - first);
      for (int64_t row = 0; row < count; row++)
        std::memcpy(left + row * width, x + places[first + row] * inputs + begin, width * sizeof(float));
      Rows<const float> given{gradient + first * outputs, outputs};
      if (copies()) {
        for (int64_t row = 0; row < count; row++)
          for (int64_t k = 0; k < padded; k += LANES)
            store(right + row * padded + k, load(gradient + places[first + row] * outputs + k, outputs - k));
        given = {right, padded};
      }
      for (int64_t panel = 0; panel < panels; panel++) {
        int64_t start = share(padded / LANES, panel, panels), wide = share(padded / LANES, panel + 1, panels) - start;
        int64_t tiles = (width + HIGHEST_TILE[wide] - 1) / HIGHEST_TILE[wide];
        for (int64_t tile = 0; tile < tiles; tile++) {
          int64_t row = share(width, tile, tiles), high = share(width, tile + 1, tiles) - row;
          if (first == 0) meanwhile(panel * tiles + tile, panels * tiles);
          multiply<Contiguous::COLUMNS>({left + row, width}, {given.values + start * LANES, given.step}, high, count, wide,
                                        {out.values + row * out.step + start * LANES, out.step}, first > 0);
        }
      }
    }
  }

  // The same, where it has to be.
  void work(int64_t begin, int64_t width, float* of_kernel) const {
    Scratch memory(scratch_size(width) + (ragged() ? width * padded : 0));
    float *scratch = memory.take(scratch_size(width)), *total = memory.take(ragged() ? width * padded : 0);
    float* to = of_kernel + begin * outputs;
    work(begin, width, ragged() ? Rows<float>{total, padded} : Rows<float>{to, outputs}, scratch, [](int64_t, int64_t) {});
    for (int64_t row = 0; ragged() && row < width; row++)
      std::memcpy(to + row * outputs, total + row * padded, outputs * sizeof(float));
  }
};

// A part of the gradient in front of an activation, where there is a place for it, and of that of the bias.
void undo(const Before& before, int64_t rows, const RowPlaces& places, int64_t outputs, int64_t part, int64_t parts,
          float* undone, float* of_bias) {
  int64_t total = vectors(outputs), end = share(total, part + 1, parts) * LANES;
  for (int64_t n = share(total, part, parts) * LANES; n < end; n += LANES) {
    Vector sum{};
    for (int64_t row = 0; row < rows; row++) {
      int64_t place = places[row] * outputs + n;
      Vector value = before.result ? before.at(place, outputs - n) : load(before.gradient + place, outputs - n);
      if (undone) store(undone + place, value, outputs - n);
      sum += value;
    }
    store(of_bias + n, sum, outputs - n);
  }
}

// activated(x kernel + bias + more), of the rows that are there of many; the kernel may be turned over.
template <bool TURNED = false>
void large_dense(ffi::ThreadPool& pool, Product product, const float* kernel, const PresentRows& present) {
  product = product.with_rows(present.places(), present.places()), product.rows = present.count();
  auto fill_others = [&](int64_t task, int64_t tasks) {
    present.fill_others(product.out, product.more, product.columns, task, tasks);
    present.fill_others<float>(product.before, nullptr, product.columns, task, tasks);
  };
  if (stays_in_cache(product.rows, product.depth, product.columns))
    return multiply_in_cache<TURNED>(pool, product, kernel, fill_others);
  ByPanels by_panels(product, pool.num_threads());
  parallel_for(pool, by_panels.tasks(), [&](int64_t task) {
    fill_others(task, by_panels.tasks());
    by_panels.work<TURNED>(kernel, task);
  });
}

// activated(x kernel + bias + more), of few rows. Threads share the rows of a large kernel: if each read half of every row, only half of
// the places of its cache could hold them.
void small_dense(ffi::ThreadPool& pool, const Product& product, const float* kernel) {
  int64_t rows = product.rows, inputs = product.depth, outputs = product.columns, numbers = inputs * outputs;
  int64_t whole = outputs / LANES * LANES, rest = outputs - whole, padded = vectors(outputs) * LANES;
  int64_t parts = numbers >= WORTH_HANDING ? PARTS : 1;
  Scratch scratch(parts * rows * padded, true);
  float* sums = scratch.take(parts * rows * padded);
  auto body = [&](int64_t part) {
    int64_t begin = share(inputs, part, parts), depth = share(inputs, part + 1, parts) - begin;
    const float *left = product.left + begin, *right = kernel + begin * outputs;
    Rows<float> to{sums + part * rows * padded, padded};
    if (rows == 1)
      row_product(left, {right, outputs}, depth, outputs / LANES, to.values);
    else
      multiply<Contiguous::ROWS>({left, inputs}, {right, outputs}, rows, depth, outputs / LANES, to, false);
    if (rest == 0) return;
    Scratch scratch(depth * LANES);  // for the columns that fill no vector
    float* columns = scratch.take(depth * LANES);
    for (int64_t k = 0; k < depth; k++) store(columns + k * LANES, load(right + k * outputs + whole, rest));
    multiply<Contiguous::ROWS>({left, inputs}, {columns, LANES}, rows, depth, 1, {to.values + whole, padded}, false);
  };
  parallel_for(pool, parts, body, parts, numbers < WORTH_WAKING);
  for (int64_t row = 0; row < rows; row++)
    for (int64_t n = 0; n < outputs; n += LANES) {
      Vector total = product.finish.bias ? load(product.finish.bias + n, outputs - n) : Vector{};
      if (product.more) total += load(product.more + row * outputs + n, outputs - n);
      for (int64_t part = 0; part < parts; part++) total += load(sums + (part * rows + row) * padded + n);
      store(product.out + row * outputs + n, activated(total, product.finish.slope), outputs - n);
    }
}

// The same, of any number of rows.
ffi::Error dense(ffi::ThreadPool pool, Floats x, Floats kernel, Floats bias, Floats more, Booleans there, FloatsOut out,
                 float slope) {
  int64_t rows = x.dimensions()[0], inputs = x.dimensions()[1], outputs = kernel.dimensions()[1];
  PresentRows present(rows, there);
  Finish finish{values_or_null(bias), slope};
  const float* added = values_or_null(more);
  Product product{x.typed_data(), rows, inputs, outputs, out->typed_data(), finish, added};
  if (rows >= MANY_ROWS && rows * inputs * outputs >= WORTH_THREADS) {
    large_dense(pool, product, kernel.typed_data(), present);
  } else {
    small_dense(pool, product, kernel.typed_data());
    present.fill_others(product.out, added, outputs, 0, 1);
  }
  return ffi::Error::Success();
}

LAMINA_HANDLER(dense, dense,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Booleans>()
                   .Ret<ffi::Buffer<ffi::F32>>().Attr<float>("slope"));

// x kernel^T, of many rows.
ffi::Error dense_transposed(ffi::ThreadPool pool, Floats x, Floats kernel, FloatsOut out) {
  int64_t rows = x.dimensions()[0], inputs = x.dimensions()[1], outputs = kernel.dimensions()[0];
  Product product{x.typed_data(), rows, inputs, outputs, out->typed_data(), {}};
  large_dense<true>(pool, product, kernel.typed_data(), {rows});
  return ffi::Error::Success();
}

LAMINA_HANDLER(dense_transposed, dense_transposed,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Ret<ffi::Buffer<ffi::F32>>());

// GELU of x kernel + bias, and that itself if there is a place for it; of many rows.
ffi::Error dense_gelu(ffi::ThreadPool pool, Floats x, Floats kernel, Floats bias, Booleans there, FloatsOut out,
                      FloatsOut before) {
  int64_t rows = x.dimensions()[0], inputs = x.dimensions()[1], outputs = kernel.dimensions()[1];
  Finish finish{values_or_null(bias), 1.0f};
  float* kept = values_or_null(*before);
  Product product{x.typed_data(), rows, inputs, outputs, out->typed_data(), finish, nullptr, true, kept};
  large_dense(pool, product, kernel.typed_data(), {rows, there});
  return ffi::Error::Success();
}

LAMINA_HANDLER(dense_gelu, dense_gelu,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Booleans>()
                   .Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>());

// The gradients of a small layer: of the input, where there is a place for it, of the kernel and of the bias.
ffi::Error small_dense_gradient(Floats x, Floats kernel, Floats result, Floats gradient, FloatsOut of_x, FloatsOut of_kernel,
                                FloatsOut of_bias, float slope) {
  int64_t rows = x.dimensions()[0], inputs = x.dimensions()[1], outputs = kernel.dimensions()[1];
  int64_t wide = vectors(outputs) * LANES, wide_inputs = vectors(inputs) * LANES;
  Scratch scratch(rows * wide + inputs * wide + outputs * wide_inputs + rows * wide_inputs);
  float* undone = scratch.take(rows * wide);  // the gradient in front of the activation
  for (int64_t v = 0; v < outputs; v += LANES) {
    Vector sum{};
    for (int64_t row = 0; row < rows; row++) {
      Vector g = load(gradient.typed_data() + row * outputs + v, outputs - v);
      if (slope != 1.0f) {
        g = unactivated(g, load(result.typed_data() + row * outputs + v, outputs - v), slope);
      }
      store(undone + row * wide + v, g);
      sum += g;
    }
    store(of_bias->typed_data() + v, sum, outputs - v);
  }
  bool ragged = outputs % LANES, ragged_inputs = inputs % LANES;
  float* total = ragged ? scratch.take(inputs * wide) : of_kernel->typed_data();
  multiply<Contiguous::COLUMNS>({x.typed_data(), inputs}, {undone, wide}, inputs, rows, wide / LANES, {total, wide}, false);
  if (ragged)
    for (int64_t i = 0; i < inputs; i++)
      std::memcpy(of_kernel->typed_data() + i * outputs, total + i * wide, outputs * sizeof(float));
  if (of_x->element_count() == 0) return ffi::Error::Success();
  float* transposed = scratch.take(outputs * wide_inputs);
  for (int64_t n = 0; n < outputs; n++)
    for (int64_t k = 0; k < wide_inputs; k++)
      transposed[n * wide_inputs + k] = k < inputs ? kernel.typed_data()[k * outputs + n] : 0.0f;
  float* back = ragged_inputs ? scratch.take(rows * wide_inputs) : of_x->typed_data();
  multiply<Contiguous::ROWS>({undone, wide}, {transposed, wide_inputs}, rows, outputs, wide_inputs / LANES,
                             {back, wide_inputs}, false);
  if (ragged_inputs)
    for (int64_t row = 0; row < rows; row++)
      std::memcpy(of_x->typed_data() + row * inputs, back + row * wide_inputs, inputs * sizeof(float));
  return ffi::Error::Success();
}

LAMINA_HANDLER(small_dense_gradient, small_dense_gradient,
               ffi::Ffi::Bind().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                   .Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>()
                   .Attr<float>("slope"));

// The gradients of a large layer: of the input, where there is a place for it, of the kernel and of the bias. In one call, or
// XLA would keep a copy of the kernel: it could not tell that the update of the weights comes after both. `undone` is where
// the gradient in front of the activation is kept; with `gelu`, `result` is what was before the GELU.
ffi::Error dense_gradient(ffi::ThreadPool pool, Floats x, Floats kernel, Floats result, Floats given, Booleans there,
                          FloatsOut of_x, FloatsOut of_kernel, FloatsOut of_bias, FloatsOut undone, float slope, bool gelu) {
  PresentRows present(x.dimensions()[0], there);
  int64_t rows = present.count(), inputs = kernel.dimensions()[0], outputs = kernel.dimensions()[1];
  int64_t threads = rows * inputs * outputs < WORTH_THREADS ? 1 : pool.num_threads();
  bool activated = result.element_count() > 0;
  Before before{given.typed_data(), activated ? result.typed_data() : nullptr, slope, gelu};
  if (stays_in_cache(rows, inputs, outputs)) {
    GradientInCache gradients{x.typed_data(), kernel.typed_data(), before, present, inputs, outputs,
                              values_or_null(*of_x), of_kernel->typed_data(),
                              of_bias->typed_data(), threads};
    auto body = [&](int64_t phase, int64_t part) {
      if (phase == 0) return gradients.copy(part);
      if (phase == 1) return gradients.work(part);
      gradients.add_up(part);
    };
    parallel_phases(pool, 3, gradients.parts(), body, threads);
    return ffi::Error::Success();
  }
  const float* gradient = activated ? undone->typed_data() : given.typed_data();
  KernelGradient of_matrix{x.typed_data(), gradient, rows, inputs, outputs, present.places()};
  Product of_input{gradient, rows, outputs, inputs, of_x->typed_data(), {}};
  ByPanels back(of_input.with_rows(present.places(), present.places()), threads);
  int64_t ahead = of_x->element_count() ? back.tasks() : 0, slices = parts_of_kernel(inputs, threads), parts = ahead + slices;
  auto body = [&](int64_t phase, int64_t part) {
    if (phase == 0) {
      present.fill_others<float>(values_or_null(*of_x), nullptr, inputs, part, parts);
      return undo(before, rows, present.places(), outputs, part, parts, activated ? undone->typed_data() : nullptr,
                  of_bias->typed_data());
    }
    if (part < ahead) return back.work<true>(kernel.typed_data(), part);
    int64_t begin = share(inputs, part - ahead, slices), end = share(inputs, part - ahead + 1, slices);
    of_matrix.work(begin, end - begin, of_kernel->typed_data());
  };
  parallel_phases(pool, 2, parts, body, threads);
  return ffi::Error::Success();
}

LAMINA_HANDLER(dense_gradient, dense_gradient,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Booleans>()
                   .Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>()
                   .Ret<ffi::Buffer<ffi::F32>>().Attr<float>("slope").Attr<bool>("gelu"));

// The same without the gradient of the kernel, which is then worked out for itself from that in front of the activation.
ffi::Error dense_back(ffi::ThreadPool pool, Floats kernel, Floats result, Floats given, FloatsOut of_x, FloatsOut of_bias,
                      FloatsOut undone, float slope, bool gelu) {
  int64_t rows = given.dimensions()[0], inputs = kernel.dimensions()[0], outputs = kernel.dimensions()[1];
  bool further = of_x->element_count() > 0;
  Before before{given.typed_data(), values_or_null(result), slope, gelu};
  ByPanels back({undone->typed_data(), rows, outputs, inputs, of_x->typed_data(), {}}, pool.num_threads());
  int64_t parts = further ? back.tasks() : pool.num_threads();
  parallel_phases(pool, further ? 2 : 1, parts, [&](int64_t phase, int64_t part) {
    if (phase == 1) return back.work<true>(kernel.typed_data(), part);
    undo(before, rows, {}, outputs, part, parts, undone->typed_data(), of_bias->typed_data());
  });
  return ffi::Error::Success();
}

LAMINA_HANDLER(dense_back, dense_back,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                   .Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>()
                   .Attr<float>("slope").Attr<bool>("gelu"));

// The gradient of a kernel, x^T g.
ffi::Error kernel_gradient(ffi::ThreadPool pool, Floats x, Floats gradient, FloatsOut of_kernel) {
  int64_t rows = x.dimensions()[0], inputs = x.dimensions()[1], outputs = gradient.dimensions()[1];
  KernelGradient product{x.typed_data(), gradient.typed_data(), rows, inputs, outputs};
  int64_t parts = parts_of_kernel(inputs, pool.num_threads());
  parallel_for(pool, parts, [&](int64_t part) {
    int64_t begin = share(inputs, part, parts), end = share(inputs, part + 1, parts);
    product.work(begin, end - begin, of_kernel->typed_data());
  });
  return ffi::Error::Success();
}

LAMINA_HANDLER(kernel_gradient, kernel_gradient,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Ret<ffi::Buffer<ffi::F32>>());

// Adam's update of a kernel by that, which is not written out: what the update reads is asked for while it is worked out, in
// the order in which it lies in memory, so that the processor sees what comes next.
ffi::Error adam_of_kernel(ffi::ThreadPool pool, Floats rate, Floats x, Floats gradient, Floats value, Floats first,
                          Floats second, FloatsOut next_value, FloatsOut next_first, FloatsOut next_second, float new_1,
                          float new_2, float epsilon) {
  int64_t rows = x.dimensions()[0], inputs = x.dimensions()[1], outputs = gradient.dimensions()[1];
  KernelGradient product{x.typed_data(), gradient.typed_data(), rows, inputs, outputs};
  Rule rule{*rate.typed_data(), new_1, new_2, epsilon};
  int64_t parts = parts_of_kernel(inputs, pool.num_threads());
  parallel_for(pool, parts, [&](int64_t part) {
    int64_t begin = share(inputs, part, parts), width = share(inputs, part + 1, parts) - begin, place = begin * outputs;
    Scratch memory(product.scratch_size(width) + width * product.padded);
    float *scratch = memory.take(product.scratch_size(width)), *total = memory.take(width * product.padded);
    auto meanwhile = [&](int64_t tile, int64_t tiles) {
      for (const float* from : {value.typed_data(), first.typed_data(), second.typed_data()})
        fetch(from + place, share(width * outputs, tile, tiles), share(width * outputs, tile + 1, tiles));
    };
    product.work(begin, width, {total, product.padded}, scratch, meanwhile);
    for (int64_t row = 0; row < width; row++, place += outputs)
      update({total + row * product.padded, value.typed_data() + place, first.typed_data() + place,
              second.typed_data() + place, next_value->typed_data() + place, next_first->typed_data() + place,
              next_second->typed_data() + place, outputs},
             0, outputs, rule);
  });
  return ffi::Error::Success();
}

LAMINA_HANDLER(adam_of_kernel, adam_of_kernel,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                   .Arg<Floats>().Arg<Floats>().Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>()
                   .Ret<ffi::Buffer<ffi::F32>>().Attr<float>("new_1").Attr<float>("new_2").Attr<float>("epsilon"));

}  // namespace
}  // namespace lamina
