// With tiles d of 4 by 4 places, kernels g of 2 by 2 and results y of 3 by 3, and matrices
//
//       | 1  0 -1  0 |        |  1    0  |
//   B = | 0  1  1  0 |    G = | 1/2  1/2 |    A = | 1  1  1  0 |
//       | 0 -1  1  0 |        | 1/2 -1/2 |        | 0  1 -1  0 |
//       | 0  1  0 -1 |        |  0    1  |        | 0  1  1 -1 |
//
// y = A [(G g G') * (B d B')] A', where * is by elements: over channels and filters, products of matrices with a row for each
// tile, one for each of the 16 spots. Two results need three spots only, the third of the four being left out, with
//
//   B = | 1 -1  0 |        A = | 1  1  0 |
//       | 0  2  0 |            | 0  1  1 |
//       | 0 -1  1 |
//
// so a picture of 7 by 7 results, which is cut into 3 + 2 + 2, takes 10 by 10 products and none for results that are not there.
//
// Of the four kernels that a kernel of 4 by 4 consists of, one for each phase, place (i, j) is its place
// (2 i + phase / 2, 2 j + phase % 2), and so it is with the picture, counted from its padding on. A kernel of 3 by 3 has a
// single place up and down in the last two phases, and across in the second and the fourth: its weights are zero there at the
// last spots, which do without these phases. Instead of 10 by 10 products in each phase that makes 10 by 10, 10 by 7, 7 by 10
// and 7 by 7. Forward, the phases that a spot has follow each other in the rows of its matrices. Back to the input, a tile sends
// B' [(G g G') * (A' y A)] B to its places in every phase, to which neighbours add theirs. The gradient of the kernel is
// G' [sum over tiles of (A' y A) * (B d B')] G.

#include "winograd.h"

#include "scratch.h"
#include "spots.h"

namespace lamina {
namespace {

constexpr int SPOTS = 16, RESULTS = 9, PHASES = 4, TAPS = 4;
// How many tiles are worked on at once: so many that weights are not read too often, and few enough to stay in the cache.
constexpr int64_t TILES = 36, KERNEL_TILES = 72;

// `size` results in a direction, in tiles of three, and of two at the end.
struct Cut {
  int64_t tiles, large;

  explicit Cut(int64_t size) : tiles((size + 2) / 3), large(size - 2 * tiles) {}
  int64_t begin(int64_t tile) const { return 2 * tile + std::min(tile, large); }
  int64_t size(int64_t tile) const { return tile < large ? 3 : 2; }
};

// Whether the kernel of an even or odd phase has two places in a direction, of which the whole one has so many.
bool has_two(int64_t size, int64_t odd) { return size - odd > 2; }

// Where the channels of each phase begin in the matrices of each spot, and how many numbers a row has in all; a phase that a spot
// does without begins nowhere.
struct Depths {
  static constexpr int64_t NOWHERE = -1;
  int64_t begin[PHASES][SPOTS], of[SPOTS] = {};

  explicit Depths(const Geometry& g) {
    for (int spot = 0; spot < SPOTS; spot++)
      for (int phase = 0; phase < PHASES; phase++) {
        bool down = spot / 4 < 3 || has_two(g.kernel_height, phase / 2);
        bool across = spot % 4 < 3 || has_two(g.kernel_width, phase % 2);
        begin[phase][spot] = down && across ? of[spot] : NOWHERE;
        of[spot] += down && across ? g.channels : 0;
      }
  }
};

// A convolution in tiles, of which so many are worked on at once.
struct Tiling : Geometry {
  Cut down, across;
  int64_t depth = PHASES * channels, at_once;
  Depths depths{*this};
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

  bool has(int spot) const { return (height == 3 || spot / 4 != 2) && (width == 3 || spot % 4 != 2); }

  // Calls body(tall, wide), which tell as constants whether the tile has three results in a direction.
  template <typename Body>
  void with_size(const Body& body) const {
    using Yes = std::true_type;
    using No = std::false_type;
    if (height == 3)
      width == 3 ? body(Yes(), Yes()) : body(Yes(), No());
    else
      width == 3 ? body(No(), Yes()) : body(No(), No());
  }
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

  // Those of a phase, of the rows of all.
  Places of(const Depths& depths, int64_t phase) const {
    Places places;
    for (int spot = 0; spot < SPOTS; spot++) {
      int64_t begin = depths.begin[phase][spot];
      places.at[spot] = at[spot] && begin != Depths::NOWHERE ? at[spot] + begin : nullptr;
    }
    return places;
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
  Places<Number> rows;
  for (int spot = 0; spot < SPOTS; spot++)
    rows.at[spot] = tile.has(spot) ? matrices + spot * matrix_step + before.of[spot] * row_step : nullptr;
  return rows;
}

// The first places of a tile, so many down and across, in one phase of the outer picture.
template <typename Number>
Places<Number> seen_by(const Tiling& t, const Tile& tile, int64_t phase, int64_t height, int64_t width, Number* picture) {
  int64_t y = 2 * tile.row + phase / 2 - t.top, x = 2 * tile.column + phase % 2 - t.left;
  Number* first = picture + t.outer_at(tile.image, y, x);
  bool down[4], across[4];
  for (int i = 0; i < 4; i++) {
    down[i] = i < height && y + 2 * i >= 0 && y + 2 * i < t.height;
    across[i] = i < width && x + 2 * i >= 0 && x + 2 * i < t.width;
  }
  Places<Number> places;
#pragma GCC unroll 16
  for (int place = 0; place < SPOTS; place++) {
    int64_t further = 2 * (place / 4 * t.width + place % 4) * t.channels;
    places.at[place] = down[place / 4] && across[place % 4] ? first + further : nullptr;
  }
  return places;
}

// Where the weights of a place of a phase's kernel begin for a channel; nowhere if the kernel is too small for it.
template <typename Number>
Number* weights_at(const Geometry& g, Number* kernel, int64_t phase, int64_t place, int64_t channel) {
  int64_t y = 2 * (place / 2) + phase / 2, x = 2 * (place % 2) + phase % 2;
  if (y >= g.kernel_height || x >= g.kernel_width) return nullptr;
  return kernel + ((y * g.kernel_width + x) * g.channels + channel) * g.filters;
}

// in = B in B'
template <bool TALL, bool WIDE>
void transform_seen(Vector (&in)[SPOTS]) {
  auto times = [&](auto three, int first, int step) {
    Vector a = in[first], b = in[first + step], c = in[first + 2 * step], d = in[first + 3 * step];
    if constexpr (three.value)
      in[first] = a - c, in[first + step] = b + c, in[first + 2 * step] = c - b, in[first + 3 * step] = b - d;
    else
      in[first] = a - b, in[first + step] = b + b, in[first + 3 * step] = c - b;
  };
#pragma GCC unroll 4
  for (int x = 0; x < 3 + WIDE; x++) times(std::bool_constant<TALL>(), x, 4);
#pragma GCC unroll 4
  for (int y = 0; y < 4; y++)
    if (TALL || y != 2) times(std::bool_constant<WIDE>(), 4 * y, 1);
}

// in = B' in B
template <bool TALL, bool WIDE>
void transform_sent(Vector (&in)[SPOTS]) {
  auto times = [&](auto three, int first, int step) {
    Vector a = in[first], b = in[first + step], c = in[first + 2 * step], d = in[first + 3 * step];
    if constexpr (three.value)
      in[first + step] = b - c + d, in[first + 2 * step] = b + c - a, in[first + 3 * step] = -d;
    else
      in[first + step] = b + b - a - d, in[first + 2 * step] = d;
  };
#pragma GCC unroll 4
  for (int x = 0; x < 4; x++)
    if (WIDE || x != 2) times(std::bool_constant<TALL>(), x, 4);
#pragma GCC unroll 4
  for (int y = 0; y < 3 + TALL; y++) times(std::bool_constant<WIDE>(), 4 * y, 1);
}

// out = A in A'
template <bool TALL, bool WIDE>
void transform_result(const Vector (&in)[SPOTS], Vector (&out)[RESULTS]) {
  Vector half[12];
#pragma GCC unroll 4
  for (int x = 0; x < 4; x++) {
    if (!WIDE && x == 2) continue;
    if constexpr (TALL) {
      Vector both = in[4 + x] + in[8 + x];
      half[x] = in[x] + both, half[4 + x] = in[4 + x] - in[8 + x], half[8 + x] = both - in[12 + x];
    } else {
      half[x] = in[x] + in[4 + x], half[4 + x] = in[4 + x] + in[12 + x];
    }
  }
#pragma GCC unroll 3
  for (int y = 0; y < 2 + TALL; y++) {
    const Vector* row = half + 4 * y;
    if constexpr (WIDE) {
      Vector both = row[1] + row[2];
      out[3 * y] = row[0] + both, out[3 * y + 1] = row[1] - row[2], out[3 * y + 2] = both - row[3];
    } else {
      out[3 * y] = row[0] + row[1], out[3 * y + 1] = row[1] + row[3];
    }
  }
}

// out = A' in A
template <bool TALL, bool WIDE>
void transform_gradient(const Vector (&in)[RESULTS], Vector (&out)[SPOTS]) {
  Vector half[12];
#pragma GCC unroll 3
  for (int x = 0; x < 2 + WIDE; x++) {
    if constexpr (TALL) {
      Vector ends = in[x] + in[6 + x], middle = in[3 + x];
      half[x] = in[x], half[3 + x] = ends + middle, half[6 + x] = ends - middle, half[9 + x] = -in[6 + x];
    } else {
      half[x] = in[x], half[3 + x] = in[x] + in[3 + x], half[9 + x] = in[3 + x];
    }
  }
#pragma GCC unroll 4
  for (int y = 0; y < 4; y++) {
    if (!TALL && y == 2) continue;
    const Vector* row = half + 3 * y;
    if constexpr (WIDE) {
      Vector ends = row[0] + row[2];
      out[4 * y] = row[0], out[4 * y + 1] = ends + row[1], out[4 * y + 2] = ends - row[1], out[4 * y + 3] = -row[2];
    } else {
      out[4 * y] = row[0], out[4 * y + 1] = row[0] + row[1], out[4 * y + 3] = row[1];
    }
  }
}

// out = G in G'
inline void transform_kernel(const Vector (&in)[TAPS], Vector (&out)[SPOTS]) {
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
inline void transform_total(const Vector (&in)[SPOTS], Vector (&out)[TAPS]) {
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
    auto rows = rows_of(tile, lengths, seen, t.outer_step, t.depth);
    for (int phase = 0; phase < PHASES; phase++) {
      int64_t height = tile.height + has_two(t.kernel_height, phase / 2), width = tile.width + has_two(t.kernel_width, phase % 2);
      auto from = seen_by(t, tile, phase, height, width, picture);
      auto to = rows.of(t.depths, phase);
      tile.with_size([&](auto tall, auto wide) {
        for (int64_t c = 0; c < t.channels; c += LANES) {
          Vector in[SPOTS];
          from.read(c, in);
          transform_seen<tall, wide>(in);
          to.write(c, in);
        }
      });
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
    tile.with_size([&](auto tall, auto wide) {
      for (int64_t k = 0; k < t.filters; k += LANES) {
        Vector in[SPOTS], out[RESULTS], bias = finish.bias ? load(finish.bias + k) : Vector{};
        from.read(k, in);
        transform_result<tall, wide>(in, out);
        for (int64_t y = 0; y < tile.height; y++)
          for (int64_t x = 0; x < tile.width; x++)
            store(inner + t.inner_at(tile.image, tile.row + y, tile.column + x) + k,
                  activated(out[3 * y + x] + bias, finish.slope));
      }
    });
    lengths.add(tile);
  }
}

// given[spot][tile][filter] of a gradient, which is added to the bias'.
Lengths spread(const Tiling& t, const Undo& gradient, int64_t first, int64_t count, float* given, float* bias) {
  Lengths lengths;
  for (int64_t i = 0; i < count; i++) {
    Tile tile(t, first + i);
    auto to = rows_of(tile, lengths, given, t.inner_step, t.filters);
    tile.with_size([&](auto tall, auto wide) {
      for (int64_t k = 0; k < t.filters; k += LANES) {
        Vector in[RESULTS] = {}, out[SPOTS] = {}, total{};
        for (int64_t y = 0; y < std::min(tile.height, t.rows - tile.row); y++)
          for (int64_t x = 0; x < std::min(tile.width, t.columns - tile.column); x++)
            total += in[3 * y + x] = gradient.at(t.inner_at(tile.image, tile.row + y, tile.column + x) + k, LANES);
        transform_gradient<tall, wide>(in, out);
        to.write(k, out);
        if (bias) store(bias + k, load(bias + k) + total);
      }
    });
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
    bool lowest = tile.down + 1 == t.down.tiles, last = tile.across + 1 == t.across.tiles;
    bool own = line >= begin && line < end, next = lowest ? own : line + 1 >= begin && line + 1 < end;
    auto rows = rows_of(tile, lengths, made, t.outer_step, t.depth);
    for (int phase = 0; phase < PHASES; phase++) {
      bool down = has_two(t.kernel_height, phase / 2), across = has_two(t.kernel_width, phase % 2);  // neighbours share places
      bool above = down && tile.down > 0, before = across && tile.across > 0;
      auto from = rows.of(t.depths, phase);
      auto to = seen_by(t, tile, phase, tile.height + (down || lowest), tile.width + (across || last), outer);
      for (int place = 0; place < SPOTS && !(own && next); place++)
        if (!(place / 4 < tile.height ? own : next)) to.at[place] = nullptr;
      tile.with_size([&](auto tall, auto wide) {
        for (int64_t c = 0; c < t.channels; c += LANES) {
          Vector out[SPOTS], bias = finish.bias ? load(finish.bias + c) : Vector{};
          from.read(c, out);
          transform_sent<tall, wide>(out);
#pragma GCC unroll 16
          for (int place = 0; place < SPOTS; place++) {
            int y = place / 4, x = place % 4;
            if (!to.at[place]) continue;
            if ((y == 0 && above) || (x == 0 && before)) out[place] += load(to.at[place] + c);
            bool done = (y < 2 + tall || lowest) && (x < 2 + wide || last);
            store(to.at[place] + c, done ? activated(out[place] + bias, finish.slope) : out[place]);
          }
        }
      });
    }
    lengths.add(tile);
  }
}

// G g G' of the kernels of all phases
Spots<SPOTS> transformed(ffi::ThreadPool& pool, const Tiling& t, const float* kernel) {
  Spots<SPOTS> all(t.depth, t.filters);
  parallel_for(pool, all.rows / LANES, [&](int64_t part) {
    for (int64_t row = part * LANES; row < (part + 1) * LANES; row++) {
      int64_t phase = row / t.channels, c = row % t.channels;
      for (int64_t k = 0; k < t.filters; k += LANES) {
        Vector in[TAPS], out[SPOTS];
        for (int place = 0; place < TAPS; place++) {
          const float* from = weights_at(t, kernel, phase, place, c);
          in[place] = from ? load(from + k) : Vector{};
        }
        transform_kernel(in, out);
        for (int spot = 0; spot < SPOTS; spot++)
          if (int64_t begin = t.depths.begin[phase][spot]; begin != Depths::NOWHERE)
            store(all[spot] + (begin + c) * all.step + k, out[spot]);
      }
    }
  });
  return all;
}

}  // namespace

bool suits_strided_winograd(const Geometry& g) {
  bool small = g.kernel_height == 3 && g.kernel_width == 3, large = g.kernel_height == 4 && g.kernel_width == 4;
  bool plain = g.groups == 1 && g.stride_y == 2 && g.stride_x == 2 && g.dilation_y == 1 && g.dilation_x == 1;
  bool full = g.channels % LANES == 0 && g.filters % LANES == 0 && g.filters >= (small ? 2 * LANES : LANES);
  // so many results pay for making the weights of the spots
  return (small || large) && plain && full && std::min(g.rows, g.columns) > 2 &&
         g.batch * g.rows * g.columns >= (small ? 576 : 96);
}

void strided_winograd_forward(ffi::ThreadPool& pool, const Geometry& g, const float* outer, const float* kernel,
                              Finish finish, float* inner) {
  int64_t each = Tiling(g, TILES).tiles() / pool.num_threads();
  Tiling t(g, std::clamp<int64_t>(each, 6, TILES));
  Spots<SPOTS> weights = transformed(pool, t, kernel);
  parallel_for(pool, (t.tiles() + t.at_once - 1) / t.at_once, [&](int64_t block) {
    int64_t first = block * t.at_once, count = std::min(t.at_once, t.tiles() - first);
    Scratch scratch(t.space());
    float *seen = scratch.take(SPOTS * t.outer_step), *made = scratch.take(SPOTS * t.inner_step);
    Lengths lengths = gather(t, outer, first, count, seen);
    for (int spot = 0; spot < SPOTS; spot++)
      multiply<Contiguous::ROWS>({seen + spot * t.outer_step, t.depth}, {weights[spot], weights.step}, lengths.of[spot],
                                 t.depths.of[spot], t.filters / LANES, {made + spot * t.inner_step, t.filters}, false);
    finish_results(t, made, first, count, finish, inner);
  });
}

void strided_winograd_outer(ffi::ThreadPool& pool, const Geometry& g, Undo gradient, const float* kernel, Finish finish,
                            float* outer) {
  Tiling t = Tiling::back(g, TILES);
  Spots<SPOTS> weights = transformed(pool, t, kernel).transposed(pool);
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
      for (int spot = 0; spot < SPOTS; spot++)
        multiply<Contiguous::ROWS>({given + spot * t.inner_step, t.filters}, {weights[spot], weights.step}, lengths.of[spot],
                                   t.filters, t.depths.of[spot] / LANES, {made + spot * t.outer_step, t.depth}, false);
      finish_places(t, made, begin, end, first, count, finish, outer);
    }
  });
}

void strided_winograd_kernel(ffi::ThreadPool& pool, const Geometry& g, const float* outer, Undo gradient, float* kernel,
                             float* bias) {
  Tiling t(g, KERNEL_TILES);
  KernelTotals<SPOTS> totals(std::min(PARTS, g.batch), t.depth, g.filters);
  parallel_for(pool, totals.parts(), [&](int64_t part) {
    Scratch scratch(t.space());
    float *seen = scratch.take(SPOTS * t.outer_step), *given = scratch.take(SPOTS * t.inner_step);
    int64_t last = share(t.tiles(), part + 1, totals.parts());
    for (int64_t first = share(t.tiles(), part, totals.parts()); first < last; first += t.at_once) {
      int64_t count = std::min(t.at_once, last - first);
      gather(t, outer, first, count, seen);
      Lengths lengths = spread(t, gradient, first, count, given, totals.bias(part));
      totals.add(part, {seen, t.depth}, t.outer_step, {given, t.filters}, t.inner_step,
                 [&](int spot) { return std::pair(t.depths.of[spot], lengths.of[spot]); });
    }
  });
  auto row_of = [&](int spot, int64_t row) {
    int64_t begin = t.depths.begin[row / g.channels][spot];
    return begin == Depths::NOWHERE ? begin : begin + row % g.channels;
  };
  totals.finish(pool, bias, row_of, [&](int64_t row, int64_t k, const Vector(&sums)[SPOTS]) {
    Vector out[TAPS];
    transform_total(sums, out);
    for (int place = 0; place < TAPS; place++)
      if (float* to = weights_at(g, kernel, row / g.channels, place, row % g.channels)) store(to + k, out[place]);
  });
}

}  // namespace lamina
