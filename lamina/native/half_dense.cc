// Dense layers whose numbers are bfloat16, by the processor's products of whole tiles (AMX); what is summed up is float32.
// Offered only where the processor has them, and the system lets this process use them.

#if defined(LAMINA_TILES) && defined(__AVX512F__) && defined(__linux__)

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "functions.h"
#include "handlers.h"
#include "scratch.h"
#include "shuffles.h"

namespace lamina {
namespace {

using Half = uint16_t;
using Halves = ffi::Buffer<ffi::BF16>;
using HalvesOut = ffi::Result<ffi::Buffer<ffi::BF16>>;
typedef Half HalfVector __attribute__((vector_size(LANES * sizeof(Half))));
typedef uint32_t Words __attribute__((vector_size(LANES * sizeof(uint32_t))));

// A tile is 16 rows of 64 bytes. Blocks of so many rows and columns are worked out at once, of two by two tiles of sums, and so
// many places of depth are in two tiles of either factor.
constexpr int64_t SIDE = 32, TILE = 16 * 32;
// So many tasks for each thread.
constexpr int64_t TASKS = 8;

using lamina::load;
using lamina::store;

int64_t blocks(int64_t count) { return (count + SIDE - 1) / SIDE; }

bool has_tiles() {
  unsigned a, b, c, d;
  constexpr unsigned HALVES = 1 << 22, TILES = 1 << 24;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & HALVES) || !(d & TILES)) return false;
  constexpr long ASK = 0x1023, TILE_DATA = 18;  // Linux lets a process use tiles once it has asked
  return syscall(SYS_arch_prctl, ASK, TILE_DATA) == 0;
}

Words words(const Half* from, int64_t count) {
  HalfVector halves = reinterpret_cast<HalfVector>(
      _mm256_maskz_loadu_epi16(count >= LANES ? 0xffff : count > 0 ? (1u << count) - 1 : 0, from));
  return __builtin_convertvector(halves, Words);
}

Vector load(const Half* from, int64_t count) { return reinterpret_cast<Vector>(words(from, count) << 16); }

// Rounded to the nearest, and to even ones in between; a NaN stays one.
void store(Half* to, Vector value, int64_t count) {
  Words bits = reinterpret_cast<Words>(value), up = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  HalfVector halves = __builtin_convertvector(value == value ? up : (bits >> 16) | 0x40, HalfVector);
  if (count > 0)
    _mm256_mask_storeu_epi16(to, count >= LANES ? 0xffff : (1u << count) - 1, reinterpret_cast<__m256i>(halves));
}

// The tiles of this thread, as long as this lives: all of 16 rows of 64 bytes.
class Tiles {
 public:
  Tiles() {
    struct alignas(64) {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } shape;
    asm volatile("ldtilecfg %0" ::"m"(shape));
  }
  ~Tiles() { asm volatile("tilerelease"); }
  Tiles(const Tiles&) = delete;

  // The sums of a block, (SIDE, SIDE): SIDE rows, `step` apart, times a panel of the right matrix, of so many blocks of depth.
  void multiply(const Half* left, int64_t step, const Half* right, int64_t depth, float* sums) const {
    int64_t bytes = step * sizeof(Half), line = 64, row = SIDE * sizeof(float);
    asm volatile("tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3" ::);
    for (int64_t k = 0; k < depth; k++, left += SIDE, right += 2 * TILE)
      asm volatile(
          "tileloadd (%0,%4,1), %%tmm4\n\ttileloadd (%2,%5,1), %%tmm6\n\ttileloadd (%3,%5,1), %%tmm7\n\t"
          "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\ttileloadd (%1,%4,1), %%tmm5\n\ttdpbf16ps %%tmm7, %%tmm4, %%tmm1\n\t"
          "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n\ttdpbf16ps %%tmm7, %%tmm5, %%tmm3" ::"r"(left),
          "r"(left + LANES * step), "r"(right), "r"(right + TILE), "r"(bytes), "r"(line)
          : "memory");
    asm volatile(
        "tilestored %%tmm0, (%0,%4,1)\n\ttilestored %%tmm1, (%1,%4,1)\n\ttilestored %%tmm2, (%2,%4,1)\n\t"
        "tilestored %%tmm3, (%3,%4,1)" ::"r"(sums),
        "r"(sums + LANES), "r"(sums + LANES * SIDE), "r"(sums + LANES * SIDE + LANES), "r"(row)
        : "memory");
  }
};

// A matrix of halves in memory, of which `rows` and `columns` are there; zeros stand for the others.
struct Matrix {
  const Half* values;
  int64_t rows, columns, step;

  // Numbers of two rows, each beside that of the other.
  Words pairs(int64_t row, int64_t column) const {
    Words first = row < rows ? words(values + row * step + column, columns - column) : Words{};
    Words second = row + 1 < rows ? words(values + (row + 1) * step + column, columns - column) : Words{};
    return first | second << 16;
  }

  // Of a panel of SIDE columns, a block of depth as the right factor of tiles has it.
  void pack(int64_t row, int64_t column, Half* to) const {
    for (int64_t n = 0; n < SIDE; n += LANES)
      for (int64_t k = 0; k < SIDE; k += 2, to += 2 * LANES) {
        Words both = pairs(row + k, column + n);
        std::memcpy(to, &both, sizeof(both));
      }
  }

  // The same of the matrix turned over, whose panel is of SIDE rows of this one.
  void pack_turned(int64_t row, int64_t column, Half* to) const {
    for (int64_t n = 0; n < SIDE; n += LANES, to += TILE) {
      Square square;
      for (int64_t i = 0; i < LANES; i++) {
        const Half* from = values + (row + n + i) * step + column;
        int64_t count = row + n + i < rows ? columns - column : 0;
        square[i] = reinterpret_cast<Vector>(_mm512_maskz_loadu_epi16(
            count >= SIDE ? 0xffffffff : count > 0 ? (1u << count) - 1 : 0, from));
      }
      transpose(square);
      std::memcpy(to, square, sizeof(square));
    }
  }

  // SIDE columns of SIDE rows as rows, `to_step` apart.
  void turn(int64_t row, int64_t column, Half* to, int64_t to_step) const {
    for (int64_t n = 0; n < SIDE; n += LANES) {
      Square square;
      for (int64_t i = 0; i < LANES; i++) square[i] = reinterpret_cast<Vector>(pairs(row + 2 * i, column + n));
      transpose(square);
      for (int64_t i = 0; i < LANES; i++) std::memcpy(to + (n + i) * to_step, &square[i], sizeof(Vector));
    }
  }

  bool fills_blocks() const { return rows % SIDE == 0 && columns % SIDE == 0; }

  // SIDE rows whose columns fill blocks: where they lie, or copied.
  const Half* whole_rows(int64_t row, Half* copy) const {
    if (row + SIDE <= rows && columns % SIDE == 0) return values + row * step;
    int64_t wide = blocks(columns) * SIDE;
    for (int64_t i = 0; i < SIDE; i++) {
      std::fill(copy + i * wide, copy + (i + 1) * wide, Half{});
      if (row + i < rows) std::memcpy(copy + i * wide, values + (row + i) * step, columns * sizeof(Half));
    }
    return copy;
  }
  int64_t whole_step() const { return columns % SIDE == 0 ? step : blocks(columns) * SIDE; }
};

// So many halves of memory to work in.
struct HalfScratch {
  Scratch scratch;
  HalfScratch(int64_t size, bool shared) : scratch(size / 2 + 1, shared) {}
  Half* take(int64_t size) { return reinterpret_cast<Half*>(scratch.take(size / 2)); }
};

Matrix matrix(const Halves& buffer) {
  int64_t rows = buffer.dimensions()[0], columns = buffer.dimensions()[1];
  return {buffer.typed_data(), rows, columns, columns};
}

const Half* values_or_null(const Halves& x) { return x.element_count() ? x.typed_data() : nullptr; }

// Calls body(row, column, count, vector of sums) for what is there of a block of sums.
template <typename Body>
void each_vector(const float* sums, int64_t row, int64_t rows, int64_t column, int64_t columns, const Body& body) {
  for (int64_t i = 0; i < std::min(SIDE, rows - row); i++)
    for (int64_t n = 0; n < std::min(SIDE, columns - column); n += LANES)
      body(row + i, column + n, columns - column - n, load(sums + i * SIDE + n));
}

// activated(x kernel + bias + more); GELU of it, if there are places for its slopes.
void dense(ffi::ThreadPool& pool, const Matrix& x, const Matrix& kernel, const Half* bias, const Half* more, float slope,
           Half* out, Half* slopes) {
  int64_t rows = x.rows, columns = kernel.columns, depth = blocks(x.columns), panels = blocks(columns);
  int64_t panel_size = depth * 2 * TILE, parts = TASKS * pool.num_threads();
  HalfScratch shared(panels * panel_size, true);
  Half* packed = shared.take(panels * panel_size);
  parallel_phases(pool, 2, parts, [&](int64_t phase, int64_t part) {
    if (phase == 0) {
      for (int64_t i = share(panels * depth, part, parts); i < share(panels * depth, part + 1, parts); i++)
        kernel.pack(i % depth * SIDE, i / depth * SIDE, packed + i * 2 * TILE);
      return;
    }
    Tiles tiles;
    HalfScratch scratch(SIDE * depth * SIDE, false);
    Half* copy = scratch.take(SIDE * depth * SIDE);
    alignas(64) float sums[SIDE * SIDE];
    for (int64_t b = share(blocks(rows), part, parts); b < share(blocks(rows), part + 1, parts); b++) {
      const Half* left = x.whole_rows(b * SIDE, copy);
      for (int64_t panel = 0; panel < panels; panel++) {
        tiles.multiply(left, x.whole_step(), packed + panel * panel_size, depth, sums);
        each_vector(sums, b * SIDE, rows, panel * SIDE, columns, [&](int64_t row, int64_t n, int64_t count, Vector value) {
          int64_t place = row * columns + n;
          if (bias) value += load(bias + n, count);
          if (more) value += load(more + place, count);
          value = activated(value, slope);
          if (slopes) {
            Gelu gelu(value);
            value = gelu.value;
            store(slopes + place, gelu.slope, count);
          }
          store(out + place, value, count);
        });
      }
    }
  });
}

ffi::Error half_dense(ffi::ThreadPool pool, Halves x, Halves kernel, Halves bias, Halves more, HalvesOut out, float slope) {
  dense(pool, matrix(x), matrix(kernel), values_or_null(bias), values_or_null(more), slope, out->typed_data(), nullptr);
  return ffi::Error::Success();
}

ffi::Error half_dense_gelu(ffi::ThreadPool pool, Halves x, Halves kernel, Halves bias, HalvesOut out, HalvesOut slopes) {
  dense(pool, matrix(x), matrix(kernel), values_or_null(bias), nullptr, 1.0f, out->typed_data(), slopes->typed_data());
  return ffi::Error::Success();
}

// The gradients of a layer: of the input, where there is a place for it, of the kernel and of the bias. `result` are the slopes
// of the activation, if they were kept; none, if there was no activation.
ffi::Error half_dense_gradient(ffi::ThreadPool pool, Halves x, Halves kernel, Halves result, Halves given, HalvesOut of_x,
                               HalvesOut of_kernel, HalvesOut of_bias, float slope, bool kept) {
  Matrix input = matrix(x), weights = matrix(kernel);
  int64_t rows = input.rows, inputs = weights.rows, outputs = weights.columns, parts = TASKS * pool.num_threads();
  int64_t row_blocks = blocks(rows), input_blocks = blocks(inputs), output_blocks = blocks(outputs);
  int64_t high = row_blocks * SIDE, deep = input_blocks * SIDE, wide = output_blocks * SIDE;
  const Half* other = values_or_null(result);
  bool back = of_x->element_count() > 0;
  // the gradient in front of the activation, the same as a right factor, the input turned over, and the kernel turned over
  HalfScratch shared(2 * high * wide + deep * high + deep * wide, true);
  Half *undone = shared.take(high * wide), *right = shared.take(high * wide);
  Half *turned = shared.take(deep * high), *packed = shared.take(deep * wide);
  Matrix gradient{undone, high, wide, wide};

  auto prepare_rows = [&](int64_t block) {
    for (int64_t row = block * SIDE; row < (block + 1) * SIDE; row++)
      for (int64_t n = 0; n < wide; n += LANES) {
        int64_t count = row < rows ? outputs - n : 0, place = row * outputs + n;
        Vector value = count > 0 ? load(given.typed_data() + place, count) : Vector{};
        if (other && count > 0) {
          Vector beside = load(other + place, count);
          value = kept ? value * beside : unactivated(value, beside, slope);
        }
        store(undone + row * wide + n, value, LANES);
      }
    for (int64_t panel = 0; panel < output_blocks; panel++)
      gradient.pack(block * SIDE, panel * SIDE, right + (panel * row_blocks + block) * 2 * TILE);
    for (int64_t i = 0; i < input_blocks; i++)
      input.turn(block * SIDE, i * SIDE, turned + i * SIDE * high + block * SIDE, high);
  };
  auto prepare_kernel = [&](int64_t i) {
    int64_t panel = i / output_blocks, block = i % output_blocks;
    weights.pack_turned(panel * SIDE, block * SIDE, packed + i * 2 * TILE);
  };
  auto input_gradient = [&](const Tiles& tiles, int64_t block, float* sums) {
    for (int64_t panel = 0; panel < input_blocks; panel++) {
      tiles.multiply(undone + block * SIDE * wide, wide, packed + panel * output_blocks * 2 * TILE, output_blocks, sums);
      each_vector(sums, block * SIDE, rows, panel * SIDE, inputs, [&](int64_t row, int64_t n, int64_t count, Vector value) {
        store(of_x->typed_data() + row * inputs + n, value, count);
      });
    }
  };
  auto kernel_gradient = [&](const Tiles& tiles, int64_t i, float* sums) {
    int64_t block = i / output_blocks, panel = i % output_blocks;
    tiles.multiply(turned + block * SIDE * high, high, right + panel * row_blocks * 2 * TILE, row_blocks, sums);
    each_vector(sums, block * SIDE, inputs, panel * SIDE, outputs, [&](int64_t row, int64_t n, int64_t count, Vector value) {
      store(of_kernel->typed_data() + row * outputs + n, value, count);
    });
  };
  auto bias_gradient = [&](int64_t block) {
    for (int64_t n = block * SIDE; n < std::min(outputs, (block + 1) * SIDE); n += LANES) {
      Vector total{};
      for (int64_t row = 0; row < rows; row++) total += load(undone + row * wide + n, LANES);
      store(of_bias->typed_data() + n, total, outputs - n);
    }
  };

  int64_t packing = back ? input_blocks * output_blocks : 0, kernels = input_blocks * output_blocks;
  int64_t before = row_blocks + packing, after = (back ? row_blocks : 0) + kernels + output_blocks;
  parallel_phases(pool, 2, parts, [&](int64_t phase, int64_t part) {
    if (phase == 0) {
      for (int64_t i = part; i < before; i += parts) i < row_blocks ? prepare_rows(i) : prepare_kernel(i - row_blocks);
      return;
    }
    Tiles tiles;
    alignas(64) float sums[SIDE * SIDE];
    for (int64_t i = share(after, part, parts); i < share(after, part + 1, parts); i++) {
      if (i < kernels)
        kernel_gradient(tiles, i, sums);
      else if (i < kernels + output_blocks)
        bias_gradient(i - kernels);
      else
        input_gradient(tiles, i - kernels - output_blocks, sums);
    }
  });
  return ffi::Error::Success();
}

using BF16 = ffi::Buffer<ffi::BF16>;

LAMINA_HANDLER_IF(has_tiles(), half_dense, half_dense,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<BF16>().Arg<BF16>().Arg<BF16>().Arg<BF16>().Ret<BF16>()
                      .Attr<float>("slope"));
LAMINA_HANDLER_IF(has_tiles(), half_dense_gelu, half_dense_gelu,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<BF16>().Arg<BF16>().Arg<BF16>().Ret<BF16>().Ret<BF16>());
LAMINA_HANDLER_IF(has_tiles(), half_dense_gradient, half_dense_gradient,
                  ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<BF16>().Arg<BF16>().Arg<BF16>().Arg<BF16>().Ret<BF16>()
                      .Ret<BF16>().Ret<BF16>().Attr<float>("slope").Attr<bool>("kept"));

}  // namespace
}  // namespace lamina

#endif
