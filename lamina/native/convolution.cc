// Convolutions over pictures, (batch, height, width, channels), with kernels (height, width, channels / groups, filters):
// forward, and the gradients with respect to input, kernel and bias. A sequence is a picture of height 1.
//
// Each is a product of matrices in which the left one is never written out: what a place sees are runs of numbers in a few
// rows of the picture. Bias and activation are applied to the sums while they are in registers; the gradients undo the
// activation while they read.

#include "convolution.h"
#include "product.h"
#include "scratch.h"
#include "winograd.h"

namespace lamina {
namespace {

constexpr int64_t PLACES = 192;  // that a kernel's gradient works on at once

// A part of a picture with zeros around it: rows [first, first + rows) and columns [start, start + columns), of which some
// may lie outside. Points into the picture itself where nothing has to be added or undone; otherwise it fills `space`.
struct Window {
  const float* values;
  int64_t row_length;  // in floats

  Window(float* space, const Undo& picture, int64_t image, int64_t height, int64_t width, int64_t channels, int64_t first,
         int64_t rows, int64_t start, int64_t columns) {
    int64_t base = image * height * width * channels;
    if (!picture.result && first >= 0 && first + rows <= height && start == 0 && columns <= width) {
      values = picture.gradient + base + first * width * channels;
      row_length = width * channels;
      return;
    }
    row_length = columns * channels;
    values = space;
    float* to = space;
    int64_t from = std::max<int64_t>(start, 0), until = std::min(start + columns, width);
    for (int64_t r = 0; r < rows; r++, to += row_length) {
      int64_t y = first + r;
      if (y < 0 || y >= height || from >= until) {
        std::memset(to, 0, row_length * sizeof(float));
        continue;
      }
      int64_t before = (from - start) * channels, count = (until - from) * channels;
      std::memset(to, 0, before * sizeof(float));
      picture.copy(base + (y * width + from) * channels, count, to + before);
      std::memset(to + before + count, 0, (row_length - before - count) * sizeof(float));
    }
  }
};

// The outer rows or columns that the inner ones [first, first + count) see, from where and how many.
struct Reach {
  int64_t first, count;
  Reach(int64_t first, int64_t count, int64_t stride, int64_t pad, int64_t size, int64_t dilation)
      : first(first * stride - pad), count((count - 1) * stride + (size - 1) * dilation + 1) {}
};

// An inner place. It is moved on, as divisions take longer than what is done at a place.
struct Place {
  int64_t image, row, column;

  void advance(const Geometry& g) {
    if (++column < g.columns) return;
    column = 0;
    if (++row < g.rows) return;
    row = 0, image++;
  }
};

// How many bands of rows a picture is cut into, so that few pictures keep all threads busy.
int64_t bands(const ffi::ThreadPool& pool, int64_t batch, int64_t rows) {
  int64_t wanted = 4 * pool.num_threads();
  return batch >= wanted || pool.num_threads() == 1 ? 1 : std::min(rows, (wanted + batch - 1) / batch);
}

// Whether so few channels leave most of a vector empty, so that scatter is faster.
bool few(const Geometry& g, int64_t channels) { return g.groups == 1 && channels <= LANES / 2 && g.taps() > 1; }

// Like backward_outer, for few channels: each inner place sends out what all taps make of it, as one product for which the
// taps of all channels are the columns, and that is added up where it belongs.
void scatter(ffi::ThreadPool& pool, const Geometry& g, Undo gradient, const Panels& weights, Finish finish, float* outer) {
  int64_t parts = bands(pool, g.batch, g.height), breadth = vectors(weights.columns) * LANES;
  int64_t at_once = std::max<int64_t>(1, PLACES / g.columns), places = at_once * g.columns;  // rows and places
  auto floor_div = [](int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); };
  parallel_for(pool, g.batch * parts, [&](int64_t task) {
    int64_t image = task / parts, part = task % parts;
    int64_t first = share(g.height, part, parts), end = share(g.height, part + 1, parts);
    int64_t size = (end - first) * g.width * g.channels;
    Scratch scratch(vectors(size) * LANES + places * (g.filters + breadth));
    float *total = scratch.take(vectors(size) * LANES), *copy = scratch.take(places * g.filters);
    float* sent = scratch.take(places * breadth);
    std::fill(total, total + size, 0.0f);
    // the inner rows that reach the band
    int64_t row = std::max<int64_t>(0, floor_div(first + g.top - (g.kernel_height - 1) * g.dilation_y + g.stride_y - 1, g.stride_y));
    int64_t last = std::min(g.rows, floor_div(end - 1 + g.top, g.stride_y) + 1);
    std::vector<const float*> seen(places);
    std::vector<float*> out(places);
    for (; row < last; row += at_once) {
      int64_t count = std::min(at_once, last - row) * g.columns, from = g.inner_at(image, row, 0);
      const float* given = gradient.gradient + from;
      if (gradient.result) gradient.copy(from, count * g.filters, copy), given = copy;
      for (int64_t i = 0; i < count; i++) seen[i] = given + i * g.filters, out[i] = sent + i * breadth;
      product(seen.data(), out.data(), count, {0}, g.filters, weights);
      Place place{image, row, 0};
      for (int64_t i = 0; i < count; i++, place.advance(g))
        for (int64_t ky = 0; ky < g.kernel_height; ky++) {
          int64_t y = place.row * g.stride_y - g.top + ky * g.dilation_y;
          if (y < first || y >= end) continue;
          const float* value = out[i] + ky * g.kernel_width * g.channels;
          for (int64_t kx = 0; kx < g.kernel_width; kx++, value += g.channels) {
            int64_t x = place.column * g.stride_x - g.left + kx * g.dilation_x;
            if (x < 0 || x >= g.width) continue;
            float* to = total + ((y - first) * g.width + x) * g.channels;
            for (int64_t c = 0; c < g.channels; c++) to[c] += value[c];
          }
        }
    }
    if (finish.bias)
      for (int64_t i = 0; i < size; i++) total[i] += finish.bias[i % g.channels];
    float* to = outer + g.outer_at(image, first, 0);
    for (int64_t i = 0; i < size; i += LANES) store(to + i, activated(load(total + i), finish.slope), size - i);
  });
}

void forward(ffi::ThreadPool& pool, const Geometry& g, const float* outer, const float* kernel, Finish finish,
             float* inner) {
  if (suits_winograd(g)) return winograd_forward(pool, g, outer, kernel, finish, inner);
  if (suits_strided_winograd(g)) return strided_winograd_forward(pool, g, outer, kernel, finish, inner);
  if (few(g, g.filters) && g.stride_y == 1 && g.stride_x == 1) {  // also a transposed one, with the kernel turned round
    std::vector<float> row(g.taps() * g.filters);
    Panels weights(g.channels, g.taps() * g.filters);
    for (int64_t c = 0; c < g.channels; c++) {
      for (int64_t tap = 0; tap < g.taps(); tap++)
        std::memcpy(&row[tap * g.filters], kernel + ((g.taps() - 1 - tap) * g.channels + c) * g.filters,
                    g.filters * sizeof(float));
      weights.set(c, row.data(), 1);
    }
    return scatter(pool, g.turned(), Undo(outer), weights, finish, inner);
  }
  int64_t channels = g.group_channels(), filters = g.group_filters();
  bool merged = g.groups == 1 && g.dilation_x == 1;  // neighbouring taps are one run
  std::vector<Panels> weights(g.groups, Panels(g.taps() * channels, filters));
  for (int64_t group = 0; group < g.groups; group++)
    for (int64_t row = 0; row < g.taps() * channels; row++)
      weights[group].set(row, kernel + row * g.filters + group * filters, 1);

  int64_t parts = bands(pool, g.batch, g.rows);
  Reach across(0, g.columns, g.stride_x, g.left, g.kernel_width, g.dilation_x);
  parallel_for(pool, g.batch * parts, [&](int64_t task) {
    int64_t image = task / parts, part = task % parts;
    int64_t first = share(g.rows, part, parts), count = share(g.rows, part + 1, parts) - first;
    Reach down(first, count, g.stride_y, g.top, g.kernel_height, g.dilation_y);
    Scratch scratch(down.count * across.count * g.channels);
    Window window(scratch.take(down.count * across.count * g.channels), Undo(outer), image, g.height, g.width, g.channels,
                  down.first, down.count, across.first, across.count);
    std::vector<int64_t> runs;
    for (int64_t y = 0; y < g.kernel_height; y++)
      for (int64_t x = 0; x < (merged ? 1 : g.kernel_width); x++)
        runs.push_back(y * g.dilation_y * window.row_length + x * g.dilation_x * g.channels);
    std::vector<const float*> seen(count * g.columns);
    std::vector<float*> out(count * g.columns);
    for (int64_t group = 0; group < g.groups; group++) {
      for (int64_t r = 0, i = 0; r < count; r++)
        for (int64_t c = 0; c < g.columns; c++, i++) {
          seen[i] = window.values + r * g.stride_y * window.row_length + c * g.stride_x * g.channels + group * channels;
          out[i] = inner + ((image * g.rows + first + r) * g.columns + c) * g.filters + group * filters;
        }
      Finish last{finish.bias ? finish.bias + group * filters : nullptr, finish.slope};
      product(seen.data(), out.data(), seen.size(), runs, (merged ? g.kernel_width : 1) * channels, weights[group], last);
    }
  });
}

// For each outer place, what the inner places that see it send back through the kernel. Outer places at one remainder
// modulo the strides are seen by the same taps, so each remainder ("phase") is a convolution of its own.
void backward_outer(ffi::ThreadPool& pool, const Geometry& g, Undo gradient, const float* kernel, Finish finish,
                    float* outer) {
  if (suits_winograd(g)) return winograd_outer(pool, g, gradient, kernel, finish, outer);
  if (suits_strided_winograd(g)) return strided_winograd_outer(pool, g, gradient, kernel, finish, outer);
  if (few(g, g.channels)) {
    Panels weights(g.filters, g.taps() * g.channels);
    for (int64_t k = 0; k < g.filters; k++) weights.set(k, kernel + k, g.filters);
    return scatter(pool, g, gradient, weights, finish, outer);
  }
  int64_t channels = g.group_channels(), filters = g.group_filters();
  struct Tap {
    int64_t tap, row, column;  // which one, and the inner place relative to the quotient of the outer one
  };
  struct Phase {
    std::vector<Tap> taps;
    std::vector<Panels> weights;
  };
  auto floor_div = [](int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); };
  // how far the next place of a phase is from one
  auto ahead = [](int64_t place, int64_t phase, int64_t stride) { return (phase - place % stride + stride) % stride; };
  std::vector<Phase> phases(g.stride_y * g.stride_x);
  int64_t low_row = 0, high_row = 0, low_column = 0, high_column = 0;
  for (int64_t py = 0; py < g.stride_y; py++)
    for (int64_t px = 0; px < g.stride_x; px++) {
      Phase& phase = phases[py * g.stride_x + px];
      for (int64_t y = g.kernel_height - 1; y >= 0; y--)
        for (int64_t x = g.kernel_width - 1; x >= 0; x--) {
          int64_t dy = py - y * g.dilation_y, dx = px - x * g.dilation_x;
          if (dy % g.stride_y || dx % g.stride_x) continue;
          Tap tap{y * g.kernel_width + x, floor_div(dy, g.stride_y), floor_div(dx, g.stride_x)};
          low_row = std::min(low_row, tap.row), high_row = std::max(high_row, tap.row);
          low_column = std::min(low_column, tap.column), high_column = std::max(high_column, tap.column);
          phase.taps.push_back(tap);
        }
      for (int64_t group = 0; group < g.groups; group++) {
        Panels weights(phase.taps.size() * filters, channels);
        for (size_t t = 0; t < phase.taps.size(); t++)
          for (int64_t k = 0; k < filters; k++)
            weights.set(t * filters + k, kernel + phase.taps[t].tap * channels * g.filters + group * filters + k, g.filters);
        phase.weights.push_back(std::move(weights));
      }
    }

  int64_t parts = bands(pool, g.batch, g.height);
  int64_t column_first = g.left / g.stride_x + low_column;
  int64_t column_last = (g.width - 1 + g.left) / g.stride_x + high_column;
  parallel_for(pool, g.batch * parts, [&](int64_t task) {
    int64_t image = task / parts, part = task % parts;
    int64_t first = share(g.height, part, parts), end = share(g.height, part + 1, parts);
    int64_t row_first = (first + g.top) / g.stride_y + low_row, row_last = (end - 1 + g.top) / g.stride_y + high_row;
    int64_t rows = row_last - row_first + 1, columns = column_last - column_first + 1;
    Scratch scratch(rows * columns * g.filters);
    Window window(scratch.take(rows * columns * g.filters), gradient, image, g.rows, g.columns, g.filters, row_first, rows,
                  column_first, columns);
    std::vector<const float*> seen;
    std::vector<float*> out;
    for (int64_t py = 0; py < g.stride_y; py++)
      for (int64_t px = 0; px < g.stride_x; px++) {
        const Phase& phase = phases[py * g.stride_x + px];
        std::vector<int64_t> runs;
        for (const Tap& tap : phase.taps) runs.push_back(tap.row * window.row_length + tap.column * g.filters);
        for (int64_t group = 0; group < g.groups; group++) {
          seen.clear(), out.clear();
          for (int64_t y = first + ahead(first + g.top, py, g.stride_y); y < end; y += g.stride_y) {
            int64_t x = ahead(g.left, px, g.stride_x), row = (y + g.top) / g.stride_y - row_first;
            const float* from = window.values + row * window.row_length + group * filters;
            float* to = outer + g.outer_at(image, y, 0) + group * channels;
            for (int64_t column = (x + g.left) / g.stride_x - column_first; x < g.width; x += g.stride_x, column++)
              seen.push_back(from + column * g.filters), out.push_back(to + x * g.channels);
          }
          Finish last{finish.bias ? finish.bias + group * channels : nullptr, finish.slope};
          if (!seen.empty()) product(seen.data(), out.data(), seen.size(), runs, filters, phase.weights[group], last);
        }
      }
  });
}

// Gradients of the kernel, and of a bias on the inner side (where wanted).
void backward_kernel(ffi::ThreadPool& pool, const Geometry& g, const float* outer, Undo gradient, float* kernel,
                     float* bias) {
  if (suits_winograd(g)) return winograd_kernel(pool, g, outer, gradient, kernel, bias);
  if (suits_strided_winograd(g)) return strided_winograd_kernel(pool, g, outer, gradient, kernel, bias);
  int64_t channels = g.group_channels(), filters = g.group_filters();
  int64_t parts = std::min(PARTS, g.batch);
  // gradients are copied where something is to be undone, or where rows end within a vector
  bool copied = gradient.result || filters % LANES;
  int64_t step = copied ? vectors(filters) * LANES : g.filters;
  std::vector<std::vector<Panels>> totals(parts, std::vector<Panels>(g.groups, Panels(g.taps() * channels, filters)));
  std::vector<std::vector<float>> biases(parts, std::vector<float>(bias ? g.filters : 0));
  Reach across(0, g.columns, g.stride_x, g.left, g.kernel_width, g.dilation_x);
  Reach down(0, g.rows, g.stride_y, g.top, g.kernel_height, g.dilation_y);

  parallel_for(pool, parts, [&](int64_t part) {
    std::vector<int64_t> places(g.taps() * channels);
    std::vector<const float*> seen;
    int64_t count = g.rows * g.columns, at_once = std::max<int64_t>(1, PLACES / count);  // places, and pictures
    int64_t seen_size = down.count * across.count * g.channels;
    Scratch scratch(at_once * seen_size + PLACES * step);
    float *seen_space = scratch.take(at_once * seen_size), *copy = scratch.take(PLACES * step);
    std::vector<Window> windows;
    for (int64_t image = share(g.batch, part, parts), last = share(g.batch, part + 1, parts); image < last;
         image += at_once) {
      windows.clear();
      for (int64_t i = 0; i < std::min(at_once, last - image); i++)
        windows.emplace_back(seen_space + i * seen_size, Undo(outer), image + i, g.height, g.width, g.channels, down.first,
                             down.count, across.first, across.count);
      int64_t row_length = windows[0].row_length;
      for (int64_t y = 0, i = 0; y < g.kernel_height; y++)
        for (int64_t x = 0; x < g.kernel_width; x++)
          for (int64_t c = 0; c < channels; c++, i++)
            places[i] = y * g.dilation_y * row_length + x * g.dilation_x * g.channels + c;
      for (int64_t first = 0, end = windows.size() * count; first < end; first += PLACES) {
        int64_t some = std::min(PLACES, end - first), at = (image * count + first) * g.filters;
        for (int64_t group = 0; group < g.groups; group++) {
          seen.clear();
          Place place{first / count, first % count / g.columns, first % g.columns};
          for (int64_t p = 0; p < some; p++, place.advance(g))
            seen.push_back(windows[place.image].values + place.row * g.stride_y * row_length +
                           place.column * g.stride_x * g.channels + group * channels);
          const float* right = gradient.gradient + at + group * filters;
          if (copied) {
            if (filters == step && g.groups == 1) {
              gradient.copy(at, some * filters, copy);
            } else {
              for (int64_t p = 0; p < some; p++) {
                gradient.copy(at + p * g.filters + group * filters, filters, copy + p * step);
                std::fill(copy + p * step + filters, copy + (p + 1) * step, 0.0f);
              }
            }
            right = copy;
          }
          if (bias) {
            float* to = &biases[part][group * filters];
            for (int64_t k = 0; k < filters; k += LANES) {
              Vector total = load(to + k, filters - k);
              for (int64_t p = 0; p < some; p++) total += load(right + p * step + k);
              store(to + k, total, filters - k);
            }
          }
          add_outer(seen.data(), places, right, step, some, totals[part][group]);
        }
      }
    }
  });

  for (int64_t group = 0; group < g.groups; group++) {
    Panels& total = totals[0][group];
    for (int64_t part = 1; part < parts; part++)
      for (int64_t i = 0; i < total.size(); i++) total.values()[i] += totals[part][group].values()[i];
    for (int64_t panel = 0; panel < total.count(); panel++)
      for (int64_t row = 0; row < total.depth; row++)
        std::memcpy(kernel + row * g.filters + group * filters + total.starts[panel],
                    total.values(panel) + row * total.widths[panel] * LANES,
                    total.valid(panel) * sizeof(float));
  }
  if (bias)
    for (int64_t k = 0; k < g.filters; k++) {
      bias[k] = 0;
      for (int64_t part = 0; part < parts; part++) bias[k] += biases[part][k];
    }
}

ffi::Error convolution(ffi::ThreadPool pool, Floats x, Floats kernel, Floats bias, FloatsOut y, Integers strides,
                       Integers pads, Integers dilation, int64_t groups, float slope) {
  Geometry g(x.dimensions(), kernel.dimensions(), y->dimensions(), strides, pads, dilation, groups);
  const float* added = values_or_null(bias);
  forward(pool, g, x.typed_data(), kernel.typed_data(), {added, slope}, y->typed_data());
  return ffi::Error::Success();
}

// The gradient of the outer side, and, with bias and activation, the transposed convolution.
ffi::Error convolution_outer(ffi::ThreadPool pool, Floats gradient, Floats result, Floats kernel, Floats bias,
                             FloatsOut outer, Integers strides, Integers pads, Integers dilation, int64_t groups,
                             float undone, float slope) {
  Geometry g(outer->dimensions(), kernel.dimensions(), gradient.dimensions(), strides, pads, dilation, groups);
  const float* added = values_or_null(bias);
  backward_outer(pool, g, Undo(gradient, result, undone), kernel.typed_data(), {added, slope}, outer->typed_data());
  return ffi::Error::Success();
}

ffi::Error convolution_kernel(ffi::ThreadPool pool, Floats outer, Floats gradient, Floats result, FloatsOut kernel,
                              FloatsOut bias, Integers strides, Integers pads, Integers dilation, int64_t groups,
                              float undone) {
  Geometry g(outer.dimensions(), kernel->dimensions(), gradient.dimensions(), strides, pads, dilation, groups);
  float* added = values_or_null(*bias);
  backward_kernel(pool, g, outer.typed_data(), Undo(gradient, result, undone), kernel->typed_data(), added);
  return ffi::Error::Success();
}

#define GEOMETRY Attr<Integers>("strides").Attr<Integers>("pads").Attr<Integers>("dilation").Attr<int64_t>("groups")

LAMINA_HANDLER(convolution, convolution,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                   .Ret<ffi::Buffer<ffi::F32>>().GEOMETRY.Attr<float>("slope"));
LAMINA_HANDLER(convolution_outer, convolution_outer,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                   .Ret<ffi::Buffer<ffi::F32>>().GEOMETRY.Attr<float>("undone").Attr<float>("slope"));
LAMINA_HANDLER(convolution_kernel, convolution_kernel,
               ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                   .Ret<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>().GEOMETRY.Attr<float>("undone"));

}  // namespace
}  // namespace lamina
