// With tiles d of 3 by 3 places, kernels g of 2 by 2 and results y of 2 by 2, and matrices
//
//       | 1 -1  0 |        | 1  0 |
//   B = | 0  1  0 |    G = | 1  1 |    A = | 1  1  0 |
//       | 0 -1  1 |        | 0  1 |        | 0  1  1 |
//
// y = A [(G g G') * (B d B')] A', where * is by elements: over channels and filters, 9 products of matrices with a row for
// each tile. Of the four kernels that a kernel of 4 by 4 consists of, one for each phase, place (i, j) is its place
// (2 i + phase / 2, 2 j + phase % 2), and so it is with the picture, counted from its padding on. Forward, the phases follow
// each other in the rows of the matrices. Back to the input, all phases see the same tile, with their kernels turned round.
// The gradient of the kernel is G' [sum over tiles of (A' y A) * (B d B')] G.

#include "winograd.h"

#include "scratch.h"
#include "spots.h"
#include "tiles.h"

namespace lamina {
namespace {

constexpr int SPOTS = 9, PHASES = 4;

// A convolution in tiles; of its results, or with `back` of its input.
struct Tiling : Geometry {
  int64_t first_row, first_column, down, across;  // the first place in each phase, and how many tiles there are
  int64_t depth = PHASES * channels;
  // As many tiles at once as keep most of the level-2 cache full; see winograd.cc.
  int64_t at_once = std::clamp<int64_t>(18432 / (depth + filters) / 24 * 24, 24, 192);
  int64_t outer_step = at_once * depth + LANES, inner_step = at_once * filters + LANES;

  Tiling(const Geometry& g, bool back) : Geometry(g) {
    first_row = back ? top / 2 : 0, first_column = back ? left / 2 : 0;
    down = ((back ? (height - 1 + top) / 2 + 1 : rows) - first_row + 1) / 2;
    across = ((back ? (width - 1 + left) / 2 + 1 : columns) - first_column + 1) / 2;
  }
  int64_t tiles() const { return batch * down * across; }
  int64_t space() const { return SPOTS * (outer_step + inner_step); }
  int64_t outer_row(int64_t place, int64_t phase) const { return 2 * place + phase / 2 - top; }
  int64_t outer_column(int64_t place, int64_t phase) const { return 2 * place + phase % 2 - left; }
};

// Where a tile begins.
struct Corner {
  int64_t image, row, column;

  Corner(const Tiling& t, int64_t number)
      : image(number / (t.down * t.across)), row(t.first_row + number / t.across % t.down * 2),
        column(t.first_column + number % t.across * 2) {}
};

// Which place of the kernel of 4 by 4 a place of a phase's kernel is.
int64_t tap(int64_t phase, int64_t place) { return (2 * (place / 2) + phase / 2) * 4 + 2 * (place % 2) + phase % 2; }

bool inside(int64_t y, int64_t x, int64_t height, int64_t width) { return y >= 0 && y < height && x >= 0 && x < width; }

// B in B', each number to the matrix of its spot
inline void store_seen(const Vector (&in)[SPOTS], float* to, int64_t step) {
  Vector half[SPOTS];
#pragma GCC unroll 3
  for (int x = 0; x < 3; x++) half[x] = in[x] - in[3 + x], half[3 + x] = in[3 + x], half[6 + x] = in[6 + x] - in[3 + x];
#pragma GCC unroll 3
  for (int y = 0; y < 3; y++) {
    store(to + 3 * y * step, half[3 * y] - half[3 * y + 1]);
    store(to + (3 * y + 1) * step, half[3 * y + 1]);
    store(to + (3 * y + 2) * step, half[3 * y + 2] - half[3 * y + 1]);
  }
}

// A' in A, each number to the matrix of its spot
inline void store_given(const Vector (&in)[4], float* to, int64_t step) {
  Vector middle[] = {in[0] + in[2], in[1] + in[3]};
  store(to, in[0]), store(to + step, in[0] + in[1]), store(to + 2 * step, in[1]);
  store(to + 3 * step, middle[0]), store(to + 4 * step, middle[0] + middle[1]), store(to + 5 * step, middle[1]);
  store(to + 6 * step, in[2]), store(to + 7 * step, in[2] + in[3]), store(to + 8 * step, in[3]);
}

// A in A', or G' in G, which is the same
inline void load_made(const float* from, int64_t step, Vector (&out)[4]) {
  Vector half[6];
#pragma GCC unroll 3
  for (int x = 0; x < 3; x++) {
    Vector middle = load(from + (3 + x) * step);
    half[x] = load(from + x * step) + middle, half[3 + x] = middle + load(from + (6 + x) * step);
  }
  out[0] = half[0] + half[1], out[1] = half[1] + half[2], out[2] = half[3] + half[4], out[3] = half[4] + half[5];
}

// seen[spot][tile][phase and channel]
void see_outer(const Tiling& t, const float* picture, int64_t first, int64_t count, float* seen) {
  for (int64_t i = 0; i < count; i++) {
    Corner tile(t, first + i);
    for (int phase = 0; phase < PHASES; phase++) {
      const float* from[SPOTS];
      for (int spot = 0; spot < SPOTS; spot++) {
        int64_t y = t.outer_row(tile.row + spot / 3, phase), x = t.outer_column(tile.column + spot % 3, phase);
        from[spot] = inside(y, x, t.height, t.width) ? picture + t.outer_at(tile.image, y, x) : nullptr;
      }
      for (int64_t c = 0; c < t.channels; c += LANES) {
        Vector in[SPOTS];
#pragma GCC unroll 9
        for (int spot = 0; spot < SPOTS; spot++) in[spot] = from[spot] ? load(from[spot] + c) : Vector{};
        store_seen(in, seen + i * t.depth + phase * t.channels + c, t.outer_step);
      }
    }
  }
}

// seen[spot][tile][filter], of the places around each one
void see_inner(const Tiling& t, const Undo& gradient, int64_t first, int64_t count, float* seen) {
  for (int64_t i = 0; i < count; i++) {
    Corner tile(t, first + i);
    for (int64_t k = 0; k < t.filters; k += LANES) {
      Vector in[SPOTS];
#pragma GCC unroll 9
      for (int spot = 0; spot < SPOTS; spot++) {
        int64_t y = tile.row - 1 + spot / 3, x = tile.column - 1 + spot % 3;
        bool there = inside(y, x, t.rows, t.columns);
        in[spot] = there ? gradient.at(t.inner_at(tile.image, y, x) + k, LANES) : Vector{};
      }
      store_seen(in, seen + i * t.filters + k, t.inner_step);
    }
  }
}

void finish_inner(const Tiling& t, const float* made, int64_t first, int64_t count, Finish finish, float* inner) {
  for (int64_t i = 0; i < count; i++) {
    Corner tile(t, first + i);
    for (int64_t k = 0; k < t.filters; k += LANES) {
      Vector out[4], bias = finish.bias ? load(finish.bias + k) : Vector{};
      load_made(made + i * t.filters + k, t.inner_step, out);
      for (int spot = 0; spot < 4; spot++) {
        int64_t y = tile.row + spot / 2, x = tile.column + spot % 2;
        if (y < t.rows && x < t.columns)
          store(inner + t.inner_at(tile.image, y, x) + k, activated(out[spot] + bias, finish.slope));
      }
    }
  }
}

void finish_outer(const Tiling& t, const float* made, int64_t first, int64_t count, Finish finish, float* outer) {
  for (int64_t i = 0; i < count; i++) {
    Corner tile(t, first + i);
    for (int phase = 0; phase < PHASES; phase++)
      for (int64_t c = 0; c < t.channels; c += LANES) {
        Vector out[4], bias = finish.bias ? load(finish.bias + c) : Vector{};
        load_made(made + i * t.depth + phase * t.channels + c, t.outer_step, out);
        for (int spot = 0; spot < 4; spot++) {
          int64_t y = t.outer_row(tile.row + spot / 2, phase), x = t.outer_column(tile.column + spot % 2, phase);
          if (inside(y, x, t.height, t.width))
            store(outer + t.outer_at(tile.image, y, x) + c, activated(out[spot] + bias, finish.slope));
        }
      }
  }
}

// G g G' of the kernels of all phases, which follow each other
Spots transformed(const Geometry& g, const float* kernel) {
  Spots all(SPOTS, PHASES * g.channels, g.filters);
  for (int64_t row = 0; row < all.rows; row++) {
    int64_t phase = row / g.channels, c = row % g.channels;
    for (int64_t k = 0; k < g.filters; k += LANES) {
      Vector in[4];
      for (int place = 0; place < 4; place++)
        in[place] = load(kernel + (tap(phase, place) * g.channels + c) * g.filters + k);
      store_given(in, all[0] + row * all.step + k, all.rows * all.step);  // G is A'
    }
  }
  return all;
}

// For all tiles, a block of them at a time: see(first, count, seen), products with `weights`, finish(first, count, made).
template <typename See, typename Finishing>
void convolve(ffi::ThreadPool& pool, const Tiling& t, const Spots& weights, int64_t seen_step, int64_t made_step, See see,
              Finishing finish) {
  parallel_for(pool, (t.tiles() + t.at_once - 1) / t.at_once, [&](int64_t block) {
    int64_t first = block * t.at_once, count = std::min(t.at_once, t.tiles() - first);
    Scratch scratch(t.space());
    float *seen = scratch.take(SPOTS * seen_step), *made = scratch.take(SPOTS * made_step);
    see(first, count, seen);
    for (int spot = 0; spot < SPOTS; spot++)
      multiply<Contiguous::ROWS>({seen + spot * seen_step, weights.rows}, {weights[spot], weights.step}, count, weights.rows,
                                 weights.step / LANES, {made + spot * made_step, weights.step}, false);
    finish(first, count, made);
  });
}

}  // namespace

bool suits_strided_winograd(const Geometry& g) {
  return g.kernel_height == 4 && g.kernel_width == 4 && g.groups == 1 && g.stride_y == 2 && g.stride_x == 2 &&
         g.dilation_y == 1 && g.dilation_x == 1 && g.channels % LANES == 0 && g.filters % LANES == 0 &&
         std::min(g.rows, g.columns) > 2;
}

void strided_winograd_forward(ffi::ThreadPool& pool, const Geometry& g, const float* outer, const float* kernel,
                              Finish finish, float* inner) {
  Tiling t(g, false);
  convolve(
      pool, t, transformed(g, kernel), t.outer_step, t.inner_step,
      [&](int64_t first, int64_t count, float* seen) { see_outer(t, outer, first, count, seen); },
      [&](int64_t first, int64_t count, const float* made) { finish_inner(t, made, first, count, finish, inner); });
}

void strided_winograd_outer(ffi::ThreadPool& pool, const Geometry& g, Undo gradient, const float* kernel, Finish finish,
                            float* outer) {
  Tiling t(g, true);
  Spots turned = transformed(g, kernel).transposed([](int64_t spot) { return SPOTS - 1 - spot; });
  convolve(
      pool, t, turned, t.inner_step, t.outer_step,
      [&](int64_t first, int64_t count, float* seen) { see_inner(t, gradient, first, count, seen); },
      [&](int64_t first, int64_t count, const float* made) { finish_outer(t, made, first, count, finish, outer); });
}

void strided_winograd_kernel(ffi::ThreadPool& pool, const Geometry& g, const float* outer, Undo gradient, float* kernel,
                             float* bias) {
  Tiling t(g, false);
  int64_t parts = std::min(PARTS, g.batch);
  std::vector<Spots> totals(parts, Spots(SPOTS, t.depth, g.filters));
  std::vector<Aligned> biases(parts, Aligned(g.filters));
  parallel_for(pool, parts, [&](int64_t part) {
    Scratch scratch(t.space());
    float *seen = scratch.take(SPOTS * t.outer_step), *given = scratch.take(SPOTS * t.inner_step);
    for (int64_t first = share(t.tiles(), part, parts), last = share(t.tiles(), part + 1, parts); first < last;
         first += t.at_once) {
      int64_t count = std::min(t.at_once, last - first);
      see_outer(t, outer, first, count, seen);
      for (int64_t i = 0; i < count; i++) {
        Corner tile(t, first + i);
        for (int64_t k = 0; k < g.filters; k += LANES) {
          Vector in[4];
          for (int spot = 0; spot < 4; spot++) {
            int64_t y = tile.row + spot / 2, x = tile.column + spot % 2;
            in[spot] = y < g.rows && x < g.columns ? gradient.at(g.inner_at(tile.image, y, x) + k, LANES) : Vector{};
          }
          float* total = &biases[part][k];
          store(total, load(total) + ((in[0] + in[1]) + (in[2] + in[3])));
          store_given(in, given + i * g.filters + k, t.inner_step);
        }
      }
      for (int spot = 0; spot < SPOTS; spot++)
        multiply<Contiguous::COLUMNS>({seen + spot * t.outer_step, t.depth}, {given + spot * t.inner_step, g.filters}, t.depth,
                                      count, g.filters / LANES, {totals[part][spot], g.filters}, true);
    }
  });

  parallel_for(pool, t.depth, [&](int64_t row) {
    int64_t phase = row / g.channels, c = row % g.channels, size = t.depth * g.filters;
    for (int64_t k = 0; k < g.filters; k += LANES) {
      Vector out[4];
      float* sum = totals[0][0] + row * g.filters + k;
      for (int64_t part = 1; part < parts; part++)
        for (int spot = 0; spot < SPOTS; spot++)
          store(sum + spot * size, load(sum + spot * size) + load(totals[part][spot] + row * g.filters + k));
      load_made(sum, size, out);
      for (int place = 0; place < 4; place++)
        store(kernel + (tap(phase, place) * g.channels + c) * g.filters + k, out[place]);
    }
  });
  if (bias)
    for (int64_t k = 0; k < g.filters; k++) {
      bias[k] = biases[0][k];
      for (int64_t part = 1; part < parts; part++) bias[k] += biases[part][k];
    }
}

}  // namespace lamina
