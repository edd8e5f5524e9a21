// With tiles d of 4 by 4 places, kernels g of 2 by 2 and results y of 3 by 3, and matrices
//
//       | 1  0 -1  0 |        |  1    0  |
//   B = | 0  1  1  0 |    G = | 1/2  1/2 |    A = | 1  1  1  0 |
//       | 0 -1  1  0 |        | 1/2 -1/2 |        | 0  1 -1  0 |
//       | 0  1  0 -1 |        |  0    1  |        | 0  1  1 -1 |
//
// y = A [(G g G') * (B d B')] A', where * is by elements: over channels and filters, products of matrices with a row for each
// tile, one for each of the 16 spots. Two results need the first three spots only, so a picture of 7 by 7 results, which is
// cut into 3 + 2 + 2, takes 10 by 10 products and none for results that are not there.
//
// Of the four kernels that a kernel of 4 by 4 consists of, one for each phase, place (i, j) is its place
// (2 i + phase / 2, 2 j + phase % 2), and so it is with the picture, counted from its padding on. Forward, the phases follow
// each other in the rows of the matrices. Back to the input, a tile sends B' [(G g G') * (A' y A)] B to its places in every
// phase, to which neighbours add theirs. The gradient of the kernel is G' [sum over tiles of (A' y A) * (B d B')] G.

#include "winograd.h"

#include "scratch.h"
#include "spots.h"

namespace lamina {
namespace {

constexpr int RESULTS = 9, PHASES = 4;
// How many tiles are worked on at once: so many that weights are not read too often, and few enough to stay in the cache.
constexpr int64_t TILES = 36, KERNEL_TILES = 72;

// `size` results in a direction, in tiles of three, and of two at the end.
struct Cut {
  int64_t tiles, large;

  explicit Cut(int64_t size) : tiles((size + 2) / 3), large(size - 2 * tiles) {}
  int64_t begin(int64_t tile) const { return 2 * tile + std::min(tile, large); }
  int64_t size(int64_t tile) const { return tile < large ? 3 : 2; }
};

// A convolution in tiles, of which so many are worked on at once.
struct Tiling : Geometry {
  Cut down, across;
  int64_t depth = PHASES * channels, at_once;
  // Spots lie a little further apart than that takes, so that theirs do not all fall on the same lines of the cache.
  int64_t outer_step = at_once * depth + LANES, inner_step = at_once * filters + LANES;

  Tiling(const Geometry& g, int64_t at_once) : Geometry(g), down(rows), across(columns), at_once(at_once) {}
  // One whose tiles cover all of the outer picture, also what no result sees.
  static Tiling back(const Geometry& g, int64_t at_once) {
    Tiling t(g, at_once);
    t.down = Cut(std::max(g.rows, (g.height - 1 + g.top) / 2));
    t.across = Cut(std::max(g.columns, (g.width - 1 + g.left) / 2));
    return t;
  }
  int64_t tiles() const { return batch * down.tiles * across.tiles; }
  int64_t space() const { return SPOTS * (outer_step + inner_step); }
};

// A tile: how many in its picture are above it and beside it, the first of its results, and how many those are.
struct Tile {
  int64_t image, down, across, row, column, height, width;

  Tile(const Tiling& t, int64_t number)
      : image(number / (t.down.tiles * t.across.tiles)), down(number / t.across.tiles % t.down.tiles),
        across(number % t.across.tiles), row(t.down.begin(down)), column(t.across.begin(across)),
        height(t.down.size(down)), width(t.across.size(across)) {}

  bool has(int spot) const { return spot / 4 <= height && spot % 4 <= width; }
};

// How many rows the matrix of each spot has: those of the tiles that have the spot.
struct Lengths {
  int64_t of[SPOTS] = {};

  void add(const Tile& tile) {
    for (int spot = 0; spot < SPOTS; spot++) of[spot] += tile.has(spot);
  }
};

// The places of a tile in a picture, or its rows in the matrices of the spots; null where there is none.
template <typename Number>
struct Places {
  Number* at[SPOTS];

  template <typename Find>
  explicit Places(Find find) {
    for (int spot = 0; spot < SPOTS; spot++) at[spot] = find(spot);
  }

  void read(int64_t number, Vector (&in)[SPOTS]) const {
#pragma GCC unroll 16
    for (int spot = 0; spot < SPOTS; spot++) in[spot] = at[spot] ? load(at[spot] + number) : Vector{};
  }

  void write(int64_t number, const Vector (&out)[SPOTS]) const {
#pragma GCC unroll 16
    for (int spot = 0; spot < SPOTS; spot++)
      if (at[spot]) store(at[spot] + number, out[spot]);
  }
};

template <typename Number>
Places<Number> rows_of(const Tile& tile, const Lengths& before, Number* matrices, int64_t matrix_step, int64_t row_step) {
  return Places<Number>([&](int spot) {
    return tile.has(spot) ? matrices + spot * matrix_step + before.of[spot] * row_step : nullptr;
  });
}

// Those in one phase of the outer picture.
template <typename Number>
Places<Number> seen_by(const Tiling& t, const Tile& tile, int64_t phase, Number* picture) {
  return Places<Number>([&](int spot) {
    int64_t y = 2 * (tile.row + spot / 4) + phase / 2 - t.top, x = 2 * (tile.column + spot % 4) + phase % 2 - t.left;
    bool there = tile.has(spot) && y >= 0 && y < t.height && x >= 0 && x < t.width;
    return there ? picture + t.outer_at(tile.image, y, x) : nullptr;
  });
}

// Which place of the kernel of 4 by 4 a place of a phase's kernel is.
int64_t tap(int64_t phase, int64_t place) { return (2 * (place / 2) + phase / 2) * 4 + 2 * (place % 2) + phase % 2; }

// in = B in B'
inline void transform_seen(Vector (&in)[SPOTS]) {
  auto times = [&](int first, int step) {
    Vector a = in[first], b = in[first + step], c = in[first + 2 * step], d = in[first + 3 * step];
    in[first] = a - c, in[first + step] = b + c, in[first + 2 * step] = c - b, in[first + 3 * step] = b - d;
  };
#pragma GCC unroll 4
  for (int x = 0; x < 4; x++) times(x, 4);
#pragma GCC unroll 4
  for (int y = 0; y < 4; y++) times(4 * y, 1);
}

// in = B' in B
inline void transform_sent(Vector (&in)[SPOTS]) {
  auto times = [&](int first, int step) {
    Vector a = in[first], b = in[first + step], c = in[first + 2 * step], d = in[first + 3 * step];
    in[first + step] = b - c + d, in[first + 2 * step] = b + c - a, in[first + 3 * step] = -d;
  };
#pragma GCC unroll 4
  for (int x = 0; x < 4; x++) times(x, 4);
#pragma GCC unroll 4
  for (int y = 0; y < 4; y++) times(4 * y, 1);
}

// out = A in A'
inline void transform_result(const Vector (&in)[SPOTS], Vector (&out)[RESULTS]) {
  Vector half[12];
#pragma GCC unroll 4
  for (int x = 0; x < 4; x++) {
    Vector both = in[4 + x] + in[8 + x];
    half[x] = in[x] + both, half[4 + x] = in[4 + x] - in[8 + x], half[8 + x] = both - in[12 + x];
  }
#pragma GCC unroll 3
  for (int y = 0; y < 3; y++) {
    const Vector* row = half + 4 * y;
    Vector both = row[1] + row[2];
    out[3 * y] = row[0] + both, out[3 * y + 1] = row[1] - row[2], out[3 * y + 2] = both - row[3];
  }
}

// out = A' in A
inline void transform_gradient(const Vector (&in)[RESULTS], Vector (&out)[SPOTS]) {
  Vector half[12];
#pragma GCC unroll 3
  for (int x = 0; x < 3; x++) {
    Vector ends = in[x] + in[6 + x], middle = in[3 + x];
    half[x] = in[x], half[3 + x] = ends + middle, half[6 + x] = ends - middle, half[9 + x] = -in[6 + x];
  }
#pragma GCC unroll 4
  for (int y = 0; y < 4; y++) {
    const Vector* row = half + 3 * y;
    Vector ends = row[0] + row[2];
    out[4 * y] = row[0], out[4 * y + 1] = ends + row[1], out[4 * y + 2] = ends - row[1], out[4 * y + 3] = -row[2];
  }
}

// out = G in G'
inline void transform_kernel(const Vector (&in)[4], Vector (&out)[SPOTS]) {
  Vector half[8];
#pragma GCC unroll 2
  for (int x = 0; x < 2; x++) {
    half[x] = in[x], half[6 + x] = in[2 + x];
    half[2 + x] = 0.5f * (in[x] + in[2 + x]), half[4 + x] = 0.5f * (in[x] - in[2 + x]);
  }
#pragma GCC unroll 4
  for (int y = 0; y < 4; y++) {
    Vector first = half[2 * y], last = half[2 * y + 1];
    out[4 * y] = first, out[4 * y + 1] = 0.5f * (first + last), out[4 * y + 2] = 0.5f * (first - last);
    out[4 * y + 3] = last;
  }
}

// out = G' in G
inline void transform_total(const Vector (&in)[SPOTS], Vector (&out)[4]) {
  Vector half[8];
#pragma GCC unroll 4
  for (int x = 0; x < 4; x++) {
    half[x] = in[x] + 0.5f * (in[4 + x] + in[8 + x]);
    half[4 + x] = 0.5f * (in[4 + x] - in[8 + x]) + in[12 + x];
  }
#pragma GCC unroll 2
  for (int y = 0; y < 2; y++) {
    const Vector* row = half + 4 * y;
    out[2 * y] = row[0] + 0.5f * (row[1] + row[2]), out[2 * y + 1] = 0.5f * (row[1] - row[2]) + row[3];
  }
}

// seen[spot][tile][phase and channel] for the tiles [first, first + count)
Lengths gather(const Tiling& t, const float* picture, int64_t first, int64_t count, float* seen) {
  Lengths lengths;
  for (int64_t i = 0; i < count; i++) {
    Tile tile(t, first + i);
    for (int phase = 0; phase < PHASES; phase++) {
      auto from = seen_by(t, tile, phase, picture);
      auto to = rows_of(tile, lengths, seen + phase * t.channels, t.outer_step, t.depth);
      for (int64_t c = 0; c < t.channels; c += LANES) {
        Vector in[SPOTS];
        from.read(c, in);
        transform_seen(in);
        to.write(c, in);
      }
    }
    lengths.add(tile);
  }
  return lengths;
}

void finish_results(const Tiling& t, const float* made, int64_t first, int64_t count, Finish finish, float* inner) {
  Lengths lengths;
  for (int64_t i = 0; i < count; i++) {
    Tile tile(t, first + i);
    auto from = rows_of(tile, lengths, made, t.inner_step, t.filters);
    for (int64_t k = 0; k < t.filters; k += LANES) {
      Vector in[SPOTS], out[RESULTS], bias = finish.bias ? load(finish.bias + k) : Vector{};
      from.read(k, in);
      transform_result(in, out);
      for (int64_t y = 0; y < tile.height; y++)
        for (int64_t x = 0; x < tile.width; x++)
          store(inner + t.inner_at(tile.image, tile.row + y, tile.column + x) + k,
                activated(out[3 * y + x] + bias, finish.slope));
    }
    lengths.add(tile);
  }
}

// given[spot][tile][filter] of a gradient, which is added to the bias'.
Lengths spread(const Tiling& t, const Undo& gradient, int64_t first, int64_t count, float* given, float* bias) {
  Lengths lengths;
  for (int64_t i = 0; i < count; i++) {
    Tile tile(t, first + i);
    auto to = rows_of(tile, lengths, given, t.inner_step, t.filters);
    for (int64_t k = 0; k < t.filters; k += LANES) {
      Vector in[RESULTS] = {}, out[SPOTS], total{};
      for (int64_t y = 0; y < std::min(tile.height, t.rows - tile.row); y++)
        for (int64_t x = 0; x < std::min(tile.width, t.columns - tile.column); x++)
          total += in[3 * y + x] = gradient.at(t.inner_at(tile.image, tile.row + y, tile.column + x) + k, LANES);
      transform_gradient(in, out);
      to.write(k, out);
      if (bias) store(bias + k, load(bias + k) + total);
    }
    lengths.add(tile);
  }
  return lengths;
}

// Adds what tiles send to their places; those of the lines of tiles [begin, end) alone, to which the line before them, which is
// among the tiles, sends too.
void finish_places(const Tiling& t, const float* made, int64_t begin, int64_t end, int64_t first, int64_t count, Finish finish,
                   float* outer) {
  Lengths lengths;
  for (int64_t i = 0; i < count; i++) {
    Tile tile(t, first + i);
    int64_t line = tile.image * t.down.tiles + tile.down;
    bool lowest = tile.down + 1 == t.down.tiles, last = tile.across + 1 == t.across.tiles, added[SPOTS], done[SPOTS];
    for (int spot = 0; spot < SPOTS; spot++) {
      int y = spot / 4, x = spot % 4;
      added[spot] = (y == 0 && tile.down > 0) || (x == 0 && tile.across > 0);
      done[spot] = (y < tile.height || lowest) && (x < tile.width || last);
    }
    for (int phase = 0; phase < PHASES; phase++) {
      auto from = rows_of(tile, lengths, made + phase * t.channels, t.outer_step, t.depth);
      auto to = seen_by(t, tile, phase, outer);
      for (int spot = 0; spot < SPOTS; spot++) {
        int64_t owner = line + (spot / 4 == tile.height && !lowest);
        if (owner < begin || owner >= end) to.at[spot] = nullptr;
      }
      for (int64_t c = 0; c < t.channels; c += LANES) {
        Vector out[SPOTS], bias = finish.bias ? load(finish.bias + c) : Vector{};
        from.read(c, out);
        transform_sent(out);
#pragma GCC unroll 16
        for (int spot = 0; spot < SPOTS; spot++) {
          if (!to.at[spot]) continue;
          if (added[spot]) out[spot] += load(to.at[spot] + c);
          store(to.at[spot] + c, done[spot] ? activated(out[spot] + bias, finish.slope) : out[spot]);
        }
      }
    }
    lengths.add(tile);
  }
}

// G g G' of the kernels of all phases, which follow each other
Spots transformed(ffi::ThreadPool& pool, const Geometry& g, const float* kernel) {
  Spots all(PHASES * g.channels, g.filters);
  parallel_for(pool, all.rows / LANES, [&](int64_t part) {
    for (int64_t row = part * LANES; row < (part + 1) * LANES; row++) {
      int64_t phase = row / g.channels, c = row % g.channels;
      for (int64_t k = 0; k < g.filters; k += LANES) {
        Vector in[4], out[SPOTS];
        for (int place = 0; place < 4; place++)
          in[place] = load(kernel + (tap(phase, place) * g.channels + c) * g.filters + k);
        transform_kernel(in, out);
        for (int spot = 0; spot < SPOTS; spot++) store(all[spot] + row * all.step + k, out[spot]);
      }
    }
  });
  return all;
}

// made = left times the weights, spot by spot
void multiply_spots(const float* left, int64_t left_step, const Lengths& lengths, const Spots& weights, float* made,
                    int64_t made_step) {
  for (int spot = 0; spot < SPOTS; spot++)
    multiply<Contiguous::ROWS>({left + spot * left_step, weights.rows}, {weights[spot], weights.step}, lengths.of[spot],
                               weights.rows, weights.step / LANES, {made + spot * made_step, weights.step}, false);
}

}  // namespace

bool suits_strided_winograd(const Geometry& g) {
  return g.kernel_height == 4 && g.kernel_width == 4 && g.groups == 1 && g.stride_y == 2 && g.stride_x == 2 &&
         g.dilation_y == 1 && g.dilation_x == 1 && g.channels % LANES == 0 && g.filters % LANES == 0 &&
         std::min(g.rows, g.columns) > 2;
}

void strided_winograd_forward(ffi::ThreadPool& pool, const Geometry& g, const float* outer, const float* kernel,
                              Finish finish, float* inner) {
  int64_t each = Tiling(g, TILES).tiles() / pool.num_threads();
  Tiling t(g, std::clamp<int64_t>(each, 6, TILES));
  Spots weights = transformed(pool, g, kernel);
  parallel_for(pool, (t.tiles() + t.at_once - 1) / t.at_once, [&](int64_t block) {
    int64_t first = block * t.at_once, count = std::min(t.at_once, t.tiles() - first);
    Scratch scratch(t.space());
    float *seen = scratch.take(SPOTS * t.outer_step), *made = scratch.take(SPOTS * t.inner_step);
    Lengths lengths = gather(t, outer, first, count, seen);
    multiply_spots(seen, t.outer_step, lengths, weights, made, t.inner_step);
    finish_results(t, made, first, count, finish, inner);
  });
}

void strided_winograd_outer(ffi::ThreadPool& pool, const Geometry& g, Undo gradient, const float* kernel, Finish finish,
                            float* outer) {
  Tiling t = Tiling::back(g, TILES);
  Spots weights = transformed(pool, g, kernel).transposed(pool, [](int64_t spot) { return spot; });
  // some pictures for each task, or for few pictures some lines of tiles of one
  int64_t lines = t.down.tiles, threads = pool.num_threads();
  int64_t pictures = std::clamp<int64_t>(g.batch / threads, 1, std::max<int64_t>(1, TILES / (lines * t.across.tiles)));
  int64_t groups = (g.batch + pictures - 1) / pictures, bands = std::clamp<int64_t>(threads / groups, 1, lines);
  parallel_for(pool, groups * bands, [&](int64_t task) {
    int64_t above = task / bands * pictures * lines, all = pictures * lines, band = task % bands;
    int64_t begin = above + share(all, band, bands);
    int64_t end = std::min(above + share(all, band + 1, bands), g.batch * lines);
    Scratch scratch(t.space());
    float *made = scratch.take(SPOTS * t.outer_step), *given = scratch.take(SPOTS * t.inner_step);
    int64_t last = end * t.across.tiles;
    for (int64_t first = (begin % lines ? begin - 1 : begin) * t.across.tiles; first < last; first += t.at_once) {
      int64_t count = std::min(t.at_once, last - first);
      Lengths lengths = spread(t, gradient, first, count, given, nullptr);
      multiply_spots(given, t.inner_step, lengths, weights, made, t.outer_step);
      finish_places(t, made, begin, end, first, count, finish, outer);
    }
  });
}

void strided_winograd_kernel(ffi::ThreadPool& pool, const Geometry& g, const float* outer, Undo gradient, float* kernel,
                             float* bias) {
  Tiling t(g, KERNEL_TILES);
  KernelTotals totals(std::min(PARTS, g.batch), t.depth, g.filters);
  parallel_for(pool, totals.parts(), [&](int64_t part) {
    Scratch scratch(t.space());
    float *seen = scratch.take(SPOTS * t.outer_step), *given = scratch.take(SPOTS * t.inner_step);
    int64_t last = share(t.tiles(), part + 1, totals.parts());
    for (int64_t first = share(t.tiles(), part, totals.parts()); first < last; first += t.at_once) {
      int64_t count = std::min(t.at_once, last - first);
      gather(t, outer, first, count, seen);
      Lengths lengths = spread(t, gradient, first, count, given, totals.bias(part));
      totals.add(part, {seen, t.depth}, t.outer_step, {given, g.filters}, t.inner_step,
                 [&](int spot) { return lengths.of[spot]; });
    }
  });
  totals.finish(pool, bias, [&](int64_t row, int64_t k, const Vector(&sums)[SPOTS]) {
    Vector out[4];
    transform_total(sums, out);
    int64_t phase = row / g.channels, c = row % g.channels;
    for (int place = 0; place < 4; place++)
      store(kernel + (tap(phase, place) * g.channels + c) * g.filters + k, out[place]);
  });
}

}  // namespace lamina
