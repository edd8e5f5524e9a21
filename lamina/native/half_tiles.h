// Products of matrices of bfloat16 by the processor's products of whole tiles (AMX), or of vectors of pairs (AVX512-BF16), by
// the same layout; what is summed up is float32. There where LAMINA_HAS_TILES is defined; to be offered only where the processor has
// them, and for tiles the system lets this process use them.
#pragma once

#if defined(LAMINA_TILES) && defined(__AVX512F__) && defined(__linux__)
#define LAMINA_HAS_TILES

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "half.h"
#include "present_rows.h"
#include "scratch.h"
#include "shuffles.h"

namespace lamina {

// A tile is 16 rows of 64 bytes. Blocks of so many rows and columns are worked out at once, of two by two tiles of sums, and so
// many places of depth are in two tiles of either factor.
constexpr int64_t SIDE = 32, TILE = 16 * 32;
inline int64_t blocks(int64_t count) { return (count + SIDE - 1) / SIDE; }

enum class HalfProducts { NONE, PAIRS, TILES };

inline HalfProducts half_products() {
  static const HalfProducts found = [] {
    unsigned a, b, c, d;
    constexpr unsigned HALVES = 1 << 22, TILES = 1 << 24, PAIRS = 1 << 5;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & PAIRS)) return HalfProducts::NONE;
    __get_cpuid_count(7, 0, &a, &b, &c, &d);
    constexpr long ASK = 0x1023, TILE_DATA = 18;  // Linux lets a process use tiles once it has asked
    bool tiles = (d & HALVES) && (d & TILES) && syscall(SYS_arch_prctl, ASK, TILE_DATA) == 0;
    return tiles ? HalfProducts::TILES : HalfProducts::PAIRS;
  }();
  return found;
}
inline bool has_tiles() { return half_products() == HalfProducts::TILES; }
inline bool has_half_products() { return half_products() != HalfProducts::NONE; }

// How far apart are, in numbers: rows of a left factor; rows of pairs of a right one, its second tile, and its next block of depth.
struct Steps {
  int64_t left, right, beside, next;
};

// Adds to ROWS rows of WIDE vectors of sums the product of so much depth, by pairs; sums that are not to be added to begin at 0.
template <int ROWS, int WIDE>
void multiply_pairs(const Half* left, const Half* right, const Steps& steps, int64_t depth, float* sums, int64_t sums_step,
                    bool add) {
  using Pairs __attribute__((may_alias)) = const int32_t;  // two neighbours of a row
  Vector total[ROWS][WIDE];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++)
    for (int j = 0; j < WIDE; j++) total[i][j] = add ? load(sums + i * sums_step + j * LANES) : Vector{};
  for (int64_t k = 0; k < depth; k += SIDE, left += SIDE, right += steps.next) {
    const Half* row = right;
    for (int64_t pair = 0; pair < std::min(SIDE, depth - k); pair += 2, row += steps.right) {
      __m512i first = _mm512_loadu_si512(row), second = WIDE > 1 ? _mm512_loadu_si512(row + steps.beside) : first;
#pragma GCC unroll 16
      for (int i = 0; i < ROWS; i++) {
        __m512i both = _mm512_set1_epi32(*reinterpret_cast<const Pairs*>(left + i * steps.left + pair));
        asm("vdpbf16ps %2, %1, %0" : "+v"(total[i][0]) : "v"(both), "v"(first));
        if constexpr (WIDE > 1) asm("vdpbf16ps %2, %1, %0" : "+v"(total[i][1]) : "v"(both), "v"(second));
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++)
    for (int j = 0; j < WIDE; j++) store(sums + i * sums_step + j * LANES, total[i][j]);
}

// How many rows of one or two vectors of sums stay in registers; GCC unrolls loops over up to 16 early enough for that, and
// only if nothing but a number counts the blocks of depth.
constexpr int HIGHEST_PAIRS[] = {0, 16, 12};

template <int WIDE, int... ROWS>
constexpr auto pairs_by_rows(std::integer_sequence<int, ROWS...>) {
  return std::array{multiply_pairs<ROWS + 1, WIDE>...};
}

// The same of any number of rows.
template <int WIDE>
void multiply_rows(int64_t rows, const Half* left, const Half* right, const Steps& steps, int64_t depth, float* sums,
                   int64_t sums_step, bool add) {
  constexpr int HIGHEST = HIGHEST_PAIRS[WIDE];
  static constexpr auto BY_ROWS = pairs_by_rows<WIDE>(std::make_integer_sequence<int, HIGHEST>());
  int64_t parts = (rows + HIGHEST - 1) / HIGHEST;
  for (int64_t part = 0; part < parts; part++) {
    int64_t first = share(rows, part, parts), count = share(rows, part + 1, parts) - first;
    BY_ROWS[count - 1](left + first * steps.left, right, steps, depth, sums + first * sums_step, sums_step, add);
  }
}

// The tiles of this thread, as long as this lives: all of 16 rows of 64 bytes, or the left ones and those of sums of fewer rows.
class Tiles {
 public:
  explicit Tiles(int64_t rows = LANES) : rows_(rows) {
    if (!has_tiles()) return;
    struct alignas(64) {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } shape;
    std::fill_n(shape.rows, 6, static_cast<uint8_t>(rows));
    asm volatile("ldtilecfg %0" ::"m"(shape));
  }
  ~Tiles() {
    if (has_tiles()) asm volatile("tilerelease");
  }
  Tiles(const Tiles&) = delete;

  // The sums of a block, (2 rows, SIDE): those rows, `step` apart, times a panel of the right matrix, of so many blocks of depth.
  // What is there already stays part of them, if they are to `add`.
  void multiply(const Half* left, int64_t step, const Half* right, int64_t depth, float* sums, int64_t sums_step = SIDE,
                bool add = false) const {
    if (!has_tiles())
      return multiply_rows<2>(2 * rows_, left, right, {step, 2 * LANES, TILE, 2 * TILE}, depth * SIDE, sums, sums_step, add);
    int64_t bytes = step * sizeof(Half), line = 64, row = sums_step * sizeof(float);
    float* below = sums + rows_ * sums_step;
    if (add)
      asm volatile(
          "tileloadd (%0,%4,1), %%tmm0\n\ttileloadd (%1,%4,1), %%tmm1\n\ttileloadd (%2,%4,1), %%tmm2\n\t"
          "tileloadd (%3,%4,1), %%tmm3" ::"r"(sums),
          "r"(sums + LANES), "r"(below), "r"(below + LANES), "r"(row)
          : "memory");
    else
      asm volatile("tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3" ::);
    for (int64_t k = 0; k < depth; k++, left += SIDE, right += 2 * TILE)
      asm volatile(
          "tileloadd (%0,%4,1), %%tmm4\n\ttileloadd (%2,%5,1), %%tmm6\n\ttileloadd (%3,%5,1), %%tmm7\n\t"
          "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\ttileloadd (%1,%4,1), %%tmm5\n\ttdpbf16ps %%tmm7, %%tmm4, %%tmm1\n\t"
          "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n\ttdpbf16ps %%tmm7, %%tmm5, %%tmm3" ::"r"(left),
          "r"(left + rows_ * step), "r"(right), "r"(right + TILE), "r"(bytes), "r"(line)
          : "memory");
    asm volatile(
        "tilestored %%tmm0, (%0,%4,1)\n\ttilestored %%tmm1, (%1,%4,1)\n\ttilestored %%tmm2, (%2,%4,1)\n\t"
        "tilestored %%tmm3, (%3,%4,1)" ::"r"(sums),
        "r"(sums + LANES), "r"(below), "r"(below + LANES), "r"(row)
        : "memory");
  }

 private:
  int64_t rows_;
};

// Calls body(row, column, count, vector of sums) for what is there of a block of sums.
template <typename Body>
void each_vector(const float* sums, int64_t row, int64_t rows, int64_t column, int64_t columns, const Body& body) {
  for (int64_t i = 0; i < std::min(SIDE, rows - row); i++)
    for (int64_t n = 0; n < std::min(SIDE, columns - column); n += LANES)
      body(row + i, column + n, columns - column - n, load(sums + i * SIDE + n));
}

inline __mmask32 first_of_line(int64_t count) { return count >= SIDE ? 0xffffffff : count > 0 ? (1u << count) - 1 : 0; }

// A matrix of halves in memory, of which `rows` and `columns` are there; zeros stand for the others.
struct Matrix {
  const Half* values;
  int64_t rows, columns, step;
  RowPlaces places{};

  const Half* at(int64_t row) const { return values + places[row] * step; }

  // Numbers of two rows, each beside that of the other.
  Words pairs(int64_t row, int64_t column) const {
    Words first = row < rows ? words(at(row) + column, columns - column) : Words{};
    Words second = row + 1 < rows ? words(at(row + 1) + column, columns - column) : Words{};
    return first | second << 16;
  }

  // SIDE numbers of a row.
  __m512i line(int64_t row, int64_t column) const {
    if (row >= rows) return __m512i{};
    return _mm512_maskz_loadu_epi16(first_of_line(columns - column), at(row) + column);
  }

  // SIDE columns of SIDE rows, `to_step` apart.
  void copy(int64_t row, int64_t column, Half* to, int64_t to_step) const {
    for (int64_t i = 0; i < SIDE; i++) _mm512_storeu_si512(to + i * to_step, line(row + i, column));
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
      for (int64_t i = 0; i < LANES; i++) square[i] = reinterpret_cast<Vector>(line(row + n + i, column));
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
    if (row + SIDE <= rows && columns % SIDE == 0 && !places.places) return values + row * step;
    int64_t wide = blocks(columns) * SIDE;
    for (int64_t i = 0; i < SIDE; i++) {
      std::fill(copy + i * wide, copy + (i + 1) * wide, Half{});
      if (row + i < rows) std::memcpy(copy + i * wide, at(row + i), columns * sizeof(Half));
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

// Numbers as the processor rounds them: to the nearest, and to even ones in between; what is smaller than a normal number
// becomes zero, as it does in products of tiles.
inline void store_rounded(Half* to, Vector value, int64_t count) {
  __m256i halves;
  asm("vcvtneps2bf16 %1, %0" : "=v"(halves) : "v"(value));
  _mm256_mask_storeu_epi16(to, first_lanes(count), halves);
}

// Two vectors, rounded so.
struct RoundedPair {
  __m512i halves;  // those of the first vector before those of the second

  RoundedPair(Vector first, Vector second) {
    asm("vcvtne2ps2bf16 %1, %2, %0" : "=v"(halves) : "v"(first), "v"(second));
  }
  void store_apart(Half* first, Half* second) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(first), _mm512_maskz_extracti64x4_epi64(0xff, halves, 0));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(second), _mm512_maskz_extracti64x4_epi64(0xff, halves, 1));
  }
  // Each number beside that of the other vector, as right factors of tiles have two rows.
  void store_paired(Half* to) const {
    alignas(64) static const Half PLACES[] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                              8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    _mm512_storeu_si512(to, _mm512_maskz_permutexvar_epi16(0xffffffff, _mm512_load_si512(PLACES), halves));
  }
};

inline Matrix matrix(const Halves& buffer) {
  int64_t rows = buffer.dimensions()[0], columns = buffer.dimensions()[1];
  return {buffer.typed_data(), rows, columns, columns};
}
inline Matrix matrix(const Halves& buffer, const PresentRows& present) {
  int64_t columns = buffer.dimensions()[1];
  return {buffer.typed_data(), present.count(), columns, columns, present.places()};
}

}  // namespace lamina

#endif
