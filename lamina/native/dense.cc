// Dense layers. The gradients of a large one's kernel and bias, x^T g and the sum of the rows of g, in one pass over both,
// without writing either of them the other way round; and small layers forward and back, whole in one call each.

#include <algorithm>

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

// A part of the gradient of a kernel, of which `width` inputs from `begin` on; and, with the first one, that of the bias.
void gradient_of_kernel(const Floats& x, const float* gradient, int64_t outputs, int64_t begin, int64_t width, float* kernel,
                        float* bias) {
  int64_t rows = x.dimensions()[0], inputs = x.dimensions()[1], padded = vectors(outputs) * LANES;
  bool ragged = outputs % LANES;  // rows are read and written in whole vectors
  Scratch scratch(ROWS_AT_ONCE * (width + (ragged ? padded : 0)) + (ragged ? width * padded : 0) + padded);
  float *left = scratch.take(ROWS_AT_ONCE * width), *right = scratch.take(ragged ? ROWS_AT_ONCE * padded : 0);
  float *total = scratch.take(ragged ? width * padded : 0), *sums = scratch.take(padded);
  std::fill(sums, sums + padded, 0.0f);
  Rows<float> out{kernel + begin * outputs, outputs};
  if (ragged) out = {total, padded};
  for (int64_t first = 0; first < rows; first += ROWS_AT_ONCE) {
    int64_t count = std::min(ROWS_AT_ONCE, rows - first);
    for (int64_t row = 0; row < count; row++)
      std::memcpy(left + row * width, x.typed_data() + (first + row) * inputs + begin, width * sizeof(float));
    Rows<const float> given{gradient + first * outputs, outputs};
    if (ragged) {
      for (int64_t row = 0; row < count; row++)
        for (int64_t k = 0; k < padded; k += LANES)
          store(right + row * padded + k, load(given.values + row * outputs + k, outputs - k));
      given = {right, padded};
    }
    multiply<Contiguous::COLUMNS>({left, width}, given, width, count, padded / LANES, out, first > 0);
    if (begin == 0)
      for (int64_t row = 0; row < count; row++)
        for (int64_t k = 0; k < padded; k += LANES) store(sums + k, load(sums + k) + load(given.values + row * given.step + k));
  }
  if (ragged)
    for (int64_t i = 0; i < width; i++)
      std::memcpy(kernel + (begin + i) * outputs, total + i * padded, outputs * sizeof(float));
  if (begin == 0) std::memcpy(bias, sums, outputs * sizeof(float));
}

// activated(x kernel + bias + more), of many rows; the kernel may be turned over.
template <bool TURNED = false>
void large_dense(ffi::ThreadPool& pool, const Product& product, const float* kernel) {
  if (stays_in_cache(product.rows, product.depth, product.columns)) return multiply_in_cache<TURNED>(pool, product, kernel);
  ByPanels by_panels(product, pool.num_threads());
  parallel_for(pool, by_panels.tasks(), [&](int64_t task) { by_panels.work<TURNED>(kernel, task); });
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
ffi::Error dense(ffi::ThreadPool pool, Floats x, Floats kernel, Floats bias, Floats more, FloatsOut out, float slope) {
  int64_t rows = x.dimensions()[0], inputs = x.dimensions()[1], outputs = kernel.dimensions()[1];
  Finish finish{bias.element_count() ? bias.typed_data() : nullptr, slope};
  const float* added = more.element_count() ? more.typed_data() : nullptr;
  Product product{x.typed_data(), rows, inputs, outputs, out->typed_data(), finish, added};
  bool large = rows >= MANY_ROWS && rows * inputs * outputs >= WORTH_THREADS;
  large ? large_dense(pool, product, kernel.typed_data()) : small_dense(pool, product, kernel.typed_data());
  return ffi::Error::Success();
}

LAMINA_HANDLER(dense, dense,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                   .Ret<ffi::Buffer<ffi::F32>>().Attr<float>("slope"));

// x kernel^T, of many rows.
ffi::Error dense_transposed(ffi::ThreadPool pool, Floats x, Floats kernel, FloatsOut out) {
  int64_t rows = x.dimensions()[0], inputs = x.dimensions()[1], outputs = kernel.dimensions()[0];
  large_dense<true>(pool, {x.typed_data(), rows, inputs, outputs, out->typed_data(), {}}, kernel.typed_data());
  return ffi::Error::Success();
}

LAMINA_HANDLER(dense_transposed, dense_transposed,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Ret<ffi::Buffer<ffi::F32>>());

// GELU of x kernel + bias, and its slopes; of many rows.
ffi::Error dense_gelu(ffi::ThreadPool pool, Floats x, Floats kernel, Floats bias, FloatsOut out, FloatsOut slopes) {
  int64_t rows = x.dimensions()[0], inputs = x.dimensions()[1], outputs = kernel.dimensions()[1];
  Finish finish{bias.element_count() ? bias.typed_data() : nullptr, 1.0f};
  large_dense(pool, {x.typed_data(), rows, inputs, outputs, out->typed_data(), finish, nullptr, slopes->typed_data()},
              kernel.typed_data());
  return ffi::Error::Success();
}

LAMINA_HANDLER(dense_gelu, dense_gelu,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
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
// the gradient in front of the activation is kept; `result` are the activation's slopes, if they were kept.
ffi::Error dense_gradient(ffi::ThreadPool pool, Floats x, Floats kernel, Floats result, Floats given, FloatsOut of_x,
                          FloatsOut of_kernel, FloatsOut of_bias, FloatsOut undone, float slope, bool kept) {
  int64_t rows = x.dimensions()[0], inputs = kernel.dimensions()[0], outputs = kernel.dimensions()[1];
  int64_t threads = rows * inputs * outputs < WORTH_THREADS ? 1 : pool.num_threads(), numbers = rows * outputs;
  bool activated = result.element_count() > 0;
  Before before{given.typed_data(), activated ? result.typed_data() : nullptr, slope, kept};
  if (stays_in_cache(rows, inputs, outputs)) {
    GradientInCache gradients{x.typed_data(), kernel.typed_data(), before, rows, inputs, outputs,
                              of_x->element_count() ? of_x->typed_data() : nullptr, of_kernel->typed_data(),
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
  ByPanels back({gradient, rows, outputs, inputs, of_x->typed_data(), {}}, threads);
  int64_t ahead = of_x->element_count() ? back.tasks() : 0, slices = parts_of_kernel(inputs, threads), parts = ahead + slices;
  auto body = [&](int64_t phase, int64_t part) {
    if (phase == 0 && activated) {
      for (int64_t i = share(numbers, part, parts), end = share(numbers, part + 1, parts); i < end; i += LANES)
        store(undone->typed_data() + i, before.at(i, end - i), end - i);
      return;
    }
    if (part < ahead) return back.work<true>(kernel.typed_data(), part);
    int64_t begin = share(inputs, part - ahead, slices), end = share(inputs, part - ahead + 1, slices);
    gradient_of_kernel(x, gradient, outputs, begin, end - begin, of_kernel->typed_data(), of_bias->typed_data());
  };
  parallel_phases(pool, activated ? 2 : 1, parts, body, threads);
  return ffi::Error::Success();
}

LAMINA_HANDLER(dense_gradient, dense_gradient,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                   .Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>()
                   .Ret<ffi::Buffer<ffi::F32>>().Attr<float>("slope").Attr<bool>("kept"));

}  // namespace
}  // namespace lamina
