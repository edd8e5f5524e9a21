// Dense layers. The gradients of a large one's kernel and bias, x^T g and the sum of the rows of g, in one pass over both,
// without writing either of them the other way round; and small layers forward and back, whole in one call each.

#include <algorithm>

#include "handlers.h"
#include "one_row.h"
#include "product.h"
#include "scratch.h"
#include "tiles.h"

namespace lamina {
namespace {

// How many rows, and about how many inputs, are worked on at once: x is copied in such blocks, whose rows follow each other.
constexpr int64_t AT_ONCE = 256, INPUTS = 48;
// Products of fewer numbers are done before another thread is awake.
constexpr int64_t WORTH_THREADS = 1 << 17;
// A product of many rows is cut into about so many tasks for each thread, of at least so many rows.
constexpr int64_t TASKS = 4, BAND = 48, MANY_ROWS = 32;
// The same for products with few rows, where a thread that has to be woken up costs more than it saves.
constexpr int64_t WORTH_THREADS_FOR_ROWS = 1 << 20;
// For one row, so many columns are a thread's part.
constexpr int64_t COLUMNS = 16 * LANES;

// How many parts the gradient of a kernel is worked on in.
int64_t parts_of_kernel(int64_t inputs, int64_t threads) {
  return std::min(inputs, (inputs + threads * INPUTS - 1) / (threads * INPUTS) * threads);
}

// A part of the gradient of a kernel, of which `width` inputs from `begin` on; and, with the first one, that of the bias.
void gradient_of_kernel(const Floats& x, const float* gradient, int64_t outputs, int64_t begin, int64_t width, float* kernel,
                        float* bias) {
  int64_t rows = x.dimensions()[0], inputs = x.dimensions()[1], padded = vectors(outputs) * LANES;
  bool ragged = outputs % LANES;  // rows are read and written in whole vectors
  Scratch scratch(AT_ONCE * (width + (ragged ? padded : 0)) + (ragged ? width * padded : 0) + padded);
  float *left = scratch.take(AT_ONCE * width), *right = scratch.take(ragged ? AT_ONCE * padded : 0);
  float *total = scratch.take(ragged ? width * padded : 0), *sums = scratch.take(padded);
  std::fill(sums, sums + padded, 0.0f);
  Rows<float> out{kernel + begin * outputs, outputs};
  if (ragged) out = {total, padded};
  for (int64_t first = 0; first < rows; first += AT_ONCE) {
    int64_t count = std::min(AT_ONCE, rows - first);
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

// The product of many rows with a matrix that is copied panel by panel, each by the thread that works on it.
struct ProductByPanels {
  const float* left;
  int64_t rows, depth, columns;
  float* out;
  Finish finish;
  int64_t total, panels, bands;

  ProductByPanels(const float* left, int64_t rows, int64_t depth, int64_t columns, float* out, Finish finish, int64_t threads)
      : left(left), rows(rows), depth(depth), columns(columns), out(out), finish(finish), total(vectors(columns)),
        panels((total + WIDEST - 1) / WIDEST),
        bands(std::max<int64_t>(1, std::min((TASKS * threads + panels - 1) / panels, rows / BAND))) {}

  int64_t tasks() const { return panels * bands; }

  // `pack(memory, start, valid, width)` copies the panel of `valid` columns from `start` on, `width` vectors wide.
  template <typename Pack>
  void work(int64_t task, Pack pack) const {
    int64_t panel = task / bands, band = task % bands;
    int64_t begin = share(total, panel, panels), width = share(total, panel + 1, panels) - begin, start = begin * LANES;
    int64_t valid = std::min(width * LANES, columns - start), end = share(rows, band + 1, bands);
    Scratch scratch(depth * width * LANES);
    float* weights = scratch.take(depth * width * LANES);
    pack(weights, start, valid, width);
    const float* from[BAND];
    float* to[BAND];
    int64_t run = 0;
    for (int64_t row = share(rows, band, bands); row < end; row += BAND) {
      int64_t here = std::min(BAND, end - row);
      for (int64_t i = 0; i < here; i++) from[i] = left + (row + i) * depth, to[i] = out + (row + i) * columns;
      product_of_panel(width, from, to, here, &run, 1, depth, weights, start, valid, finish);
    }
  }
};

// activated(x kernel + bias), of many rows.
void large_dense(ffi::ThreadPool& pool, const float* x, const float* kernel, const float* bias, int64_t rows, int64_t inputs,
                 int64_t outputs, float* out, float slope) {
  auto pack = [&](float* memory, int64_t start, int64_t valid, int64_t width) {
    for (int64_t k = 0; k < inputs; k++, memory += width * LANES)
      for (int64_t n = 0; n < width * LANES; n += LANES) store(memory + n, load(kernel + k * outputs + start + n, valid - n));
  };
  ProductByPanels product(x, rows, inputs, outputs, out, {bias, slope}, pool.num_threads());
  parallel_for(pool, product.tasks(), [&](int64_t task) { product.work(task, pack); });
}

// activated(x kernel + bias)
ffi::Error dense(ffi::ThreadPool pool, Floats x, Floats kernel, Floats bias, FloatsOut out, float slope) {
  int64_t rows = x.dimensions()[0], inputs = x.dimensions()[1], outputs = kernel.dimensions()[1];
  if (rows >= MANY_ROWS && rows * inputs * outputs >= WORTH_THREADS) {
    large_dense(pool, x.typed_data(), kernel.typed_data(), bias.element_count() ? bias.typed_data() : nullptr, rows, inputs,
                outputs, out->typed_data(), slope);
    return ffi::Error::Success();
  }
  int64_t whole = outputs / LANES, rest = outputs % LANES, count = vectors(outputs);
  bool large = inputs * outputs >= WORTH_THREADS_FOR_ROWS;
  int64_t parts = large ? (outputs + COLUMNS - 1) / COLUMNS : 1;
  auto body = [&](int64_t part) {
    int64_t begin = share(count, part, parts), end = share(count, part + 1, parts), valid = std::min(end, whole);
    Scratch scratch((inputs + rows) * LANES);
    const float* given = x.typed_data();
    float *values = out->typed_data(), *columns = scratch.take(inputs * LANES), *sums = scratch.take(rows * LANES);
    Rows<const float> right{kernel.typed_data(), outputs};
    if (rows == 1)
      row_product(given, right, inputs, begin, valid, values);
    else
      multiply<Contiguous::ROWS>({given, inputs}, {right.values + begin * LANES, outputs}, rows, inputs, valid - begin,
                                 {values + begin * LANES, outputs}, false);
    if (end > whole) {  // the columns that fill no vector
      for (int64_t k = 0; k < inputs; k++) store(columns + k * LANES, load(right.values + k * outputs + whole * LANES, rest));
      multiply<Contiguous::ROWS>({given, inputs}, {columns, LANES}, rows, inputs, 1, {sums, LANES}, false);
    }
    for (int64_t row = 0; row < rows; row++)
      for (int64_t v = begin; v < end; v++) {
        float* to = values + row * outputs + v * LANES;
        Vector sum = v < whole ? load(to) : load(sums + row * LANES);
        if (bias.element_count()) sum += load(bias.typed_data() + v * LANES, outputs - v * LANES);
        store(to, activated(sum, slope), outputs - v * LANES);
      }
  };
  parallel_for(pool, parts, body);
  return ffi::Error::Success();
}

LAMINA_HANDLER(dense, dense,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                   .Ret<ffi::Buffer<ffi::F32>>().Attr<float>("slope"));

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
// the gradient in front of the activation is kept.
ffi::Error dense_gradient(ffi::ThreadPool pool, Floats x, Floats kernel, Floats result, Floats given, FloatsOut of_x,
                          FloatsOut of_kernel, FloatsOut of_bias, FloatsOut undone, float slope) {
  int64_t rows = x.dimensions()[0], inputs = kernel.dimensions()[0], outputs = kernel.dimensions()[1];
  int64_t threads = rows * inputs * outputs < WORTH_THREADS ? 1 : pool.num_threads(), numbers = rows * outputs;
  const float* gradient = slope == 1.0f ? given.typed_data() : undone->typed_data();
  auto transposed = [&](float* memory, int64_t start, int64_t valid, int64_t width) {
    for (int64_t first = 0; first < outputs; first += LANES)
      for (int64_t n = 0; n < width * LANES; n += LANES) {
        float tile[LANES][LANES];  // read along the rows there, written along the rows here
        int64_t depth = std::min<int64_t>(LANES, outputs - first);
        for (int64_t i = 0; i < LANES; i++)
          store(tile[i], n + i < valid ? load(kernel.typed_data() + (start + n + i) * outputs + first, depth) : Vector{});
        for (int64_t k = 0; k < depth; k++)
          for (int64_t i = 0; i < LANES; i++) memory[(first + k) * width * LANES + n + i] = tile[i][k];
      }
  };
  ProductByPanels back(gradient, rows, outputs, inputs, of_x->typed_data(), {}, threads);
  int64_t before = of_x->element_count() ? back.tasks() : 0, slices = parts_of_kernel(inputs, threads), parts = before + slices;
  auto undo = [&](int64_t part) {
    for (int64_t i = share(numbers, part, parts), end = share(numbers, part + 1, parts); i < end; i += LANES)
      store(undone->typed_data() + i,
            unactivated(load(given.typed_data() + i, end - i), load(result.typed_data() + i, end - i), slope), end - i);
  };
  auto body = [&](int64_t phase, int64_t part) {
    if (phase == 0 && slope != 1.0f) return undo(part);
    if (part < before) return back.work(part, transposed);
    int64_t begin = share(inputs, part - before, slices), end = share(inputs, part - before + 1, slices);
    gradient_of_kernel(x, gradient, outputs, begin, end - begin, of_kernel->typed_data(), of_bias->typed_data());
  };
  parallel_phases(pool, slope == 1.0f ? 1 : 2, parts, body, threads);
  return ffi::Error::Success();
}

LAMINA_HANDLER(dense_gradient, dense_gradient,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                   .Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>()
                   .Ret<ffi::Buffer<ffi::F32>>().Attr<float>("slope"));

}  // namespace
}  // namespace lamina
