// Vectors of floats, as long as the processor's registers, by the extensions that GCC and Clang share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace lamina {

#if defined(__AVX512F__)
constexpr int LANES = 16, REGISTERS = 32;
#elif defined(__AVX__)
constexpr int LANES = 8, REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int LANES = 4, REGISTERS = 32;
#else
constexpr int LANES = 4, REGISTERS = 16;
#endif

typedef float Vector __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t Mask __attribute__((vector_size(LANES * sizeof(float))));
// the same, anywhere in memory
typedef float Unaligned __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

inline Vector load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }
inline void store(float* to, Vector value) { *reinterpret_cast<Unaligned*>(to) = value; }
inline Vector all(float value) { return value - Vector{}; }

// The first `count` numbers, zero after them.
inline Vector load(const float* from, int64_t count) {
  if (count >= LANES) return load(from);
#if defined(__AVX512F__)
  if (count > 0) return reinterpret_cast<Vector>(_mm512_maskz_loadu_ps((1u << count) - 1, from));
#endif
  Vector value{};
  if (count > 0) std::memcpy(&value, from, count * sizeof(float));
  return value;
}

inline void store(float* to, Vector value, int64_t count) {
  if (count >= LANES)
    store(to, value);
#if defined(__AVX512F__)
  else if (count > 0)
    _mm512_mask_storeu_ps(to, (1u << count) - 1, reinterpret_cast<__m512>(value));
#else
  else if (count > 0)
    std::memcpy(to, &value, count * sizeof(float));
#endif
}

// The second where one of them is not a number.
#if defined(__AVX512F__)
inline Vector maximum(Vector a, Vector b) {
  return reinterpret_cast<Vector>(_mm512_maskz_max_ps(0xffff, reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
}
inline Vector minimum(Vector a, Vector b) {
  return reinterpret_cast<Vector>(_mm512_maskz_min_ps(0xffff, reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
}
#else
inline Vector maximum(Vector a, Vector b) { return a > b ? a : b; }
inline Vector minimum(Vector a, Vector b) { return a < b ? a : b; }
#endif

// The numbers of a vector, as many places further on, the first ones behind the last.
template <int PLACES, int... I>
Vector turned(Vector value, std::integer_sequence<int, I...>) {
#if defined(__clang__)
  return __builtin_shufflevector(value, value, ((I + PLACES) % LANES)...);
#else
  return __builtin_shuffle(value, Mask{((I + PLACES) % LANES)...});
#endif
}

// All numbers of a vector in one: the halves are joined, then the quarters, and so on.
template <int PLACES = LANES / 2, typename Join>
float joined(Vector value, const Join& join) {
  if constexpr (PLACES == 0)
    return value[0];
  else
    return joined<PLACES / 2>(join(value, turned<PLACES>(value, std::make_integer_sequence<int, LANES>())), join);
}

inline float sum(Vector value) {
  return joined(value, [](Vector a, Vector b) { return a + b; });
}

inline float largest(Vector value) { return joined(value, maximum); }

constexpr int64_t vectors(int64_t count) { return (count + LANES - 1) / LANES; }

// So many numbers, zeros unless they are going to be set, of which the first begins a line of the cache: whole vectors from
// there on never lie across two.
class Aligned {
 public:
  explicit Aligned(int64_t size = 0, bool zeros = true) : lines_((size * sizeof(float) + sizeof(Line) - 1) / sizeof(Line)) {
    if (zeros) std::fill_n(data(), this->size(), 0.0f);
  }

  float* data() { return lines_.empty() ? nullptr : lines_.data()->numbers; }
  const float* data() const { return const_cast<Aligned*>(this)->data(); }
  int64_t size() const { return lines_.size() * (sizeof(Line) / sizeof(float)); }
  float& operator[](int64_t place) { return data()[place]; }
  const float& operator[](int64_t place) const { return data()[place]; }

 private:
  struct alignas(64) Line {
    float numbers[16];
    Line() {}  // nothing is set
  };
  std::vector<Line> lines_;
};

}  // namespace lamina
